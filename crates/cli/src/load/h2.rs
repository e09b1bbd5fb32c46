//! One HTTP/2 connection, shared by the streams of its connection's tasks.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use hyper::{Request, Uri, Version};
use tokio::sync::Mutex;

use super::h1::connect;
use super::plan::Plan;
use super::tally::{Answered, ErrorKind};

/// A connection that is made when needed, and made anew when it ended.
pub(super) struct Connection {
    address: SocketAddr,
    request: Request<()>,
    body: Bytes,
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// One stream connects, the others wait for it.
    connecting: Mutex<()>,
}

impl Connection {
    pub(super) fn new(address: SocketAddr, plan: &Plan) -> Rc<Self> {
        let host = plan.headers.iter().find(|(name, _)| *name == hyper::header::HOST);
        let authority = host.and_then(|(_, value)| value.to_str().ok()).unwrap_or(&plan.target.authority);
        let mut request = Request::new(());
        *request.method_mut() = plan.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() =
            format!("http://{authority}{}", plan.target.path).parse().unwrap_or(Uri::default());
        for (name, value) in plan.headers.iter().filter(|(name, _)| *name != hyper::header::HOST) {
            request.headers_mut().append(name.clone(), value.clone());
        }
        let body = plan.body.clone();
        Rc::new(Connection {
            address,
            request,
            body,
            sender: RefCell::default(),
            connecting: Mutex::default(),
        })
    }

    /// Sends one request and reads its answer to the end.
    pub(super) async fn exchange(&self) -> Result<Answered, ErrorKind> {
        let sender = self.sender().await?;
        let outcome = self.exchange_on(sender).await;
        if let Err(error) = &outcome
            && !error.is_reset()
        {
            // The connection is over, not only this stream.
            self.sender.take();
        }
        outcome.map_err(|error| kind_of(&error))
    }

    async fn exchange_on(&self, sender: SendRequest<Bytes>) -> Result<Answered, h2::Error> {
        let mut sender = sender.ready().await?;
        let (response, mut stream) = sender.send_request(self.request.clone(), self.body.is_empty())?;
        if !self.body.is_empty() {
            stream.send_data(self.body.clone(), true)?;
        }
        let response = response.await?;
        let (status, mut body) = (response.status().as_u16(), response.into_body());
        let mut bytes = 0;
        while let Some(data) = body.data().await {
            let length = data?.len();
            bytes += length as u64;
            body.flow_control().release_capacity(length)?;
        }
        Ok(Answered { status, bytes })
    }

    async fn sender(&self) -> Result<SendRequest<Bytes>, ErrorKind> {
        if let Some(sender) = self.sender.borrow().as_ref() {
            return Ok(sender.clone());
        }
        let _connecting = self.connecting.lock().await;
        if let Some(sender) = self.sender.borrow().as_ref() {
            return Ok(sender.clone());
        }
        let stream = connect(self.address).await.map_err(|_| ErrorKind::Connect)?;
        let (sender, connection) = handshake(stream).await.map_err(|_| ErrorKind::Connect)?;
        // Ends with the thread's local tasks, or with the connection; its streams tell why.
        tokio::task::spawn_local(async move { drop(connection.await) });
        *self.sender.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }
}

fn kind_of(error: &h2::Error) -> ErrorKind {
    match error.get_io().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionReset) => ErrorKind::Reset,
        Some(_) => ErrorKind::Closed,
        None => ErrorKind::Http2,
    }
}
