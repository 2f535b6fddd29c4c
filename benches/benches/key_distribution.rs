//! How evenly keys fall on nodes, and what it costs to find out.
//!
//! Besides the timing this writes `docs/plots/key_distribution.md` and `docs/plots/key_distribution.svg`: the
//! standard deviation and the peak of the keys per node, relative to the mean, for both placements, with
//! hash-modulo-N as the baseline that no placement can beat but by knowing the keys. Everything is seeded, so
//! that a second run writes the same files.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plotters::prelude::*;
use sessionring::ring::{Ring, Token};
use sessionring_benches::keys::{Random, random_key};
use sessionring_benches::rings::{balanced, hashed};

const NODES: [usize; 4] = [3, 10, 100, 1000];
const KEYS_PER_NODE: usize = 10_000;
const TIMED_KEYS: usize = 100_000;
const VNODES: u32 = 160;

/// Finds the index of the node of a token.
type Owner = Box<dyn Fn(Token) -> usize>;

/// A placement to compare.
struct Placed {
    title: &'static str,
    /// The largest share of the hash space, relative to the mean.
    largest_share: f64,
    owner: Owner,
}

fn by(title: &'static str, ring: Ring) -> Placed {
    let largest = ring.shares().map(|(_, share)| share.as_f64()).fold(0.0, f64::max);
    let largest_share = largest * ring.members().len() as f64;
    Placed { title, largest_share, owner: Box::new(move |token| ring.owner_index(token).get()) }
}

fn placements(nodes: usize) -> [Placed; 3] {
    let modulo = move |token: Token| (token.get() % nodes as u64) as usize;
    [
        by("hashed, 160 virtual nodes", hashed(nodes, VNODES)),
        by("balanced", balanced(nodes)),
        Placed { title: "modulo N", largest_share: 1.0, owner: Box::new(modulo) },
    ]
}

fn count(tokens: &[Token], nodes: usize, owner: &Owner) -> Vec<u64> {
    let mut counts = vec![0; nodes];
    for &token in tokens {
        counts[owner(token)] += 1;
    }
    counts
}

/// One line of the table: all figures relative to the mean.
struct Row {
    placement: &'static str,
    nodes: usize,
    largest_share: f64,
    deviation: f64,
    peak: f64,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for nodes in NODES {
        let mut random = Random::new(0xd15c);
        let keys = KEYS_PER_NODE * nodes;
        let tokens: Vec<Token> = (0..keys).map(|_| Token::of(&random_key(&mut random))).collect();
        for Placed { title, largest_share, owner } in placements(nodes) {
            let loads = count(&tokens, nodes, &owner);
            let load = |&n: &u64| n as f64 / KEYS_PER_NODE as f64;
            let variance = loads.iter().map(|n| (load(n) - 1.0).powi(2)).sum::<f64>() / nodes as f64;
            let peak = loads.iter().map(load).fold(0.0, f64::max);
            rows.push(Row { placement: title, nodes, largest_share, deviation: variance.sqrt(), peak });
        }
    }
    rows
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "# Keys per node\n\nRandom keys, {KEYS_PER_NODE} per node. All figures are relative to the mean. The largest share is \
         the ring's own, of the hash space; deviation and peak are of keys, whose own chance is in them: modulo \
         N shows what it makes of a perfect division.\n\n\
         | nodes | placement | largest share | standard deviation of keys | peak of keys |\n\
         |---:|---|---:|---:|---:|\n"
    );
    for Row { placement, nodes, largest_share, deviation, peak } in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {nodes} | {placement} | {largest_share:.4} | {deviation:.4} | {peak:.4} |");
    }
    text
}

fn plot(rows: &[Row], path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (800, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let top = rows.iter().map(|row| row.peak).fold(1.0, f64::max) + 0.02;
    let mut chart = ChartBuilder::on(&root)
        .caption("Keys on the fullest node, relative to the mean", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..NODES.len() as f64, 1.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(NODES.len() * 2 + 1)
        // Labels stand in the middle of each group, at halves.
        .x_label_formatter(&|x| match NODES.get(*x as usize) {
            Some(nodes) if x.fract() == 0.5 => format!("{nodes} nodes"),
            _ => String::new(),
        })
        .y_label_formatter(&|y| format!("{y:.2}"))
        .y_desc("peak / mean")
        .draw()?;
    for (series, colour) in
        [RGBColor(31, 119, 180), RGBColor(44, 160, 44), RGBColor(150, 150, 150)].iter().enumerate()
    {
        let bars = rows.iter().skip(series).step_by(3).enumerate().map(|(group, row)| {
            let left = group as f64 + 0.14 + series as f64 * 0.24;
            Rectangle::new([(left, 1.0), (left + 0.22, row.peak)], colour.filled())
        });
        chart
            .draw_series(bars)?
            .label(rows[series].placement)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    root.present()?;
    Ok(())
}

fn report() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/plots");
    std::fs::create_dir_all(&folder)?;
    let rows = rows();
    let table = table(&rows);
    println!("{table}");
    std::fs::write(folder.join("key_distribution.md"), table)?;
    plot(&rows, &folder.join("key_distribution.svg"))
}

fn key_distribution(c: &mut Criterion) {
    if let Err(error) = report() {
        eprintln!("no report written: {error}");
    }
    let mut group = c.benchmark_group("key_distribution");
    group.throughput(Throughput::Elements(TIMED_KEYS as u64));
    let mut random = Random::new(0xd15c);
    let tokens: Vec<Token> = (0..TIMED_KEYS).map(|_| Token::of(&random_key(&mut random))).collect();
    for nodes in NODES {
        for Placed { title, owner, .. } in placements(nodes) {
            group.bench_function(format!("{nodes} nodes, {title}"), |b| {
                b.iter(|| count(&tokens, nodes, &owner))
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = key_distribution
}
criterion_main!(benches);
