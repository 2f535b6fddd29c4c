//! Nothing is traced: this crate was built without its feature `tracing`.

use super::Asked;
use crate::{
    error::Error,
    protocol::{Command, Outcome},
    ring::NodeId,
    topology::Epoch,
};

#[derive(Debug, Clone)]
pub(crate) struct Span;

impl Span {
    pub(crate) fn request(_: Asked) -> Span {
        Span
    }

    pub(crate) fn requests<K>(_: &[(K, Command)]) -> Span {
        Span
    }

    pub(crate) fn flight(_: &NodeId, _: Epoch, _: usize) -> Span {
        Span
    }

    pub(crate) fn routed(&self, _: &NodeId, _: Epoch) {}

    pub(crate) fn under(&self, _: Epoch) {}

    pub(crate) fn ended(&self, _: &Result<Outcome, Error>) {}

    pub(crate) fn around<F: Future>(self, work: F) -> F {
        work
    }
}
