//! nginx: a backend, and a parser of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::peers::Peer;
use crate::process::{Process, eventually};
use crate::proxy::{free_port, own_address};

/// A running nginx.
pub struct Nginx {
    process: Process,
    folder: tempfile::TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts one at an address of its own; `server` is what its server block says besides `listen`.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn start(server: &str) -> anyhow::Result<Self> {
        let ip = own_address();
        Self::start_at(SocketAddr::new(ip, free_port(ip)?), false, server)
    }

    /// The same at a known place. One that shall end gracefully needs a master over its worker.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn start_at(address: SocketAddr, graceful: bool, server: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        // Started as root it becomes another user, who must be able to write here.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let config = folder.path().join("nginx.conf");
        let master = if graceful { "on" } else { "off" };
        let text = CONFIG.replace("MASTER", master).replace("LISTEN", &address.to_string());
        std::fs::write(&config, text.replace("SERVER", server))?;
        let mut command = Command::new(Peer::Nginx.need()?);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&config).args(["-e", "errors.log"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(command)?;
        let errors = folder.path().join("errors.log");
        let up = eventually("nginx listens", || {
            let connected = TcpStream::connect(address).ok().map(|_| true);
            connected.or_else(|| (!process.is_alive()).then_some(false))
        })?;
        anyhow::ensure!(up, "nginx ended: {}", std::fs::read_to_string(errors).unwrap_or_default());
        Ok(Self { process, folder, address })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A folder whose files it serves below `/files`.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What nginx reads in each of these connections: method and target of every request.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn reads(connections: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<String>>> {
        let nginx = Self::start("keepalive_requests 1000000; location / { return 200; }")?;
        let mut all = Vec::new();
        let log = nginx.folder.path().join("access.log");
        for (index, bytes) in connections.iter().enumerate() {
            let mut tcp = TcpStream::connect(nginx.address)?;
            let mut answers = tcp.try_clone()?;
            let reader = std::thread::spawn(move || {
                // Only read so that nginx can go on writing.
                let _ = answers.read_to_end(&mut Vec::new());
            });
            tcp.write_all(bytes)?;
            // Its own end, by which the log is known to be complete.
            let end = format!("GET /end-of-{index} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            tcp.write_all(end.as_bytes())?;
            tcp.shutdown(std::net::Shutdown::Write)?;
            let _ = reader.join();
            all.push(lines_of(&log, index)?);
        }
        Ok(all)
    }
}

/// The lines of the newest connection: those since the end of the one before.
fn lines_of(log: &Path, index: usize) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(log)?;
    let before = format!("GET /end-of-{}", index.wrapping_sub(1));
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let begin = lines.iter().position(|line| *line == before).map_or(0, |at| at + 1);
    Ok(lines[begin..].to_vec())
}

/// One worker; the log is written at once.
const CONFIG: &str = "
daemon off;
master_process MASTER;
pid nginx.pid;
events { worker_connections 512; }
http {
  log_format requests '$request_method $request_uri';
  access_log access.log requests;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 64m;
  server { listen LISTEN reuseport; SERVER }
}
";
