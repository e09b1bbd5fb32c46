//! HTTP/2 by prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::net::TcpStream;

use super::App;
use super::answer::{ANSWER, Body, Received, Wanted};

pub(super) async fn serve(app: App, tcp: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let app = app.clone();
        tokio::spawn(async move {
            // A peer that has gone needs no answer.
            let _ = exchange(app, request, respond).await;
        });
    }
}

async fn exchange(
    app: App,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (parts, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    let wanted = parts.headers.get(ANSWER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = Wanted::parse(wanted);
    if wanted.delay > 0 {
        tokio::time::sleep(Duration::from_millis(wanted.delay)).await;
    }
    if wanted.reset {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
        return Ok(());
    }
    let received = Received {
        protocol: "HTTP/2",
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("", |path| path.as_str()),
        authority: parts.uri.authority().map_or("", |authority| authority.as_str()).as_bytes(),
        fields: pairs(&parts.headers),
        body: &body,
        trailers: pairs(&trailers),
    };
    let description = Bytes::from(received.describe(&app.name));
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(wanted.status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    fill(headers, &wanted.headers);
    if wanted.body == Body::Length {
        headers.insert("content-length", description.len().into());
    }
    let bodiless = parts.method == http::Method::HEAD || wanted.body == Body::None;
    let mut send = respond.send_response(response, bodiless)?;
    if bodiless {
        return Ok(());
    }
    if wanted.trailers.is_empty() {
        return send.send_data(description, true);
    }
    send.send_data(description, false)?;
    let mut trailers = HeaderMap::new();
    fill(&mut trailers, &wanted.trailers);
    send.send_trailers(trailers)
}

fn pairs(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn fill(map: &mut HeaderMap, pairs: &[(String, String)]) {
    for (name, value) in pairs {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            map.append(name, value);
        }
    }
}
