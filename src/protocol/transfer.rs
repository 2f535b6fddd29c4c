//! The state machine of a mover for one key.

use std::sync::Arc;

use super::{Command, Install, Mode, Outcome, Send, operation::ATTEMPTS};
use crate::record::Kind;

/// Carries what a source holds under one key over to the owner: fetch, install, release. Every step may happen twice,
/// and at the same time as those of clients and other movers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transfer {
    at: At,
    attempts: u8,
    done: Transferred,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    Fetch,
    Install(Arc<Install>),
    Release,
}

/// What became of the key at the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Transferred {
    /// This transfer put the copy. It did not where there was nothing to move, or others did it, or it had expired.
    pub moved: bool,
    /// A tombstone was there, and stays until it expires.
    pub tombstone: bool,
    /// Bytes that are no record are there, at the source or at the owner: `Unexpected` or `WrongType`. They stay, and
    /// so does the record that could not be put over garbage; nobody can read it there.
    pub garbage: Option<Outcome>,
}

/// What a mover does next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferStep {
    /// Send this.
    Send(Send),
    /// The key is handled.
    Done(Transferred),
    /// The answer was lost too often, or makes no sense.
    Failed,
}

impl Default for Transfer {
    fn default() -> Transfer {
        Transfer::new()
    }
}

impl Transfer {
    /// A transfer that has not begun.
    pub fn new() -> Transfer {
        Transfer { at: At::Fetch, attempts: 0, done: Transferred::default() }
    }

    /// What to send first; also after a refusal, which means that nothing happened, or a new document.
    pub fn start(&mut self) -> Send {
        self.done = Transferred::default();
        self.go(At::Fetch)
    }

    /// The node answered.
    pub fn answered(&mut self, outcome: Outcome) -> TransferStep {
        match (&self.at, outcome) {
            (At::Fetch, Outcome::Fetched { record, deadline }) => {
                match Install::new(record, deadline, false) {
                    Ok(install) => TransferStep::Send(self.go(At::Install(install.into()))),
                    Err(_) => TransferStep::Failed,
                }
            }
            (At::Fetch, Outcome::Absent) => self.finish(),
            (At::Install(install), outcome @ (Outcome::Applied(_) | Outcome::Exists | Outcome::Absent)) => {
                let tombstone = install.header.kind == Kind::Tombstone;
                self.done.moved = matches!(outcome, Outcome::Applied(_));
                self.done.tombstone = tombstone;
                if tombstone { self.finish() } else { TransferStep::Send(self.go(At::Release)) }
            }
            (At::Fetch | At::Install(_), outcome @ (Outcome::Unexpected(_) | Outcome::WrongType)) => {
                self.done.garbage = Some(outcome);
                self.finish()
            }
            (
                At::Release,
                Outcome::Applied(_)
                | Outcome::Absent
                | Outcome::Deleted
                | Outcome::Unexpected(_)
                | Outcome::WrongType,
            ) => self.finish(),
            _ => TransferStep::Failed,
        }
    }

    /// The message was sent, and no answer will come.
    pub fn lost(&mut self) -> TransferStep {
        if self.attempts >= ATTEMPTS {
            return TransferStep::Failed;
        }
        self.attempts += 1;
        TransferStep::Send(self.message())
    }

    fn go(&mut self, at: At) -> Send {
        self.at = at;
        self.attempts = 1;
        self.message()
    }

    fn message(&self) -> Send {
        match &self.at {
            At::Fetch => Send::source(Command::Fetch),
            At::Install(install) => Send::owner(Mode::Settled, Command::Install(install.clone())),
            At::Release => Send::source(Command::Release),
        }
    }

    fn finish(&self) -> TransferStep {
        TransferStep::Done(self.done.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        protocol::Place,
        record::{CodecId, Header},
        topology::Epoch,
    };

    const DONE: Outcome = Outcome::Applied(2);

    fn fetched(kind: Kind) -> Outcome {
        let header = Header {
            kind,
            pending: false,
            forward: false,
            codec: CodecId::JSON,
            schema: 0,
            seal: 0,
            stamp: Epoch::FIRST,
            operation: 1,
            version: 2,
            max_deadline: 100,
        };
        Outcome::Fetched { record: Bytes::copy_from_slice(&header.encode()), deadline: 50 }
    }

    fn after(answers: impl IntoIterator<Item = Outcome>) -> Transfer {
        let mut transfer = Transfer::new();
        assert_eq!(transfer.start(), Send::source(Command::Fetch));
        for answer in answers {
            let step = transfer.answered(answer);
            assert!(matches!(step, TransferStep::Send(_)), "{step:?}");
        }
        transfer
    }

    #[test]
    fn a_live_record_is_installed_and_then_released() {
        for (installed, moved) in [(DONE, true), (Outcome::Exists, false), (Outcome::Absent, false)] {
            let mut transfer = after([fetched(Kind::Live)]);
            assert!(matches!(
                transfer.message(),
                Send { place: Place::Owner, command: Command::Install(install), .. }
                    if install.deadline == 50 && !install.for_logout
            ));
            assert_eq!(transfer.answered(installed), TransferStep::Send(Send::source(Command::Release)));
            let done = Transferred { moved, tombstone: false, garbage: None };
            assert_eq!(transfer.answered(Outcome::Absent), TransferStep::Done(done));
        }
    }

    #[test]
    fn a_tombstone_stays_where_it_was() {
        let done = Transferred { moved: true, tombstone: true, garbage: None };
        assert_eq!(after([fetched(Kind::Tombstone)]).answered(DONE), TransferStep::Done(done));
    }

    /// It says where its session goes on, which whoever asks the owner has to be told.
    #[test]
    fn a_tombstone_that_forwards_goes_with_what_it_says() {
        let Outcome::Fetched { record, deadline } = fetched(Kind::Tombstone) else { unreachable!() };
        let record = [&record[..2], &[2], &record[3..], &[7; 30]].concat();
        let transfer = after([Outcome::Fetched { record: record.into(), deadline }]);
        let Send { command: Command::Install(install), .. } = transfer.message() else {
            panic!("no install")
        };
        let header = install.header(Epoch::new(9));
        assert!(header.forward && !header.pending && install.payload[..] == [7; 30]);
    }

    #[test]
    fn what_is_gone_is_handled() {
        assert_eq!(after([]).answered(Outcome::Absent), TransferStep::Done(Transferred::default()));
    }

    #[test]
    fn garbage_stays_and_is_reported() {
        for garbage in [Outcome::Unexpected(Bytes::from_static(&[7])), Outcome::WrongType] {
            let done = Transferred { garbage: Some(garbage.clone()), ..Transferred::default() };
            for mut transfer in [after([]), after([fetched(Kind::Live)])] {
                assert_eq!(transfer.answered(garbage.clone()), TransferStep::Done(done.clone()));
            }
        }
    }

    #[test]
    fn lost_answers_are_asked_for_again_a_few_times() {
        for mut transfer in
            [after([]), after([fetched(Kind::Live)]), after([fetched(Kind::Live), Outcome::Exists])]
        {
            let message = transfer.message();
            for _ in 1..ATTEMPTS {
                assert_eq!(transfer.lost(), TransferStep::Send(message.clone()));
            }
            assert_eq!(transfer.lost(), TransferStep::Failed);
            assert_eq!(transfer.start(), Send::source(Command::Fetch));
        }
    }
}
