//! What a change would do, before it is done.

use std::{collections::BTreeMap, fmt};

use futures_util::future::join_all;

use super::{DEFAULT_RATE, Resize, start::start};
use crate::{
    client::SessionRing,
    error::{Error, ErrorKind, Result},
    node::Address,
    ring::{Diff, NodeId, Ring, Share, Weight},
    topology::{Change, Document, Edit},
};

/// Changes of membership that are made together. Until [`start`](Plan::start) nothing happens, and nothing is sent.
///
/// It displays as a table of what would move from where to where; [`sample`](Plan::sample) adds sessions and bytes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ring = sessionring::SessionRing::builder()
/// #     .node("a", "memory:").node("b", "memory:").node("c", "memory:").connect().await?;
/// let plan = ring.plan().add("d", "memory:")?;
/// assert_eq!(
///     plan.to_string(),
///     "from  to   share\n\
///      a     d    8.33%\n\
///      b     d    8.33%\n\
///      c     d    8.33%\n\
///      moved     25.00%  (no placement could move less than 25.00%)\n"
/// );
/// plan.start().await?.wait().await?;
/// assert_eq!(ring.ring().members().len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Plan {
    ring: SessionRing,
    changes: Vec<Planned>,
    rate: Option<u32>,
    before: Document,
    after: Ring,
}

/// One change, with the address as it was given.
#[derive(Clone)]
pub(super) enum Planned {
    Add { id: NodeId, address: Address, weight: Weight },
    Remove { id: NodeId },
    Reweight { id: NodeId, weight: Weight },
}

/// What would move from one node to another.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Flow {
    /// The owner now.
    pub from: NodeId,
    /// The owner after the change.
    pub to: NodeId,
    /// The exact part of all sessions.
    pub share: Share,
    /// About so many sessions.
    pub sessions: u64,
    /// About so many bytes, keys included.
    pub bytes: u64,
}

/// A [`Plan`] with sessions and bytes, estimated from a sample of every node's keys.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// For every pair of nodes between which something would move.
    pub flows: Vec<Flow>,
    /// Nodes that could not be asked: nothing is known of what they hold.
    pub unavailable: Vec<NodeId>,
}

impl Plan {
    pub(crate) fn new(ring: SessionRing) -> Plan {
        let before = ring.keeper().document();
        let after = before.ring().clone();
        Plan { ring, changes: Vec::new(), rate: Some(DEFAULT_RATE), before, after }
    }

    /// A new node of weight 1. Its database must be empty, or have been this node's before.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): the name is taken, or the name or the address is not valid.
    pub fn add(self, name: impl AsRef<str>, address: impl Into<String>) -> Result<Plan> {
        self.add_weighted(name, address, 1)
    }

    /// A new node that gets `weight` times the sessions of a node of weight 1.
    ///
    /// # Errors
    /// Those of [`add`](Plan::add).
    pub fn add_weighted(
        self,
        name: impl AsRef<str>,
        address: impl Into<String>,
        weight: u32,
    ) -> Result<Plan> {
        let id = NodeId::new(name.as_ref())?;
        let address = Address::parse(&address.into()).and_then(Address::named);
        let address = address.map_err(|error| Error::at(error.kind(), &id, error.message()))?;
        self.with(Planned::Add { id, address, weight: Weight::new(weight) })
    }

    /// A node leaves: its sessions move to the others.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): there is no such node, or it is the last.
    pub fn remove(self, name: impl AsRef<str>) -> Result<Plan> {
        let id = NodeId::new(name.as_ref())?;
        self.with(Planned::Remove { id })
    }

    /// A node gets another weight.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): there is no such node, or nobody would have any weight.
    pub fn reweight(self, name: impl AsRef<str>, weight: u32) -> Result<Plan> {
        let id = NodeId::new(name.as_ref())?;
        self.with(Planned::Reweight { id, weight: Weight::new(weight) })
    }

    /// So many sessions per second move at most; 10,000 unless set, which leaves the servers room for requests.
    #[must_use]
    pub fn rate(mut self, sessions_per_second: u32) -> Plan {
        self.rate = Some(sessions_per_second);
        self
    }

    /// Sessions move as fast as the nodes take them, and requests feel it.
    #[must_use]
    pub fn unthrottled(mut self) -> Plan {
        self.rate = None;
        self
    }

    /// What would move, exactly.
    pub fn diff(&self) -> Diff {
        self.before.ring().diff(&self.after)
    }

    /// Who would own what.
    pub fn ring(&self) -> &Ring {
        &self.after
    }

    /// Asks every node that would lose sessions for a sample of what it holds; changes nothing.
    ///
    /// # Errors
    /// [`is_closed`](Error::is_closed).
    pub async fn sample(&self) -> Result<Sample> {
        let mut sources: Vec<NodeId> = self.diff().flows().iter().map(|flow| flow.from().clone()).collect();
        sources.dedup();
        let sampled = join_all(sources.iter().map(|id| self.sample_one(id))).await;
        let (mut flows, mut unavailable) = (Vec::new(), Vec::new());
        for (id, sampled) in sources.iter().zip(sampled) {
            match sampled {
                Ok(mut sampled) => flows.append(&mut sampled),
                Err(error) if error.is_closed() => return Err(error),
                Err(_) => unavailable.push(id.clone()),
            }
        }
        Ok(Sample { flows, unavailable })
    }

    /// Lists about a thousand keys, which SCAN gives in the order of their hashes, and weighs them.
    async fn sample_one(&self, source: &NodeId) -> Result<Vec<Flow>> {
        const ENOUGH: usize = 1_000;
        let keeper = self.ring.keeper();
        let address = self.before.member(source).map(|(_, member)| member.address.as_str());
        let control = keeper.directory().control_alone(source, address.unwrap_or_default())?;
        let connection = control.greet().await?.connection;
        let total = control.count().await?;
        let prefix = keeper.directory().prefix();
        let (mut cursor, mut seen, mut keys) = (0, 0, Vec::new());
        loop {
            let Some((next, found)) = control.scan(connection, &prefix, cursor, ENOUGH).await? else {
                return Err(Error::at(ErrorKind::Unavailable, source, "the connection to it ended"));
            };
            cursor = next;
            seen += ENOUGH;
            keys.extend(found);
            if cursor == 0 || keys.len() >= ENOUGH {
                break;
            }
        }
        let sizes = control.weigh(keys.clone()).await?;
        let mut flows: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for (key, size) in keys.iter().zip(sizes) {
            let to = self.after.owner(key.token());
            if to != source {
                let (sessions, bytes) = flows.entry(to.clone()).or_default();
                *sessions += 1;
                *bytes += size + key.as_bytes().len() as u64;
            }
        }
        let factor = if cursor == 0 || seen == 0 { 1.0 } else { total as f64 / seen as f64 };
        let scaled = |n: u64| (n as f64 * factor).round() as u64;
        let diff = self.diff();
        let flows = diff.flows().iter().filter(|flow| flow.from() == source).map(|flow| {
            let (sessions, bytes) = flows.get(flow.to()).copied().unwrap_or_default();
            let (sessions, bytes) = (scaled(sessions), scaled(bytes));
            Flow { from: source.clone(), to: flow.to().clone(), share: flow.share(), sessions, bytes }
        });
        Ok(flows.collect())
    }

    /// Makes the changes: the nodes decide on the new topology, and sessions begin to move. The ring serves all the while.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): another resize is under way, or a new node is not fit or not empty.
    /// [`is_unavailable`](Error::is_unavailable): a majority of the nodes, or a new node, does not answer. Nothing was
    /// changed then, unless the message says otherwise.
    pub async fn start(self) -> Result<Resize> {
        start(&self.ring, &self.changes, self.rate).await
    }

    fn with(mut self, change: Planned) -> Result<Plan> {
        self.changes.push(change);
        let edits = self.changes.iter().map(|change| change.edit()).collect();
        self.after = self.before.next(&Change::Resize(edits)).map_err(refused)?.ring().clone();
        Ok(self)
    }
}

pub(super) fn refused(error: crate::topology::ChangeError) -> Error {
    Error::configuration(format!("{error}; nothing was changed"))
}

impl Planned {
    /// The change as it would stand in a document; a new node's database is not known yet.
    fn edit(&self) -> Edit {
        match self {
            Planned::Add { id, address, weight } => Edit::Add {
                id: id.clone(),
                weight: *weight,
                address: address.without_credentials(),
                incarnation: 0,
                process: 0,
            },
            Planned::Remove { id } => Edit::Remove { id: id.clone() },
            Planned::Reweight { id, weight } => Edit::Reweight { id: id.clone(), weight: *weight },
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diff().fmt(f)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Flow { from, to, share, sessions, bytes } in &self.flows {
            writeln!(f, "{from} to {to}: {share}, about {sessions} sessions, {bytes} bytes")?;
        }
        for node in &self.unavailable {
            writeln!(f, "{node}: unavailable, what it holds is unknown")?;
        }
        Ok(())
    }
}

/// Without addresses, which may hold passwords.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("diff", &self.diff().flows())
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}
