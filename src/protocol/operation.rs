//! The state machine of one operation of a client.

use std::sync::Arc;

use super::{Command, Condition, Delete, Install, Mode, Outcome};
use crate::{
    record::{Header, Kind},
    topology::Epoch,
};

/// How often a message is sent at most when answers get lost. The deadline usually comes first.
pub(super) const ATTEMPTS: u8 = 4;

/// Drives one [`Command`] until it has an answer: says what to send where, is told what came back.
///
/// Three rules live here. *A lost answer*: a command is sent again only if a second copy changes nothing; and when
/// a later copy finds somebody else's work, nobody can know any more whether the first one happened. *A miss*:
/// a read cannot tell an absent record from a key of another Redis type (`MGET` answers nil for both), so a miss
/// is looked at once more before it is believed. *A moving token*: what the owner has counts; where it has nothing, a
/// read looks at the source, and everything else first carries the record over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operation {
    command: Command,
    since: Sinces,
    at: At,
    attempts: u8,
    /// A copy of the command was sent, and no answer came.
    lost: bool,
}

/// Where an operation stands: which message is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    /// The command itself, at the owner.
    Command(Mode),
    /// Reads: the owner had nothing.
    Source,
    /// Reads: the owner once more, by the script. What the source did not have may have come over meanwhile.
    Again,
    Fetch,
    Install(Arc<Install>),
    Release,
    /// Where the source has a tombstone that forwards: whether its grace lasts. Only the node can say.
    Judge,
    /// A log-out, where the source has garbage. A tombstone at the owner hides it.
    Bury(Delete),
}

/// Since when the nodes of a token have what they hold. A token that has a source is moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Sinces {
    /// The owner.
    pub owner: Epoch,
    /// The node that the token moves away from.
    pub source: Option<Epoch>,
}

impl Sinces {
    /// Those of a tenure.
    pub const fn new(owner: Epoch, source: Option<Epoch>) -> Sinces {
        Sinces { owner, source }
    }
}

/// A node of a tenure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The owner.
    Owner,
    /// The node that the token moves away from.
    Source,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Send {
    /// Where to; the `since` of the scope is the one of this place.
    pub place: Place,
    /// The mode of the scope.
    pub mode: Mode,
    /// What the node is to do.
    pub command: Command,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Send this.
    Send(Send),
    /// This is the answer.
    Done(Outcome),
    /// A write was sent and nobody knows whether it happened.
    Indeterminate,
    /// Nothing happened, and sending again is of no use.
    Failed,
}

impl Send {
    pub(super) fn owner(mode: Mode, command: Command) -> Send {
        Send { place: Place::Owner, mode, command }
    }

    /// At the source every mode means the same.
    pub(super) fn source(command: Command) -> Send {
        Send { place: Place::Source, mode: Mode::Settled, command }
    }
}

impl Operation {
    /// An operation that wants `command` executed: one that reads, or a write, touch or log-out.
    pub fn new(command: Command) -> Operation {
        let since = Sinces::new(Epoch::FIRST, None);
        Operation { command, since, at: At::Command(Mode::Settled), attempts: 0, lost: false }
    }

    /// What to send first under a tenure. Also what to send after a refusal or under a new document: a refused message
    /// has done nothing, so the operation begins again. It keeps what it knows of lost answers.
    pub fn start(&mut self, since: Sinces) -> Send {
        self.since = since;
        let unknown = since.source.is_some() && !self.command.is_read();
        self.go(At::Command(if unknown { Mode::Unchecked } else { Mode::Settled }))
    }

    /// What may be sent together with the first message of an operation that reads: the same to the source of a moving
    /// token, which has the answer if the owner has none. That saves a round trip.
    ///
    /// Whether the source reads before the owner does or after it makes no difference: nobody changes a session at the
    /// source, and it is deleted there only when the owner has it.
    pub fn foresee(&self) -> Option<Send> {
        let first = matches!(self.at, At::Command(_)) && self.command.is_read();
        self.since.source.filter(|_| first).map(|_| Send::source(self.command.clone()))
    }

    /// The source answered what was [foreseen](Operation::foresee), and the owner has answered, too. `None` if that
    /// decides nothing: then the operation goes on as if it had not been sent.
    pub fn foreseen(&mut self, outcome: Outcome) -> Option<Step> {
        let since = self.since.source.filter(|_| self.at == At::Source)?;
        let decides = match &outcome {
            // Of what forwards only a closer look says whether it still does.
            Outcome::Record(bytes) => holds(bytes, since) && !forwards(bytes),
            Outcome::Inspected(..) | Outcome::Visited { .. } | Outcome::Forwarded(_) => true,
            _ => false,
        };
        decides.then(|| self.answered(outcome))
    }

    /// What to send first under a tenure that may be another than the one that the operation began under.
    ///
    /// A create whose answer was lost is not sent again then: a node may have lost its memory in between, and with it
    /// both the first copy and what others have made of it since.
    pub fn restart(&mut self, since: Sinces) -> Step {
        if self.lost && self.creates() && since != self.since {
            return Step::Indeterminate;
        }
        Step::Send(self.start(since))
    }

    /// The node answered.
    pub fn answered(&mut self, outcome: Outcome) -> Step {
        let next = match (&self.at, outcome) {
            (At::Command(_), outcome) if self.command.is_read() => {
                let missed = match &outcome {
                    Outcome::Record(bytes) => !holds(bytes, self.since.owner),
                    outcome => *outcome == Outcome::Absent,
                };
                match (missed, self.since.source) {
                    (true, Some(_)) => At::Source,
                    (true, None) if self.command == Command::Read => At::Again,
                    _ if self.command == Command::Read && outcome.record().is_some_and(forwards) => At::Again,
                    _ => return Step::Done(outcome),
                }
            }
            (At::Source, Outcome::Absent) => At::Again,
            (At::Command(Mode::Unchecked), Outcome::Absent) => At::Fetch,
            (At::Command(Mode::Unchecked), Outcome::Pending) => At::Release,
            (At::Fetch, Outcome::Fetched { record, deadline }) => {
                let for_logout = matches!(self.command, Command::Delete(_));
                match Install::new(record.clone(), deadline, for_logout) {
                    // Nobody else can have had a record at the owner: as long as this is here, nothing is put there but
                    // its copy.
                    Ok(install) if install.header.kind == Kind::Tombstone => match &self.command {
                        Command::Forward(forward) if forward.operation == install.header.operation => {
                            return self.finish(Outcome::Applied(install.header.version));
                        }
                        _ if install.header.forward && !self.creates() => At::Judge,
                        _ => return self.finish(Outcome::Deleted),
                    },
                    Ok(install) => At::Install(install.into()),
                    Err(_) => return self.finish(Outcome::Unexpected(record)),
                }
            }
            (At::Judge, outcome @ Outcome::Forwarded(_)) => return self.finish(outcome),
            (At::Judge, _) => return self.finish(Outcome::Deleted),
            (At::Fetch, Outcome::Absent) => At::Command(Mode::Checked),
            (At::Fetch, outcome @ (Outcome::Unexpected(_) | Outcome::WrongType)) => match &self.command {
                Command::Delete(delete) => At::Bury(Delete { upsertable: true, ..delete.clone() }),
                _ => return self.finish(outcome),
            },
            // Whoever put it, and even if it has expired meanwhile: the owner knows now what there is to know.
            (At::Install(_), Outcome::Applied(_) | Outcome::Exists | Outcome::Absent) => At::Release,
            // The source holds no live copy: it never did, or does not now. Garbage is none either.
            (
                At::Release,
                Outcome::Applied(_)
                | Outcome::Deleted
                | Outcome::Absent
                | Outcome::Unexpected(_)
                | Outcome::WrongType,
            ) => At::Command(Mode::Checked),
            (_, outcome) => return self.finish(outcome),
        };
        Step::Send(self.go(next))
    }

    /// The message was sent, and no answer will come.
    pub fn lost(&mut self) -> Step {
        // What carries the record over does nothing of what the caller asked for.
        self.lost |= matches!(self.at, At::Command(_) | At::Bury(_));
        let message = self.message();
        if message.command.is_idempotent() && self.attempts < ATTEMPTS {
            self.attempts += 1;
            Step::Send(message)
        } else {
            self.unsent()
        }
    }

    /// The message could not be sent, or there is no time left to send it again.
    pub fn unsent(&self) -> Step {
        if self.lost && !self.command.is_read() { Step::Indeterminate } else { Step::Failed }
    }

    fn go(&mut self, at: At) -> Send {
        self.at = at;
        self.attempts = 1;
        self.message()
    }

    fn message(&self) -> Send {
        match &self.at {
            At::Command(mode) => Send::owner(*mode, self.command.clone()),
            At::Source => Send::source(self.look()),
            At::Again => Send::owner(Mode::Settled, self.look()),
            At::Fetch => Send::source(Command::Fetch),
            At::Judge => Send::source(Command::Recheck),
            At::Install(install) => Send::owner(Mode::Settled, Command::Install(install.clone())),
            At::Release => Send::source(Command::Release),
            At::Bury(delete) => Send::owner(Mode::Checked, Command::Delete(delete.clone())),
        }
    }

    /// The command of one that reads, where a miss is to be believed.
    fn look(&self) -> Command {
        match &self.command {
            Command::Read => Command::Recheck,
            command => command.clone(),
        }
    }

    fn creates(&self) -> bool {
        matches!(&self.command, Command::Write(write) if write.condition.creates())
    }

    fn finish(&self, outcome: Outcome) -> Step {
        let Command::Write(write) = &self.command else { return Step::Done(outcome) };
        if !self.lost {
            return Step::Done(outcome);
        }
        match (write.condition, outcome) {
            // Was it the first copy that the others have built upon, or did it never arrive?
            (
                Condition::Version(_),
                Outcome::Conflict(_) | Outcome::Deleted | Outcome::Forwarded(_) | Outcome::Absent,
            ) => Step::Indeterminate,
            (condition, Outcome::Exists | Outcome::Deleted) if condition.creates() => Step::Indeterminate,
            (_, outcome) => Step::Done(outcome),
        }
    }
}

/// Whether there is anything under this tenure: a record that is valid, or bytes that are no record at all.
fn holds(bytes: &[u8], since: Epoch) -> bool {
    !bytes.is_empty() && Header::decode(bytes).map_or(true, |header| header.stamp >= since)
}

/// Whether this is a tombstone that forwards, or did once.
fn forwards(bytes: &[u8]) -> bool {
    Header::decode(bytes).is_ok_and(|header| header.forward)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        protocol::{Forward, Write},
        record::CodecId,
    };

    const STABLE: Sinces = Sinces::new(Epoch::new(3), None);
    const MOVING: Sinces = Sinces::new(Epoch::new(5), Some(Epoch::new(3)));
    const DONE: Outcome = Outcome::Applied(9);

    fn write(condition: Condition) -> Command {
        Command::from(Write {
            condition,
            idle: 1,
            absolute: 1,
            codec: CodecId::JSON,
            schema: 0,
            seal: 0,
            operation: 7,
            payload: Bytes::new(),
        })
    }

    fn delete() -> Command {
        Command::Delete(Delete { floor: 1, absolute: 1, upsertable: false, operation: 7 })
    }

    /// A stored record of this epoch.
    fn record(kind: Kind, stamp: u64) -> Bytes {
        let header = Header {
            kind,
            pending: false,
            forward: false,
            codec: CodecId::JSON,
            schema: 0,
            seal: 0,
            stamp: Epoch::new(stamp),
            operation: 1,
            version: 2,
            max_deadline: 100,
        };
        Bytes::copy_from_slice(&header.encode())
    }

    fn fetched(kind: Kind) -> Outcome {
        Outcome::Fetched { record: record(kind, 3), deadline: 50 }
    }

    fn installing(for_logout: bool) -> Step {
        let install = Install::new(record(Kind::Live, 3), 50, for_logout).unwrap();
        to_owner(Mode::Settled, Command::from(install))
    }

    fn to_owner(mode: Mode, command: Command) -> Step {
        Step::Send(Send::owner(mode, command))
    }

    fn to_source(command: Command) -> Step {
        Step::Send(Send::source(command))
    }

    fn started(since: Sinces, command: Command) -> Operation {
        let mut operation = Operation::new(command.clone());
        let mode = match since.source {
            Some(_) if !command.is_read() => Mode::Unchecked,
            _ => Mode::Settled,
        };
        assert_eq!(operation.start(since), Send::owner(mode, command));
        operation
    }

    /// An operation under a moving token, after these answers.
    fn after(command: Command, answers: impl IntoIterator<Item = Outcome>) -> Operation {
        let mut operation = started(MOVING, command);
        for answer in answers {
            let step = operation.answered(answer);
            assert!(matches!(step, Step::Send(_)), "{step:?}");
        }
        operation
    }

    fn changes() -> Vec<Command> {
        vec![
            delete(),
            Command::Touch(1),
            write(Condition::Absent),
            write(Condition::Live),
            write(Condition::AbsentOrLive),
            write(Condition::Version(3)),
        ]
    }

    #[test]
    fn a_reader_may_ask_both_nodes_of_a_moving_token_at_once() {
        let live = || Outcome::Record(record(Kind::Live, 3));
        let at_source = |outcome| after(Command::Read, [Outcome::Absent]).foreseen(outcome);
        assert_eq!(started(MOVING, Command::Read).foresee(), Some(Send::source(Command::Read)));
        assert_eq!(at_source(live()), Some(Step::Done(live())));
        let tombstone = Outcome::Record(record(Kind::Tombstone, 3));
        assert_eq!(at_source(tombstone.clone()), Some(Step::Done(tombstone)));
        // What is no record is looked at more closely, and a miss may be one because the session has just come over.
        for outcome in [Outcome::Absent, Outcome::Record(record(Kind::Live, 2)), Outcome::WrongType] {
            assert_eq!(at_source(outcome), None);
        }
        let left = Outcome::Inspected(Header::decode(&record(Kind::Live, 3)).unwrap().into(), 9);
        let decided = after(Command::Inspect, [Outcome::Absent]).foreseen(left.clone());
        assert_eq!(decided, Some(Step::Done(left)));
        let visited = Outcome::Visited { record: record(Kind::Live, 3), deadline: 50, left: 9 };
        let decided = after(Command::Visit, [Outcome::Absent]).foreseen(visited.clone());
        assert_eq!(decided, Some(Step::Done(visited)));
        // Only the first message has company, and only the answer to it matters afterwards.
        assert_eq!(started(STABLE, Command::Read).foresee(), None);
        assert_eq!(started(MOVING, delete()).foresee(), None);
        assert_eq!(after(Command::Read, [Outcome::Absent]).foresee(), None);
        assert_eq!(started(MOVING, Command::Read).foreseen(live()), None);
        assert_eq!(after(Command::Read, [Outcome::Absent, Outcome::Absent]).foreseen(live()), None);
    }

    #[test]
    fn a_blind_write_is_never_sent_twice() {
        for condition in [Condition::Live, Condition::AbsentOrLive] {
            assert_eq!(started(STABLE, write(condition)).lost(), Step::Indeterminate);
            assert_eq!(started(MOVING, write(condition)).lost(), Step::Indeterminate);
            let answers = [Outcome::Pending, Outcome::Absent];
            assert_eq!(after(write(condition), answers).lost(), Step::Indeterminate);
            assert_eq!(
                after(write(condition), [Outcome::Absent, Outcome::Absent]).lost(),
                Step::Indeterminate
            );
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
            let mut operation = started(STABLE, command.clone());
            for _ in 1..ATTEMPTS {
                assert_eq!(operation.lost(), to_owner(Mode::Settled, command.clone()));
            }
            let end = if command.is_read() { Step::Failed } else { Step::Indeterminate };
            assert_eq!(operation.lost(), end);
        }
    }

    #[test]
    fn what_carries_the_record_over_is_sent_again_and_is_not_the_command() {
        for command in changes() {
            for answers in [
                vec![Outcome::Absent],
                vec![Outcome::Absent, fetched(Kind::Live)],
                vec![Outcome::Absent, fetched(Kind::Live), DONE],
                vec![Outcome::Pending],
            ] {
                let mut operation = after(command.clone(), answers);
                let message = Step::Send(operation.message());
                for _ in 1..ATTEMPTS {
                    assert_eq!(operation.lost(), message);
                }
                assert_eq!(operation.lost(), Step::Failed);
            }
        }
        let mut operation = started(MOVING, write(Condition::Absent));
        operation.lost();
        operation.answered(Outcome::Absent);
        assert_eq!(operation.unsent(), Step::Indeterminate, "an earlier copy may have happened");
    }

    #[test]
    fn a_conflict_after_a_lost_answer_may_be_with_oneself() {
        let mut operation = started(STABLE, write(Condition::Version(3)));
        operation.lost();
        assert_eq!(operation.answered(Outcome::Conflict(Bytes::new())), Step::Indeterminate);
        let mut operation = started(STABLE, write(Condition::Version(3)));
        operation.lost();
        assert_eq!(operation.answered(DONE), Step::Done(DONE));
        let mut operation = started(STABLE, write(Condition::Version(3)));
        assert_eq!(operation.answered(Outcome::Deleted), Step::Done(Outcome::Deleted));
    }

    #[test]
    fn what_was_lost_is_not_forgotten_under_another_document() {
        let mut operation = started(STABLE, write(Condition::Version(3)));
        operation.lost();
        operation.start(MOVING);
        assert_eq!(operation.answered(Outcome::Absent), to_source(Command::Fetch));
        assert_eq!(operation.answered(fetched(Kind::Tombstone)), Step::Indeterminate);
    }

    #[test]
    fn nothing_sent_is_nothing_done() {
        assert_eq!(started(STABLE, delete()).unsent(), Step::Failed);
        let mut operation = started(STABLE, delete());
        operation.lost();
        assert_eq!(operation.unsent(), Step::Indeterminate);
    }

    #[test]
    fn a_miss_is_looked_at_once_more() {
        let stale = Outcome::Record(record(Kind::Live, 2));
        for miss in [Outcome::Absent, Outcome::Record(Bytes::new()), stale] {
            for answer in [
                Outcome::Absent,
                Outcome::WrongType,
                Outcome::Record(record(Kind::Live, 3)),
                Outcome::Unexpected(Bytes::from_static(&[7])),
            ] {
                let mut operation = started(STABLE, Command::Read);
                assert_eq!(operation.answered(miss.clone()), to_owner(Mode::Settled, Command::Recheck));
                assert_eq!(operation.answered(answer.clone()), Step::Done(answer));
            }
        }
        let found = [record(Kind::Live, 3), record(Kind::Tombstone, 4), Bytes::from_static(b"garbage")];
        for found in found.map(Outcome::Record) {
            let mut operation = started(STABLE, Command::Read);
            assert_eq!(operation.answered(found.clone()), Step::Done(found));
        }
        let mut operation = started(STABLE, Command::Inspect);
        assert_eq!(operation.answered(Outcome::Absent), Step::Done(Outcome::Absent));
    }

    #[test]
    fn a_read_looks_at_the_owner_the_source_and_the_owner() {
        let stale = Outcome::Record(record(Kind::Live, 4));
        for (command, miss, look) in [
            (Command::Read, Outcome::Absent, Command::Recheck),
            (Command::Read, stale, Command::Recheck),
            (Command::Inspect, Outcome::Absent, Command::Inspect),
            (Command::Visit, Outcome::Absent, Command::Visit),
        ] {
            let found = Outcome::Record(record(Kind::Tombstone, 5));
            let mut operation = started(MOVING, command.clone());
            assert_eq!(operation.answered(found.clone()), Step::Done(found.clone()));
            for found in [found, Outcome::Deleted, Outcome::WrongType] {
                let mut operation = started(MOVING, command.clone());
                assert_eq!(operation.answered(miss.clone()), to_source(look.clone()));
                assert_eq!(operation.answered(found.clone()), Step::Done(found));
            }
            for last in [Outcome::Absent, Outcome::Record(record(Kind::Live, 5)), Outcome::WrongType] {
                let mut operation = started(MOVING, command.clone());
                operation.answered(miss.clone());
                assert_eq!(operation.answered(Outcome::Absent), to_owner(Mode::Settled, look.clone()));
                assert_eq!(operation.answered(last.clone()), Step::Done(last));
            }
        }
    }

    #[test]
    fn what_the_owner_can_answer_takes_one_round_trip() {
        for command in changes() {
            for answer in [DONE, Outcome::Deleted, Outcome::Exists, Outcome::Conflict(Bytes::new())] {
                let mut operation = started(MOVING, command.clone());
                assert_eq!(operation.answered(answer.clone()), Step::Done(answer));
            }
        }
    }

    #[test]
    fn a_live_record_is_carried_over_released_and_then_changed() {
        for command in changes() {
            let for_logout = matches!(command, Command::Delete(_));
            for installed in [DONE, Outcome::Exists, Outcome::Absent] {
                for released in [DONE, Outcome::Absent, Outcome::Deleted] {
                    let mut operation = started(MOVING, command.clone());
                    assert_eq!(operation.answered(Outcome::Absent), to_source(Command::Fetch));
                    let step = operation.answered(fetched(Kind::Live));
                    assert_eq!(step, installing(for_logout));
                    assert_eq!(operation.answered(installed.clone()), to_source(Command::Release));
                    assert_eq!(operation.answered(released), to_owner(Mode::Checked, command.clone()));
                    assert_eq!(operation.answered(Outcome::Absent), Step::Done(Outcome::Absent));
                }
            }
        }
    }

    #[test]
    fn a_tombstone_at_the_source_is_the_answer() {
        for command in changes() {
            let mut operation = after(command.clone(), [Outcome::Absent]);
            let step = operation.answered(fetched(Kind::Tombstone));
            assert_eq!(step, Step::Done(Outcome::Deleted));
        }
    }

    /// A stored tombstone that forwards.
    fn forwarding(operation: u64) -> Bytes {
        let header = Header::decode(&record(Kind::Tombstone, 5)).unwrap();
        [&Header { forward: true, operation, ..header }.encode()[..], &[0xff; 30]].concat().into()
    }

    fn forward(operation: u64) -> Command {
        let successor = Bytes::from_static(&[9; 24]);
        Command::from(Forward { expected: 3, grace: 1, floor: 1, seal: 0, operation, successor })
    }

    /// Only the node's clock says whether it still does.
    #[test]
    fn a_read_of_what_forwards_is_looked_at_once_more() {
        let found = || Outcome::Record(forwarding(1));
        for since in [STABLE, MOVING] {
            for answer in [Outcome::Forwarded(forwarding(1)), found()] {
                let mut operation = started(since, Command::Read);
                assert_eq!(operation.answered(found()), to_owner(Mode::Settled, Command::Recheck));
                assert_eq!(operation.answered(answer.clone()), Step::Done(answer));
            }
        }
        // The same at the source.
        let mut operation = after(Command::Read, [Outcome::Absent]);
        assert_eq!(operation.foreseen(found()), None);
        assert_eq!(operation.answered(found()), Step::Done(found()), "to a recheck it is the answer");
        let forwarded = Outcome::Forwarded(forwarding(1));
        for command in [Command::Inspect, Command::Visit] {
            let decided = after(command.clone(), [Outcome::Absent]).foreseen(forwarded.clone());
            assert_eq!(decided, Some(Step::Done(forwarded.clone())));
            assert_eq!(started(STABLE, command).answered(forwarded.clone()), Step::Done(forwarded.clone()));
        }
    }

    #[test]
    fn where_the_source_has_what_forwards_the_source_is_asked_whether_it_does() {
        let fetched = || Outcome::Fetched { record: forwarding(1), deadline: 50 };
        let successor = write(Condition::Successor { version: 3, max_deadline: 9 });
        for command in changes().into_iter().chain([forward(7), successor]) {
            let mut operation = after(command.clone(), [Outcome::Absent]);
            let creates = matches!(&command, Command::Write(write) if write.condition.creates());
            if creates {
                assert_eq!(operation.answered(fetched()), Step::Done(Outcome::Deleted));
                continue;
            }
            assert_eq!(operation.answered(fetched()), to_source(Command::Recheck));
            let mut late = operation.clone();
            assert_eq!(operation.lost(), to_source(Command::Recheck));
            let forwarded = Outcome::Forwarded(forwarding(1));
            assert_eq!(operation.answered(forwarded.clone()), Step::Done(forwarded));
            assert_eq!(late.answered(Outcome::Record(forwarding(1))), Step::Done(Outcome::Deleted));
        }
        // It is this very one, whose answer was lost before the token began to move.
        let fetched = Outcome::Fetched { record: forwarding(7), deadline: 50 };
        assert_eq!(after(forward(7), [Outcome::Absent]).answered(fetched), Step::Done(Outcome::Applied(2)));
    }

    #[test]
    fn a_lost_forward_is_sent_again_and_any_answer_is_certain() {
        for answer in [
            DONE,
            Outcome::Conflict(Bytes::new()),
            Outcome::Deleted,
            Outcome::Absent,
            Outcome::Forwarded(forwarding(1)),
        ] {
            let mut operation = started(STABLE, forward(7));
            assert_eq!(operation.lost(), to_owner(Mode::Settled, forward(7)));
            assert_eq!(operation.answered(answer.clone()), Step::Done(answer));
        }
        // A save cannot tell: it may be what was copied.
        let mut operation = started(STABLE, write(Condition::Version(3)));
        operation.lost();
        assert_eq!(operation.answered(Outcome::Forwarded(forwarding(1))), Step::Indeterminate);
        let successor = || write(Condition::Successor { version: 3, max_deadline: 9 });
        for answer in [Outcome::Exists, Outcome::Deleted] {
            let mut operation = started(STABLE, successor());
            operation.lost();
            assert_eq!(operation.answered(answer), Step::Indeterminate);
        }
        let mut operation = started(STABLE, successor());
        operation.lost();
        assert_eq!(
            operation.restart(MOVING),
            Step::Indeterminate,
            "a node may have lost its memory in between"
        );
    }

    #[test]
    fn where_nothing_is_to_be_carried_over_the_owner_decides() {
        for command in changes() {
            let mut operation = after(command.clone(), [Outcome::Absent]);
            assert_eq!(operation.answered(Outcome::Absent), to_owner(Mode::Checked, command.clone()));
            assert_eq!(operation.answered(DONE), Step::Done(DONE));
            let mut operation = started(MOVING, command.clone());
            assert_eq!(operation.answered(Outcome::Pending), to_source(Command::Release));
            assert_eq!(operation.answered(DONE), to_owner(Mode::Checked, command));
        }
    }

    #[test]
    fn garbage_stops_everything_but_a_log_out() {
        for garbage in [Outcome::Unexpected(Bytes::from_static(&[7])), Outcome::WrongType] {
            for command in changes() {
                let mut release = after(command.clone(), [Outcome::Pending]);
                assert_eq!(release.answered(garbage.clone()), to_owner(Mode::Checked, command.clone()));
                let mut fetch = after(command.clone(), [Outcome::Absent]);
                let Command::Delete(delete) = &command else {
                    assert_eq!(fetch.answered(garbage.clone()), Step::Done(garbage.clone()));
                    let mut install = after(command.clone(), [Outcome::Absent, fetched(Kind::Live)]);
                    assert_eq!(install.answered(garbage.clone()), Step::Done(garbage.clone()));
                    continue;
                };
                let bury = Command::Delete(Delete { upsertable: true, ..delete.clone() });
                assert_eq!(fetch.answered(garbage.clone()), to_owner(Mode::Checked, bury));
                assert_eq!(fetch.answered(DONE), Step::Done(DONE));
            }
        }
    }
}
