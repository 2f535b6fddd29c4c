//! What is started for a run: all of it on free loopback ports, in temporary folders, ended with the process.

mod cluster;
mod figures;
mod twemproxy;

use sessionring_testkit::RedisServer;

pub(crate) use self::{
    figures::{command_statistics, cpu_seconds},
    twemproxy::Twemproxy,
};
use crate::Result;

/// A set of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Servers {
    /// So many plain nodes.
    Plain(usize),
    /// A Redis Cluster of three nodes.
    Cluster,
    /// Twemproxy in front of the three plain nodes.
    Twemproxy,
}

/// Starts plain nodes.
pub(crate) fn start_plain(nodes: usize) -> Result<Vec<RedisServer>> {
    (0..nodes).map(|_| Ok(RedisServer::start()?)).collect()
}

/// Starts a Redis Cluster.
pub(crate) fn start_cluster() -> Result<Vec<RedisServer>> {
    cluster::start(3)
}
