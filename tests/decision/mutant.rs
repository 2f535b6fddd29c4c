//! Deliberate faults.

use sessionring::protocol::{Ballot, Charter, Control, ControlReply, Slot, Standing, govern};
use sessionring::topology::Fence;

use crate::scenario::Scenario;

/// One way in which the decision could be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A proposer goes on with its own document, whatever was accepted.
    IgnoresAccepted,
    /// The same at a founding.
    IgnoresAcceptedAtFounding,
    /// Of several accepted documents a proposer takes the one with the lowest ballot.
    TakesTheLowest,
    /// Nodes forget what they promised.
    ForgetsPromise,
    /// Nodes accept below what they promised.
    AcceptsLower,
    /// One vote decides.
    MinorityDecides,
    /// One promise is enough to ask for votes.
    MinorityPrepares,
    /// A node without a fence votes on what comes after one.
    BlankVotes,
    /// A majority founds a ring.
    FoundsByMajority,
    /// What somebody else began to found is proposed to one's own nodes.
    FinishesAtOwnNodes,
    /// A node is initialised with what was decided for a memory that it has lost.
    RaisesAnyMemory,
    /// Votes for one decision count for the next.
    AnySlot,
    /// A raise leaves the votes as they are, and they are not bound to the fence.
    RaiseKeepsVotes,
    /// Proposers share their ballots.
    SharedBallots,
    /// Force leaves out whoever does not answer.
    ForceDropsAnyone,
}

impl Mutant {
    pub(crate) const ALL: [Mutant; 15] = [
        Mutant::IgnoresAccepted,
        Mutant::IgnoresAcceptedAtFounding,
        Mutant::TakesTheLowest,
        Mutant::ForgetsPromise,
        Mutant::AcceptsLower,
        Mutant::MinorityDecides,
        Mutant::MinorityPrepares,
        Mutant::BlankVotes,
        Mutant::FoundsByMajority,
        Mutant::FinishesAtOwnNodes,
        Mutant::RaisesAnyMemory,
        Mutant::AnySlot,
        Mutant::RaiseKeepsVotes,
        Mutant::SharedBallots,
        Mutant::ForceDropsAnyone,
    ];

    /// Where it must be found.
    pub(crate) fn scenarios(self) -> Vec<Scenario> {
        match self {
            Mutant::IgnoresAcceptedAtFounding | Mutant::FoundsByMajority => {
                vec![Scenario::founding_abd()]
            }
            Mutant::FinishesAtOwnNodes => vec![Scenario::founding_ab()],
            Mutant::BlankVotes | Mutant::RaisesAnyMemory => vec![Scenario::lost_memory()],
            Mutant::AnySlot | Mutant::RaiseKeepsVotes => vec![Scenario::two_epochs()],
            Mutant::ForceDropsAnyone => vec![Scenario::force()],
            _ => vec![Scenario::two_proposers()],
        }
    }

    /// A node executes a command.
    pub(crate) fn execute(mutant: Option<Mutant>, charter: &mut Charter, control: &Control) -> ControlReply {
        let before = charter.vote.clone();
        let mut control = control.clone();
        match (mutant, &mut control) {
            (Some(Mutant::AcceptsLower), Control::Accept { .. }) => charter.vote.promised = None,
            (Some(Mutant::RaisesAnyMemory), Control::Raise { incarnation, .. }) => {
                if let Some(stored) = charter.standing.incarnation {
                    *incarnation = stored;
                }
            }
            (Some(Mutant::AnySlot), Control::Prepare { slot, .. } | Control::Accept { slot, .. }) => {
                *slot = present(&charter.standing);
            }
            (Some(Mutant::BlankVotes), Control::Prepare { slot, .. } | Control::Accept { slot, .. })
                if charter.standing.fence.is_none() =>
            {
                *slot = None;
            }
            _ => {}
        }
        let reply = govern(charter, &control);
        match (mutant, &control, &reply) {
            (Some(Mutant::ForgetsPromise), Control::Prepare { .. }, ControlReply::Promised { .. }) => {
                charter.vote.promised = before.promised;
            }
            (Some(Mutant::RaiseKeepsVotes), Control::Raise { .. }, _) => charter.vote = before,
            _ => {}
        }
        reply
    }

    /// A proposer hears an answer.
    pub(crate) fn hear(mutant: Option<Mutant>, mut reply: ControlReply) -> ControlReply {
        if let ControlReply::Promised { accepted, .. } = &mut reply {
            match mutant {
                Some(Mutant::IgnoresAccepted | Mutant::IgnoresAcceptedAtFounding) => *accepted = None,
                Some(Mutant::TakesTheLowest) => {
                    if let Some((ballot, _)) = accepted {
                        *ballot =
                            Ballot { round: u64::MAX - ballot.round, proposer: u64::MAX - ballot.proposer };
                    }
                }
                _ => {}
            }
        }
        reply
    }
}

fn present(standing: &Standing) -> Slot {
    standing.fence.as_deref().and_then(|fence| Fence::decode(fence).ok())
}
