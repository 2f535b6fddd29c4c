//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sessionring::{Builder, SessionId, SessionRing, Sessions};
use sessionring_testkit::RedisServer;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    pub user: u64,
    pub cart: Vec<String>,
}

pub fn login(user: u64) -> Login {
    Login { user, cart: vec!["book".into(), "tea".into()] }
}

pub fn server() -> RedisServer {
    RedisServer::start().unwrap_or_else(|error| panic!("{error}"))
}

pub fn servers(count: usize) -> Vec<RedisServer> {
    (0..count).map(|_| server()).collect()
}

/// Nodes a, b, c … at these addresses. Patient, because the machine that runs the tests may be busy.
pub fn nodes(addresses: impl IntoIterator<Item = String>) -> Builder {
    let builder = SessionRing::builder()
        .request_timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(10))
        // Tests that count commands count their own.
        .probe_interval(Duration::from_secs(3600));
    let names = (b'a'..=b'z').map(|letter| char::from(letter).to_string());
    names.zip(addresses).fold(builder, |builder, (name, address)| builder.node(name, address))
}

pub fn on(servers: &[RedisServer]) -> Builder {
    nodes(servers.iter().map(RedisServer::address))
}

pub fn logins(ring: &SessionRing) -> Sessions<Login> {
    ring.sessions("login")
}

/// A new id that belongs to this node.
pub fn id_at(ring: &SessionRing, node: &str) -> SessionId {
    std::iter::repeat_with(|| SessionId::generate().unwrap())
        .find(|id| ring.owner(id).as_str() == node)
        .unwrap()
}

/// Runs the same test on three real servers and on three in-memory nodes.
#[macro_export]
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($ring:ident: SessionRing) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            async fn scenario($ring: SessionRing) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_redis() {
                let servers = support::servers(3);
                scenario(support::on(&servers).connect().await.unwrap()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_memory() {
                let addresses = vec!["memory:".to_owned(); 3];
                scenario(support::nodes(addresses).connect().await.unwrap()).await;
            }
        }
    )*};
}
