//! Applications that answer with exactly what they received, and remember every byte.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

mod answer;
mod h1;
mod h2;

pub use answer::ANSWER;

/// What an application is.
#[derive(Clone)]
struct App {
    name: Arc<str>,
    connections: Arc<Mutex<Vec<Recording>>>,
}

/// The bytes of one connection, as they came.
pub type Recording = Arc<Mutex<Vec<u8>>>;

/// Applications, each with an address of its own, on a thread of their own.
pub struct Backends {
    apps: Vec<(App, SocketAddr)>,
    // Its end ends them.
    _running: oneshot::Sender<()>,
}

impl Backends {
    /// Starts one for each name. Both versions of HTTP are understood, HTTP/2 by its preface.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn start(names: &[&str]) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), names)
    }

    /// The same at an address.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn start_at(ip: IpAddr, names: &[&str]) -> anyhow::Result<Self> {
        let (mut apps, mut listeners) = (Vec::new(), Vec::new());
        for name in names {
            let app = App { name: (*name).into(), connections: Arc::default() };
            let listener = std::net::TcpListener::bind((ip, 0))?;
            listener.set_nonblocking(true)?;
            apps.push((app.clone(), listener.local_addr()?));
            listeners.push((app, listener));
        }
        let (running, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(run(listeners, ended)));
        Ok(Self { apps, _running: running })
    }

    /// Where an application listens.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn at(&self, name: &str) -> SocketAddr {
        let found = self.apps.iter().find(|(app, _)| &*app.name == name);
        found.map(|(_, at)| *at).expect("an application of this name was started")
    }

    /// Everything that came in over HTTP/1.1 so far, connection by connection.
    #[must_use]
    pub fn recordings(&self) -> Vec<Vec<u8>> {
        let copy = |recording: &Recording| lock(recording).clone();
        self.apps
            .iter()
            .flat_map(|(app, _)| lock(&app.connections).iter().map(copy).collect::<Vec<_>>())
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(listeners: Vec<(App, std::net::TcpListener)>, ended: oneshot::Receiver<()>) {
    for (app, listener) in listeners {
        let Ok(listener) = TcpListener::from_std(listener) else { continue };
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(app.clone(), tcp));
            }
        });
    }
    // Nobody sends: the sender is dropped.
    let _ = ended.await;
}

async fn serve(app: App, tcp: TcpStream) {
    let _ = tcp.set_nodelay(true);
    let mut first = [0; 4];
    match tcp.peek(&mut first).await {
        Ok(4) if &first == b"PRI " => h2::serve(app, tcp).await,
        Ok(_) => h1::serve(app, tcp).await,
        Err(_) => {}
    }
}
