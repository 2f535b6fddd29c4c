//! Finding the owner of a key, hashing included, and building the ring.
//!
//! What the table read of the floor yields is an index, so against it ours yields one too (`owner_index`); against
//! crates that yield the node, ours does as well (`owner`).

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use consistent_hash_ring::{Ring as SortedRing, RingBuilder};
use hashring::HashRing;
use jumphash::JumpHasher;
use maglev::{ConsistentHasher, Maglev};
use sessionring::ring::{Ring, Token};
use sessionring_benches::{
    keys::{KEYS, Keys},
    rings::{balanced, hashed, members},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Result,
    goals::{LookupRival, Placement},
    pairs::{Pair, Series, Side, interleave, median, ratio},
    statistics::Spread,
};

const NODES: usize = 1000;
const VNODES: u32 = 160;
/// Rounds are so short that many of them cost nothing.
const ROUNDS: usize = 31;
const ROUND: Duration = Duration::from_millis(10);

/// Answers the nanoseconds that one lookup took.
type Lookup = Box<dyn FnMut() -> f64>;
/// What is called how in the table.
type Named = (&'static str, fn() -> Lookup);

pub(crate) fn compare(ring: Placement, rival: LookupRival) -> Result<Spread> {
    match rival {
        LookupRival::TableRead => ratio(&pairs(index(placed(ring)), table_read())?, |nanos| *nanos),
        LookupRival::HashRing => ratio(&pairs(owner(placed(ring)), hash_ring())?, |nanos| 1.0 / nanos),
    }
}

/// Milliseconds for a hashed ring of 1,000 × 160.
pub(crate) fn build(series: &Series) -> Result<Spread> {
    let members = members(NODES);
    let mut times = Vec::new();
    for round in 0..=series.rounds.max(7) {
        let members = members.clone();
        let begin = Instant::now();
        let ring = Ring::hashed(members, VNODES)?;
        let took = begin.elapsed();
        black_box(ring);
        if round > 0 {
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    Spread::of(times).ok_or_else(|| "no round".into())
}

/// A row of the table: what it is, nanoseconds, and the ratio to the floor.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) nanos: f64,
    pub(crate) to_floor: Spread,
}

pub(crate) fn table() -> Result<Vec<Row>> {
    let all: [Named; 8] = [
        ("sessionring, hashed 1,000 × 160, index", || index(hashed(NODES, VNODES))),
        ("sessionring, hashed 1,000 × 160, node", || owner(hashed(NODES, VNODES))),
        ("sessionring, balanced 1,000, index", || index(balanced(NODES))),
        ("sessionring, balanced 1,000, node", || owner(balanced(NODES))),
        ("hashring 0.3, 1,000 × 160", hash_ring),
        ("consistent_hash_ring 0.8, 1,000 × 160", sorted_ring),
        ("jumphash 0.1, 1,000", jump),
        ("maglev 0.2, 1,000", maglev),
    ];
    let mut rows = Vec::new();
    for (title, lookup) in all {
        let pairs = pairs(lookup(), table_read())?;
        let to_floor = ratio(&pairs, |nanos| *nanos)?;
        rows.push(Row { title, nanos: median(&pairs, Side::Ours, |nanos| *nanos), to_floor });
    }
    Ok(rows)
}

fn pairs(mut ours: Lookup, mut theirs: Lookup) -> Result<Vec<Pair<f64>>> {
    interleave(ROUNDS, |side| Ok(if side == Side::Ours { ours() } else { theirs() }))
}

fn placed(ring: Placement) -> Ring {
    match ring {
        Placement::Hashed => hashed(NODES, VNODES),
        Placement::Balanced => balanced(NODES),
    }
}

/// Looks keys up, all of them in turn, until the round is over.
fn rounds<R>(mut lookup: impl FnMut(&[u8]) -> R + 'static) -> Lookup {
    let mut keys = Keys::new();
    Box::new(move || {
        let (begin, mut lookups) = (Instant::now(), 0);
        loop {
            for _ in 0..KEYS {
                black_box(lookup(keys.next_key()));
            }
            lookups += KEYS;
            let elapsed = begin.elapsed();
            if elapsed >= ROUND {
                return elapsed.as_secs_f64() * 1e9 / lookups as f64;
            }
        }
    })
}

fn index(ring: Ring) -> Lookup {
    let ring = black_box(ring);
    rounds(move |key| ring.owner_index(Token::of(key)))
}

fn owner(ring: Ring) -> Lookup {
    let ring = black_box(ring);
    rounds(move |key| std::ptr::from_ref(ring.owner(Token::of(key))))
}

fn table_read() -> Lookup {
    let table: Vec<u16> = (0..1_u32 << 16).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 20) as u16).collect();
    let table = black_box(table);
    rounds(move |key| table[(xxh3_64(key) >> 48) as usize])
}

/// It has no virtual nodes of its own: its manual adds one entry for each.
fn hash_ring() -> Lookup {
    let mut ring = HashRing::new();
    ring.batch_add((0..NODES).flat_map(|node| (0..VNODES).map(move |vnode| (node as u16, vnode))).collect());
    let ring = black_box(ring);
    rounds(move |key| ring.get(&key).map(std::ptr::from_ref))
}

fn sorted_ring() -> Lookup {
    let nodes = (0..NODES).map(|node| node as u16);
    let ring: SortedRing<u16> = RingBuilder::default().vnodes(VNODES as usize).nodes_iter(nodes).build();
    let ring = black_box(ring);
    rounds(move |key| ring.try_get(key).map(std::ptr::from_ref))
}

/// It yields an index, and nodes can only be added and taken away at the end.
fn jump() -> Lookup {
    let hasher = black_box(JumpHasher::new_with_keys(1, 2));
    rounds(move |key| hasher.slot(&key, NODES as u32))
}

fn maglev() -> Lookup {
    let ring = black_box(Maglev::new(0..NODES as u16));
    rounds(move |key| ring.get(key).map(std::ptr::from_ref))
}
