//! The document: who is in the ring and who owns which token since when, at one epoch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    DocumentError, Epoch, Fence, PROTOCOL_VERSION,
    encoding::encode,
    fence::cluster,
    territory::{Run, Tenures, Territory},
};
use crate::ring::{Member, NodeId, NodeIndex, Placement, Ring, Share, Token, Weight};

/// The largest document: 8 MiB. It is stored on every node and loaded by every client.
pub const MAX_DOCUMENT_BYTES: usize = 8 << 20;

/// The most virtual nodes of a hashed ring with a document: 2^20. More could not be told in so many bytes, and a
/// reader that is asked for more by a damaged document must not build them.
pub const MAX_DOCUMENT_TOKENS: u64 = 1 << 20;

/// The longest address.
pub(super) const MAX_ADDRESS: usize = 1024;

/// What becomes of a node that came back with another memory, or another process, than the document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Policy {
    /// A node that restarted is used on, and one that lost its memory is readmitted by any client.
    #[default]
    Trust,
    /// Neither is used until an operator has readmitted it.
    Strict,
}

/// One node of the ring.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentMember {
    /// Its name.
    pub id: NodeId,
    /// Its weight. A member that is leaving keeps it, for the case that it has to stay after all; in the ring its
    /// weight is 0.
    pub weight: Weight,
    /// Where it is, without credentials.
    pub address: String,
    /// Names the memory that it was given its place with.
    pub incarnation: u64,
    /// The process it was when the document was written; 0 if that is not known.
    pub process: u64,
    /// Whether it goes as soon as what it holds has moved away.
    pub leaving: bool,
    /// It was a member before and came back without its memory. Whoever initialises it raises the nodes first that
    /// share a moving token with it.
    pub rejoined: bool,
}

impl DocumentMember {
    /// As the ring sees it.
    pub(super) fn in_ring(&self) -> Member {
        Member::new(self.id.clone(), if self.leaving { Weight::ZERO } else { self.weight })
    }
}

/// The node that a token moves away from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The node.
    pub node: NodeIndex,
    /// Records there count if they are stamped with this epoch or a later one.
    pub since: Epoch,
}

/// Who is responsible for a token, and from which epoch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure {
    /// Who owns the token; while it moves, where it moves to.
    pub owner: NodeIndex,
    /// Records at the owner count if they are stamped with this epoch or a later one.
    pub since: Epoch,
    /// Where the token comes from, while it moves.
    pub source: Option<Source>,
}

/// What it costs to forget a node, in shares of the circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Tokens that the node alone is responsible for: all their sessions are lost.
    pub owned: Share,
    /// Tokens that move to it: the sessions that have already moved are lost.
    pub arriving: Share,
    /// Tokens that move away from it: the sessions that have not moved yet are lost.
    pub departing: Share,
}

impl Cost {
    /// All of it: what is lost at most.
    #[must_use]
    pub fn total(&self) -> Share {
        [self.owned, self.arriving, self.departing].into_iter().sum()
    }
}

/// Membership and ownership at one epoch. Immutable; a clone shares it. It has one encoding, and two documents are
/// equal if they have the same.
#[derive(Clone)]
pub struct Document {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: u64,
    epoch: Epoch,
    policy: Policy,
    ring: Ring,
    /// Sorted by name, as in the ring.
    members: Vec<DocumentMember>,
    /// The tenures that occur: each once, those without a source first.
    table: Vec<Tenure>,
    territory: Territory,
    migrating: bool,
    bytes: Bytes,
    nonce: u64,
}

/// What a document is made of.
pub(super) struct Parts {
    pub(super) cluster: u64,
    pub(super) epoch: Epoch,
    pub(super) policy: Policy,
    /// Its members and theirs are the same, and it says what the runs say about owners.
    pub(super) ring: Ring,
    /// Sorted by name.
    pub(super) members: Vec<DocumentMember>,
    /// Cover the circle; in a balanced ring they end where arcs end.
    pub(super) runs: Vec<Run>,
}

impl Document {
    /// The document of a ring called `name` in which nothing was stored before `epoch`: at its founding, which is
    /// [`Epoch::FIRST`], or when all of its nodes have lost their memories. The members can be in any order.
    ///
    /// # Errors
    /// [`DocumentError`]: the members are not those of the ring, an address is not fit to be stored, or the
    /// document would be too large.
    pub fn found(
        name: &str,
        epoch: Epoch,
        policy: Policy,
        ring: Ring,
        mut members: Vec<DocumentMember>,
    ) -> Result<Document, DocumentError> {
        members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        for (at, member) in ring.members().iter().enumerate() {
            if members.get(at).is_none_or(|given| given.in_ring() != *member || given.leaving) {
                return Err(DocumentError::Members { node: member.id().clone() });
            }
        }
        if let Some(extra) = members.get(ring.members().len()) {
            return Err(DocumentError::Members { node: extra.id.clone() });
        }
        let runs = ring
            .ranges()
            .map(|(range, owner)| (range.end().get(), Tenure { owner, since: epoch, source: None }))
            .collect();
        Document::assemble(Parts { cluster: cluster(name), epoch, policy, ring, members, runs })
    }

    pub(super) fn assemble(parts: Parts) -> Result<Document, DocumentError> {
        let Parts { cluster, epoch, policy, ring, members, runs } = parts;
        if !epoch.is_valid() {
            return Err(DocumentError::Epoch(epoch));
        }
        check_tokens(ring.placement(), ring.members())?;
        if let Some(member) = members.iter().find(|member| !is_fit(&member.address)) {
            return Err(DocumentError::Address { node: member.id.clone() });
        }

        let (table, indexes) = tabulate(&runs);
        let territory = match ring.placement() {
            Placement::Balanced { arc_bits } => Territory::arcs(arc_bits, &indexes, table.len()),
            Placement::Hashed { .. } => Territory::ranges(&indexes),
        };

        let migrating =
            table.iter().any(|tenure| tenure.source.is_some()) || members.iter().any(|m| m.leaving);
        let mut inner = Inner {
            cluster,
            epoch,
            policy,
            ring,
            members,
            table,
            territory,
            migrating,
            bytes: Bytes::new(),
            nonce: 0,
        };
        let bytes = encode(&inner.view());
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(DocumentError::TooLarge { bytes: bytes.len() });
        }
        inner.nonce = Token::of(&bytes).get();
        inner.bytes = bytes.into();
        Ok(Document { inner: Arc::new(inner) })
    }

    /// Reads a stored document. Whether it is the one that a fence names is the caller's to see, by
    /// [`Document::fence`].
    ///
    /// # Errors
    /// [`DocumentError`]. Bytes that are not exactly what [`Document::encode`] makes of some document are refused.
    pub fn decode(bytes: &[u8]) -> Result<Document, DocumentError> {
        super::encoding::decode(bytes)
    }

    /// The document as stored and as sent. Computed when it was made; a clone shares it.
    #[must_use]
    pub fn encode(&self) -> &Bytes {
        &self.inner.bytes
    }

    /// The fence that names this document and no other.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence {
            protocol: PROTOCOL_VERSION,
            cluster: self.inner.cluster,
            epoch: self.inner.epoch,
            nonce: self.inner.nonce,
        }
    }

    /// Its number.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// What becomes of nodes that restarted.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.inner.policy
    }

    pub(super) fn cluster(&self) -> u64 {
        self.inner.cluster
    }

    /// Who owns which token; while tokens move, where they move to. Members that are leaving have weight 0 in it.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.inner.ring
    }

    /// The members, sorted by name as in the ring: a [`NodeIndex`] is a position in both.
    #[must_use]
    pub fn members(&self) -> &[DocumentMember] {
        &self.inner.members
    }

    /// The member called `id` and its position, if there is one.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<(NodeIndex, &DocumentMember)> {
        self.inner.ring.index_of(id).map(|index| (index, &self.inner.members[index.get()]))
    }

    /// Who is responsible for `token`. It does not allocate and takes a few nanoseconds.
    #[inline]
    #[must_use]
    pub fn tenure(&self, token: Token) -> Tenure {
        self.inner.table[self.inner.territory.index(token)]
    }

    /// The whole circle from [`Token::MIN`] to [`Token::MAX`], arc by arc or range by range, without a gap.
    /// Neighbouring arcs may be under the same tenure.
    #[must_use]
    pub fn tenures(&self) -> Tenures<'_> {
        Tenures::of(&self.inner.territory, &self.inner.table)
    }

    /// Whether a change is under way: some token moves, or some member is leaving.
    #[inline]
    #[must_use]
    pub fn is_migrating(&self) -> bool {
        self.inner.migrating
    }

    /// Every node that some token moves away from, in order.
    #[must_use]
    pub fn sources(&self) -> Vec<NodeIndex> {
        let sources: BTreeSet<NodeIndex> = self.moving().map(|(source, _)| source).collect();
        sources.into_iter().collect()
    }

    /// Every node that shares a moving token with this one, as source or as owner, in order.
    #[must_use]
    pub fn partners(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let other = |(source, owner)| match node {
            _ if node == source => Some(owner),
            _ if node == owner => Some(source),
            _ => None,
        };
        let partners: BTreeSet<NodeIndex> = self.moving().filter_map(other).collect();
        partners.into_iter().collect()
    }

    /// What moves: source, owner, and how much of the circle goes from the one to the other, in order. Takes time
    /// in proportion to the arcs or ranges.
    #[must_use]
    pub fn flows(&self) -> Vec<(NodeIndex, NodeIndex, Share)> {
        let mut flows = BTreeMap::new();
        for (range, tenure) in self.tenures() {
            if let Some(source) = tenure.source {
                *flows.entry((source.node, tenure.owner)).or_insert(Share::NONE) += range.share();
            }
        }
        flows.into_iter().map(|((source, owner), share)| (source, owner, share)).collect()
    }

    /// What is lost if a node is forgotten, or `None` if it is no member.
    #[must_use]
    pub fn cost_of_forgetting(&self, node: &NodeId) -> Option<Cost> {
        let (node, _) = self.member(node)?;
        let mut cost = Cost::default();
        for (range, tenure) in self.tenures() {
            match tenure.source {
                None if tenure.owner == node => cost.owned += range.share(),
                Some(_) if tenure.owner == node => cost.arriving += range.share(),
                Some(source) if source.node == node => cost.departing += range.share(),
                _ => {}
            }
        }
        Some(cost)
    }

    /// Source and owner of the tenures under which tokens move.
    fn moving(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + '_ {
        // Every tenure of the table occurs.
        self.inner.table.iter().filter_map(|tenure| Some((tenure.source?.node, tenure.owner)))
    }
}

/// What is encoded.
pub(super) struct View<'a> {
    pub(super) cluster: u64,
    pub(super) epoch: Epoch,
    pub(super) policy: Policy,
    pub(super) placement: Placement,
    pub(super) members: &'a [DocumentMember],
    pub(super) table: &'a [Tenure],
    pub(super) territory: &'a Territory,
}

impl Inner {
    fn view(&self) -> View<'_> {
        View {
            cluster: self.cluster,
            epoch: self.epoch,
            policy: self.policy,
            placement: self.ring.placement(),
            members: &self.members,
            table: &self.table,
            territory: &self.territory,
        }
    }
}

/// The tenures that occur, those without a source first, and for every run the index of its own.
fn tabulate(runs: &[Run]) -> (Vec<Tenure>, Vec<Run<u32>>) {
    // Runs are many and tenures few: nearly always it is one of those that were just looked up. With room for every
    // owner and as much again, two of them seldom take each other's place.
    let owners = runs.iter().map(|(_, tenure)| tenure.owner.get() + 1).max().unwrap_or(1);
    let slots = 2 * owners.next_power_of_two();
    let mut recent: Vec<Option<(Tenure, u32)>> = vec![None; slots];
    let slot = |tenure: &Tenure| {
        let source = tenure.source.map_or(0, |source| source.node.get() + 1);
        (tenure.owner.get() + 31 * source) % slots
    };
    let mut places: BTreeMap<(bool, Tenure), u32> = BTreeMap::new();
    for &(_, tenure) in runs {
        let recent = &mut recent[slot(&tenure)];
        if recent.is_none_or(|(known, _)| known != tenure) {
            places.insert((tenure.source.is_some(), tenure), 0);
            *recent = Some((tenure, 0));
        }
    }
    for (place, index) in places.values_mut().zip(0..) {
        *place = index;
    }
    recent.fill(None);
    let indexes = runs.iter().map(|&(end, tenure)| {
        let recent = &mut recent[slot(&tenure)];
        let (_, index) = match *recent {
            Some(known) if known.0 == tenure => known,
            _ => *recent.insert((tenure, places[&(tenure.source.is_some(), tenure)])),
        };
        (end, index)
    });
    let indexes = indexes.collect();
    (places.into_keys().map(|(_, tenure)| tenure).collect(), indexes)
}

/// Refuses hashed rings that no document can describe. Asked before such a ring is built, where that is possible.
pub(super) fn check_tokens(placement: Placement, members: &[Member]) -> Result<(), DocumentError> {
    let Placement::Hashed { vnodes } = placement else { return Ok(()) };
    let weight: u128 = members.iter().map(|member| u128::from(member.weight().get())).sum();
    let tokens = weight * u128::from(vnodes);
    if tokens > u128::from(MAX_DOCUMENT_TOKENS) {
        return Err(DocumentError::TooManyTokens { tokens });
    }
    Ok(())
}

/// Whether an address may be stored where everybody reads it. Credentials are each application's own.
fn is_fit(address: &str) -> bool {
    let fits = (1..=MAX_ADDRESS).contains(&address.len()) && !address.chars().any(char::is_control);
    let authority =
        address.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
    let query = address.split_once('?').map_or("", |(_, query)| query);
    fits && !authority.contains('@') && !query.contains("pass=") && !query.contains("user=")
}

impl PartialEq for Document {
    fn eq(&self, other: &Document) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
            || (self.inner.nonce == other.inner.nonce && self.inner.bytes == other.inner.bytes)
    }
}

impl Eq for Document {}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("epoch", &self.inner.epoch.get())
            .field("nonce", &format_args!("{:016x}", self.inner.nonce))
            .field("members", &self.inner.members.len())
            .field("migrating", &self.inner.migrating)
            .finish_non_exhaustive()
    }
}
