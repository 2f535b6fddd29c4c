//! Measures sessionring side by side with what a user would pick instead.
//!
//! `make compare` runs everything and writes docs/performance-compare.md; `make compare QUICK=1` runs the goal table
//! alone. Where to look:
//!
//! - `goals`: what has to be reached, as data; `measures`: how each kind of measure is taken
//! - `pairs`: interleaving (A B B A …) and ratios; `statistics`: medians and percentiles
//! - `workload`: what callers do, and one timed round of it; `data`: the sessions
//! - `stores`: sessionring and its rivals, one file each, behind one trait
//! - `servers`: nodes, a Redis Cluster, twemproxy; `lab`: starts and connects what a measure asks for
//! - `tables`, `report`, `plots`: the full run's tables, their text, their pictures

mod arguments;
mod data;
mod goals;
mod lab;
mod measures;
mod pairs;
mod plots;
mod report;
mod servers;
mod statistics;
mod stores;
mod tables;
mod workload;

use std::process::ExitCode;

use self::{arguments::Arguments, goals::GOALS, lab::Lab, report::Verdict};

/// Whatever goes wrong ends the run, with a text that says what.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let plan = match Arguments::parse(std::env::args().skip(1))? {
        Arguments::Help => {
            println!("{}", arguments::HELP);
            return Ok(());
        }
        Arguments::List => {
            GOALS
                .iter()
                .for_each(|goal| println!("{:<18} {:<8} {}", goal.name, goal.bound.text(), goal.title));
            return Ok(());
        }
        Arguments::Run(plan) => plan,
    };
    let lab = Lab::new()?;
    eprintln!("{}; median of {} rounds of {:?}", lab.machine()?, plan.series.rounds, plan.series.round);
    let mut verdicts = Vec::new();
    for goal in plan.goals() {
        let verdict = Verdict::of(goal, measures::take(&lab, goal, &plan.series))?;
        println!("{verdict}");
        verdicts.push(verdict);
    }
    if plan.full {
        let tables = tables::take(&lab, &plan.series)?;
        report::write(&lab, &plan.series, &verdicts, &tables)?;
        plots::draw(&tables)?;
    }
    Ok(())
}
