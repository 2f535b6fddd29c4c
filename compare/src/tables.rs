//! The tables of the full run: all rivals, workloads, sizes and nodes, lookups, memory.

use std::fmt::Write;

use crate::{
    Result,
    goals::{NODES, Quantity, SIZE},
    lab::{Absent, Lab},
    measures::{
        Unit, lookup,
        memory::{self, Churn, Records},
        requests::{Case, compare},
        script,
        server_cpu::{self, Executed},
    },
    pairs::{Series, Side},
    report::text,
    statistics::Spread,
    stores::Name,
    workload::Workload,
};

/// Requests in flight, for tables and plots.
pub(crate) const IN_FLIGHT: [usize; 4] = [1, 32, 256, 1024];
/// Percentiles of latency.
pub(crate) const PERCENTILES: [f64; 3] = [50.0, 99.0, 99.9];

/// Ours and a rival under one load.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) workload: Workload,
    pub(crate) rival: Name,
    pub(crate) size: usize,
    pub(crate) nodes: usize,
    pub(crate) in_flight: usize,
    pub(crate) ratio: Spread,
    pub(crate) ours: Figures,
    pub(crate) theirs: Figures,
}

/// One side of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    /// In microseconds, at [`PERCENTILES`].
    pub(crate) latency: [f64; 3],
}

#[derive(Debug)]
pub(crate) struct Tables {
    /// `get` and `set` of every rival over requests in flight.
    pub(crate) in_flight: Vec<Row>,
    /// The same of what gathers requests and does nothing else.
    ceiling: Vec<Row>,
    /// `set` and the mix of what also keeps versions.
    versioned: Vec<Row>,
    workloads: Vec<Row>,
    sizes: Vec<Row>,
    nodes: Vec<Row>,
    lookups: Vec<lookup::Row>,
    /// Server CPU of get and set.
    cpu: Vec<(Workload, server_cpu::Compared)>,
    executed: Vec<Executed>,
    /// What a script costs a server at least, step by step.
    script: Vec<(&'static str, Spread)>,
    records: Records,
    churn: Churn,
    /// What was not run, and why.
    absent: Vec<String>,
}

pub(crate) fn take(lab: &Lab, series: &Series) -> Result<Tables> {
    use Workload::{Get, GetMany, Mix, Set, Update, Visit};

    let series = &series.of_tables();
    let mut absent = Vec::new();
    let mut rows = |title: &str,
                    ours: Name,
                    loads: &[(Workload, usize)],
                    settings: &[(usize, usize)],
                    rivals: &[Name]| {
        let mut rows = Vec::new();
        for &rival in rivals {
            for &(size, nodes) in settings {
                for &(workload, in_flight) in loads {
                    match row(lab, [ours, rival], workload, in_flight, size, nodes, series) {
                        Ok(row) => {
                            println!("{title}: {}", row.line());
                            rows.push(row);
                        }
                        Err(error) => {
                            let missing = error.downcast::<Absent>()?;
                            println!("{title}: {rival} NOT RUN: {missing}");
                            let line = format!("{rival}: {missing}");
                            if !absent.contains(&line) {
                                absent.push(line);
                            }
                        }
                    }
                }
            }
        }
        Ok::<_, crate::Error>(rows)
    };
    let loads: Vec<_> =
        [Get, Set].into_iter().flat_map(|workload| IN_FLIGHT.map(|callers| (workload, callers))).collect();
    let in_flight = rows("in flight", Name::SessionRing, &loads, &[(SIZE, NODES)], &Name::RIVALS)?;
    let ceiling = rows("ceiling", Name::Coalesced, &loads, &[(SIZE, NODES)], &[Name::Multiplexed])?;
    let loads: Vec<_> =
        [Set, Mix].into_iter().flat_map(|workload| IN_FLIGHT.map(|callers| (workload, callers))).collect();
    let versioned =
        rows("ceiling with versions", Name::Versioned, &loads, &[(SIZE, NODES)], &[Name::Multiplexed])?;
    let loads = [
        (Mix, 256),
        (Visit, 256),
        (Update, 256),
        (GetMany(10), 32),
        (GetMany(100), 8),
        (GetMany(1000), 1),
        (GetMany(1000), 8),
    ];
    let workloads = rows("workloads", Name::SessionRing, &loads, &[(SIZE, NODES)], &Name::RIVALS)?;
    let mut sizes = rows(
        "sizes",
        Name::SessionRing,
        &[(Get, 256), (Set, 256)],
        &[(100, NODES), (4 << 10, NODES)],
        &Name::RIVALS,
    )?;
    sizes.extend(rows(
        "sizes",
        Name::SessionRing,
        &[(Get, 32), (Set, 32)],
        &[(64 << 10, NODES)],
        &Name::RIVALS,
    )?);
    let loads = [(Get, 256), (Set, 256), (GetMany(1000), 1)];
    let nodes =
        rows("nodes", Name::SessionRing, &loads, &[(SIZE, 1), (SIZE, 3), (SIZE, 8)], &[Name::Multiplexed])?;
    let mut cpu = Vec::new();
    for workload in [Get, Set] {
        cpu.push((workload, server_cpu::compare(lab, workload, 256, series)?));
    }
    let tables = Tables {
        in_flight,
        ceiling,
        versioned,
        workloads,
        sizes,
        nodes,
        lookups: lookup::table()?,
        cpu,
        executed: server_cpu::executed(lab, 256, series)?,
        script: script::steps()?,
        records: memory::records(lab)?,
        churn: memory::churn(lab)?,
        absent,
    };
    let mut text = String::new();
    tables.write_others(&mut text)?;
    println!("{text}");
    Ok(tables)
}

fn row(
    lab: &Lab,
    [ours, rival]: [Name; 2],
    workload: Workload,
    in_flight: usize,
    size: usize,
    nodes: usize,
    series: &Series,
) -> Result<Row> {
    let (ours, theirs) = ((ours, nodes, size), (rival, nodes, size));
    let compared = compare(lab, &Case { workload, in_flight, ours, theirs, ceiling: None }, series)?;
    let figures = |side| Figures {
        per_second: compared.median(side, Quantity::Throughput),
        latency: PERCENTILES.map(|percent| compared.median(side, Quantity::Latency(percent))),
    };
    Ok(Row {
        workload,
        rival,
        size,
        nodes,
        in_flight,
        ratio: compared.ratio(Quantity::Throughput)?,
        ours: figures(Side::Ours),
        theirs: figures(Side::Theirs),
    })
}

impl Row {
    fn line(&self) -> String {
        let Row { workload, rival, size, nodes, in_flight, ratio, ours, theirs } = self;
        format!(
            "{:<23} {:<19} {size:>6} B {nodes} nodes {in_flight:>5} in flight  {:<22} {:>8.0} /s against {:>8.0} /s  \
             p50 p99 p99.9 {} µs against {}",
            rival.to_string(),
            workload.to_string(),
            text(ratio, Unit::Ratio),
            ours.per_second,
            theirs.per_second,
            ours.latencies(),
            theirs.latencies(),
        )
    }
}

impl Figures {
    fn latencies(&self) -> String {
        self.latency.map(|micros| format!("{micros:.0}")).join(" ")
    }
}

const CEILING: &str = "
## The ceiling

What gathering requests brings over the plain multiplexed client by itself, through the same driver: one task per node that sends \
all reads that wait as one `MGET` with a fence, and all writes as one script that looks at each record and replaces it \
(`compare/src/stores/coalesced.rs`). It knows no ids, digests, ring, codec, versions, deadlines or limits; all of these \
are to be paid from what is between these figures and those above. \"With versions\" its script also reads the version and the deadline \
of each record and puts them, one higher and unchanged, before what is written: the least that a `set` does which can be told from another.

| |";

impl Tables {
    /// As Markdown.
    pub(crate) fn write(&self, page: &mut String) -> Result<()> {
        for workload in [Workload::Get, Workload::Set] {
            writeln!(page, "\n`{workload}`, 300 bytes, three nodes; throughput relative to each rival:\n")?;
            write!(page, "| rival |")?;
            IN_FLIGHT.iter().try_for_each(|callers| write!(page, " {callers} |"))?;
            writeln!(page, "\n|---|---:|---:|---:|---:|")?;
            for rival in Name::RIVALS {
                let of = |row: &&Row| row.workload == workload && row.rival == rival;
                let rows: Vec<&Row> = self.in_flight.iter().filter(of).collect();
                if rows.is_empty() {
                    continue;
                }
                write!(page, "| {rival} |")?;
                rows.iter().try_for_each(|row| write!(page, " {} |", text(&row.ratio, Unit::Ratio)))?;
                page.push('\n');
            }
        }
        page.push_str(CEILING);
        IN_FLIGHT.iter().try_for_each(|callers| write!(page, " {callers} |"))?;
        page.push_str("\n|---|---:|---:|---:|---:|\n");
        for (ceiling, workload, versions) in [
            (&self.ceiling, Workload::Get, ""),
            (&self.ceiling, Workload::Set, ""),
            (&self.versioned, Workload::Set, ", with versions"),
            (&self.versioned, Workload::Mix, ", with versions"),
        ] {
            write!(page, "| `{workload}`{versions} |")?;
            let mut rows = ceiling.iter().filter(|row| row.workload == workload);
            rows.try_for_each(|row| write!(page, " {} |", text(&row.ratio, Unit::Ratio)))?;
            page.push('\n');
        }
        page.push_str("\n## Absolute figures of the same rounds\n\n");
        page.push_str("Operations a second, and p50, p99 and p99.9 in µs.\n\n");
        write_rows(page, &self.in_flight)?;
        page.push_str("\n## Other workloads\n\n");
        page.push_str(
            "Rivals visit by `GETEX`, update by `GET` and `SET`, and get many by one `MGET` per node.\n\n",
        );
        write_rows(page, &self.workloads)?;
        page.push_str("\n## Sizes\n\n");
        write_rows(page, &self.sizes)?;
        page.push_str("\n## Nodes\n\n");
        write_rows(page, &self.nodes)?;
        for line in &self.absent {
            writeln!(page, "\nNot run: {line}.")?;
        }
        self.write_others(page)
    }

    /// What is not about requests.
    fn write_others(&self, page: &mut String) -> Result<()> {
        page.push_str(
            "\n## Server CPU\n\nOf all three nodes for an operation, 256 in flight (`INFO cpu`):\n\n",
        );
        page.push_str("| | ours, µs | plain, µs | ratio |\n|---|---:|---:|---:|\n");
        for (workload, cpu) in &self.cpu {
            let ratio = text(&cpu.ratio, Unit::Ratio);
            writeln!(page, "| {workload} | {:.2} | {:.2} | {ratio} |", cpu.ours, cpu.theirs)?;
        }
        page.push_str(
            "\nWhat `INFO commandstats` counts of one round (the commands alone, without reading and ",
        );
        page.push_str("writing the socket; what a script calls is counted in it once more):\n\n| | command | calls | µs per call | µs per operation |\n");
        page.push_str("|---|---|---:|---:|---:|\n");
        for Executed { name, workload, operations, commands } in &self.executed {
            for (command, (calls, micros)) in commands {
                // Looks at connections, and their like.
                if *calls < operations / 1000.0 {
                    continue;
                }
                let (per_call, per_operation) = (micros / calls, micros / operations);
                writeln!(
                    page,
                    "| {name}, {workload} | {command} | {calls:.0} | {per_call:.2} | {per_operation:.2} |"
                )?;
            }
        }
        page.push_str("\nWhat no script can do without: server CPU for each of 48 writes in a batch, on one node alone. ");
        page.push_str("The last line is the least that a `set` can cost which looks at a record before it replaces it.\n\n");
        page.push_str("| | µs per write |\n|---|---:|\n");
        for (title, micros) in &self.script {
            writeln!(page, "| {title} | {} |", text(micros, Unit::Ratio))?;
        }
        page.push_str(
            "\n## Lookup\n\nThe owner of a 22-byte key among 1,000 nodes, hashing included; the floor is ",
        );
        page.push_str("bare xxh3 and one read of a table of 2^16 entries.\n\n| | ns | to the floor |\n|---|---:|---:|\n");
        for row in &self.lookups {
            writeln!(page, "| {} | {:.1} | {} |", row.title, row.nanos, text(&row.to_floor, Unit::Ratio))?;
        }
        writeln!(
            page,
            "\n## Memory\n\nBytes of a node (`MEMORY USAGE`) beyond what the session's data take in the store's own encoding, \
             mean and range over sessions of 600 lengths: ours {}, tower-sessions-redis-store {} for the same sessions; {} and \
             {} for sessions that take the same number of bytes in both encodings. With their payload, the same sessions \
             take {:.0} and {:.0} bytes.\n\n\
             A session of 300 bytes takes {:.0} bytes of `used_memory` in all, what is remembered of a log-out \
             {:.0} (20,000 of each); a tombstone lives as long as its session would have, and a quarter of an hour.",
            text(&self.records.ours, Unit::Bytes),
            text(&self.records.theirs, Unit::Bytes),
            text(&self.records.at_equal_lengths.0, Unit::Bytes),
            text(&self.records.at_equal_lengths.1, Unit::Bytes),
            self.records.in_all.0.median,
            self.records.in_all.1.median,
            self.churn.sessions,
            self.churn.tombstones,
        )?;
        Ok(())
    }
}

fn write_rows(page: &mut String, rows: &[Row]) -> Result<()> {
    page.push_str(
        "| rival | workload | bytes | nodes | in flight | ratio | ours | rival | ours, µs | rival, µs |\n",
    );
    page.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for Row { workload, rival, size, nodes, in_flight, ratio, ours, theirs } in rows {
        writeln!(
            page,
            "| {rival} | {workload} | {size} | {nodes} | {in_flight} | {} | {:.0} | {:.0} | {} | {} |",
            text(ratio, Unit::Ratio),
            ours.per_second,
            theirs.per_second,
            ours.latencies(),
            theirs.latencies(),
        )?;
    }
    Ok(())
}
