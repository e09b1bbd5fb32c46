//! Serve views: one [`Publisher`] that encodes, one task for each stream, and who may open one.
//!
//! ```ignore
//! let mut publisher = Publisher::new(&catalog);
//! let discovery = Discovery::new(publisher.views(), fleet /* impl Admission */, drain.clone());
//! let service = server::planes(discovery, CertificateService::new(authority /* impl Sign */));
//! runtime.spawn(server::serve(Listener::Unix(socket), tls, service, Limits::default(), drain));
//! // at every outcome of the hub, after `catalog.apply(&delta)`:
//! publisher.publish(&catalog, &delta);
//! ```

mod accept;
mod guests;
mod service;

pub use accept::{Limits, Listener, Origin, serve};
pub use service::{Caller, Planes, planes};

use crate::pb::envoy::config::core::v3::Node;
use crate::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use crate::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::session::{MESSAGE_BYTES, Progress, ServerSession};
use crate::view::{NativeView, View};
use lateen_model::{Catalog, Delta, Viewer};
use lateen_runtime::clock;
use lateen_runtime::drain::Drain;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A stream must begin within this time.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// A proxy that acknowledges nothing for so long is cut off; it can begin again where it stopped.
const PATIENCE: Duration = Duration::from_secs(120);
/// Responses that may wait to be written: one a type is outstanding.
const RESPONSES: usize = 16;

/// Encodes every state once, for all streams. Held by the one writer.
pub struct Publisher {
    view: NativeView,
    sender: watch::Sender<Arc<NativeView>>,
}

/// The states, as they are published.
pub type Views = watch::Receiver<Arc<NativeView>>;

impl Publisher {
    /// Begins with this state.
    pub fn new(catalog: &Catalog) -> Self {
        let view = NativeView::new(catalog);
        let sender = watch::Sender::new(Arc::new(view.clone()));
        Self { view, sender }
    }

    /// Publishes the next state: `catalog` is what `delta` made of the one before. Only what is in the delta is
    /// encoded.
    pub fn publish(&mut self, catalog: &Catalog, delta: &Delta) {
        self.view.apply(delta, catalog.revision());
        self.sender.send_replace(Arc::new(self.view.clone()));
    }

    /// Where streams hear of states.
    pub fn views(&self) -> Views {
        self.sender.subscribe()
    }
}

/// Who may open a stream.
pub trait Admission: Send + Sync + 'static {
    /// Decides about a caller by its certificate or token; the node is only what it claims
    /// ([`crate::Claim::from_node`]).
    fn admit(&self, caller: Caller, node: Node) -> impl Future<Output = Result<Admitted, Denied>> + Send;
}

impl<A: Admission> Admission for Arc<A> {
    fn admit(&self, caller: Caller, node: Node) -> impl Future<Output = Result<Admitted, Denied>> + Send {
        A::admit(self, caller, node)
    }
}

/// A caller that may open a stream.
pub struct Admitted {
    /// Who it is; a new value changes what it sees, and to drop the sender ends the stream.
    pub viewer: watch::Receiver<Viewer>,
    /// Where its progress goes. The stream drops it when it ends.
    pub progress: watch::Sender<Progress>,
}

/// Why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not known who it is.
    #[error("{0}")]
    Unauthenticated(String),
    /// It is not who it claims to be.
    #[error("{0}")]
    NotAllowed(String),
    /// Not now: the sources have not been read, or there are too many streams.
    #[error("{0}")]
    NotNow(String),
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        match denied {
            Denied::Unauthenticated(_) => Self::unauthenticated(text),
            Denied::NotAllowed(_) => Self::permission_denied(text),
            Denied::NotNow(_) => Self::unavailable(text),
        }
    }
}

/// The discovery service.
pub struct Discovery<A> {
    views: Views,
    admission: A,
    drain: Drain,
}

impl<A: Admission> Discovery<A> {
    /// Serves these states to whom `admission` lets in, until the drain begins.
    pub fn new(views: Views, admission: A, drain: Drain) -> Self {
        Self { views, admission, drain }
    }

    fn into_service(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl<A: Admission> AggregatedDiscoveryService for Discovery<A> {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let caller = Caller::of(&request);
        let mut requests = request.into_inner();
        let first = clock::timeout(FIRST_MESSAGE, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first message"))??;
        let first = first.ok_or_else(|| Status::invalid_argument("no message"))?;
        let node = first.node.clone().unwrap_or_default();
        let Admitted { mut viewer, progress } = self.admission.admit(caller, node).await?;
        let mut views = self.views.clone();
        let view: Arc<dyn View> = views.borrow_and_update().clone();
        let session = ServerSession::new(view, viewer.borrow_and_update().clone());
        let (responses, stream) = mpsc::channel(RESPONSES);
        let conversation =
            Conversation { session, requests, views, viewer, progress, responses, drain: self.drain.clone() };
        // The stream owns the task: it ends when the proxy goes, and the drain ends it.
        tokio::spawn(conversation.run(first));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// One stream.
struct Conversation {
    session: ServerSession,
    requests: Streaming<DeltaDiscoveryRequest>,
    views: Views,
    viewer: watch::Receiver<Viewer>,
    progress: watch::Sender<Progress>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    drain: Drain,
}

impl Conversation {
    async fn run(mut self, first: DeltaDiscoveryRequest) {
        if let Err(status) = self.converse(first).await {
            tracing::debug!(%status, "a stream ends");
            // A proxy that is gone need not hear why.
            let _ = self.responses.try_send(Err(status));
        }
    }

    async fn converse(&mut self, first: DeltaDiscoveryRequest) -> Result<(), Status> {
        self.receive(first)?;
        let mut deadline = clock::now() + PATIENCE;
        loop {
            while let Some(response) = self.session.poll() {
                if self.responses.send(Ok(response)).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                () = self.responses.closed() => return Ok(()),
                request = self.requests.message() => match request? {
                    Some(request) => {
                        self.receive(request)?;
                        deadline = clock::now() + PATIENCE;
                    }
                    None => return Ok(()),
                },
                changed = self.views.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane stops"))?;
                    let view: Arc<dyn View> = self.views.borrow_and_update().clone();
                    self.restart_patience(&mut deadline);
                    self.session.offer(view);
                }
                changed = self.viewer.changed() => {
                    changed.map_err(|_| Status::permission_denied("no longer admitted"))?;
                    let viewer = self.viewer.borrow_and_update().clone();
                    self.restart_patience(&mut deadline);
                    self.session.set_viewer(viewer);
                }
                () = self.drain.begun() => return Err(Status::unavailable("the control plane stops")),
                () = clock::sleep_until(deadline), if self.session.is_waiting() => {
                    return Err(Status::deadline_exceeded("nothing was acknowledged"));
                }
            }
        }
    }

    /// Patience begins when something is about to be sent, not when the last thing was acknowledged.
    fn restart_patience(&self, deadline: &mut clock::Instant) {
        if !self.session.is_waiting() {
            *deadline = clock::now() + PATIENCE;
        }
    }

    fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        self.session.receive(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let progress = self.session.progress();
        self.progress.send_if_modified(|told| {
            let news = told != progress;
            if news {
                told.clone_from(progress);
            }
            news
        });
        Ok(())
    }
}
