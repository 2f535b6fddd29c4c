//! What must never be seen, looked for directly: no search, no cleverness.
//!
//! Each of these is also a violation of linearizability. They are looked for a second time because they can be read in one
//! sitting, and because they say what kind of harm was done. Where the memory of the session's node was lost between the
//! operations that contradict each other, nothing is claimed.

use std::collections::BTreeMap;

use crate::{
    history::{Action, Answer, Nanos, Operation, Reason, Token},
    linearizability::Loss,
};

/// The kinds of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Harm {
    /// A session was live in an operation that began after its log-out had been acknowledged.
    LiveAfterDelete,
    /// A value was seen, then another one, then the first again.
    CameBack,
    /// A value was seen after a later write had been acknowledged.
    LostWrite,
    /// A session that nobody deleted was gone after a write had been acknowledged.
    LostSession,
    /// Two creates were acknowledged, or one value was written by two operations.
    WrittenTwice,
    /// A value was seen that nobody had asked to write yet, or whose write was refused.
    FromNowhere,
    /// An update wrote upon another value than it says.
    WrongPredecessor,
    /// An error that no fault explains.
    UnexpectedError,
}

impl Harm {
    /// Whether something came back that had ended, rather than being lost.
    pub fn is_resurrection(self) -> bool {
        matches!(self, Harm::LiveAfterDelete | Harm::CameBack)
    }
}

/// One case of harm.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// What kind.
    pub harm: Harm,
    /// The operations that contradict each other, in the order in which the harm's description names them.
    pub operations: Vec<Operation>,
}

/// Looks for harm in the history of one session. At most one finding of each kind.
pub fn examine(history: &[Operation], losses: &[Loss]) -> Vec<Finding> {
    let lost = |from: Nanos, until: Nanos| losses.iter().any(|loss| loss.from <= until && loss.until >= from);
    let mut by_time = history.to_vec();
    by_time.sort_by_key(|operation| operation.invoked);
    let looks: [Look; 7] = [
        live_after_delete,
        came_back,
        lost_write,
        lost_session,
        written_twice,
        from_nowhere,
        unexpected_error,
    ];
    looks.iter().filter_map(|look| look(&by_time, &lost)).collect()
}

fn finding(harm: Harm, operations: &[&Operation]) -> Option<Finding> {
    Some(Finding { harm, operations: operations.iter().map(|&&operation| operation).collect() })
}

/// Whether the memory was lost between these two.
type Lost<'a> = &'a dyn Fn(Nanos, Nanos) -> bool;
/// Looks for one kind of harm, in a history by time.
type Look = fn(&[Operation], Lost<'_>) -> Option<Finding>;

fn live_after_delete(history: &[Operation], lost: Lost<'_>) -> Option<Finding> {
    for delete in history.iter().filter(|one| one.action == Action::Delete && one.answer == Answer::Done) {
        // The log-out of a session that is not there leaves nothing behind: it may be created afterwards.
        let alive = history.iter().filter(|one| one.saw_life() && one.ended() < delete.invoked);
        let Some(alive) = alive.max_by_key(|one| one.invoked) else { continue };
        let after = history
            .iter()
            .find(|one| one.saw_life() && one.invoked > delete.ended() && !lost(alive.invoked, one.ended()));
        if let Some(after) = after {
            return finding(Harm::LiveAfterDelete, &[alive, delete, after]);
        }
    }
    None
}

fn came_back(history: &[Operation], lost: Lost<'_>) -> Option<Finding> {
    // First and last time that a value was certainly there.
    let mut seen: BTreeMap<Token, (&Operation, &Operation)> = BTreeMap::new();
    for (token, operation) in history.iter().filter_map(|one| Some((one.saw()?, one))) {
        let (first, last) = seen.entry(token).or_insert((operation, operation));
        if operation.ended() < first.ended() {
            *first = operation;
        }
        if operation.invoked > last.invoked {
            *last = operation;
        }
    }
    for (&token, &(first, last)) in &seen {
        if last.invoked <= first.ended() || lost(first.invoked, last.ended()) {
            continue;
        }
        let from = history.partition_point(|one| one.invoked <= first.ended());
        let between = history[from..].iter().take_while(|one| one.invoked < last.invoked);
        let mut others = between.filter(|one| one.ended() < last.invoked);
        // What was there in between must have been this value.
        if let Some(other) =
            others.find(|one| one.saw().is_some_and(|seen| seen != token) || one.saw_no_life())
        {
            return finding(Harm::CameBack, &[first, other, last]);
        }
    }
    None
}

fn is_write(operation: &Operation) -> bool {
    operation.is_acknowledged() && operation.writes().is_some()
}

fn lost_write(history: &[Operation], lost: Lost<'_>) -> Option<Finding> {
    let writers: BTreeMap<Token, &Operation> =
        history.iter().filter(|one| is_write(one)).filter_map(|one| Some((one.writes()?, one))).collect();
    // Of the writes from each place on, the one that ended first.
    let writes: Vec<&Operation> = history.iter().filter(|one| is_write(one)).collect();
    let mut first_to_end = writes.clone();
    for i in (1..writes.len()).rev() {
        if first_to_end[i].ended() < first_to_end[i - 1].ended() {
            first_to_end[i - 1] = first_to_end[i];
        }
    }
    for seeing in history {
        let Some(writer) = seeing.saw().and_then(|token| writers.get(&token)) else { continue };
        let later = writes.partition_point(|one| one.invoked <= writer.ended());
        let Some(later) = first_to_end.get(later) else { continue };
        if later.ended() < seeing.invoked && !lost(writer.invoked, seeing.ended()) {
            return finding(Harm::LostWrite, &[writer, later, seeing]);
        }
    }
    None
}

fn lost_session(history: &[Operation], lost: Lost<'_>) -> Option<Finding> {
    let first_delete = history.iter().find(|one| one.action == Action::Delete && !is_refused(one));
    let first_delete = first_delete.map_or(Nanos::MAX, |delete| delete.invoked);
    let gone = history.iter().filter(|one| one.saw_no_life() && one.ended() < first_delete);
    for gone in gone {
        // The last life seen before is the one with the fewest losses in between.
        let alive = history.iter().filter(|one| one.saw_life() && one.ended() < gone.invoked);
        if let Some(alive) = alive.max_by_key(|one| one.invoked)
            && !lost(alive.invoked, gone.ended())
        {
            return finding(Harm::LostSession, &[alive, gone]);
        }
    }
    None
}

fn is_refused(operation: &Operation) -> bool {
    matches!(operation.answer, Answer::Refused(_))
}

fn written_twice(history: &[Operation], lost: Lost<'_>) -> Option<Finding> {
    let mut writers: BTreeMap<Token, &Operation> = BTreeMap::new();
    let mut created: Option<&Operation> = None;
    for operation in history {
        if let Some(token) = operation.writes()
            && let Some(other) = writers.insert(token, operation)
        {
            return finding(Harm::WrittenTwice, &[other, operation]);
        }
        if matches!(operation.action, Action::Create(_)) && operation.answer == Answer::Done {
            if let Some(first) = created
                && !lost(first.invoked, operation.ended())
            {
                return finding(Harm::WrittenTwice, &[first, operation]);
            }
            created = Some(operation);
        }
    }
    None
}

fn from_nowhere(history: &[Operation], _lost: Lost<'_>) -> Option<Finding> {
    let writers: BTreeMap<Token, &Operation> =
        history.iter().filter_map(|one| Some((one.writes()?, one))).collect();
    for seeing in history {
        let Some(token) = seeing.saw() else { continue };
        match writers.get(&token) {
            None => return finding(Harm::FromNowhere, &[seeing]),
            Some(writer) if writer.invoked > seeing.ended() || is_refused(writer) => {
                return finding(Harm::FromNowhere, &[writer, seeing]);
            }
            Some(_) => {}
        }
    }
    None
}

fn unexpected_error(history: &[Operation], _lost: Lost<'_>) -> Option<Finding> {
    let unexpected = history.iter().find(|one| one.answer == Answer::Refused(Reason::Unexpected))?;
    finding(Harm::UnexpectedError, &[unexpected])
}
