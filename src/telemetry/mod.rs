//! What is seen from outside: metrics (feature `metrics`) and traces (feature `tracing`). One function for everything that
//! happens, called where it happens; without the features they are empty, and the compiler leaves nothing of them.
//!
//! - [`Meters`], [`NodeMeters`]: what is counted per request and per batch, by handles that are registered once
//! - [`Span`]: around a request
//! - the rest happens seldom
//!
//! **Nothing here is given an id, a key or the text of an error of a session.** Names and units are listed in
//! `docs/observability.md`, and a test compares that table with what is recorded.

#![cfg_attr(not(all(feature = "metrics", feature = "tracing")), allow(unused_variables))]

#[cfg(feature = "metrics")]
mod meters;
#[cfg(not(feature = "metrics"))]
#[path = "without_meters.rs"]
mod meters;
mod operation;
#[cfg(feature = "tracing")]
mod span;
#[cfg(not(feature = "tracing"))]
#[path = "without_span.rs"]
mod span;

pub(crate) use self::{
    meters::{Meters, NodeMeters},
    operation::Asked,
    span::Span,
};
use crate::{
    error::{Error, ErrorKind},
    ring::NodeId,
    topology::Epoch,
};

/// The target of all spans and events, and the first part of every metric's name.
#[cfg(feature = "tracing")]
const TARGET: &str = "sessionring";

/// Logs an event.
#[cfg(feature = "tracing")]
macro_rules! log {
    ($level:ident, $($what:tt)*) => { tracing::$level!(target: TARGET, $($what)*) };
}
#[cfg(not(feature = "tracing"))]
macro_rules! log {
    ($($what:tt)*) => {{}};
}

/// Changes a metric for which no handle is kept, since it changes seldom.
#[cfg(feature = "metrics")]
macro_rules! change {
    ($kind:ident $name:literal $labels:tt $change:ident $by:expr) => {
        metrics::$kind!($name, label!($labels)).$change($by)
    };
}
#[cfg(feature = "metrics")]
macro_rules! label {
    ({$($label:ident: $value:expr),*}) => { vec![$(metrics::Label::new(stringify!($label), $value.to_string())),*] };
}
#[cfg(not(feature = "metrics"))]
macro_rules! change {
    ($($what:tt)*) => {{}};
}

/// The name of a kind of error, as it stands in metrics and traces.
#[cfg(any(feature = "metrics", feature = "tracing"))]
fn name(kind: ErrorKind) -> &'static str {
    operation::Came::from(kind).name()
}

/// A connection to a node was opened, and is let in.
pub(crate) fn connected(node: &NodeId, version: Option<&str>) {
    log!(debug, node = node.as_str(), version, "connected");
    change!(counter "sessionring_connects_total" {node: node, outcome: "ok"} increment 1);
}

/// An attempt to connect has failed.
pub(crate) fn not_connected(node: &NodeId, error: &Error) {
    match error.kind() {
        // Nobody mends it but an operator.
        ErrorKind::Configuration | ErrorKind::UpgradeRequired => {
            log!(error, node = node.as_str(), outcome = name(error.kind()), %error, "refused")
        }
        _ => log!(debug, node = node.as_str(), outcome = name(error.kind()), %error, "not connected"),
    }
    change!(counter "sessionring_connects_total" {node: node, outcome: name(error.kind())} increment 1);
}

/// Requests go to a node again, or fail at once from now on: its breaker has closed, or opened.
pub(crate) fn breaker(ring: &str, node: &NodeId, down: Option<&Error>) {
    match down {
        None => log!(info, ring, node = node.as_str(), "node up"),
        Some(error) => {
            log!(warn, ring, node = node.as_str(), outcome = name(error.kind()), %error, "node down");
            change!(counter "sessionring_breaker_trips_total" {ring: ring, node: node} increment 1);
        }
    }
    let up = if down.is_none() { 1.0 } else { 0.0 };
    change!(gauge "sessionring_node_up" {ring: ring, node: node} set up);
}

/// A node obeys another topology, and did nothing of a batch.
pub(crate) fn stale(node: &NodeId, requests: usize) {
    log!(debug, node = node.as_str(), requests, "another topology there");
    change!(counter "sessionring_stale_refusals_total" {node: node} increment requests as u64);
}

/// A difference between this application and a node that does not mend itself.
pub(crate) fn unsettled(node: &NodeId, error: &Error) {
    log!(error, node = node.as_str(), outcome = name(error.kind()), %error, "refused");
}

/// This application has taken over a topology.
pub(crate) fn adopted(ring: &str, epoch: Epoch, nodes: usize, resizing: bool) {
    log!(info, ring, epoch = epoch.get(), nodes, resizing, "topology adopted");
    change!(gauge "sessionring_epoch" {ring: ring} set epoch.get() as f64);
    change!(gauge "sessionring_resizing" {ring: ring} set if resizing { 1.0 } else { 0.0 });
}

/// A node that had lost its memory, or was another process, is in use again.
pub(crate) fn readmitted(ring: &str, node: &NodeId, epoch: Epoch) {
    log!(warn, ring, node = node.as_str(), epoch = epoch.get(), "node readmitted");
    change!(counter "sessionring_readmissions_total" {ring: ring, node: node} increment 1);
}

/// A clock, or how a server is set up, endangers sessions.
pub(crate) fn warned(node: &NodeId, reason: &'static str) {
    log!(debug, node = node.as_str(), reason, "node endangers its sessions");
    change!(counter "sessionring_node_warnings_total" {node: node, reason: reason} increment 1);
}

/// A resize that this process drives has come to another phase.
pub(crate) fn resize(ring: &str, epoch: Epoch, phase: &str) {
    log!(info, ring, epoch = epoch.get(), phase, "resize");
}

/// How far the resize is: what has moved since it was said last, and about how much is left.
pub(crate) fn resized(ring: &str, moved: u64, bytes: u64, left: u64) {
    log!(debug, ring, moved, bytes, left, "resize goes on");
    change!(counter "sessionring_resize_moved_sessions_total" {ring: ring} increment moved);
    change!(counter "sessionring_resize_moved_bytes_total" {ring: ring} increment bytes);
    change!(gauge "sessionring_resize_left_sessions" {ring: ring} set left as f64);
}

/// What is to leave a node waits.
pub(crate) fn stuck(ring: &str, source: &NodeId, error: &Error) {
    log!(warn, ring, node = source.as_str(), outcome = name(error.kind()), %error, "resize waits");
}

/// What is stored cannot be read as a session by this application.
pub(crate) fn unreadable(ring: &str, namespace: &str, node: &NodeId, kind: ErrorKind) {
    log!(warn, ring, namespace, node = node.as_str(), outcome = name(kind), "session cannot be read");
    change!(counter "sessionring_unreadable_total"
        {ring: ring, namespace: namespace, node: node, outcome: name(kind)} increment 1);
}

/// So many sessions were counted.
pub(crate) fn counted(ring: &str, namespace: &str, node: &NodeId, sessions: u64) {
    change!(gauge "sessionring_sessions" {ring: ring, namespace: namespace, node: node} set sessions as f64);
}
