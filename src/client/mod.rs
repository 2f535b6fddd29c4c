//! The handle that an application holds: joins `protocol` (what to send) to `node` (how to send it).

mod builder;
mod events;
mod gate;
mod keeper;
mod limiter;
mod listing;
mod running;
mod session_events;
mod view;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;

use self::session_events::Crier;

pub(crate) use self::keeper::{Keeper, raise_to};
pub use self::{
    builder::Builder,
    events::{Event, Events},
    session_events::{SessionEvent, SessionEvents, SessionRef},
};
pub(crate) use self::{
    limiter::Limiter,
    listing::{Found, Listed, Lister},
};
#[cfg(feature = "tls")]
use crate::node::Tls;
use crate::{
    error::Result,
    node::{Access, Credentials, Node, NodeHealth},
    protocol::{Command, Outcome},
    record::{Key, Keyspace, Principals, RingSecret, SessionId},
    ring::{NodeId, Ring},
    telemetry::{Asked, Span},
    topology::Epoch,
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
    keeper: Arc<Keeper>,
    request_timeout: Duration,
    max_clock_skew: Duration,
    secret: Option<RingSecret>,
    /// The number of the next write. Starts at random, so that no two clients use the same ones.
    operations: AtomicU64,
    warnings: Vec<String>,
    crier: Crier,
}

impl SessionRing {
    /// Describes a ring; [`connect`](Builder::connect) makes it.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The ring as it is now: who owns what. While sessions move, these are their new owners.
    pub fn ring(&self) -> Ring {
        self.0.keeper.view().document.ring().clone()
    }

    /// The version number of the topology, as far as this application has heard of it.
    pub fn epoch(&self) -> Epoch {
        self.0.keeper.view().document.epoch()
    }

    /// Whether sessions are moving from one node to another.
    pub fn is_resizing(&self) -> bool {
        self.0.keeper.view().document.is_migrating()
    }

    /// The node that holds the session of this id, in whatever namespace.
    pub fn owner(&self, id: &SessionId) -> NodeId {
        let view = self.0.keeper.view();
        let token = self.0.secret.as_ref().map_or_else(|| id.token(), |secret| secret.token(id));
        view.id(view.document.tenure(token).owner).clone()
    }

    /// How every node of the ring is, as this application sees it. Asks nobody: it costs a lock per node.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use sessionring::{NodeState, SessionRing};
    ///
    /// let ring = SessionRing::builder().node("a", "memory:").connect().await?;
    /// for node in ring.health() {
    ///     match node.state {
    ///         NodeState::Up(_) => {}
    ///         state => eprintln!("{}: {state:?}, {:?}", node.node, node.last_error),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> Vec<NodeHealth> {
        self.0.keeper.health()
    }

    /// What happens to the ring from now on: nodes that go down and come up, topologies that change. For logs, metrics and
    /// alarms; nothing has to be done about any of it. Whoever is slow loses the oldest events and
    /// [hears how many](Event::Missed). Costs nothing while nobody listens.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use sessionring::{Event, SessionRing};
    ///
    /// let ring = SessionRing::builder().node("a", "memory:").connect().await?;
    /// let mut events = ring.events();
    /// let log = tokio::spawn(async move {
    ///     while let Some(event) = events.next().await {
    ///         match event {
    ///             Event::NodeDown { node, error } => eprintln!("{node} is down: {error}"),
    ///             Event::NodeUp { node } => eprintln!("{node} is up"),
    ///             other => eprintln!("{other:?}"),
    ///         }
    ///     }
    /// });
    /// ring.add_node("b", "memory:").await?.wait().await?;
    /// ring.close().await;
    /// log.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        self.0.keeper.events()
    }

    /// What happens to sessions from now on, in all namespaces: created, rotated, logged out, revoked, expired, corrupt. For
    /// audits and metrics. It tells what **this process** does and finds, exactly, except for what has expired:
    ///
    /// **Expired is best effort.** A session is told to have expired when this process looks for one that it has seen alive
    /// since somebody listens (of the last 32,768 at least), and finds neither the session nor a log-out. One whose user never
    /// comes back is told by nobody. Keyspace notifications of the servers would be no better: they name a key alone, of a
    /// log-out that is forgotten as well as of a session, need a setting of the server and a right of the user, and every
    /// process would hear all of them.
    ///
    /// Whoever is slow loses the oldest events and [hears how many](SessionEvent::Missed). While nobody listens it costs
    /// nothing; otherwise a lock per operation.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// use sessionring::SessionEvent;
    ///
    /// let mut events = ring.session_events();
    /// let logins = ring.sessions::<u64>("login");
    /// let id = logins.create(&7).await?;
    /// match events.next().await {
    ///     Some(SessionEvent::Created(session)) => {
    ///         assert_eq!((&*session.namespace, session.key), ("login", logins.key_of(&id)));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn session_events(&self) -> SessionEvents {
        self.listen_to_sessions(None)
    }

    pub(crate) fn listen_to_sessions(&self, namespace: Option<Arc<str>>) -> SessionEvents {
        self.0.crier.listen(namespace)
    }

    /// Whether anybody listens to what happens to sessions.
    pub(crate) fn sessions_are_heard(&self) -> bool {
        self.0.crier.is_heard()
    }

    pub(crate) fn tell_of_session(&self, event: SessionEvent) {
        self.0.crier.tell(event);
    }

    pub(crate) fn session_lives(&self, key: Key) {
        self.0.crier.lives(key);
    }

    /// Whether it was there when it was last looked for.
    pub(crate) fn session_is_gone(&self, key: &Key) -> bool {
        self.0.crier.is_gone(key)
    }

    /// Where the nodes named to the [`Builder`] differed from the ring as it was found. They are only where the ring was
    /// looked for; a difference changes nothing.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Who the application is at the nodes from the next connection on: replaces [`Builder::credentials`]. Connections that
    /// are open stay what they are; [`reconnect`](SessionRing::reconnect) replaces them, too.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use sessionring::{Credentials, SessionRing};
    /// let ring = SessionRing::builder()
    ///     .node("a", "memory:") // "redis://10.0.0.1"
    ///     .credentials(Credentials::new("app", "old"))
    ///     .connect()
    ///     .await?;
    /// // On the servers: ACL SETUSER app >new. Both passwords are good for a while.
    /// ring.set_credentials(Credentials::new("app", "new"));
    /// ring.reconnect().await?;
    /// // On the servers, when all applications have done that: ACL SETUSER app <old.
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_credentials(&self, credentials: Credentials) {
        self.access().set_credentials(credentials);
    }

    /// The same for the node of this name: replaces [`Builder::node_credentials`], and what stands in its address.
    ///
    /// # Errors
    /// [`is_configuration`](crate::Error::is_configuration): no node can have that name.
    pub fn set_node_credentials(&self, name: impl AsRef<str>, credentials: Credentials) -> Result<()> {
        self.access().set_node_credentials(NodeId::new(name.as_ref())?, credentials);
        Ok(())
    }

    /// Who the application is to the Sentinels from the next time on that they are asked: replaces
    /// [`Builder::sentinel_credentials`].
    pub fn set_sentinel_credentials(&self, credentials: Credentials) {
        self.access().set_sentinel_credentials(credentials);
    }

    /// Which certificates are believed and shown from the next connection on: replaces [`Builder::tls`]. Connections that
    /// are open stay what they are; [`reconnect`](SessionRing::reconnect) replaces them, too.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn set_tls(&self, tls: Tls) {
        self.access().set_tls(tls);
    }

    /// Opens another connection to every node beside the one that there is, moves the traffic over, and lets what is in
    /// flight on the old ones finish before it closes them. No request fails of it. When it has answered, nothing uses
    /// credentials and certificates any more that were replaced before, but for a resize that is under way.
    ///
    /// # Errors
    /// That of a node which lets in nobody with what was given last. **It keeps its old connection**, and goes on; all other
    /// nodes have moved over.
    pub async fn reconnect(&self) -> Result<()> {
        self.0.keeper.reconnect().await
    }

    /// Ends the ring, for all its clones: takes no more requests, lets what was submitted finish (at most
    /// until its deadline), and closes the connections. Later requests fail with an error that
    /// [`is_closed`](crate::Error::is_closed).
    pub async fn close(&self) {
        self.0.keeper.close().await;
        self.0.crier.end();
    }

    /// The name of the ring.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Makes the keys of a namespace.
    pub(crate) fn keyspace(&self, namespace: &str) -> Keyspace {
        Keyspace::with_secret(self.name(), namespace, self.0.secret.as_ref())
    }

    /// Makes tags and lists of the principals of a namespace.
    pub(crate) fn principals(&self, namespace: &str) -> Principals {
        Principals::new(self.name(), namespace, self.0.secret.as_ref())
    }

    fn access(&self) -> &Access {
        self.0.keeper.directory().access()
    }

    /// Lists a namespace.
    pub(crate) fn lister(&self, keyspace: &Keyspace, rate: Option<u32>) -> Lister {
        Lister::new(self.0.keeper.clone(), keyspace.prefix(), rate)
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
        self.0.keeper.view().owner(key).clone()
    }

    pub(crate) fn keeper(&self) -> &Arc<Keeper> {
        &self.0.keeper
    }

    /// Executes one command on the record of `key`, wherever it is.
    pub(crate) fn execute(&self, key: Key, command: Command) -> impl Future<Output = Result<Outcome>> + Send {
        let deadline = Instant::now() + self.0.request_timeout;
        let (asked, meters) = (Asked::of(&command), self.0.keeper.meters());
        let (began, span) = (meters.begin(), Span::request(asked));
        let work = running::execute(&self.0.keeper, key, command, deadline, &span);
        // Not awaited in a block: that would keep the work twice, as what the block was made of and as what it waits for.
        span.clone().around(work).map(move |result| {
            meters.ended(began, asked, &result);
            span.ended(&result);
            result
        })
    }

    /// Executes many commands: all nodes at once, one round trip each for every step that a command takes. One result
    /// per command, in order.
    pub(crate) async fn execute_many(&self, commands: &[(Key, Command)]) -> Vec<Result<Outcome>> {
        let mut results: Vec<Result<Outcome>> = vec![Ok(Outcome::Absent); commands.len()];
        self.execute_each(commands, |i, result| results[i] = result).await;
        results
    }

    /// The same. `each` is given the place of each command and its result as soon as the node has answered.
    pub(crate) async fn execute_each(
        &self,
        commands: &[(Key, Command)],
        mut each: impl FnMut(usize, Result<Outcome>) + Send,
    ) {
        let deadline = Instant::now() + self.0.request_timeout;
        let meters = self.0.keeper.meters();
        let (began, span) = (meters.begin(), Span::requests(commands));
        span.under(self.epoch());
        let mut tally = meters.tally();
        let each = |i: usize, result| {
            tally.add(&commands[i].1, &result);
            each(i, result);
        };
        span.around(running::execute_each(&self.0.keeper, commands, deadline, each)).await;
        meters.all_ended(began, commands, &tally);
    }
}

impl fmt::Debug for SessionRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.0.keeper.view();
        f.debug_struct("SessionRing")
            .field("name", &self.0.name)
            .field("epoch", &view.document.epoch())
            .field("nodes", &view.nodes.iter().map(Node::id).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
