//! What the tests of the adapters share: rings, and a browser that has no window.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use sessionring::{Builder, SessionRing};
use sessionring_testkit::RedisServer;
use tower::ServiceExt;

/// Nodes a, b, c … at these addresses. Patient, because the machine that runs the tests may be busy.
pub fn nodes(addresses: impl IntoIterator<Item = String>) -> Builder {
    let builder = SessionRing::builder()
        .request_timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(10));
    let names = (b'a'..=b'z').map(|letter| char::from(letter).to_string());
    names.zip(addresses).fold(builder, |builder, (name, address)| builder.node(name, address))
}

pub fn server() -> RedisServer {
    RedisServer::start().unwrap_or_else(|error| panic!("{error}"))
}

pub fn servers(count: usize) -> Vec<RedisServer> {
    (0..count).map(|_| server()).collect()
}

pub async fn on(servers: &[RedisServer]) -> SessionRing {
    nodes(servers.iter().map(RedisServer::address)).connect().await.unwrap()
}

pub async fn in_memory(count: usize) -> SessionRing {
    nodes(vec!["memory:".to_owned(); count]).connect().await.unwrap()
}

/// Runs the same test on two real servers and on two in-memory nodes.
#[macro_export]
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($ring:ident: SessionRing) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn scenario($ring: ::sessionring::SessionRing) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_redis() {
                let servers = $crate::support::servers(2);
                scenario($crate::support::on(&servers).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_memory() {
                scenario($crate::support::in_memory(2).await).await;
            }
        }
    )*};
}

/// A browser profile: it keeps the session cookie as a real one would.
#[derive(Clone)]
pub struct Browser {
    router: Router,
    pub cookie: Option<String>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub set_cookie: Option<SetCookie>,
    pub body: String,
}

impl Browser {
    pub fn new(router: &Router) -> Browser {
        Browser { router: router.clone(), cookie: None }
    }

    /// One that shows this cookie.
    pub fn with_cookie(router: &Router, value: &str) -> Browser {
        Browser { router: router.clone(), cookie: Some(value.to_owned()) }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let mut request = Request::builder().uri(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, format!("id={cookie}"));
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let set_cookie = response.headers().get(header::SET_COOKIE);
        let set_cookie = set_cookie.map(|text| SetCookie(text.to_str().unwrap().to_owned()));
        if let Some(cookie) = &set_cookie {
            self.cookie = (!cookie.removes()).then(|| cookie.value().to_owned());
        }
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, set_cookie, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// The same, which must be answered.
    pub async fn visit(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }
}

#[derive(Debug, Clone)]
pub struct SetCookie(String);

impl SetCookie {
    fn first(&self) -> (&str, &str) {
        self.0.split(';').next().unwrap().split_once('=').unwrap()
    }

    pub fn name(&self) -> &str {
        self.first().0
    }

    pub fn value(&self) -> &str {
        self.first().1
    }

    /// `Some("")` for one without a value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.0.split(';').skip(1).map(str::trim).find_map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Seconds.
    pub fn max_age(&self) -> Option<i64> {
        self.attribute("Max-Age").map(|text| text.parse().unwrap())
    }

    pub fn removes(&self) -> bool {
        self.value().is_empty()
    }
}
