//! One suite for both kinds of node: the same sequences of operations give the same answers, in memory (which runs
//! `protocol::apply`) and on a real server (which runs `batch.lua`), expiry and garbage included.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use proptest::prelude::*;
use sessionring_testkit::RedisServer;

use super::*;
use crate::{
    protocol::Outcome,
    record::{Header, Key, Record},
};

const KEYS: u8 = 3;
/// Short enough to wait for.
const SHORT: u64 = 8;

#[derive(Debug, Clone)]
enum Action {
    Read,
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
    /// Somebody else writes this under our key.
    Garbage(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
enum How {
    Create,
    Set,
    Upsert,
    /// The version seen last, plus this.
    CompareAndSet(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let time = || prop_oneof![8 => Just(HOUR), 1 => Just(SHORT)];
    let how = prop_oneof![
        Just(How::Create),
        Just(How::Set),
        Just(How::Upsert),
        (0..2u64).prop_map(How::CompareAndSet)
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    // Few operation numbers, so that copies of a write happen.
    let write =
        (how, 0..6u64, time(), time(), payload).prop_map(|(how, operation, idle, absolute, payload)| {
            Action::Write { how, operation, idle, absolute, payload }
        });
    let garbage = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        // Almost a record.
        (prop::collection::vec(any::<u8>(), 33..60), 0..3u8, 0..4usize, 0..2u8).prop_map(
            |(mut bytes, format, kind, flags)| {
                bytes.splice(..3, [format, b"LTMx"[kind], flags]);
                bytes
            }
        ),
        // A record that is whole, but ended long ago or lives for ever, or stands at the last version there is.
        (
            prop_oneof![any::<u64>().prop_map(|n| n >> 10), (1 << 53) - 3..(1u64 << 53) + 3],
            prop_oneof![0..3u64, any::<u64>().prop_map(|n| n >> 16)],
            any::<bool>()
        )
            .prop_map(|(version, max_deadline, live)| {
                let header = if live {
                    super::write(Condition::Live, 99, b"").header(version, max_deadline)
                } else {
                    super::delete(99).header(version, max_deadline)
                };
                header.encode().to_vec()
            }),
    ];
    prop_oneof![
        3 => Just(Action::Read),
        2 => Just(Action::Inspect),
        8 => write,
        2 => time().prop_map(|idle| Action::Touch { idle }),
        2 => (time(), time(), any::<bool>())
            .prop_map(|(floor, absolute, upsertable)| Action::Delete { floor, absolute, upsertable }),
        2 => garbage.prop_map(Action::Garbage),
    ]
}

/// Writes under a key as somebody else would.
type Store = Box<dyn Fn(Key, &[u8])>;

/// One kind of node, and what makes its answers comparable with the other's.
struct Side {
    node: TestNode,
    /// The version that each key was born with, which is the node's time then, and its newest one.
    life: HashMap<u8, (u64, u64)>,
    last: HashMap<u8, u64>,
    store: Store,
}

impl Side {
    async fn run(&mut self, key: u8, action: &Action) -> String {
        let command = match action.clone() {
            Action::Read => Command::Read,
            Action::Inspect => Command::Inspect,
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
                };
                Command::Write(Write { idle, absolute, ..super::write(condition, operation, &payload) })
            }
            Action::Garbage(bytes) => {
                (self.store)(self.node.key(key), &bytes);
                self.life.remove(&key);
                return "stored".into();
            }
        };
        let outcome = self.node.run(key, command).await.unwrap();
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
            Outcome::Inspected(header, remaining) => {
                // Both were asked within half a minute.
                format!(
                    "{} with {} min left",
                    self.describe_header(key, header),
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
                format!("{what} {} {:?}", self.describe_header(key, record.header), record.payload)
            }
            Err(error) => format!("{what} {error} {bytes:?}"),
        }
    }

    fn describe_header(&mut self, key: u8, header: Header) -> String {
        let version = self.age(key, header.version);
        let life = header.max_deadline.saturating_sub(self.life.get(&key).map_or(0, |life| life.0));
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

fn short(action: &Action) -> bool {
    match action {
        Action::Write { idle, absolute, .. } => *idle == SHORT || *absolute == SHORT,
        Action::Touch { idle } => *idle == SHORT,
        Action::Delete { floor, absolute, .. } => *floor == SHORT || *absolute == SHORT,
        _ => false,
    }
}

/// The tick after which everything short has expired on both sides.
async fn let_short_lives_end() {
    tokio::time::sleep(Duration::from_millis(SHORT + 22)).await;
}

async fn compare(server: &RedisServer, actions: Vec<(u8, Action)>) -> Result<(), TestCaseError> {
    static CASE: AtomicU32 = AtomicU32::new(0);
    let ring = format!("case-{}", CASE.fetch_add(1, Relaxed));
    let memory = MemoryServer::named(&ring);
    let client = std::cell::RefCell::new(server.client().unwrap());
    let mut sides = [
        Side {
            node: TestNode::connect(&ring, &format!("memory:{ring}"), Limits::default()).await,
            life: HashMap::new(),
            last: HashMap::new(),
            store: Box::new(move |key, bytes| memory.store(key, bytes)),
        },
        Side {
            node: TestNode::connect(&ring, &server.address(), Limits::default()).await,
            life: HashMap::new(),
            last: HashMap::new(),
            store: Box::new(move |key, bytes| {
                let command: [&[u8]; 5] = [b"SET", key.as_bytes(), bytes, b"PX", b"7200000"];
                client.borrow_mut().command(&command).unwrap().ok().unwrap();
            }),
        },
    ];
    for (key, action) in actions {
        let [memory, redis] = &mut sides;
        let (memory, redis) = (memory.run(key, &action).await, redis.run(key, &action).await);
        prop_assert_eq!(memory, redis, "memory left, server right, after {:?} on key {}", action, key);
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
    proptest!(config, |(actions in prop::collection::vec((0..KEYS, action()), 1..40))| {
        runtime.block_on(compare(&server, actions))?;
    });
}
