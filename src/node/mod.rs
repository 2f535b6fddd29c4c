//! One node: a queue in front of a task that sends everything waiting as one batch.
//!
//! - [`Node`]: the handle that clients hold; submitting never blocks
//! - `queue`: what waits, and how much may wait
//! - `dispatcher`: the task, generic over a [`Transport`]; knows the connection and deadlines, but no Redis
//! - `flight`: what travels together, from the queue to the answers
//! - `breaker`, `condition`: whether the node is asked at all, and how it looks from outside
//! - `backoff`, `admission`, `clocks`: when to connect again, whether the node belongs to the ring, whether its clock
//!   agrees
//! - `access`, `credentials`, `tls`: who we are at the nodes, and how they prove who they are
//! - `control`: connections of the control plane, and how to reach nodes
//! - `memory`: the in-memory node, which executes `protocol::apply` itself
//! - `redis`: the real node; the only place that names the driver
//!
//! ```text
//!  submit ─► queue ─► dispatcher ─► link: MGET fence seq k1 k2 … (reads), EVALSHA batch.lua fence … (everything else),
//!                         │           all that waits in one go, one flight at a time
//!                         └─ reconnects, fails what waits past its deadline
//! ```

mod access;
mod address;
mod admission;
mod any;
mod backoff;
mod breaker;
mod clocks;
mod condition;
mod control;
mod credentials;
mod dispatcher;
mod flight;
mod gate;
mod memory;
mod probe;
mod queue;
mod quiet;
mod redis;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod tls;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

#[cfg(test)]
pub(crate) use self::memory::Contents;
use self::queue::{Group, Inbox, Queue, Rejected, Reply, Waiting};
#[cfg(feature = "tls")]
pub use self::tls::Tls;
#[cfg(not(feature = "tls"))]
pub(crate) use self::tls::Tls;
pub(crate) use self::{
    access::Access,
    address::Address,
    admission::{check_owner, refused},
    any::AnyTransport,
    backoff::about,
    clocks::{Clocks, Reading},
    condition::{Condition, News},
    control::{ControlNode, Directory, Greeting},
    dispatcher::Dispatcher,
    gate::Gate,
    memory::{MemoryServer, MemoryTransport},
    queue::Request,
    redis::{RedisTransport, raw},
    tls::explain,
};
pub use self::{
    condition::{NodeHealth, NodeState},
    credentials::Credentials,
};
use crate::{
    error::{Error, ErrorKind},
    protocol::{Control, ControlReply, Outcome, Standing},
    record::Key,
    ring::NodeId,
    topology::Fence,
};

/// Why a request has no outcome.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The node did not execute it and never will.
    Unsent(Error),
    /// The node did not execute it, because it obeys another fence, or none.
    Refused(Arc<Refusal>),
    /// It was sent; whether the node executed it, or still will, is unknown.
    Lost(Error),
}

/// What a node stores in the place of the fence that a request carried.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) node: NodeId,
    pub(crate) stored: Option<Vec<u8>>,
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::Unsent(error) | Failure::Lost(error) => error,
            Failure::Refused(_) => Error::new(ErrorKind::Unavailable, "the node obeys another topology"),
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
    /// Bytes of records that one command may ask for, as far as that can be foretold: so many hold the node for about
    /// half a millisecond, and a flight of them is what a client takes in at once.
    pub(crate) read_bytes: usize,
    /// Operations in one script call: it holds the node for about 5 µs each, and is to hold it for half a millisecond.
    pub(crate) script_batch: usize,
    /// Payload bytes in one script call.
    pub(crate) script_bytes: usize,
    /// Commands of each kind sent together in one flight.
    pub(crate) flight_batches: usize,
    /// How often an open connection is looked at: is this still the primary, is there a newer topology?
    pub(crate) probe_interval: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect_timeout: Duration::from_secs(1),
            queue_requests: 1 << 16,
            queue_bytes: 64 << 20,
            read_batch: 1024,
            read_bytes: 1 << 20,
            script_batch: 96,
            script_bytes: 512 << 10,
            flight_batches: 8,
            probe_interval: Duration::from_secs(5),
        }
    }
}

/// A way to a node.
pub(crate) trait Transport: Clone + Send + 'static {
    type Link: Link;

    /// Opens a connection and checks that the right node is behind it. The caller bounds the time.
    fn connect(self) -> impl Future<Output = Result<Connection<Self::Link>, Error>> + Send;

    /// Returns when the node has moved to another server, if it is of a kind that does: an attempt that has failed is worth
    /// another one at once.
    fn moved(self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
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
    /// Names the running server: another one after a restart or a promotion.
    pub(crate) process: u64,
    /// The version of the server, if it is one.
    pub(crate) version: Option<String>,
    /// The node's clock.
    pub(crate) reading: Reading,
}

/// What is seen of a node when an open connection is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// What is stored as the fence.
    pub(crate) fence: Option<Vec<u8>>,
    /// The node's clock.
    pub(crate) reading: Reading,
}

/// A connection to a node.
pub(crate) trait Link: Clone + Send + Sync + 'static {
    /// Batches as they are sent.
    type Parcel: Send + 'static;

    fn pack(&self, batches: &[Batch<'_>]) -> Self::Parcel;

    /// Sends batches, all in one round trip; one reply each, in order.
    fn exchange(self, parcel: Self::Parcel) -> impl Future<Output = Vec<BatchReply>> + Send;

    /// Looks whether the server is still fit to hold sessions. An error: the connection is of no use.
    fn probe(self) -> impl Future<Output = Result<Look, Error>> + Send;

    /// Executes a command of the control plane.
    fn control(self, control: Control) -> impl Future<Output = Result<ControlReply, Failure>> + Send;

    /// Asks what the node holds.
    fn survey(self, survey: Survey) -> impl Future<Output = Result<Surveyed, Failure>> + Send;
}

/// A question about the records of a node.
#[derive(Debug, Clone)]
pub(crate) enum Survey {
    /// The next part of the keys that begin with `prefix`, after a cursor (0: from the beginning), about `count` keys of
    /// the database.
    Scan { prefix: Vec<u8>, cursor: u64, count: usize },
    /// How many bytes each of these records has; 0 for one that is gone.
    Weigh(Vec<Key>),
    /// How many keys the database has, those of others included.
    Count,
}

/// What a node answers to a [`Survey`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Surveyed {
    /// Where to go on (0: this was the end), and what was found. A key may be found twice. One that was there all the
    /// time from the beginning to the end is found, if connection and process stayed the same.
    Keys(u64, Vec<Key>),
    Weights(Vec<u64>),
    Count(u64),
}

/// What can travel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads of what is stored.
    Read,
    /// Reads that also ask how long it lives, of whoever uses the session.
    Visit,
    /// The same of whoever moves it.
    Fetch,
    /// Anything else: a script does it.
    Script,
}

/// How many kinds there are.
const KINDS: usize = Kind::Script as usize + 1;

/// Requests of one kind that travel together.
pub(crate) struct Batch<'a> {
    pub(crate) kind: Kind,
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

/// The handle of one node. Cheap to clone; when the last one is dropped, the dispatcher finishes what waits and ends.
#[derive(Debug, Clone)]
pub(crate) struct Node(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    id: NodeId,
    queue: Arc<Queue>,
    condition: Arc<Condition>,
    /// How the first attempt to connect has ended; closed when the dispatcher has.
    progress: watch::Receiver<Option<Result<(), Error>>>,
}

impl Node {
    /// The handle, and the receiving end for its dispatcher.
    pub(crate) fn new(id: NodeId, limits: &Limits) -> (Node, Inbox) {
        let queue = Arc::new(Queue::new(limits));
        let condition = Arc::new(Condition::default());
        let (inbox, progress) = Inbox::new(queue.clone(), condition.clone());
        (Node(Arc::new(Handle { id, queue, condition, progress })), inbox)
    }

    pub(crate) fn id(&self) -> &NodeId {
        &self.0.id
    }

    /// Whether this is a handle of the same queue.
    pub(crate) fn is(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn condition(&self) -> &Condition {
        &self.0.condition
    }

    pub(crate) fn health(&self) -> NodeHealth {
        self.0.condition.health(&self.0.id, self.0.queue.waiting())
    }

    /// Queues one request. Dropping what is given back cancels the waiting, not the request.
    pub(crate) fn submit(&self, request: Request) -> Submitted {
        let (reply, answer) = oneshot::channel();
        let weight = request.weight();
        match self.queue(1, weight, [Waiting::new(request, Reply::One(reply))]) {
            Ok(()) => Submitted::Queued(answer),
            Err(failure) => Submitted::Rejected(Some(failure)),
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
        let waiting = waiting.map(|(i, request)| Waiting::new(request, Reply::Part(group.clone(), i)));
        let queued = self.queue(count, weight, waiting);
        async move {
            match queued {
                Err(failure) => vec![Err(failure); count],
                Ok(()) if count == 0 => Vec::new(),
                Ok(()) => answers.await.unwrap_or_else(|_| {
                    vec![Err(Failure::Lost(Error::new(ErrorKind::Closed, ENDED))); count]
                }),
            }
        }
    }

    /// Takes nothing more, lets everything queued finish, then ends the dispatcher.
    pub(crate) fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.queue.close();
        let mut progress = self.0.progress.clone();
        async move { while progress.changed().await.is_ok() {} }
    }

    /// Waits until the first attempt to connect has ended; says how.
    pub(crate) fn tried(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let mut progress = self.0.progress.clone();
        async move {
            let tried = progress.wait_for(Option::is_some).await.map(|tried| tried.clone());
            tried.ok().flatten().unwrap_or_else(|| Err(Error::new(ErrorKind::Closed, ENDED)))
        }
    }

    fn queue(
        &self,
        requests: usize,
        bytes: usize,
        arriving: impl IntoIterator<Item = Waiting>,
    ) -> Result<(), Failure> {
        let Handle { id, queue, .. } = &*self.0;
        queue.push(requests, bytes, arriving).map_err(|rejected| {
            Failure::Unsent(match rejected {
                Rejected::Closed => Error::at(ErrorKind::Closed, id, ENDED),
                Rejected::Full(waiting) => Error::at(
                    ErrorKind::Overloaded,
                    id,
                    format!(
                        "{waiting} requests wait already, {requests} more (with {bytes} bytes of sessions) would pass \
                         the limit; nothing was sent; shed load, or raise queue_limit"
                    ),
                ),
            })
        })
    }
}

/// Waits for the answer to a request. It can be waited for where it lies, so that it lies in one place only: what each operation
/// keeps while it waits is memory that all of them together have to go through.
#[derive(Debug)]
pub(crate) enum Submitted {
    Queued(oneshot::Receiver<Answer>),
    /// Gone when it was told.
    Rejected(Option<Failure>),
}

impl Future for Submitted {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let ended = || Failure::Lost(Error::new(ErrorKind::Closed, ENDED));
        match &mut *self {
            Submitted::Queued(answer) => {
                Pin::new(answer).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(ended())))
            }
            Submitted::Rejected(failure) => Poll::Ready(Err(failure.take().unwrap_or_else(ended))),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

const ENDED: &str = "the ring was closed, or the runtime in which it was connected has ended; connect again";
