use crate::topology::Epoch;

/// What an operation may take for a record, and how far it knows the node that its token moves away from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Scope {
    /// Since when the node has what it holds, under this tenure. A record with an older stamp is a leftover of an
    /// earlier one, and is nothing.
    pub since: Epoch,
    /// What is known of the source.
    pub mode: Mode,
}

impl Scope {
    /// A scope.
    pub const fn new(since: Epoch, mode: Mode) -> Scope {
        Scope { since, mode }
    }
}

/// What a write, touch or log-out at the owner of a token knows of the token's source.
///
/// In every mode but `Settled` the token is moving, and then no write or touch brings the end of a session forward: a copy
/// of it that is still under way is refused as long as the session lives, and later because the end of the copy has passed.
/// So the session must not end before the copy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// There is none: no record here is no record, and PENDING means nothing.
    Settled,
    /// Nothing: where no record is, nothing happens and the answer is `Absent`, since the source has to be asked. A
    /// PENDING record answers `Pending`.
    Unchecked,
    /// The source holds no live copy, since it had none or has released it, and gets none any more: no record here is no
    /// record, and PENDING means nothing.
    Checked,
}
