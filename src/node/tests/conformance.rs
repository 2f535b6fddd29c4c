//! One suite for both kinds of node: the same sequences of operations give the same answers, in memory (which runs
//! `protocol::apply`) and on a real server (which runs `batch.lua`), expiry and garbage included.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use proptest::prelude::*;
use sessionring_testkit::{RedisServer, Reply};

use super::*;
use crate::{
    protocol::{Forward, Install, Outcome},
    record::{Header, Key, Kind, Record},
};

const KEYS: u8 = 3;
/// Short enough to wait for.
const SHORT: u64 = 8;

#[derive(Debug, Clone)]
enum Action {
    Read,
    Recheck,
    Inspect,
    Write {
        how: How,
        operation: u64,
        idle: u64,
        absolute: u64,
        payload: Vec<u8>,
    },
    Touch {
        idle: u64,
    },
    Delete {
        floor: u64,
        absolute: u64,
        upsertable: bool,
    },
    Forward {
        /// The version seen last, plus this.
        off: u64,
        operation: u64,
        grace: u64,
        floor: u64,
    },
    Visit,
    Fetch,
    Install {
        copy: Copy,
        until: Until,
        for_logout: bool,
    },
    Release,
    Erase,
    /// Somebody else writes this under our key.
    Garbage(Vec<u8>),
}

/// What is installed.
#[derive(Debug, Clone)]
enum Copy {
    /// What was fetched last from this key, if anything was.
    Fetched,
    Made(Vec<u8>),
}

/// How long an installed copy lives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Until {
    Hour,
    Soon,
    Passed,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Create,
    Set,
    Upsert,
    /// The version seen last, plus this.
    CompareAndSet(u64),
    /// With this version, and until then.
    Successor(u64, Until),
}

fn action() -> impl Strategy<Value = Action> {
    let time = || prop_oneof![8 => Just(HOUR), 1 => Just(SHORT)];
    let until = || prop_oneof![8 => Just(Until::Hour), 1 => Just(Until::Soon), 2 => Just(Until::Passed)];
    let version = prop_oneof![0..9u64, Just((1 << 53) - 1)];
    let how = prop_oneof![
        Just(How::Create),
        Just(How::Set),
        Just(How::Upsert),
        (0..2u64).prop_map(How::CompareAndSet),
        (version, until()).prop_map(|(version, until)| How::Successor(version, until)),
    ];
    // Long ones are stored in another way.
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 2000..2060usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    // Few operation numbers, so that copies of a write happen.
    let write =
        (how, 0..6u64, time(), time(), payload).prop_map(|(how, operation, idle, absolute, payload)| {
            Action::Write { how, operation, idle, absolute, payload }
        });
    let garbage = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..80),
        // Almost a record.
        1 => (prop::collection::vec(any::<u8>(), 33..60), 0..3u8, 0..4usize, 0..2u8).prop_map(
            |(mut bytes, format, kind, flags)| {
                bytes.splice(..3, [format, b"LTMx"[kind], flags]);
                bytes
            }
        ),
        3 => record(),
        2 => forward(),
    ];
    let copy = prop_oneof![
        2 => Just(Copy::Fetched),
        2 => record().prop_map(Copy::Made),
        1 => forward().prop_map(Copy::Made)
    ];
    let install = (copy, until(), any::<bool>()).prop_map(|(copy, until, for_logout)| Action::Install {
        copy,
        until,
        for_logout,
    });
    prop_oneof![
        3 => Just(Action::Read),
        2 => Just(Action::Inspect),
        8 => write,
        2 => time().prop_map(|idle| Action::Touch { idle }),
        2 => (time(), time(), any::<bool>())
            .prop_map(|(floor, absolute, upsertable)| Action::Delete { floor, absolute, upsertable }),
        4 => (prop_oneof![6 => Just(0), 1 => Just(1)], 0..6u64, prop_oneof![1 => Just(0), 3 => time()], time())
            .prop_map(|(off, operation, grace, floor)| Action::Forward { off, operation, grace, floor }),
        2 => Just(Action::Recheck),
        2 => Just(Action::Visit),
        2 => Just(Action::Fetch),
        4 => install,
        2 => Just(Action::Release),
        1 => Just(Action::Erase),
        3 => garbage.prop_map(Action::Garbage),
    ]
}

/// A record that is whole, of the epoch or one beside it, maybe PENDING; it may have ended long ago or live for ever, or
/// stand at the last version there is.
fn record() -> impl Strategy<Value = Vec<u8>> {
    (
        prop_oneof![0..2u64, any::<u64>().prop_map(|n| n >> 10), (1 << 53) - 3..(1u64 << 53) + 3],
        prop_oneof![1 => 0..3u64, 3 => any::<u64>().prop_map(|n| n >> 16 | 1 << 42)],
        prop::sample::select(vec![Kind::Live, Kind::Live, Kind::Tombstone]),
        any::<bool>(),
        EPOCH.get() - 1..=EPOCH.get() + 1,
        0..6u64,
    )
        .prop_map(|(version, max_deadline, kind, pending, stamp, operation)| {
            let whole = super::write(Condition::Live, operation, b"").header(
                version,
                max_deadline,
                Epoch::new(stamp),
            );
            Header { kind, pending, ..whole }.encode().to_vec()
        })
}

/// A tombstone that says, or should say, where the session goes on: for long yet, or no longer.
fn forward() -> impl Strategy<Value = Vec<u8>> {
    let until = prop_oneof![Just(1 << 42), any::<u64>().prop_map(|n| n >> 16)];
    (record(), until, 0..40usize).prop_map(|(mut record, until, len)| {
        record[1..3].copy_from_slice(b"T\x02");
        record.extend_from_slice(&until.to_be_bytes()[2..]);
        record.extend_from_slice(&[7; 33]);
        record.truncate(Header::LEN + len);
        record
    })
}

/// Most operations find every record valid; for the others those of an epoch or two are leftovers.
fn scope() -> impl Strategy<Value = Scope> {
    let since = prop_oneof![4 => Just(1), 2 => Just(EPOCH.get()), 1 => Just(EPOCH.get() + 1)];
    let mode = prop::sample::select(vec![Mode::Settled, Mode::Unchecked, Mode::Checked]);
    (since, mode).prop_map(|(since, mode)| Scope::new(Epoch::new(since), mode))
}

/// Writes under a key as somebody else would.
type Store = Box<dyn Fn(Key, &[u8])>;

/// One kind of node, and what makes its answers comparable with the other's.
struct Side {
    node: TestNode,
    /// The version that each key was born with, which is the node's time then, and its newest one.
    life: HashMap<u8, (u64, u64)>,
    last: HashMap<u8, u64>,
    fetched: HashMap<u8, Vec<u8>>,
    store: Store,
}

impl Side {
    async fn run(&mut self, at: u64, scope: Scope, key: u8, action: &Action) -> String {
        let command = match action.clone() {
            Action::Read => Command::Read,
            Action::Recheck => Command::Recheck,
            Action::Visit => Command::Visit,
            Action::Fetch => Command::Fetch,
            Action::Release => Command::Release,
            Action::Erase => Command::Erase,
            Action::Install { copy, until, for_logout } => {
                let made = match copy {
                    Copy::Fetched => self.fetched.get(&key).cloned(),
                    Copy::Made(record) => Some(record),
                };
                match made.map(|record| Install::new(record.into(), until.time(at), for_logout)) {
                    Some(Ok(install)) => Command::from(install),
                    _ => return "nothing to install".into(),
                }
            }
            Action::Inspect => Command::Inspect,
            Action::Forward { off, operation, grace, floor } => Command::from(Forward {
                expected: self.last.get(&key).copied().unwrap_or(7) + off,
                grace,
                floor,
                seal: 5,
                operation,
                successor: vec![9; 24].into(),
            }),
            Action::Touch { idle } => Command::Touch(idle),
            Action::Delete { floor, absolute, upsertable } => {
                Command::Delete(Delete { floor, absolute, upsertable, ..super::delete(99) })
            }
            Action::Write { how, operation, idle, absolute, payload } => {
                let condition = match how {
                    How::Create => Condition::Absent,
                    How::Set => Condition::Live,
                    How::Upsert => Condition::AbsentOrLive,
                    How::CompareAndSet(off) => {
                        Condition::Version(self.last.get(&key).copied().unwrap_or(7) + off)
                    }
                    How::Successor(version, until) => {
                        Condition::Successor { version, max_deadline: until.time(at) }
                    }
                };
                Command::from(Write { idle, absolute, ..super::write(condition, operation, &payload) })
            }
            Action::Garbage(bytes) => {
                (self.store)(self.node.key(key), &bytes);
                self.life.remove(&key);
                return "stored".into();
            }
        };
        let outcome = self.node.run_under(scope, key, command).await.unwrap();
        self.describe(key, outcome)
    }

    /// The outcome, with times counted from the birth of the record.
    fn describe(&mut self, key: u8, outcome: Outcome) -> String {
        match outcome {
            Outcome::Applied(version) => {
                self.last.insert(key, version);
                format!("applied {}", self.age(key, version))
            }
            Outcome::Record(bytes) => self.describe_bytes(key, &bytes, "record"),
            Outcome::Conflict(bytes) => self.describe_bytes(key, &bytes, "conflict"),
            Outcome::Forwarded(bytes) => self.describe_bytes(key, &bytes, "forwarded"),
            Outcome::Fetched { record, deadline } => {
                // As with an inspection.
                let minutes = (deadline.saturating_sub(now()) + 30_000) / 60_000;
                let described = self.describe_bytes(key, &record, "fetched");
                self.fetched.insert(key, record.into());
                format!("{described} for {minutes} min")
            }
            Outcome::Visited { record, deadline, left } => {
                let minutes = |left: u64| (left + 30_000) / 60_000;
                assert_eq!(minutes(deadline.saturating_sub(now())), minutes(left));
                format!("{} for {} min", self.describe_bytes(key, &record, "visited"), minutes(left))
            }
            Outcome::Inspected(header, remaining) => {
                // Both were asked within half a minute.
                format!(
                    "{} with {} min left",
                    self.describe_header(key, *header),
                    (remaining + 30_000) / 60_000
                )
            }
            outcome => format!("{outcome:?}"),
        }
    }

    fn describe_bytes(&mut self, key: u8, bytes: &[u8], what: &str) -> String {
        match Record::decode(bytes) {
            Ok(record) => {
                self.last.insert(key, record.header.version);
                let header = self.describe_header(key, record.header);
                let Some((until, successor)) = record.forward() else {
                    return format!("{what} {header} {:?}", record.payload);
                };
                let minutes = (until.saturating_sub(now()) + 30_000) / 60_000;
                format!("{what} {header} for {minutes} min to {successor:?}")
            }
            Err(error) => format!("{what} {error} {bytes:?}"),
        }
    }

    fn describe_header(&mut self, key: u8, header: Header) -> String {
        let version = self.age(key, header.version);
        let life = match version == header.version {
            // It was not born here: its end has nothing to do with who was.
            true => (header.max_deadline.saturating_sub(now()) + 30_000) / 60_000,
            false => header.max_deadline.saturating_sub(self.life.get(&key).map_or(0, |life| life.0)),
        };
        let header = Header { version: 0, max_deadline: 0, ..header };
        // Births are milliseconds apart on the two sides.
        format!("{header:?} version {version} life {}", if life > 1 << 40 { 0 } else { life })
    }

    /// A version that is a time of day belongs to a life: it is counted from the birth of the record. Within a life
    /// versions go up by one; the next life begins later than any of those.
    fn age(&mut self, key: u8, version: u64) -> u64 {
        if !(1_700_000_000_000..3_000_000_000_000).contains(&version) {
            return version;
        }
        let (born, newest) = self.life.get(&key).copied().unwrap_or((version, version));
        let (born, newest) = if (born..=newest + 1).contains(&version) {
            (born, newest.max(version))
        } else {
            (version, version)
        };
        self.life.insert(key, (born, newest));
        version - born
    }
}

impl Until {
    fn time(self, at: u64) -> u64 {
        match self {
            Until::Hour => at + HOUR,
            Until::Soon => at + SHORT,
            Until::Passed => at - HOUR,
        }
    }
}

fn short(action: &Action) -> bool {
    match action {
        Action::Write { how: How::Successor(_, Until::Soon), .. } => true,
        Action::Forward { grace, floor, .. } => *grace == SHORT || *floor == SHORT,
        Action::Write { idle, absolute, .. } => *idle == SHORT || *absolute == SHORT,
        Action::Touch { idle } => *idle == SHORT,
        Action::Delete { floor, absolute, .. } => *floor == SHORT || *absolute == SHORT,
        Action::Install { until, .. } => *until == Until::Soon,
        _ => false,
    }
}

/// Whether a life may begin where another one was a moment ago.
fn begins_anew(scope: Scope, action: &Action) -> bool {
    scope.since > Epoch::FIRST || matches!(action, Action::Install { .. } | Action::Release | Action::Erase)
}

/// The tick after which everything short has expired on both sides.
async fn let_short_lives_end() {
    tokio::time::sleep(Duration::from_millis(SHORT + 22)).await;
}

/// The clock of both sides.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

async fn compare(server: &RedisServer, actions: Vec<(Scope, u8, Action)>) -> Result<(), TestCaseError> {
    static CASE: AtomicU32 = AtomicU32::new(0);
    let ring = format!("case-{}", CASE.fetch_add(1, Relaxed));
    let memory = MemoryServer::named(&ring);
    let client = std::cell::RefCell::new(server.client().unwrap());
    let mut sides = [
        Side {
            node: TestNode::connect(&ring, &format!("memory:{ring}"), Limits::default()).await,
            life: HashMap::new(),
            last: HashMap::new(),
            fetched: HashMap::new(),
            store: Box::new(move |key, bytes| memory.store(key, bytes)),
        },
        Side {
            node: TestNode::connect(&ring, &server.address(), Limits::default()).await,
            life: HashMap::new(),
            last: HashMap::new(),
            fetched: HashMap::new(),
            store: Box::new(move |key, bytes| {
                let command: [&[u8]; 5] = [b"SET", key.as_bytes(), bytes, b"PX", b"7200000"];
                client.borrow_mut().command(&command).unwrap().ok().unwrap();
            }),
        },
    ];
    for (done, (scope, key, action)) in actions.into_iter().enumerate() {
        if begins_anew(scope, &action) {
            // Each write before may have taken one millisecond ahead as its version.
            tokio::time::sleep(Duration::from_millis(done as u64 + 2)).await;
        }
        let [memory, redis] = &mut sides;
        let begin = Instant::now();
        let at = now();
        let memory = memory.run(at, scope, key, &action).await;
        let redis = redis.run(at, scope, key, &action).await;
        if short(&action) && begin.elapsed() >= Duration::from_millis(SHORT) {
            // One side may have looked before what is short had ended, and the other one after.
            return Err(TestCaseError::reject("the machine was too busy to compare anything so short"));
        }
        prop_assert_eq!(
            memory,
            redis,
            "memory left, server right, after {:?}, {:?} on key {}",
            scope,
            action,
            key
        );
        if short(&action) {
            let_short_lives_end().await;
        }
    }
    Ok(())
}

#[test]
fn both_kinds_of_node_give_the_same_answers() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = ProptestConfig::with_cases(64);
    config.source_file = Some(file!());
    proptest!(config, |(actions in prop::collection::vec((scope(), 0..KEYS, action()), 1..40))| {
        runtime.block_on(compare(&server, actions))?;
    });
}

/// A log-out's tombstone outlives the record that it buries, but not a leftover that happens to stand there. Too rare to
/// be left to chance.
#[test]
fn a_leftover_lends_its_life_to_no_tombstone() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let leftover = super::write(Condition::Live, 1, b"").header(7, 1 << 42, Epoch::new(EPOCH.get() - 1));
    let delete = Action::Delete { floor: HOUR, absolute: HOUR, upsertable: true };
    let scope = Scope::new(EPOCH, Mode::Checked);
    let actions = [Action::Garbage(leftover.encode().to_vec()), delete, Action::Fetch];
    let actions = actions.map(|action| (scope, 1, action)).to_vec();
    runtime.block_on(compare(&server, actions)).unwrap();
}

/// What only a real server can hold: other types, and keys without an expiry.
#[tokio::test]
async fn a_key_of_another_type_gives_way_to_a_log_out_only() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let node = TestNode::connect("types", &server.address(), Limits::default()).await;
    let mut client = server.client().unwrap();
    let mut plant = |key: u8| {
        let key = node.key(key);
        client.command(&[&b"LPUSH"[..], key.as_bytes(), b"x"]).unwrap();
    };
    let record = super::write(Condition::Live, 1, b"").header(7, 1 << 42, EPOCH).encode().to_vec();
    let install =
        |for_logout| Command::from(Install::new(record.clone().into(), now() + HOUR, for_logout).unwrap());
    let commands = [
        Command::Recheck,
        Command::Inspect,
        Command::Visit,
        Command::Fetch,
        Command::Release,
        Command::Erase,
        Command::Touch(HOUR),
        Command::from(super::write(Condition::AbsentOrLive, 2, b"")),
        install(false),
    ];
    plant(1);
    for mode in [Mode::Settled, Mode::Unchecked, Mode::Checked] {
        let scope = Scope::new(EPOCH, mode);
        for command in &commands {
            let answer = node.run_under(scope, 1, command.clone()).await;
            assert_eq!(answer.unwrap(), Outcome::WrongType, "{command:?}");
        }
    }
    let unchecked = Scope::new(EPOCH, Mode::Unchecked);
    let logout = Command::Delete(super::delete(3));
    assert_eq!(node.run_under(unchecked, 1, logout.clone()).await.unwrap(), Outcome::Absent);
    assert_eq!(node.run(1, install(true)).await.unwrap(), Outcome::Applied(7));
    assert_eq!(node.run_under(unchecked, 1, logout.clone()).await.unwrap(), Outcome::Pending);
    plant(2);
    assert!(matches!(node.run(2, logout).await.unwrap(), Outcome::Applied(version) if version > 7));
}

/// No node makes one, but somebody may put it there, and its answer is not to be taken for "absent".
#[tokio::test]
async fn version_zero_is_a_version() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let node = TestNode::connect("zero", &server.address(), Limits::default()).await;
    let record = super::write(Condition::Live, 1, b"").header(0, now() + HOUR, EPOCH).encode().to_vec();
    server.command(&[&b"SET"[..], node.key(1).as_bytes(), &record]).unwrap();
    assert_eq!(node.run(1, Command::Touch(HOUR)).await.unwrap(), Outcome::Applied(0));
    let update = super::write(Condition::Version(0), 2, b"more").into();
    assert_eq!(node.run(1, update).await.unwrap(), Outcome::Applied(1));
    let successor = Condition::Successor { version: 0, max_deadline: now() + HOUR };
    assert_eq!(node.run(2, super::write(successor, 3, b"").into()).await.unwrap(), Outcome::Applied(0));
}

#[tokio::test]
async fn nothing_goes_beyond_the_last_version() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let node = TestNode::connect("last", &server.address(), Limits::default()).await;
    let last = (1 << 53) - 1;
    let record = super::write(Condition::Live, 1, b"").header(last, now() + HOUR, EPOCH).encode().to_vec();
    server.command(&[&b"SET"[..], node.key(1).as_bytes(), &record]).unwrap();
    let write = |condition| super::write(condition, 2, b"more").into();
    for command in [write(Condition::Live), write(Condition::Version(last)), Command::Touch(HOUR)] {
        assert_eq!(node.run(1, command).await.unwrap(), Outcome::Unexpected(record.clone().into()));
    }
    assert!(matches!(node.run(1, Command::Delete(delete(3))).await.unwrap(), Outcome::Applied(_)));
}

#[tokio::test]
async fn a_key_without_an_expiry_ends_at_its_absolute_deadline() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let node = TestNode::connect("persisted", &server.address(), Limits::default()).await;
    let mut client = server.client().unwrap();
    for (key, max_deadline) in [(1, now() + HOUR), (2, now() - HOUR)] {
        let record = super::write(Condition::Live, 1, b"").header(7, max_deadline, EPOCH).encode().to_vec();
        client.command(&[&b"SET"[..], node.key(key).as_bytes(), &record]).unwrap();
        let fetched = node.run(key, Command::Fetch).await.unwrap();
        if max_deadline < now() {
            assert_eq!(fetched, Outcome::Absent);
            let update = super::write(Condition::Version(7), 2, b"late").into();
            let set = super::write(Condition::Live, 2, b"late").into();
            for late in [Command::Visit, Command::Touch(HOUR), update, set] {
                assert_eq!(node.run(key, late).await.unwrap(), Outcome::Absent);
            }
            let stored = client.command(&[&b"GET"[..], node.key(key).as_bytes()]).unwrap();
            assert_eq!(stored, Reply::Bulk(record), "it was changed");
        } else {
            assert_eq!(fetched, Outcome::Fetched { record: record.into(), deadline: max_deadline });
        }
    }
}
