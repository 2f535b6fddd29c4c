//! What has to be reached, as data. Ratios are ours to theirs; throughput unless the name says otherwise.

use crate::{stores::Name, workload::Workload};

/// One line of the goal table.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) bound: Bound,
    pub(crate) measure: Measure,
}

/// When a goal is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// What the rival has in the same run.
    NoMoreThanTheirs,
}

impl Bound {
    /// Without what the rival has.
    pub(crate) fn text(self) -> String {
        match self {
            Bound::AtLeast(least) => format!(">= {least}"),
            Bound::AtMost(most) => format!("<= {most}"),
            Bound::NoMoreThanTheirs => "<= theirs".into(),
        }
    }
}

/// How a value is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Measure {
    /// Both sides do the same workload.
    Requests {
        workload: Workload,
        rival: Name,
        rival_nodes: usize,
        in_flight: usize,
        of: Quantity,
        /// What gathers requests and does next to nothing else, in the same rounds: how much can be reached.
        ceiling: Option<Name>,
    },
    /// Throughput of our own sealed sessions to unsealed ones.
    Sealing { workload: Workload, in_flight: usize },
    /// Processor time of the servers for each operation, to plain redis-rs.
    ServerCpu { workload: Workload, in_flight: usize },
    /// Nanoseconds for each lookup.
    Lookup { ring: Placement, rival: LookupRival },
    /// Milliseconds to build a hashed ring of 1,000 × 160.
    Build,
    /// `MEMORY USAGE` beyond the payload, to tower-sessions-redis-store.
    RecordBytes,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Quantity {
    Throughput,
    /// A percentile.
    Latency(f64),
}

/// Rings of 1,000 nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// 160 virtual nodes each.
    Hashed,
    Balanced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupRival {
    /// Bare xxh3 and one table read: less than that does not depend on the key.
    TableRead,
    /// The crate, 1,000 × 160. The ratio is theirs to ours: how much faster we are.
    HashRing,
}

/// Bytes of a value in the goal table.
pub(crate) const SIZE: usize = 300;
/// Nodes in the goal table.
pub(crate) const NODES: usize = 3;

const fn requests(
    name: &'static str,
    title: &'static str,
    bound: Bound,
    (workload, rival, in_flight): (Workload, Name, usize),
) -> Goal {
    let of = Quantity::Throughput;
    let ceiling = match (workload, rival) {
        (Get, Multiplexed) => Some(Coalesced),
        (Set | Mix, Multiplexed) => Some(Versioned),
        _ => None,
    };
    Goal {
        name,
        title,
        bound,
        measure: Measure::Requests { workload, rival, rival_nodes: NODES, in_flight, of, ceiling },
    }
}

use Bound::{AtLeast, AtMost, NoMoreThanTheirs};
use Name::{Cluster, Coalesced, Multiplexed, Twemproxy, Versioned};
use Workload::{Get, GetMany, Mix, Set, Visit};

pub(crate) const GOALS: [Goal; 25] = [
    requests("get-1", "get to GET, 1 in flight", AtLeast(0.97), (Get, Multiplexed, 1)),
    requests("get-32", "get to GET, 32 in flight", AtLeast(1.4), (Get, Multiplexed, 32)),
    requests("get-256", "get to GET, 256 in flight", AtLeast(2.0), (Get, Multiplexed, 256)),
    requests("get-1024", "get to GET, 1,024 in flight", AtLeast(2.3), (Get, Multiplexed, 1024)),
    requests("set-1", "set to SET PX, 1 in flight", AtLeast(0.85), (Set, Multiplexed, 1)),
    requests("set-32", "set to SET PX, 32 in flight", AtLeast(0.95), (Set, Multiplexed, 32)),
    requests("set-256", "set to SET PX, 256 in flight", AtLeast(1.0), (Set, Multiplexed, 256)),
    requests("set-1024", "set to SET PX, 1,024 in flight", AtLeast(0.9), (Set, Multiplexed, 1024)),
    requests("visit-256", "visit to GETEX, 256 in flight", AtLeast(1.2), (Visit, Multiplexed, 256)),
    requests(
        "mix-256",
        "90 % get, 10 % set to GET, SET PX, 256 in flight",
        AtLeast(1.6),
        (Mix, Multiplexed, 256),
    ),
    requests("cluster-get-256", "get to cluster_async, 256 in flight", AtLeast(3.0), (Get, Cluster, 256)),
    requests("cluster-get-1024", "get to cluster_async, 1,024 in flight", AtLeast(5.0), (Get, Cluster, 1024)),
    requests("twemproxy-get-256", "get to twemproxy, 256 in flight", AtLeast(2.0), (Get, Twemproxy, 256)),
    Goal {
        name: "twemproxy-p50-1",
        title: "p50 of get to twemproxy, 1 in flight",
        bound: AtMost(0.6),
        measure: Measure::Requests {
            workload: Get,
            rival: Twemproxy,
            rival_nodes: NODES,
            in_flight: 1,
            of: Quantity::Latency(50.0),
            ceiling: None,
        },
    },
    Goal {
        name: "get-many-1000",
        title: "get_many(1000) on three nodes to MGET of 1,000 on one, 1 in flight",
        bound: AtLeast(1.2),
        measure: Measure::Requests {
            workload: GetMany(1000),
            rival: Multiplexed,
            rival_nodes: 1,
            in_flight: 1,
            of: Quantity::Throughput,
            ceiling: None,
        },
    },
    Goal {
        name: "get-p99-32",
        title: "p99 of get to GET, 32 in flight",
        bound: AtMost(1.0),
        measure: Measure::Requests {
            workload: Get,
            rival: Multiplexed,
            rival_nodes: NODES,
            in_flight: 32,
            of: Quantity::Latency(99.0),
            ceiling: None,
        },
    },
    Goal {
        name: "sealed-get-256",
        title: "sealed get to unsealed get, 256 in flight",
        bound: AtLeast(0.75),
        measure: Measure::Sealing { workload: Get, in_flight: 256 },
    },
    Goal {
        name: "sealed-set-256",
        title: "sealed set to unsealed set, 256 in flight",
        bound: AtLeast(0.75),
        measure: Measure::Sealing { workload: Set, in_flight: 256 },
    },
    Goal {
        name: "cpu-get-256",
        title: "server CPU per get to GET, 256 in flight",
        bound: AtMost(0.8),
        measure: Measure::ServerCpu { workload: Get, in_flight: 256 },
    },
    Goal {
        name: "cpu-set-256",
        title: "server CPU per set to SET PX, 256 in flight",
        bound: AtMost(2.0),
        measure: Measure::ServerCpu { workload: Set, in_flight: 256 },
    },
    Goal {
        name: "lookup-hashed",
        title: "lookup in 1,000 x 160 to bare xxh3 and one table read",
        bound: AtMost(3.0),
        measure: Measure::Lookup { ring: Placement::Hashed, rival: LookupRival::TableRead },
    },
    Goal {
        name: "lookup-balanced",
        title: "lookup in balanced 1,000 to bare xxh3 and one table read",
        bound: AtMost(1.3),
        measure: Measure::Lookup { ring: Placement::Balanced, rival: LookupRival::TableRead },
    },
    Goal {
        name: "lookup-hashring",
        title: "lookup in 1,000 x 160, times faster than hashring",
        bound: AtLeast(8.0),
        measure: Measure::Lookup { ring: Placement::Hashed, rival: LookupRival::HashRing },
    },
    Goal {
        name: "ring-build",
        title: "a ring of 1,000 x 160 built, ms",
        bound: AtMost(10.0),
        measure: Measure::Build,
    },
    Goal {
        name: "record-bytes",
        title: "bytes in Redis beyond the payload, to tower-sessions-redis-store",
        bound: NoMoreThanTheirs,
        measure: Measure::RecordBytes,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different() {
        let mut names: Vec<_> = GOALS.iter().map(|goal| goal.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), GOALS.len());
    }
}
