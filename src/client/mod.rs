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
        let mut operation = Operation::new(command);
        let answer = self.send(key, operation.start(), deadline).await;
        self.finish(key, operation, answer, deadline).await
    }

    /// Executes many commands, all nodes at once, one round trip each; one result per command, in order.
    pub(crate) async fn execute_many(&self, commands: Vec<(Key, Command)>) -> Vec<Result<Outcome>> {
        let deadline = Instant::now() + self.0.request_timeout;
        let mut started: Vec<_> =
            commands.into_iter().map(|(key, command)| (key, Operation::new(command), None)).collect();
        let submitted: Vec<_> = {
            let view = self.0.view.load();
            let mut by_node: Vec<(Vec<usize>, Vec<Request>)> = vec![Default::default(); view.nodes.len()];
            for (i, (key, operation, _)) in started.iter_mut().enumerate() {
                let (indices, requests) = &mut by_node[view.topology.ring.owner_index(key.token()).get()];
                indices.push(i);
                let fence = view.topology.fence;
                requests.push(Request { key: *key, command: operation.start(), fence, deadline });
            }
            let groups = by_node.into_iter().zip(&view.nodes).filter(|((indices, _), _)| !indices.is_empty());
            groups.map(|((indices, requests), node)| (indices, node.submit_many(requests))).collect()
        };
        for (indices, answers) in submitted {
            for (i, answer) in indices.into_iter().zip(answers.await) {
                started[i].2 = Some(answer);
            }
        }
        let mut results = Vec::with_capacity(started.len());
        for (key, operation, answer) in started {
            let answer = answer.unwrap_or(Ok(Outcome::Absent));
            results.push(self.finish(key, operation, answer, deadline).await);
        }
        results
    }

    fn send(&self, key: Key, command: Command, deadline: Instant) -> impl Future<Output = Answer> + use<> {
        let view = self.0.view.load();
        let fence = view.topology.fence;
        let owner = view.topology.ring.owner_index(key.token());
        view.nodes[owner.get()].submit(Request { key, command, fence, deadline })
    }

    async fn finish(
        &self,
        key: Key,
        mut operation: Operation,
        mut answer: Answer,
        deadline: Instant,
    ) -> Result<Outcome> {
        let mut last: Option<Error> = None;
        loop {
            let step = match answer {
                Ok(outcome) => operation.answered(outcome),
                Err(failure) => {
                    let step = match failure {
                        Failure::Unsent(_) => operation.unsent(),
                        Failure::Lost(_) => operation.lost(),
                    };
                    // Why it was lost says more than why it could not be sent again.
                    if last.is_none() || matches!(failure, Failure::Lost(_)) {
                        last = Some(failure.into_error());
                    }
                    step
                }
            };
            match step {
                Step::Done(outcome) => return Ok(outcome),
                Step::Send(command) => answer = self.send(key, command, deadline).await,
                Step::Failed => return Err(last.unwrap_or_else(|| self.indeterminate(&key, None))),
                Step::Indeterminate => return Err(self.indeterminate(&key, last)),
            }
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
