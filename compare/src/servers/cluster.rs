//! A real Redis Cluster without replicas: slots assigned, nodes introduced to each other.

use std::{
    thread,
    time::{Duration, Instant},
};

use sessionring_testkit::{RedisServer, Reply};

use crate::Result;

const SLOTS: usize = 16_384;
/// How long the nodes may take to agree.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn start(nodes: usize) -> Result<Vec<RedisServer>> {
    let started: Result<Vec<_>, _> = (0..nodes).map(|_| RedisServer::builder().cluster().start()).collect();
    let servers = started?;
    for (i, server) in servers.iter().enumerate() {
        let (first, last) = (i * SLOTS / nodes, (i + 1) * SLOTS / nodes - 1);
        // Different epochs from the start spare them the settling of equal ones.
        server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()])?;
        server.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
    }
    let Some((first, others)) = servers.split_first() else { return Ok(servers) };
    for other in others {
        first.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()])?;
    }
    let deadline = Instant::now() + PATIENCE;
    while !servers
        .iter()
        .map(|server| agrees(server, nodes))
        .collect::<Result<Vec<_>>>()?
        .iter()
        .all(|&ok| ok)
    {
        if Instant::now() > deadline {
            return Err("the nodes of the Redis Cluster did not agree".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(servers)
}

/// Whether this node knows all others and who holds every slot.
fn agrees(server: &RedisServer, nodes: usize) -> Result<bool> {
    let info = server.command(&["CLUSTER", "INFO"])?.text().unwrap_or_default();
    let has = |line: &str| info.lines().any(|found| found == line);
    let ranges = match server.command(&["CLUSTER", "SLOTS"])? {
        Reply::Array(ranges) => ranges.len(),
        _ => 0,
    };
    Ok(has("cluster_state:ok") && has(&format!("cluster_known_nodes:{nodes}")) && ranges == nodes)
}
