//! What is counted per request and per batch, by the facade `metrics`. A handle is registered with the recorder once, when it
//! is first used, and knows its place from then on.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::operation::{Asked, Came};
use crate::{
    error::Error,
    protocol::{Command, Outcome},
    ring::NodeId,
};

/// The meters of one ring.
#[derive(Clone)]
pub(crate) struct Meters(Arc<Ring>);

struct Ring {
    name: String,
    operations: [Operation; Asked::COUNT],
}

#[derive(Default)]
struct Operation {
    outcomes: [OnceLock<Counter>; Came::COUNT],
    seconds: OnceLock<Histogram>,
}

/// The meters of one node's queue; none for a queue that no requests wait in.
#[derive(Clone)]
pub(crate) struct NodeMeters(Option<Arc<Queue>>);

struct Queue {
    ring: String,
    node: String,
    reads: OnceLock<Histogram>,
    scripts: OnceLock<Histogram>,
    waiting: OnceLock<Gauge>,
}

/// When a request began.
#[derive(Clone, Copy)]
pub(crate) struct Began(Instant);

/// How many requests came to what. Those that are submitted together are nearly always alike.
pub(crate) struct Tally(Vec<(Asked, Came, u64)>);

impl Tally {
    pub(crate) fn add(&mut self, command: &Command, result: &Result<Outcome, Error>) {
        let (asked, came) = (Asked::of(command), Came::of(result));
        match self.0.iter_mut().find(|counted| (counted.0, counted.1) == (asked, came)) {
            Some((.., count)) => *count += 1,
            None => self.0.push((asked, came, 1)),
        }
    }
}

impl Meters {
    pub(crate) fn new(ring: &str) -> Meters {
        describe();
        Meters(Arc::new(Ring { name: ring.to_owned(), operations: Default::default() }))
    }

    pub(crate) fn node(&self, node: &NodeId) -> NodeMeters {
        NodeMeters(Some(Arc::new(Queue {
            ring: self.0.name.clone(),
            node: node.to_string(),
            reads: OnceLock::new(),
            scripts: OnceLock::new(),
            waiting: OnceLock::new(),
        })))
    }

    pub(crate) fn begin(&self) -> Began {
        Began(Instant::now())
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally(Vec::new())
    }

    pub(crate) fn ended(&self, began: Began, asked: Asked, result: &Result<Outcome, Error>) {
        self.count(asked, Came::of(result), 1);
        self.took(asked, began);
    }

    /// The same of requests that were submitted together, in a time that they had together.
    pub(crate) fn all_ended<K>(&self, began: Began, commands: &[(K, Command)], Tally(counts): &Tally) {
        counts.iter().for_each(|(asked, came, count)| self.count(*asked, *came, *count));
        if let Some((_, first)) = commands.first() {
            self.took(Asked::of(first), began);
        }
    }

    fn count(&self, asked: Asked, came: Came, by: u64) {
        let counter = self.0.operations[asked as usize].outcomes[came as usize].get_or_init(|| {
            let (operation, outcome) = (asked.name(), came.name());
            counter!("sessionring_requests_total", "ring" => self.0.name.clone(), "operation" => operation, "outcome" => outcome)
        });
        counter.increment(by);
    }

    fn took(&self, asked: Asked, began: Began) {
        let seconds = self.0.operations[asked as usize].seconds.get_or_init(|| {
            histogram!("sessionring_request_seconds", "ring" => self.0.name.clone(), "operation" => asked.name())
        });
        seconds.record(began.0.elapsed());
    }
}

impl NodeMeters {
    pub(crate) fn none() -> NodeMeters {
        NodeMeters(None)
    }

    /// Batches of these lanes and of so many requests each were sent, and so many requests wait still.
    pub(crate) fn departed(&self, batches: impl Iterator<Item = (&'static str, usize)>, waiting: usize) {
        let Some(queue) = &self.0 else { return };
        for (lane, requests) in batches {
            let histogram = if lane == "scripts" { &queue.scripts } else { &queue.reads };
            let histogram = histogram.get_or_init(|| {
                histogram!("sessionring_batch_requests", "ring" => queue.ring.clone(), "node" => queue.node.clone(), "lane" => lane)
            });
            histogram.record(requests as f64);
        }
        let gauge = queue.waiting.get_or_init(
            || gauge!("sessionring_queue_requests", "ring" => queue.ring.clone(), "node" => queue.node.clone()),
        );
        gauge.set(waiting as f64);
    }
}

/// What the metrics mean, for exporters that say so.
fn describe() {
    describe_counter!(
        "sessionring_requests_total",
        Unit::Count,
        "Requests that were answered or have failed"
    );
    describe_histogram!(
        "sessionring_request_seconds",
        Unit::Seconds,
        "From a request's submission to its answer"
    );
    describe_histogram!(
        "sessionring_batch_requests",
        Unit::Count,
        "Requests in a command that was sent to a node"
    );
    describe_gauge!(
        "sessionring_queue_requests",
        Unit::Count,
        "Requests that waited for a node when a batch last left"
    );
    describe_gauge!("sessionring_sessions", Unit::Count, "Live sessions, as last counted or estimated here");
    describe_gauge!("sessionring_node_up", Unit::Count, "1: requests go to the node, 0: they fail at once");
    describe_counter!(
        "sessionring_breaker_trips_total",
        Unit::Count,
        "How often requests to a node began to fail at once"
    );
    describe_counter!("sessionring_connects_total", Unit::Count, "Attempts to connect, by how they ended");
    describe_counter!(
        "sessionring_stale_refusals_total",
        Unit::Count,
        "Requests refused because the node obeyed another topology"
    );
    describe_gauge!(
        "sessionring_epoch",
        Unit::Count,
        "The number of the topology that this application obeys"
    );
    describe_gauge!("sessionring_resizing", Unit::Count, "1 while sessions move between nodes");
    describe_counter!(
        "sessionring_resize_moved_sessions_total",
        Unit::Count,
        "Sessions and log-outs that this application has moved"
    );
    describe_counter!(
        "sessionring_resize_moved_bytes_total",
        Unit::Bytes,
        "Bytes of the sessions that it has sent to new owners"
    );
    describe_gauge!("sessionring_resize_left_sessions", Unit::Count, "About how many it has still to move");
    describe_counter!(
        "sessionring_readmissions_total",
        Unit::Count,
        "Nodes taken up again after they lost their memory"
    );
    describe_counter!("sessionring_unreadable_total", Unit::Count, "Sessions that could not be read, by why");
    describe_counter!(
        "sessionring_node_warnings_total",
        Unit::Count,
        "Clocks and settings that endanger sessions, each time they were seen"
    );
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").field("ring", &self.0.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeMeters")
            .field("node", &self.0.as_ref().map(|queue| &queue.node))
            .finish_non_exhaustive()
    }
}
