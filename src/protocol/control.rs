//! What a node keeps beside the records, and what the commands of the control plane do to it.
//!
//! [`govern`] is the specification of `src/node/redis/control.lua`, and the code of the in-memory node. A property
//! test runs both on the same sequences and compares every answer; the model of the decision runs it, too.

use bytes::Bytes;

use super::Ballot;
use crate::topology::Fence;

/// Whose database it is, which memory it is, and what it obeys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Standing {
    /// The name of the node that the database belongs to, if it belongs to one.
    pub owner: Option<String>,
    /// Names this memory: random, given to it when it was found empty.
    pub incarnation: Option<u64>,
    /// The stored fence, if there is one.
    pub fence: Option<Vec<u8>>,
}

/// Everything that a node keeps beside the records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Charter {
    /// Whose it is, and what it obeys.
    pub standing: Standing,
    /// The document that the fence names.
    pub document: Option<Bytes>,
    /// The node's part in deciding the document that comes after its fence.
    pub vote: Vote,
}

/// What a node has promised and accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Vote {
    /// It takes part in no ballot below this one.
    pub promised: Option<Ballot>,
    /// What it accepted last.
    pub accepted: Option<(Ballot, Bytes)>,
}

/// Which decision a vote is for: that of the document after this fence, or the one that a node without a fence takes
/// part in, a founding.
pub type Slot = Option<Fence>;

/// A command of the control plane. Each is executed atomically, and may arrive twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Control {
    /// Where does the node stand?
    Look,
    /// The same, and the document.
    Load,
    /// Gives an incarnation to a node that has neither a fence nor an incarnation, and belongs to no other name.
    Mark {
        /// The name of the node.
        name: String,
        /// What its memory is called from then on.
        incarnation: u64,
    },
    /// Asks for a promise to take part in no lower ballot.
    Prepare {
        /// Which decision.
        slot: Slot,
        /// Whose attempt.
        ballot: Ballot,
    },
    /// Asks for a vote.
    Accept {
        /// Which decision.
        slot: Slot,
        /// Whose attempt.
        ballot: Ballot,
        /// For what.
        document: Bytes,
    },
    /// Makes a node obey a document that was decided: one that obeys an older one of the ring, or none.
    Raise {
        /// The name of the node.
        name: String,
        /// The fence that names the document.
        fence: Fence,
        /// The document.
        document: Bytes,
        /// The memory that the document was decided for; another one does not get it.
        incarnation: u64,
    },
    /// Declares that a memory is lost though the node still has it: from here on it has no fence, no vote, and another
    /// incarnation. What it holds is nothing once the document that readmits it says so.
    Depose {
        /// The memory; another one stays as it is.
        incarnation: u64,
        /// What it is called from then on.
        successor: u64,
    },
}

/// What a node answers to a [`Control`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlReply {
    /// Where the node stands after a command that has no other answer.
    Standing(Standing),
    /// The same and the document, as of one moment.
    Loaded(Standing, Option<Bytes>),
    /// It takes part in no lower ballot from now on.
    Promised {
        /// What it has accepted so far.
        accepted: Option<(Ballot, Bytes)>,
        /// Where it stands.
        standing: Standing,
    },
    /// The vote was given.
    Accepted,
    /// It has promised this higher ballot to somebody.
    Outbid(Ballot),
    /// It has another fence than the slot's, so it has no part in this decision.
    Refused(Standing),
}

/// Executes `command`.
pub fn govern(charter: &mut Charter, command: &Control) -> ControlReply {
    match command {
        Control::Look => ControlReply::Standing(charter.standing.clone()),
        Control::Load => ControlReply::Loaded(charter.standing.clone(), charter.document.clone()),
        Control::Mark { name, incarnation } => {
            let standing = &mut charter.standing;
            if standing.fence.is_none() && standing.may_be(name) {
                standing.incarnation.get_or_insert(*incarnation);
            }
            ControlReply::Standing(standing.clone())
        }
        Control::Prepare { slot, ballot } => match charter.admit(slot, *ballot) {
            Err(reply) => reply,
            Ok(()) => ControlReply::Promised {
                accepted: charter.vote.accepted.clone(),
                standing: charter.standing.clone(),
            },
        },
        Control::Accept { slot, ballot, document } => match charter.admit(slot, *ballot) {
            Err(reply) => reply,
            Ok(()) => {
                charter.vote.accepted = Some((*ballot, document.clone()));
                ControlReply::Accepted
            }
        },
        Control::Raise { name, fence, document, incarnation } => {
            let standing = &mut charter.standing;
            let raises = standing.may_be(name)
                && standing.incarnation == Some(*incarnation)
                && standing.fence.as_deref().is_none_or(|stored| fence.succeeds(stored));
            if raises {
                standing.owner = Some(name.clone());
                standing.fence = Some(fence.encode().to_vec());
                charter.document = Some(document.clone());
                // It was for the document after another fence.
                charter.vote = Vote::default();
            }
            ControlReply::Standing(charter.standing.clone())
        }
        Control::Depose { incarnation, successor } => {
            let standing = &mut charter.standing;
            if standing.fence.is_some() && standing.incarnation == Some(*incarnation) {
                standing.fence = None;
                standing.incarnation = Some(*successor);
                charter.document = None;
                charter.vote = Vote::default();
            }
            ControlReply::Standing(charter.standing.clone())
        }
    }
}

impl Standing {
    /// Whether the database belongs to this node or to none.
    pub fn may_be(&self, name: &str) -> bool {
        self.owner.as_deref().is_none_or(|owner| owner == name)
    }

    /// Whether the node obeys exactly this fence.
    pub fn obeys(&self, fence: &Fence) -> bool {
        self.fence.as_deref() == Some(fence.encode().as_slice())
    }
}

impl Charter {
    /// Lets a ballot in, and all lower ones no more.
    fn admit(&mut self, slot: &Slot, ballot: Ballot) -> Result<(), ControlReply> {
        let concerned = match slot {
            Some(fence) => self.standing.obeys(fence),
            None => self.standing.fence.is_none(),
        };
        if !concerned {
            return Err(ControlReply::Refused(self.standing.clone()));
        }
        match self.vote.promised {
            Some(promised) if promised > ballot => Err(ControlReply::Outbid(promised)),
            _ => {
                self.vote.promised = Some(ballot);
                Ok(())
            }
        }
    }
}
