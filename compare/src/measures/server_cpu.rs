//! Processor time that the servers spend on an operation, which is what a user pays for where nodes are remote.

use std::collections::BTreeMap;

use crate::{
    Result,
    goals::{NODES, SIZE},
    lab::Lab,
    pairs::{Series, Side, interleave, median, ratio},
    servers::{Servers, command_statistics, cpu_seconds},
    statistics::Spread,
    stores::Name,
    workload::{Load, Workload},
};

/// Ours and plain redis-rs on the same three nodes.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) ratio: Spread,
    /// Microseconds for each operation.
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
}

pub(crate) fn compare(lab: &Lab, workload: Workload, in_flight: usize, series: &Series) -> Result<Compared> {
    let servers = lab.servers(Servers::Plain(NODES))?;
    let contestants = [Name::SessionRing, Name::Multiplexed].map(|name| lab.contestant((name, NODES, SIZE)));
    let [ours, theirs] = contestants;
    let (ours, theirs) = (ours?, theirs?);
    let load = Load { workload, in_flight, time: series.round };
    let pairs = interleave(series.rounds, |side| {
        let before = cpu_seconds(&servers)?;
        let round = lab.round(if side == Side::Ours { &*ours } else { &*theirs }, load)?;
        Ok((cpu_seconds(&servers)? - before) * 1e6 / round.operations())
    })?;
    Ok(Compared {
        ratio: ratio(&pairs, |micros| *micros)?,
        ours: median(&pairs, Side::Ours, |micros| *micros),
        theirs: median(&pairs, Side::Theirs, |micros| *micros),
    })
}

/// What the servers executed for so many operations: calls and microseconds of each command.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) name: Name,
    pub(crate) workload: Workload,
    pub(crate) operations: f64,
    pub(crate) commands: BTreeMap<String, (f64, f64)>,
}

/// One round of each, as `INFO commandstats` sees it.
pub(crate) fn executed(lab: &Lab, in_flight: usize, series: &Series) -> Result<Vec<Executed>> {
    let servers = lab.servers(Servers::Plain(NODES))?;
    let mut all = Vec::new();
    for workload in [Workload::Get, Workload::Set] {
        for name in [Name::SessionRing, Name::Multiplexed] {
            let contestant = lab.contestant((name, NODES, SIZE))?;
            command_statistics(&servers)?;
            let round = lab.round(&*contestant, Load { workload, in_flight, time: series.round })?;
            let mut commands = command_statistics(&servers)?;
            // Our own looking, and the other clients' keeping of connections.
            commands
                .retain(|name, _| !matches!(name.as_str(), "info" | "ping") && !name.starts_with("config"));
            all.push(Executed { name, workload, operations: round.operations(), commands });
        }
    }
    Ok(all)
}
