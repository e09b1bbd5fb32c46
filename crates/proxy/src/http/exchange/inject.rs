//! Trouble on purpose: the delay comes before the abort.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use lateen_model::{Abort, FaultInjection};
use lateen_runtime::random;

use super::{Exchange, Next};
use crate::fault::{Fault, Reason};
use crate::http::reply::{self, Reply};

const BODY: &str = "fault filter abort";

impl Exchange<'_> {
    /// Delays and aborts as the dice say; some when the request ends here.
    pub(super) async fn inject(&mut self, trouble: &FaultInjection) -> Option<Next> {
        if let Some((longest, share)) = trouble.delay
            && share.includes(random::next_u64())
        {
            self.trip.delayed = true;
            if let Err(fault) = self.delay(longest).await {
                return Some(self.answer_fault(fault).await);
            }
        }
        let (abort, _) = trouble.abort.filter(|(_, share)| share.includes(random::next_u64()))?;
        let reply = match abort {
            Abort::Http(status) => Reply { status, body: BODY, grpc_status: None },
            Abort::Grpc(code) => {
                Reply { status: reply::http_status(code), body: BODY, grpc_status: Some(code) }
            }
        };
        let next = self.answer(reply, None).await;
        self.trip.fail(Fault::proxy(Reason::Injected, "the route aborts on purpose"));
        Some(next)
    }

    /// Waits, unless the caller goes away.
    async fn delay(&mut self, longest: Duration) -> Result<(), Fault> {
        let mut limit = self.worker.deadlines().after(longest);
        let (down, bodiless) = (&mut self.down, self.heads.request.framing.is_empty());
        poll_fn(|context| {
            if Pin::new(&mut limit).poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            // While a body is still to be read its end is not the end of the caller.
            if bodiless && down.poll_gone(context).is_ready() {
                let fault = Fault::downstream(Reason::Gone, "the caller went away during an injected delay");
                return Poll::Ready(Err(fault));
            }
            Poll::Pending
        })
        .await
    }
}
