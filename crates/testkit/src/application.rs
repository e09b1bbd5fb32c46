//! An application: answers each request with its name and the head it received, unless it was told to behave.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What an application does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// 200, and what it saw.
    #[default]
    Echo,
    /// So many times this status, then as usual.
    Fail {
        /// The status.
        status: u16,
        /// How often.
        times: u32,
    },
    /// So many times no answer at all, then as usual.
    Silent {
        /// How often.
        times: u32,
    },
}

/// A running application.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    name: String,
    manner: Mutex<Manner>,
    requests: Mutex<u64>,
}

impl Application {
    /// Starts it; it listens when this returns.
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let state = State { name: name.to_owned(), manner: Mutex::default(), requests: Mutex::default() };
        let state = Arc::new(state);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, tasks }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.state.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// Requests seen so far.
    pub(crate) fn requests(&self) -> u64 {
        *self.state.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it as a crash would: nobody listens any more, and connections break.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with whoever accepted them.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // A caller that goes away is nothing to an application.
            let _ = serve(stream, &state).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Requests, or lines of bytes that come back with the name in front.
async fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
        if !head.trim_end().ends_with("HTTP/1.1") {
            let answer = format!("{} {head}", state.name);
            stream.get_mut().write_all(answer.as_bytes()).await?;
            continue;
        }
        let mut length = 0;
        loop {
            let start = head.len();
            stream.read_line(&mut head).await?;
            let line = head[start..].trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let Some(status) = state.next() else {
            // Silent for as long as the caller stays.
            stream.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        };
        let seen = format!("{}{}", head.replace("\r\n", "\n"), String::from_utf8_lossy(&body));
        let answer = format!(
            "HTTP/1.1 {status} Answer\r\nx-app: {}\r\ncontent-length: {}\r\n\r\n{seen}",
            state.name,
            seen.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

impl State {
    /// The status of the next answer; none is silence.
    fn next(&self) -> Option<u16> {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let mut manner = self.manner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *manner {
            Manner::Fail { status, times } if *times > 0 => {
                *times -= 1;
                Some(*status)
            }
            Manner::Silent { times } if *times > 0 => {
                *times -= 1;
                None
            }
            _ => Some(200),
        }
    }
}
