//! Keeps a client's view of the ring: adopts newer documents, raises nodes that are behind, readmits nodes that lost
//! their memory. Requests come here only when a node refused one; while nothing changes, nothing happens here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout, timeout_at},
};

use super::{
    events::{Event, Events, Herald},
    gate::{KeeperGate, OpenGate},
    view::View,
};
use crate::{
    error::{Error, ErrorKind, Result},
    node::{
        AnyTransport, Condition, Connection, ControlNode, Directory, Dispatcher, Limits, News, Node,
        NodeHealth, Refusal, Transport, refused,
    },
    protocol::{Control, Standing},
    ring::NodeId,
    store::{Held, NodeStore, Stand, TopologyStore},
    telemetry::{self, Meters},
    topology::{Document, DocumentMember, Fence, Policy, Verdict},
};

/// How long to wait for a document that another node is to send, before this one is asked as well.
const PATIENCE: Duration = Duration::from_millis(100);

/// Everything that a client knows of its ring, and how it learns more.
pub(crate) struct Keeper {
    store: NodeStore,
    directory: Arc<Directory>,
    limits: Limits,
    view: ArcSwap<View>,
    /// Held while a view takes the place of another.
    adopting: Mutex<()>,
    /// One at a time settles a difference with a node; who comes meanwhile waits for him.
    settling: Mutex<BTreeMap<NodeId, Arc<Settling>>>,
    /// Held while a newer document is loaded from the node that named it.
    loading: AsyncMutex<()>,
    /// The processes that were met behind the nodes.
    processes: Mutex<BTreeMap<NodeId, u64>>,
    /// When the nodes were last asked for a newer document; one at a time asks.
    caught_up: AsyncMutex<Option<Instant>>,
    /// Somebody is asking the nodes for a newer document.
    catching_up: AtomicBool,
    closed: AtomicBool,
    herald: Herald,
    meters: Meters,
}

#[derive(Default)]
struct Settling {
    turn: AsyncMutex<()>,
    /// How often a difference was settled.
    settled: AtomicU64,
}

impl Keeper {
    pub(crate) fn new(
        store: NodeStore,
        directory: Arc<Directory>,
        limits: Limits,
        document: Document,
    ) -> Arc<Keeper> {
        let keeper = Arc::new(Keeper {
            view: ArcSwap::from_pointee(View { document: document.clone(), nodes: Vec::new(), renewals: 0 }),
            store,
            limits,
            adopting: Mutex::default(),
            settling: Mutex::default(),
            loading: AsyncMutex::default(),
            processes: Mutex::default(),
            caught_up: AsyncMutex::default(),
            catching_up: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            herald: Herald::new(),
            meters: Meters::new(directory.ring()),
            directory,
        });
        // Their gates ask the keeper at once, so it has to be there; but nothing is adopted before the view is whole.
        let adopting = keeper.adopting.lock();
        let nodes = document.members().iter().map(|member| keeper.counted_handle(member)).collect();
        keeper.view.store(Arc::new(View { document, nodes, renewals: 0 }));
        drop(adopting);
        keeper.tell_adopted();
        keeper.announce_all();
        keeper
    }

    /// What the client believes now. Never blocks.
    pub(crate) fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// The same for holding on to it while one waits.
    pub(crate) fn view_for_long(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub(crate) fn document(&self) -> Document {
        self.view.load().document.clone()
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub(crate) fn store(&self) -> &NodeStore {
        &self.store
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// A handle of a member besides the one that requests use, with a connection of its own.
    pub(crate) fn handle(self: &Arc<Keeper>, member: &DocumentMember, limits: &Limits) -> Node {
        spawn(&self.directory, limits, KeeperGate::new(Arc::downgrade(self), member))
    }

    /// The handle of a member that requests use.
    fn counted_handle(self: &Arc<Keeper>, member: &DocumentMember) -> Node {
        let gate = KeeperGate::new(Arc::downgrade(self), member).counted(self.meters.node(&member.id));
        spawn(&self.directory, &self.limits, gate)
    }

    /// A handle that is used whoever answers: only for what the fence of every batch guards well enough.
    pub(crate) fn open_handle(&self, member: &DocumentMember, limits: &Limits) -> Node {
        let (node, inbox) = Node::new(member.id.clone(), limits);
        let transport = Way(self.directory.transport(&member.id, &member.address));
        Dispatcher::spawn(&node, inbox, limits.clone(), transport, OpenGate);
        node
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Makes this document the view, if it is newer. Nodes that stay keep their connections; those that go finish what
    /// waits for them, and are refused there what is too late.
    pub(crate) fn adopt(self: &Arc<Keeper>, document: Document) -> bool {
        let dropped = {
            let _adopting = self.adopting.lock();
            let old = self.view.load_full();
            if document.epoch() <= old.document.epoch() || self.closed.load(SeqCst) {
                return false;
            }
            let stays = |member: &DocumentMember| {
                let (index, was) = old.document.member(&member.id)?;
                (was.address == member.address).then(|| old.nodes[index.get()].clone())
            };
            let nodes: Vec<Node> = document
                .members()
                .iter()
                .map(|member| stays(member).unwrap_or_else(|| self.counted_handle(member)))
                .collect();
            let kept = |node: &Node| nodes.iter().any(|other| other.is(node));
            let dropped: Vec<Node> = old.nodes.iter().filter(|node| !kept(node)).cloned().collect();
            let (epoch, resizing) = (document.epoch(), document.is_migrating());
            self.view.store(Arc::new(View { document, nodes, renewals: old.renewals }));
            self.herald.tell(Event::TopologyChanged { epoch, resizing });
            self.tell_adopted();
            dropped
        };
        self.announce_all();
        for node in dropped {
            tokio::spawn(node.close());
        }
        true
    }

    /// Opens another connection to every node, beside the one that there is; what is asked from then on goes over it, and
    /// the old one ends when it has answered everything. A node that does not let us in keeps the old one.
    pub(crate) async fn reconnect(self: &Arc<Keeper>) -> Result<()> {
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the ring was closed; connect again"));
        }
        let document = self.document();
        let fresh = document.members().iter().map(|member| {
            let node = self.counted_handle(member);
            async move { (member, node.tried().await, node) }
        });
        let fresh = join_all(fresh).await;
        let (mut failed, mut closing) = (None, Vec::with_capacity(fresh.len()));
        {
            let _adopting = self.adopting.lock();
            let view = self.view.load_full();
            let mut nodes = view.nodes.clone();
            for (member, tried, node) in fresh {
                // It may have left the ring meanwhile, or moved.
                let stays = view.document.member(&member.id).filter(|(_, now)| now.address == member.address);
                closing.push(match (stays, tried) {
                    (Some((index, _)), Ok(())) if !self.is_closed() => {
                        node.condition().succeed(nodes[index.get()].condition());
                        std::mem::replace(&mut nodes[index.get()], node)
                    }
                    (Some(_), Err(error)) => {
                        failed.get_or_insert(error);
                        node
                    }
                    _ => node,
                });
            }
            let (document, renewals) = (view.document.clone(), view.renewals + 1);
            self.view.store(Arc::new(View { document, nodes, renewals }));
        }
        self.announce_all();
        self.directory.renew();
        join_all(closing.iter().map(Node::close)).await;
        failed.map_or(Ok(()), Err)
    }

    /// How the nodes are.
    pub(crate) fn health(&self) -> Vec<NodeHealth> {
        self.view.load().nodes.iter().map(Node::health).collect()
    }

    /// What happens from now on.
    pub(crate) fn events(&self) -> Events {
        self.herald.listen()
    }

    /// Tells what has become of the node whose handle this is, if requests go over that handle.
    pub(crate) fn announce(&self, condition: &Condition) {
        let view = self.view.load();
        if let Some(node) = view.nodes.iter().find(|node| std::ptr::eq(node.condition(), condition)) {
            condition.tell(|news| {
                let down = if let News::Down(error) = &news { Some(error) } else { None };
                telemetry::breaker(self.directory.ring(), node.id(), down);
                self.herald.tell(match news {
                    News::Up => Event::NodeUp { node: node.id().clone() },
                    News::Down(error) => Event::NodeDown { node: node.id().clone(), error },
                });
            });
        }
    }

    fn tell_adopted(&self) {
        let document = &self.view.load().document;
        let (epoch, nodes, resizing) = (document.epoch(), document.members().len(), document.is_migrating());
        telemetry::adopted(self.directory.ring(), epoch, nodes, resizing);
    }

    /// What a handle has to tell from before it was in the view.
    fn announce_all(&self) {
        self.view.load().nodes.iter().for_each(|node| self.announce(node.condition()));
    }

    /// A node refused a request of `fence`: brings either side up to date. `Ok` says that it is worth to route the request
    /// again.
    ///
    /// In a box: it is rare, and what can become of it is deep. Inside the future of every request it would make that large, and
    /// use up the depth of types that an application's own layers need (`tests/depth.rs`).
    pub(crate) fn settle<'a>(
        self: &'a Arc<Keeper>,
        refusal: &'a Refusal,
        fence: &'a Fence,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let node = &refusal.node;
            if self.view().document.fence() != *fence {
                // The request was routed before the last swap.
                return if Instant::now() < deadline { Ok(()) } else { Err(unsettled(node)) };
            }
            let settling = self.settling.lock().entry(node.clone()).or_default().clone();
            let before = settling.settled.load(SeqCst);
            let settled = async {
                let _turn = settling.turn.lock().await;
                if settling.settled.load(SeqCst) != before || self.view().document.fence() != *fence {
                    return Ok(());
                }
                self.settle_alone(refusal, fence).await?;
                settling.settled.fetch_add(1, SeqCst);
                Ok(())
            };
            timeout_at(deadline, settled).await.unwrap_or_else(|_| Err(unsettled(node)))
        })
    }

    async fn settle_alone(self: &Arc<Keeper>, refusal: &Refusal, fence: &Fence) -> Result<()> {
        let Refusal { node, stored } = refusal;
        match fence.judge(stored.as_deref()) {
            Verdict::Accepted => Ok(()),
            Verdict::Stale(_) => {
                // After a change every node says so at once, and what the first of them sends does for all.
                let _turn = timeout(PATIENCE, self.loading.lock()).await;
                if self.view().document.fence() != *fence {
                    return Ok(());
                }
                let control = self.control(node)?;
                let (standing, document) = control.load().await?;
                self.adopt_from(node, &standing, document.as_deref())
            }
            Verdict::Behind(_) | Verdict::Uninitialised => {
                let document = self.document();
                self.bring_up(node, &document).await
            }
            _ => {
                let error = refused(node, fence, stored.as_deref());
                telemetry::unsettled(node, &error);
                Err(error)
            }
        }
    }

    /// Brings a node whose fence is missing or old up to `document`; one that lost its memory is taken up again, unless the
    /// ring is strict.
    pub(crate) async fn bring_up(self: &Arc<Keeper>, node: &NodeId, document: &Document) -> Result<()> {
        match self.store.raise_node(document, node).await {
            Stand::Obeys => Ok(()),
            Stand::Lost if document.policy() == Policy::Strict => Err(lost_its_memory(node)),
            Stand::Lost => {
                let after = self.store.readmit(document, node, Held::Nothing).await?;
                telemetry::readmitted(self.directory.ring(), node, after.epoch());
                self.adopt(after);
                Ok(())
            }
            Stand::Foreign(error) | Stand::Unreachable(error) => Err(error),
            stand @ Stand::Waits(_) => {
                Err(Error::at(ErrorKind::Unavailable, node, format!("the node cannot be used yet: {stand}")))
            }
        }
    }

    /// Takes over the document that a node holds, if it is the one that its fence names. One that holds nothing says nothing.
    pub(crate) fn adopt_from(
        self: &Arc<Keeper>,
        node: &NodeId,
        standing: &Standing,
        document: Option<&[u8]>,
    ) -> Result<()> {
        let document = document.map(Document::decode).transpose().map_err(|error| {
            Error::at(ErrorKind::Configuration, node, format!("its topology does not decode: {error}"))
        })?;
        match document {
            Some(document) if standing.obeys(&document.fence()) => {
                self.adopt(document);
                Ok(())
            }
            // It lost its memory since it said that it knows a newer one; the next request will be told so.
            None if standing.fence.is_none() => Ok(()),
            _ => Err(Error::at(
                ErrorKind::Configuration,
                node,
                "its topology is not the one that its fence names: something else wrote to its keys \
                 sessionring:RING:document and :fence",
            )),
        }
    }

    /// Asks the other nodes whether they know of a newer document; what does not answer is left out.
    pub(crate) async fn catch_up(self: &Arc<Keeper>) -> Result<()> {
        let asked = Instant::now();
        let mut caught_up = self.caught_up.lock().await;
        // What somebody else has asked since does as well.
        if caught_up.is_some_and(|begun| begun > asked) {
            return Ok(());
        }
        let begun = Instant::now();
        let document = self.document();
        if let Some(newest) = self.store.load(Some(&document)).await?.document {
            self.adopt(newest);
        }
        *caught_up = Some(begun);
        Ok(())
    }

    /// The same in the background, one at a time.
    pub(crate) fn catch_up_soon(self: &Arc<Keeper>) {
        if self.closed.load(SeqCst) || self.catching_up.swap(true, SeqCst) {
            return;
        }
        let keeper = self.clone();
        tokio::spawn(async move {
            // Who could not be reached may be reached the next time.
            let _ = keeper.catch_up().await;
            keeper.catching_up.store(false, SeqCst);
        });
    }

    /// A node was seen to hold another fence, outside of any request.
    pub(crate) fn settle_soon(self: &Arc<Keeper>, node: &NodeId, stored: Option<Vec<u8>>) {
        let fence = self.view().document.fence();
        if stored.as_deref() == Some(&fence.encode()) || self.closed.load(SeqCst) {
            return;
        }
        let (keeper, refusal) = (self.clone(), Refusal { node: node.clone(), stored });
        tokio::spawn(async move {
            let deadline = Instant::now() + 4 * keeper.limits.connect_timeout;
            // The next request, or the next look, will say it again.
            let _ = keeper.settle(&refusal, &fence, deadline).await;
        });
    }

    /// A strict ring believes only the process that its document names.
    pub(crate) fn believes(&self, document: &Document, member: &DocumentMember, process: u64) -> Result<()> {
        if document.policy() == Policy::Strict && member.process != process {
            let message = "the node was restarted or replaced by a replica, and the ring is strict: an operator has to \
                           readmit it (SessionRing::readmit); its sessions are unavailable until then";
            return Err(Error::at(ErrorKind::Unavailable, &member.id, message));
        }
        Ok(())
    }

    /// Whether this process was met behind the node before.
    pub(crate) fn knows(&self, node: &NodeId, process: u64) -> bool {
        self.processes.lock().get(node) == Some(&process)
    }

    /// From now on it was: the other nodes were asked for newer documents since.
    pub(crate) fn remember(&self, node: &NodeId, process: u64) {
        self.processes.lock().insert(node.clone(), process);
    }

    pub(crate) async fn close(&self) {
        let closing: Vec<_> = {
            let _adopting = self.adopting.lock();
            self.closed.store(true, SeqCst);
            self.view.load().nodes.iter().map(Node::close).collect()
        };
        self.herald.end();
        for closed in closing {
            closed.await;
        }
        self.directory.rest(Duration::ZERO);
    }

    /// A connection of its own to a node, for the control plane.
    fn control(&self, node: &NodeId) -> Result<Arc<ControlNode>> {
        let document = self.document();
        let Some((_, member)) = document.member(node) else { return Err(unsettled(node)) };
        self.directory.control(node, &member.address)
    }
}

/// What makes a member obey a document.
pub(crate) fn raise_to(document: &Document, member: &DocumentMember) -> Control {
    Control::Raise {
        name: member.id.as_str().to_owned(),
        fence: document.fence(),
        document: document.encode().clone(),
        incarnation: member.incarnation,
    }
}

fn spawn(directory: &Directory, limits: &Limits, gate: KeeperGate) -> Node {
    let (node, inbox) = Node::new(gate.node().clone(), limits);
    let transport = Way(directory.transport(gate.node(), gate.address()));
    Dispatcher::spawn(&node, inbox, limits.clone(), transport, gate);
    node
}

/// The way to a member. An address that this version cannot use makes the member unusable, not the ring.
#[derive(Clone)]
struct Way(Result<AnyTransport>);

impl Transport for Way {
    type Link = <AnyTransport as Transport>::Link;

    async fn connect(self) -> Result<Connection<Self::Link>> {
        self.0?.connect().await
    }

    async fn moved(self) {
        match self.0 {
            Ok(transport) => transport.moved().await,
            Err(_) => std::future::pending().await,
        }
    }
}

fn unsettled(node: &NodeId) -> Error {
    let message =
        "the ring is changing, and the node did not agree with it in time; nothing was changed; try again";
    Error::at(ErrorKind::Unavailable, node, message)
}

fn lost_its_memory(node: &NodeId) -> Error {
    let message = "the node came back without its memory, and the ring is strict: an operator has to readmit it \
                   (SessionRing::readmit); its sessions are unavailable until then";
    Error::at(ErrorKind::Unavailable, node, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SessionRing;

    #[tokio::test]
    async fn a_node_that_is_empty_by_now_is_no_misconfiguration() {
        let ring = SessionRing::builder().node("a", "memory:").connect().await.unwrap();
        let keeper = ring.keeper();
        let node: NodeId = "a".parse().unwrap();
        let mut standing = Standing { owner: None, fence: None, incarnation: None };
        keeper.adopt_from(&node, &standing, None).unwrap();
        standing.fence = Some(keeper.document().fence().encode().to_vec());
        assert!(keeper.adopt_from(&node, &standing, None).unwrap_err().is_configuration());
    }

    /// Nodes answer in any order, and one that was away sends what it had.
    #[tokio::test]
    async fn an_older_document_takes_the_place_of_none() {
        let ring = SessionRing::builder().node("a", "memory:").connect().await.unwrap();
        let (keeper, founded) = (ring.keeper(), ring.keeper().document());
        ring.add_node("b", "memory:").await.unwrap().wait().await.unwrap();
        let now = keeper.document().fence();
        assert!(founded.epoch() < now.epoch);
        let standing = Standing { fence: Some(founded.fence().encode().to_vec()), ..Default::default() };
        keeper.adopt_from(&"a".parse().unwrap(), &standing, Some(founded.encode().as_ref())).unwrap();
        assert!(!keeper.adopt(founded) && !keeper.adopt(keeper.document()));
        assert_eq!(keeper.document().fence(), now);
    }
}
