//! The lines on stdout, and the page.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use crate::{
    Result,
    goals::{Bound, Goal},
    lab::{Absent, Lab},
    measures::{Unit, Value, requests::Limit},
    pairs::Series,
    statistics::Spread,
    tables::Tables,
};

/// `docs/` of this repository.
pub(crate) fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// A goal and what came of it.
#[derive(Debug)]
pub(crate) struct Verdict {
    goal: &'static Goal,
    /// Or why it was not run.
    value: Result<Value, Absent>,
}

impl Verdict {
    /// Only what this machine does not have is no error.
    pub(crate) fn of(goal: &'static Goal, taken: Result<Value>) -> Result<Verdict> {
        let value = match taken {
            Ok(value) => Ok(value),
            Err(error) => {
                Err(*error.downcast::<Absent>().map_err(|error| format!("{}: {error}", goal.name))?)
            }
        };
        Ok(Verdict { goal, value })
    }

    fn met(&self) -> Option<bool> {
        let value = self.value.as_ref().ok()?;
        Some(met(self.goal.bound, value))
    }

    /// Of what is short: the ceiling, and ours to it.
    fn limit(&self) -> Option<[String; 2]> {
        let Limit { ceiling, of_it } =
            self.value.as_ref().ok()?.limit.filter(|_| self.met() == Some(false))?;
        Some([ceiling, of_it].map(|spread| text(&spread, Unit::Ratio)))
    }

    fn bound(&self) -> String {
        match (self.goal.bound, &self.value) {
            (Bound::NoMoreThanTheirs, Ok(Value { theirs: Some(theirs), unit, .. })) => {
                format!("<= {}", number(*theirs, *unit))
            }
            (bound, _) => bound.text(),
        }
    }
}

fn met(bound: Bound, value: &Value) -> bool {
    match bound {
        Bound::AtLeast(least) => value.spread.median >= least,
        Bound::AtMost(most) => value.spread.median <= most,
        Bound::NoMoreThanTheirs => value.theirs.is_some_and(|theirs| value.spread.median <= theirs),
    }
}

/// `measure value goal ok|short`, and behind what is short how much can be reached
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.goal.name;
        match &self.value {
            Ok(value) => {
                let word = if self.met() == Some(true) { "ok" } else { "short" };
                let (value, bound) = (text(&value.spread, value.unit), self.bound());
                write!(f, "{name:<18} {value:<26} {bound:<10} {word}")?;
                match self.limit() {
                    Some([ceiling, of_it]) => write!(f, "  ceiling {ceiling}, ours {of_it} of it"),
                    None => Ok(()),
                }
            }
            Err(absent) => write!(f, "{name:<18} {:<26} {:<10} NOT RUN: {absent}", "-", self.bound()),
        }
    }
}

/// A median with its range.
pub(crate) fn text(spread: &Spread, unit: Unit) -> String {
    let value = number(spread.median, unit);
    if spread.is_single() {
        return value;
    }
    format!("{value} ({} to {})", number(spread.least, Unit::Ratio), number(spread.most, Unit::Ratio))
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ratio => format!("{value:.2}"),
        Unit::Milliseconds => format!("{value:.2} ms"),
        Unit::Bytes => format!("{value:.1} B"),
    }
}

/// Writes `docs/performance-compare.md`.
pub(crate) fn write(lab: &Lab, series: &Series, verdicts: &[Verdict], tables: &Tables) -> Result<()> {
    let page = page(&lab.machine()?, series, verdicts, tables)?;
    let path = docs().join("performance-compare.md");
    std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(())
}

fn page(machine: &str, series: &Series, verdicts: &[Verdict], tables: &Tables) -> Result<String> {
    let mut page = String::new();
    let milliseconds = series.round.as_millis();
    let few = series.of_tables();
    write!(
        page,
        "# Compared with what you would pick instead\n\n\
         Written by `make compare`. {machine}. Every figure is a ratio of neighbouring rounds in one run, ours to theirs \
         (A B, B A, …): the median of {} rounds of {milliseconds} ms of each side in the first table, of {} rounds of {} ms \
         in the others, with the range. Absolute figures belong to this machine alone.\n\n\
         Everybody stores and returns the same text under the same ids, which is checked before anything is measured. \
         `redis-rs multiplexed` is the floor: one plain connection per node and modulo placement, without ring, \
         fence, versions and final log-outs. `manager`, fred and rustis are placed the same way; fred and rustis have \
         one client per node. `cluster_async` runs on a Redis Cluster of three nodes without replicas, twemproxy \
         in front of the same three nodes that the others use. Clients have the settings that they come with; with redis-rs \
         that means Nagle's delay, which over loopback makes it faster at many requests in flight.\n\n\
         ## Goals\n\n300 bytes, three nodes. Of what is short, \
         the [ceiling](#the-ceiling) in the same rounds (with versions for what writes), and ours to it.\n\n\
         | measure | value | goal | | ceiling | ours to it |\n|---|---:|---:|---|---:|---:|\n",
        series.rounds,
        few.rounds,
        few.round.as_millis(),
    )?;
    for verdict in verdicts {
        let (title, bound) = (verdict.goal.title, verdict.bound().replace(">=", "≥").replace("<=", "≤"));
        match &verdict.value {
            Ok(value) => {
                let word = if verdict.met() == Some(true) { "ok" } else { "**short**" };
                let [ceiling, of_it] = verdict.limit().unwrap_or_default();
                let value = text(&value.spread, value.unit);
                writeln!(page, "| {title} | {value} | {bound} | {word} | {ceiling} | {of_it} |")?;
            }
            Err(absent) => writeln!(page, "| {title} | | {bound} | not run: {absent} | | |")?,
        }
    }
    page.push_str(
        "\n## Requests in flight\n\n![Throughput over requests in flight](plots/compare-throughput.svg)\n\n\
         ![Latency over requests in flight](plots/compare-latency.svg)\n\n\
         Rivals are drawn relative to ours in their own rounds.\n",
    );
    tables.write(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::GOALS;

    fn value(median: f64) -> Value {
        let spread = Spread { median, least: 0.5, most: 3.0 };
        Value { spread, unit: Unit::Ratio, theirs: Some(2.0), limit: None }
    }

    #[test]
    fn bounds() {
        assert!(met(Bound::AtLeast(1.0), &value(1.0)) && !met(Bound::AtLeast(1.0), &value(0.99)));
        assert!(met(Bound::AtMost(1.0), &value(1.0)) && !met(Bound::AtMost(1.0), &value(1.01)));
        assert!(met(Bound::NoMoreThanTheirs, &value(2.0)) && !met(Bound::NoMoreThanTheirs, &value(2.1)));
    }

    #[test]
    fn lines() {
        let goal = &GOALS[0];
        let line = Verdict::of(goal, Ok(value(0.9))).unwrap().to_string();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "get-1 0.90 (0.50 to 3.00) >= 0.97 short"
        );
        let single = |median| Spread { median, least: median, most: median };
        let limit = Some(Limit { ceiling: single(0.8), of_it: single(1.1) });
        let line = |median| Verdict::of(goal, Ok(Value { limit, ..value(median) })).unwrap().to_string();
        assert!(line(0.9).ends_with("short  ceiling 0.80, ours 1.10 of it"));
        assert!(line(0.98).ends_with("ok"));
        let absent = Verdict::of(goal, Err(Absent("no proxy".into()).into())).unwrap();
        assert!(absent.to_string().ends_with("NOT RUN: no proxy"));
        assert!(Verdict::of(goal, Err("a broken store".into())).is_err());
    }
}
