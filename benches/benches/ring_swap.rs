//! What it costs eight readers that the ring is swapped under them, and what a ring takes in memory.
//!
//! The library shares its topology as these readers do: an `ArcSwap` that is loaded for every lookup and replaced whole.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use sessionring::ring::{Ring, Token};
use sessionring_benches::{
    keys::Random,
    rings::{balanced, hashed},
};

const READERS: u64 = 8;
const ROUND: Duration = Duration::from_millis(400);
/// Of each kind, in turn; the medians are shown.
const ROUNDS: usize = 9;
/// Rings held at once when their memory is measured.
const COPIES: usize = 24;

fn main() {
    println!(
        "| ring | memory | a lookup of one of {READERS} readers | … while it is swapped every ms | a swap |"
    );
    println!("|---|---:|---:|---:|---:|");
    report("balanced 10", || balanced(10));
    report("balanced 1,000", || balanced(1000));
    report("hashed 100 × 160", || hashed(100, 160));
    report("hashed 1,000 × 160", || hashed(1000, 160));
}

fn report(name: &str, ring: fn() -> Ring) {
    let memory = memory(ring);
    let (mut still, mut swapped, mut swaps) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        still.push(round(ring, None).0);
        let (lookup, swap) = round(ring, Some(Duration::from_millis(1)));
        swapped.push(lookup);
        swaps.push(swap);
    }
    let [still, swapped, swaps] = [still, swapped, swaps].map(median);
    let slower = swapped / still;
    println!("| {name} | {memory} | {still:.1} ns | {swapped:.1} ns ({slower:.2}×) | {swaps:.2} µs |");
}

/// Nanoseconds of a reader's processor for each load and lookup, and microseconds for each swap.
fn round(ring: fn() -> Ring, every: Option<Duration>) -> (f64, f64) {
    let shared = ArcSwap::from_pointee(ring());
    let next = [ring(), ring()].map(std::sync::Arc::new);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let read = |seed| {
            let (shared, stop) = (&shared, &stop);
            move || {
                let (mut random, mut lookups) = (Random::new(seed), 0_u64);
                while !stop.load(Relaxed) {
                    for _ in 0..256 {
                        let ring = shared.load();
                        black_box(ring.owner_index(Token::new(random.next_u64())));
                    }
                    lookups += 256;
                }
                lookups
            }
        };
        let readers: Vec<_> = (1..=READERS).map(|seed| scope.spawn(read(seed))).collect();
        let (begin, mut swapping, mut swaps) = (Instant::now(), Duration::ZERO, 0);
        while begin.elapsed() < ROUND {
            thread::sleep(every.unwrap_or(ROUND));
            if every.is_some() {
                let before = Instant::now();
                shared.store(next[swaps % 2].clone());
                swapping += before.elapsed();
                swaps += 1;
            }
        }
        stop.store(true, Relaxed);
        let elapsed = begin.elapsed();
        let lookups: u64 = readers.into_iter().map(|reader| reader.join().expect("a reader")).sum();
        let processors = thread::available_parallelism().map_or(1, |n| n.get()).min(READERS as usize);
        let lookup = elapsed.as_secs_f64() * 1e9 * processors as f64 / lookups as f64;
        (lookup, swapping.as_secs_f64() * 1e6 / swaps.max(1) as f64)
    })
}

/// What a ring adds to the resident memory of a process.
fn memory(ring: fn() -> Ring) -> String {
    let Some(before) = resident() else { return "(not on this system)".into() };
    let rings: Vec<Ring> = (0..COPIES).map(|_| ring()).collect();
    let after = resident().unwrap_or(before);
    drop(black_box(rings));
    format!("{:.0} KiB", after.saturating_sub(before) as f64 / COPIES as f64)
}

/// KiB.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
