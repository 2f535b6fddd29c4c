//! Tests of the node layer below the public API, on real servers and in memory.

mod conformance;
mod connections;
mod control;
mod directory;
mod dispatcher;
mod flights;
mod out_of_memory;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::{
    protocol::{Command, Condition, Control, Delete, Mode, Scope, Write},
    record::{CodecId, Key, Keyspace, SessionId},
    ring::Token,
    topology::{Epoch, MetaKeys, PROTOCOL_VERSION},
};

pub(super) const HOUR: u64 = 3_600_000;

pub(super) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// The epoch of the tests: there were others before it.
pub(super) const EPOCH: Epoch = Epoch::new(3);

pub(super) fn fence(ring: &str) -> Fence {
    let cluster = Token::of(ring.as_bytes()).get();
    Fence { protocol: PROTOCOL_VERSION, cluster, epoch: EPOCH, nonce: 7 }
}

/// The gate of a node that everybody may use.
#[derive(Clone)]
struct Unguarded;

impl<L: Link> Gate<L> for Unguarded {
    async fn admit(&self, _: &L, _: &Hello) -> Result<(), Error> {
        Ok(())
    }

    fn noticed(&self, _: Look) -> Result<(), Error> {
        Ok(())
    }

    fn turned(&self, _: &super::Condition) {}

    fn unreachable(&self) {}
}

/// The way to what is at this address.
pub(super) fn way(ring: &str, address: &str) -> AnyTransport {
    let (keys, clocks) = (Arc::new(MetaKeys::new(ring)), Clocks::new(Duration::from_secs(2)));
    match Address::parse(address).unwrap() {
        Address::Memory(name) => AnyTransport::Memory(MemoryTransport {
            server: name.map_or_else(MemoryServer::new, |name| MemoryServer::named(&name)),
            keys,
            clocks,
        }),
        Address::Simulated(_) => unreachable!("these tests are about nodes of the other kinds"),
        Address::Redis(address) => AnyTransport::Redis(RedisTransport {
            id: node_id("a"),
            address,
            access: Arc::default(),
            keys,
            clocks,
            allow_eviction: false,
        }),
    }
}

/// A connected node of its own ring, with its dispatcher.
pub(super) struct TestNode {
    pub(super) node: Node,
    pub(super) keyspace: Keyspace,
    pub(super) fence: Fence,
    /// Where the node keeps what is not a session.
    pub(super) keys: Arc<MetaKeys>,
}

impl TestNode {
    pub(super) async fn connect(ring: &str, address: &str, limits: Limits) -> TestNode {
        let node = TestNode::behind(ring, way(ring, address), limits).await;
        node.node.tried().await.unwrap();
        node
    }

    /// The same over a way of one's own, whose first connection is to be one that works.
    pub(super) async fn behind(ring: &str, transport: impl Transport, limits: Limits) -> TestNode {
        let id = node_id("a");
        let Connection { link, hello, mut driver } = transport.clone().connect().await.unwrap();
        let fence = fence(ring);
        let name = id.as_str().to_owned();
        let incarnation = hello.standing.incarnation.unwrap_or(1);
        let raise =
            Control::Raise { name: name.clone(), fence, document: (&b"a document"[..]).into(), incarnation };
        for control in [Control::Mark { name, incarnation }, raise] {
            run(&mut driver, link.clone().control(control)).await.unwrap();
        }
        let (node, inbox) = Node::new(id, &limits);
        Dispatcher::spawn(&node, inbox, limits, transport, Unguarded);
        TestNode { node, keyspace: Keyspace::new(ring, "test"), fence, keys: Arc::new(MetaKeys::new(ring)) }
    }

    pub(super) fn key(&self, number: u8) -> Key {
        self.keyspace.key(&SessionId::from_bytes([number; 24]))
    }

    pub(super) fn request(&self, key: u8, command: Command) -> Request {
        let deadline = Instant::now() + Duration::from_secs(10);
        let scope = Scope::new(Epoch::FIRST, Mode::Settled);
        Request { key: self.key(key), command, scope, fence: self.fence, deadline }
    }

    pub(super) async fn run(&self, key: u8, command: Command) -> Answer {
        self.node.submit(self.request(key, command)).await
    }

    pub(super) async fn run_under(&self, scope: Scope, key: u8, command: Command) -> Answer {
        self.node.submit(Request { scope, ..self.request(key, command) }).await
    }
}

pub(super) fn write(condition: Condition, operation: u64, payload: &[u8]) -> Write {
    Write {
        condition,
        idle: HOUR,
        absolute: 24 * HOUR,
        codec: CodecId::JSON,
        schema: 0,
        seal: 0,
        operation,
        payload: bytes::Bytes::copy_from_slice(payload),
    }
}

pub(super) fn delete(operation: u64) -> Delete {
    Delete { floor: HOUR, absolute: 24 * HOUR, upsertable: false, operation }
}
