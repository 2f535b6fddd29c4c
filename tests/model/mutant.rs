//! Deliberate faults, each at one seam of the machine. The model must find what every one of them breaks.

/// One way in which the protocol could be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mutant {
    /// A node executes reads whatever its fence is.
    NoFenceForReads,
    /// A node executes writes whatever its fence is.
    NoFenceForWrites,
    /// A node executes fetches whatever its fence is.
    NoFenceForFetch,
    /// A node behind executes a read without being raised.
    NoRaiseForReads,
    /// Copies are not marked PENDING.
    NoPending,
    /// The source's record goes before the copy is there.
    ReleaseFirst,
    /// Records of any stamp are valid.
    NoStamp,
    /// A log-out deletes the record.
    NoTombstone,
    /// An install takes the place of a tombstone.
    InstallOverTombstone,
    /// An install takes the place of a live record.
    InstallOverLive,
    /// An install does not look at the deadline.
    InstallAnyTime,
    /// A write under Unchecked creates where nothing is.
    UncheckedCreates,
    /// A write brings the end of a session forward while its token moves.
    EndsSooner,
    /// A touch does not mind PENDING.
    TouchPending,
    /// The stable document comes without a pass over the source.
    SettleWithoutPass,
    /// A mover goes on with its cursor after its connection broke.
    ResumedCursor,
    /// A mover does not raise the target before it fetches.
    TargetNotRaised,
    /// Clean-up carries no fence.
    CleanUpWithoutFence,
    /// The stable document counts only what was written under it.
    SettleForgets,
    /// A token that comes back has the since it had when it left.
    ReturnKeepsSince,
    /// A node that comes back with data is readmitted with the since it had.
    ReadmitKeepsSince,
    /// A blank node is given back the fence it had.
    InitialiseFirst,
    /// A blank node is initialised before its partners are raised.
    NoPartnerFences,
    /// A blank node is initialised for a document that names another memory.
    AnyIncarnation,
    /// A process that was not met before is used as if it were known.
    NoLook,
    /// A reader that misses at owner and source does not look at the owner again.
    NoLastLook,
    /// What the source answers a reader counts, whatever the owner has.
    ForeseenAlone,
    /// What the source answered under an older document counts under a newer one.
    ForeseenKept,
    /// A blind write whose answer was lost is sent again.
    BlindTwice,
    /// What it knows of lost answers an operation forgets under a new document.
    LostForgotten,
    /// A queued message is sent under the newest fence, with the scope it had.
    NewFenceOldScope,
    /// After a refusal an operation goes on where it was.
    GoesOnMidway,
}

impl Mutant {
    pub(crate) const ALL: [Mutant; 32] = [
        Mutant::NoFenceForReads,
        Mutant::NoFenceForWrites,
        Mutant::NoFenceForFetch,
        Mutant::NoRaiseForReads,
        Mutant::NoPending,
        Mutant::ReleaseFirst,
        Mutant::NoStamp,
        Mutant::NoTombstone,
        Mutant::InstallOverTombstone,
        Mutant::InstallOverLive,
        Mutant::InstallAnyTime,
        Mutant::UncheckedCreates,
        Mutant::EndsSooner,
        Mutant::TouchPending,
        Mutant::SettleWithoutPass,
        Mutant::ResumedCursor,
        Mutant::TargetNotRaised,
        Mutant::CleanUpWithoutFence,
        Mutant::SettleForgets,
        Mutant::ReturnKeepsSince,
        Mutant::ReadmitKeepsSince,
        Mutant::InitialiseFirst,
        Mutant::NoPartnerFences,
        Mutant::AnyIncarnation,
        Mutant::NoLook,
        Mutant::NoLastLook,
        Mutant::ForeseenAlone,
        Mutant::ForeseenKept,
        Mutant::BlindTwice,
        Mutant::LostForgotten,
        Mutant::NewFenceOldScope,
        Mutant::GoesOnMidway,
    ];
}
