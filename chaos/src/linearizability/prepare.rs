//! What each operation of a history demands of the state, and does to it.
//!
//! Every value is written by one operation only, so a value that was seen says that its write took place, and by when.
//! A write whose answer was lost and whose value nobody ever saw can be left out: without it, whatever was explained
//! with it is explained still, since all that it could do is to hide another value.

use std::collections::BTreeMap;

use super::State;
use crate::history::{Action, Answer, Nanos, Operation, Token};

/// Stands for every value that nobody ever saw: they are all alike.
pub(super) const UNSEEN: Token = Token::MAX;

/// What an operation is to the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The state must be so at one moment, and stays.
    Observe(Demand),
    /// The state must be so at one moment, and is live with this value from then on.
    Write(Demand, Token),
    /// A live session is deleted; otherwise nothing changes.
    Delete,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    Absent,
    Deleted,
    NotLive,
    Live,
    Value(Token),
}

impl Demand {
    pub(super) fn holds(self, state: State) -> bool {
        match self {
            Demand::Absent => state == State::Absent,
            Demand::Deleted => state == State::Deleted,
            Demand::NotLive => !matches!(state, State::Live(_)),
            Demand::Live => matches!(state, State::Live(_)),
            Demand::Value(token) => state == State::Live(token),
        }
    }
}

/// An operation that must have taken place between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Certain {
    /// Its place in the history.
    pub(super) at: usize,
    pub(super) step: Step,
    pub(super) invoked: Nanos,
    pub(super) returned: Nanos,
}

impl Certain {
    /// A write that needs no more than a live session, and whose value nobody saw. It may always be put right before
    /// another write of that kind, where it hides nothing; only at its return it has to stand for itself.
    pub(super) fn is_patient(&self) -> bool {
        self.step == Step::Write(Demand::Live, UNSEEN)
    }
}

/// A history without what demands nothing.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) certain: Vec<Certain>,
    /// When each create was asked for that may have taken place at any time since, with a value that nobody saw.
    pub(super) creates: Vec<Nanos>,
    /// When each log-out was asked for that may have taken place at any time since.
    pub(super) deletes: Vec<Nanos>,
    /// For each value that was seen, when it was seen last.
    pub(super) seen_until: BTreeMap<Token, Nanos>,
    /// For each value that was seen, its write among the certain operations.
    pub(super) writer: BTreeMap<Token, usize>,
}

pub(super) fn prepare(history: &[Operation]) -> Result<Prepared, String> {
    let mut writers = BTreeMap::new();
    for (at, operation) in history.iter().enumerate() {
        if let Some(token) = operation.writes()
            && writers.insert(token, at).is_some()
        {
            return Err(format!("two operations write the value {token}; values must be unique"));
        }
    }
    // A value that was seen was written before it was seen for the first time.
    let mut seen: BTreeMap<Token, (Nanos, Nanos)> = BTreeMap::new();
    for operation in history {
        if let Some(token) = operation.saw() {
            let ended = operation.ended();
            let (first, last) = seen.entry(token).or_insert((ended, ended));
            (*first, *last) = ((*first).min(ended), (*last).max(ended));
        }
    }
    let mut prepared = Prepared::default();
    for (at, operation) in history.iter().enumerate() {
        let written = operation.writes();
        let first_seen = written.and_then(|token| seen.get(&token)).map(|(first, _)| *first);
        let token = written.filter(|_| first_seen.is_some()).unwrap_or(UNSEEN);
        let step = match (operation.action, operation.answer) {
            // That nothing happened is a promise, too: seen nevertheless, the value has no writer.
            (_, Answer::Refused(_)) => continue,
            (_, Answer::NotFound) => Step::Observe(Demand::Absent),
            (_, Answer::Deleted) => Step::Observe(Demand::Deleted),
            (_, Answer::AlreadyThere) => Step::Observe(Demand::Live),
            (_, Answer::Found(Some(token))) => Step::Observe(Demand::Value(token)),
            (_, Answer::Found(None) | Answer::There(false)) => Step::Observe(Demand::NotLive),
            (_, Answer::There(true)) => Step::Observe(Demand::Live),
            (_, Answer::Updated(before)) => Step::Write(Demand::Value(before), token),
            (Action::Create(_), Answer::Done) => Step::Write(Demand::Absent, token),
            (Action::Set(_) | Action::Update(_), Answer::Done) => Step::Write(Demand::Live, token),
            (Action::Touch | Action::Get | Action::Exists, Answer::Done) => Step::Observe(Demand::Live),
            (Action::Delete, Answer::Done) => Step::Delete,
            (Action::Get | Action::Exists | Action::Touch, Answer::Indeterminate) => continue,
            (Action::Delete, Answer::Indeterminate) => {
                prepared.deletes.push(operation.invoked);
                continue;
            }
            (Action::Create(_), Answer::Indeterminate) if first_seen.is_none() => {
                prepared.creates.push(operation.invoked);
                continue;
            }
            (Action::Set(_) | Action::Update(_), Answer::Indeterminate) if first_seen.is_none() => continue,
            (Action::Create(_), Answer::Indeterminate) => Step::Write(Demand::Absent, token),
            (Action::Set(_) | Action::Update(_), Answer::Indeterminate) => Step::Write(Demand::Live, token),
        };
        // A write whose answer was lost may take place after its client has given up.
        let ended = if operation.answer == Answer::Indeterminate { Nanos::MAX } else { operation.ended() };
        let returned = match step {
            Step::Write(..) => ended.min(first_seen.unwrap_or(Nanos::MAX)),
            _ => ended,
        };
        if matches!(step, Step::Write(..)) && token != UNSEEN {
            prepared.writer.insert(token, prepared.certain.len());
        }
        prepared.certain.push(Certain { at, step, invoked: operation.invoked, returned });
    }
    prepared.creates.sort_unstable();
    prepared.deletes.sort_unstable();
    prepared.seen_until = seen.into_iter().map(|(token, (_, last))| (token, last)).collect();
    Ok(prepared)
}
