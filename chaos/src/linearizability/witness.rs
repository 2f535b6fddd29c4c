//! The smallest part of a history that nothing explains.
//!
//! To leave out what only observed, and to forget the answer of what changed something, allows more than before. So
//! whatever is still a contradiction afterwards was one before, and what is left when nothing more can be left out says
//! why.

use std::{collections::BTreeSet, fmt};

use super::{
    Loss, Policy,
    search::{Stuck, search},
};
use crate::history::{Action, Answer, Operation, Token};

/// Operations that contradict each other.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Witness {
    /// The operation whose answer nothing explains.
    pub culprit: Operation,
    /// Enough of the history to see that, by time.
    pub core: Vec<Operation>,
}

pub(super) fn find(history: &[Operation], losses: &[Loss], policy: Policy, at: usize) -> Witness {
    let culprit = history[at];
    // What began after the contradiction was complete has no part in it, unless it wrote what was seen too early.
    let mut core: Vec<Operation> = history.to_vec();
    let fails = |operations: &[Operation]| matches!(search(operations, losses, policy), Err(Stuck::At(_)));
    let before: Vec<Operation> =
        core.iter().filter(|operation| operation.invoked <= culprit.ended()).copied().collect();
    if fails(&before) {
        core = before;
    }
    let mut piece = core.len().div_ceil(2);
    while piece > 0 {
        let mut begin = 0;
        while begin < core.len() {
            let end = (begin + piece).min(core.len());
            let mut with_less = core[..begin].to_vec();
            with_less.extend(core[begin..end].iter().filter_map(|&operation| less(operation)));
            with_less.extend(&core[end..]);
            if with_less != core && fails(&with_less) {
                // Those that are left out shift the rest; those that are weaker stay.
                begin += with_less.len() - (core.len() - (end - begin));
                core = with_less;
            } else {
                begin = end;
            }
        }
        piece /= 2;
    }
    let seen: BTreeSet<Token> = core.iter().filter_map(Operation::saw).collect();
    let is_seen = |operation: &Operation| operation.writes().is_some_and(|token| seen.contains(&token));
    // What may have happened, and nobody saw, explains nothing.
    core.retain(|operation| {
        let may_matter = matches!(operation.action, Action::Create(_) | Action::Delete);
        operation.answer != Answer::Indeterminate || may_matter || is_seen(operation)
    });
    // Where a value came from, even if it should not have come.
    for writer in history.iter().filter(|operation| is_seen(operation)) {
        if !core.iter().any(|operation| operation.writes() == writer.writes()) {
            core.push(*writer);
        }
    }
    core.sort_by_key(|operation| operation.invoked);
    Witness { culprit, core }
}

/// The same, demanding less; `None` if nothing is left of it. What may have happened must stay: it allows more.
fn less(operation: Operation) -> Option<Operation> {
    let changes = operation.writes().is_some() || operation.action == Action::Delete;
    match operation.answer {
        Answer::Done | Answer::Updated(_) if changes => {
            Some(Operation { answer: Answer::Indeterminate, returned: None, ..operation })
        }
        Answer::Indeterminate => Some(operation),
        _ => None,
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.core.iter().map(|operation| operation.invoked).min().unwrap_or(0);
        let shown = |operation: &Operation| Operation {
            invoked: operation.invoked.saturating_sub(origin),
            returned: operation.returned.map(|returned| returned.saturating_sub(origin)),
            ..*operation
        };
        writeln!(f, "nothing explains the last of these, given the others:")?;
        for operation in &self.core {
            writeln!(f, "  {}", shown(operation))?;
        }
        write!(f, "  (first noticed at {})", shown(&self.culprit))
    }
}
