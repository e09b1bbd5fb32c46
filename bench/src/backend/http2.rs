//! HTTP/2 without TLS; a gRPC caller gets its status in trailers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::SendResponse;
use hyper::http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};

use super::State;

pub(super) fn start(state: Arc<State>) -> anyhow::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("backend-2".to_owned()).spawn(move || {
        runtime.block_on(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                // A caller that goes away ends its own task only.
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
    })?;
    Ok(address)
}

async fn serve(stream: TcpStream, state: Arc<State>) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut body = Bytes::new();
    while let Some(arrived) = connection.accept().await {
        let (request, answer) = arrived?;
        state.requests.fetch_add(1, Ordering::Relaxed);
        let wanted = state.body.load(Ordering::Relaxed);
        if body.len() != wanted {
            body = vec![b'x'; wanted].into();
        }
        let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
        let mut incoming = request.into_body();
        if incoming.is_end_stream() {
            respond(answer, body.clone(), is_grpc)?;
            continue;
        }
        // A call is answered when all of it came, as applications do. What callers of this bench send fits the first
        // window, so none of it is handed back.
        let body = body.clone();
        tokio::spawn(async move {
            while let Some(piece) = incoming.data().await {
                drop(piece?);
            }
            respond(answer, body, is_grpc)
        });
    }
    Ok(())
}

fn respond(mut answer: SendResponse<Bytes>, body: Bytes, is_grpc: bool) -> Result<(), h2::Error> {
    let kind = if is_grpc { "application/grpc" } else { "text/plain" };
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    if !is_grpc {
        head.headers_mut().insert("content-length", body.len().into());
    }
    let mut stream = answer.send_response(head, false)?;
    stream.send_data(body, !is_grpc)?;
    if is_grpc {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers)?;
    }
    Ok(())
}
