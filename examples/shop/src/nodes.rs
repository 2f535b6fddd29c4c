//! The servers that hold the sessions.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sessionring_testkit::{RedisServer, find_server};
use tokio::task::spawn_blocking;

use crate::{Result, app::NamedNode};

/// The nodes: servers of our own, on free ports and in temporary folders, or nodes in the memory of this process. Every
/// server ends, and its folder goes, when it is dropped or this process ends, however it does.
pub(crate) struct Nodes {
    is_memory: bool,
    nodes: Mutex<BTreeMap<String, Node>>,
    /// Those there ever were: no name is used twice.
    count: Mutex<usize>,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) address: String,
    /// `None`: in memory.
    server: Option<Arc<RedisServer>>,
}

impl Node {
    /// Whether its server could be killed, or started again. `None`: it has none.
    pub(crate) fn runs(&self) -> Option<bool> {
        self.server.as_ref().map(|server| server.pid().is_some())
    }
}

impl Nodes {
    pub(crate) async fn start(count: u8, in_memory: bool) -> Result<Nodes> {
        let is_memory = in_memory || find_server().is_none();
        if is_memory && !in_memory {
            eprintln!(
                "no Redis or Valkey server program was found: the nodes are in memory (`make server` installs one, \
                 REDIS_SERVER=/path/to/redis-server names one)"
            );
        }
        let nodes = Nodes { is_memory, nodes: Mutex::default(), count: Mutex::new(0) };
        for _ in 0..count {
            nodes.add().await?;
        }
        Ok(nodes)
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.is_memory
    }

    pub(crate) fn kind(&self) -> &'static str {
        if self.is_memory { "nodes in the memory of this process" } else { "Redis servers" }
    }

    pub(crate) fn list(&self) -> Vec<NamedNode> {
        let nodes = self.nodes();
        let named = nodes.iter().map(|(name, node)| NamedNode::new(name, &node.address));
        named.collect()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Node> {
        self.nodes().clone()
    }

    /// One more.
    pub(crate) async fn add(&self) -> Result<NamedNode> {
        let name = self.next_name();
        let node = if self.is_memory {
            // By its name all who use it in this process find the same one.
            Node { address: format!("memory:shop-{}-{name}", std::process::id()), server: None }
        } else {
            let server = spawn_blocking(|| durable().start()).await??;
            Node { address: server.address(), server: Some(Arc::new(server)) }
        };
        let named = NamedNode::new(&name, &node.address);
        self.nodes().insert(name, node);
        Ok(named)
    }

    /// SIGKILL, which it cannot prepare for.
    pub(crate) async fn kill(&self, name: &str) -> Result<()> {
        let server = self.server(name)?;
        Ok(spawn_blocking(move || server.kill()).await??)
    }

    /// On the same port, with what its file holds.
    pub(crate) async fn start_again(&self, name: &str) -> Result<()> {
        let server = self.server(name)?;
        if server.pid().is_some() {
            return Err(format!("{name} is running").into());
        }
        Ok(spawn_blocking(move || server.restart()).await??)
    }

    pub(crate) async fn switch_off(&self, name: &str) {
        let node = self.nodes().remove(name);
        // It waits for the end of the process.
        let _ = spawn_blocking(move || drop(node)).await;
    }

    fn server(&self, name: &str) -> Result<Arc<RedisServer>> {
        let node = self.nodes().get(name).cloned();
        node.and_then(|node| node.server).ok_or_else(|| format!("there is no server {name}").into())
    }

    /// a, b, …, z, n27, n28, …
    fn next_name(&self) -> String {
        let mut count = lock(&self.count);
        *count += 1;
        match ('a'..='z').nth(*count - 1) {
            Some(letter) => letter.into(),
            None => format!("n{count}"),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        lock(&self.nodes)
    }
}

/// Every write is in the file before it is answered, so that a server which is killed comes back with all of it.
fn durable() -> sessionring_testkit::RedisServerBuilder {
    RedisServer::builder().config("appendonly", "yes").config("appendfsync", "always")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
