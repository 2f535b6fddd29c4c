//! The moments of a resize at which tests let the process die.

use std::sync::OnceLock;

/// A moment of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The document of the change was decided.
    Decided,
    /// The fence of a source was raised.
    SourceFenced,
    /// A chunk of keys is on its way.
    ChunkSent,
    /// A step of a chunk was answered.
    Answered,
    /// All sources were passed over.
    Drained,
    /// The stable document was decided.
    Settled,
    /// The leftovers of a source are being deleted.
    Cleaning,
}

static HOOK: OnceLock<fn(Step)> = OnceLock::new();

/// Calls this at every step from now on, for the whole process; only the first call counts.
pub(crate) fn hook(hook: fn(Step)) {
    let _ = HOOK.set(hook);
}

pub(super) fn reached(step: Step) {
    if let Some(hook) = HOOK.get() {
        hook(step);
    }
}
