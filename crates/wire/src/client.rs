//! Follow a control plane: connect, subscribe, take batches, acknowledge, and begin again where it stopped.
//!
//! ```ignore
//! let (mut following, task) = client::follow(move || plane.clone(), &claim);
//! runtime.spawn(task);
//! while let Some(Update { batch, applied }) = following.updates.recv().await {
//!     compiler.apply(batch.delta);      // publish the snapshot
//!     applied.done();                   // only now the control plane hears that we have it
//! }
//! ```

use crate::channel::{ControlPlane, describe_status};
use crate::node::Claim;
use crate::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use crate::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::session::{Batch, ClientSession, MESSAGE_BYTES};
use lateen_model::Revision;
use lateen_runtime::backoff::Backoff;
use lateen_runtime::{clock, random};
use std::future::Future;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

/// The first wait after a failure, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(15));
/// Replies that may wait to be sent: one a type is outstanding.
const REPLIES: usize = 32;

/// What comes of following. To drop it ends the task.
pub struct Following {
    /// Whole states, one after the other. While one is being applied, changes behind it become one.
    pub updates: mpsc::Receiver<Update>,
    /// How the connection is.
    pub link: watch::Receiver<Link>,
}

/// One batch, and how to say that it holds.
pub struct Update {
    /// What changed.
    pub batch: Batch,
    /// To be called when the data plane acts by it.
    pub applied: Applied,
}

/// Says that a batch holds. To drop it without saying so ends the following: the state would have a gap.
#[must_use = "the control plane waits to hear that the state is applied"]
pub struct Applied(oneshot::Sender<()>);

impl Applied {
    /// The data plane acts by the batch now.
    pub fn done(self) {
        // Nobody listens any more only when the task has ended.
        let _ = self.0.send(());
    }
}

/// How the connection is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Link {
    /// Whether a stream is open.
    pub connected: bool,
    /// The state that is applied.
    pub revision: Option<Revision>,
    /// Attempts that failed since the last that worked.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// Follows a control plane as this proxy. `plane` is asked again at each connection, so that one made with a
/// token is followed by one with a certificate. The task runs until the [`Following`] is dropped.
pub fn follow<P>(plane: P, claim: &Claim) -> (Following, impl Future<Output = ()> + Send + use<P>)
where
    P: Fn() -> ControlPlane + Send + 'static,
{
    let (update_sender, updates) = mpsc::channel(1);
    let (link_sender, link) = watch::channel(Link::default());
    let follower = Follower {
        claim: claim.clone(),
        session: ClientSession::new(claim.role),
        updates: update_sender,
        link: link_sender,
    };
    (Following { updates, link }, follower.run(plane))
}

struct Follower {
    claim: Claim,
    session: ClientSession,
    updates: mpsc::Sender<Update>,
    link: watch::Sender<Link>,
}

/// How a connection ended.
enum Ended {
    /// Nobody takes batches any more.
    Unheard,
    /// For this reason, and whether a batch had come by then.
    Failed { why: String, worked: bool },
}

impl Follower {
    async fn run(mut self, plane: impl Fn() -> ControlPlane + Send + 'static) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let updates = self.updates.clone();
        loop {
            let plane = plane();
            let ended = tokio::select! {
                () = updates.closed() => return,
                ended = self.connection(&plane) => ended,
            };
            let Ended::Failed { why, worked } = ended else { return };
            if worked {
                backoff.reset();
            }
            let wait = backoff.after_failure(random::next_u64());
            let first = self.link.borrow().failures == 0;
            self.link.send_modify(|link| {
                link.connected = false;
                link.failures = backoff.failures();
                link.error = Some(why.clone());
            });
            // Once for each loss: a control plane that is away stays away for a while.
            if first {
                warn!(control = %plane.endpoint(), error = why, "lost the control plane; the last state stays in force");
            }
            tokio::select! {
                () = updates.closed() => return,
                () = clock::sleep(wait) => {}
            }
        }
    }

    async fn connection(&mut self, plane: &ControlPlane) -> Ended {
        let mut worked = false;
        match self.converse(plane, &mut worked).await {
            Ok(ended) => ended,
            Err(why) => Ended::Failed { why, worked },
        }
    }

    async fn converse(&mut self, plane: &ControlPlane, worked: &mut bool) -> Result<Ended, String> {
        let mut client = AggregatedDiscoveryServiceClient::new(plane.channel())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let (replies, stream) = mpsc::channel(REPLIES);
        for request in self.session.connect(self.claim.to_node()) {
            send(&replies, request).await?;
        }
        let opened = client.delta_aggregated_resources(plane.call(ReceiverStream::new(stream))).await;
        let mut responses = opened.map_err(|status| describe_status(&status))?.into_inner();
        loop {
            let response = responses.message().await.map_err(|status| describe_status(&status))?;
            let response = response.ok_or("the control plane ended the stream")?;
            let received = self.session.receive(response).map_err(|error| error.to_string())?;
            if let Some(error) = &received.reply.error_detail {
                warn!(error = error.message, "refused resources");
            }
            if let Some(batch) = received.batch {
                let revision = batch.revision;
                let (applied, done) = oneshot::channel();
                let update = Update { batch, applied: Applied(applied) };
                if self.updates.send(update).await.is_err() || done.await.is_err() {
                    return Ok(Ended::Unheard);
                }
                *worked = true;
                self.took(revision, plane);
            }
            send(&replies, received.reply).await?;
        }
    }

    fn took(&self, revision: Revision, plane: &ControlPlane) {
        self.link.send_modify(|link| {
            if !link.connected {
                info!(control = %plane.endpoint(), %revision, "follows the control plane");
            }
            *link = Link { connected: true, revision: Some(revision), failures: 0, error: None };
        });
    }
}

async fn send(
    replies: &mpsc::Sender<DeltaDiscoveryRequest>,
    request: DeltaDiscoveryRequest,
) -> Result<(), String> {
    replies.send(request).await.map_err(|_| "the control plane ended the stream".to_owned())
}
