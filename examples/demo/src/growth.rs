//! What one more node would move. Nothing is moved here: who owns what is computed from the names of the nodes.

use comfy_table::Table;
use sessionring::{
    NodeId, SessionId, SessionRing,
    ring::{Diff, Member, Ring},
};

use crate::{
    Result,
    report::{self, Count, Percent},
};

pub(crate) struct Growth {
    new: NodeId,
    before: Ring,
    diff: Diff,
    /// For each flow of the difference: how many of the demo's sessions take part in it.
    sessions: Vec<usize>,
    /// How many sessions would change their node if it were chosen by `hash % nodes`.
    by_modulo: usize,
    all: usize,
}

impl Growth {
    pub(crate) fn by_one_node(ring: &SessionRing, name: String, ids: &[SessionId]) -> Result<Growth> {
        let before = ring.ring();
        let new = NodeId::new(name)?;
        let members = before.members().iter().cloned().chain([Member::from(new.clone())]);
        let after = before.evolve(members)?;
        let diff = before.diff(&after);

        // The difference is exact for the whole circle; these are the sessions that really stand on it.
        let mut sessions = vec![0; diff.flows().len()];
        let (old_count, new_count) = (before.members().len() as u64, after.members().len() as u64);
        let mut by_modulo = 0;
        for id in ids {
            let (from, to) = (before.owner(id.token()), after.owner(id.token()));
            if let Some(at) = diff.flows().iter().position(|flow| (flow.from(), flow.to()) == (from, to)) {
                sessions[at] += 1;
            }
            let hash = id.token().get();
            by_modulo += usize::from(hash % old_count != hash % new_count);
        }
        Ok(Growth { new, before, diff, sessions, by_modulo, all: ids.len() })
    }

    pub(crate) fn title(&self) -> String {
        let which = match self.before.members().len() {
            1 => "a second",
            2 => "a third",
            3 => "a fourth",
            4 => "a fifth",
            _ => "one more",
        };
        format!("What adding {which} node, {}, would move", self.new)
    }

    /// The least that can move is what the new node should own, and each of the others gives its part of it.
    pub(crate) fn table(&self) -> Table {
        let mut table = report::table(["from", "to", "of the ring", "ideal", "of these sessions"]);
        let optimal = self.diff.optimal();
        let givers = self.before.members().len() as f64;
        for (flow, sessions) in self.diff.flows().iter().zip(&self.sessions) {
            table.add_row([
                flow.from().to_string(),
                flow.to().to_string(),
                Percent(flow.share().as_f64()).to_string(),
                Percent(if *flow.to() == self.new { optimal / givers } else { 0.0 }).to_string(),
                Count(*sessions).to_string(),
            ]);
        }
        table.add_row([
            "all".to_owned(),
            String::new(),
            Percent(self.diff.moved().as_f64()).to_string(),
            Percent(optimal).to_string(),
            Count(self.moved()).to_string(),
        ]);
        report::numbers_right(&mut table, 2..5);
        table
    }

    pub(crate) fn verdict(&self) -> String {
        let part = |count: usize| Percent(count as f64 / self.all as f64);
        let (moved, by_modulo) = (self.moved(), self.by_modulo);
        format!(
            "{} of {} sessions would move ({}).\nBy hash % nodes it would be {} ({}).",
            Count(moved),
            Count(self.all),
            part(moved),
            Count(by_modulo),
            part(by_modulo)
        )
    }

    fn moved(&self) -> usize {
        self.sessions.iter().sum()
    }
}
