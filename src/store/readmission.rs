//! Nodes that came back, nodes that are gone for good, nodes that join.

use futures_util::future::join_all;

use super::{
    Decision, NodeStore, Stand, TopologyStore,
    decision::Vote,
    founding::{Enlisted, one_database},
    node_store::{confused, decode_fence, of_document},
};
use crate::{
    entropy,
    error::{Error, ErrorKind, Result},
    protocol::{Control, ControlReply, Rule, Standing},
    ring::NodeId,
    topology::{Change, ChangeError, Document, DocumentMember},
};

/// What a member that came back still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing, or what an earlier memory held: it is taken back as an empty one. One that still is the memory of the
    /// document stays as it is.
    Nothing,
    /// An operator vouches for what it holds.
    Keep,
    /// An operator does not vouch for it: it counts as nothing.
    Discard,
}

/// What a member came back as.
enum Return {
    As(Enlisted),
    /// Somebody else has taken it back.
    Newer,
}

impl NodeStore {
    /// Gives a node that is about to join its incarnation, and answers that and its process, for the document.
    ///
    /// # Errors
    /// Unavailable: it does not answer. Configuration: it is in use, by another node or another ring.
    pub(crate) async fn enlist(&self, document: &Document, id: &NodeId, address: &str) -> Result<Enlisted> {
        let enlisted = self.mark(id, address).await?;
        let same = document.members().iter().find(|member| member.incarnation == enlisted.incarnation);
        match same {
            Some(same) if same.id != *id => Err(one_database(id, &same.id)),
            _ => Ok(enlisted),
        }
    }

    /// Takes a member back that restarted or lost its memory. An empty one is initialised last. Answers the document
    /// that is in force then: the node obeys it, unless it is one that somebody else decided meanwhile.
    ///
    /// # Errors
    /// Unavailable: the node is not in use yet; call it again. Configuration: its database is not its own, or there is
    /// nothing to keep.
    pub(crate) async fn readmit(&self, document: &Document, id: &NodeId, held: Held) -> Result<Document> {
        let Some((_, member)) = document.member(id) else {
            return Err(of_change(&ChangeError::UnknownNode { node: id.clone() }));
        };
        let decided = match self.return_of(document, member, held).await? {
            Return::Newer => match self.load(Some(document)).await?.document {
                Some(newer) if newer.epoch() > document.epoch() => return Ok(newer),
                _ => {
                    let message = "it holds a newer document, which cannot be loaded";
                    return Err(Error::at(ErrorKind::Unavailable, id, message));
                }
            },
            // Nothing happened to it, or somebody has decided it and did not come to the end.
            Return::As(Enlisted { incarnation, process })
                if (member.incarnation, member.process) == (incarnation, process) =>
            {
                document.clone()
            }
            Return::As(Enlisted { incarnation, process }) => {
                let keep = held == Held::Keep;
                let change = Change::Readmit { node: id.clone(), incarnation, process, keep };
                let next = document.next(&change).map_err(|error| of_change(&error))?;
                match self.decide(document, &next, Rule::Majority).await? {
                    Vote::Decided(Decision::Own) => next,
                    Vote::Decided(Decision::Other(other)) => return Ok(other),
                    Vote::AllBlank => return self.refound(document).await,
                }
            }
        };
        self.take_into_use(&decided, id).await?;
        Ok(decided)
    }

    /// Whether a member that somebody else has readmitted is in use by now. It is not if he readmitted a memory, or a
    /// process, that is gone since.
    ///
    /// # Errors
    /// As [`readmit`](NodeStore::readmit).
    pub(crate) async fn is_readmitted(&self, document: &Document, id: &NodeId) -> Result<bool> {
        let Some((_, member)) = document.member(id) else { return Ok(false) };
        let Enlisted { incarnation, process } = self.mark(id, &member.address).await?;
        if (member.incarnation, member.process) != (incarnation, process) {
            return Ok(false);
        }
        self.take_into_use(document, id).await?;
        Ok(true)
    }

    async fn take_into_use(&self, document: &Document, id: &NodeId) -> Result<()> {
        match self.raise_node(document, id).await {
            Stand::Obeys => Ok(()),
            Stand::Foreign(error) => Err(error),
            stand => Err(Error::at(ErrorKind::Unavailable, id, format!("it cannot be used yet: {stand}"))),
        }
    }

    /// Which memory and process a member is that came back.
    async fn return_of(&self, document: &Document, member: &DocumentMember, held: Held) -> Result<Return> {
        let id = &member.id;
        let enlisted = self.mark(id, &member.address).await?;
        let node = self.node(id, &member.address)?;
        let ControlReply::Standing(standing) = node.call(Control::Look).await? else {
            return Err(confused(id));
        };
        let Some(fence) = &standing.fence else {
            if held == Held::Keep {
                let message = "the node is empty, there is nothing to keep; readmit it without what it held";
                return Err(Error::at(ErrorKind::Configuration, id, message));
            }
            return Ok(Return::As(enlisted));
        };
        if decode_fence(id, fence)?.epoch > document.epoch() {
            return Ok(Return::Newer);
        }
        let known = Enlisted { incarnation: member.incarnation, process: member.process };
        let is_the_same = standing.incarnation == Some(known.incarnation);
        match held {
            Held::Keep => Ok(Return::As(enlisted)),
            Held::Nothing if is_the_same => Ok(Return::As(known)),
            // It is in use as what the ring knows it as: an earlier readmission has come to its end after all, and what was
            // written since is not to be discarded.
            Held::Discard if is_the_same && enlisted.process == known.process => Ok(Return::As(known)),
            Held::Nothing | Held::Discard => {
                if held == Held::Nothing && !self.lives(document, id).await {
                    return Err(founded_anew(id));
                }
                // Only this memory: one that somebody else has readmitted meanwhile has another name.
                let depose =
                    Control::Depose { incarnation: enlisted.incarnation, successor: entropy::u64()? };
                let ControlReply::Standing(standing) = node.call(depose).await? else {
                    return Err(confused(id));
                };
                match standing {
                    Standing { fence: None, incarnation: Some(incarnation), .. } => {
                        Ok(Return::As(Enlisted { incarnation, ..enlisted }))
                    }
                    _ => Ok(Return::Newer),
                }
            }
        }
    }

    /// Whether any member but this one still obeys the document, or a later one of its ring. If none does, the ring may
    /// have been founded anew, and it is this document that is of the past.
    async fn lives(&self, document: &Document, but: &NodeId) -> bool {
        let others = document.members().iter().filter(|member| member.id != *but);
        let looked = join_all(others.map(|member| async move {
            let standing = self.node(&member.id, &member.address)?.look().await?;
            let fence = standing.fence.as_deref().map(|fence| decode_fence(&member.id, fence)).transpose()?;
            let same = standing.incarnation == Some(member.incarnation);
            Ok::<bool, Error>(same && fence.is_some_and(|fence| fence.epoch >= document.epoch()))
        }));
        looked.await.into_iter().any(|lives| lives.unwrap_or(false))
    }

    /// Drops a member that is gone for good. With `force`, all others decide without a majority: for rings of one or
    /// two nodes, and only if the node will not come back to work for anybody.
    ///
    /// # Errors
    /// As [`propose`](super::TopologyStore::propose).
    pub(crate) async fn forget(&self, document: &Document, id: &NodeId, force: bool) -> Result<Decision> {
        let change = Change::Forget { node: id.clone() };
        let next = document.next(&change).map_err(|error| of_change(&error))?;
        let rule = if force { Rule::AllBut([id.clone()].into()) } else { Rule::Majority };
        match self.decide(document, &next, rule).await? {
            Vote::Decided(decision) => Ok(decision),
            Vote::AllBlank => Ok(Decision::Other(self.refound(document).await?)),
        }
    }
}

fn founded_anew(id: &NodeId) -> Error {
    let message = "it obeys an older topology of another founding, and nobody obeys the one that this application knows: \
                   all nodes have lost their memories, and the ring was founded anew; connect again";
    Error::at(ErrorKind::Configuration, id, message)
}

/// Why a document cannot be followed by the one asked for.
pub(crate) fn of_change(error: &ChangeError) -> Error {
    match error {
        ChangeError::Document(error) => of_document(None, error),
        error => Error::configuration(error.to_string()),
    }
}
