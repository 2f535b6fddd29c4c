//! From one document to the next.

use std::collections::BTreeSet;

use super::{
    ChangeError, Document, DocumentMember, Epoch, Source, Tenure,
    document::{Parts, check_tokens},
    territory::Run,
};
use crate::ring::{Member, NodeId, NodeIndex, Placement, Ring, Weight};

/// What a document can be followed by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Members come, go and change weight, all at once. From a stable document only.
    Resize(Vec<Edit>),
    /// Everything has moved: sources and leaving members go.
    Settle,
    /// A member has another address.
    Move {
        /// The member.
        node: NodeId,
        /// Its new address, without credentials.
        address: String,
    },
    /// A member came back with another memory or as another process.
    Readmit {
        /// The member.
        node: NodeId,
        /// Names its memory.
        incarnation: u64,
        /// Its process, or 0.
        process: u64,
        /// Whether what it holds still counts.
        keep: bool,
    },
    /// A member is gone for good, with everything it held.
    Forget {
        /// The member.
        node: NodeId,
    },
}

/// One change of membership.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// A node joins.
    Add {
        /// Its name.
        id: NodeId,
        /// Its weight.
        weight: Weight,
        /// Its address, without credentials.
        address: String,
        /// Names its memory.
        incarnation: u64,
        /// Its process, or 0.
        process: u64,
    },
    /// A member leaves, once what it holds has moved away.
    Remove {
        /// Its name.
        id: NodeId,
    },
    /// A member shall own more or less.
    Reweight {
        /// Its name.
        id: NodeId,
        /// Its new weight.
        weight: Weight,
    },
}

impl Edit {
    fn id(&self) -> &NodeId {
        match self {
            Edit::Add { id, .. } | Edit::Remove { id } | Edit::Reweight { id, .. } => id,
        }
    }
}

impl Document {
    /// The document that follows this one, with the next epoch.
    ///
    /// # Errors
    /// [`ChangeError`]. This document stays as it is.
    pub fn next(&self, change: &Change) -> Result<Document, ChangeError> {
        match change {
            Change::Resize(edits) => self.resize(edits),
            Change::Settle => self.settle(),
            Change::Move { node, address } => self.relocate(node, address),
            Change::Readmit { node, incarnation, process, keep } => {
                self.readmit(node, *incarnation, *process, *keep)
            }
            Change::Forget { node } => self.forget(node),
        }
    }

    fn resize(&self, edits: &[Edit]) -> Result<Document, ChangeError> {
        if self.is_migrating() {
            return Err(ChangeError::Migrating);
        }
        let members = edit(self.members(), edits)?;
        if members == self.members() {
            return Err(ChangeError::NothingChanges);
        }
        if !has_weight(&members) {
            return Err(ChangeError::NoWeightLeft);
        }
        let ring = evolve(self.ring(), &members)?;
        let rename = self.rename(&members);
        let epoch = self.epoch().next();
        let runs = self.overlay(&ring, |tenure, owner| {
            let tenure = Tenure { owner: rename.kept(tenure.owner), ..tenure };
            if tenure.owner == owner { tenure } else { tenure.moving_to(owner, epoch) }
        });
        self.succeed(ring, members, runs)
    }

    fn settle(&self) -> Result<Document, ChangeError> {
        if !self.is_migrating() {
            return Err(ChangeError::NothingToSettle);
        }
        let members: Vec<_> = self.members().iter().filter(|member| !member.leaving).cloned().collect();
        let rename = self.rename(&members);
        let ring = self.same_owners(&members, &rename)?;
        let runs = self.overlay(&ring, |tenure, owner| Tenure { owner, since: tenure.since, source: None });
        self.succeed(ring, members, runs)
    }

    fn relocate(&self, node: &NodeId, address: &str) -> Result<Document, ChangeError> {
        let mut members = self.members().to_vec();
        let member = &mut members[self.position(node)?.get()];
        if member.address == address {
            return Err(ChangeError::NothingChanges);
        }
        address.clone_into(&mut member.address);
        self.succeed(self.ring().clone(), members, self.runs())
    }

    fn readmit(
        &self,
        node: &NodeId,
        incarnation: u64,
        process: u64,
        keep: bool,
    ) -> Result<Document, ChangeError> {
        let index = self.position(node)?;
        let mut members = self.members().to_vec();
        let member = &mut members[index.get()];
        if keep && (member.incarnation, member.process) == (incarnation, process) {
            return Err(ChangeError::NothingChanges);
        }
        (member.incarnation, member.process) = (incarnation, process);
        member.rejoined |= !keep;
        let mut runs = self.runs();
        if !keep {
            let since = self.epoch().next();
            for (_, tenure) in &mut runs {
                if tenure.owner == index {
                    tenure.since = since;
                }
                if let Some(source) = tenure.source.as_mut().filter(|source| source.node == index) {
                    source.since = since;
                }
            }
        }
        self.succeed(self.ring().clone(), members, runs)
    }

    /// Who gets the tokens of the forgotten node is decided by the ring, as it is after every token that was moving
    /// *to* that node has gone back where it came from. Whoever else they go to, what the source still holds is
    /// kept: the token then moves from there.
    ///
    /// A balanced ring may ask on that occasion for tokens that have nothing to do with the node, to even out the
    /// shares. They move like any others, so nothing is lost; but tokens that are moving already are left alone.
    fn forget(&self, node: &NodeId) -> Result<Document, ChangeError> {
        let gone = self.position(node)?;
        let members = self.without(gone)?;
        let rename = self.rename(&members);
        let proposed = if self.tenures().any(|(_, tenure)| tenure.owner == gone) {
            evolve(&self.returned_from(gone)?, &members)?
        } else {
            self.same_owners(&members, &rename)?
        };
        let epoch = self.epoch().next();
        let runs = self.overlay(&proposed, |tenure, owner| {
            let source = tenure.source.and_then(|source| rename.source(source));
            let Some(kept) = rename.node(tenure.owner) else {
                return match source {
                    Some(source) if source.node == owner => {
                        Tenure { owner, since: source.since, source: None }
                    }
                    source => Tenure { owner, since: epoch, source },
                };
            };
            let tenure = Tenure { owner: kept, since: tenure.since, source };
            let stays = kept == owner || source.is_some();
            if stays { tenure } else { tenure.moving_to(owner, epoch) }
        });
        // Where a token was left alone, the ring is not the one proposed.
        let ring = match proposed.placement() {
            Placement::Hashed { .. } => proposed,
            placement => of_arcs(placement, &members, runs.iter().map(|(_, tenure)| tenure.owner))?,
        };
        self.succeed(ring, members, runs)
    }

    /// The members without `gone`. If nobody with a weight is left, those that were leaving stay; and if that is not
    /// enough, those that tokens come from get weight 1. Otherwise a ring could get stuck: its only heir dead, its
    /// sources without weight, and no change of membership possible while tokens move.
    fn without(&self, gone: NodeIndex) -> Result<Vec<DocumentMember>, ChangeError> {
        let mut members = self.members().to_vec();
        let node = members.remove(gone.get()).id;
        if !has_weight(&members) {
            members.iter_mut().for_each(|member| member.leaving = false);
        }
        if !has_weight(&members) {
            let sources: BTreeSet<&NodeId> =
                self.sources().into_iter().map(|source| self.ring().node(source)).collect();
            for member in members.iter_mut().filter(|member| sources.contains(&member.id)) {
                member.weight = Weight::ONE;
            }
        }
        if has_weight(&members) { Ok(members) } else { Err(ChangeError::LastNode { node }) }
    }

    /// The ring in which the tokens that move to `node` still belong to their sources. A hashed ring is a function
    /// of its members alone, so there it is the same ring.
    fn returned_from(&self, node: NodeIndex) -> Result<Ring, ChangeError> {
        let Placement::Balanced { arc_bits } = self.ring().placement() else {
            return Ok(self.ring().clone());
        };
        let owner = |tenure: Tenure| match tenure.source {
            Some(source) if tenure.owner == node => source.node,
            _ => tenure.owner,
        };
        let owners = self.tenures().map(|(_, tenure)| owner(tenure).get() as u16).collect();
        // The weights do not matter: the ring is only there to be followed by another.
        let members = self.members().iter().map(|member| Member::from(member.id.clone()));
        Ok(Ring::from_arcs(members, arc_bits, owners)?)
    }

    /// The ring of the given members in which every token has the owner it has. They are all among them.
    fn same_owners(&self, members: &[DocumentMember], rename: &Rename) -> Result<Ring, ChangeError> {
        let Some(owners) = self.ring().arc_owners() else { return evolve(self.ring(), members) };
        let renamed = |&owner: &u16| rename.kept(NodeIndex::new(owner));
        of_arcs(self.ring().placement(), members, owners.iter().map(renamed))
    }

    /// The runs of this document cut where those of `ring` end, each with the tenure that follows the one it has,
    /// given its owner in `ring`.
    fn overlay(&self, ring: &Ring, follow: impl Fn(Tenure, NodeIndex) -> Tenure) -> Vec<Run> {
        let mut runs = Vec::new();
        let (mut olds, mut news) = (self.tenures(), ring.ranges());
        let (mut a, mut b) = (olds.next(), news.next());
        while let (Some((old, tenure)), Some((new, owner))) = (a, b) {
            let end = old.end().min(new.end());
            runs.push((end.get(), follow(tenure, owner)));
            if old.end() == end {
                a = olds.next();
            }
            if new.end() == end {
                b = news.next();
            }
        }
        runs
    }

    fn runs(&self) -> Vec<Run> {
        self.tenures().map(|(range, tenure)| (range.end().get(), tenure)).collect()
    }

    fn position(&self, node: &NodeId) -> Result<NodeIndex, ChangeError> {
        self.ring().index_of(node).ok_or_else(|| ChangeError::UnknownNode { node: node.clone() })
    }

    fn rename(&self, members: &[DocumentMember]) -> Rename {
        let position = |id: &NodeId| members.binary_search_by(|member| member.id.cmp(id)).ok();
        let renamed = |member: &DocumentMember| position(&member.id).map(|at| NodeIndex::new(at as u16));
        Rename(self.members().iter().map(renamed).collect())
    }

    fn succeed(
        &self,
        ring: Ring,
        members: Vec<DocumentMember>,
        runs: Vec<Run>,
    ) -> Result<Document, ChangeError> {
        let parts = Parts {
            cluster: self.cluster(),
            epoch: self.epoch().next(),
            policy: self.policy(),
            ring,
            members,
            runs,
        };
        Ok(Document::assemble(parts)?)
    }
}

impl Tenure {
    /// A token that rests begins to move.
    fn moving_to(self, owner: NodeIndex, since: Epoch) -> Tenure {
        Tenure { owner, since, source: Some(Source { node: self.owner, since: self.since }) }
    }
}

/// Where each old member stands among the new ones.
struct Rename(Vec<Option<NodeIndex>>);

impl Rename {
    fn node(&self, old: NodeIndex) -> Option<NodeIndex> {
        self.0[old.get()]
    }

    /// The same for a member that is known to stay.
    fn kept(&self, old: NodeIndex) -> NodeIndex {
        self.node(old).unwrap_or_else(|| unreachable!("whoever owns a token stays"))
    }

    fn source(&self, old: Source) -> Option<Source> {
        Some(Source { node: self.node(old.node)?, since: old.since })
    }
}

/// The members after the edits, sorted by name.
fn edit(members: &[DocumentMember], edits: &[Edit]) -> Result<Vec<DocumentMember>, ChangeError> {
    let mut members = members.to_vec();
    let mut named = BTreeSet::new();
    for edit in edits {
        let node = edit.id();
        if !named.insert(node) {
            return Err(ChangeError::NamedTwice { node: node.clone() });
        }
        let found = members.iter_mut().find(|member| member.id == *node);
        match (edit, found) {
            (Edit::Add { .. }, Some(_)) => return Err(ChangeError::NodeExists { node: node.clone() }),
            (Edit::Add { id, weight, address, incarnation, process }, None) => members.push(DocumentMember {
                id: id.clone(),
                weight: *weight,
                address: address.clone(),
                incarnation: *incarnation,
                process: *process,
                leaving: false,
                rejoined: false,
            }),
            (_, None) => return Err(ChangeError::UnknownNode { node: node.clone() }),
            (Edit::Remove { .. }, Some(member)) => member.leaving = true,
            (Edit::Reweight { weight, .. }, Some(member)) => member.weight = *weight,
        }
    }
    members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(members)
}

fn has_weight(members: &[DocumentMember]) -> bool {
    members.iter().any(|member| !member.leaving && member.weight > Weight::ZERO)
}

fn in_ring(members: &[DocumentMember]) -> Vec<Member> {
    members.iter().map(DocumentMember::in_ring).collect()
}

fn evolve(ring: &Ring, members: &[DocumentMember]) -> Result<Ring, ChangeError> {
    let members = in_ring(members);
    check_tokens(ring.placement(), &members)?;
    Ok(ring.evolve(members)?)
}

/// The ring whose arcs have these owners; it has arcs.
fn of_arcs(
    placement: Placement,
    members: &[DocumentMember],
    owners: impl Iterator<Item = NodeIndex>,
) -> Result<Ring, ChangeError> {
    let Placement::Balanced { arc_bits } = placement else { unreachable!("only balanced rings have arcs") };
    Ok(Ring::from_arcs(in_ring(members), arc_bits, owners.map(|owner| owner.get() as u16).collect())?)
}
