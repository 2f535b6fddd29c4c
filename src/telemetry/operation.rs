//! Requests and their outcomes by name.
#![cfg_attr(not(all(feature = "metrics", feature = "tracing")), allow(dead_code))]

use crate::{
    error::{Error, ErrorKind},
    protocol::{Command, Condition, Outcome},
    record::Kind,
};

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Read,
    Visit,
    Inspect,
    Create,
    Set,
    Save,
    Touch,
    Delete,
    Forward,
    Move,
}

/// What has come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Ok,
    Absent,
    Deleted,
    Forwarded,
    Conflict,
    Corrupt,
    Unavailable,
    Overloaded,
    Full,
    TooLarge,
    Encode,
    Indeterminate,
    Configuration,
    UpgradeRequired,
    Closed,
}

impl Asked {
    pub(super) const COUNT: usize = Asked::Move as usize + 1;

    pub(crate) fn of(command: &Command) -> Asked {
        match command {
            Command::Read | Command::Recheck => Asked::Read,
            Command::Visit => Asked::Visit,
            Command::Inspect => Asked::Inspect,
            Command::Write(write) => match write.condition {
                Condition::Absent | Condition::Successor { .. } => Asked::Create,
                Condition::Live | Condition::AbsentOrLive => Asked::Set,
                Condition::Version(_) => Asked::Save,
            },
            Command::Touch(_) => Asked::Touch,
            Command::Delete(_) => Asked::Delete,
            Command::Forward(_) => Asked::Forward,
            Command::Fetch | Command::Install(_) | Command::Release | Command::Erase => Asked::Move,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Asked::Read => "read",
            Asked::Visit => "visit",
            Asked::Inspect => "inspect",
            Asked::Create => "create",
            Asked::Set => "set",
            Asked::Save => "save",
            Asked::Touch => "touch",
            Asked::Delete => "delete",
            Asked::Forward => "forward",
            Asked::Move => "move",
        }
    }
}

impl Came {
    pub(super) const COUNT: usize = Came::Closed as usize + 1;

    pub(super) fn of(result: &Result<Outcome, Error>) -> Came {
        match result {
            Err(error) => Came::from(error.kind()),
            Ok(Outcome::Absent) => Came::Absent,
            Ok(Outcome::Deleted) => Came::Deleted,
            Ok(Outcome::Forwarded(_)) => Came::Forwarded,
            Ok(Outcome::Exists | Outcome::Conflict(_) | Outcome::Pending) => Came::Conflict,
            Ok(Outcome::Unexpected(_) | Outcome::WrongType) => Came::Corrupt,
            Ok(outcome) => match outcome.record().and_then(|record| record.get(1)) {
                Some(&kind) if kind == Kind::Tombstone.code() => Came::Deleted,
                _ => Came::Ok,
            },
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Came::Ok => "ok",
            Came::Absent => "absent",
            Came::Deleted => "deleted",
            Came::Forwarded => "forwarded",
            Came::Conflict => "conflict",
            Came::Corrupt => "corrupt",
            Came::Unavailable => "unavailable",
            Came::Overloaded => "overloaded",
            Came::Full => "full",
            Came::TooLarge => "too_large",
            Came::Encode => "encode",
            Came::Indeterminate => "indeterminate",
            Came::Configuration => "configuration",
            Came::UpgradeRequired => "upgrade_required",
            Came::Closed => "closed",
        }
    }
}

impl From<ErrorKind> for Came {
    fn from(kind: ErrorKind) -> Came {
        match kind {
            ErrorKind::Unavailable => Came::Unavailable,
            ErrorKind::Overloaded => Came::Overloaded,
            ErrorKind::Full => Came::Full,
            ErrorKind::Deleted => Came::Deleted,
            ErrorKind::NotFound => Came::Absent,
            ErrorKind::Exists | ErrorKind::Conflict => Came::Conflict,
            ErrorKind::Corrupt => Came::Corrupt,
            ErrorKind::TooLarge => Came::TooLarge,
            ErrorKind::Encode => Came::Encode,
            ErrorKind::Indeterminate => Came::Indeterminate,
            ErrorKind::Configuration => Came::Configuration,
            ErrorKind::UpgradeRequired => Came::UpgradeRequired,
            ErrorKind::Closed => Came::Closed,
        }
    }
}
