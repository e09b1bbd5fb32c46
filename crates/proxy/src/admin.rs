//! The pages of a proxy: for operators, scrapers and whoever started it.
//!
//! | page | what |
//! | --- | --- |
//! | `/healthz/ready` | whether it serves, or what is missing |
//! | `/metrics`, `/stats/prometheus` | every metric |
//! | `/dump` | the resources held, as YAML that a proxy can load again; never keys |
//! | `/certs` | who it is and whom it believes |
//! | `/listeners` | where it listens |
//! | `/logging` | the filter of its log; POST sets it, as `?level=` or as the body |
//! | `/drain` (POST) | end gracefully |
//! | `/quitquitquit` (POST) | end at once |

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use std::{fs, io};

use lateen_pki::{CertifiedIdentity, TrustBundle};
use lateen_runtime::admin::{Admin, AdminListener, AdminRequest, AdminResponse, json, respond, text};
use lateen_runtime::live::LiveHandle;
use lateen_runtime::log::LogFilter;
use lateen_runtime::metrics::{Format, Registry};
use lateen_runtime::ready::Ready;
use lateen_runtime::sock::{self, ListenOptions};
use lateen_wire::json as canonical;
use serde_json::{Value, json as value};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::app::Ending;
use crate::config::Endpoint;
use crate::follow::Held;
use crate::identity::Holding;
use crate::listen::Bound;
use crate::observe::line::rfc3339;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Metrics.
    pub registry: Registry,
    /// Whether it serves.
    pub ready: Ready,
    /// Resources.
    pub held: LiveHandle<Held>,
    /// The certificate.
    pub holding: LiveHandle<Option<Holding>>,
    /// Where it listens.
    pub listening: Vec<watch::Receiver<Vec<Bound>>>,
    /// The filter of the log, where it can be changed.
    pub log: Option<LogFilter>,
    /// How to end it.
    pub ending: Ending,
}

impl Pages {
    /// The server of the pages.
    #[must_use]
    pub fn build(self) -> Admin {
        let Self { registry, ready, held, holding, listening, log, ending } = self;
        let metrics = registry.clone();
        let (read, write) = (log.clone(), log);
        let (gracefully, at_once) = (ending.clone(), ending);
        Admin::new()
            .with_metrics(registry)
            .with_readiness(ready)
            .route(GET, "/stats/prometheus", move |_| {
                let (format, metrics) = (Format::default(), metrics.clone());
                async move { respond(OK, format.content_type(), metrics.render(format)) }
            })
            .route(GET, "/dump", move |_| dump(held.current()))
            .route(GET, "/certs", move |_| {
                let page = certificates((*holding.current()).as_ref());
                async move { json(OK, format!("{page:#}\n")) }
            })
            .route(GET, "/listeners", move |_| {
                let page = listeners(&listening);
                async move { json(OK, format!("{page:#}\n")) }
            })
            .route(GET, "/logging", move |_| {
                let page = filter(read.as_ref());
                async move { page }
            })
            .route(POST, "/logging", move |request| {
                let page = set_filter(write.as_ref(), &request);
                async move { page }
            })
            .route(POST, "/drain", move |_| {
                gracefully.gracefully();
                async { text(OK, "draining\n") }
            })
            .route(POST, "/quitquitquit", move |_| {
                at_once.at_once();
                async { text(OK, "quitting\n") }
            })
    }
}

const GET: http::Method = http::Method::GET;
const POST: http::Method = http::Method::POST;
const OK: http::StatusCode = http::StatusCode::OK;

/// The name of a socket; goes with its owner.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It is only tidier without it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens for the pages. A socket appears under its name only once nobody else may use it.
///
/// # Errors
/// When the address is taken, or the socket's directory is not ours to write in.
pub fn bind(at: &Endpoint) -> io::Result<(AdminListener, Option<SocketFile>)> {
    match at {
        Endpoint::Address(address) => {
            let listener = sock::listen(*address, &ListenOptions::default())?;
            Ok((AdminListener::Tcp(TcpListener::from_std(listener)?), None))
        }
        Endpoint::Socket(path) => {
            let mut hidden = path.clone().into_os_string();
            hidden.push(".new");
            let hidden = PathBuf::from(hidden);
            // What is left of a process that was killed.
            let _ = fs::remove_file(&hidden);
            let listener = UnixListener::bind(&hidden)?;
            fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
            fs::rename(&hidden, path)?;
            Ok((AdminListener::Unix(listener), Some(SocketFile(path.clone()))))
        }
    }
}

/// A large catalog takes a while to write: not on the thread that everything else of the process waits for.
async fn dump(held: Arc<Held>) -> AdminResponse {
    let written = tokio::task::spawn_blocking(move || {
        let mut page = String::new();
        for refused in &*held.refused {
            // A comment: what was refused cannot be loaded again.
            let _ = writeln!(page, "# refused: {}", one_line(&refused.to_string()));
        }
        page.push_str(&canonical::to_yaml(&held.catalog));
        page
    });
    match written.await {
        Ok(page) => respond(OK, "application/yaml", page),
        Err(error) => text(http::StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn certificates(holding: Option<&Holding>) -> Value {
    let Some(holding) = holding else { return value!({ "state": "waiting" }) };
    let certified: Arc<CertifiedIdentity> = holding.certified.get();
    let bundle: Arc<TrustBundle> = holding.bundle.get();
    value!({
        "state": "available",
        "identity": certified.identity().to_string(),
        "serial": certified.serial(),
        "notBefore": time(certified.not_before()),
        "notAfter": time(certified.not_after()),
        "trustDomain": bundle.own().to_string(),
        "roots": bundle.to_pem(),
    })
}

fn time(time: SystemTime) -> String {
    let mut out = String::new();
    rfc3339(&mut out, time);
    out
}

fn listeners(listening: &[watch::Receiver<Vec<Bound>>]) -> Value {
    let bound = listening.iter().flat_map(|bound| bound.borrow().clone());
    bound.map(|Bound { name, address }| value!({ "name": name, "address": address.to_string() })).collect()
}

fn filter(log: Option<&LogFilter>) -> AdminResponse {
    match log.map(LogFilter::get) {
        Some(Ok(filter)) => text(OK, format!("{filter}\n")),
        _ => text(http::StatusCode::NOT_IMPLEMENTED, "the log has no filter that can be read\n"),
    }
}

fn set_filter(log: Option<&LogFilter>, request: &AdminRequest) -> AdminResponse {
    let query = request.uri().query().unwrap_or_default();
    let level = query.split('&').find_map(|pair| pair.strip_prefix("level="));
    let body = String::from_utf8_lossy(request.body());
    let wanted = level.map_or(body, |level| percent_encoding::percent_decode_str(level).decode_utf8_lossy());
    let wanted = wanted.trim();
    match log {
        _ if wanted.is_empty() => {
            text(http::StatusCode::BAD_REQUEST, "expected ?level=info or a filter as the body\n")
        }
        Some(log) => match log.set(wanted) {
            Ok(()) => {
                tracing::info!(filter = wanted, "log filter changed");
                filter(Some(log))
            }
            Err(error) => text(http::StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        None => filter(None),
    }
}

#[cfg(test)]
mod tests;
