use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use super::run::{Report, run};

/// Seeds of `cargo test`.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// What a failing seed says: how to see it again, and what was wrong.
fn failure(seed: u64, report: &Report) -> String {
    format!(
        "seed {seed}: {}\nSEED={seed} cargo test --lib simulation::tests::replay -- --nocapture",
        report.violations.join("\n")
    )
}

#[derive(Default)]
struct Sum {
    seeds: AtomicU64,
    resizes: AtomicU64,
    operations: AtomicU64,
    destroyed: AtomicU64,
    lost: AtomicU64,
    resurrected: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Sum {
    fn add(&self, seed: u64, report: &Report) {
        self.seeds.fetch_add(1, Relaxed);
        self.resizes.fetch_add(report.resizes, Relaxed);
        self.operations.fetch_add(report.operations, Relaxed);
        self.destroyed.fetch_add(report.destroyed, Relaxed);
        self.lost.fetch_add(report.lost, Relaxed);
        self.resurrected.fetch_add(report.resurrected, Relaxed);
        if !report.violations.is_empty() {
            let failure = failure(seed, report);
            println!("{failure}");
            self.failures.lock().unwrap().push(failure);
        }
    }

    fn line(&self, name: &str) -> String {
        let [seeds, resizes, operations, lost, resurrected] =
            [&self.seeds, &self.resizes, &self.operations, &self.lost, &self.resurrected]
                .map(|n| n.load(Relaxed));
        format!(
            "{name}: seeds={seeds} resizes={resizes} operations={operations} lost={lost} resurrected={resurrected}"
        )
    }
}

#[test]
fn no_seed_loses_a_session_or_brings_one_back() {
    let (first, count) = (number("SEED").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
    let sum = Sum::default();
    for seed in first..first + count {
        sum.add(seed, &run(seed, false));
        if sum.failures.lock().unwrap().len() >= number("FAILURES").unwrap_or(1) as usize {
            break;
        }
    }
    println!("{}", sum.line("simulation"));
    let failures = sum.failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in 0..20 {
        let (one, other) = (run(seed, false), run(seed, true));
        assert_eq!(
            (one.hash, one.operations, one.epoch),
            (other.hash, other.operations, other.epoch),
            "seed {seed}"
        );
        assert!(one.hash != run(seed + 100, false).hash);
    }
}

/// Shows everything that happened in one seed: `SEED=7 cargo test --lib simulation::tests::replay -- --nocapture`
#[test]
fn replay() {
    let Some(seed) = number("SEED") else { return };
    let report = run(seed, true);
    for line in &report.lines {
        println!("{line}");
    }
    assert!(report.violations.is_empty(), "{}", failure(seed, &report));
}

/// Runs seeds for `SECONDS` on as many threads as there are cores, beginning with `SEED`; ends at the first that fails, or
/// after so many as `FAILURES` says. See `make soak`.
#[test]
fn soak() {
    let Some(seconds) = number("SECONDS") else { return };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let first = number("SEED").unwrap_or(now.as_millis() as u64 * 1_000);
    let most = number("FAILURES").unwrap_or(1);
    println!("soak: the first seed is {first}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let (next, sum, failed) = (AtomicU64::new(first), Sum::default(), AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while Instant::now() < end && !failed.load(Relaxed) {
                    let seed = next.fetch_add(1, Relaxed);
                    let report = run(seed, false);
                    sum.add(seed, &report);
                    let failures = sum.failures.lock().unwrap().len() as u64;
                    failed.fetch_or(failures >= most, Relaxed);
                }
            });
        }
    });
    println!("{}", sum.line("soak"));
    assert!(sum.failures.into_inner().unwrap().is_empty());
}
