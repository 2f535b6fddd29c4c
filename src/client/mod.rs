//! The handle that an application holds: joins `protocol` (what to send) to `node` (how to send it).

mod builder;

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use arc_swap::ArcSwap;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

pub use self::builder::Builder;
use crate::{
    error::{Error, ErrorKind, Result},
    node::{Answer, Failure, Node, Request},
    protocol::{Command, Operation, Outcome, Step},
    record::{Key, SessionId},
    ring::{NodeId, Ring},
    session::Sessions,
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

/// An operation under way, and the last thing that went wrong with it.
struct Pursuit {
    key: Key,
    operation: Operation,
    last: Option<Error>,
}

type Chase<'a> = Pin<Box<dyn Future<Output = Vec<(usize, Result<Outcome>)>> + Send + 'a>>;

/// Waits for all at once.
async fn join(mut chases: Vec<Chase<'_>>) -> Vec<Vec<(usize, Result<Outcome>)>> {
    let mut done = Vec::with_capacity(chases.len());
    poll_fn(|context| {
        chases.retain_mut(|chase| match chase.as_mut().poll(context) {
            Poll::Ready(results) => {
                done.push(results);
                false
            }
            Poll::Pending => true,
        });
        if chases.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}

enum Pursued {
    Send(Command),
    Done(Result<Outcome>),
}

impl Pursuit {
    fn new(key: Key, command: Command) -> Pursuit {
        Pursuit { key, operation: Operation::new(command), last: None }
    }
}

impl SessionRing {
    /// Describes a ring; [`connect`](Builder::connect) makes it.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The sessions of type `T` in `namespace`. Namespaces keep sessions of different kinds apart: an id of one
    /// is unknown in the other. Cheap; options are set on what is returned.
    pub fn sessions<T>(&self, namespace: &str) -> Sessions<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        Sessions::new(self.clone(), &self.0.name, namespace)
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
        let deadline = Instant::now() + self.0.request_timeout;
        let mut pursuit = Pursuit::new(key, command);
        let mut command = pursuit.operation.start();
        loop {
            let answer = self.send(key, command, deadline).await;
            match self.pursue(&mut pursuit, answer) {
                Pursued::Send(next) => command = next,
                Pursued::Done(result) => return result,
            }
        }
    }

    /// Executes many commands, all nodes at once, one round trip each; one result per command, in order.
    pub(crate) async fn execute_many(&self, commands: Vec<(Key, Command)>) -> Vec<Result<Outcome>> {
        let deadline = Instant::now() + self.0.request_timeout;
        let mut results: Vec<Option<Result<Outcome>>> = commands.iter().map(|_| None).collect();
        let mut by_node: Vec<Vec<(usize, Pursuit)>> = Vec::new();
        {
            let view = self.0.view.load();
            by_node.resize_with(view.nodes.len(), Vec::new);
            for (i, (key, command)) in commands.into_iter().enumerate() {
                let owner = view.topology.ring.owner_index(key.token());
                by_node[owner.get()].push((i, Pursuit::new(key, command)));
            }
        }
        let chases = by_node.into_iter().filter(|pursuits| !pursuits.is_empty());
        let chases = chases.map(|pursuits| Box::pin(self.chase(pursuits, deadline)) as Chase<'_>);
        for (i, result) in join(chases.collect()).await.into_iter().flatten() {
            results[i] = Some(result);
        }
        results.into_iter().map(|result| result.unwrap_or(Ok(Outcome::Absent))).collect()
    }

    /// Pursues operations of one node until all have a result. What has to be sent again goes together, too, and
    /// waits for no other node.
    async fn chase(
        &self,
        mut pursuits: Vec<(usize, Pursuit)>,
        deadline: Instant,
    ) -> Vec<(usize, Result<Outcome>)> {
        let mut results = Vec::with_capacity(pursuits.len());
        let mut sending: Vec<(usize, Command)> =
            pursuits.iter_mut().map(|(_, pursuit)| pursuit.operation.start()).enumerate().collect();
        while !sending.is_empty() {
            let mut by_node: BTreeMap<usize, (Vec<usize>, Vec<Request>)> = BTreeMap::new();
            let submitted: Vec<_> = {
                let view = self.0.view.load();
                let fence = view.topology.fence;
                for (at, command) in sending.drain(..) {
                    let key = pursuits[at].1.key;
                    let owner = view.topology.ring.owner_index(key.token()).get();
                    let (places, requests) = by_node.entry(owner).or_default();
                    places.push(at);
                    requests.push(Request { key, command, fence, deadline });
                }
                let groups = by_node.into_iter();
                groups
                    .map(|(owner, (places, requests))| (places, view.nodes[owner].submit_many(requests)))
                    .collect()
            };
            for (places, answers) in submitted {
                for (at, answer) in places.into_iter().zip(answers.await) {
                    let (i, pursuit) = &mut pursuits[at];
                    match self.pursue(pursuit, answer) {
                        Pursued::Send(command) => sending.push((at, command)),
                        Pursued::Done(result) => results.push((*i, result)),
                    }
                }
            }
        }
        results
    }

    fn send(&self, key: Key, command: Command, deadline: Instant) -> impl Future<Output = Answer> + use<> {
        let view = self.0.view.load();
        let fence = view.topology.fence;
        let owner = view.topology.ring.owner_index(key.token());
        view.nodes[owner.get()].submit(Request { key, command, fence, deadline })
    }

    /// What comes after `answer`.
    fn pursue(&self, pursuit: &mut Pursuit, answer: Answer) -> Pursued {
        let Pursuit { key, operation, last } = pursuit;
        let step = match answer {
            Ok(outcome) => operation.answered(outcome),
            Err(failure) => {
                let step = match failure {
                    Failure::Unsent(_) => operation.unsent(),
                    Failure::Lost(_) => operation.lost(),
                };
                // Why it was lost says more than why it could not be sent again.
                if last.is_none() || matches!(failure, Failure::Lost(_)) {
                    *last = Some(failure.into_error());
                }
                step
            }
        };
        match step {
            Step::Done(outcome) => Pursued::Done(Ok(outcome)),
            Step::Send(command) => Pursued::Send(command),
            Step::Failed => Pursued::Done(Err(last.take().unwrap_or_else(|| self.indeterminate(key, None)))),
            Step::Indeterminate => Pursued::Done(Err(self.indeterminate(key, last.take()))),
        }
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
