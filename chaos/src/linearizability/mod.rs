//! Could one copy of the session, changed by one client at a time, have given these answers?
//!
//! The specification: a session is absent, live with a value, or deleted, and deleted is final. Time is not in it,
//! sessions are made to outlive the run. An injected loss of a node's memory may turn a session absent, or, where a
//! server came back with old data and is trusted, into whatever it was before.
//!
//! - [`check`]: the verdict on the history of one session
//! - `prepare`: what each operation demands and does, without those that demand nothing
//! - `search`: all states that the answers so far allow, carried from event to event
//! - `witness`: the smallest part of a history that nothing explains

mod prepare;
mod search;
mod witness;

use std::fmt;

pub use self::witness::Witness;
use crate::history::{Nanos, Operation};

/// What a session may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It never was, or was lost.
    Absent,
    /// It has this value.
    Live(crate::history::Token),
    /// It was logged out.
    Deleted,
}

/// What the ring promises about a server that comes back with old data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// It is used on: sessions may be what they were before.
    Trust,
    /// What it holds is nothing: sessions are absent.
    Strict,
}

/// What a server knows after its memory was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Memory {
    /// Nothing.
    Empty,
    /// What it knew at some time before.
    Old,
}

/// An injected loss of the memory of the session's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Before the fault.
    pub from: Nanos,
    /// After the node was back.
    pub until: Nanos,
    /// What the node came back with.
    pub memory: Memory,
}

impl Loss {
    /// A loss at some moment between these two.
    pub fn new(from: Nanos, until: Nanos, memory: Memory) -> Loss {
        Loss { from, until, memory }
    }
}

/// Whether a history can be explained.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Verdict {
    /// It can, without any loss of memory.
    Linearizable,
    /// It can, if the memory was lost at these of the losses (as few as can be).
    WithLosses(Vec<usize>),
    /// It cannot.
    Violation(Witness),
    /// Nobody knows: there were too many possibilities.
    Undecided(String),
}

impl Verdict {
    /// Whether the ring has kept its promises, as far as this session goes.
    pub fn is_fine(&self) -> bool {
        matches!(self, Verdict::Linearizable | Verdict::WithLosses(_))
    }
}

/// Judges the history of one session, in any order. The losses are those of the nodes that held it.
pub fn check(history: &[Operation], losses: &[Loss], policy: Policy) -> Verdict {
    match search::search(history, &[], policy) {
        Ok(_) => return Verdict::Linearizable,
        Err(search::Stuck::TooMuch(why)) => return Verdict::Undecided(why),
        Err(search::Stuck::At(_)) => {}
    }
    match search::search(history, losses, policy) {
        Ok(used) => Verdict::WithLosses(used),
        Err(search::Stuck::TooMuch(why)) => Verdict::Undecided(why),
        Err(search::Stuck::At(at)) => Verdict::Violation(witness::find(history, losses, policy, at)),
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Absent => f.write_str("absent"),
            State::Live(prepare::UNSEEN) => f.write_str("live with a value that nobody saw"),
            State::Live(token) => write!(f, "live with {token}"),
            State::Deleted => f.write_str("deleted"),
        }
    }
}
