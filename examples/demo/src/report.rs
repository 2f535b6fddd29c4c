//! Tables and numbers, on stdout.

use std::{
    collections::HashSet,
    fmt::{self, Display},
    io::Write,
    ops::Range,
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{BinaryBytes, HumanCount};
use sessionring::{SessionId, SessionRing, record::Key};

use crate::{Result, servers::Servers};

/// No table is wider than this: with the indentation, that is a window of 80 columns.
const WIDTH: u16 = 77;

/// Prints one line. Not `println!`, which panics when nobody reads any more (`make demo | head`): the demo should
/// end as after any other error, and clean up.
pub(crate) fn line(text: impl Display) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Prints the title of a chapter.
pub(crate) fn title(text: impl Display) -> Result<()> {
    line(format_args!("\n{text}"))
}

/// Prints what belongs under a title, indented.
pub(crate) fn say(text: impl Display) -> Result<()> {
    text.to_string().lines().try_for_each(|text| line(format_args!("   {text}")))
}

pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(header);
    table
}

/// Numbers stand below each other.
pub(crate) fn numbers_right(table: &mut Table, columns: Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Sessions node by node, in the order of the servers.
pub(crate) struct Placed {
    sessions: Vec<usize>,
    /// How many sessions were found at the very node that `ring.owner` names, of those that can be looked for.
    at_owner: usize,
    looked_for: usize,
    /// For each session: whether it was found there, or was given back by a node that cannot be looked into.
    pub(crate) found: Vec<bool>,
}

impl Placed {
    /// `held` is what each server lists; a memory node lists nothing, so it counts what it gave back.
    pub(crate) fn count(
        servers: &Servers,
        ring: &SessionRing,
        ids: &[SessionId],
        good: &[bool],
        held: &[Option<HashSet<Key>>],
    ) -> Placed {
        let sessions = vec![0; servers.nodes().len()];
        let mut placed = Placed { sessions, at_owner: 0, looked_for: 0, found: Vec::new() };
        for (id, &good) in ids.iter().zip(good) {
            let (owner, key) = (ring.owner(id), servers.keyspace().key(id));
            let mut found = false;
            for (at, (node, held)) in servers.nodes().iter().zip(held).enumerate() {
                let is_owner = node.name() == owner.as_str();
                let here = match held {
                    Some(held) => {
                        placed.looked_for += usize::from(is_owner);
                        let here = held.contains(&key);
                        placed.at_owner += usize::from(here && is_owner);
                        here
                    }
                    None => good && is_owner,
                };
                placed.sessions[at] += usize::from(here);
                found |= here && is_owner;
            }
            placed.found.push(found);
        }
        placed
    }

    /// `memory` is what each server uses more than before the log-ins, if that is to be shown.
    pub(crate) fn table(&self, servers: &Servers, memory: Option<&[Option<u64>]>) -> Table {
        let all: usize = self.sessions.iter().sum();
        let share = |sessions: usize| Percent(sessions as f64 / all.max(1) as f64).to_string();
        let bytes_each = |bytes: u64, sessions: usize| format!("{} B", bytes / sessions.max(1) as u64);
        // No node has another weight than the others.
        let ideal = 1.0 / servers.nodes().len() as f64;

        let Some(memory) = memory else {
            let mut table = table(["node", "sessions", "share", "ideal share"]);
            for (node, &sessions) in servers.nodes().iter().zip(&self.sessions) {
                let row = [Count(sessions).to_string(), share(sessions), Percent(ideal).to_string()];
                table.add_row([node.name().to_owned()].into_iter().chain(row));
            }
            table.add_row(["all".to_owned(), Count(all).to_string(), share(all), Percent(1.0).to_string()]);
            numbers_right(&mut table, 1..4);
            return table;
        };
        let mut table = table(["node", "sessions", "share", "ideal share", "memory", "each session"]);
        for ((node, &sessions), memory) in servers.nodes().iter().zip(&self.sessions).zip(memory) {
            table.add_row([
                node.name().to_owned(),
                Count(sessions).to_string(),
                share(sessions),
                Percent(ideal).to_string(),
                known(*memory, |bytes| BinaryBytes(bytes).to_string()),
                known(*memory, |bytes| bytes_each(bytes, sessions)),
            ]);
        }
        let memory: Option<u64> = memory.iter().copied().sum();
        table.add_row([
            "all".to_owned(),
            Count(all).to_string(),
            share(all),
            Percent(1.0).to_string(),
            known(memory, |bytes| BinaryBytes(bytes).to_string()),
            known(memory, |bytes| bytes_each(bytes, all)),
        ]);
        numbers_right(&mut table, 1..6);
        table
    }

    pub(crate) fn verdict(&self, ring: &SessionRing) -> String {
        let found = match self.looked_for {
            0 => "A memory node cannot be looked into: counted is what it gave back.".into(),
            all => format!(
                "Counted at the servers. {} of {} sessions lie where ring.owner(&id) says.",
                Count(self.at_owner),
                Count(all)
            ),
        };
        // No weights are given, so every node should own the same part of the ring.
        let ring = ring.ring();
        let ideal = 1.0 / ring.members().len() as f64;
        let off = ring.shares().map(|(_, share)| (share.as_f64() - ideal).abs()).fold(0.0, f64::max);
        format!(
            "{found}\nThe ring itself is divided to within {:.3}% of the ideal; the rest is chance.",
            off * 100.0
        )
    }
}

fn known<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".into(), show)
}

/// With a comma between thousands.
pub(crate) struct Count(pub(crate) usize);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HumanCount(self.0 as u64).fmt(f)
    }
}

/// A fraction, in percent.
pub(crate) struct Percent(pub(crate) f64);

impl Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}%", self.0 * 100.0)
    }
}
