//! What happened to a session, as its clients saw it.

use std::fmt;

/// A point on the system's monotonic clock, which all processes of a machine share.
pub type Nanos = u64;

/// The name of a value: no two writes of a run write the same one.
pub type Token = u64;

/// The present.
pub fn now() -> Nanos {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Make the session, with this value.
    Create(Token),
    /// Read it.
    Get,
    /// Ask whether it is there.
    Exists,
    /// Replace what is there by this value.
    Set(Token),
    /// Read, and replace by this value what was read if nobody else wrote meanwhile.
    Update(Token),
    /// Let it live longer.
    Touch,
    /// Log out.
    Delete,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Answer {
    /// The create, set, touch or delete has happened.
    Done,
    /// The update has happened, and replaced this value.
    Updated(Token),
    /// The read found this value, or no session.
    Found(Option<Token>),
    /// The session is there, or is not.
    There(bool),
    /// Nothing was changed, since there is no session.
    NotFound,
    /// Nothing was changed, since the session was logged out.
    Deleted,
    /// Nothing was created, since the session is there already.
    AlreadyThere,
    /// Nothing was changed, for a reason that says nothing about the session.
    Refused(Reason),
    /// It may have happened, may happen yet, or never.
    Indeterminate,
}

/// Why nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The node does not answer.
    Unavailable,
    /// The node takes no more data.
    Full,
    /// Others were faster, too often.
    Conflict,
    /// Something that no fault explains.
    Unexpected,
}

/// One operation on one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// Which client process.
    pub process: u32,
    /// What it asked for.
    pub action: Action,
    /// What came back. Without an answer (the client was killed) it is indeterminate.
    pub answer: Answer,
    /// Before it was asked for.
    pub invoked: Nanos,
    /// After the answer had come; `None` if there was none.
    pub returned: Option<Nanos>,
}

impl Operation {
    /// An operation with its answer.
    pub fn new(
        process: u32,
        action: Action,
        invoked: Nanos,
        answer: Answer,
        returned: Option<Nanos>,
    ) -> Operation {
        Operation { process, action, answer, invoked, returned }
    }

    /// When it had ended; never, if nobody knows.
    pub fn ended(&self) -> Nanos {
        self.returned.unwrap_or(Nanos::MAX)
    }

    /// The value that it writes, if it happens.
    pub fn writes(&self) -> Option<Token> {
        match self.action {
            Action::Create(token) | Action::Set(token) | Action::Update(token) => Some(token),
            _ => None,
        }
    }

    /// Whether it certainly changed the session, or found it changed already.
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.answer, Answer::Done | Answer::Updated(_))
    }

    /// The value that it certainly saw.
    pub fn saw(&self) -> Option<Token> {
        match self.answer {
            Answer::Found(seen) => seen,
            Answer::Updated(seen) => Some(seen),
            _ => None,
        }
    }

    /// Whether it certainly saw a live session, or made one.
    pub fn saw_life(&self) -> bool {
        match self.answer {
            Answer::Done => self.action != Action::Delete,
            Answer::Updated(_) | Answer::Found(Some(_)) | Answer::There(true) | Answer::AlreadyThere => true,
            _ => false,
        }
    }

    /// Whether it certainly saw that there is no live session.
    pub fn saw_no_life(&self) -> bool {
        matches!(self.answer, Answer::Found(None) | Answer::There(false) | Answer::NotFound | Answer::Deleted)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |at: Nanos| at as f64 / 1e6;
        write!(f, "{:>12.3} … ", ms(self.invoked))?;
        match self.returned {
            Some(returned) => write!(f, "{:>12.3}", ms(returned))?,
            None => write!(f, "{:>12}", "no answer")?,
        }
        write!(f, " ms  process {:<3} {:?} → {:?}", self.process, self.action, self.answer)
    }
}
