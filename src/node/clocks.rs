//! The nodes' clocks, compared with each other.
//!
//! Every deadline is set by the clock of the node that holds the session; the application's clock decides
//! nothing. But a session may move from one node to another, so the nodes must agree.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind},
    record::Millis,
    ring::NodeId,
};

/// What is known of the clocks of a ring's nodes. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Clocks {
    limit: Duration,
    start: Instant,
    ahead: Arc<Mutex<BTreeMap<NodeId, i64>>>,
}

/// How far a node's clock was ahead of our monotonic one, in ms. Only differences between nodes mean anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading(i64);

impl Clocks {
    pub(crate) fn new(limit: Duration) -> Clocks {
        Clocks { limit, start: Instant::now(), ahead: Arc::default() }
    }

    /// A node said `time` in answer to a question asked at `asked`; it is taken to have looked half way between
    /// the question and now.
    pub(crate) fn read(&self, time: Millis, asked: Instant) -> Reading {
        let middle = asked + asked.elapsed() / 2;
        Reading(time as i64 - middle.duration_since(self.start).as_millis() as i64)
    }

    pub(crate) fn record(&self, node: &NodeId, reading: Reading) {
        self.ahead.lock().insert(node.clone(), reading.0);
    }

    /// Whether this node's clock agrees with the others'.
    pub(crate) fn check(&self, node: &NodeId) -> Result<(), Error> {
        let ahead = self.ahead.lock();
        match ahead.get(node).map(|&mine| mine - median_of_others(&ahead, node, mine)) {
            Some(off) if off.unsigned_abs() > self.limit.as_millis() as u64 => Err(self.error(node, off)),
            _ => Ok(()),
        }
    }

    /// Whether all clocks agree; names the one that is furthest from the others.
    pub(crate) fn check_all(&self) -> Result<(), Error> {
        let ahead = self.ahead.lock();
        let offs = ahead.iter().map(|(node, &mine)| (node, mine - median_of_others(&ahead, node, mine)));
        match offs.max_by_key(|(_, off)| off.unsigned_abs()) {
            Some((node, off)) if off.unsigned_abs() > self.limit.as_millis() as u64 => {
                Err(self.error(node, off))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, node: &NodeId, off: i64) -> Error {
        let message = format!(
            "its clock is {:.1} s {} the other nodes' (the limit is {:.1} s): sessions would live too long or \
             too short; set the clock (NTP), or raise max_clock_skew",
            off.unsigned_abs() as f64 / 1000.0,
            if off < 0 { "behind" } else { "ahead of" },
            self.limit.as_secs_f64()
        );
        Error::at(ErrorKind::Configuration, node, message)
    }
}

/// Of two medians, the nearer: so one odd clock makes no other one look odd.
fn median_of_others(ahead: &BTreeMap<NodeId, i64>, node: &NodeId, mine: i64) -> i64 {
    let mut others: Vec<i64> = ahead.iter().filter(|(id, _)| *id != node).map(|(_, &a)| a).collect();
    others.sort_unstable();
    let medians = &others[others.len().saturating_sub(1) / 2..others.len().min(others.len() / 2 + 1)];
    medians.iter().copied().min_by_key(|median| median.abs_diff(mine)).unwrap_or(mine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(readings: &[(&str, i64)]) -> Clocks {
        let clocks = Clocks::new(Duration::from_secs(2));
        for &(name, ahead) in readings {
            clocks.record(&NodeId::new(name).unwrap(), Reading(ahead));
        }
        clocks
    }

    #[tokio::test]
    async fn the_odd_one_out_is_named() {
        assert!(clocks(&[]).check_all().is_ok());
        assert!(clocks(&[("a", 5_000_000)]).check_all().is_ok());
        assert!(clocks(&[("a", 1_000), ("b", 3_000)]).check_all().is_ok());
        let error = clocks(&[("a", 0), ("b", 3_600_000), ("c", 900)]).check_all().unwrap_err();
        assert_eq!(error.node().unwrap().as_str(), "b");
        assert!(error.to_string().contains("3599") || error.to_string().contains("3600"), "{error}");
        let error = clocks(&[("a", 0), ("b", 300), ("c", -5_000)]).check_all().unwrap_err();
        assert!(error.to_string().contains("behind"), "{error}");
        let clocks = clocks(&[("a", 0), ("b", 3_600_000), ("c", 900)]);
        assert!(clocks.check(&NodeId::new("c").unwrap()).is_ok());
        assert!(clocks.check(&NodeId::new("b").unwrap()).is_err());
    }
}
