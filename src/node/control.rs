//! Ways to nodes for the control plane: a connection of its own to each, opened when it is needed.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    Access, Address, AnyTransport, Clocks, Connection, Hello, Link, MemoryServer, MemoryTransport,
    RedisTransport, Survey, Surveyed, Transport,
};
use crate::{
    error::{Error, ErrorKind},
    protocol::{Control, ControlReply, Standing},
    record::Key,
    ring::NodeId,
    topology::MetaKeys,
};

/// One node, as the control plane sees it. The connection is opened with the first command, opened again after a
/// failure, and closed when this is dropped.
pub(crate) struct ControlNode<T: Transport = AnyTransport> {
    id: NodeId,
    transport: T,
    clocks: Clocks,
    timeout: Duration,
    last_used: Mutex<Instant>,
    state: tokio::sync::Mutex<State<T::Link>>,
}

struct State<L> {
    open: Option<Open<L>>,
    /// How many connections there have been.
    connections: u64,
}

#[derive(Clone)]
struct Open<L> {
    link: L,
    hello: Hello,
    _driver: Arc<Running>,
}

/// The task that drives a connection; it ends with the connection.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a node said when the present connection was opened.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    /// Which connection this is.
    pub(crate) connection: u64,
    /// Names the running server.
    pub(crate) process: u64,
    /// Where the node stood then.
    pub(crate) standing: Standing,
}

impl<T: Transport> ControlNode<T> {
    /// A way to the node, and how long one command may take, connecting included.
    pub(crate) fn new(id: NodeId, transport: T, clocks: Clocks, timeout: Duration) -> ControlNode<T> {
        let state = tokio::sync::Mutex::new(State { open: None, connections: 0 });
        ControlNode { id, transport, clocks, timeout, last_used: Mutex::new(Instant::now()), state }
    }

    /// Executes a command. One that meets a connection that has broken since is sent again: each may arrive twice.
    pub(crate) async fn call(&self, control: Control) -> Result<ControlReply, Error> {
        self.within(async {
            let (connection, open, fresh) = self.open().await?;
            let answer = open.link.control(control.clone()).await;
            match answer {
                Ok(reply) => Ok(reply),
                Err(failure) => {
                    self.close(connection).await;
                    if fresh {
                        return Err(failure.into_error());
                    }
                    let (connection, open, _) = self.open().await?;
                    let answer = open.link.control(control).await;
                    if answer.is_err() {
                        self.close(connection).await;
                    }
                    answer.map_err(|failure| failure.into_error())
                }
            }
        })
        .await
    }

    /// Where the node stands.
    pub(crate) async fn look(&self) -> Result<Standing, Error> {
        self.standing(Control::Look).await
    }

    /// Where the node stands, and the document that it obeys, as of one moment.
    pub(crate) async fn load(&self) -> Result<(Standing, Option<Bytes>), Error> {
        match self.call(Control::Load).await? {
            ControlReply::Loaded(standing, document) => Ok((standing, document)),
            _ => Err(self.confused()),
        }
    }

    /// Executes a command that answers where the node stands then.
    pub(crate) async fn standing(&self, control: Control) -> Result<Standing, Error> {
        match self.call(control).await? {
            ControlReply::Standing(standing) => Ok(standing),
            _ => Err(self.confused()),
        }
    }

    /// What the node said of itself when it was connected to; connects if there is no connection.
    pub(crate) async fn greet(&self) -> Result<Greeting, Error> {
        self.within(async {
            let (connection, open, _) = self.open().await?;
            let Hello { process, standing, .. } = open.hello;
            Ok(Greeting { connection, process, standing })
        })
        .await
    }

    /// The next part of the keys that begin with `prefix`, after a cursor, and where to go on; 0 is both the beginning and the end.
    /// `None` if that connection is gone: the pass is void then, and begins anew with another [`greet`](Self::greet).
    pub(crate) async fn scan(
        &self,
        connection: u64,
        prefix: &[u8],
        cursor: u64,
        count: usize,
    ) -> Result<Option<(u64, Vec<Key>)>, Error> {
        let prefix = prefix.to_vec();
        match self.survey(Some(connection), Survey::Scan { prefix, cursor, count }).await? {
            None => Ok(None),
            Some(Surveyed::Keys(cursor, keys)) => Ok(Some((cursor, keys))),
            Some(_) => Err(self.confused()),
        }
    }

    /// How many bytes each of these records has; 0 for one that is gone.
    pub(crate) async fn weigh(&self, keys: Vec<Key>) -> Result<Vec<u64>, Error> {
        match self.survey(None, Survey::Weigh(keys)).await? {
            Some(Surveyed::Weights(weights)) => Ok(weights),
            _ => Err(self.confused()),
        }
    }

    /// How many keys the node's database has, about: those beside the records and those of others may be included.
    pub(crate) async fn count(&self) -> Result<u64, Error> {
        match self.survey(None, Survey::Count).await? {
            Some(Surveyed::Count(count)) => Ok(count),
            _ => Err(self.confused()),
        }
    }

    /// Asks on the present connection, or only on this one.
    async fn survey(&self, only: Option<u64>, survey: Survey) -> Result<Option<Surveyed>, Error> {
        self.within(async {
            let (connection, open, _) = self.open().await?;
            if only.is_some_and(|only| only != connection) {
                return Ok(None);
            }
            match open.link.survey(survey).await {
                Ok(surveyed) => Ok(Some(surveyed)),
                Err(failure) => {
                    self.close(connection).await;
                    Err(failure.into_error())
                }
            }
        })
        .await
    }

    /// The present connection and its number, and whether it has just been opened.
    async fn open(&self) -> Result<(u64, Open<T::Link>, bool), Error> {
        let mut state = self.state.lock().await;
        if let Some(open) = &state.open {
            return Ok((state.connections, open.clone(), false));
        }
        let Connection { link, hello, driver } = self.transport.clone().connect().await?;
        let running = Arc::new(Running(tokio::spawn(driver)));
        self.clocks.record(&self.id, hello.reading);
        let open = Open { link, hello, _driver: running };
        state.open = Some(open.clone());
        state.connections += 1;
        Ok((state.connections, open, true))
    }

    /// Gives a connection up, unless another has taken its place.
    async fn close(&self, connection: u64) {
        let mut state = self.state.lock().await;
        if state.connections == connection {
            state.open = None;
        }
    }

    async fn within<R>(&self, work: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
        *self.last_used.lock() = Instant::now();
        match timeout(self.timeout, work).await {
            Ok(done) => done,
            Err(_) => {
                // What was asked may be answered later: not on a connection that is used for anything else.
                if let Ok(mut state) = self.state.try_lock() {
                    state.open = None;
                }
                let message = format!(
                    "no answer within {} ms; check host and port, and that it is Redis, without TLS behind redis:// and \
                     with it behind rediss://",
                    self.timeout.as_millis()
                );
                Err(Error::at(ErrorKind::Unavailable, &self.id, message))
            }
        }
    }

    fn confused(&self) -> Error {
        Error::at(ErrorKind::Unavailable, &self.id, "the node answered another question than it was asked")
    }
}

/// How to reach nodes: what the application knows of the ring besides its document. Documents hold no credentials, and
/// their addresses may not be those that this application has to use.
pub(crate) struct Directory {
    keys: Arc<MetaKeys>,
    clocks: Clocks,
    allow_eviction: bool,
    timeout: Duration,
    access: Arc<Access>,
    /// Nodes that this application reaches at another address than everybody else.
    routes: BTreeMap<NodeId, Address>,
    /// Connections of the control plane.
    ways: Mutex<BTreeMap<(NodeId, String), Arc<ControlNode>>>,
    /// In-memory nodes live as long as somebody holds them.
    servers: Mutex<BTreeMap<String, Arc<MemoryServer>>>,
    /// Whose directory it is, in the simulation.
    #[cfg(test)]
    process: u64,
}

impl Directory {
    /// The directory of the ring called `ring`. `contacts` are the nodes that the application was given; their names
    /// may differ from those in the document. `timeout` is for one command of the control plane.
    pub(crate) fn new(
        ring: &str,
        contacts: Vec<(NodeId, Address)>,
        clocks: Clocks,
        allow_eviction: bool,
        timeout: Duration,
    ) -> Result<Directory, Error> {
        let named = |(id, address): (NodeId, Address)| Ok((id, address.named()?));
        let contacts = contacts.into_iter().map(named).collect::<Result<Vec<_>, Error>>()?;
        let keys = Arc::new(MetaKeys::new(ring));
        let (routes, servers) = (BTreeMap::new(), Mutex::default());
        let directory = Directory {
            keys,
            clocks,
            allow_eviction,
            timeout,
            access: Access::of(contacts.clone()),
            routes,
            ways: Mutex::default(),
            servers,
            #[cfg(test)]
            process: super::simulated::process(),
        };
        contacts.iter().for_each(|(_, address)| directory.keep(address));
        Ok(directory)
    }

    /// Another node that the application names, and how it is reached; answers the address that a document may hold.
    pub(crate) fn learn(&self, id: &NodeId, address: Address) -> Result<String, Error> {
        self.access.check(id, &address)?;
        let address = address.named()?;
        self.keep(&address);
        let public = address.without_credentials();
        self.access.learn(id, address);
        Ok(public)
    }

    /// What a document names `memory:NAME` is there from now on.
    fn keep(&self, address: &Address) {
        if let Address::Memory(Some(name)) = address {
            self.server(name);
        }
    }

    /// Reaches this node at another address than the document says: through a tunnel or a proxy.
    #[must_use]
    pub(crate) fn route(mut self, id: NodeId, address: Address) -> Directory {
        self.routes.insert(id, address);
        self
    }

    pub(crate) fn ring(&self) -> &str {
        &self.keys.ring
    }

    /// What all keys of the ring's records begin with.
    pub(crate) fn prefix(&self) -> [u8; 3] {
        Key::ring_prefix(&self.keys.ring)
    }

    pub(crate) fn keys(&self) -> &Arc<MetaKeys> {
        &self.keys
    }

    /// The nodes that the application was given, with their addresses as a document may hold them.
    pub(crate) fn contacts(&self) -> Vec<(NodeId, String)> {
        let contacts = self.access.contacts().into_iter();
        contacts.map(|(id, address)| (id, address.without_credentials())).collect()
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// The way to a node that a document, or a contact point, says is at `address`.
    pub(crate) fn transport(&self, id: &NodeId, address: &str) -> Result<AnyTransport, Error> {
        let address = match self.routes.get(id) {
            Some(route) => route.clone(),
            None => Address::parse(address)
                .map_err(|error| Error::at(ErrorKind::Configuration, id, error.message()))?,
        };
        let (id, keys, clocks) = (id.clone(), self.keys.clone(), self.clocks.clone());
        Ok(match address {
            Address::Memory(name) => {
                let server = self.server(&name.unwrap_or_default());
                AnyTransport::Memory(MemoryTransport { server, keys, clocks })
            }
            #[cfg(test)]
            Address::Simulated(server) => {
                let process = self.process;
                let transport = super::simulated::SimulatedTransport { id, server, process, keys, clocks };
                AnyTransport::Simulated(transport)
            }
            Address::Redis(address) => {
                let (access, allow_eviction) = (self.access.clone(), self.allow_eviction);
                AnyTransport::Redis(RedisTransport { id, address, access, keys, clocks, allow_eviction })
            }
        })
    }

    /// The way to a node for commands of the control plane: the same for all who ask, as long as it is used.
    pub(crate) fn control(&self, id: &NodeId, address: &str) -> Result<Arc<ControlNode>, Error> {
        let at = (id.clone(), address.to_owned());
        if let Some(known) = self.ways.lock().get(&at) {
            return Ok(known.clone());
        }
        let way = Arc::new(self.control_alone(id, address)?);
        Ok(self.ways.lock().entry(at).or_insert(way).clone())
    }

    /// The next command of the control plane goes over a new connection, whichever node it is for.
    pub(crate) fn renew(&self) {
        self.ways.lock().clear();
    }

    /// A way to a node that nobody else uses: for a scan, which ends with its connection.
    pub(crate) fn control_alone(&self, id: &NodeId, address: &str) -> Result<ControlNode, Error> {
        let transport = self.transport(id, address)?;
        Ok(ControlNode::new(id.clone(), transport, self.clocks.clone(), self.timeout))
    }

    /// Closes the connections of the control plane that were not used for so long.
    pub(crate) fn rest(&self, idle: Duration) {
        self.ways.lock().retain(|_, way| Arc::strong_count(way) > 1 || way.last_used.lock().elapsed() < idle);
    }

    fn server(&self, name: &str) -> Arc<MemoryServer> {
        self.servers.lock().entry(name.to_owned()).or_insert_with(|| MemoryServer::named(name)).clone()
    }
}
