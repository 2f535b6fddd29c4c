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
    readings: Arc<Mutex<BTreeMap<NodeId, Reading>>>,
    /// Of each node, what was recorded when it was let in.
    admitted: Arc<Mutex<BTreeMap<NodeId, Reading>>>,
}

/// How far a node's clock was ahead of our monotonic one, in ms, and how far off that may be. Only differences
/// between nodes mean anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    ahead: i64,
    doubt: u64,
}

impl Clocks {
    pub(crate) fn new(limit: Duration) -> Clocks {
        Clocks { limit, start: Instant::now(), readings: Arc::default(), admitted: Arc::default() }
    }

    /// A node said `time` in answer to a question asked at `asked`; it is taken to have looked half way between
    /// the question and now, but may have looked at either end.
    pub(crate) fn read(&self, time: Millis, asked: Instant) -> Reading {
        let doubt = asked.elapsed() / 2;
        let middle = (asked + doubt).duration_since(self.start);
        Reading { ahead: time as i64 - middle.as_millis() as i64, doubt: doubt.as_millis() as u64 }
    }

    pub(crate) fn record(&self, node: &NodeId, reading: Reading) {
        self.readings.lock().insert(node.clone(), reading);
        self.admitted.lock().insert(node.clone(), reading);
    }

    /// Looks at the clock of a node that was let in. An error if it has left the others since, and not they it: a clock that
    /// jumps must not cost the node beside it.
    pub(crate) fn look_again(&self, node: &NodeId, reading: Reading) -> Result<(), Error> {
        self.readings.lock().insert(node.clone(), reading);
        let was = self.admitted.lock().get(node).copied().unwrap_or(reading);
        let moved = (reading.ahead - was.ahead).unsigned_abs().saturating_sub(reading.doubt + was.doubt);
        if moved > self.limit.as_millis() as u64 / 2 { self.check(node) } else { Ok(()) }
    }

    /// Whether this node's clock agrees with the others'.
    pub(crate) fn check(&self, node: &NodeId) -> Result<(), Error> {
        let readings = self.readings.lock();
        match readings.get(node).map(|&mine| off(&readings, node, mine)) {
            Some(off) if self.is_too_far(off) => Err(self.error(node, off)),
            _ => Ok(()),
        }
    }

    /// Whether all clocks agree; names the one that is furthest from the others.
    pub(crate) fn check_all(&self) -> Result<(), Error> {
        let readings = self.readings.lock();
        let offs = readings.iter().map(|(node, &mine)| (node, off(&readings, node, mine)));
        match offs.max_by_key(|(_, off)| off.unsigned_abs()) {
            Some((node, off)) if self.is_too_far(off) => Err(self.error(node, off)),
            _ => Ok(()),
        }
    }

    fn is_too_far(&self, off: i64) -> bool {
        off.unsigned_abs() > self.limit.as_millis() as u64
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

/// How far a clock is for certain from the median of the others. Of two medians the nearer counts, so that one odd
/// clock makes no other one look odd.
fn off(readings: &BTreeMap<NodeId, Reading>, node: &NodeId, mine: Reading) -> i64 {
    let mut others: Vec<Reading> =
        readings.iter().filter(|(id, _)| *id != node).map(|(_, &reading)| reading).collect();
    others.sort_unstable_by_key(|reading| reading.ahead);
    let medians = &others[others.len().saturating_sub(1) / 2..others.len().min(others.len() / 2 + 1)];
    let offs = medians.iter().map(|median| {
        let (off, doubt) = (mine.ahead - median.ahead, mine.doubt + median.doubt);
        off.signum() * off.unsigned_abs().saturating_sub(doubt) as i64
    });
    offs.min_by_key(|off| off.unsigned_abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(readings: &[(&str, i64)]) -> Clocks {
        let clocks = Clocks::new(Duration::from_secs(2));
        for &(name, ahead) in readings {
            clocks.record(&NodeId::new(name).unwrap(), Reading { ahead, doubt: 0 });
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

    #[tokio::test]
    async fn of_two_clocks_the_one_that_jumps_is_to_blame() {
        let clocks = clocks(&[("a", 0), ("b", 500)]);
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let reading = |ahead| Reading { ahead, doubt: 0 };
        clocks.look_again(&a, reading(10)).unwrap();
        clocks.look_again(&b, reading(490)).unwrap();
        assert!(clocks.look_again(&b, reading(3_600_000)).unwrap_err().is_configuration());
        clocks.look_again(&a, reading(20)).unwrap();
        clocks.look_again(&b, reading(700)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_no_wrong_clock() {
        let clocks = Clocks::new(Duration::from_secs(2));
        let asked = Instant::now();
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        clocks.record(&a, clocks.read(1_000_000, asked));
        tokio::time::advance(Duration::from_secs(8)).await;
        // It looked at its clock when the question came, or just before the answer arrived.
        for time in [1_000_000, 1_008_000] {
            clocks.record(&b, clocks.read(time, asked));
            assert!(clocks.check_all().is_ok() && clocks.check(&a).is_ok() && clocks.check(&b).is_ok());
        }
        clocks.record(&b, clocks.read(1_010_001, asked));
        assert!(clocks.check(&b).is_err());
    }
}
