//! A customer: asks for the front page and reads who answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::echo::answer::{Answer, Called};

/// The longest one page may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One kept-alive connection to the gateway.
pub(super) struct Client {
    sender: SendRequest<Empty<Bytes>>,
    at: SocketAddr,
}

/// The front page, with what it was put together from.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) answer: Option<Answer>,
}

impl Client {
    pub(super) async fn connect(at: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(at).await.with_context(|| format!("connect to the gateway at {at}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, at })
    }

    /// Asks for the front page as this user.
    pub(super) async fn get(&mut self, user: &str) -> anyhow::Result<Page> {
        let request = http::Request::get("/").header("host", "shop.example").header("end-user", user);
        let request = request.body(Empty::new())?;
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), 1 << 20)
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok(Page { status, answer: serde_json::from_slice(&body.to_bytes()).ok() })
        };
        let page =
            tokio::time::timeout(PATIENCE, exchange).await.context("the front page does not answer")?;
        if page.is_err() || self.sender.is_closed() {
            *self = Self::connect(self.at).await?;
        }
        page
    }
}

impl Page {
    /// What the front page called: details, reviews, ratings, in the order of its arguments.
    fn called(&self, number: usize) -> Option<&Called> {
        self.answer.as_ref()?.calls.get(number)
    }

    /// Whether details and reviews answered: ratings may be forbidden.
    pub(super) fn is_whole(&self) -> bool {
        let answered = |number| self.called(number).is_some_and(|called| called.status == Some(200));
        self.status == 200 && answered(0) && answered(1)
    }

    /// Which version of reviews answered.
    pub(super) fn reviews_version(&self) -> Option<String> {
        let answer = self.called(1)?.answer.as_ref()?;
        Some(answer.get("version")?.as_str()?.to_owned())
    }

    /// What ratings answered to the front page itself.
    pub(super) fn ratings_status(&self) -> Option<u16> {
        self.called(2)?.status
    }

    /// What ratings answered to reviews.
    pub(super) fn ratings_status_for_reviews(&self) -> Option<u16> {
        let answer = self.called(1)?.answer.as_ref()?;
        u16::try_from(answer.get("calls")?.get(0)?.get("status")?.as_u64()?).ok()
    }

    /// Whether details received this text in the clear, so that it was sent at all.
    pub(super) fn details_received(&self, text: &str) -> bool {
        self.called(0)
            .and_then(|called| called.answer.as_ref())
            .is_some_and(|answer| answer.to_string().contains(text))
    }

    /// Who details says called it, by the identity that its proxy verified.
    pub(super) fn caller_of_details(&self) -> Option<String> {
        let answer = self.called(0)?.answer.as_ref()?;
        Some(answer.get("caller")?.get("identity")?.as_str()?.to_owned())
    }
}
