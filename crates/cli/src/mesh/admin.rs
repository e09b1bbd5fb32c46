//! The pages of all proxies in one place, on the loopback of the machine, and what `run` speaks to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use lateen_runtime::admin::{Admin, AdminListener, AdminRequest, AdminResponse, respond, text};
use lateen_runtime::drain;
use tokio::net::{TcpListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::pods::Pods;

/// The longest a proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest page of one proxy, in bytes.
const LARGEST: usize = 64 << 20;

/// Serves until the mesh ends; gives the address.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    pods: Arc<Pods>,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for the admin pages")?;
    let address = listener.local_addr()?;
    let pages = Arc::new(Pages { shared, pods });
    let index = Arc::clone(&pages);
    let proxy = Arc::clone(&pages);
    let admin = Admin::new()
        .route(Method::GET, "/", move |_| {
            let pages = Arc::clone(&index);
            async move { pages.index() }
        })
        .route(Method::GET, "/metrics", move |_| {
            let pages = Arc::clone(&pages);
            async move { pages.metrics().await }
        })
        .route(Method::GET, "/proxy", move |request: AdminRequest| {
            let pages = Arc::clone(&proxy);
            async move { pages.proxy(&request).await }
        });
    let (drainer, drain) = drain::channel();
    tokio::spawn(async move {
        let _ = admin.serve(AdminListener::Tcp(listener), drain).await;
    });
    tokio::spawn(async move {
        stop.cancelled().await;
        let _ = drainer.drain(Duration::from_millis(100)).await;
    });
    Ok(address)
}

struct Pages {
    shared: Arc<Shared>,
    pods: Arc<Pods>,
}

impl Pages {
    fn index(&self) -> AdminResponse {
        let mut page =
            String::from("lateen: the proxies of this mesh\n\n/metrics  all of them, for Prometheus\n");
        for pod in self.pods.names() {
            for path in ["metrics", "dump", "certs", "healthz/ready"] {
                page.push_str(&format!("/proxy?pod={pod}&path=/{path}\n"));
            }
        }
        text(StatusCode::OK, page)
    }

    /// Every proxy's metrics; each series says whose it is.
    async fn metrics(&self) -> AdminResponse {
        let pages = self.pods.names().into_iter().map(|pod| async move {
            let page = get(&self.shared.home.proxy_socket(&pod), "/metrics").await;
            (pod, page)
        });
        let mut merged = Merged::default();
        for (pod, page) in futures_join(pages).await {
            if let Ok(page) = page {
                merged.add(&pod, &page);
            }
        }
        respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", merged.text())
    }

    async fn proxy(&self, request: &AdminRequest) -> AdminResponse {
        let query = request.uri().query().unwrap_or_default();
        let find = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
        };
        let (Some(pod), Some(path)) = (find("pod"), find("path")) else {
            return text(StatusCode::BAD_REQUEST, "expected /proxy?pod=NAME&path=/PAGE\n");
        };
        if !self.pods.names().iter().any(|known| known == pod) {
            return text(StatusCode::NOT_FOUND, format!("no pod is called {pod}\n"));
        }
        match get(&self.shared.home.proxy_socket(pod), path).await {
            Ok(page) => text(StatusCode::OK, page),
            Err(error) => text(StatusCode::BAD_GATEWAY, format!("{error:#}\n")),
        }
    }
}

/// All at once, in order.
async fn futures_join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, value) in &mut pending {
            if value.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ready) => *value = Some(ready),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().filter_map(|(_, value)| value).collect()
}

/// A page of the proxy that listens on this socket.
///
/// # Errors
/// When it does not listen, does not answer in time, or says no.
pub async fn get(socket: &std::path::Path, path: &str) -> anyhow::Result<String> {
    let call = async {
        let stream =
            UnixStream::connect(socket).await.with_context(|| format!("connect to {}", socket.display()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "proxy").body(Empty::<bytes::Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), LARGEST).collect().await.map_err(anyhow::Error::from_boxed)?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        anyhow::ensure!(status.is_success(), "{path} answered {status}: {}", text.trim_end());
        Ok(text)
    };
    tokio::time::timeout(PATIENCE, call).await.context("the proxy does not answer")?
}

/// Expositions of several proxies as one: a family's comments once, its series together, each with its pod.
#[derive(Default)]
struct Merged {
    families: Vec<(String, String)>,
}

impl Merged {
    fn add(&mut self, pod: &str, page: &str) {
        let mut family = String::new();
        for line in page.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                let name = comment.split(' ').nth(1).unwrap_or_default();
                name.clone_into(&mut family);
                let known = self.family(&family);
                if !known.contains(line) {
                    known.push_str(line);
                    known.push('\n');
                }
                continue;
            }
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
            let labelled = match rest.strip_prefix('{') {
                Some(labels) => format!("{name}{{pod=\"{pod}\",{labels}\n"),
                None => format!("{name}{{pod=\"{pod}\"}}{rest}\n"),
            };
            self.family(&family).push_str(&labelled);
        }
    }

    fn family(&mut self, name: &str) -> &mut String {
        let at = self.families.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.families.push((name.to_owned(), String::new()));
            self.families.len() - 1
        });
        &mut self.families[at].1
    }

    fn text(self) -> String {
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_several_proxies_stay_together() {
        let mut merged = Merged::default();
        let page =
            "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\"} 1\na_total 2\n# TYPE d gauge\nd 3\n";
        merged.add("one.default", page);
        merged.add("two.default", page);
        assert_eq!(
            merged.text(),
            "# HELP a_total x\n# TYPE a_total counter\na_total{pod=\"one.default\",b=\"c\"} 1\n\
             a_total{pod=\"one.default\"} 2\na_total{pod=\"two.default\",b=\"c\"} 1\na_total{pod=\"two.default\"} 2\n\
             # TYPE d gauge\nd{pod=\"one.default\"} 3\nd{pod=\"two.default\"} 3\n"
        );
    }
}
