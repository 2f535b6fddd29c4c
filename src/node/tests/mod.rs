//! Tests of the node layer below the public API, on real servers and in memory.

mod conformance;
mod dispatcher;
mod out_of_memory;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::{
    protocol::{Command, Condition, Delete, Write},
    record::{CodecId, Key, Keyspace, SessionId},
    ring::{Member, Ring, Weight},
    topology::{Epoch, MetaKeys, Topology},
};

pub(super) const HOUR: u64 = 3_600_000;

pub(super) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(super) fn fence(ring: &str) -> Fence {
    let members = [Member::new(node_id("a"), Weight::new(1))];
    Topology::founded(ring, Ring::hashed(members, 1).unwrap()).fence
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
        let (keys, clocks) = (Arc::new(MetaKeys::new(ring)), Clocks::new(Duration::from_secs(2)));
        let id = node_id("a");
        let transport = match Address::parse(address).unwrap() {
            Address::Memory(name) => AnyTransport::Memory(MemoryTransport {
                id: id.clone(),
                server: name.map_or_else(MemoryServer::new, |name| MemoryServer::named(&name)),
                keys: keys.clone(),
                clocks: clocks.clone(),
            }),
            Address::Redis(address) => AnyTransport::Redis(RedisTransport {
                id: id.clone(),
                address,
                keys: keys.clone(),
                clocks: clocks.clone(),
                allow_eviction: false,
            }),
        };
        let Connection { link, hello, mut driver } = transport.clone().connect().await.unwrap();
        let fence = fence(ring);
        run(&mut driver, admit(&id, &link, &fence, hello.standing.clone())).await.unwrap();
        let connection = Connection { link, hello, driver };
        let (node, inbox) = Node::new(id, &limits);
        Dispatcher::spawn(&node, inbox, limits, transport, Ok(connection), fence, clocks);
        TestNode { node, keyspace: Keyspace::new(ring, "test"), fence, keys }
    }

    pub(super) fn key(&self, number: u8) -> Key {
        self.keyspace.key(&SessionId::from_bytes([number; 24]))
    }

    pub(super) fn request(&self, key: u8, command: Command) -> Request {
        let deadline = Instant::now() + Duration::from_secs(10);
        Request { key: self.key(key), command, fence: self.fence, deadline }
    }

    pub(super) async fn run(&self, key: u8, command: Command) -> Answer {
        self.node.submit(self.request(key, command)).await
    }
}

pub(super) fn write(condition: Condition, operation: u64, payload: &[u8]) -> Write {
    Write {
        condition,
        idle: HOUR,
        absolute: 24 * HOUR,
        codec: CodecId::JSON,
        schema: 0,
        stamp: Epoch::FIRST,
        operation,
        payload: bytes::Bytes::copy_from_slice(payload),
    }
}

pub(super) fn delete(operation: u64) -> Delete {
    Delete { floor: HOUR, absolute: 24 * HOUR, upsertable: false, stamp: Epoch::FIRST, operation }
}
