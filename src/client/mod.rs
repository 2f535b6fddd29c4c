//! The handle that an application holds: joins `protocol` (what to send) to `node` (how to send it).

mod builder;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::time::Instant;

pub use self::builder::Builder;
use crate::{
    error::{Error, ErrorKind, Result},
    node::{Answer, Failure, Node, Request},
    protocol::{Command, Operation, Outcome, Step},
    record::{Key, SessionId},
    ring::{NodeId, Ring},
    topology::{Epoch, Topology},
};

/// A ring of nodes that hold sessions. Cheap to clone; all clones share one connection per node.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sessionring::SessionRing;
///
/// let ring = SessionRing::builder().node("a", "memory:").node("b", "memory:").connect().await?;
/// let carts = ring.sessions::<Vec<String>>("cart");
/// let id = carts.create(&vec!["book".to_owned()]).await?;
/// assert_eq!(carts.get(&id).await?.unwrap(), ["book"]);
/// ring.close().await;
/// assert!(carts.get(&id).await.unwrap_err().is_closed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SessionRing(Arc<Shared>);

struct Shared {
    name: String,
    view: ArcSwap<View>,
    request_timeout: Duration,
    max_clock_skew: Duration,
    /// The number of the next write. Starts at random, so that no two clients use the same ones.
    operations: AtomicU64,
}

/// A topology, and the handles of its nodes in the order of its members.
struct View {
    topology: Topology,
    nodes: Vec<Node>,
}

impl SessionRing {
    /// Describes a ring; [`connect`](Builder::connect) makes it.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The ring as it is now: who owns what, and what a change of membership would move.
    pub fn ring(&self) -> Ring {
        self.0.view.load().topology.ring.clone()
    }

    /// The version number of the topology.
    pub fn epoch(&self) -> Epoch {
        self.0.view.load().topology.fence.epoch
    }

    /// The node that holds the session of this id, in whatever namespace.
    pub fn owner(&self, id: &SessionId) -> NodeId {
        self.0.view.load().topology.ring.owner(id.token()).clone()
    }

    /// Ends the ring, for all its clones: takes no more requests, lets what was submitted finish (at most
    /// until its deadline), and closes the connections. Later requests fail with an error that
    /// [`is_closed`](Error::is_closed).
    pub async fn close(&self) {
        let closing: Vec<_> = self.0.view.load().nodes.iter().map(Node::close).collect();
        for closed in closing {
            closed.await;
        }
    }

    /// The name of the ring.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    pub(crate) fn max_clock_skew(&self) -> Duration {
        self.0.max_clock_skew
    }

    /// A number for a write that nobody else uses.
    pub(crate) fn next_operation(&self) -> u64 {
        self.0.operations.fetch_add(1, Relaxed)
    }

    pub(crate) fn node_of(&self, key: &Key) -> NodeId {
        self.0.view.load().topology.ring.owner(key.token()).clone()
    }

    /// Executes one command at the owner of `key`.
    pub(crate) async fn execute(&self, key: Key, command: Command) -> Result<Outcome> {
        let (mut running, mut command) = Running::start(key, command);
        let deadline = Instant::now() + self.0.request_timeout;
        loop {
            let submitted = {
                let view = self.0.view.load();
                let (owner, request) = view.route(key, command, deadline);
                view.nodes[owner].submit(request)
            };
            match running.answered(self, submitted.await) {
                Next::Send(next) => command = next,
                Next::Done(result) => return result,
            }
        }
    }

    /// Executes many commands: all nodes at once, one round trip each for every step that a command takes. One result
    /// per command, in order.
    pub(crate) async fn execute_many(&self, commands: Vec<(Key, Command)>) -> Vec<Result<Outcome>> {
        let deadline = Instant::now() + self.0.request_timeout;
        let mut results: Vec<Result<Outcome>> = vec![Ok(Outcome::Absent); commands.len()];
        let started = commands.into_iter().enumerate().map(|(i, (key, command))| {
            let (running, command) = Running::start(key, command);
            (i, running, command)
        });
        let groups = self.route_all(started, deadline).into_iter();
        let finished = join_all(groups.map(|group| self.finish(group, deadline))).await;
        for (i, result) in finished.into_iter().flatten() {
            results[i] = result;
        }
        results
    }

    /// Carries on with the operations of one node until all have a result. What has to be sent again goes together,
    /// too, and waits for no other node.
    async fn finish(&self, group: Group, deadline: Instant) -> Vec<(usize, Result<Outcome>)> {
        let mut results = Vec::with_capacity(group.running.len());
        let mut groups = vec![group];
        while !groups.is_empty() {
            let mut again = Vec::new();
            for Group { owner, running, requests } in groups {
                let answers = owner.submit_many(requests).await;
                for ((i, mut running), answer) in running.into_iter().zip(answers) {
                    match running.answered(self, answer) {
                        Next::Send(command) => again.push((i, running, command)),
                        Next::Done(result) => results.push((i, result)),
                    }
                }
            }
            groups = self.route_all(again, deadline);
        }
        results
    }

    /// Routes each command to its owner, one group per node.
    fn route_all(
        &self,
        commands: impl IntoIterator<Item = (usize, Running, Command)>,
        deadline: Instant,
    ) -> Vec<Group> {
        let view = self.0.view.load();
        let group = |owner: &Node| Group { owner: owner.clone(), running: Vec::new(), requests: Vec::new() };
        let mut groups: Vec<Group> = view.nodes.iter().map(group).collect();
        for (i, running, command) in commands {
            let (owner, request) = view.route(running.key, command, deadline);
            groups[owner].running.push((i, running));
            groups[owner].requests.push(request);
        }
        groups.retain(|group| !group.requests.is_empty());
        groups
    }

    fn indeterminate(&self, key: &Key, cause: Option<Error>) -> Error {
        let cause = cause.map(|error| format!(" ({})", error.message())).unwrap_or_default();
        Error::at(
            ErrorKind::Indeterminate,
            &self.node_of(key),
            format!(
                "the request was sent and its answer was lost{cause}: it may or may not have happened, or happen \
                 yet; read the session before you decide"
            ),
        )
    }
}

impl View {
    /// The owner of `key`, and the request for it under this topology.
    fn route(&self, key: Key, command: Command, deadline: Instant) -> (usize, Request) {
        let owner = self.topology.ring.owner_index(key.token()).get();
        (owner, Request { key, command, fence: self.topology.fence, deadline })
    }
}

/// Operations that go to one node together.
struct Group {
    owner: Node,
    /// With the place of each in the answer.
    running: Vec<(usize, Running)>,
    requests: Vec<Request>,
}

/// An operation under way.
struct Running {
    key: Key,
    operation: Operation,
    last: Option<Error>,
}

enum Next {
    Send(Command),
    Done(Result<Outcome>),
}

impl Running {
    fn start(key: Key, command: Command) -> (Running, Command) {
        let mut operation = Operation::new(command);
        let command = operation.start();
        (Running { key, operation, last: None }, command)
    }

    fn answered(&mut self, ring: &SessionRing, answer: Answer) -> Next {
        let step = match answer {
            Ok(outcome) => self.operation.answered(outcome),
            Err(Failure::Lost(error)) => {
                self.last = Some(error);
                self.operation.lost()
            }
            Err(Failure::Unsent(error)) => {
                // Why it was lost says more than why it could not be sent again.
                self.last.get_or_insert(error);
                self.operation.unsent()
            }
        };
        match step {
            Step::Send(command) => Next::Send(command),
            Step::Done(outcome) => Next::Done(Ok(outcome)),
            Step::Failed => {
                let error = self.last.take();
                Next::Done(Err(error.unwrap_or_else(|| ring.indeterminate(&self.key, None))))
            }
            Step::Indeterminate => Next::Done(Err(ring.indeterminate(&self.key, self.last.take()))),
        }
    }
}

impl fmt::Debug for SessionRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.0.view.load();
        f.debug_struct("SessionRing")
            .field("name", &self.0.name)
            .field("epoch", &view.topology.fence.epoch)
            .field("nodes", &view.nodes.iter().map(Node::id).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
