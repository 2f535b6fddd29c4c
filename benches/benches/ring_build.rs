//! How long it takes to build a ring, to let it follow another, and to compare two.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hashring::HashRing;
use sessionring::ring::Ring;
use sessionring_benches::rings::{balanced, hashed, members};

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for (nodes, vnodes) in [(10, 160), (100, 160), (1000, 160), (100, 1024)] {
        let members = members(nodes);
        group.bench_function(format!("hashed {nodes}x{vnodes}"), |b| {
            b.iter_batched(
                || members.clone(),
                |members| Ring::hashed(members, vnodes),
                BatchSize::LargeInput,
            );
        });
    }
    for nodes in [10, 100, 1000, 2000] {
        let members = members(nodes);
        group.bench_function(format!("balanced {nodes}"), |b| {
            b.iter_batched(|| members.clone(), Ring::balanced, BatchSize::LargeInput);
        });
    }
    group.bench_function("hashring 1000x160", |b| {
        let names = (0..1000_u16).flat_map(|node| (0..160_u32).map(move |vnode| (node, vnode)));
        let names: Vec<_> = names.collect();
        let build = |names| {
            let mut ring = HashRing::new();
            ring.batch_add(names);
            ring
        };
        b.iter_batched(|| names.clone(), build, BatchSize::LargeInput);
    });
    group.finish();
}

/// One node more.
fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    for (name, ring) in [
        ("hashed 100x160", hashed(100, 160)),
        ("hashed 1000x160", hashed(1000, 160)),
        ("balanced 100", balanced(100)),
        ("balanced 1000", balanced(1000)),
    ] {
        let more = members(ring.members().len() + 1);
        group.bench_function(format!("evolve {name}"), |b| {
            b.iter_batched(|| more.clone(), |more| ring.evolve(more), BatchSize::LargeInput);
        });
        let next = ring.evolve(more.clone()).expect("one equal node more");
        group.bench_function(format!("diff {name}"), |b| b.iter(|| black_box(&ring).diff(&next)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = build, change
}
criterion_main!(benches);
