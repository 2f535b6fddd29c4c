//! The control plane on both kinds of node: the same commands give the same answers, in memory (which runs
//! `protocol::govern`) and on a real server (which runs `control.lua`).

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use proptest::prelude::*;
use sessionring_testkit::{Direction, FaultProxy, RedisServer};

use super::*;
use crate::{
    protocol::{Ballot, Control, ControlReply, Slot},
    record::Key,
    topology::PROTOCOL_VERSION,
};

const RING: &str = "governed";

#[derive(Debug, Clone)]
enum Action {
    Command(Control),
    /// Somebody else writes this where the fence is, or deletes it.
    Fence(Option<Vec<u8>>),
    /// The same for the name of the node.
    Owner(Option<String>),
    /// The incarnation is deleted, or becomes something else.
    Incarnation(bool),
}

fn known_fence(ring: &str, epoch: u64, nonce: u64) -> Fence {
    Fence { epoch: Epoch::new(epoch), nonce, ..fence(ring) }
}

fn action() -> impl Strategy<Value = Action> {
    // Neighbours in bytes, in doubles, and around where doubles end.
    let epoch = || prop::sample::select(vec![1, 2, 3, 255, 256, (1 << 53) + 1, (1 << 53) + 2]);
    let fence = move || {
        (epoch(), 0..2u64, prop_oneof![9 => Just(RING), 1 => Just("another")])
            .prop_map(|(epoch, nonce, ring)| known_fence(ring, epoch, nonce))
    };
    let slot = move || prop_oneof![2 => Just(None::<Fence>), 3 => fence().prop_map(Some)];
    let number = || prop::sample::select(vec![0, 1, 2, 255, 256, 1 << 53, (1 << 53) + 1, u64::MAX]);
    let ballot = move || (number(), number()).prop_map(|(round, proposer)| Ballot { round, proposer });
    let name = || prop_oneof![4 => Just("a".to_owned()), 1 => Just("b".to_owned())];
    let incarnation = || prop::sample::select(vec![1, 1, 1, 2, u64::MAX]);
    let document = || prop::collection::vec(any::<u8>(), 0..20).prop_map(bytes::Bytes::from);
    let command = prop_oneof![
        1 => Just(Control::Look),
        1 => Just(Control::Load),
        2 => (name(), incarnation()).prop_map(|(name, incarnation)| Control::Mark { name, incarnation }),
        4 => (slot(), ballot()).prop_map(|(slot, ballot)| Control::Prepare { slot, ballot }),
        4 => (slot(), ballot(), document())
            .prop_map(|(slot, ballot, document)| Control::Accept { slot, ballot, document }),
        4 => (name(), fence(), document(), incarnation()).prop_map(|(name, fence, document, incarnation)| {
            Control::Raise { name, fence, document, incarnation }
        }),
        1 => (incarnation(), incarnation())
            .prop_map(|(incarnation, successor)| Control::Depose { incarnation, successor }),
    ];
    let garbage = prop_oneof![
        2 => Just(None),
        2 => fence().prop_map(|fence| Some(fence.encode().to_vec())),
        1 => fence().prop_map(|fence| {
            Some(Fence { protocol: PROTOCOL_VERSION + 1, ..fence }.encode().to_vec())
        }),
        1 => fence().prop_map(|fence| Some(Fence { protocol: 0, ..fence }.encode().to_vec())),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(Some),
    ];
    prop_oneof![
        36 => command.prop_map(Action::Command),
        3 => garbage.prop_map(Action::Fence),
        1 => prop::option::of(name()).prop_map(Action::Owner),
        1 => any::<bool>().prop_map(Action::Incarnation),
    ]
}

/// What the slots of a sequence are replaced by: most proposers know the node's fence.
fn informed(control: Control, stored: Option<&[u8]>, informed: bool) -> Control {
    let slot = |slot: Slot| match stored.map(Fence::decode) {
        _ if !informed => slot,
        None => None,
        Some(Ok(fence)) => Some(fence),
        Some(Err(_)) => slot,
    };
    match control {
        Control::Prepare { slot: s, ballot } => Control::Prepare { slot: slot(s), ballot },
        Control::Accept { slot: s, ballot, document } => Control::Accept { slot: slot(s), ballot, document },
        control => control,
    }
}

fn directory(ring: &str) -> Directory {
    let clocks = Clocks::new(Duration::from_secs(2));
    Directory::new(ring, Vec::new(), clocks, false, Duration::from_secs(5)).unwrap()
}

async fn compare(server: &RedisServer, actions: Vec<(Action, bool)>) -> Result<(), TestCaseError> {
    static CASE: AtomicU32 = AtomicU32::new(0);
    let name = format!("governed-{}", CASE.fetch_add(1, Relaxed));
    let directory = directory(RING);
    let (memory, id) = (MemoryServer::named(&name), node_id("a"));
    let mut client = server.client().unwrap();
    client.command(&["FLUSHALL"]).unwrap();
    let keys = directory.keys().clone();
    let mut put = |key: &str, bytes: Option<&[u8]>| match bytes {
        Some(bytes) => client.command(&[b"SET", key.as_bytes(), bytes]).unwrap(),
        None => client.command(&["DEL", key]).unwrap(),
    };
    let sides = [&format!("memory:{name}"), &server.address()].map(|a| directory.control(&id, a).unwrap());
    let mut stored: Option<Vec<u8>> = None;
    for (action, knows) in actions {
        match action {
            Action::Fence(bytes) => {
                put(&keys.fence, bytes.as_deref());
                memory.meddle(RING, |charter| charter.standing.fence.clone_from(&bytes));
                stored = bytes;
            }
            Action::Owner(name) => {
                put(&keys.node, name.as_deref().map(str::as_bytes));
                memory.meddle(RING, |charter| charter.standing.owner = name);
            }
            Action::Incarnation(there) => {
                put(&keys.incarnation, there.then_some(b"no incarnation"));
                memory.meddle(RING, |charter| charter.standing.incarnation = None);
            }
            Action::Command(control) => {
                let control = informed(control, stored.as_deref(), knows);
                let [left, right] = [sides[0].call(control.clone()), sides[1].call(control.clone())];
                let (left, right) = (left.await.unwrap(), right.await.unwrap());
                if let ControlReply::Standing(standing) = &left {
                    stored.clone_from(&standing.fence);
                }
                prop_assert_eq!(left, right, "memory left, server right, after {:?}", control);
            }
        }
        let [left, right] = [sides[0].call(Control::Load), sides[1].call(Control::Load)];
        prop_assert_eq!(left.await.unwrap(), right.await.unwrap());
    }
    Ok(())
}

#[test]
fn both_kinds_of_node_are_governed_alike() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = ProptestConfig::with_cases(128);
    config.source_file = Some(file!());
    let actions = prop::collection::vec((action(), prop::bool::weighted(0.8)), 1..60);
    proptest!(config, |(actions in actions)| {
        runtime.block_on(compare(&server, actions))?;
    });
}

/// A node of each kind, and what it takes to reach it.
struct Pair {
    server: RedisServer,
    nodes: [Arc<ControlNode>; 2],
}

fn pair() -> Pair {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let directory = directory(RING);
    let id = node_id("a");
    let memory = Address::parse("memory:").unwrap().named().unwrap().without_credentials();
    let nodes = [memory, server.address()].map(|address| directory.control(&id, &address).unwrap());
    Pair { server, nodes }
}

fn raise(epoch: u64, document: &[u8]) -> Control {
    Control::Raise {
        name: "a".into(),
        fence: known_fence(RING, epoch, 0),
        document: bytes::Bytes::copy_from_slice(document),
        incarnation: 7,
    }
}

async fn accept_and_raise(node: &ControlNode, document: &[u8]) {
    let (slot, ballot) = (Some(known_fence(RING, 1, 0)), Ballot { round: 1, proposer: 1 });
    let promised = node.call(Control::Prepare { slot, ballot }).await.unwrap();
    assert!(matches!(promised, ControlReply::Promised { accepted: None, .. }), "{promised:?}");
    let document = bytes::Bytes::copy_from_slice(document);
    let accept = Control::Accept { slot, ballot, document: document.clone() };
    assert_eq!(node.call(accept).await.unwrap(), ControlReply::Accepted);
    let ControlReply::Standing(standing) = node.call(raise(2, &document)).await.unwrap() else { panic!() };
    assert!(standing.obeys(&known_fence(RING, 2, 0)));
}

#[tokio::test]
async fn a_full_node_takes_part_in_everything() {
    let Pair { server, nodes: [_, node] } = pair();
    server.config_set("maxmemory", "1").unwrap();
    let refused = server.client().unwrap().command(&["SET", "x", "y"]).unwrap();
    assert!(refused.is_error("OOM"), "{refused:?}");
    let mark = Control::Mark { name: "a".into(), incarnation: 7 };
    let ControlReply::Standing(standing) = node.call(mark).await.unwrap() else { panic!() };
    assert_eq!(standing.incarnation, Some(7));
    node.call(raise(1, b"first")).await.unwrap();
    accept_and_raise(&node, &[b'x'; 1 << 20]).await;
    let depose = Control::Depose { incarnation: 7, successor: 8 };
    let ControlReply::Standing(standing) = node.call(depose).await.unwrap() else { panic!() };
    assert_eq!((standing.incarnation, standing.fence), (Some(8), None));
}

#[tokio::test]
async fn a_forgotten_script_is_sent_again() {
    let Pair { server, nodes: [_, node] } = pair();
    node.call(Control::Look).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    node.call(Control::Mark { name: "a".into(), incarnation: 7 }).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    node.call(raise(1, b"first")).await.unwrap();
    accept_and_raise(&node, b"second").await;
}

#[tokio::test]
async fn what_is_no_vote_stops_the_decision_instead_of_forging_one() {
    let Pair { server, nodes: [_, node] } = pair();
    let prepare = Control::Prepare { slot: None, ballot: Ballot { round: 1, proposer: 1 } };
    let key = MetaKeys::new(RING).ballot;
    for garbage in ["x", "0123456789abcdefX"] {
        server.command(&["SET", &key, garbage]).unwrap();
        let error = node.call(prepare.clone()).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains(&key), "{error}");
    }
    server.command(&["DEL", &key]).unwrap();
    server.command(&["LPUSH", &key, "x"]).unwrap();
    let error = node.call(prepare.clone()).await.unwrap_err();
    assert!(error.is_configuration(), "{error}");
    server.command(&["DEL", &key]).unwrap();
    node.call(prepare).await.unwrap();
}

#[tokio::test]
async fn the_process_is_another_after_a_restart_and_the_incarnation_stays_with_the_data() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let node = directory(RING).control(&node_id("a"), &server.address()).unwrap();
    let first = node.greet().await.unwrap();
    assert_eq!(first.standing, Default::default());
    node.call(Control::Mark { name: "a".into(), incarnation: 7 }).await.unwrap();
    assert_eq!(node.greet().await.unwrap().connection, first.connection);
    server.command(&["SAVE"]).unwrap();
    server.restart().unwrap();
    node.call(Control::Look).await.unwrap();
    let second = node.greet().await.unwrap();
    assert!(second.process != first.process && second.connection > first.connection);
    assert_eq!(second.standing.incarnation, Some(7));
    server.restart_empty().unwrap();
    node.call(Control::Look).await.unwrap();
    assert_eq!(node.greet().await.unwrap().standing.incarnation, None);
}

#[tokio::test]
async fn a_promoted_replica_is_another_process() {
    let primary = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let replica = RedisServer::builder().replica_of(&primary).start().unwrap();
    replica.wait_for_link().unwrap();
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let node = directory(RING).control(&node_id("a"), &replica.address()).unwrap();
    let before = node.greet().await.unwrap().process;
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).unwrap();
    replica.wait_for_link().unwrap();
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let node = directory(RING).control(&node_id("a"), &replica.address()).unwrap();
    assert_ne!(node.greet().await.unwrap().process, before);
}

/// Keys of this ring and others, and other things.
async fn fill(ring: &str, address: &str, keys: u8) -> (TestNode, BTreeSet<Key>) {
    let node = TestNode::connect(ring, address, Limits::default()).await;
    let requests: Vec<_> = (0..keys)
        .map(|key| {
            let write = write(Condition::Absent, u64::from(key) + 1, &vec![0; usize::from(key)]);
            node.request(key, Command::from(write))
        })
        .collect();
    let filled = requests.iter().map(|request| request.key).collect();
    for answer in node.node.submit_many(requests).await {
        answer.unwrap();
    }
    (node, filled)
}

#[tokio::test]
async fn a_scan_finds_what_stays_and_nothing_of_others() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    for address in [server.address(), "memory:scanned".into()] {
        let (node, keys) = fill(RING, &address, 200).await;
        let _others = fill("another", &address, 100).await;
        if address != "memory:scanned" {
            // The prefix of our keys, but no key of ours.
            let ours = keys.first().unwrap().as_bytes();
            server.client().unwrap().command(&[b"SET", &ours[..20], b"x"]).unwrap();
        }
        let control = directory(RING).control(&node_id("a"), &address).unwrap();
        let connection = control.greet().await.unwrap().connection;
        let (mut cursor, mut found, mut rounds) = (0, BTreeSet::new(), 0);
        loop {
            let (next, part) =
                control.scan(connection, &Key::ring_prefix(RING), cursor, 10).await.unwrap().unwrap();
            // What was found is taken away, as a mover does.
            let weights = control.weigh(part.clone()).await.unwrap();
            assert!(weights.iter().all(|&weight| weight >= 35), "{weights:?}");
            for key in &part {
                let delete = Command::Delete(delete(999));
                node.node.submit(Request { key: *key, ..node.request(0, delete) }).await.unwrap();
                if address == "memory:scanned" {
                    MemoryServer::named("scanned").remove(key);
                } else {
                    server.client().unwrap().command(&[b"DEL", key.as_bytes()]).unwrap();
                }
            }
            assert_eq!(control.weigh(part.clone()).await.unwrap(), vec![0; part.len()]);
            found.extend(part);
            (cursor, rounds) = (next, rounds + 1);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(found, keys);
        assert!(rounds > 10, "{rounds}");
        let left = control.count().await.unwrap();
        assert!((100..=112).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn a_scan_ends_with_its_connection() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let _filled = fill(RING, &server.address(), 100).await;
    let control = directory(RING).control(&node_id("a"), &proxy.address()).unwrap();
    let connection = control.greet().await.unwrap().connection;
    let (cursor, _) = control.scan(connection, &Key::ring_prefix(RING), 0, 10).await.unwrap().unwrap();
    assert_ne!(cursor, 0);
    proxy.cut();
    // The cut is noticed by this command, which goes through on a new connection.
    control.call(Control::Look).await.unwrap();
    assert_eq!(control.scan(connection, &Key::ring_prefix(RING), cursor, 10).await.unwrap(), None);
    let connection = control.greet().await.unwrap().connection;
    assert!(control.scan(connection, &Key::ring_prefix(RING), 0, 10).await.unwrap().is_some());
}

#[tokio::test]
async fn a_node_that_does_not_answer_costs_its_timeout_and_is_asked_anew() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let clocks = Clocks::new(Duration::from_secs(2));
    let timeout = Duration::from_millis(200);
    let directory = Directory::new(RING, Vec::new(), clocks, false, timeout).unwrap();
    let control = directory.control(&node_id("a"), &proxy.address()).unwrap();
    control.call(Control::Look).await.unwrap();
    proxy.swallow(Direction::ToClient, true);
    let connections = proxy.counts().connections;
    let asked = tokio::time::timeout(Duration::from_secs(60), control.call(Control::Look)).await;
    let error = asked.expect("it is waited for without end").unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("200 ms"), "{error}");
    proxy.swallow(Direction::ToClient, false);
    // What is answered too late is no answer to anything else. Another attempt may come to nothing on a busy machine, not many.
    let mut attempts = 1;
    while let Err(error) = control.call(Control::Look).await {
        assert!(attempts < 20, "{error}");
        attempts += 1;
    }
    assert!(proxy.counts().connections > connections);
}
