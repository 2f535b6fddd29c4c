//! The one error type of the crate.
//!
//! An [`Error`] is opaque: ask it with the `is_*` predicates, or match on [`Error::kind`]. Its message
//! says which node, what is wrong and what to do, and never holds a session id or a password.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{
    record::{SealingKeyError, SecretLength},
    ring::{NodeId, RingError},
};

/// The result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    node: Option<NodeId>,
    message: String,
    /// For how long the node had been of no use when this was said.
    down: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kinds of [`Error`], one for each thing an application may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The node that owns the session does not answer. Whether the session exists is **unknown**: serve
    /// degraded, do not log the user out. Nothing was changed.
    Unavailable,
    /// More requests wait for the node than its queue may hold. Nothing was changed; shed load or raise
    /// [`queue_limit`](crate::Builder::queue_limit).
    Overloaded,
    /// The node has reached its `maxmemory`, or its disk refuses snapshots. Nothing was changed.
    Full,
    /// The session was logged out. This is final: no write will ever bring it back.
    Deleted,
    /// There is no such session: it expired, or never was.
    NotFound,
    /// A session with this id is there already.
    Exists,
    /// Other writers changed the session more often than the update was willing to try again.
    Conflict,
    /// What is stored is not a record of ours, or does not decode as the type asked for.
    Corrupt,
    /// The encoded session is larger than the limit. The stored session is as it was.
    TooLarge,
    /// The session could not be encoded. The stored session is as it was.
    Encode,
    /// A write was sent and no answer came: it may or may not have happened. Read before you decide.
    Indeterminate,
    /// The ring, a node or an option is set up in a way that cannot work; trying again will not help.
    Configuration,
    /// The ring is written by a newer version of this crate than this one.
    UpgradeRequired,
    /// The ring was closed, or the runtime that drives it has ended.
    Closed,
}

#[cfg(any(feature = "tower-sessions-0-14", feature = "tower-sessions-0-15"))]
impl ErrorKind {
    pub(crate) const ALL: [ErrorKind; 14] = [
        ErrorKind::Unavailable,
        ErrorKind::Overloaded,
        ErrorKind::Full,
        ErrorKind::Deleted,
        ErrorKind::NotFound,
        ErrorKind::Exists,
        ErrorKind::Conflict,
        ErrorKind::Corrupt,
        ErrorKind::TooLarge,
        ErrorKind::Encode,
        ErrorKind::Indeterminate,
        ErrorKind::Configuration,
        ErrorKind::UpgradeRequired,
        ErrorKind::Closed,
    ];
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner { kind, node: None, message: message.into(), down: None, source: None }))
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Configuration, message)
    }

    pub(crate) fn at(kind: ErrorKind, node: &NodeId, message: impl Into<String>) -> Error {
        let (node, message) = (Some(node.clone()), message.into());
        Error(Arc::new(Inner { kind, node, message, down: None, source: None }))
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Error {
        let (message, source) = (message.into(), Some(Box::new(source) as _));
        Error(Arc::new(Inner { kind, node: None, message, down: None, source }))
    }

    /// The same, of a node that has been of no use for so long. Only for an error that nobody else has yet.
    pub(crate) fn unavailable_for(mut self, since: Duration) -> Error {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.down = Some(since);
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What it says, without the node.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The node it went wrong at, where there is one.
    pub fn node(&self) -> Option<&NodeId> {
        self.0.node.as_ref()
    }

    /// For how long the node has been known to be of no use, if this failed because of that: at once, and nothing was sent.
    /// `None` for every other error, also for the one that found out.
    pub fn unavailable_since(&self) -> Option<Duration> {
        self.0.down
    }

    /// The node does not answer, or more waits for it than may wait. **Not** "no session": the session may
    /// well be there. Nothing was changed.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Overloaded)
    }

    /// More requests wait for the node than its queue may hold.
    pub fn is_overloaded(&self) -> bool {
        self.0.kind == ErrorKind::Overloaded
    }

    /// The node takes no more data; log-outs may still work, see the message.
    pub fn is_full(&self) -> bool {
        self.0.kind == ErrorKind::Full
    }

    /// The session was logged out, for good.
    pub fn is_deleted(&self) -> bool {
        self.0.kind == ErrorKind::Deleted
    }

    /// The session expired or never was.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// A session with this id is there already.
    pub fn is_exists(&self) -> bool {
        self.0.kind == ErrorKind::Exists
    }

    /// Other writers were faster, every time.
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }

    /// The stored bytes are not a record of ours, or not of this type.
    pub fn is_corrupt(&self) -> bool {
        self.0.kind == ErrorKind::Corrupt
    }

    /// The encoded session is over the limit.
    pub fn is_too_large(&self) -> bool {
        self.0.kind == ErrorKind::TooLarge
    }

    /// The write may or may not have happened.
    pub fn is_indeterminate(&self) -> bool {
        self.0.kind == ErrorKind::Indeterminate
    }

    /// The setup cannot work; the message says what to change.
    pub fn is_configuration(&self) -> bool {
        self.0.kind == ErrorKind::Configuration
    }

    /// The ring speaks a newer protocol than this version of the crate.
    pub fn is_upgrade_required(&self) -> bool {
        self.0.kind == ErrorKind::UpgradeRequired
    }

    /// The ring was closed, or its runtime has ended.
    pub fn is_closed(&self) -> bool {
        self.0.kind == ErrorKind::Closed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.node {
            Some(node) => write!(f, "node {node}: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<SealingKeyError> for Error {
    fn from(error: SealingKeyError) -> Error {
        Error::configuration(error.to_string())
    }
}

impl From<SecretLength> for Error {
    fn from(error: SecretLength) -> Error {
        Error::configuration(error.to_string())
    }
}

impl From<RingError> for Error {
    fn from(error: RingError) -> Error {
        Error::configuration(error.to_string())
    }
}
