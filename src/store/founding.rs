//! The first document of a ring, and the first after all of its nodes have lost their memories.
//!
//! Nobody has a vote but the nodes of the document themselves, so all of them must be there, be blank, and accept. Two
//! processes whose lists share a node meet there: one of them gives up its own document and finishes the other's.

use futures_util::future::join_all;

use super::{
    NodeStore, TopologyStore,
    decision::{Attempt, Attempts, decode, gave_up},
    node_store::{confused, of_document},
};
use crate::{
    entropy,
    error::{Error, ErrorKind, Result},
    protocol::{Control, ControlReply, Ending, Proposal, Rule},
    ring::{NodeId, Ring, Weight},
    topology::{Document, DocumentMember, Epoch, Policy},
};

/// What a ring is founded from.
struct Plan<'a> {
    ring: &'a Ring,
    policy: Policy,
    epoch: Epoch,
    /// Name, weight and address of each member.
    members: Vec<(NodeId, Weight, String)>,
    /// What is known already, and is to be followed.
    known: Option<&'a Document>,
}

/// A node that is about to join a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enlisted {
    /// Names its memory.
    pub(crate) incarnation: u64,
    /// Names its process.
    pub(crate) process: u64,
}

impl NodeStore {
    /// The document of the ring: decided now, or found. The members of `ring` are contact points, and all of them must
    /// answer, unless the ring is there already.
    ///
    /// # Errors
    /// Unavailable: a node does not answer, so nothing was founded. Configuration: a node is not free.
    pub(crate) async fn found(&self, policy: Policy, ring: &Ring) -> Result<Document> {
        let mut members = Vec::new();
        for member in ring.members() {
            let contact = self.directory.contacts().into_iter().find(|(id, _)| id == member.id());
            let (id, address) = contact
                .ok_or_else(|| Error::at(ErrorKind::Configuration, member.id(), "the node has no address"))?;
            members.push((id, member.weight(), address));
        }
        self.carry_out(Plan { ring, policy, epoch: Epoch::FIRST, members, known: None }).await
    }

    /// The document that follows `known` if all of its members are blank: the same nodes, with nothing in them.
    ///
    /// # Errors
    /// As for a founding.
    pub(crate) async fn refound(&self, known: &Document) -> Result<Document> {
        let staying = known.members().iter().filter(|member| !member.leaving);
        let members: Vec<_> =
            staying.map(|member| (member.id.clone(), member.weight, member.address.clone())).collect();
        let ring = match members.len() == known.members().len() {
            true => known.ring().clone(),
            false => {
                let staying = known.ring().members().iter();
                let staying = staying.filter(|member| members.iter().any(|(id, ..)| id == member.id()));
                known.ring().evolve(staying.cloned())?
            }
        };
        let (policy, epoch) = (known.policy(), known.epoch().next());
        self.carry_out(Plan { ring: &ring, policy, epoch, members, known: Some(known) }).await
    }

    async fn carry_out(&self, plan: Plan<'_>) -> Result<Document> {
        let mut attempts = Attempts::within(self.patience);
        let mut begun = false;
        loop {
            // Somebody may have founded it meanwhile.
            let loaded = self.load(plan.known).await?;
            let newer = |found: &Document| plan.known.is_none_or(|known| found.epoch() > known.epoch());
            if let Some(document) = loaded.document.filter(newer) {
                self.raise(&document, None).await;
                return Ok(document);
            }
            if let Some((_, error)) = loaded.unreachable.into_iter().next() {
                return Err(plan.incomplete(&error, begun));
            }
            if let Some((id, ..)) = plan.members.iter().find(|(id, ..)| !loaded.blank.contains(id)) {
                let message = "it still holds the document, so the others are readmitted instead";
                return Err(Error::at(ErrorKind::Unavailable, id, message));
            }
            let mut document = self.draw_up(&plan).await?;
            let reason = loop {
                let nodes = self.nodes(&document);
                let acceptors = document.members().iter().map(|m| (m.id.clone(), m.incarnation));
                let ballot = attempts.ballot()?;
                let proposal = Proposal::new(None, Rule::All, ballot, document.encode().clone(), acceptors);
                let Attempt { ending, errors } = self.carry(proposal, &nodes, None).await;
                match ending {
                    Ending::Decided(_) => {
                        self.raise(&document, None).await;
                        return Ok(document);
                    }
                    Ending::Other(bytes) => {
                        document = decode(&bytes)?;
                        begun = true;
                    }
                    Ending::Outbid(ballot) => {
                        attempts.outbid(ballot);
                        break Error::new(ErrorKind::Unavailable, "others are founding it at the same time");
                    }
                    Ending::Newer(node, fence) => {
                        break Error::at(ErrorKind::Unavailable, &node, format!("it holds {fence} already"));
                    }
                    Ending::Unreachable { missing, begun: voted, .. } => {
                        begun |= voted;
                        let reason = missing.first().and_then(|id| errors.get(id));
                        let reason = reason.cloned().unwrap_or_else(|| {
                            Error::new(ErrorKind::Unavailable, "a node lost its memory meanwhile")
                        });
                        break plan.incomplete(&reason, begun);
                    }
                }
            };
            if !attempts.pause().await? {
                return Err(gave_up(begun, &reason));
            }
        }
    }

    /// Gives every node its incarnation, and writes the document that repeats them.
    async fn draw_up(&self, plan: &Plan<'_>) -> Result<Document> {
        let marked = plan.members.iter().map(|(id, weight, address)| async move {
            let Enlisted { incarnation, process } = self.mark(id, address).await?;
            Ok(DocumentMember {
                id: id.clone(),
                weight: *weight,
                address: address.clone(),
                incarnation,
                process,
                leaving: false,
                rejoined: false,
            })
        });
        let members = join_all(marked).await.into_iter().collect::<Result<Vec<DocumentMember>>>()?;
        for (at, member) in members.iter().enumerate() {
            if let Some(same) = members[..at].iter().find(|other| other.incarnation == member.incarnation) {
                return Err(one_database(&member.id, &same.id));
            }
        }
        let (name, ring) = (self.directory.ring(), plan.ring.clone());
        Document::found(name, plan.epoch, plan.policy, ring, members)
            .map_err(|error| of_document(None, &error))
    }

    /// Gives a node that has neither a fence nor an incarnation one; answers which memory and process it is.
    pub(super) async fn mark(&self, id: &NodeId, address: &str) -> Result<Enlisted> {
        // A connection that was opened earlier may say which process it was then.
        let node = self.directory.control_alone(id, address)?;
        let mark = Control::Mark { name: id.as_str().to_owned(), incarnation: entropy::u64()? };
        let ControlReply::Standing(standing) = node.call(mark).await? else { return Err(confused(id)) };
        if !standing.may_be(id.as_str()) {
            let owner = standing.owner.unwrap_or_default();
            return Err(Error::at(
                ErrorKind::Configuration,
                id,
                format!(
                    "its database belongs to node {owner} already; every node needs a database of its own (if the \
                     node was renamed on purpose, delete its key {})",
                    self.directory.keys().node
                ),
            ));
        }
        let process = node.greet().await?.process;
        match standing.incarnation {
            Some(incarnation) => Ok(Enlisted { incarnation, process }),
            None => Err(Error::at(
                ErrorKind::Configuration,
                id,
                "it has a fence but no incarnation: an early version of sessionring used it; empty the node",
            )),
        }
    }
}

/// The error for two names of one database.
pub(super) fn one_database(id: &NodeId, same: &NodeId) -> Error {
    let message = format!(
        "it is the same database as node {same}; every node needs a database of its own; nothing was changed"
    );
    Error::at(ErrorKind::Configuration, id, message)
}

impl Plan<'_> {
    /// The error for a node that does not take part.
    fn incomplete(&self, error: &Error, begun: bool) -> Error {
        let why = match self.known {
            None => "the ring does not exist yet, and founding it needs every node",
            Some(_) => "no node that answers knows the ring any more, and founding it anew needs every node",
        };
        let half = if begun { " (it is half done, and whoever reaches all nodes finishes it)" } else { "" };
        Error::new(error.kind(), format!("{error}; {why}; start the node and connect again{half}"))
    }
}
