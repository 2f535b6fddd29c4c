//! What came of a run.

use std::{collections::BTreeMap, fmt};

pub use crate::chronicle::Resized;
use crate::{
    history::{Answer, Nanos, Operation, Reason},
    linearizability::{Policy, Verdict},
    mode::Sum,
    oracles::{Finding, Harm},
    schedule::Kind,
};

/// What came of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// It repeats the run, as far as real processes repeat anything.
    pub seed: u64,
    /// Of the ring.
    pub policy: Policy,
    /// How many sessions were used.
    pub sessions: usize,
    /// How many client processes there were.
    pub processes: usize,
    /// How often each answer came.
    pub answers: BTreeMap<&'static str, usize>,
    /// For each kind of fault.
    pub rows: BTreeMap<Kind, Row>,
    /// How many sessions lost something that nothing explains.
    pub lost: usize,
    /// How many sessions had something come back that nothing explains.
    pub resurrected: usize,
    /// How many sessions only an injected loss of memory explains.
    pub lost_to_memory: usize,
    /// What became of the resizes.
    pub resized: Resized,
    /// How many servers could be emptied by a removal while they took no more data, and how many could not, since other
    /// faults got in the way.
    pub drained: (usize, usize),
    /// How many log-outs were acknowledged by servers that took no more data.
    pub logged_out_when_full: usize,
    /// How many cases of each kind of harm.
    pub harm: BTreeMap<Harm, usize>,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// What was said on the way, and how often.
    pub remarks: BTreeMap<String, usize>,
    /// How many versions of sessions were seen in the stored records.
    pub versions: usize,
    /// The longest operation.
    pub longest: Nanos,
}

/// What came of one kind of fault. Harm is counted with every fault that was in force around it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// How often it was injected.
    pub injected: usize,
    /// Operations under way meanwhile.
    pub operations: usize,
    /// Sessions that lost something that nothing explains.
    pub lost: usize,
    /// Sessions of which something came back that nothing explains.
    pub resurrected: usize,
    /// Sessions that the injected loss of memory explains.
    pub lost_to_memory: usize,
}

impl Report {
    /// Whether everything that was promised was kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many operations there were.
    pub fn operations(&self) -> usize {
        self.answers.values().sum()
    }

    /// The run in one line.
    pub fn summary(&self) -> String {
        format!(
            "seed {}, {:?}: {} resizes under {} faults, {} operations; lost {}, resurrected {}; {} sessions lost to \
             injected loss of memory; {} violations",
            self.seed,
            self.policy,
            self.resized.finished(),
            self.rows.values().map(|row| row.injected).sum::<usize>(),
            self.operations(),
            self.lost,
            self.resurrected,
            self.lost_to_memory,
            self.violations.len()
        )
    }

    /// What it adds to those of its mode.
    pub fn sum(&self) -> Sum {
        let unanswered = ["unavailable", "indeterminate", "unexpected error"];
        let unanswered: usize = unanswered.iter().filter_map(|name| self.answers.get(name)).sum();
        Sum {
            faults: self.rows.values().map(|row| row.injected).sum(),
            operations: self.operations(),
            answered: self.operations() - unanswered,
            lost: self.lost,
            resurrected: self.resurrected,
        }
    }

    pub(crate) fn count(&mut self, operation: &Operation) {
        let name = match operation.answer {
            Answer::Done | Answer::Updated(_) => "done",
            Answer::Found(_) | Answer::There(_) => "read",
            Answer::NotFound | Answer::Deleted | Answer::AlreadyThere => "refused by the session's state",
            Answer::Refused(Reason::Unavailable) => "unavailable",
            Answer::Refused(Reason::Full) => "full",
            Answer::Refused(Reason::Conflict) => "conflict",
            Answer::Refused(Reason::Unexpected) => "unexpected error",
            Answer::Indeterminate => "indeterminate",
        };
        *self.answers.entry(name).or_default() += 1;
    }

    /// The violations of one session, for people; whether something was lost, and whether something came back.
    pub(crate) fn judge(&mut self, what: &str, verdict: &Verdict, findings: &[Finding]) -> (bool, bool) {
        for finding in findings {
            *self.harm.entry(finding.harm).or_default() += 1;
            let operations: Vec<String> = finding.operations.iter().map(|one| format!("\n  {one}")).collect();
            self.violations.push(format!("{what}: {:?}{}", finding.harm, operations.concat()));
        }
        match verdict {
            Verdict::Violation(witness) => self.violations.push(format!("{what}: {witness}")),
            Verdict::Undecided(why) => self.violations.push(format!("{what}: undecided, {why}")),
            Verdict::Linearizable | Verdict::WithLosses(_) => {
                return (findings.iter().any(|finding| finding.harm != Harm::UnexpectedError), false);
            }
        }
        let resurrected = findings.iter().any(|finding| finding.harm.is_resurrection());
        (!resurrected, resurrected)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<40} {:>6} {:>10} {:>6} {:>12} {:>12}",
            "fault", "times", "operations", "lost", "resurrected", "memory lost"
        )?;
        for (kind, row) in &self.rows {
            let Row { injected, operations, lost, resurrected, lost_to_memory } = row;
            writeln!(
                f,
                "{:<40} {injected:>6} {operations:>10} {lost:>6} {resurrected:>12} {lost_to_memory:>12}",
                kind.name()
            )?;
        }
        let answers: Vec<String> =
            self.answers.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(
            f,
            "\n{} operations of {} processes on {} sessions: {}\nlongest: {:.2} s; {} stored versions were looked at",
            self.operations(),
            self.processes,
            self.sessions,
            answers.join(", "),
            self.longest as f64 / 1e9,
            self.versions
        )?;
        for (remark, times) in &self.remarks {
            writeln!(f, "{times} times: {remark}")?;
        }
        for (harm, count) in &self.harm {
            writeln!(f, "{count} × {harm:?}")?;
        }
        for violation in self.violations.iter().take(10) {
            writeln!(f, "\nVIOLATION {violation}")?;
        }
        let Resized { added, removed, reweighted, evened, readmitted, forgotten, epoch, unseen } =
            self.resized;
        writeln!(
            f,
            "\n{} resizes came to their ends: {added} additions, {removed} removals, {reweighted} other weights, \
             {evened} after a node was forgotten\n{forgotten} nodes were forgotten, {readmitted} documents took a node \
             back; epoch {epoch}, {unseen} documents unseen\n{} of {} full servers could be removed while they were full; \
             full servers acknowledged {} log-outs",
            self.resized.finished(),
            self.drained.0,
            self.drained.0 + self.drained.1,
            self.logged_out_when_full
        )?;
        f.write_str(&self.summary())
    }
}
