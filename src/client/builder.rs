use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures_util::future::join_all;

use super::{Keeper, SessionRing, Shared, session_events::Crier};
use crate::{
    entropy,
    error::{Error, Result},
    node::{Address, Clocks, Credentials, Directory, Limits, Node, Tls},
    record::RingSecret,
    ring::{Member, NodeId, Ring, Weight},
    store::{NodeStore, TopologyStore},
    topology::{Document, Policy},
};

/// A decision may take as long as so many connection attempts.
const PATIENCE: u32 = 5;

/// Describes a ring and how to use it. Every option has a default that is right for most.
///
/// All applications that use a ring give it the same name. The nodes are where to find it: the first application founds the
/// ring with them, their weights and this placement; all others take over what the nodes say, and
/// [`SessionRing::warnings`] tells them where their list differs. After that, nodes come and go by
/// [`SessionRing::add_node`] and its siblings.
#[derive(Clone)]
pub struct Builder {
    name: String,
    nodes: Vec<(String, String, u32)>,
    routes: Vec<(String, String)>,
    placement: Choice,
    policy: Policy,
    request_timeout: Duration,
    limits: Limits,
    max_clock_skew: Duration,
    allow_eviction: bool,
    secret: Option<RingSecret>,
    credentials: Option<Credentials>,
    node_credentials: Vec<(String, Credentials)>,
    sentinel_credentials: Option<Credentials>,
    tls: Option<Tls>,
}

/// Longer times mean the same, and sums with a point in time stay in range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, Clone, Copy)]
enum Choice {
    Balanced,
    Hashed(u32),
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            name: "sessionring".into(),
            nodes: Vec::new(),
            routes: Vec::new(),
            placement: Choice::Balanced,
            policy: Policy::Trust,
            request_timeout: Duration::from_secs(1),
            limits: Limits::default(),
            max_clock_skew: Duration::from_secs(2),
            allow_eviction: false,
            secret: None,
            credentials: None,
            node_credentials: Vec::new(),
            sentinel_credentials: None,
            tls: None,
        }
    }
}

impl Builder {
    /// The name of the ring, 1 to 64 printable ASCII characters without space; `sessionring` unless set. Rings
    /// of different names may share servers.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = name.into();
        self
    }

    /// Adds a node of weight 1. The **name** is what places sessions and never changes; the address may.
    ///
    /// Addresses: `redis://[user:password@]host[:port][/database]`, `rediss://` likewise for TLS (with the cargo feature
    /// `tls`), `unix:/path`, or `memory:` for a node inside this process (`memory:NAME` is shared by everyone in the process
    /// who names it). User and password may also be given apart: [`credentials`](Builder::credentials).
    ///
    /// A primary that Sentinels watch: `redis+sentinel://[user:password@]sentinel[:port],sentinel[:port]/name[/database]`, or
    /// `rediss+sentinel://` where both Sentinels and servers speak TLS. The Sentinels are asked at every connection, and listened
    /// to while it is used; a promotion moves no session, and counts as a restart of the node. User and password are those of the
    /// servers; for the Sentinels see [`sentinel_credentials`](Builder::sentinel_credentials).
    ///
    /// ```
    /// let builder = sessionring::SessionRing::builder()
    ///     .node("a", "redis+sentinel://10.0.0.1,10.0.0.2,10.0.0.3/sessions-a")
    ///     .node("b", "redis+sentinel://10.0.0.1,10.0.0.2,10.0.0.3/sessions-b");
    /// ```
    #[must_use]
    pub fn node(self, name: impl Into<String>, address: impl Into<String>) -> Builder {
        self.weighted_node(name, address, 1)
    }

    /// Adds a node that gets `weight` times the sessions of a node of weight 1. A node of weight 0 gets none.
    #[must_use]
    pub fn weighted_node(
        mut self,
        name: impl Into<String>,
        address: impl Into<String>,
        weight: u32,
    ) -> Builder {
        self.nodes.push((name.into(), address.into(), weight));
        self
    }

    /// Reaches this node at another address than all others do, through a tunnel or a proxy of this application's own. It
    /// counts more than the address that the ring has for the node, also after that has changed.
    #[must_use]
    pub fn route(mut self, name: impl Into<String>, address: impl Into<String>) -> Builder {
        self.routes.push((name.into(), address.into()));
        self
    }

    /// Founds a ring that believes no server that was restarted or replaced by a replica: what it holds may be older than
    /// what was acknowledged, log-outs may be missing. Its sessions are unavailable until an operator calls
    /// [`SessionRing::readmit`]. Without this, such a server is used as it is, and what its persistence or its
    /// replication lost is lost.
    #[must_use]
    pub fn strict(mut self) -> Builder {
        self.policy = Policy::Strict;
        self
    }

    /// Makes the keys of sessions with a secret that all applications of the ring share; without one they are made by a
    /// hash that anyone can compute. Read at [`RingSecret`] what becomes of an application with another secret.
    #[must_use]
    pub fn secret(mut self, secret: RingSecret) -> Builder {
        self.secret = Some(secret);
        self
    }

    /// Places sessions by equal arcs, dealt out by weight: the default. At 100 equal nodes the fullest holds
    /// 0.1 % more than the mean.
    #[must_use]
    pub fn balanced(mut self) -> Builder {
        self.placement = Choice::Balanced;
        self
    }

    /// Places sessions by `vnodes` virtual nodes per unit of weight: the classic consistent-hash ring, a pure
    /// function of the member list. At 100 nodes of 160 virtual nodes each the fullest holds 20 % more than
    /// the mean.
    #[must_use]
    pub fn hashed(mut self, vnodes: u32) -> Builder {
        self.placement = Choice::Hashed(vnodes);
        self
    }

    /// How long a request may take, attempts and waiting included, before it fails; 1 s unless set, a year at most.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Builder {
        self.request_timeout = timeout.min(LONGEST);
        self
    }

    /// How long connecting to one node may take, handshake included; 1 s unless set, a year at most.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.limits.connect_timeout = timeout.min(LONGEST);
        self
    }

    /// How often an open connection is looked at, about: 5 s unless set, a year at most. So an application without traffic
    /// learns of changes of the ring, and one that only reads learns that a server has become a replica.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Builder {
        self.limits.probe_interval = interval.min(LONGEST);
        self
    }

    /// How many requests may wait for one node before further ones fail with an error that
    /// [`is_overloaded`](Error::is_overloaded); 65,536 unless set. Raise it for bursts, lower it to fail sooner.
    #[must_use]
    pub fn queue_limit(mut self, requests: usize) -> Builder {
        self.limits.queue_requests = requests;
        self
    }

    /// How many bytes of encoded sessions may wait for one node; 64 MiB unless set.
    #[must_use]
    pub fn queue_bytes_limit(mut self, bytes: usize) -> Builder {
        self.limits.queue_bytes = bytes;
        self
    }

    /// How far the nodes' clocks may be apart; 2 s unless set, a year at most. Log-outs are remembered that much
    /// longer.
    #[must_use]
    pub fn max_clock_skew(mut self, skew: Duration) -> Builder {
        self.max_clock_skew = skew.min(LONGEST);
        self
    }

    /// Accepts servers whose `maxmemory-policy` evicts keys. They throw away sessions when memory runs short,
    /// **and log-outs too**: a session that was logged out may be written again by a request that was in flight.
    #[must_use]
    pub fn allow_eviction(mut self, allow: bool) -> Builder {
        self.allow_eviction = allow;
        self
    }

    /// Who the application is at every node whose address has no user and password, and for which
    /// [`node_credentials`](Builder::node_credentials) says nothing else.
    ///
    /// Without this, a node whose address is known from the ring alone gets the credentials of a named node on the same
    /// server, else those of the first named node that has any.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Builder {
        self.credentials = Some(credentials);
        self
    }

    /// Who the application is at the node of this name, wherever that is. Counts more than what stands in its address.
    #[must_use]
    pub fn node_credentials(mut self, name: impl Into<String>, credentials: Credentials) -> Builder {
        self.node_credentials.push((name.into(), credentials));
        self
    }

    /// Who the application is to every Sentinel, if the address does not say it
    /// (`…/name?sentinel_user=…&sentinel_password=…`, percent-encoded). Sentinels are never told who it is at the servers.
    #[must_use]
    pub fn sentinel_credentials(mut self, credentials: Credentials) -> Builder {
        self.sentinel_credentials = Some(credentials);
        self
    }

    /// Asks for TLS, with these certificates: a node at a plaintext `redis://` address is refused, whether the address is
    /// named here or comes from the ring. (`unix:` and `memory:` stay inside the machine, and are not.)
    ///
    /// Without this, `rediss://` addresses use [`Tls::system_roots`], and `redis://` addresses are allowed beside them.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Builder {
        self.tls = Some(tls);
        self
    }

    /// Connects to all nodes at once and checks each of them.
    ///
    /// The first connection ever founds the ring: it needs every node. Later ones go ahead while a node is down;
    /// its sessions answer [`is_unavailable`](Error::is_unavailable) until it is back. Must be called in a tokio
    /// runtime, and the ring lives no longer than that.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): something that will not mend itself, such as two nodes of one
    /// name, a wrong address, a server that is no plain Redis, other members than the ring has.
    /// [`is_unavailable`](Error::is_unavailable): a node does not answer and the ring is not founded yet.
    /// [`is_upgrade_required`](Error::is_upgrade_required): the ring is written by a newer crate.
    ///
    /// # Panics
    /// In a runtime that was built without timers or I/O (`enable_all` switches them on), as everything of tokio does.
    pub async fn connect(self) -> Result<SessionRing> {
        self.check_options()?;
        let ring = self.place()?;
        let clocks = Clocks::new(self.max_clock_skew);
        let directory = Arc::new(self.directory(clocks)?);
        let store = NodeStore::new(directory.clone(), PATIENCE * self.limits.connect_timeout);
        let loaded = store.load(None).await?;
        // A node that is set up wrongly will not mend itself; one that is down may.
        let counts =
            |id: &NodeId| loaded.document.as_ref().is_none_or(|document| document.member(id).is_some());
        let mut unfit = loaded.unreachable.iter().filter(|(id, error)| counts(id) && !error.is_unavailable());
        if let Some((_, error)) = unfit.next() {
            return Err(error.clone());
        }
        directory.clocks().check_all()?;
        let document = match loaded.document {
            Some(document) => document,
            None => store.found(self.policy, &ring).await?,
        };
        let warnings = self.differences(&ring, &document, &directory);
        let operations = entropy::u64()?;
        let keeper = Keeper::new(store, directory, self.limits, document);
        let tried: Vec<_> = keeper.view().nodes.iter().map(Node::tried).collect();
        join_all(tried).await;
        keeper.directory().rest(Duration::ZERO);
        Ok(SessionRing(Arc::new(Shared {
            name: self.name,
            keeper,
            request_timeout: self.request_timeout,
            max_clock_skew: self.max_clock_skew,
            secret: self.secret,
            operations: AtomicU64::new(operations),
            warnings,
            crier: Crier::new(),
        })))
    }

    fn directory(&self, clocks: Clocks) -> Result<Directory> {
        let parsed = |(name, address): (&String, &String)| {
            let id = NodeId::new(name.as_str())?;
            let address =
                Address::parse(address).map_err(|error| Error::at(error.kind(), &id, error.message()))?;
            Ok((id, address))
        };
        let contacts = self.nodes.iter().map(|(name, address, _)| parsed((name, address)));
        let contacts = contacts.collect::<Result<Vec<_>>>()?;
        let routes = self.routes.iter().map(|(name, address)| parsed((name, address)));
        let routes = routes.collect::<Result<Vec<_>>>()?;
        let timeout = self.limits.connect_timeout;
        let mut directory =
            Directory::new(&self.name, contacts.clone(), clocks, self.allow_eviction, timeout)?;
        let access = directory.access();
        self.tls.clone().into_iter().for_each(|tls| access.set_tls(tls));
        self.credentials.clone().into_iter().for_each(|credentials| access.set_credentials(credentials));
        if let Some(credentials) = &self.sentinel_credentials {
            access.set_sentinel_credentials(credentials.clone());
        }
        for (name, credentials) in &self.node_credentials {
            access.set_node_credentials(NodeId::new(name.as_str())?, credentials.clone());
        }
        for (id, address) in contacts.iter().chain(&routes) {
            access.check(id, address)?;
        }
        for (id, address) in routes {
            directory = directory.route(id, address);
        }
        Ok(directory)
    }

    /// Where the list of this application differs from the ring.
    fn differences(&self, ring: &Ring, document: &Document, directory: &Directory) -> Vec<String> {
        let mut differences = Vec::new();
        let mut say = |what: String| differences.push(format!("{what}; the ring stays as it is"));
        for (id, address) in directory.contacts() {
            match document.member(&id) {
                None => say(format!("node {id} is named here and is not a member of the ring")),
                Some((index, member)) => {
                    if member.address != address {
                        say(format!(
                            "node {id} is at {address} here, and at {} for the ring",
                            member.address
                        ));
                    }
                    let (here, there) = (ring.index_of(&id), document.ring().members()[index.get()].weight());
                    if let Some(here) = here.map(|here| ring.members()[here.get()].weight())
                        && here != there
                    {
                        say(format!("node {id} has weight {here} here, and {there} in the ring"));
                    }
                }
            }
        }
        for member in document.members() {
            if ring.index_of(&member.id).is_none() {
                say(format!("node {} is a member of the ring and is not named here", member.id));
            }
        }
        if ring.placement() != document.ring().placement() {
            say("the ring places sessions otherwise than is asked for here".into());
        }
        if self.policy != document.policy() {
            say("the ring is strict, or is not, otherwise than is asked for here".into());
        }
        differences
    }

    fn check_options(&self) -> Result<()> {
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::configuration(
                "the ring's name must be 1 to 64 printable ASCII characters without space",
            ));
        }
        let times = [self.request_timeout, self.limits.connect_timeout, self.limits.probe_interval];
        if times.iter().any(Duration::is_zero) {
            return Err(Error::configuration("a timeout of zero lets no request succeed; set a longer one"));
        }
        if self.limits.queue_requests == 0 || self.limits.queue_bytes == 0 {
            return Err(Error::configuration(
                "a queue limit of zero lets no request through; set a higher one",
            ));
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::configuration("connect must be called in a tokio runtime"));
        }
        Ok(())
    }

    fn place(&self) -> Result<Ring> {
        let members = self
            .nodes
            .iter()
            .map(|(name, _, weight)| Ok(Member::new(NodeId::new(name.as_str())?, Weight::new(*weight))));
        let members = members.collect::<Result<Vec<_>, Error>>()?;
        Ok(match self.placement {
            Choice::Balanced => Ring::balanced(members)?,
            Choice::Hashed(vnodes) => Ring::hashed(members, vnodes)?,
        })
    }
}

/// Without addresses and credentials, which may hold passwords.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("nodes", &self.nodes.iter().map(|(name, _, weight)| (name, weight)).collect::<Vec<_>>())
            .field("placement", &self.placement)
            .field("request_timeout", &self.request_timeout)
            .field("limits", &self.limits)
            .field("max_clock_skew", &self.max_clock_skew)
            .field("allow_eviction", &self.allow_eviction)
            .field("secret", &self.secret)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
