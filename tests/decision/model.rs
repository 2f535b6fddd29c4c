//! The states, and what leads from one to the next.

use std::collections::BTreeSet;

use bytes::Bytes;
use sessionring::{
    protocol::{Action, Ballot, Charter, Control, ControlReply, Ending, Proposal, Rule, Slot},
    topology::Fence,
};
use stateright::{Model, Property};

use crate::{
    mutant::Mutant,
    scenario::{LATER, NAMES, Scenario, id},
};

pub(crate) struct Decision {
    pub(crate) scenario: Scenario,
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    nodes: Vec<Charter>,
    proposers: Vec<Proposer>,
    /// Everything that was ever sent: it may arrive late, again, or never.
    wire: BTreeSet<Letter>,
    /// Everything that was ever accepted.
    votes: BTreeSet<Cast>,
    /// What proposers took for decided.
    decided: BTreeSet<(Option<u8>, u8)>,
    /// Something was taken for decided that did not have the votes.
    forged: bool,
    forgot: bool,
    /// How many answers may still be lost.
    losses: u8,
    /// The nodes that are alike have got the first message of the first proposer in their order, up to here. Any other
    /// order is the same with other names.
    met: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Proposer {
    proposal: Proposal,
    ballot: Ballot,
    /// What the present proposal follows, and what it is for.
    after: Option<u8>,
    document: u8,
    rule: Rule,
    attempts: u8,
    then: Option<u8>,
    over: bool,
}

/// A request under way. Its answer is heard at once or never: a proposer's next message may be late all the same, so a
/// late answer would tell nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Letter {
    from: u8,
    to: u8,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    Prepare(Option<u8>, Ballot),
    Accept(Option<u8>, Ballot, u8),
    /// Raises a node to a document; the proposer waits for it if this is what it proposes on top of.
    Raise(u8),
}

/// One vote: what comes after this document, in this ballot, by this node, for that document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Cast {
    after: Option<u8>,
    ballot: Ballot,
    document: u8,
    node: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A request arrives, and whether its answer does.
    Arrives(Letter, bool),
    /// A proposer gives up waiting for a node.
    TimesOut(u8, u8),
    /// A node loses its memory, and is found empty.
    Forgets(u8),
    /// Somebody who knows no better raises an old document.
    Stale(u8),
}

impl Decision {
    pub(crate) const SOMETIMES: &'static str = "something is decided";

    fn slot(&self, after: Option<u8>) -> Slot {
        after.map(|document| self.scenario.fence(document))
    }

    fn control(&self, what: &What, to: u8) -> Control {
        match what {
            What::Prepare(after, ballot) => Control::Prepare { slot: self.slot(*after), ballot: *ballot },
            What::Accept(after, ballot, document) => {
                Control::Accept { slot: self.slot(*after), ballot: *ballot, document: bytes(*document) }
            }
            What::Raise(document) => Control::Raise {
                name: NAMES[usize::from(to)].to_owned(),
                fence: self.scenario.fence(*document),
                document: bytes(*document),
                incarnation: self.incarnation(*document, to),
            },
        }
    }

    fn incarnation(&self, document: u8, node: u8) -> u64 {
        let members = &self.scenario.documents[usize::from(document)].members;
        members
            .iter()
            .find(|(member, _)| *member == usize::from(node))
            .map_or(0, |(_, incarnation)| *incarnation)
    }

    /// A proposer that begins an attempt, and what it sends.
    fn begin(&self, proposer: &mut Proposer, number: u8, wire: &mut BTreeSet<Letter>) {
        let number_of_ballot = if self.mutant == Some(Mutant::SharedBallots) { 0 } else { number };
        proposer.ballot = proposer.ballot.beyond(u64::from(number_of_ballot));
        proposer.attempts -= 1;
        let acceptors = proposer.after.unwrap_or(proposer.document);
        let acceptors = self.scenario.documents[usize::from(acceptors)].members.iter();
        let mut acceptors: Vec<_> = acceptors.map(|&(node, incarnation)| (id(node), incarnation)).collect();
        if self.mutant == Some(Mutant::FinishesAtOwnNodes) && proposer.after.is_none() {
            let own = &self.scenario.documents[usize::from(number)].members;
            acceptors = own.iter().map(|&(node, incarnation)| (id(node), incarnation)).collect();
        }
        let rule = match self.mutant {
            Some(Mutant::FoundsByMajority) => Rule::Majority,
            Some(Mutant::ForceDropsAnyone) => {
                Rule::AllBut(acceptors.iter().map(|(id, _)| id.clone()).collect())
            }
            _ => proposer.rule.clone(),
        };
        let slot = self.slot(proposer.after);
        proposer.proposal = Proposal::new(slot, rule, proposer.ballot, bytes(proposer.document), acceptors);
        let actions = proposer.proposal.begin();
        self.perform(proposer, number, actions, wire);
    }

    fn perform(&self, proposer: &Proposer, from: u8, actions: Vec<Action>, wire: &mut BTreeSet<Letter>) {
        for action in actions {
            let (to, what) = match action {
                Action::Send(to, Control::Prepare { ballot, .. }) => {
                    (to, What::Prepare(proposer.after, ballot))
                }
                Action::Send(to, Control::Accept { ballot, document, .. }) => {
                    (to, What::Accept(proposer.after, ballot, document[0]))
                }
                Action::Raise(to) => {
                    (to, What::Raise(proposer.after.expect("a founding raises nobody first")))
                }
                other => panic!("{other:?}"),
            };
            let to = NAMES.iter().position(|name| *name == to.as_str()).unwrap() as u8;
            wire.insert(Letter { from, to, what });
        }
    }

    /// A proposer hears an answer.
    fn hear(&self, state: &mut State, letter: &Letter, reply: ControlReply) {
        if !self.awaits(state, letter) {
            return;
        }
        let State { proposers, wire, .. } = state;
        let proposer = &mut proposers[usize::from(letter.from)];
        let to = id(usize::from(letter.to));
        let actions = match (&letter.what, &reply) {
            (What::Raise(document), ControlReply::Standing(standing)) => {
                if standing.obeys(&self.scenario.fence(*document)) {
                    proposer.proposal.raised(&to)
                } else {
                    proposer.proposal.failed(&to)
                }
            }
            (_, reply) => {
                let reply = Mutant::hear(self.mutant, reply.clone());
                let mut actions = proposer.proposal.reply(&to, &reply);
                let minority = match reply {
                    ControlReply::Accepted => self.mutant == Some(Mutant::MinorityDecides),
                    ControlReply::Promised { .. } => self.mutant == Some(Mutant::MinorityPrepares),
                    _ => false,
                };
                if minority {
                    for node in 0..self.scenario.nodes.len() {
                        actions.extend(proposer.proposal.reply(&id(node), &reply));
                    }
                }
                actions
            }
        };
        let proposer = proposers[usize::from(letter.from)].clone();
        self.perform(&proposer, letter.from, actions, wire);
        self.conclude(state, letter.from);
    }

    /// What a proposer does when its attempt has ended.
    fn conclude(&self, state: &mut State, number: u8) {
        let mut proposer = state.proposers[usize::from(number)].clone();
        let Some(ending) = proposer.proposal.ending().cloned() else { return };
        match ending {
            Ending::Decided(bytes) => {
                let document = bytes[0];
                state.forged |= !self.has_votes(state, proposer.after, document, &proposer.rule);
                state.decided.insert((proposer.after, document));
                let members = &self.scenario.documents[usize::from(document)].members;
                for &(node, _) in members.iter().filter(|_| self.scenario.raises) {
                    state.wire.insert(Letter { from: number, to: node as u8, what: What::Raise(document) });
                }
                match proposer.then.take() {
                    None => proposer.over = true,
                    Some(next) => {
                        proposer.after = Some(document);
                        proposer.document = next;
                        proposer.attempts = 1;
                        self.begin(&mut proposer, number, &mut state.wire);
                    }
                }
            }
            Ending::Other(document) if proposer.attempts > 0 => {
                proposer.document = document[0];
                self.begin(&mut proposer, number, &mut state.wire);
            }
            Ending::Outbid(ballot) if proposer.attempts > 0 => {
                proposer.ballot = proposer.ballot.max(ballot);
                self.begin(&mut proposer, number, &mut state.wire);
            }
            Ending::Unreachable { .. } if proposer.attempts > 0 => {
                self.begin(&mut proposer, number, &mut state.wire);
            }
            _ => proposer.over = true,
        }
        state.proposers[usize::from(number)] = proposer;
    }

    /// Whether the votes that were given are enough under the rule.
    fn has_votes(&self, state: &State, after: Option<u8>, document: u8, rule: &Rule) -> bool {
        let acceptors = &self.scenario.documents[usize::from(after.unwrap_or(document))].members;
        let ballots: BTreeSet<Ballot> = state.votes.iter().map(|cast| cast.ballot).collect();
        ballots.into_iter().any(|ballot| {
            let voted =
                |node: usize| state.votes.contains(&Cast { after, ballot, document, node: node as u8 });
            let count = acceptors.iter().filter(|(node, _)| voted(*node)).count();
            let excused = |node: usize| {
                let lost = state.forgot && self.scenario.forgetful == Some(node);
                lost || matches!(rule, Rule::AllBut(gone) if gone.contains(&id(node)))
            };
            match rule {
                Rule::All => count == acceptors.len(),
                Rule::Majority if 2 * count > acceptors.len() => true,
                _ => count > 0 && acceptors.iter().all(|(node, _)| voted(*node) || excused(*node)),
            }
        })
    }

    /// Every outcome there is, whether or not somebody knows of it.
    fn outcomes(&self, state: &State) -> BTreeSet<(Option<u8>, u8)> {
        let mut outcomes = state.decided.clone();
        for cast in &state.votes {
            let rule = if cast.after.is_none() { Rule::All } else { Rule::Majority };
            let acceptors =
                &self.scenario.documents[usize::from(cast.after.unwrap_or(cast.document))].members;
            let voted = |node: usize| state.votes.contains(&Cast { node: node as u8, ..*cast });
            let count = acceptors.iter().filter(|(node, _)| voted(*node)).count();
            let decided = match rule {
                Rule::All => count == acceptors.len(),
                _ => 2 * count > acceptors.len(),
            };
            if decided {
                outcomes.insert((cast.after, cast.document));
            }
        }
        outcomes
    }
}

impl Model for Decision {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        let mut wire = BTreeSet::new();
        let plans = self.scenario.plans.iter().zip(0..);
        let proposers = plans.map(|(plan, number)| {
            let mut proposer = Proposer {
                proposal: Proposal::new(None, Rule::All, Ballot::default(), Bytes::new(), []),
                ballot: Ballot::default(),
                after: plan.after,
                document: plan.document,
                rule: plan.rule.clone(),
                attempts: plan.attempts,
                then: plan.then,
                over: false,
            };
            self.begin(&mut proposer, number, &mut wire);
            proposer
        });
        let proposers = proposers.collect();
        let nodes = self.scenario.nodes.clone();
        let (votes, decided) = (BTreeSet::new(), BTreeSet::new());
        vec![State {
            nodes,
            proposers,
            wire,
            votes,
            decided,
            forged: false,
            forgot: false,
            losses: self.scenario.losses,
            met: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Event>) {
        for letter in &state.wire {
            if self.scenario.dead != Some(usize::from(letter.to)) && self.in_order(state, letter) {
                actions.push(Event::Arrives(letter.clone(), true));
                if state.losses > 0 {
                    actions.push(Event::Arrives(letter.clone(), false));
                }
            }
        }
        if self.scenario.timeouts {
            for (number, proposer) in (0..).zip(&state.proposers) {
                if !proposer.over {
                    actions.extend((0..state.nodes.len() as u8).map(|node| Event::TimesOut(number, node)));
                }
            }
        }
        if let Some(node) = self.scenario.forgetful
            && !state.forgot
        {
            actions.push(Event::Forgets(node as u8));
        }
        if self.scenario.stale.is_some() {
            actions.extend((0..state.nodes.len() as u8).map(Event::Stale));
        }
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        match event {
            Event::Arrives(letter, heard) => {
                let control = self.control(&letter.what, letter.to);
                let mut charter = last.nodes[usize::from(letter.to)].clone();
                let reply = Mutant::execute(self.mutant, &mut charter, &control);
                let changed = charter != last.nodes[usize::from(letter.to)];
                if !(changed || heard && self.awaits(last, &letter)) {
                    return None;
                }
                let mut state = last.clone();
                state.nodes[usize::from(letter.to)] = charter;
                state.losses -= u8::from(!heard);
                state.met += u8::from(self.is_first(&letter) && letter.to == state.met);
                if let (What::Accept(after, ballot, document), ControlReply::Accepted) =
                    (&letter.what, &reply)
                {
                    let (after, ballot, document) = (*after, *ballot, *document);
                    state.votes.insert(Cast { after, ballot, document, node: letter.to });
                }
                if heard {
                    self.hear(&mut state, &letter, reply);
                }
                (state != *last).then_some(state)
            }
            Event::TimesOut(number, node) => {
                let mut state = last.clone();
                let proposer = &mut state.proposers[usize::from(number)];
                let actions = proposer.proposal.failed(&id(usize::from(node)));
                let proposer = proposer.clone();
                self.perform(&proposer, number, actions, &mut state.wire);
                self.conclude(&mut state, number);
                (state != *last).then_some(state)
            }
            Event::Forgets(node) => {
                let mut charter = Charter::default();
                charter.standing.incarnation = Some(LATER);
                let mut state = last.clone();
                state.nodes[usize::from(node)] = charter;
                state.forgot = true;
                Some(state)
            }
            Event::Stale(node) => {
                let document = self.scenario.stale?;
                let control = self.control(&What::Raise(document), node);
                let mut state = last.clone();
                Mutant::execute(self.mutant, &mut state.nodes[usize::from(node)], &control);
                (state != *last).then_some(state)
            }
        }
    }

    fn properties(&self) -> Vec<Property<Decision>> {
        vec![
            Property::always("one outcome of each decision", |model: &Decision, state: &State| {
                let outcomes = model.outcomes(state);
                outcomes.iter().all(|(after, document)| {
                    let rivals = outcomes.iter().filter(|(other, _)| other == after);
                    let mut rivals = rivals.filter(|(_, rival)| model.overlap(*document, *rival));
                    rivals.all(|(_, rival)| rival == document)
                })
            }),
            Property::always("the outcome has the next epoch", |model: &Decision, state: &State| {
                let epoch = |document: u8| model.scenario.documents[usize::from(document)].epoch;
                let before = |after: Option<u8>| after.map_or(0, epoch);
                model.outcomes(state).iter().all(|&(after, document)| epoch(document) == before(after) + 1)
            }),
            Property::always("what is decided has the votes", |_, state: &State| !state.forged),
            Property::always(
                "what nodes obey was decided, for the memory that they are",
                |model: &Decision, state: &State| {
                    state.nodes.iter().zip(0..).all(|(charter, node)| {
                        let Some(fence) = charter.standing.fence.as_deref() else { return true };
                        let document = Fence::decode(fence).unwrap().nonce as u8;
                        let given = model.scenario.nodes[node].standing.fence.as_deref() == Some(fence)
                            || model.scenario.plans.iter().any(|plan| plan.after == Some(document));
                        let decided = state.decided.iter().any(|(_, decided)| *decided == document);
                        let its_own =
                            charter.standing.incarnation == Some(model.incarnation(document, node as u8));
                        (given || decided) && its_own
                    })
                },
            ),
            Property::sometimes(Decision::SOMETIMES, |_, state: &State| !state.decided.is_empty()),
        ]
    }
}

impl Decision {
    fn is_first(&self, letter: &Letter) -> bool {
        letter.from == 0
            && letter.to < self.scenario.alike
            && matches!(letter.what, What::Prepare(_, Ballot { round: 1, .. }))
    }

    fn in_order(&self, state: &State, letter: &Letter) -> bool {
        !self.is_first(letter) || letter.to <= state.met
    }

    /// Whether the answer to a letter would be heard.
    fn awaits(&self, state: &State, letter: &Letter) -> bool {
        let proposer = &state.proposers[usize::from(letter.from)];
        !proposer.over
            && match letter.what {
                What::Prepare(after, ballot) | What::Accept(after, ballot, _) => {
                    (after, ballot) == (proposer.after, proposer.ballot)
                }
                What::Raise(document) => proposer.after == Some(document),
            }
    }

    /// Whether two documents have a node in common: those that have none are two rings, and nobody can know.
    fn overlap(&self, one: u8, other: u8) -> bool {
        let members = |document: u8| &self.scenario.documents[usize::from(document)].members;
        members(one).iter().any(|(node, _)| members(other).iter().any(|(n, _)| n == node))
    }
}

fn bytes(document: u8) -> Bytes {
    Bytes::copy_from_slice(&[document])
}
