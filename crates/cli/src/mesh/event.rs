//! What happens in a mesh, for whoever watches.

use std::net::SocketAddr;

use lateen_sandbox::{Exit, RefusedNews};
use tokio::sync::{broadcast, mpsc};

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A pod was made and its proxy runs.
    ProxyReady {
        /// `name-ordinal.namespace`.
        pod: String,
    },
    /// The application of a pod runs.
    Started {
        /// The pod.
        pod: String,
        /// Its process on the machine.
        pid: i32,
    },
    /// The application of a pod may be sent to, or may not.
    Ready {
        /// The pod.
        pod: String,
        /// Which.
        ready: bool,
    },
    /// The application of a pod ended.
    Exited {
        /// The pod.
        pod: String,
        /// How.
        exit: Exit,
    },
    /// A pod was taken away.
    Removed {
        /// The pod.
        pod: String,
    },
    /// A gateway listens on the machine.
    Published {
        /// The pod of the gateway.
        pod: String,
        /// The gateway's port.
        port: u16,
        /// Where it is on the machine.
        at: SocketAddr,
    },
    /// The control plane ended and is started again.
    ControlEnded,
    /// A process sent what the mesh refuses (UDP that is no question for names).
    Refused {
        /// The pod.
        pod: String,
        /// What it was.
        what: String,
    },
    /// Something does not work; it is tried again.
    Problem {
        /// What it is about: a pod, the control plane.
        about: String,
        /// What, with its causes.
        problem: String,
    },
}

/// Tells events to all who listen; nobody is waited for.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(1024).0)
    }
}

impl Events {
    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    /// Tells an event.
    pub(crate) fn tell(&self, event: Event) {
        // Nobody may listen.
        let _ = self.0.send(event);
    }

    /// Tells a problem.
    pub(crate) fn problem(&self, about: &str, error: &anyhow::Error) {
        self.tell(Event::Problem { about: about.to_owned(), problem: format!("{error:#}") });
    }
}

/// Tells what pods sent that the mesh refuses.
pub(crate) async fn tell_refused(mut news: mpsc::Receiver<RefusedNews>, events: Events) {
    while let Some(RefusedNews { pod, packets }) = news.recv().await {
        for packet in packets {
            let transport = match packet.transport {
                17 => "UDP".to_owned(),
                132 => "SCTP".to_owned(),
                other => format!("protocol {other}"),
            };
            events.tell(Event::Refused {
                pod: pod.clone(),
                what: format!("{transport} to {}", packet.destination),
            });
        }
    }
}
