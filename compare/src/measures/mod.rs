//! How each kind of measure is taken.

pub(crate) mod lookup;
pub(crate) mod memory;
pub(crate) mod requests;
pub(crate) mod script;
pub(crate) mod server_cpu;

use self::requests::Limit;
use crate::{
    Result,
    goals::{Goal, Measure, NODES, Quantity, SIZE},
    lab::Lab,
    pairs::Series,
    statistics::Spread,
    stores::Name,
};

/// What came out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(crate) spread: Spread,
    pub(crate) unit: Unit,
    /// What the rival has, where that is the bound.
    pub(crate) theirs: Option<f64>,
    /// How much can be reached, where that was measured.
    pub(crate) limit: Option<Limit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Ratio,
    Milliseconds,
    Bytes,
}

/// Takes the measure of a goal.
pub(crate) fn take(lab: &Lab, goal: &Goal, series: &Series) -> Result<Value> {
    let ratio = |spread| Value { spread, unit: Unit::Ratio, theirs: None, limit: None };
    match goal.measure {
        Measure::Requests { workload, rival, rival_nodes, in_flight, of, ceiling } => {
            let case = requests::Case {
                workload,
                in_flight,
                ours: (Name::SessionRing, NODES, SIZE),
                theirs: (rival, rival_nodes, SIZE),
                ceiling: ceiling.map(|name| (name, NODES, SIZE)),
            };
            let compared = requests::compare(lab, &case, series)?;
            Ok(Value { limit: compared.limit(of)?, ..ratio(compared.ratio(of)?) })
        }
        Measure::Sealing { workload, in_flight } => {
            let (ours, theirs) = ((Name::Sealed, NODES, SIZE), (Name::SessionRing, NODES, SIZE));
            let case = requests::Case { workload, in_flight, ours, theirs, ceiling: None };
            Ok(ratio(requests::compare(lab, &case, series)?.ratio(Quantity::Throughput)?))
        }
        Measure::ServerCpu { workload, in_flight } => {
            Ok(ratio(server_cpu::compare(lab, workload, in_flight, series)?.ratio))
        }
        Measure::Lookup { ring, rival } => Ok(ratio(lookup::compare(ring, rival)?)),
        Measure::Build => {
            Ok(Value { spread: lookup::build(series)?, unit: Unit::Milliseconds, theirs: None, limit: None })
        }
        Measure::RecordBytes => {
            let records = memory::records(lab)?;
            Ok(Value {
                spread: records.ours,
                unit: Unit::Bytes,
                theirs: Some(records.theirs.median),
                limit: None,
            })
        }
    }
}
