//! A short run of everything. `CHAOS_SEED` chooses another one; `chaos run` makes longer ones.

use std::path::PathBuf;

use chaos::{
    driver::{Options, run},
    schedule::Kind,
};

fn options(seconds: u64) -> Options {
    let seed =
        std::env::var("CHAOS_SEED").ok().map_or(2, |seed| seed.parse().expect("a number in CHAOS_SEED"));
    Options::new(PathBuf::from(env!("CARGO_BIN_EXE_chaos")), seed, seconds)
}

#[test]
fn under_all_faults_every_session_keeps_its_promises() {
    let report = run(&options(22)).unwrap_or_else(|error| panic!("{error}"));
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    // Who changes the ring waits for whoever changes it, so that not all of them have their turn in so short a time.
    let every = Kind::all().into_iter().filter(|kind| !kind.changes_ring());
    for kind in every {
        assert!(report.rows.get(&kind).is_some_and(|row| row.injected > 0), "{kind:?} was not injected");
    }
    assert!(report.resized.finished() > 1, "nothing was resized");
    // The faults have hit what the checker saw.
    assert!(report.lost_to_memory > 0, "no session was on a node that lost its memory");
    assert!(report.versions > 1000, "only {} stored versions were looked at", report.versions);
    for answer in ["done", "read", "unavailable", "indeterminate", "full"] {
        assert!(report.answers.contains_key(answer), "no operation was {answer}");
    }
}

/// The judge himself: sessions that are lost without an excuse are found.
#[test]
fn a_loss_that_is_not_admitted_is_found() {
    let mut options = options(8);
    options.kinds = vec![Kind::Flush];
    options.deny_losses = true;
    let report = run(&options).unwrap_or_else(|error| panic!("{error}"));
    assert!(!report.is_clean());
    assert!(report.rows[&Kind::Flush].lost > 10, "{report}");
}
