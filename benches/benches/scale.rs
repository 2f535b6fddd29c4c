//! A ring far larger than anybody has: 10,000 nodes and 10⁹ sessions, changed a thousand times. What its documents
//! weigh, what a lookup costs, how even it stays, and what moves.
//!
//! Writes `docs/scale.md` and `docs/plots/scale-*.svg`; what it measures in time is of this machine. Sessions are
//! sampled: 10⁷ random tokens stand for them.

use std::{
    error::Error,
    fmt::Write,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::Instant,
};

use plotters::prelude::*;
use sessionring::{
    ring::{Member, Ring, Token},
    topology::{Change, Document, DocumentMember, Edit, Epoch, Policy},
};
use sessionring_benches::{
    keys::Random,
    rings::{balanced, hashed, member},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const NODES: usize = 10_000;
const CHANGES: usize = 1_000;
const SESSIONS: f64 = 1e9;
const SAMPLE: usize = 10_000_000;
/// The processes that use the ring.
const PROCESSES: u64 = 1_000;

fn main() -> Result<()> {
    let sizes = SIZES.iter().map(|&nodes| size(nodes)).collect::<Result<Vec<_>>>()?;
    let changes = changes()?;
    let text = page(&sizes, &changes)?;
    print!("{text}");
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::write(docs.join("scale.md"), text)?;
    plot_documents(&sizes, &docs.join("plots/scale-documents.svg"))?;
    plot_changes(&changes, &docs.join("plots/scale-changes.svg"))
}

/// What a ring of so many nodes costs.
struct Size {
    nodes: usize,
    build_ms: [f64; 2],
    lookup_ns: [f64; 2],
    /// Of the ring, by exact shares.
    fullest: [f64; 2],
    /// Of 10⁹ sessions.
    fullest_sessions: f64,
    document: usize,
    moving_document: usize,
    decode_ms: f64,
    change_ms: f64,
}

fn size(nodes: usize) -> Result<Size> {
    let vnodes = 160;
    let (ring, balanced_ms) = timed(|| balanced(nodes));
    let (plain, hashed_ms) = timed(|| hashed(nodes, vnodes));
    let document = document(&ring)?;
    let (decoded, decode_ms) = timed(|| Document::decode(document.encode()));
    assert!(decoded? == document);
    let (moving, change_ms) = timed(|| document.next(&Change::Resize(vec![join("redis-new")])));
    Ok(Size {
        nodes,
        build_ms: [balanced_ms, hashed_ms],
        lookup_ns: [lookup(&ring), lookup(&plain)],
        fullest: [fullest(&ring), fullest(&plain)],
        fullest_sessions: sampled(&ring),
        document: document.encode().len(),
        moving_document: moving?.encode().len(),
        decode_ms,
        change_ms,
    })
}

/// The best of three, in ms.
fn timed<T>(mut work: impl FnMut() -> T) -> (T, f64) {
    let mut once = || {
        let begin = Instant::now();
        let made = work();
        (made, begin.elapsed().as_secs_f64() * 1e3)
    };
    let (made, first) = once();
    let best = (0..2).map(|_| once().1).fold(first, f64::min);
    (made, best)
}

fn address(name: &str) -> String {
    format!("redis://{name}.sessions.internal:6379")
}

fn document(ring: &Ring) -> Result<Document> {
    let members = ring.members().iter().zip(1..).map(|(member, number)| DocumentMember {
        id: member.id().clone(),
        weight: member.weight(),
        address: address(member.id().as_str()),
        incarnation: number,
        process: number,
        leaving: false,
        rejoined: false,
    });
    Ok(Document::found("scale", Epoch::FIRST, Policy::Trust, ring.clone(), members.collect())?)
}

fn join(name: &str) -> Edit {
    let joins = member(name, 1);
    let (id, weight) = (joins.id().clone(), joins.weight());
    Edit::Add { id, weight, address: address(name), incarnation: u64::MAX, process: u64::MAX }
}

/// The time of one lookup by token, in ns; tokens are too many for the cache to know their places.
fn lookup(ring: &Ring) -> f64 {
    let mut random = Random::new(7);
    let tokens: Vec<Token> = (0..1 << 20).map(|_| Token::new(random.next_u64())).collect();
    let (sum, ms) = timed(|| tokens.iter().map(|token| ring.owner_index(*token).get()).sum::<usize>());
    black_box(sum);
    ms * 1e6 / tokens.len() as f64
}

/// The largest share of the circle, relative to the mean.
fn fullest(ring: &Ring) -> f64 {
    let most = ring.shares().map(|(_, share)| share.as_f64()).fold(0.0, f64::max);
    most * ring.members().len() as f64
}

/// The node with most of 10⁹ sessions, relative to the mean. A sample is more uneven than all of them, by its own
/// chance, which is taken out: variances add up.
fn sampled(ring: &Ring) -> f64 {
    let mut random = Random::new(11);
    let mut counts = vec![0_u32; ring.members().len()];
    for _ in 0..SAMPLE {
        counts[ring.owner_index(Token::new(random.next_u64())).get()] += 1;
    }
    let mean = SAMPLE as f64 / counts.len() as f64;
    let variance = counts.iter().map(|&count| (f64::from(count) / mean - 1.0).powi(2)).sum::<f64>()
        / counts.len() as f64;
    // What chance alone makes of the sample, and of all sessions.
    let own = (variance - 1.0 / mean).max(0.0) + counts.len() as f64 / SESSIONS;
    1.0 + own.sqrt() * expected_maximum(counts.len())
}

/// Of so many normal variables, in standard deviations (Blom 1958).
fn expected_maximum(count: usize) -> f64 {
    // By bisection of the normal distribution, whose tail is erfc; good to three digits.
    let upper = 1.0 - (count as f64 - 0.375) / (count as f64 + 0.25);
    let tail = |x: f64| {
        let t = 1.0 / (1.0 + 0.231_641_9 * x);
        let polynomial = t
            * (0.319_381_53
                + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
        (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * polynomial
    };
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if tail(middle) > upper { low = middle } else { high = middle }
    }
    low
}

/// What became of a ring that was changed a thousand times.
struct Changes {
    /// After each: the fullest node, relative to its due.
    fullest: Vec<f64>,
    moved: f64,
    optimal: f64,
    /// The largest of all changes.
    worst_excess: f64,
    ms: f64,
    nodes: usize,
}

fn changes() -> Result<Changes> {
    let mut random = Random::new(0x5ca1e);
    let mut ring = balanced(NODES);
    let mut changes =
        Changes { fullest: Vec::new(), moved: 0.0, optimal: 0.0, worst_excess: 0.0, ms: 0.0, nodes: 0 };
    for change in 0..CHANGES {
        let mut members: Vec<Member> = ring.members().to_vec();
        let picked = (random.next_u64() % members.len() as u64) as usize;
        match random.next_u64() % 3 {
            0 => members.push(member(&format!("redis-later-{change}"), 1)),
            1 => drop(members.swap_remove(picked)),
            _ => {
                let weight = 1 + (random.next_u64() % 3) as u32;
                members[picked] = member(members[picked].id().as_str(), weight);
            }
        }
        let begin = Instant::now();
        let next = ring.evolve(members)?;
        changes.ms += begin.elapsed().as_secs_f64() * 1e3 / CHANGES as f64;
        let diff = ring.diff(&next);
        let (moved, optimal) = (diff.moved().as_f64(), diff.optimal());
        changes.moved += moved;
        changes.optimal += optimal;
        changes.worst_excess = changes.worst_excess.max(moved - optimal);
        ring = next;
        let weights: u64 = ring.members().iter().map(|member| u64::from(member.weight().get())).sum();
        let due = ring
            .shares()
            .zip(ring.members())
            .map(|((_, share), member)| share.as_f64() * weights as f64 / f64::from(member.weight().get()));
        changes.fullest.push(due.fold(0.0, f64::max));
    }
    changes.nodes = ring.members().len();
    Ok(changes)
}

fn page(sizes: &[Size], changes: &Changes) -> Result<String> {
    let mut text = String::from(
        "# How far it goes\n\n\
         Written by `cargo bench -p sessionring-benches --bench scale`: real rings and real documents, no servers. Times are of\n\
         one core of the machine that wrote it; everything else is the same everywhere.\n\n\
         ## One ring\n\n\
         Balanced placement; in brackets hashed with 160 virtual nodes. \"Fullest\" is the largest share of the circle relative to the\n\
         mean; the next column is the same for 10⁹ sessions, whose own chance is in it, estimated from a sample of 10⁷.\n\n\
         | nodes | to build, ms | a lookup, ns | fullest | of 10⁹ sessions | document, kB | while one joins, kB | to decode, ms | to add a node, ms |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for size in sizes {
        writeln!(
            text,
            "| {} | {:.1} ({:.1}) | {:.1} ({:.1}) | {:.4} ({:.2}) | {:.3} | {:.0} | {:.0} | {:.1} | {:.1} |",
            size.nodes,
            size.build_ms[0],
            size.build_ms[1],
            size.lookup_ns[0],
            size.lookup_ns[1],
            size.fullest[0],
            size.fullest[1],
            size.fullest_sessions,
            size.document as f64 / 1e3,
            size.moving_document as f64 / 1e3,
            size.decode_ms,
            size.change_ms
        )?;
    }
    let last = changes.fullest.last().copied().unwrap_or_default();
    let worst = changes.fullest.iter().copied().fold(0.0, f64::max);
    write!(
        text,
        "\n![Documents](plots/scale-documents.svg)\n\n\
         ## {NODES} nodes, {CHANGES} changes\n\n\
         A third each: a node joins, one leaves, one gets another weight from 1 to 3. {} nodes are left.\n\n\
         - **Moved**: {:.4} of all sessions, summed over all changes. Exact shares would have moved {:.4} at least; this is\n  \
         {:.4} times that, since whole arcs need not follow every small change. No change moved more than its least plus {:.1e}\n  \
         of all sessions.\n\
         - **Balance**: the fullest node has {last:.4} times its due after the last change, and had {worst:.4} at the worst.\n\
         - **Time**: {:.1} ms for each change.\n\n\
         ![Balance over the changes](plots/scale-changes.svg)\n\n",
        changes.nodes,
        changes.moved,
        changes.optimal,
        changes.moved / changes.optimal,
        changes.worst_excess,
        changes.ms
    )?;
    write!(
        text,
        "## {PROCESSES} processes\n\n\
         A process keeps one connection to each node and asks each every five seconds which topology it obeys. When the ring\n\
         changes it loads one document, from the node that refused it first; a resize has two changes. So for {PROCESSES} processes:\n\n\
         | nodes | connections of a node | of a process | of all | questions to a node, per second | documents at a resize | in all, MB |\n\
         |---:|---:|---:|---:|---:|---:|---:|\n",
    )?;
    for size in sizes {
        let nodes = size.nodes as u64;
        writeln!(
            text,
            "| {nodes} | {PROCESSES} | {nodes} | {} | {} | {} | {:.0} |",
            PROCESSES * nodes,
            PROCESSES / 5,
            2 * PROCESSES,
            PROCESSES as f64 * (size.document + size.moving_document) as f64 / 1e6
        )?;
    }
    text.push_str(
        "\nRedis takes 10,000 connections unless `maxclients` says otherwise. That a thousand busy processes load one document each, no\n\
         node more than a few times its share, is shown by `src/simulation/stampede.rs` with the real client and 100 nodes.\n",
    );
    Ok(text)
}

fn plot_documents(sizes: &[Size], path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (720, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Document of a balanced ring", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((10.0..10_000.0).log_scale(), (10.0..10_000.0).log_scale())?;
    chart.configure_mesh().x_desc("nodes").y_desc("kB").draw()?;
    for (name, color, bytes) in [
        ("stable", BLUE, (|size| size.document) as fn(&Size) -> usize),
        ("while one joins", RED, |size| size.moving_document),
    ] {
        let points = sizes.iter().map(|size| (size.nodes as f64, bytes(size) as f64 / 1e3));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

fn plot_changes(changes: &Changes, path: &Path) -> Result<()> {
    let most = changes.fullest.iter().copied().fold(1.0, f64::max);
    let area = SVGBackend::new(path, (720, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Fullest of 10,000 nodes, relative to its due", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0..changes.fullest.len(), 1.0..1.0 + 1.1 * (most - 1.0))?;
    chart.configure_mesh().x_desc("changes").draw()?;
    chart.draw_series(LineSeries::new(changes.fullest.iter().copied().enumerate(), BLUE.stroke_width(1)))?;
    area.present()?;
    Ok(())
}
