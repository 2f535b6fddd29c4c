//! Spans, by the crate `tracing`. Where nobody subscribes to their level, one costs the load of that level.

use tracing::{Instrument, debug_span, field::Empty, instrument::Instrumented, trace_span};

use super::{
    TARGET,
    operation::{Asked, Came},
};
use crate::{
    error::Error,
    protocol::{Command, Outcome},
    ring::NodeId,
    topology::Epoch,
};

/// Around a piece of work.
#[derive(Debug, Clone)]
pub(crate) struct Span(tracing::Span);

impl Span {
    /// Around one request, from its submission to its answer.
    pub(crate) fn request(asked: Asked) -> Span {
        Span(debug_span!(
            target: TARGET, "request", operation = asked.name(), node = Empty, epoch = Empty, outcome = Empty
        ))
    }

    /// Around requests that were submitted together.
    pub(crate) fn requests<K>(commands: &[(K, Command)]) -> Span {
        let first = commands.first().map_or("none", |(_, command)| Asked::of(command).name());
        Span(debug_span!(
            target: TARGET, "requests", operation = first, requests = commands.len(), epoch = Empty
        ))
    }

    /// Around what one node is asked in one go.
    pub(crate) fn flight(node: &NodeId, epoch: Epoch, requests: usize) -> Span {
        let (node, epoch) = (node.as_str(), epoch.get());
        Span(trace_span!(target: TARGET, parent: None, "flight", node, epoch, requests))
    }

    /// The request goes to this node, under this topology. The last one counts.
    pub(crate) fn routed(&self, node: &NodeId, epoch: Epoch) {
        self.0.record("node", node.as_str()).record("epoch", epoch.get());
    }

    /// The requests are routed under this topology.
    pub(crate) fn under(&self, epoch: Epoch) {
        self.0.record("epoch", epoch.get());
    }

    pub(crate) fn ended(&self, result: &Result<Outcome, Error>) {
        if !self.0.is_disabled() {
            self.0.record("outcome", Came::of(result).name());
        }
    }

    pub(crate) fn around<F: Future>(self, work: F) -> Instrumented<F> {
        work.instrument(self.0)
    }
}
