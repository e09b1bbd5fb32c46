//! A test service on a thread of its own, and servers that misbehave on purpose.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use lateen_cli::echo::{Config, Echo, Ports};
use tokio_util::sync::CancellationToken;

/// A running [`Echo`] with one port of each kind; dropped, it ends.
pub(crate) struct Service {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) tcp: SocketAddr,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Service {
    pub(crate) fn start(config: Config) -> Self {
        let ports = Ports { address: None, http: vec![0], grpc: vec![0], tcp: vec![0] };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let echo = Echo::bind(config, &ports).unwrap();
        drop(entered);
        let local = |index: usize| {
            let (_, address) = echo.addresses()[index];
            SocketAddr::from(([127, 0, 0, 1], address.port()))
        };
        let (http, grpc, tcp) = (local(0), local(1), local(2));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::spawn(move || runtime.block_on(echo.run(stopped)));
        Service { http, grpc, tcp, stop, thread: Some(thread) }
    }

    pub(crate) fn named(name: &str) -> Self {
        Service::start(Config { name: name.to_owned(), ..Config::default() })
    }

    /// Tells the service to stop, without waiting.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until everything under way is done.
    pub(crate) fn join(mut self) {
        self.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One HTTP/1.1 exchange on a connection of its own: the head and the body of the answer.
pub(crate) fn request(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    read_response(&mut BufReader::new(stream))
}

/// The head and the body of a response with a content length.
pub(crate) fn read_response(reader: &mut BufReader<TcpStream>) -> (String, String) {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// A server that answers every request on a connection with what `answer` gives for its number, and
/// closes the connection after `per_connection` of them.
pub(crate) fn scripted(
    per_connection: usize,
    answer: impl Fn(usize) -> &'static str + Send + Sync + Copy + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                for number in 0..per_connection {
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    if reader.get_mut().write_all(answer(number).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
