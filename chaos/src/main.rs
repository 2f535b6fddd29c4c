//! `chaos run` breaks things and judges; `chaos worker` is what it starts.

use std::{process::ExitCode, time::Duration};

use chaos::{
    driver,
    linearizability::Policy,
    mode::{Mode, Sum},
    persistence, promotions, worker,
};

const USAGE: &str = "\
chaos run [--mode kill|stop|cut|slow|node|resize|sentinel] [--seconds N] [--seed S] [--policy trust|strict|both]
          [--nodes N] [--workers N] [--tasks N] [--pause-us N] [--only KIND,KIND…]
          [--rate N] [--down-after-ms N] [--lag-ms N]    (with --mode sentinel)
chaos persistence [--deaths N] [--rate N]
chaos all [--seconds N] [--seed S]    every mode under both policies, in N seconds of work about
chaos worker    (started by `chaos run`)";

/// No run is shorter.
const SHORTEST: u64 = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        Some((&"worker", [])) => worker::run().map(|()| true),
        Some((&"run", options)) => run(options),
        Some((&"persistence", options)) => persistence(options),
        Some((&"all", options)) => all(options),
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

/// Options and their values.
fn pairs<'a>(words: &'a [&'a str]) -> Result<Vec<(&'a str, &'a str)>, String> {
    let pair = |pair: &'a [&'a str]| match *pair {
        [option, value] => Ok((option, value)),
        _ => Err(USAGE.to_owned()),
    };
    words.chunks(2).map(pair).collect()
}

fn number(option: &str, value: &str) -> Result<u64, String> {
    value.parse::<u64>().map_err(|error| format!("{option} {value}: {error}"))
}

fn policies(value: &str) -> Result<Vec<Policy>, String> {
    match value {
        "trust" => Ok(vec![Policy::Trust]),
        "strict" => Ok(vec![Policy::Strict]),
        "both" => Ok(vec![Policy::Trust, Policy::Strict]),
        _ => Err(USAGE.into()),
    }
}

fn options() -> Result<driver::Options, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(driver::Options::new(program, driver::fresh_seed(), 60))
}

fn run(words: &[&str]) -> Result<bool, String> {
    let mut options = options()?;
    let mut promotion = promotions::Options::new(Policy::Trust, options.seconds);
    let (mut run_under, mut mode) = (vec![Policy::Trust], Mode::Resize);
    for (option, value) in pairs(words)? {
        let number = || number(option, value);
        match option {
            "--mode" => {
                mode = Mode::called(value).ok_or(USAGE)?;
                options = options.about(mode);
            }
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--nodes" => options.nodes = number()? as usize,
            "--workers" => options.workers = number()? as usize,
            "--tasks" => options.tasks = number()?,
            "--pause-us" => options.pause_us = number()?,
            "--policy" => run_under = policies(value)?,
            "--rate" => promotion.rate = number()?.max(1) as u32,
            "--down-after-ms" => promotion.down_after = Duration::from_millis(number()?),
            "--lag-ms" => promotion.lag = Duration::from_millis(number()?),
            "--only" => options.kinds = driver::kinds(value)?,
            _ => return Err(USAGE.into()),
        }
    }
    let (mut clean, mut sum) = (true, Sum::default());
    for policy in run_under {
        let (kept, one) = match mode {
            Mode::Sentinel => {
                (promotion.policy, promotion.seconds) = (policy, options.seconds);
                promote(&promotion)?
            }
            _ => break_things(&options, policy)?,
        };
        (clean, sum) = (clean && kept, sum.and(one));
    }
    println!("{}", sum.line(mode));
    Ok(clean)
}

fn break_things(options: &driver::Options, policy: Policy) -> Result<(bool, Sum), String> {
    let mut options = options.clone();
    options.policy = policy;
    println!("seed {}, {} s, {policy:?}", options.seed, options.seconds);
    let report = driver::run(&options)?;
    println!("{report}\n");
    Ok((report.is_clean(), report.sum()))
}

fn promote(options: &promotions::Options) -> Result<(bool, Sum), String> {
    println!(
        "{:?}, {} new sessions per second, down-after {} ms, replica {} ms late",
        options.policy,
        options.rate,
        options.down_after.as_millis(),
        options.lag.as_millis()
    );
    let measured = promotions::run(options)?;
    println!("{measured}");
    Ok((measured.is_clean(), measured.sum()))
}

fn persistence(words: &[&str]) -> Result<bool, String> {
    let (mut deaths, mut rate) = (3, 1000);
    for (option, value) in pairs(words)? {
        match option {
            "--deaths" => deaths = number(option, value)? as usize,
            "--rate" => rate = number(option, value)?.max(1),
            _ => return Err(USAGE.into()),
        }
    }
    println!(
        "| persistence, death | policy | deaths | acknowledged | sessions lost | log-outs undone | reaching back | answered \
         before readmit |\n|---|---|---:|---:|---:|---:|---:|---:|"
    );
    let rows = persistence::run(deaths, u32::try_from(rate).map_err(|error| error.to_string())?)?;
    Ok(rows.iter().all(persistence::Row::is_clean))
}

fn all(words: &[&str]) -> Result<bool, String> {
    let mut template = options()?;
    for (option, value) in pairs(words)? {
        match option {
            "--seconds" => template.seconds = number(option, value)?,
            "--seed" => template.seed = number(option, value)?,
            _ => return Err(USAGE.into()),
        }
    }
    let policies = [Policy::Trust, Policy::Strict];
    template.seconds = (template.seconds / (Mode::EACH.len() * policies.len()) as u64).max(SHORTEST);
    let (mut clean, mut lines) = (true, Vec::new());
    for mode in Mode::EACH {
        let mut sum = Sum::default();
        for policy in policies {
            println!("==== {} under {policy:?}", mode.name());
            let (kept, one) = match mode {
                Mode::Sentinel => promote(&promotions::Options::new(policy, template.seconds))?,
                _ => break_things(&template.clone().about(mode), policy)?,
            };
            (clean, sum) = (clean && kept, sum.and(one));
        }
        println!("{}\n", sum.line(mode));
        lines.push(sum.line(mode));
    }
    println!("{}", lines.join("\n"));
    Ok(clean)
}
