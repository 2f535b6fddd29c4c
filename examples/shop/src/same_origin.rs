//! Forms of other sites are refused.
//!
//! `SameSite=Lax` keeps the cookie from them already. This holds where a browser does not know that, for other ports of the same
//! host, and for the log-in form, which needs no cookie.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

pub(crate) async fn same_origin(request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_ours(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "This form was sent by another site.\n").into_response()
}

/// Browsers say where a form comes from, in Sec-Fetch-Site or, older ones, in Origin. What says neither is no browser.
fn is_ours(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    origin.as_ref().and_then(Uri::authority).map(|authority| authority.as_str()) == host && host.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &[(&'static str, &str)]) -> bool {
        let mut all = HeaderMap::from_iter([(header::HOST, "shop.example:8080".parse().unwrap())]);
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        is_ours(&all)
    }

    #[test]
    fn ours_and_others() {
        for ours in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://shop.example:8080")],
            &[("origin", "https://shop.example:8080")], // TLS ended before us
        ] {
            assert!(with(ours), "{ours:?}");
        }
        for others in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")], // another port of this host
            &[("sec-fetch-site", "cross-site"), ("origin", "http://shop.example:8080")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://shop.example:8081")],
            &[("origin", "http://shop.example:8080.evil.example")],
            &[("origin", "null")],
            &[("origin", "")],
        ] {
            assert!(!with(others), "{others:?}");
        }
    }
}
