//! One attempt to decide a document: single-decree Paxos, as a state machine without I/O.
//!
//! Whoever drives it sends what it says, and tells it what was answered or that nothing was. A driver that goes away at
//! any point leaves nothing that another one could not finish.
//!
//! What it rests on, besides Paxos' own argument:
//!
//! - *A blank node has no vote.* It has forgotten what it accepted. A majority may lack it if every acceptor has
//!   answered and all that are not blank accept: then whatever a majority decided before is known to one of them, as
//!   long as fewer than a majority have lost their memories since.
//! - *A founding* is decided by its document's own members, all of them, so two foundings that share a node know of
//!   each other there: a proposer whose nodes report another document gives up its own ([`Ending::Other`]) and proposes
//!   that one to *its* members, under a new ballot.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Ballot, Control, ControlReply, Slot, Standing};
use crate::{ring::NodeId, topology::Fence};

/// Whose votes decide.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A majority of the acceptors; or all that are not blank, if all of them answered.
    Majority,
    /// All: a founding.
    All,
    /// All but these, which an operator says are gone for good, and but those that are blank. At least one.
    AllBut(BTreeSet<NodeId>),
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Send this to a node; then [`Proposal::reply`] or [`Proposal::failed`].
    Send(NodeId, Control),
    /// Raise this node to the document that the decision follows; then [`Proposal::raised`] or [`Proposal::failed`].
    Raise(NodeId),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// This document is decided.
    Decided(Bytes),
    /// Somebody has begun to found the ring with this document, which has members of its own: propose that one.
    Other(Bytes),
    /// Somebody else is at it with this ballot: wait for a random while, and try a higher one.
    Outbid(Ballot),
    /// A node obeys a later document of the ring: load it.
    Newer(NodeId, Fence),
    /// There are not enough votes.
    Unreachable {
        /// They did not answer, or have no part in this ring.
        missing: Vec<NodeId>,
        /// They have lost their memories.
        blank: Vec<NodeId>,
        /// Votes were asked for: somebody may find one and finish what was begun.
        begun: bool,
    },
}

/// One attempt with one ballot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proposal {
    slot: Slot,
    rule: Rule,
    ballot: Ballot,
    document: Bytes,
    /// The highest vote that was reported.
    reported: Option<(Ballot, Bytes)>,
    acceptors: BTreeMap<NodeId, Acceptor>,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Acceptor {
    /// The memory that has a part in the decision.
    incarnation: u64,
    /// It was found behind before; that happens once.
    was_behind: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    /// It has been asked.
    Asked,
    /// It is being raised to the document before.
    Behind,
    Promised,
    Accepted,
    Blank,
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Preparing,
    Accepting,
    Over(Ending),
}

impl Proposal {
    /// An attempt to have `document` decided in `slot`. The acceptors are the members of the document before, or, if
    /// the slot is `None`, of this one, each with its incarnation.
    pub fn new(
        slot: Slot,
        rule: Rule,
        ballot: Ballot,
        document: Bytes,
        acceptors: impl IntoIterator<Item = (NodeId, u64)>,
    ) -> Proposal {
        let acceptor = |incarnation| Acceptor { incarnation, was_behind: false, state: State::Asked };
        Proposal {
            slot,
            rule,
            ballot,
            document,
            reported: None,
            acceptors: acceptors.into_iter().map(|(id, i)| (id, acceptor(i))).collect(),
            phase: Phase::Preparing,
        }
    }

    /// What to do first.
    pub fn begin(&self) -> Vec<Action> {
        self.acceptors.keys().map(|id| self.ask(id)).collect()
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<&Ending> {
        match &self.phase {
            Phase::Over(ending) => Some(ending),
            _ => None,
        }
    }

    /// A node answered what it was sent in this attempt.
    pub fn reply(&mut self, from: &NodeId, reply: &ControlReply) -> Vec<Action> {
        let Some(acceptor) = self.acceptors.get_mut(from) else { return Vec::new() };
        match (&self.phase, reply) {
            (Phase::Over(_), _) => return Vec::new(),
            (_, ControlReply::Outbid(ballot)) => return self.end(Ending::Outbid(*ballot)),
            (_, ControlReply::Refused(standing)) => {
                let meaning = Meaning::of(standing, &self.slot, acceptor.incarnation);
                return self.refused(from, meaning);
            }
            (Phase::Preparing, ControlReply::Promised { accepted, .. }) => {
                acceptor.state = State::Promised;
                if let Some((ballot, _)) = accepted
                    && self.reported.as_ref().is_none_or(|(highest, _)| ballot > highest)
                {
                    self.reported.clone_from(accepted);
                }
            }
            (Phase::Accepting, ControlReply::Accepted) => acceptor.state = State::Accepted,
            // A promise that comes when the votes are already being asked for, or an answer to something else.
            _ => return Vec::new(),
        }
        self.proceed()
    }

    /// A node did not answer what it was sent, or could not be raised.
    pub fn failed(&mut self, node: &NodeId) -> Vec<Action> {
        self.set(node, State::Missing);
        self.proceed()
    }

    /// A node that was behind obeys the document that the decision follows.
    pub fn raised(&mut self, node: &NodeId) -> Vec<Action> {
        if self.ending().is_some() {
            return Vec::new();
        }
        self.set(node, State::Asked);
        vec![self.ask(node)]
    }

    fn ask(&self, node: &NodeId) -> Action {
        let (slot, ballot) = (self.slot, self.ballot);
        let control = match self.phase {
            Phase::Preparing => Control::Prepare { slot, ballot },
            _ => Control::Accept { slot, ballot, document: self.document.clone() },
        };
        Action::Send(node.clone(), control)
    }

    fn set(&mut self, node: &NodeId, state: State) {
        if let Some(acceptor) = self.acceptors.get_mut(node) {
            acceptor.state = state;
        }
    }

    fn end(&mut self, ending: Ending) -> Vec<Action> {
        self.phase = Phase::Over(ending);
        Vec::new()
    }

    fn refused(&mut self, node: &NodeId, meaning: Meaning) -> Vec<Action> {
        match meaning {
            Meaning::Newer(fence) => return self.end(Ending::Newer(node.clone(), fence)),
            Meaning::Behind => {
                if let Some(acceptor) = self.acceptors.get_mut(node)
                    && !std::mem::replace(&mut acceptor.was_behind, true)
                {
                    acceptor.state = State::Behind;
                    return vec![Action::Raise(node.clone())];
                }
                self.set(node, State::Missing);
            }
            Meaning::Blank => self.set(node, State::Blank),
            Meaning::Foreign => self.set(node, State::Missing),
        }
        self.proceed()
    }

    /// Goes on as far as the answers allow.
    fn proceed(&mut self) -> Vec<Action> {
        let yes = match self.phase {
            Phase::Over(_) => return Vec::new(),
            Phase::Preparing => State::Promised,
            Phase::Accepting => State::Accepted,
        };
        if !self.has_quorum(yes) {
            if self.acceptors.values().any(|a| matches!(a.state, State::Asked | State::Behind)) {
                return Vec::new();
            }
            let ending = Ending::Unreachable {
                missing: self.those(State::Missing),
                blank: self.those(State::Blank),
                begun: self.phase == Phase::Accepting,
            };
            return self.end(ending);
        }
        if self.phase == Phase::Accepting {
            return self.end(Ending::Decided(self.document.clone()));
        }
        if let Some((_, reported)) = self.reported.take()
            && reported != self.document
        {
            if self.rule == Rule::All {
                return self.end(Ending::Other(reported));
            }
            self.document = reported;
        }
        self.phase = Phase::Accepting;
        let mut actions = Vec::new();
        for id in self.acceptors.keys().cloned().collect::<Vec<_>>() {
            // Whoever has not answered yet may vote all the same; whoever is being raised is asked afterwards.
            if matches!(self.acceptors[&id].state, State::Asked | State::Promised) {
                self.set(&id, State::Asked);
                actions.push(self.ask(&id));
            }
        }
        actions
    }

    fn has_quorum(&self, yes: State) -> bool {
        let count = |state| self.acceptors.values().filter(|a| a.state == state).count();
        let votes = count(yes);
        match &self.rule {
            Rule::All => votes == self.acceptors.len(),
            Rule::Majority => {
                2 * votes > self.acceptors.len()
                    || votes > 0 && votes + count(State::Blank) == self.acceptors.len()
            }
            Rule::AllBut(gone) => {
                votes > 0
                    && self.acceptors.iter().all(|(id, acceptor)| {
                        let state = acceptor.state;
                        state == yes || state == State::Blank || state == State::Missing && gone.contains(id)
                    })
            }
        }
    }

    fn those(&self, state: State) -> Vec<NodeId> {
        let those = self.acceptors.iter().filter(|(_, acceptor)| acceptor.state == state);
        those.map(|(id, _)| id.clone()).collect()
    }
}

/// What it means that a node has another fence than the slot's.
enum Meaning {
    Newer(Fence),
    Behind,
    Blank,
    Foreign,
}

impl Meaning {
    fn of(standing: &Standing, slot: &Slot, incarnation: u64) -> Meaning {
        let stored = standing.fence.as_deref().map(Fence::decode);
        match (slot, stored) {
            (Some(_), None) if standing.incarnation == Some(incarnation) => Meaning::Behind,
            (_, None) => Meaning::Blank,
            (Some(slot), Some(Ok(stored))) if stored.cluster == slot.cluster => {
                if stored.epoch > slot.epoch {
                    Meaning::Newer(stored)
                } else if stored.epoch < slot.epoch {
                    Meaning::Behind
                } else {
                    Meaning::Foreign
                }
            }
            (None, Some(Ok(stored))) => Meaning::Newer(stored),
            (_, Some(_)) => Meaning::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Epoch, PROTOCOL_VERSION};

    const BALLOT: Ballot = Ballot { round: 2, proposer: 1 };

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn fence(epoch: u64) -> Fence {
        Fence { protocol: PROTOCOL_VERSION, cluster: 1, epoch: Epoch::new(epoch), nonce: epoch }
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn proposal(rule: Rule, names: &[&str]) -> Proposal {
        let acceptors = names.iter().map(|name| (id(name), 7));
        Proposal::new(Some(fence(5)), rule, BALLOT, bytes("mine"), acceptors)
    }

    fn promised(accepted: Option<(u64, &'static str)>) -> ControlReply {
        let accepted = accepted.map(|(round, text)| (Ballot { round, proposer: 0 }, bytes(text)));
        ControlReply::Promised { accepted, standing: Standing::default() }
    }

    fn refused(fence: Option<Fence>, incarnation: u64) -> ControlReply {
        let fence = fence.map(|fence| fence.encode().to_vec());
        ControlReply::Refused(Standing { owner: None, incarnation: Some(incarnation), fence })
    }

    fn asks_for_votes(actions: &[Action], document: &'static str, of: &[&str]) {
        let asked = |name: &&str| {
            let (slot, ballot) = (Some(fence(5)), BALLOT);
            Action::Send(id(name), Control::Accept { slot, ballot, document: bytes(document) })
        };
        assert_eq!(actions, of.iter().map(asked).collect::<Vec<_>>());
    }

    #[test]
    fn a_majority_decides_and_late_answers_change_nothing() {
        let mut proposal = proposal(Rule::Majority, &["a", "b", "c"]);
        assert_eq!(proposal.begin().len(), 3);
        assert!(proposal.reply(&id("a"), &promised(None)).is_empty());
        // Whoever has not answered yet is asked all the same.
        asks_for_votes(&proposal.reply(&id("b"), &promised(None)), "mine", &["a", "b", "c"]);
        assert!(proposal.reply(&id("c"), &promised(Some((1, "late")))).is_empty());
        assert!(proposal.reply(&id("a"), &ControlReply::Accepted).is_empty());
        assert_eq!(proposal.ending(), None);
        proposal.reply(&id("c"), &ControlReply::Accepted);
        assert_eq!(proposal.ending(), Some(&Ending::Decided(bytes("mine"))));
        proposal.reply(&id("b"), &ControlReply::Outbid(BALLOT));
        proposal.failed(&id("b"));
        assert_eq!(proposal.ending(), Some(&Ending::Decided(bytes("mine"))));
    }

    #[test]
    fn the_highest_vote_is_carried_on() {
        let mut proposal = proposal(Rule::Majority, &["a", "b", "c", "d", "e"]);
        proposal.reply(&id("a"), &promised(Some((1, "old"))));
        proposal.reply(&id("b"), &promised(Some((2, "newer"))));
        let actions = proposal.reply(&id("c"), &promised(Some((0, "oldest"))));
        asks_for_votes(&actions, "newer", &["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_founding_gives_up_its_own_document_for_one_that_was_begun() {
        let acceptors = ["a", "b"].map(|name| (id(name), 7));
        let mut proposal = Proposal::new(None, Rule::All, BALLOT, bytes("mine"), acceptors);
        proposal.reply(&id("a"), &promised(Some((1, "other"))));
        assert_eq!(proposal.ending(), None);
        proposal.reply(&id("b"), &promised(None));
        assert_eq!(proposal.ending(), Some(&Ending::Other(bytes("other"))));
    }

    #[test]
    fn who_is_behind_is_raised_once_and_asked_again() {
        // One obeys an older document, one was never initialised, as the memory that it is.
        for behind in [refused(Some(fence(4)), 7), refused(None, 7)] {
            let mut proposal = proposal(Rule::Majority, &["a", "b", "c"]);
            assert_eq!(proposal.reply(&id("a"), &behind), [Action::Raise(id("a"))]);
            let prepare = Control::Prepare { slot: Some(fence(5)), ballot: BALLOT };
            assert_eq!(proposal.raised(&id("a")), [Action::Send(id("a"), prepare)]);
            assert!(proposal.reply(&id("a"), &behind).is_empty());
            proposal.failed(&id("b"));
            proposal.reply(&id("c"), &promised(None));
            let missing = vec![id("a"), id("b")];
            let ending = Ending::Unreachable { missing, blank: Vec::new(), begun: false };
            assert_eq!(proposal.ending(), Some(&ending));
        }
    }

    #[test]
    fn blank_nodes_are_left_out_only_if_everybody_answered() {
        let blank = refused(None, 8);
        let mut all = proposal(Rule::Majority, &["a", "b"]);
        assert!(all.reply(&id("b"), &blank).is_empty());
        asks_for_votes(&all.reply(&id("a"), &promised(None)), "mine", &["a"]);
        all.reply(&id("a"), &ControlReply::Accepted);
        assert_eq!(all.ending(), Some(&Ending::Decided(bytes("mine"))));

        let mut silent = proposal(Rule::Majority, &["a", "b", "c"]);
        silent.reply(&id("b"), &blank);
        silent.reply(&id("a"), &promised(None));
        silent.failed(&id("c"));
        let ending = Ending::Unreachable { missing: vec![id("c")], blank: vec![id("b")], begun: false };
        assert_eq!(silent.ending(), Some(&ending));

        let mut empty = proposal(Rule::AllBut([id("b")].into()), &["a", "b"]);
        empty.failed(&id("b"));
        empty.reply(&id("a"), &blank);
        assert!(matches!(empty.ending(), Some(Ending::Unreachable { .. })));
    }

    #[test]
    fn what_another_fence_means() {
        let ending = |reply: ControlReply| {
            let mut proposal = proposal(Rule::Majority, &["a"]);
            proposal.reply(&id("a"), &reply);
            proposal.ending().cloned()
        };
        assert_eq!(ending(refused(Some(fence(6)), 7)), Some(Ending::Newer(id("a"), fence(6))));
        assert_eq!(ending(ControlReply::Outbid(BALLOT)), Some(Ending::Outbid(BALLOT)));
        let missing = Ending::Unreachable { missing: vec![id("a")], blank: Vec::new(), begun: false };
        let rival = Fence { nonce: 99, ..fence(5) };
        let foreign = Fence { cluster: 2, ..fence(9) };
        for other in [rival, foreign] {
            assert_eq!(ending(refused(Some(other), 7)), Some(missing.clone()));
        }
    }
}
