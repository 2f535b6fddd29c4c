//! The round-robin: every request goes to the next application, whoever sends it and over whatever connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, Uri, Version, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::TokioExecutor,
};

/// The forms of this shop are short.
const LONGEST_BODY: usize = 64 * 1024;

/// What is between two neighbours only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(crate) fn router(applications: Vec<SocketAddr>) -> Router {
    // No connection is kept, so it is known that an application is gone before anything is sent to it.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let front = Front { applications, next: AtomicUsize::new(0), client };
    Router::new().fallback(forward).with_state(Arc::new(front))
}

struct Front {
    applications: Vec<SocketAddr>,
    next: AtomicUsize,
    client: Client<HttpConnector, Body>,
}

async fn forward(State(front): State<Arc<Front>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LONGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    remove_hop_by_hop(&mut parts.headers);
    let first = front.next.fetch_add(1, Ordering::Relaxed);
    // An application that is gone is passed over: what could not be sent to it, or may be sent twice, goes to the next one.
    for turn in 0..front.applications.len() {
        let to = front.applications[(first + turn) % front.applications.len()];
        match front.send(to, &parts, body.clone()).await {
            Ok(mut response) => {
                remove_hop_by_hop(response.headers_mut());
                return response;
            }
            Err(error) if error.is_connect() || parts.method.is_safe() => {}
            Err(_) => break,
        }
    }
    (StatusCode::BAD_GATEWAY, "No application answers.\n").into_response()
}

impl Front {
    /// Host stays as the browser sent it: by that the application knows its own forms.
    async fn send(&self, to: SocketAddr, parts: &Parts, body: Bytes) -> Result<Response, Error> {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = parts.method.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = parts.headers.clone();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // What came as the path of a request is one.
        *request.uri_mut() = format!("http://{to}{path}").parse::<Uri>().unwrap_or_default();
        Ok(self.client.request(request).await?.map(Body::new))
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}
