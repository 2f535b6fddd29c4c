//! Nothing is counted: this crate was built without its feature `metrics`.

use super::Asked;
use crate::{
    error::Error,
    protocol::{Command, Outcome},
    ring::NodeId,
};

#[derive(Debug, Clone)]
pub(crate) struct Meters;

#[derive(Debug, Clone)]
pub(crate) struct NodeMeters;

/// When a request began.
#[derive(Clone, Copy)]
pub(crate) struct Began;

pub(crate) struct Tally;

impl Tally {
    pub(crate) fn add(&mut self, _: &Command, _: &Result<Outcome, Error>) {}
}

impl Meters {
    pub(crate) fn new(_: &str) -> Meters {
        Meters
    }

    pub(crate) fn node(&self, _: &NodeId) -> NodeMeters {
        NodeMeters
    }

    pub(crate) fn begin(&self) -> Began {
        Began
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally
    }

    pub(crate) fn ended(&self, _: Began, _: Asked, _: &Result<Outcome, Error>) {}

    pub(crate) fn all_ended<K>(&self, _: Began, _: &[(K, Command)], _: &Tally) {}
}

impl NodeMeters {
    pub(crate) fn none() -> NodeMeters {
        NodeMeters
    }

    pub(crate) fn departed(&self, _: impl Iterator<Item = (&'static str, usize)>, _: usize) {}
}
