//! One node: a queue in front of a task that sends everything waiting as one batch.
//!
//! - [`Node`]: the handle that clients hold; submitting never blocks
//! - `queue`: what waits, and how much may wait
//! - `dispatcher`: the task, generic over a [`Transport`]; knows the connection and deadlines, but no Redis
//! - `flight`: what travels together, from the queue to the answers
//! - `backoff`, `admission`, `clocks`: when to connect again, whether the node belongs to the ring, whether its clock
//!   agrees
//! - `memory`: the in-memory node, which executes `protocol::apply` itself
//! - `redis`: the real node; the only place that names the driver
//!
//! ```text
//!  submit ─► queue ─► dispatcher ─► link: MGET fence seq k1 k2 …      (reads, one batch in flight)
//!                         │     └─► link: EVALSHA batch.lua fence …   (everything else, one batch in flight)
//!                         └─ reconnects, fails what waits past its deadline
//! ```

mod address;
mod admission;
mod any;
mod backoff;
mod clocks;
mod dispatcher;
mod flight;
mod memory;
mod queue;
mod quiet;
mod redis;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use self::queue::{Group, Inbox, Job, Load, Reply, Waiting};
pub(crate) use self::{
    address::Address,
    admission::{admit, check},
    any::AnyTransport,
    clocks::{Clocks, Reading},
    dispatcher::Dispatcher,
    memory::{MemoryServer, MemoryTransport},
    queue::Request,
    redis::{RedisTransport, raw},
};
use crate::{
    error::{Error, ErrorKind},
    protocol::Outcome,
    ring::NodeId,
    topology::Fence,
};

/// Why a request has no outcome.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The node did not execute it and never will.
    Unsent(Error),
    /// It was sent; whether the node executed it, or still will, is unknown.
    Lost(Error),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::Unsent(error) | Failure::Lost(error) => error,
        }
    }
}

pub(crate) type Answer = Result<Outcome, Failure>;

/// Times and bounds of one node's queue.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// How long a connection attempt may take, handshake included.
    pub(crate) connect_timeout: Duration,
    /// Requests that may wait.
    pub(crate) queue_requests: usize,
    /// Bytes of payload that may wait.
    pub(crate) queue_bytes: usize,
    /// Reads in one command.
    pub(crate) read_batch: usize,
    /// Operations in one script call: it holds the node for about 4 µs each.
    pub(crate) script_batch: usize,
    /// Payload bytes in one script call.
    pub(crate) script_bytes: usize,
    /// Commands sent together in one flight.
    pub(crate) flight_batches: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect_timeout: Duration::from_secs(1),
            queue_requests: 1 << 16,
            queue_bytes: 64 << 20,
            read_batch: 1024,
            script_batch: 128,
            script_bytes: 512 << 10,
            flight_batches: 8,
        }
    }
}

/// A way to a node.
pub(crate) trait Transport: Clone + Send + 'static {
    type Link: Link;

    /// Opens a connection and checks that the right node is behind it. The caller bounds the time.
    fn connect(self) -> impl Future<Output = Result<Connection<Self::Link>, Error>> + Send;
}

/// Runs a connection: nothing moves on it unless this is polled. Returns when the connection is gone.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An open connection. It belongs to the one task that polls it, so that a request and its answer pass through no other.
pub(crate) struct Connection<L> {
    pub(crate) link: L,
    /// What the node said of itself.
    pub(crate) hello: Hello,
    pub(crate) driver: Driver,
}

/// Runs a connection until `work`, which is done over it, is done.
pub(crate) async fn run<T>(driver: &mut Driver, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = &mut *driver => {
            // Whoever polls it next is to see the end, too.
            *driver = Box::pin(std::future::ready(()));
            work.await
        }
    }
}

/// What a node says of itself when it is connected to.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) standing: Standing,
    /// The node's clock.
    pub(crate) reading: Reading,
}

/// Whose database it is, and what it obeys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// The name of the node that the database belongs to, if it belongs to one.
    pub(crate) owner: Option<String>,
    /// The stored fence, if there is one.
    pub(crate) fence: Option<Vec<u8>>,
}

/// A connection to a node.
pub(crate) trait Link: Clone + Send + Sync + 'static {
    /// Batches as they are sent.
    type Parcel: Send + 'static;

    fn pack(&self, batches: &[Batch<'_>]) -> Self::Parcel;

    /// Sends batches, all in one round trip; one reply each, in order.
    fn exchange(self, parcel: Self::Parcel) -> impl Future<Output = Vec<BatchReply>> + Send;

    /// Gives the database to this node and sets its fence, where it has neither; answers what stands there then.
    fn initialise(self, fence: Fence) -> impl Future<Output = Result<Standing, Error>> + Send;
}

/// Requests that travel as one command: either reads only, or anything but reads.
pub(crate) struct Batch<'a> {
    pub(crate) reads: bool,
    pub(crate) fence: &'a Fence,
    pub(crate) requests: &'a [Waiting],
}

/// What came of a batch.
pub(crate) enum BatchReply {
    /// One answer for each request.
    Done(Vec<Answer>),
    /// The same, and the connection is of no use any more.
    Last(Vec<Answer>, Error),
    /// The node holds another fence; nothing was executed.
    Refused(Option<Vec<u8>>),
    /// The node answered with an error for the batch as a whole.
    Failed(Failure),
    /// The connection is of no use any more.
    Broken(Failure),
    /// The connection was gone before anything was sent.
    Closed(Error),
}

/// The handle of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    id: NodeId,
    inbox: mpsc::UnboundedSender<Job>,
    load: Load,
    ended: watch::Receiver<()>,
}

impl Node {
    /// The handle, and the receiving end for its dispatcher.
    pub(crate) fn new(id: NodeId, limits: &Limits) -> (Node, Inbox) {
        let (inbox, jobs) = mpsc::unbounded_channel();
        let (outbox, ended) = Inbox::new(jobs);
        (Node { id, inbox, load: Load::new(limits), ended }, outbox)
    }

    pub(crate) fn id(&self) -> &NodeId {
        &self.id
    }

    /// Queues one request. Dropping the future cancels the waiting, not the request.
    pub(crate) fn submit(&self, request: Request) -> impl Future<Output = Answer> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue(1, request.weight(), Job::One(Waiting::new(request, Reply::One(reply))));
        let id = self.id.clone();
        async move {
            queued?;
            answer.await.unwrap_or_else(|_| Err(Failure::Lost(ended(&id))))
        }
    }

    /// Queues many requests, to be answered together.
    pub(crate) fn submit_many(
        &self,
        requests: Vec<Request>,
    ) -> impl Future<Output = Vec<Answer>> + Send + use<> {
        let count = requests.len();
        let weight = requests.iter().map(Request::weight).sum();
        let (group, answers) = Group::new(count);
        let waiting = requests.into_iter().enumerate();
        let waiting =
            waiting.map(|(i, request)| Waiting::new(request, Reply::Part(group.clone(), i))).collect();
        let queued = self.queue(count, weight, Job::Many(waiting));
        let id = self.id.clone();
        async move {
            match queued {
                Err(failure) => vec![Err(failure); count],
                Ok(()) if count == 0 => Vec::new(),
                Ok(()) => answers.await.unwrap_or_else(|_| vec![Err(Failure::Lost(ended(&id))); count]),
            }
        }
    }

    /// Takes nothing more, lets everything queued finish, then ends the dispatcher.
    pub(crate) fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        // Where the dispatcher is closing or has ended already, it takes no more jobs.
        let _ = self.inbox.send(Job::Close);
        let mut ended = self.ended.clone();
        async move {
            let _ = ended.changed().await;
        }
    }

    fn queue(&self, requests: usize, bytes: usize, job: Job) -> Result<(), Failure> {
        if let Err(waiting) = self.load.add(requests, bytes) {
            return Err(Failure::Unsent(Error::at(
                ErrorKind::Overloaded,
                &self.id,
                format!(
                    "{waiting} requests wait already, {requests} more (with {bytes} bytes of sessions) would pass \
                     the limit; nothing was sent; shed load, or raise queue_limit"
                ),
            )));
        }
        self.inbox.send(job).map_err(|_| {
            self.load.subtract(requests, bytes);
            Failure::Unsent(ended(&self.id))
        })
    }
}

fn ended(id: &NodeId) -> Error {
    Error::at(
        ErrorKind::Closed,
        id,
        "the ring was closed, or the runtime in which it was connected has ended; connect again",
    )
}
