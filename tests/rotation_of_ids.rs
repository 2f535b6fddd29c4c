//! Ids that are replaced while their sessions go on, on real servers and in memory.

mod support;

use std::time::Duration;

use sessionring::{
    Lifetime, RingSecret, SaveError, SealingKeys, SessionId, SessionRing, Sessions,
    record::{Header, Key, Keyspace, Kind, MessagePack},
};
use sessionring_testkit::{MonitorLine, RedisServer, Reply};
use support::{Login, login, logins, server};

/// Longer than any test, and shorter than the time it takes to read the next line.
const LONG: Duration = Duration::from_secs(900);

fn lasting(ring: &SessionRing) -> Sessions<Login> {
    logins(ring).rotation_grace(LONG)
}

fn keys() -> SealingKeys {
    SealingKeys::new(1, &[7; 32]).unwrap()
}

/// Asks until the node's clock has passed the end of a grace.
async fn until_dead(sessions: &Sessions<Login>, id: &SessionId) {
    while sessions.exists(id).await.unwrap() {}
}

on_both! {
    async fn a_new_id_has_the_session_and_the_old_one_works_for_the_grace(ring: SessionRing) {
        let logins = lasting(&ring);
        let old = logins.create(&login(1)).await.unwrap();
        let new = logins.rotate(&old).await.unwrap();
        assert_ne!(old, new);
        assert_eq!(old.token(), new.token(), "it stays on its node");
        assert_ne!(old.as_bytes()[8..], new.as_bytes()[8..]);
        let ids = [old.clone(), new.clone()];
        for (n, id) in ids.iter().enumerate() {
            let user = 10 * n as u64;
            logins.set(id, &login(user)).await.unwrap();
            logins.update(id, |l| l.user += 1).await.unwrap();
            logins.touch(id).await.unwrap();
            for id in &ids {
                assert_eq!(logins.get(id).await.unwrap(), Some(login(user + 1)));
                assert_eq!(logins.visit(id).await.unwrap(), Some(login(user + 1)));
                assert!(logins.exists(id).await.unwrap() && logins.remaining(id).await.unwrap().is_some());
                assert_eq!(**logins.load(id).await.unwrap().as_ref().unwrap(), login(user + 1));
            }
        }
        assert!(logins.create_with_id(&old, &login(9)).await.unwrap_err().is_deleted(), "it is used up");
    }

    async fn many_at_once_follow_too(ring: SessionRing) {
        let logins = lasting(&ring);
        let values: Vec<Login> = (0..30).map(login).collect();
        let ids: Vec<SessionId> = logins.create_many(&values).await.into_iter().map(Result::unwrap).collect();
        let mut newest = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let mut newer = id.clone();
            for _ in 0..n % 4 {
                newer = logins.rotate(&newer).await.unwrap();
            }
            newest.push(newer);
        }
        assert!(logins.update_many(&ids, |_, l| l.user += 100).await.iter().all(Result::is_ok));
        assert!(logins.touch_many(&ids).await.iter().all(Result::is_ok));
        let users = |read: Vec<sessionring::Result<Option<Login>>>| -> Vec<u64> {
            read.into_iter().map(|l| l.unwrap().unwrap().user).collect()
        };
        assert_eq!(users(logins.get_many(&ids).await), (100..130).collect::<Vec<_>>());
        let slides = logins.clone().slide_after(0.0);
        assert_eq!(users(slides.visit_many(&ids).await), (100..130).collect::<Vec<_>>());
        assert!(logins.exists_many(&ids).await.into_iter().all(Result::unwrap));
        let sessions: Vec<_> = ids.iter().map(|id| (id.clone(), login(7))).collect();
        assert!(logins.set_many(&sessions).await.iter().all(Result::is_ok));
        assert_eq!(users(logins.get_many(&newest).await), [7; 30]);
        assert!(logins.delete_many(&ids).await.iter().all(Result::is_ok));
        assert!(logins.get_many(&newest).await.into_iter().all(|read| read.unwrap().is_none()));
    }

    async fn a_log_out_through_either_id_ends_the_session(ring: SessionRing) {
        let logins = lasting(&ring);
        for which in 0..3 {
            let first = logins.create(&login(1)).await.unwrap();
            let second = logins.rotate(&first).await.unwrap();
            let third = logins.rotate(&second).await.unwrap();
            let ids = [first, second, third];
            logins.delete(&ids[which]).await.unwrap();
            for id in &ids {
                assert_eq!(logins.get(id).await.unwrap(), None);
                assert!(logins.set(id, &login(2)).await.unwrap_err().is_deleted());
                assert!(logins.rotate(id).await.unwrap_err().is_deleted());
                logins.delete(id).await.unwrap();
            }
        }
    }

    async fn a_rotated_id_is_dead_after_the_grace(ring: SessionRing) {
        let logins = logins(&ring).rotation_grace(Duration::from_millis(30));
        let old = logins.create(&login(1)).await.unwrap();
        let new = logins.rotate(&old).await.unwrap();
        until_dead(&logins, &old).await;
        dead(&logins, &old).await;
        assert_eq!(logins.get(&new).await.unwrap(), Some(login(1)), "a log-out through a dead id ends nothing");
    }

    async fn without_a_grace_it_is_dead_at_once_and_so_are_those_before(ring: SessionRing) {
        let logins = lasting(&ring);
        let first = logins.create(&login(1)).await.unwrap();
        let second = logins.rotate(&first).await.unwrap();
        let third = logins.rotate_at_once(&first).await.unwrap();
        for id in [&first, &second] {
            dead(&logins, id).await;
        }
        assert_eq!(logins.get(&third).await.unwrap(), Some(login(1)));
    }

    async fn the_absolute_deadline_stays_and_the_idle_one_slides(ring: SessionRing) {
        let lifetime = |idle| Lifetime::new(Duration::from_secs(idle), Duration::from_secs(7200)).unwrap();
        let logins = logins(&ring).lifetime(lifetime(60));
        let id = logins.create(&login(1)).await.unwrap();
        let first = logins.load(&id).await.unwrap().unwrap().version();
        let longer = logins.clone().lifetime(lifetime(600));
        let id = longer.rotate(&id).await.unwrap();
        assert!(longer.remaining(&id).await.unwrap() > Some(Duration::from_secs(500)));
        assert_eq!(longer.load(&id).await.unwrap().unwrap().version(), first);
        // One that outlives everything: the old absolute deadline is what ends it.
        let forever = logins.clone().lifetime(Lifetime::NIST_AAL1);
        let id = forever.rotate(&id).await.unwrap();
        let remaining = forever.remaining(&id).await.unwrap().unwrap();
        assert!(remaining <= Duration::from_secs(7200), "{remaining:?}");
    }

    async fn what_was_loaded_before_is_saved_through_the_old_id(ring: SessionRing) {
        let logins = lasting(&ring);
        let old = logins.create(&login(1)).await.unwrap();
        let mut mine = logins.load(&old).await.unwrap().unwrap();
        let new = logins.rotate(&old).await.unwrap();
        mine.user = 2;
        logins.save(&mut mine).await.unwrap();
        logins.update(&new, |l| l.user += 10).await.unwrap();
        match logins.save(&mut mine).await {
            Err(SaveError::Conflict(there)) => assert_eq!(**there, login(12)),
            other => panic!("{other:?}"),
        }
    }

    async fn sealed_sessions_and_rings_with_a_secret(ring: SessionRing) {
        let logins = lasting(&ring).seal(keys()).codec(MessagePack);
        let old = logins.create(&login(1)).await.unwrap();
        let new = logins.rotate(&old).await.unwrap();
        for id in [&old, &new] {
            logins.update(id, |l| l.user += 1).await.unwrap();
        }
        assert_eq!(logins.get(&old).await.unwrap(), Some(login(3)));
        let without = lasting(&ring);
        assert!(without.get(&old).await.unwrap_err().is_upgrade_required());
        assert!(without.rotate(&new).await.unwrap_err().is_upgrade_required());
        logins.delete(&old).await.unwrap();
        assert_eq!(logins.get(&new).await.unwrap(), None);
    }

    async fn what_cannot_be_rotated(ring: SessionRing) {
        let logins = lasting(&ring).upsert_foreign(true);
        let foreign = SessionId::foreign("customer-4711").unwrap();
        logins.set(&foreign, &login(1)).await.unwrap();
        let error = logins.rotate(&foreign).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("foreign"), "{error}");
        assert_eq!(logins.get(&foreign).await.unwrap(), Some(login(1)));
        assert!(logins.rotate(&SessionId::generate().unwrap()).await.unwrap_err().is_not_found());
    }

    /// Whoever loses comes again with what the other wrote, so nothing is lost, and nobody is left outside.
    async fn rotations_race_updates(ring: SessionRing) {
        let logins = lasting(&ring);
        let id = logins.create(&login(0)).await.unwrap();
        let updates = (0..8).map(|_| {
            let (logins, id) = (logins.clone(), id.clone());
            tokio::spawn(async move {
                for _ in 0..20 {
                    logins.update(&id, |l| l.user += 1).await.unwrap();
                }
            })
        });
        let updates: Vec<_> = updates.collect();
        let mut newest = id.clone();
        for _ in 0..10 {
            newest = logins.rotate(&newest).await.unwrap();
        }
        for update in updates {
            update.await.unwrap();
        }
        for id in [&id, &newest] {
            assert_eq!(logins.get(id).await.unwrap(), Some(login(160)));
        }
    }

    async fn too_many_replacements_are_an_error_and_never_no_session(ring: SessionRing) {
        let logins = lasting(&ring);
        let first = logins.create(&login(0)).await.unwrap();
        let mut newest = first.clone();
        for _ in 0..17 {
            newest = logins.rotate(&newest).await.unwrap();
        }
        assert!(logins.get(&first).await.unwrap_err().is_conflict());
        assert!(logins.delete(&first).await.unwrap_err().is_conflict());
        assert!(logins.get_many(&[first]).await.remove(0).unwrap_err().is_conflict());
        assert_eq!(logins.get(&newest).await.unwrap(), Some(login(0)));
    }
}

/// A dead id reads nothing, writes nothing, and ends nothing.
async fn dead(logins: &Sessions<Login>, id: &SessionId) {
    assert_eq!(logins.get(id).await.unwrap(), None);
    assert_eq!(logins.visit(id).await.unwrap(), None);
    assert!(logins.load(id).await.unwrap().is_none());
    assert!(!logins.exists(id).await.unwrap());
    assert!(logins.set(id, &login(9)).await.unwrap_err().is_deleted());
    assert!(logins.update(id, |l| l.user = 9).await.unwrap_err().is_deleted());
    assert!(logins.touch(id).await.unwrap_err().is_deleted());
    assert!(logins.rotate(id).await.unwrap_err().is_deleted());
    assert!(logins.create_with_id(id, &login(9)).await.unwrap_err().is_deleted());
    logins.delete(id).await.unwrap();
}

#[tokio::test]
async fn a_ring_with_a_secret_rotates() {
    let secret = RingSecret::new(&[7; 32]).unwrap();
    let ring = support::nodes(["memory:".to_owned()]).secret(secret).connect().await.unwrap();
    let logins = lasting(&ring);
    let old = logins.create(&login(1)).await.unwrap();
    let new = logins.rotate(&old).await.unwrap();
    logins.update(&old, |l| l.user += 1).await.unwrap();
    assert_eq!(logins.get(&new).await.unwrap(), Some(login(2)));
}

/// One server, and somebody who reads and writes what is stored there.
struct Attacked {
    server: RedisServer,
    ring: SessionRing,
}

impl Attacked {
    async fn new() -> Attacked {
        let server = server();
        let ring = support::nodes([server.address()]).connect().await.unwrap();
        Attacked { server, ring }
    }

    fn key(&self, id: &SessionId) -> Key {
        Keyspace::new(self.ring.name(), "login").key(id)
    }

    fn read(&self, id: &SessionId) -> Vec<u8> {
        match self.server.command(&[b"GET", self.key(id).as_bytes()]).unwrap() {
            Reply::Bulk(bytes) => bytes,
            reply => panic!("{reply:?}"),
        }
    }

    fn write(&self, id: &SessionId, record: &[u8]) {
        let key = self.key(id);
        let command: [&[u8]; 4] = [b"SET", key.as_bytes(), record, b"KEEPTTL"];
        assert_eq!(self.server.command(&command).unwrap(), Reply::Simple("OK".into()));
    }
}

#[tokio::test]
async fn a_forward_is_what_the_format_says_and_outlives_what_is_under_way() {
    let attacked = Attacked::new().await;
    let logins = lasting(&attacked.ring);
    let old = logins.create(&login(1)).await.unwrap();
    let before = Header::decode(&attacked.read(&old)).unwrap();
    let new = logins.rotate(&old).await.unwrap();
    let (tombstone, live) = (attacked.read(&old), attacked.read(&new));
    let header = Header::decode(&tombstone).unwrap();
    assert!(header.kind == Kind::Tombstone && header.forward && header.version == before.version + 1);
    assert_eq!(tombstone.len(), Header::LEN + 6 + 24);
    assert_eq!(tombstone[Header::LEN + 6..], attacked.key(&new).as_bytes()[6..]);
    let successor = Header::decode(&live).unwrap();
    assert_eq!((successor.version, successor.max_deadline), (before.version, before.max_deadline));
    let left = attacked.server.command(&[b"PTTL", attacked.key(&old).as_bytes()]).unwrap().int().unwrap();
    assert!(left > 60 * 60 * 1000 + 14 * 60 * 1000, "the rest of the hour, and a quarter: {left}");
}

/// Otherwise whoever writes to the server could lead his own id to the session of somebody else, sealed or not.
#[tokio::test]
async fn a_forward_that_somebody_made_leads_nowhere_where_sessions_are_sealed() {
    let attacked = Attacked::new().await;
    let logins = lasting(&attacked.ring).seal(keys());
    let victim = logins.create(&login(1)).await.unwrap();
    let mine = logins.create(&login(2)).await.unwrap();
    let other = logins.create(&login(3)).await.unwrap();
    logins.rotate(&other).await.unwrap();
    let genuine = attacked.read(&other);
    // Not sealed at all, and with the seal of another forward.
    let until = (1_u64 << 47).to_be_bytes();
    let key = attacked.key(&victim);
    let head = b"\x01T\x02\0\0\0\0\0".as_slice();
    let plain = [head, &genuine[8..Header::LEN], &until[2..], &key.as_bytes()[6..]].concat();
    for forged in [plain, genuine.clone()] {
        attacked.write(&mine, &forged);
        for error in [
            logins.get(&mine).await.unwrap_err(),
            logins.visit(&mine).await.unwrap_err(),
            logins.update(&mine, |l| l.user = 9).await.unwrap_err(),
            logins.delete(&mine).await.unwrap_err(),
        ] {
            assert!(error.is_corrupt(), "{error}");
        }
        assert_eq!(logins.clone().on_corrupt(sessionring::OnCorrupt::Reset).get(&mine).await.unwrap(), None);
    }
    assert_eq!(logins.get(&victim).await.unwrap(), Some(login(1)));
    // Every byte of a genuine one, but for the flags, stamp, version and deadlines, which are the node's.
    for at in
        (0..genuine.len()).filter(|at| ![2].contains(at) && !(8..14).contains(at) && !(22..41).contains(at))
    {
        for bit in 0..8 {
            let mut changed = genuine.clone();
            changed[at] ^= 1 << bit;
            attacked.write(&other, &changed);
            assert!(logins.get(&other).await.is_err(), "byte {at}, bit {bit}");
        }
    }
    attacked.write(&other, &genuine);
    assert_eq!(logins.get(&other).await.unwrap(), Some(login(3)));
}

/// Without seals a circle can be made; nobody walks in it for ever.
#[tokio::test]
async fn a_circle_of_forwards_ends() {
    let attacked = Attacked::new().await;
    let logins = lasting(&attacked.ring);
    let first = logins.create(&login(1)).await.unwrap();
    let second = logins.rotate(&first).await.unwrap();
    let mut circle = attacked.read(&first);
    circle[Header::LEN + 6..].copy_from_slice(&attacked.key(&first).as_bytes()[6..]);
    attacked.write(&second, &circle);
    assert!(logins.get(&first).await.unwrap_err().is_conflict());
    assert!(logins.rotate(&first).await.unwrap_err().is_conflict());
}

fn names(lines: &[MonitorLine]) -> Vec<String> {
    lines.iter().filter(|line| !line.is_lua).map(MonitorLine::name).collect()
}

#[tokio::test]
async fn what_a_replaced_id_costs() {
    let attacked = Attacked::new().await;
    let logins = lasting(&attacked.ring);
    let old = logins.create(&login(1)).await.unwrap();
    let new = logins.rotate(&old).await.unwrap();
    let mut monitor = attacked.server.monitor().unwrap();
    let mut cost = || names(&monitor.take().unwrap());
    logins.get(&new).await.unwrap().unwrap();
    assert_eq!(cost(), ["MGET"], "the new id costs what any does");
    logins.get(&old).await.unwrap().unwrap();
    assert_eq!(cost(), ["MGET", "EVALSHA", "MGET"]);
    logins.touch(&old).await.unwrap();
    assert_eq!(cost(), ["EVALSHA", "EVALSHA"]);
}

#[tokio::test]
async fn a_node_that_is_down_is_an_error_and_nothing_is_changed() {
    let attacked = Attacked::new().await;
    let ring = attacked.ring.clone();
    let logins = lasting(&ring);
    let old = logins.create(&login(1)).await.unwrap();
    let dump = attacked.server.dump().unwrap();
    attacked.server.kill().unwrap();
    let error = logins.rotate(&old).await.unwrap_err();
    assert!(error.is_unavailable() || error.is_indeterminate(), "{error}");
    attacked.server.restart_from(&dump).unwrap();
    let new = loop {
        match logins.rotate(&old).await {
            Ok(new) => break new,
            Err(error) => assert!(error.is_unavailable(), "{error}"),
        }
    };
    assert_eq!(logins.get(&new).await.unwrap(), Some(login(1)));
}

/// Rotations, and what is done through old and new ids, while sessions move from node to node and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_resize() {
    let servers = support::servers(3);
    let ring = support::on(&servers[..2]).connect().await.unwrap();
    let logins = lasting(&ring);
    let mut sessions = Vec::new();
    for n in 0..300 {
        let id = logins.create(&login(n)).await.unwrap();
        sessions.push((id.clone(), logins.rotate(&id).await.unwrap()));
    }
    let moving = ring.add_node("c", servers[2].address()).await.unwrap();
    let mut rounds = 0;
    let moved = moving.wait();
    tokio::pin!(moved);
    loop {
        let round = async {
            for (n, (old, new)) in sessions.iter_mut().enumerate() {
                logins.update(old, |l| l.user += 1000).await.unwrap();
                let newer = logins.rotate(new).await.unwrap();
                assert_eq!(logins.get(old).await.unwrap(), Some(login(n as u64 + 1000 * (rounds + 1))));
                *old = std::mem::replace(new, newer);
            }
        };
        round.await;
        rounds += 1;
        if let Ok(ended) = tokio::time::timeout(Duration::ZERO, &mut moved).await {
            ended.unwrap();
            break;
        }
    }
    assert!(!ring.is_resizing());
    for (n, (old, new)) in sessions.iter().enumerate() {
        for id in [old, new] {
            assert_eq!(logins.get(id).await.unwrap(), Some(login(n as u64 + 1000 * rounds)));
        }
        logins.delete(old).await.unwrap();
        assert_eq!(logins.get(new).await.unwrap(), None);
    }
}
