//! The default store on in-memory nodes and on real servers.

mod decision;
mod founding;
mod loading;
mod readmission;

use std::{sync::Arc, time::Duration};

use sessionring_testkit::RedisServer;

use super::*;
use crate::{
    node::{Address, Clocks, ControlNode, Directory},
    protocol::{Control, ControlReply, Standing},
    ring::{Member, Ring, Weight},
    topology::{Change, Edit, Policy},
};

pub(super) const RING: &str = "stored";

pub(super) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(super) fn ring_of(names: &[&str]) -> Ring {
    Ring::hashed(names.iter().map(|name| Member::new(id(name), Weight::ONE)), 4).unwrap()
}

/// A random name that no other test has.
pub(super) fn fresh() -> String {
    Address::parse("memory:").unwrap().named().unwrap().without_credentials()
}

/// A store that was given these nodes, and waits for a node as long as `wait`.
pub(super) fn patient_store(nodes: &[(&str, &str)], wait: Duration) -> NodeStore {
    let contacts = nodes.iter().map(|(name, address)| (id(name), Address::parse(address).unwrap())).collect();
    let clocks = Clocks::new(Duration::from_secs(2));
    let directory = Directory::new(RING, contacts, clocks, false, wait).unwrap();
    NodeStore::new(Arc::new(directory), Duration::from_secs(20))
}

pub(super) fn store(nodes: &[(&str, &str)]) -> NodeStore {
    patient_store(nodes, Duration::from_secs(5))
}

/// Nodes called a, b, c… and what they run on.
pub(super) struct Nodes {
    pub(super) servers: Vec<RedisServer>,
    pub(super) addresses: Vec<String>,
    /// In-memory nodes live as long as this.
    _held: Option<NodeStore>,
}

pub(super) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Nodes {
    pub(super) fn memory(count: usize) -> Nodes {
        let addresses: Vec<_> = (0..count).map(|_| fresh()).collect();
        let held = store(&NAMES.into_iter().zip(addresses.iter().map(String::as_str)).collect::<Vec<_>>());
        Nodes { servers: Vec::new(), addresses, _held: Some(held) }
    }

    pub(super) fn redis(count: usize) -> Nodes {
        let start = || RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
        let servers: Vec<_> = (0..count).map(|_| start()).collect();
        let addresses = servers.iter().map(RedisServer::address).collect();
        Nodes { servers, addresses, _held: None }
    }

    /// One of each kind.
    pub(super) fn both(count: usize) -> [Nodes; 2] {
        [Nodes::memory(count), Nodes::redis(count)]
    }

    pub(super) fn address(&self, name: &str) -> &str {
        &self.addresses[NAMES.iter().position(|n| *n == name).unwrap()]
    }

    pub(super) fn store(&self, names: &[&str]) -> NodeStore {
        store(&names.iter().map(|name| (*name, self.address(name))).collect::<Vec<_>>())
    }

    pub(super) async fn found(&self, names: &[&str]) -> Document {
        self.store(names).found(Policy::Trust, &ring_of(names)).await.unwrap()
    }

    pub(super) fn node(&self, name: &str) -> std::sync::Arc<ControlNode> {
        self.store(&[]).node(&id(name), self.address(name)).unwrap()
    }

    /// The node loses its memory.
    pub(super) fn wipe(&self, name: &str) {
        match self.address(name).strip_prefix("memory:") {
            Some(name) => crate::node::MemoryServer::named(name).restart(false),
            None => {
                let at = NAMES.iter().position(|n| *n == name).unwrap();
                self.servers[at].command(&["FLUSHALL"]).unwrap();
            }
        }
    }

    pub(super) async fn standing(&self, name: &str) -> Standing {
        match self.node(name).call(Control::Look).await.unwrap() {
            ControlReply::Standing(standing) => standing,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn obeys(&self, name: &str, document: &Document) -> bool {
        self.standing(name).await.obeys(&document.fence())
    }
}

/// An address where nobody listens.
pub(super) fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("redis://{}", listener.local_addr().unwrap())
}

pub(super) fn reweighted(base: &Document, name: &str, weight: u32) -> Document {
    let edit = Edit::Reweight { id: id(name), weight: Weight::new(weight) };
    base.next(&Change::Resize(vec![edit])).unwrap()
}

/// The document that moves a node to another address, which changes nothing else.
pub(super) fn moved(base: &Document, name: &str, address: &str) -> Document {
    base.next(&Change::Move { node: id(name), address: address.to_owned() }).unwrap()
}
