//! What a run is about.

use crate::schedule::Kind;

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Servers die, one after the other, and come back with everything (AOF always).
    Kill,
    /// Servers hang, one after the other, and go on.
    Stop,
    /// Servers are cut off from everybody, one after the other.
    Cut,
    /// Servers are slow for everybody, one after the other.
    Slow,
    /// Any of these four.
    Node,
    /// The ring is resized while everything else goes wrong, several things at a time.
    Resize,
    /// Primaries die that Sentinels watch.
    Sentinel,
}

impl Mode {
    /// Those that `make chaos` runs. [`Mode::Node`] is four of them in one.
    pub const EACH: [Mode; 6] = [Mode::Kill, Mode::Stop, Mode::Cut, Mode::Slow, Mode::Resize, Mode::Sentinel];

    /// The mode that is called so.
    pub fn called(name: &str) -> Option<Mode> {
        Mode::EACH.into_iter().chain([Mode::Node]).find(|mode| mode.name() == name)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Kill => "kill",
            Mode::Stop => "stop",
            Mode::Cut => "cut",
            Mode::Slow => "slow",
            Mode::Node => "node",
            Mode::Resize => "resize",
            Mode::Sentinel => "sentinel",
        }
    }

    /// The faults.
    pub fn kinds(self) -> Vec<Kind> {
        match self {
            Mode::Kill => vec![Kind::KillDurable],
            Mode::Stop => vec![Kind::FreezeServer],
            Mode::Cut => vec![Kind::CutOff],
            Mode::Slow => vec![Kind::SlowServer],
            Mode::Node => vec![Kind::KillDurable, Kind::FreezeServer, Kind::CutOff, Kind::SlowServer],
            Mode::Resize | Mode::Sentinel => Kind::all(),
        }
    }

    /// Whether one server at a time fails and nothing may be lost: all of them write to their disks before they answer.
    pub fn loses_nothing(self) -> bool {
        !matches!(self, Mode::Resize | Mode::Sentinel)
    }
}

/// What came of all runs of one mode.
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct Sum {
    /// Things that were broken.
    pub faults: usize,
    /// What was asked for.
    pub operations: usize,
    /// What of that was answered, and not with "unavailable" or "nobody knows".
    pub answered: usize,
    /// Sessions that lost something that was promised.
    pub lost: usize,
    /// Sessions of which something came back.
    pub resurrected: usize,
}

impl Sum {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Sum) -> Sum {
        Sum {
            faults: self.faults + other.faults,
            operations: self.operations + other.operations,
            answered: self.answered + other.answered,
            lost: self.lost + other.lost,
            resurrected: self.resurrected + other.resurrected,
        }
    }

    /// In one line.
    pub fn line(&self, mode: Mode) -> String {
        let Sum { faults, operations, answered, lost, resurrected } = self;
        let share = 100.0 * *answered as f64 / (*operations).max(1) as f64;
        format!(
            "chaos: mode={} faults={faults} operations={operations} answered={share:.1}% lost={lost} \
             resurrected={resurrected}",
            mode.name()
        )
    }
}
