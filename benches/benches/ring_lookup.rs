//! How long it takes to find the owner of a key, hashing included.
//!
//! The floors are the bare hash, and the hash with one read of a table of 2^16 entries: no lookup can be faster
//! than the first, and none that depends on the hash faster than the second. The rivals are a binary search
//! over the same tokens and the crate `hashring` with the same number of virtual nodes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hashring::HashRing;
use sessionring::ring::{Ring, Token};
use sessionring_benches::keys::Keys;
use sessionring_benches::rings::{balanced, hashed};
use xxhash_rust::xxh3::xxh3_64;

/// Nodes and virtual nodes per node.
const SIZES: [(usize, u32); 4] = [(10, 160), (100, 160), (1000, 160), (100, 1024)];

fn floors(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    let mut keys = Keys::new();
    group.bench_function("xxh3", |b| b.iter(|| xxh3_64(keys.next_key())));
    let table: Vec<u16> = (0..1_u32 << 16).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 20) as u16).collect();
    let table = black_box(table);
    group.bench_function("xxh3 + table read", |b| {
        b.iter(|| table[(xxh3_64(keys.next_key()) >> 48) as usize]);
    });
    group.finish();
}

fn ours(c: &mut Criterion) {
    let mut group = c.benchmark_group("sessionring");
    let mut keys = Keys::new();
    for (nodes, vnodes) in SIZES {
        let ring = black_box(hashed(nodes, vnodes));
        group.bench_function(format!("hashed {nodes}x{vnodes}"), |b| {
            b.iter(|| std::ptr::from_ref(ring.owner(Token::of(keys.next_key()))));
        });
    }
    for nodes in [10, 100, 1000] {
        let ring = black_box(balanced(nodes));
        group.bench_function(format!("balanced {nodes}"), |b| {
            b.iter(|| std::ptr::from_ref(ring.owner(Token::of(keys.next_key()))));
        });
    }
    // What the table read of the floor yields is an index too.
    for (title, ring) in [("hashed 1000x160", hashed(1000, 160)), ("balanced 100", balanced(100))] {
        let ring = black_box(ring);
        group.bench_function(format!("index only, {title}"), |b| {
            b.iter(|| ring.owner_index(Token::of(keys.next_key())));
        });
    }
    let ring = black_box(hashed(100, 160));
    group.bench_function("preference list of 3, hashed 100x160", |b| {
        b.iter(|| ring.preference_list(Token::of(keys.next_key()), 3));
    });
    group.finish();
}

/// The tokens of a ring and their owners, for a search by the book.
fn tokens(ring: &Ring) -> (Vec<u64>, Vec<u16>) {
    ring.ranges().map(|(range, owner)| (range.end().get(), owner.get() as u16)).unzip()
}

fn binary_search(c: &mut Criterion) {
    let mut group = c.benchmark_group("binary search");
    let mut keys = Keys::new();
    for (nodes, vnodes) in SIZES {
        let (tokens, owners) = black_box(tokens(&hashed(nodes, vnodes)));
        group.bench_function(format!("{nodes}x{vnodes}"), |b| {
            b.iter(|| {
                let hash = xxh3_64(keys.next_key());
                owners[tokens.partition_point(|&token| token < hash)]
            });
        });
    }
    group.finish();
}

fn rival(c: &mut Criterion) {
    let mut group = c.benchmark_group("hashring");
    let mut keys = Keys::new();
    for (nodes, vnodes) in SIZES {
        let mut ring = HashRing::new();
        // It has no virtual nodes of its own: its manual adds one entry for each.
        let names = (0..nodes).flat_map(|node| (0..vnodes).map(move |vnode| (node as u16, vnode)));
        ring.batch_add(names.collect());
        let ring = black_box(ring);
        group.bench_function(format!("{nodes}x{vnodes}"), |b| {
            b.iter(|| std::ptr::from_ref(ring.get(&keys.next_key()).expect("a ring with nodes")));
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = config();
    targets = floors, ours, binary_search, rival
}
criterion_main!(benches);
