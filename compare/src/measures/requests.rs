//! Throughput and latency of requests.

use crate::{
    Result,
    goals::Quantity,
    lab::{Lab, Setting},
    pairs::{Pair, Series, Side, interleave, median, ratio},
    statistics::Spread,
    workload::{Load, Round, Workload},
};

/// Who does what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) workload: Workload,
    pub(crate) in_flight: usize,
    pub(crate) ours: Setting,
    pub(crate) theirs: Setting,
}

/// The rounds of a case.
#[derive(Debug)]
pub(crate) struct Compared(Vec<Pair<Round>>);

pub(crate) fn compare(lab: &Lab, case: &Case, series: &Series) -> Result<Compared> {
    let ours = lab.contestant(case.ours)?;
    let theirs = lab.contestant(case.theirs)?;
    let load = Load { workload: case.workload, in_flight: case.in_flight, time: series.round };
    let pairs = interleave(series.rounds, |side| match side {
        Side::Ours => lab.round(&*ours, load),
        Side::Theirs => lab.round(&*theirs, load),
    });
    pairs
        .map(Compared)
        .map_err(|error| format!("{} against {}: {error}", case.workload, case.theirs.0).into())
}

impl Compared {
    pub(crate) fn ratio(&self, of: Quantity) -> Result<Spread> {
        ratio(&self.0, |round| value(round, of))
    }

    /// The median over the rounds of one side.
    pub(crate) fn median(&self, side: Side, of: Quantity) -> f64 {
        median(&self.0, side, |round| value(round, of))
    }
}

fn value(round: &Round, of: Quantity) -> f64 {
    match of {
        Quantity::Throughput => round.per_second(),
        Quantity::Latency(percent) => round.latency(percent),
    }
}
