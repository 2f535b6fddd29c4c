use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{task::JoinSet, time::timeout};

use super::{SessionRing, Shared, View};
use crate::{
    error::{Error, ErrorKind, Result},
    node::{
        Address, AnyTransport, Clocks, Connection, Dispatcher, Limits, MemoryServer, MemoryTransport, Node,
        RedisTransport, Transport, admit, check, run,
    },
    ring::{Member, NodeId, Ring, Weight},
    topology::{Fence, MetaKeys, Topology, Verdict},
};

/// Describes a ring and how to use it. Every option has a default that is right for most.
///
/// All applications that use a ring give it the same name, nodes, weights and placement; one that differs is
/// refused by the nodes instead of splitting the sessions.
#[derive(Clone)]
pub struct Builder {
    name: String,
    nodes: Vec<(String, String, u32)>,
    placement: Choice,
    request_timeout: Duration,
    limits: Limits,
    max_clock_skew: Duration,
    allow_eviction: bool,
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
            placement: Choice::Balanced,
            request_timeout: Duration::from_secs(1),
            limits: Limits::default(),
            max_clock_skew: Duration::from_secs(2),
            allow_eviction: false,
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
    /// Addresses: `redis://[user:password@]host[:port][/database]`, `unix:/path`, or `memory:` for a node inside
    /// this process (`memory:NAME` is shared by everyone in the process who names it).
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
        let topology = Topology::founded(&self.name, ring);
        let clocks = Clocks::new(self.max_clock_skew);
        let transports = self.transports(&topology, &clocks)?;
        let mut greeted = self.greet(transports).await;
        let founded = self.judge(&topology.fence, &clocks, &greeted)?;
        for Greeted { id, greeting, .. } in &mut greeted {
            if let Ok(Connection { link, hello, driver }) = greeting {
                let admission = admit(id, link, &topology.fence, hello.standing.clone());
                let admitted = timeout(self.limits.connect_timeout, run(driver, admission));
                let no_answer = || Error::at(ErrorKind::Unavailable, id, "the node stopped answering");
                match admitted.await.unwrap_or_else(|_| Err(no_answer())) {
                    Ok(()) => {}
                    // A node that has just gone away is down, as if it had been from the start.
                    Err(error) if founded && error.is_unavailable() => *greeting = Err(error),
                    Err(error) => return Err(error),
                }
            }
        }
        let nodes = greeted.into_iter().map(|Greeted { id, transport, greeting }| {
            let (node, inbox) = Node::new(id, &self.limits);
            let (limits, clocks) = (self.limits.clone(), clocks.clone());
            Dispatcher::spawn(&node, inbox, limits, transport, greeting, topology.fence, clocks);
            node
        });
        let nodes = nodes.collect();
        let operations = getrandom::u64()
            .map_err(|e| Error::configuration(format!("the operating system gave no random bytes: {e}")))?;
        Ok(SessionRing(Arc::new(Shared {
            name: self.name,
            view: ArcSwap::from_pointee(View { topology, nodes }),
            request_timeout: self.request_timeout,
            max_clock_skew: self.max_clock_skew,
            operations: AtomicU64::new(operations),
        })))
    }

    fn check_options(&self) -> Result<()> {
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::configuration(
                "the ring's name must be 1 to 64 printable ASCII characters without space",
            ));
        }
        if self.request_timeout.is_zero() || self.limits.connect_timeout.is_zero() {
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

    /// The ways to the nodes, in the order of the ring's members.
    fn transports(&self, topology: &Topology, clocks: &Clocks) -> Result<Vec<(NodeId, AnyTransport)>> {
        let keys = Arc::new(MetaKeys::new(&self.name));
        let members = topology.ring.members().iter();
        members
            .map(|member| {
                let id = member.id().clone();
                // The ring was built from these very names.
                let address =
                    self.nodes.iter().find(|(name, ..)| name == id.as_str()).map(|(_, a, _)| a.as_str());
                let address = Address::parse(address.unwrap_or_default())
                    .map_err(|error| Error::at(error.kind(), &id, error.to_string()))?;
                let (keys, clocks) = (keys.clone(), clocks.clone());
                let transport = match address {
                    Address::Memory(name) => {
                        let server = name.map_or_else(MemoryServer::new, |name| MemoryServer::named(&name));
                        AnyTransport::Memory(MemoryTransport { id: id.clone(), server, keys, clocks })
                    }
                    Address::Redis(address) => AnyTransport::Redis(RedisTransport {
                        id: id.clone(),
                        address,
                        keys,
                        clocks,
                        allow_eviction: self.allow_eviction,
                    }),
                };
                Ok((id, transport))
            })
            .collect()
    }

    /// Connects to all nodes at once.
    async fn greet(&self, transports: Vec<(NodeId, AnyTransport)>) -> Vec<Greeted> {
        let limit = self.limits.connect_timeout;
        let mut tasks = JoinSet::new();
        for (index, (id, transport)) in transports.into_iter().enumerate() {
            tasks.spawn(async move {
                let greeting = timeout(limit, transport.clone().connect()).await.unwrap_or_else(|_| {
                    let message = format!(
                        "no answer within {} ms; check host and port, and that it is Redis without TLS",
                        limit.as_millis()
                    );
                    Err(Error::at(ErrorKind::Unavailable, &id, message))
                });
                (index, Greeted { id, transport, greeting })
            });
        }
        let mut greeted = tasks.join_all().await;
        greeted.sort_unstable_by_key(|(index, _)| *index);
        greeted.into_iter().map(|(_, greeted)| greeted).collect()
    }

    /// Whether what the nodes said of themselves makes a ring; answers whether it was founded before.
    fn judge(&self, fence: &Fence, clocks: &Clocks, greeted: &[Greeted]) -> Result<bool> {
        let mut founded = false;
        let mut down = None;
        for Greeted { id, greeting, .. } in greeted {
            match greeting {
                Err(error) if error.is_unavailable() => down = Some(error),
                Err(error) => return Err(error.clone()),
                Ok(Connection { hello, .. }) => {
                    clocks.record(id, hello.reading);
                    founded |= check(id, fence, &hello.standing)? == Verdict::Accepted;
                }
            }
        }
        clocks.check_all()?;
        match (down, founded) {
            (Some(error), false) => {
                let message = format!(
                    "{error}; the ring does not exist yet, and founding it needs every node; start the node and \
                     connect again"
                );
                Err(Error::new(ErrorKind::Unavailable, message))
            }
            _ => Ok(founded),
        }
    }
}

/// Without the addresses, which may hold passwords.
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
            .finish()
    }
}

struct Greeted {
    id: NodeId,
    transport: AnyTransport,
    greeting: Result<Connection<<AnyTransport as Transport>::Link>>,
}
