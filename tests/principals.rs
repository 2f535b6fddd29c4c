//! All sessions of a user: bound, listed, ended together, on real servers and in memory.

mod support;

use std::{collections::BTreeSet, time::Duration};

use sessionring::{
    Lifetime, RingSecret, SealingKeys, SessionHandle, SessionId, SessionRing, Sessions,
    record::{Header, Keyspace},
};
use sessionring_testkit::{RedisServer, Reply};
use support::{Login, login, logins};

fn keys() -> SealingKeys {
    SealingKeys::new(1, &[7; 32]).unwrap()
}

async fn users(sessions: &Sessions<Login>, principal: &str) -> BTreeSet<u64> {
    let found = sessions.sessions_of(principal).await.unwrap();
    found.iter().map(|session| session.value().unwrap().user).collect()
}

on_both! {
    async fn a_log_in_binds_and_the_id_from_before_is_dead(ring: SessionRing) {
        let logins = logins(&ring).rotation_grace(Duration::from_secs(900));
        let planted = logins.create(&login(1)).await.unwrap();
        let id = logins.bind(&planted, "ada").await.unwrap();
        assert_ne!(planted.as_bytes()[..8], id.as_bytes()[..8]);
        assert_eq!(logins.get(&planted).await.unwrap(), None);
        assert!(logins.set(&planted, &login(9)).await.unwrap_err().is_deleted());
        assert!(logins.rotate(&planted).await.unwrap_err().is_deleted());
        assert!(logins.bind(&planted, "eve").await.unwrap_err().is_deleted());
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(1)));
        let found = logins.sessions_of("ada").await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].is(&id) && !found[0].is(&planted));
        assert_eq!(found[0].value().unwrap(), &login(1));
        assert!(found[0].remaining() > Duration::from_secs(3500));
        assert!(found[0].since().elapsed().unwrap_or_default() < Duration::from_secs(600));
        assert!(logins.sessions_of("eve").await.unwrap().is_empty());
    }

    async fn all_ids_of_a_user_are_on_one_node(ring: SessionRing) {
        let logins = logins(&ring);
        let mut nodes = BTreeSet::new();
        for n in 0..20 {
            let id = logins.create_for("ada", &login(n)).await.unwrap();
            nodes.insert(ring.owner(&id));
        }
        assert_eq!(nodes.len(), 1);
        assert_eq!(users(&logins, "ada").await, (0..20).collect());
    }

    async fn a_log_out_everywhere_ends_all_his_sessions_and_no_others(ring: SessionRing) {
        let logins = logins(&ring);
        let mut his = Vec::new();
        for n in 0..3 {
            his.push(logins.create_for("ada", &login(n)).await.unwrap());
        }
        his.push(logins.bind(&logins.create(&login(3)).await.unwrap(), "ada").await.unwrap());
        let other = logins.create_for("eve", &login(7)).await.unwrap();
        let nobodys = logins.create(&login(8)).await.unwrap();
        logins.delete(&his[0]).await.unwrap();
        assert_eq!(logins.revoke_all("ada").await.unwrap(), 3);
        for id in &his {
            assert_eq!(logins.get(id).await.unwrap(), None);
            assert!(logins.set(id, &login(9)).await.unwrap_err().is_deleted());
        }
        assert!(logins.sessions_of("ada").await.unwrap().is_empty());
        assert_eq!(logins.revoke_all("ada").await.unwrap(), 0);
        assert_eq!(logins.revoke_all("nobody").await.unwrap(), 0);
        assert_eq!(logins.get(&other).await.unwrap(), Some(login(7)));
        assert_eq!(logins.get(&nobodys).await.unwrap(), Some(login(8)));
        let again = logins.create_for("ada", &login(4)).await.unwrap();
        assert_eq!(logins.get(&again).await.unwrap(), Some(login(4)));
    }

    async fn all_other_devices(ring: SessionRing) {
        let logins = logins(&ring).rotation_grace(Duration::from_secs(900));
        let mine = logins.create_for("ada", &login(0)).await.unwrap();
        let newer = logins.rotate(&mine).await.unwrap();
        let other = logins.create_for("ada", &login(1)).await.unwrap();
        let eves = logins.create_for("eve", &login(2)).await.unwrap();
        let nobodys = logins.create(&login(3)).await.unwrap();
        let unknown = SessionId::generate().unwrap();
        for not_his in [&eves, &nobodys, &unknown] {
            assert!(logins.revoke_all_but("ada", not_his).await.unwrap_err().is_not_found());
        }
        assert_eq!(logins.get(&other).await.unwrap(), Some(login(1)), "nothing was ended");
        // Through the old id, too.
        assert_eq!(logins.revoke_all_but("ada", &mine).await.unwrap(), 1);
        assert_eq!(logins.get(&other).await.unwrap(), None);
        for id in [&mine, &newer] {
            assert_eq!(logins.get(id).await.unwrap(), Some(login(0)));
        }
        assert_eq!(logins.revoke_all_but("ada", &newer).await.unwrap(), 0);
        assert_eq!(users(&logins, "ada").await, [0].into());
        assert!(logins.revoke_all_but("ada", &other).await.unwrap_err().is_not_found());
    }

    async fn a_rotated_session_stays_his_and_keeps_its_handle(ring: SessionRing) {
        let logins = logins(&ring);
        let first = logins.create_for("ada", &login(1)).await.unwrap();
        let other = logins.create_for("ada", &login(2)).await.unwrap();
        let before = logins.sessions_of("ada").await.unwrap();
        let mut ids = vec![first];
        for _ in 0..3 {
            ids.push(logins.rotate(ids.last().unwrap()).await.unwrap());
        }
        let after = logins.sessions_of("ada").await.unwrap();
        let handles = |found: &[sessionring::BoundSession<Login>]| -> Vec<SessionHandle> {
            found.iter().map(sessionring::BoundSession::handle).collect()
        };
        assert_eq!(handles(&after).len(), 2);
        assert_eq!(handles(&before), handles(&after), "the same, in the same order");
        let this = after.iter().find(|session| session.is(&ids[3])).unwrap();
        // As a page would give it back.
        let handle: SessionHandle = this.handle().to_string().parse().unwrap();
        assert!(!logins.end("eve", handle).await.unwrap());
        assert!(logins.end("ada", handle).await.unwrap());
        assert!(!logins.end("ada", handle).await.unwrap());
        for id in &ids {
            assert_eq!(logins.get(id).await.unwrap(), None);
        }
        assert_eq!(logins.get(&other).await.unwrap(), Some(login(2)));
    }

    async fn a_session_may_change_hands(ring: SessionRing) {
        let logins = logins(&ring);
        let adas = logins.create_for("ada", &login(1)).await.unwrap();
        let eves = logins.bind(&adas, "eve").await.unwrap();
        assert!(logins.sessions_of("ada").await.unwrap().is_empty());
        assert_eq!(logins.revoke_all("ada").await.unwrap(), 0);
        assert_eq!(logins.get(&eves).await.unwrap(), Some(login(1)));
        let again = logins.bind(&eves, "eve").await.unwrap();
        assert_eq!(logins.get(&eves).await.unwrap(), None);
        assert_eq!(logins.sessions_of("eve").await.unwrap().len(), 1);
        assert_eq!(logins.revoke_all("eve").await.unwrap(), 1);
        assert_eq!(logins.get(&again).await.unwrap(), None);
    }

    async fn lists_are_sealed_where_sessions_are(ring: SessionRing) {
        let sealed = logins(&ring).seal(keys());
        let id = sealed.create_for("ada", &login(1)).await.unwrap();
        let id = sealed.rotate(&id).await.unwrap();
        assert_eq!(users(&sealed, "ada").await, [1].into());
        assert!(logins(&ring).sessions_of("ada").await.unwrap_err().is_upgrade_required());
        assert!(logins(&ring).revoke_all("ada").await.unwrap_err().is_upgrade_required());
        assert_eq!(sealed.revoke_all("ada").await.unwrap(), 1);
        assert_eq!(sealed.get(&id).await.unwrap(), None);
    }

    async fn the_absolute_deadline_is_that_of_the_session_before(ring: SessionRing) {
        let short = Lifetime::new(Duration::from_secs(60), Duration::from_secs(600)).unwrap();
        let id = logins(&ring).lifetime(short).create(&login(1)).await.unwrap();
        let logins = logins(&ring);
        let id = logins.bind(&id, "ada").await.unwrap();
        assert!(logins.remaining(&id).await.unwrap().unwrap() <= Duration::from_secs(600));
    }

    async fn one_that_cannot_be_read_is_listed_and_ended(ring: SessionRing) {
        let id = logins(&ring).create_for("ada", &login(1)).await.unwrap();
        let others = ring.sessions::<(String, Vec<String>, String)>("login");
        let found = others.sessions_of("ada").await.unwrap();
        assert!(found.len() == 1 && found[0].value().unwrap_err().is_corrupt());
        assert_eq!(others.revoke_all("ada").await.unwrap(), 1);
        assert_eq!(logins(&ring).get(&id).await.unwrap(), None);
    }

    async fn there_is_a_limit(ring: SessionRing) {
        let logins = logins(&ring);
        let mut ids = Vec::new();
        for n in 0..1024 {
            ids.push(logins.create_for("ada", &login(n)).await.unwrap());
        }
        assert!(logins.create_for("ada", &login(1024)).await.unwrap_err().is_too_large());
        let anonymous = logins.create(&login(1024)).await.unwrap();
        assert!(logins.bind(&anonymous, "ada").await.unwrap_err().is_too_large());
        assert!(logins.exists(&anonymous).await.unwrap());
        assert!(logins.delete_many(&ids[..1000]).await.iter().all(Result::is_ok));
        logins.bind(&anonymous, "ada").await.unwrap();
        assert_eq!(users(&logins, "ada").await, (1000..1025).collect());
        assert_eq!(logins.revoke_all("ada").await.unwrap(), 25);
    }

    /// Whoever began before the end is ended; whoever answers after it has begun after it.
    async fn log_outs_everywhere_race_log_ins(ring: SessionRing) {
        let logins = logins(&ring);
        for round in 0..20 {
            let tasks = (0..8).map(|n| {
                let logins = logins.clone();
                tokio::spawn(async move {
                    let anonymous = logins.create(&login(n)).await.unwrap();
                    let bound = match n % 2 {
                        0 => logins.bind(&anonymous, "ada").await,
                        _ => logins.create_for("ada", &login(n)).await,
                    };
                    match bound {
                        Ok(id) if n % 3 == 0 => match logins.rotate(&id).await {
                            Ok(newer) => vec![id, newer],
                            Err(error) => { assert!(error.is_deleted(), "{error}"); vec![id] }
                        },
                        Ok(id) => vec![id],
                        Err(error) => { assert!(error.is_deleted(), "{error}"); vec![] }
                    }
                })
            });
            let tasks: Vec<_> = tasks.collect();
            for _ in 0..round % 4 {
                logins.revoke_all("ada").await.unwrap();
            }
            let mut ids = Vec::new();
            for task in tasks {
                ids.extend(task.await.unwrap());
            }
            let live: Vec<bool> =
                logins.exists_many(&ids).await.into_iter().map(Result::unwrap).collect();
            let listed = logins.sessions_of("ada").await.unwrap();
            for (id, live) in ids.iter().zip(live) {
                // An id that was replaced a moment ago is live and not the newest.
                let known = listed.iter().any(|session| session.is(id));
                assert!(!known || live, "it is listed, and dead");
            }
            logins.revoke_all("ada").await.unwrap();
            for read in logins.get_many(&ids).await {
                assert_eq!(read.unwrap(), None, "a session survived the log-out everywhere");
            }
        }
    }
}

#[tokio::test]
async fn a_ring_with_a_secret_binds() {
    let secret = RingSecret::new(&[7; 32]).unwrap();
    let ring = support::nodes(["memory:".to_owned()]).secret(secret).connect().await.unwrap();
    let logins = logins(&ring);
    let with = logins.create_for("ada", &login(1)).await.unwrap();
    let plain = support::nodes(["memory:".to_owned()]).connect().await.unwrap();
    let without = support::logins(&plain).create_for("ada", &login(1)).await.unwrap();
    assert_ne!(with.as_bytes()[..8], without.as_bytes()[..8], "nobody makes the tag without the secret");
    assert_eq!(logins.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(logins.get(&with).await.unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_bound() {
    let ring = support::nodes(["memory:".to_owned()]).connect().await.unwrap();
    let logins = logins(&ring).upsert_foreign(true);
    let foreign = SessionId::foreign("customer-4711").unwrap();
    logins.set(&foreign, &login(1)).await.unwrap();
    assert!(logins.bind(&foreign, "ada").await.unwrap_err().is_configuration());
    assert_eq!(logins.get(&foreign).await.unwrap(), Some(login(1)));
    assert!(logins.bind(&SessionId::generate().unwrap(), "ada").await.unwrap_err().is_not_found());
}

/// What is stored under the list's key: everything on the server that is not a session of these ids.
fn list_of(server: &RedisServer, ring: &SessionRing, ids: &[SessionId]) -> (Vec<u8>, Vec<u8>) {
    let sessions: Vec<Vec<u8>> =
        ids.iter().map(|id| Keyspace::new(ring.name(), "login").key(id).as_bytes().to_vec()).collect();
    let Reply::Array(keys) = server.command(&["KEYS", "*"]).unwrap() else { panic!("no keys") };
    let keys = keys.into_iter().map(|key| key.bytes().unwrap().to_vec());
    let mut lists =
        keys.filter(|key| key.len() == 30 && !key.starts_with(b"session") && !sessions.contains(key));
    let key = lists.next().expect("a list");
    assert_eq!(lists.next(), None);
    let record = server.command(&[b"GET", &key[..]]).unwrap().bytes().unwrap().to_vec();
    (key, record)
}

#[tokio::test]
async fn the_list_prunes_itself() {
    let servers = support::servers(1);
    let ring = support::on(&servers).connect().await.unwrap();
    let logins = logins(&ring);
    let mut ids = Vec::new();
    for n in 0..100 {
        let id = logins.create_for("ada", &login(n)).await.unwrap();
        logins.delete(&id).await.unwrap();
        ids.push(id);
    }
    let entries = |ids: &[SessionId]| (list_of(&servers[0], &ring, ids).1.len() - Header::LEN - 1) / 58;
    assert!(entries(&ids) <= 32, "{} entries of sessions that are gone", entries(&ids));
    ids.push(logins.create_for("ada", &login(100)).await.unwrap());
    assert_eq!(users(&logins, "ada").await, [100].into());
    assert_eq!(entries(&ids), 1, "who reads the list cleans it up");
    // It lives for as long as the last of them can.
    let (key, _) = list_of(&servers[0], &ring, &ids);
    let left = servers[0].command(&[b"PTTL", &key[..]]).unwrap().int().unwrap();
    let day = 24 * 3_600_000;
    assert!((day..day + 2 * 3_600_000).contains(&left), "{left}");
}

/// Wherever a crash cut off what the node was told, the list has every session that lives.
#[tokio::test]
async fn the_list_has_every_live_session_after_every_prefix_of_what_was_written() {
    let servers = support::servers(1);
    let ring = support::on(&servers).connect().await.unwrap();
    let logins = logins(&ring).rotation_grace(Duration::from_secs(900));
    let mut monitor = servers[0].monitor().unwrap();
    let anonymous = logins.create(&login(1)).await.unwrap();
    let bound = logins.bind(&anonymous, "ada").await.unwrap();
    let rotated = logins.rotate(&bound).await.unwrap();
    let other = logins.create_for("ada", &login(2)).await.unwrap();
    logins.delete(&other).await.unwrap();
    logins.sessions_of("ada").await.unwrap();
    logins.revoke_all_but("ada", &rotated).await.unwrap();
    logins.revoke_all("ada").await.unwrap();
    let writes: Vec<Vec<Vec<u8>>> = monitor
        .take()
        .unwrap()
        .into_iter()
        .filter(|line| line.is_lua && ["SET", "DEL", "PEXPIREAT"].contains(&line.name().as_str()))
        .map(|line| line.args)
        .collect();
    assert!(writes.len() > 10, "{} writes", writes.len());
    let ids = [&bound, &rotated, &other];
    let mut lived = 0;
    for prefix in 0..=writes.len() {
        let server = support::server();
        let again = support::nodes([server.address()]).connect().await.unwrap();
        let logins = support::logins(&again);
        for write in &writes[..prefix] {
            server.command(write).unwrap().ok().unwrap();
        }
        let mut live = 0;
        for id in ids {
            live += usize::from(logins.exists(id).await.unwrap());
        }
        lived += live;
        logins.revoke_all("ada").await.unwrap();
        for id in ids {
            assert!(!logins.exists(id).await.unwrap(), "after {prefix} writes");
        }
    }
    assert!(lived > 5);
}

#[tokio::test]
async fn a_damaged_list_is_an_error_and_not_an_empty_one() {
    for sealed in [false, true] {
        let servers = support::servers(1);
        let ring = support::on(&servers).connect().await.unwrap();
        let logins = if sealed { logins(&ring).seal(keys()) } else { logins(&ring) };
        let id = logins.create_for("ada", &login(1)).await.unwrap();
        let (key, record) = list_of(&servers[0], &ring, std::slice::from_ref(&id));
        let put = |bytes: &[u8]| {
            let command: [&[u8]; 4] = [b"SET", &key, bytes, b"KEEPTTL"];
            servers[0].command(&command).unwrap().ok().unwrap();
        };
        let mut longer = record.clone();
        longer.push(0);
        let mut tombstone = record.clone();
        tombstone[1] = b'T';
        let mut another = record.clone();
        another[3] = 3;
        for damaged in [&b"garbage"[..], &record[..record.len() - 1], &longer, &tombstone, &another] {
            put(damaged);
            for error in [
                logins.sessions_of("ada").await.unwrap_err(),
                logins.revoke_all("ada").await.unwrap_err(),
                logins.create_for("ada", &login(2)).await.unwrap_err(),
            ] {
                assert!(error.is_corrupt() && error.to_string().contains("list"), "{error}");
            }
        }
        put(&record);
        assert_eq!(logins.revoke_all("ada").await.unwrap(), 1);
        assert_eq!(logins.get(&id).await.unwrap(), None);
    }
}

/// Log-outs pass a node that takes no more data, and so does a log-out everywhere.
#[tokio::test]
async fn a_log_out_everywhere_passes_a_full_node() {
    let servers = support::servers(1);
    let ring = support::on(&servers).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create_for("ada", &login(1)).await.unwrap();
    servers[0].config_set("maxmemory", "1").unwrap();
    assert!(logins.create_for("ada", &login(2)).await.unwrap_err().is_full());
    assert_eq!(logins.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(logins.get(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_node_that_is_down_is_unavailable() {
    let servers = support::servers(1);
    let ring = support::on(&servers).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create_for("ada", &login(1)).await.unwrap();
    servers[0].kill().unwrap();
    let down =
        |error: sessionring::Error| assert!(error.is_unavailable() || error.is_indeterminate(), "{error}");
    down(logins.sessions_of("ada").await.unwrap_err());
    down(logins.revoke_all("ada").await.unwrap_err());
    down(logins.bind(&id, "ada").await.unwrap_err());
    down(logins.create_for("ada", &login(2)).await.unwrap_err());
}

/// Log-ins, rotations and log-outs everywhere while the sessions move to another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_resize() {
    let servers = support::servers(3);
    let ring = support::on(&servers[..2]).connect().await.unwrap();
    let logins = logins(&ring);
    let names: Vec<String> = (0..60).map(|n| format!("user {n}")).collect();
    for name in &names {
        for n in 0..3 {
            logins.create_for(name, &login(n)).await.unwrap();
        }
    }
    let resize = ring.add_node("c", servers[2].address()).await.unwrap();
    let mut moved = std::pin::pin!(resize.wait());
    let mut rounds = 0;
    loop {
        for (n, name) in names.iter().enumerate() {
            let mut ids = Vec::new();
            let fresh = logins.create(&login(10)).await.unwrap();
            ids.push(logins.bind(&fresh, name).await.unwrap());
            ids.push(logins.rotate(&ids[0]).await.unwrap());
            assert!(users(&logins, name).await.contains(&10), "{name}");
            if n % 2 == rounds % 2 {
                logins.revoke_all(name).await.unwrap();
                assert!(users(&logins, name).await.is_empty(), "{name}");
                assert!(logins.get_many(&ids).await.into_iter().all(|read| read.unwrap().is_none()));
            } else {
                logins.revoke_all_but(name, &ids[1]).await.unwrap();
                assert_eq!(users(&logins, name).await, [10].into(), "{name}");
            }
        }
        rounds += 1;
        if let Ok(ended) = tokio::time::timeout(Duration::ZERO, &mut moved).await {
            ended.unwrap();
            break;
        }
    }
    for name in &names {
        logins.create_for(name, &login(11)).await.unwrap();
        assert!(users(&logins, name).await.contains(&11));
        logins.revoke_all(name).await.unwrap();
        assert!(users(&logins, name).await.is_empty());
    }
}
