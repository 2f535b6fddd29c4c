//! The state machine of one operation of a client.

use super::{Command, Condition, Outcome};

/// How often a command is sent at most when answers get lost. The deadline usually comes first.
const ATTEMPTS: u32 = 4;

/// Drives one [`Command`] until it has an answer: says what to send, is told what came back.
///
/// Two rules live here. *A lost answer*: a command is sent again only if a second copy changes nothing; and when
/// a later copy finds somebody else's work, nobody can know any more whether the first one happened. *A miss*:
/// a read cannot tell an absent record from a key of another Redis type (`MGET` answers nil for both), so a miss
/// is looked at once more before it is believed.
#[derive(Debug)]
pub struct Operation {
    command: Command,
    sent: Command,
    attempts: u32,
    lost: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Send this to the owner.
    Send(Command),
    /// This is the answer.
    Done(Outcome),
    /// A write was sent and nobody knows whether it happened.
    Indeterminate,
    /// Nothing happened, and sending again is of no use.
    Failed,
}

impl Operation {
    /// An operation that wants `command` executed.
    pub fn new(command: Command) -> Operation {
        Operation { sent: command.clone(), command, attempts: 0, lost: false }
    }

    /// What to send first.
    pub fn start(&mut self) -> Command {
        self.attempts = 1;
        self.sent.clone()
    }

    /// The node answered.
    pub fn answered(&mut self, outcome: Outcome) -> Step {
        match (&self.command, &self.sent, outcome) {
            (Command::Read, Command::Read, Outcome::Absent) => {
                self.sent = Command::Inspect;
                Step::Send(Command::Inspect)
            }
            (Command::Read, Command::Inspect, outcome) => Step::Done(match outcome {
                Outcome::WrongType => Outcome::WrongType,
                // At the moment of the read nothing was there. What came since does not matter.
                _ => Outcome::Absent,
            }),
            (Command::Write(write), _, outcome) if self.lost => match (write.condition, outcome) {
                // Was it the first copy that the others have built upon, or did it never arrive?
                (Condition::Version(_), Outcome::Conflict(_) | Outcome::Deleted | Outcome::Absent) => {
                    Step::Indeterminate
                }
                (Condition::Absent, Outcome::Exists | Outcome::Deleted) => Step::Indeterminate,
                (_, outcome) => Step::Done(outcome),
            },
            (_, _, outcome) => Step::Done(outcome),
        }
    }

    /// The command was sent, and no answer will come.
    pub fn lost(&mut self) -> Step {
        self.lost = true;
        if self.sent.is_idempotent() && self.attempts < ATTEMPTS {
            self.attempts += 1;
            Step::Send(self.sent.clone())
        } else {
            self.unsent()
        }
    }

    /// The command could not be sent, or there is no time left to send it again.
    pub fn unsent(&self) -> Step {
        if self.lost && !self.command.is_read() { Step::Indeterminate } else { Step::Failed }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        protocol::{Delete, Write},
        record::CodecId,
        topology::Epoch,
    };

    fn write(condition: Condition) -> Command {
        Command::Write(Write {
            condition,
            idle: 1,
            absolute: 1,
            codec: CodecId::JSON,
            schema: 0,
            stamp: Epoch::FIRST,
            operation: 7,
            payload: Bytes::new(),
        })
    }

    fn delete() -> Command {
        let (stamp, operation) = (Epoch::FIRST, 7);
        Command::Delete(Delete { floor: 1, absolute: 1, upsertable: false, stamp, operation })
    }

    fn started(command: Command) -> Operation {
        let mut operation = Operation::new(command.clone());
        assert_eq!(operation.start(), command);
        operation
    }

    #[test]
    fn a_blind_write_is_never_sent_twice() {
        for condition in [Condition::Live, Condition::AbsentOrLive] {
            assert_eq!(started(write(condition)).lost(), Step::Indeterminate);
        }
    }

    #[test]
    fn what_changes_nothing_the_second_time_is_sent_again_a_few_times() {
        for command in [
            delete(),
            Command::Touch(1),
            Command::Read,
            write(Condition::Absent),
            write(Condition::Version(3)),
        ] {
            let mut operation = started(command.clone());
            for _ in 1..ATTEMPTS {
                assert_eq!(operation.lost(), Step::Send(command.clone()));
            }
            let end = if command.is_read() { Step::Failed } else { Step::Indeterminate };
            assert_eq!(operation.lost(), end);
        }
    }

    #[test]
    fn a_conflict_after_a_lost_answer_may_be_with_oneself() {
        let mut operation = started(write(Condition::Version(3)));
        operation.lost();
        assert_eq!(operation.answered(Outcome::Conflict(vec![])), Step::Indeterminate);
        let mut operation = started(write(Condition::Version(3)));
        operation.lost();
        assert_eq!(operation.answered(Outcome::Applied(4)), Step::Done(Outcome::Applied(4)));
        let mut operation = started(write(Condition::Version(3)));
        assert_eq!(operation.answered(Outcome::Deleted), Step::Done(Outcome::Deleted));
    }

    #[test]
    fn nothing_sent_is_nothing_done() {
        assert_eq!(started(delete()).unsent(), Step::Failed);
        let mut operation = started(delete());
        operation.lost();
        assert_eq!(operation.unsent(), Step::Indeterminate);
    }

    #[test]
    fn a_miss_is_looked_at_once_more() {
        for (second, answer) in [
            (Outcome::Absent, Outcome::Absent),
            (Outcome::Deleted, Outcome::Absent),
            (Outcome::WrongType, Outcome::WrongType),
        ] {
            let mut operation = started(Command::Read);
            assert_eq!(operation.answered(Outcome::Absent), Step::Send(Command::Inspect));
            assert_eq!(operation.answered(second), Step::Done(answer));
        }
    }
}
