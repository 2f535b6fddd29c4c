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
    /// Who has a turn after each of theirs.
    pub(crate) ceiling: Option<Setting>,
}

/// The rounds of a case.
#[derive(Debug)]
pub(crate) struct Compared(Vec<Pair<Turn>>);

#[derive(Debug)]
struct Turn {
    round: Round,
    ceiling: Option<Round>,
}

/// How much can be reached, and how much of that is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// The ceiling to the rival.
    pub(crate) ceiling: Spread,
    /// Ours to the ceiling.
    pub(crate) of_it: Spread,
}

pub(crate) fn compare(lab: &Lab, case: &Case, series: &Series) -> Result<Compared> {
    let ours = lab.contestant(case.ours)?;
    let theirs = lab.contestant(case.theirs)?;
    let ceiling = case.ceiling.map(|setting| lab.contestant(setting)).transpose()?;
    let load = Load { workload: case.workload, in_flight: case.in_flight, time: series.round };
    let pairs = interleave(series.rounds, |side| match side {
        Side::Ours => Ok(Turn { round: lab.round(&*ours, load)?, ceiling: None }),
        Side::Theirs => Ok(Turn {
            round: lab.round(&*theirs, load)?,
            ceiling: ceiling.as_ref().map(|ceiling| lab.round(&**ceiling, load)).transpose()?,
        }),
    });
    pairs
        .map(Compared)
        .map_err(|error| format!("{} against {}: {error}", case.workload, case.theirs.0).into())
}

impl Compared {
    pub(crate) fn ratio(&self, of: Quantity) -> Result<Spread> {
        ratio(&self.0, |turn| value(&turn.round, of))
    }

    /// `None`: no ceiling was asked for.
    pub(crate) fn limit(&self, of: Quantity) -> Result<Option<Limit>> {
        let turns = self.0.iter().filter_map(|pair| {
            let ceiling = value(pair.theirs.ceiling.as_ref()?, of);
            let [ours, theirs] = [&pair.ours, &pair.theirs].map(|turn| value(&turn.round, of));
            Some((Pair { ours: ceiling, theirs }, Pair { ours, theirs: ceiling }))
        });
        let (ceiling, of_it): (Vec<_>, Vec<_>) = turns.unzip();
        if ceiling.is_empty() {
            return Ok(None);
        }
        Ok(Some(Limit { ceiling: ratio(&ceiling, |value| *value)?, of_it: ratio(&of_it, |value| *value)? }))
    }

    /// The median over the rounds of one side.
    pub(crate) fn median(&self, side: Side, of: Quantity) -> f64 {
        median(&self.0, side, |turn| value(&turn.round, of))
    }
}

fn value(round: &Round, of: Quantity) -> f64 {
    match of {
        Quantity::Throughput => round.per_second(),
        Quantity::Latency(percent) => round.latency(percent),
    }
}
