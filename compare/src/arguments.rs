//! The command line.

use std::time::Duration;

use crate::{
    Result,
    goals::{GOALS, Goal},
    pairs::Series,
};

pub(crate) const HELP: &str = "\
compare [--quick] [--only NAME,...] [--rounds N] [--round-ms N]

  (no option)       the goal table, then all rivals, sizes and nodes; writes docs/performance-compare.md and plots
  --quick           the goal table alone
  --only NAME,...   these measures of the goal table alone
  --rounds N        rounds of each side
  --round-ms N      how long one side's round takes
  --list            the names, goals and meanings of the measures";

#[derive(Debug, PartialEq)]
pub(crate) enum Arguments {
    Help,
    List,
    Run(Plan),
}

/// What to measure, and how long.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) series: Series,
    /// Tables, page and plots too.
    pub(crate) full: bool,
    /// All where there are none.
    only: Vec<String>,
}

impl Plan {
    pub(crate) fn goals(&self) -> impl Iterator<Item = &'static Goal> {
        GOALS.iter().filter(|goal| self.only.is_empty() || self.only.iter().any(|name| name == goal.name))
    }
}

impl Arguments {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Arguments> {
        let mut arguments = arguments.into_iter();
        let (mut quick, mut only, mut rounds, mut round) = (false, Vec::new(), None, None);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(Arguments::Help),
                "--list" => return Ok(Arguments::List),
                "--quick" => quick = true,
                "--only" => only.extend(value()?.split(',').map(str::to_owned)),
                "--rounds" => rounds = Some(value()?.parse::<usize>()?.max(1)),
                "--round-ms" => round = Some(Duration::from_millis(value()?.parse::<u64>()?.max(1))),
                _ => return Err(format!("{argument}: not an option\n{HELP}").into()),
            }
        }
        if let Some(unknown) = only.iter().find(|name| GOALS.iter().all(|goal| goal.name != **name)) {
            return Err(format!("{unknown}: no measure of this name; --list shows them").into());
        }
        let full = !quick && only.is_empty();
        let usual = if full { Series::FULL } else { Series::QUICK };
        let series = Series { rounds: rounds.unwrap_or(usual.rounds), round: round.unwrap_or(usual.round) };
        Ok(Arguments::Run(Plan { series, full, only }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options() {
        let Ok(Arguments::Run(full)) = parse("") else { panic!("a run") };
        assert!(full.full && full.goals().count() == GOALS.len());
        let Ok(Arguments::Run(some)) = parse("--only get-1,set-32 --rounds 3 --round-ms 20") else {
            panic!("a run")
        };
        assert_eq!(some.goals().map(|goal| goal.name).collect::<Vec<_>>(), ["get-1", "set-32"]);
        assert_eq!(some.series, Series { rounds: 3, round: Duration::from_millis(20) });
        assert!(!some.full);
        assert!(parse("--only get-2").is_err());
        assert!(parse("--rounds").is_err());
        assert!(parse("--fast").is_err());
    }
}
