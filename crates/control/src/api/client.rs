//! A small client of the API, over its unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::manifest_origin;
use super::types::{
    ApiError, Instance, NamedInstance, Objects, Processes, Status, TokenAnswer, TokenRequest,
};

/// No answer is longer, in bytes.
const MOST_ANSWER: usize = 1 << 30;
/// A line of a watch.
const MOST_LINE: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("connect to {}: {source}; does the mesh run?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the machine said.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("call the control plane: {0}")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("call the control plane: no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// It said no.
    #[error("the control plane answers {status}: {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Why.
        message: String,
    },
    /// It said something that we do not understand.
    #[error("read the answer of the control plane: {0}; is it of the same version?")]
    Answer(#[from] serde_json::Error),
}

impl ClientError {
    fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(error.into())
    }
}

/// Calls the API of one control plane.
#[derive(Clone, Debug)]
pub struct ApiClient {
    socket: PathBuf,
}

impl ApiClient {
    /// A client of the control plane that listens here.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Where it calls.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Is the mesh well?
    ///
    /// # Errors
    /// As each call: nobody listens, the connection breaks, or the answer is no.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// All objects and what became of them.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn objects(&self) -> Result<Objects, ClientError> {
        self.get("/v1/objects").await
    }

    /// What should run, now.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn processes(&self) -> Result<Processes, ClientError> {
        self.get("/v1/processes").await
    }

    /// What should run, now and each time it changes.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn watch_processes(&self) -> Result<ProcessWatch, ClientError> {
        let answer = self.call(Method::GET, "/v1/processes?watch=1", Bytes::new()).await?;
        Ok(ProcessWatch { body: answer.into_body(), line: BytesMut::new() })
    }

    /// What is registered.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn instances(&self) -> Result<Vec<NamedInstance>, ClientError> {
        self.get("/v1/instances").await
    }

    /// Says that something runs, or runs differently.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn put_instance(
        &self,
        namespace: &str,
        name: &str,
        instance: &Instance,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/instances/{namespace}/{name}");
        self.call(Method::PUT, &path, body(instance)?).await.map(drop)
    }

    /// Says that something runs no more. One that is not known is no error.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn remove_instance(&self, namespace: &str, name: &str) -> Result<(), ClientError> {
        let path = format!("/v1/instances/{namespace}/{name}");
        self.call(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// The names of the manifests that came by the API.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn manifests(&self) -> Result<Vec<String>, ClientError> {
        self.get("/v1/manifests").await
    }

    /// Gives objects as text, as if it were a file of the directory; one of that name is replaced.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn put_manifest(&self, name: &str, text: &str) -> Result<(), ClientError> {
        let path = manifest_origin(name);
        self.call(Method::PUT, &path, Bytes::copy_from_slice(text.as_bytes())).await.map(drop)
    }

    /// Takes those objects away. Ones that are not known are no error.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn remove_manifest(&self, name: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &manifest_origin(name), Bytes::new()).await.map(drop)
    }

    /// A join token for a proxy that is about to start.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn mint_token(&self, request: &TokenRequest) -> Result<TokenAnswer, ClientError> {
        let answer = self.call(Method::POST, "/v1/tokens", body(request)?).await?;
        Ok(serde_json::from_slice(&read(answer).await?)?)
    }

    /// Everything that the mesh means, as YAML that a proxy can load.
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn catalog(&self) -> Result<String, ClientError> {
        self.text("/v1/catalog").await
    }

    /// The answer of a page as text (`/metrics`, `/healthz/ready`).
    ///
    /// # Errors
    /// As [`ApiClient::status`].
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let answer = self.call(Method::GET, path, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&read(answer).await?).into_owned())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.call(Method::GET, path, Bytes::new()).await?;
        Ok(serde_json::from_slice(&read(answer).await?)?)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let call = async {
            let connect = |source| ClientError::Connect { path: self.socket.clone(), source };
            let stream = UnixStream::connect(&self.socket).await.map_err(connect)?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::broken)?;
            // Ends with the answer, or when whoever reads it lets go.
            tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "lateen")
                .header("content-type", "application/json")
                .body(Full::new(body))
                .map_err(ClientError::broken)?;
            sender.send_request(request).await.map_err(ClientError::broken)
        };
        let answer = tokio::time::timeout(PATIENCE, call).await.map_err(|_| ClientError::TimedOut)??;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = read(answer).await?;
        let message = match serde_json::from_slice::<ApiError>(&text) {
            Ok(answer) => answer.error,
            Err(_) => String::from_utf8_lossy(&text).trim().to_owned(),
        };
        Err(ClientError::Refused { status, message })
    }
}

fn body(value: &impl Serialize) -> Result<Bytes, ClientError> {
    Ok(serde_json::to_vec(value)?.into())
}

async fn read(answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await.map_err(ClientError::Broken)?;
    Ok(body.to_bytes())
}

/// What should run, each time it changes.
#[derive(Debug)]
pub struct ProcessWatch {
    body: Incoming,
    line: BytesMut,
}

impl ProcessWatch {
    /// The next state; the first comes at once. None when the control plane ends the stream.
    ///
    /// # Errors
    /// When the connection breaks or a line is not understood.
    pub async fn next(&mut self) -> Result<Option<Processes>, ClientError> {
        loop {
            if let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
                let line = self.line.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.line.len() > MOST_LINE {
                return Err(ClientError::broken("a line without end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Some(data) = frame.map_err(ClientError::broken)?.data_ref() {
                        self.line.extend_from_slice(data);
                    }
                }
            }
        }
    }
}
