//! `chaos run` breaks things and judges; `chaos worker` is what it starts.

use std::process::ExitCode;

use chaos::{driver, linearizability::Policy, report::Report, worker};

const USAGE: &str = "\
chaos run [--seconds N] [--seed S] [--policy trust|strict|both] [--nodes N] [--workers N] [--tasks N] [--pause-us N]
          [--only KIND,KIND…]
chaos worker    (started by `chaos run`)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        Some((&"worker", [])) => worker::run().map(|()| true),
        Some((&"run", options)) => run(options),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[&str]) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut options = driver::Options::new(program, driver::fresh_seed(), 60);
    let mut policies = vec![Policy::Trust];
    for pair in words.chunks(2) {
        let [option, value] = *pair else { return Err(USAGE.into()) };
        let number = || value.parse::<u64>().map_err(|error| format!("{option} {value}: {error}"));
        match option {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--nodes" => options.nodes = number()? as usize,
            "--workers" => options.workers = number()? as usize,
            "--tasks" => options.tasks = number()?,
            "--pause-us" => options.pause_us = number()?,
            "--policy" => {
                policies = match value {
                    "trust" => vec![Policy::Trust],
                    "strict" => vec![Policy::Strict],
                    "both" => vec![Policy::Trust, Policy::Strict],
                    _ => return Err(USAGE.into()),
                }
            }
            "--only" => options.kinds = driver::kinds(value)?,
            _ => return Err(USAGE.into()),
        }
    }
    let mut reports = Vec::new();
    for policy in policies {
        options.policy = policy;
        println!("seed {}, {} s, {policy:?}", options.seed, options.seconds);
        let report = driver::run(&options)?;
        println!("{report}\n");
        reports.push(report);
    }
    for report in &reports {
        println!("{}", report.summary());
    }
    Ok(reports.iter().all(Report::is_clean))
}
