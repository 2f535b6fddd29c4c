//! Does every one of the things in the README's table of errors, and holds the table to what came of it.
//!
//! `UPDATE_README=1 cargo test --test errors` writes the table anew.

mod support;

use std::{
    fmt::Write as _,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sessionring::{
    Error, Lifetime, SaveError, SealingKeys, SessionData, SessionId, SessionRing,
    record::{FORMAT_VERSION, Keyspace},
};
use sessionring_testkit::{Client, Direction, FakeServer, FaultProxy, RedisServer, Reply, Script};
use support::{Login, login, logins, nodes, on, server, servers};

/// A session type that has a version.
#[derive(Serialize, Deserialize)]
struct Newer(u8);

impl SessionData for Newer {
    const VERSION: u16 = 1;
}

/// What was done, and the error it gave.
type Row = (&'static str, Error);

async fn refused(addresses: impl IntoIterator<Item = String>) -> Error {
    nodes(addresses).connect_timeout(Duration::from_millis(500)).connect().await.expect_err("connected")
}

#[track_caller]
fn says(error: &Error, is: fn(&Error) -> bool, words: &[&str]) {
    assert!(is(error), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
}

/// A server that passes everything on to a real one, except that it changes some answers.
fn impostor(
    server: &RedisServer,
    change: impl Fn(&str, Reply) -> Reply + Send + Sync + 'static,
) -> FakeServer {
    let client = Mutex::new(server.client().unwrap());
    FakeServer::start(Script::respond(move |args| {
        let command = String::from_utf8_lossy(&args[0]).to_uppercase();
        let reply = client.lock().unwrap().command(args).unwrap();
        change(&command, reply).encode()
    }))
    .unwrap()
}

async fn options() -> Vec<Row> {
    let none = SessionRing::builder().connect().await.unwrap_err();
    says(&none, Error::is_configuration, &["node"]);
    let twice = SessionRing::builder().node("a", "memory:").node("a", "memory:").connect().await.unwrap_err();
    says(&twice, Error::is_configuration, &["a"]);
    let address = refused(["http://10.0.0.1".to_owned()]).await;
    says(&address, Error::is_configuration, &["node a", "redis://"]);
    let lifetime = Lifetime::new(Duration::from_secs(2), Duration::from_secs(1)).unwrap_err();
    says(&lifetime, Error::is_configuration, &["2s", "1s"]);
    let key = SealingKeys::new(1, b"secret").unwrap_err().into();
    says(&key, Error::is_configuration, &["32 bytes", "6"]);
    vec![
        ("no node in the builder", none),
        ("two nodes of one name", twice),
        ("an address that is none", address),
        ("an idle lifetime above the absolute one", lifetime),
        ("a sealing key that is too short", key),
    ]
}

async fn wrong_servers() -> Vec<Row> {
    let nothing = refused(["redis://127.0.0.1:1".to_owned()]).await;
    says(&nothing, Error::is_unavailable, &["node a", "127.0.0.1:1", "refused"]);

    let http = FakeServer::start(Script::http()).unwrap();
    let not_redis = refused([http.address()]).await;
    says(&not_redis, Error::is_configuration, &["does not speak the Redis protocol"]);

    let silence = FakeServer::start(Script::Silence).unwrap();
    let silent = refused([silence.address()]).await;
    says(&silent, Error::is_unavailable, &["no answer within 500 ms"]);

    let cluster = RedisServer::builder().cluster().start().unwrap();
    let member = refused([cluster.address()]).await;
    says(&member, Error::is_configuration, &["Redis Cluster", "plain servers"]);

    let primary = server();
    let copy = RedisServer::builder().replica_of(&primary).start().unwrap();
    let replica = refused([copy.address()]).await;
    says(&replica, Error::is_configuration, &["read-only replica of", "primary"]);

    let loading = impostor(&primary, |command, reply| match (command, reply) {
        ("INFO", Reply::Bulk(info)) => {
            Reply::Bulk(String::from_utf8(info).unwrap().replace("loading:0", "loading:1").into())
        }
        ("CLIENT", reply) => reply,
        _ => Reply::Error("LOADING Redis is loading the dataset in memory".into()),
    });
    let loading = refused([loading.address()]).await;
    says(&loading, Error::is_unavailable, &["still loading"]);

    let locked = RedisServer::builder()
        .password("hunter2")
        .acl_user("app", "on >hunter3 ~* +get +info +time")
        .start()
        .unwrap();
    let password = refused([locked.address()]).await;
    says(&password, Error::is_configuration, &["password"]);
    let wrong = refused([locked.address_as("app", "hunter1")]).await;
    says(&wrong, Error::is_configuration, &["refuses this user or password"]);
    let acl = refused([locked.address_as("app", "hunter3")]).await;
    says(&acl, Error::is_configuration, &["ACL"]);
    for error in [&password, &wrong, &acl] {
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }

    let old = impostor(&primary, |command, reply| match (command, reply) {
        ("INFO", Reply::Bulk(info)) => {
            Reply::Bulk(String::from_utf8(info).unwrap().replace("redis_version:7", "redis_version:5").into())
        }
        (_, reply) => reply,
    });
    let old = refused([old.address()]).await;
    says(&old, Error::is_configuration, &["6.2 or later"]);

    let evicting = RedisServer::builder().config("maxmemory-policy", "allkeys-lru").start().unwrap();
    let evicts = refused([evicting.address()]).await;
    says(&evicts, Error::is_configuration, &["allkeys-lru", "noeviction", "allow_eviction"]);
    on(&[evicting]).allow_eviction(true).connect().await.unwrap();

    vec![
        ("nothing listens at the address", nothing),
        ("something listens that is not Redis", not_redis),
        ("something listens that says nothing", silent),
        ("a member of a Redis Cluster", member),
        ("a read-only replica", replica),
        ("a server that is still loading its data", loading),
        ("a server that wants a password", password),
        ("a wrong password", wrong),
        ("a user whose ACL lacks a command", acl),
        ("a Redis older than 6.2", old),
        ("a `maxmemory-policy` that evicts", evicts),
    ]
}

async fn wrong_rings() -> Vec<Row> {
    let three = servers(3);
    let address = |i: usize| three[i].address();
    let same = refused([address(0), address(1), address(0)]).await;
    says(&same, Error::is_configuration, &["the same database as node", "a database of its own"]);

    let three = servers(3);
    let hour = 3600;
    let ahead = impostor(&three[1], move |command, reply| match (command, reply) {
        ("TIME", Reply::Array(parts)) => {
            let seconds: u64 = parts[0].text().unwrap().parse().unwrap();
            Reply::Array(vec![Reply::Bulk((seconds + hour).to_string().into()), parts[1].clone()])
        }
        (_, reply) => reply,
    });
    let clock = refused([three[0].address(), ahead.address(), three[2].address()]).await;
    says(&clock, Error::is_configuration, &["node b", "ahead of", "NTP"]);

    let ring = on(&three).connect().await.unwrap();
    let fewer = on(&three[..2]).connect().await.unwrap();
    assert!(fewer.warnings().iter().any(|warning| warning.contains("node c")), "{:?}", fewer.warnings());
    let hashed = on(&three).hashed(160).connect().await.unwrap();
    assert!(hashed.warnings().iter().any(|warning| warning.contains("otherwise")), "{:?}", hashed.warnings());
    // Neither of the two changed anything.
    let id = logins(&ring).create(&login(1)).await.unwrap();
    assert!(on(&three).connect().await.is_ok());
    assert_eq!(logins(&ring).get(&id).await.unwrap(), Some(login(1)));

    let mut newer = vec![2; 25];
    newer[0] = 2;
    let fence: [&[u8]; 3] = [b"SET", b"sessionring:sessionring:fence", &newer];
    three[0].command(&fence).unwrap();
    let upgrade = on(&three).connect().await.unwrap_err();
    says(&upgrade, Error::is_upgrade_required, &["upgrade this application"]);

    let two = servers(2);
    let unfounded = refused([two[0].address(), "redis://127.0.0.1:1".to_owned()]).await;
    says(&unfounded, Error::is_unavailable, &["node b", "founding it needs every node"]);

    vec![
        ("one database under two names", same),
        ("a node whose clock is an hour ahead", clock),
        ("a ring that a newer version has upgraded", upgrade),
        ("a new ring of which one node is down", unfounded),
    ]
}

async fn sessions_that_are_not() -> Vec<Row> {
    let server = server();
    let ring = on(std::slice::from_ref(&server)).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create(&login(1)).await.unwrap();
    let exists = logins.create_with_id(&id, &login(2)).await.unwrap_err();
    says(&exists, Error::is_exists, &[]);
    let large = Login { user: 1, cart: vec!["x".repeat(70_000)] };
    let large = logins.set(&id, &large).await.unwrap_err();
    says(&large, Error::is_too_large, &["70007", "65536"]);
    logins.delete(&id).await.unwrap();
    let deleted = logins.set(&id, &login(2)).await.unwrap_err();
    says(&deleted, Error::is_deleted, &["final"]);
    let unknown = logins.touch(&SessionId::generate().unwrap()).await.unwrap_err();
    says(&unknown, Error::is_not_found, &["expired, or never was"]);

    let typed = logins.create(&login(1)).await.unwrap();
    let other_type = ring.sessions::<Vec<(String, String)>>("login").get(&typed).await.unwrap_err();
    says(&other_type, Error::is_corrupt, &["does not decode"]);

    let keyspace = Keyspace::new("sessionring", "login");
    let put = |command: &[&[u8]]| {
        let id = SessionId::generate().unwrap();
        let key = keyspace.key(&id);
        let command: Vec<&[u8]> =
            command.iter().map(|arg| if *arg == b"KEY" { key.as_bytes() } else { *arg }).collect();
        server.command(&command).unwrap();
        id
    };
    let garbage = put(&[b"SET", b"KEY", b"garbage"]);
    let not_a_record = logins.get(&garbage).await.unwrap_err();
    says(&not_a_record, Error::is_corrupt, &[]);
    says(&logins.set(&garbage, &login(1)).await.unwrap_err(), Error::is_corrupt, &[]);
    let list = put(&[b"RPUSH", b"KEY", b"x"]);
    let wrong_type = logins.get(&list).await.unwrap_err();
    says(&wrong_type, Error::is_corrupt, &["another Redis type"]);
    says(&logins.touch(&list).await.unwrap_err(), Error::is_corrupt, &["another Redis type"]);
    let sealing = |key| logins.clone().seal(SealingKeys::new(1, &[key; 32]).unwrap());
    let sealed = sealing(1).create(&login(1)).await.unwrap();
    let no_key = logins.get(&sealed).await.unwrap_err();
    says(&no_key, Error::is_upgrade_required, &["key 1"]);
    let not_authentic = sealing(2).get(&sealed).await.unwrap_err();
    says(&not_authentic, Error::is_corrupt, &["key 1"]);
    let plain = logins.create(&login(1)).await.unwrap();
    let not_sealed = sealing(1).get(&plain).await.unwrap_err();
    says(&not_sealed, Error::is_corrupt, &["accept_unsealed"]);
    let versioned = ring.versioned_sessions::<Newer>("login").create(&Newer(1)).await.unwrap();
    let newer_type = logins.get(&versioned).await.unwrap_err();
    says(&newer_type, Error::is_upgrade_required, &["version 1", "version 0"]);
    let mut in_hand = logins.load(&plain).await.unwrap().expect("a session");
    logins.set(&plain, &login(2)).await.unwrap();
    let saved = logins.save(&mut in_hand).await.unwrap_err();
    assert!(matches!(&saved, SaveError::Conflict(there) if there.user == 2));
    let not_saved = saved.into();
    says(&not_saved, Error::is_conflict, &["merge"]);
    let newer = put(&[b"SET", b"KEY", &[FORMAT_VERSION + 1; 50]]);
    let upgrade = logins.get(&newer).await.unwrap_err();
    says(&upgrade, Error::is_upgrade_required, &["format 2", "upgrade"]);
    for id in [garbage, list] {
        logins.delete(&id).await.unwrap();
        assert!(logins.set(&id, &login(1)).await.unwrap_err().is_deleted());
    }

    vec![
        ("`set` after the log-out", deleted),
        ("`touch` of a session that expired", unknown),
        ("`create_with_id` of an id in use", exists),
        ("a session over `max_bytes`", large),
        ("a session of another type", other_type),
        ("garbage under the session's key", not_a_record),
        ("another Redis type under the session's key", wrong_type),
        ("a record of a newer version", upgrade),
        ("a session of a newer version of its type", newer_type),
        ("`save` of what others wrote meanwhile", not_saved),
        ("a sealed session, without its key", no_key),
        ("a sealed session that was changed or swapped", not_authentic),
        ("a session without a seal, where all are sealed", not_sealed),
    ]
}

async fn nodes_that_fail() -> Vec<Row> {
    // Out of memory: new sessions are refused, log-outs work.
    let full = server();
    let ring = on(std::slice::from_ref(&full)).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    full.config_set("maxmemory", "1").unwrap();
    let memory = sessions.create(&login(2)).await.unwrap_err();
    says(&memory, Error::is_full, &["maxmemory", "log-outs"]);
    sessions.delete(&id).await.unwrap();
    assert!(sessions.set(&id, &login(1)).await.unwrap_err().is_deleted());

    // A disk that takes no snapshot.
    let disk = RedisServer::builder().config("save", "3600 1").start().unwrap();
    let ring = on(std::slice::from_ref(&disk)).connect().await.unwrap();
    let id = logins(&ring).create(&login(1)).await.unwrap();
    std::fs::remove_dir_all(disk.dir()).unwrap();
    let mut client = disk.client().unwrap();
    client.command(&["BGSAVE"]).unwrap();
    let begin = Instant::now();
    while disk.info("rdb_last_bgsave_status").unwrap().as_deref() != Some("err") {
        assert!(begin.elapsed() < Duration::from_secs(10), "the snapshot did not fail");
        std::thread::yield_now();
    }
    let snapshot = logins(&ring).delete(&id).await.unwrap_err();
    says(&snapshot, Error::is_full, &["disk", "log-outs included"]);
    assert_eq!(logins(&ring).get(&id).await.unwrap(), Some(login(1)));

    // A node that dies.
    let two = servers(2);
    let ring = on(&two).request_timeout(Duration::from_millis(500)).connect().await.unwrap();
    let sessions = logins(&ring);
    let mut of_a = sessions.create(&login(1)).await.unwrap();
    while ring.owner(&of_a).as_str() != "a" {
        of_a = sessions.create(&login(1)).await.unwrap();
    }
    two[0].kill().unwrap();
    let begin = Instant::now();
    let mut down = sessions.get(&of_a).await.unwrap_err();
    while !(down.to_string().contains("unavailable for") && down.to_string().contains("refused")) {
        assert!(begin.elapsed() < Duration::from_secs(10), "{down}");
        says(&down, Error::is_unavailable, &["node a"]);
        down = sessions.get(&of_a).await.unwrap_err();
    }
    says(&down, Error::is_unavailable, &["node a", "neither lost nor logged out"]);
    assert!(sessions.set(&of_a, &login(2)).await.unwrap_err().is_unavailable());

    // A node that does not answer: a read is unavailable, a write may have happened.
    let slow = server();
    let proxy = FaultProxy::in_front_of(&slow).unwrap();
    let hasty = nodes([proxy.address()]).request_timeout(Duration::from_millis(200));
    let (reader, writer) = (hasty.clone().connect().await.unwrap(), hasty.connect().await.unwrap());
    let (reader, writer) = (logins(&reader), logins(&writer));
    let id = writer.create(&login(1)).await.unwrap();
    proxy.hold(Direction::ToClient, true);
    let other = login(2);
    let (no_answer, write) = tokio::join!(reader.get(&id), writer.set(&id, &other));
    let (no_answer, indeterminate) = (no_answer.unwrap_err(), write.unwrap_err());
    says(&no_answer, Error::is_unavailable, &["node a"]);
    says(&indeterminate, Error::is_indeterminate, &["may or may not have happened"]);
    proxy.hold(Direction::ToClient, false);

    // More requests than may wait, while one is under way.
    let ring = nodes([proxy.address()]).queue_limit(3).connect().await.unwrap();
    let sessions = logins(&ring);
    proxy.hold(Direction::ToClient, true);
    let sent = proxy.counts().requests;
    let under_way = tokio::spawn({
        let (sessions, id) = (sessions.clone(), id.clone());
        async move { sessions.get(&id).await }
    });
    assert!(proxy.wait_for(|counts| counts.requests > sent, Duration::from_secs(10)));
    let ids = vec![id.clone(); 3];
    let (waiting, overloaded) = tokio::join!(sessions.get_many(&ids), async {
        let overloaded = sessions.get(&id).await.unwrap_err();
        proxy.hold(Direction::ToClient, false);
        overloaded
    });
    assert!(under_way.await.unwrap().is_ok() && waiting.iter().all(Result::is_ok));
    says(&overloaded, Error::is_overloaded, &["3 requests wait", "queue_limit"]);

    ring.close().await;
    let closed = sessions.get(&id).await.unwrap_err();
    says(&closed, Error::is_closed, &["connect again"]);

    vec![
        ("a node at `maxmemory`: `create`", memory),
        ("a node whose disk is full: any write", snapshot),
        ("a node that is down", down),
        ("a node that does not answer: `get`", no_answer),
        ("a node that does not answer: `set`", indeterminate),
        ("more requests than may wait", overloaded),
        ("after `close()`", closed),
    ]
}

async fn a_lost_race() -> Row {
    let ring =
        nodes(["memory:".to_owned()]).request_timeout(Duration::from_millis(50)).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create(&login(1)).await.unwrap();
    let handle = tokio::runtime::Handle::current();
    let conflict = logins
        .update(&id, |l| {
            l.user += 1;
            // Somebody else is faster, every time.
            let (logins, id, handle) = (logins.clone(), id.clone(), handle.clone());
            std::thread::spawn(move || handle.block_on(logins.set(&id, &login(0)))).join().unwrap().unwrap();
        })
        .await
        .unwrap_err();
    says(&conflict, Error::is_conflict, &["nothing was changed"]);
    ("`update` that others outrun each time", conflict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_the_readme_is_what_happens() {
    let sections = [
        ("**Connecting**", [options().await, wrong_servers().await, wrong_rings().await].concat()),
        ("**A session**", {
            let mut rows = sessions_that_are_not().await;
            rows.push(a_lost_race().await);
            rows
        }),
        ("**A node**", nodes_that_fail().await),
    ];
    let mut table = String::from("\n| what happens | `Error` | what it says |\n|---|---|---|\n");
    for (title, rows) in sections {
        writeln!(table, "| {title} | | |").unwrap();
        for (what, error) in rows {
            writeln!(table, "| {what} | `{:?}` | {} |", error.kind(), plain(&error.to_string())).unwrap();
        }
    }
    table.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once("<!-- errors -->").expect("the README marks its table");
    let (old, after) = rest.split_once("<!-- /errors -->").expect("the README marks the end of its table");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{before}<!-- errors -->{table}<!-- /errors -->{after}")).unwrap();
    } else {
        for (old, new) in old.lines().zip(table.lines()) {
            assert_eq!(old, new, "README left, what happened right; UPDATE_README=1 writes the table anew");
        }
        assert_eq!(old, table);
    }
}

/// Without what differs from run to run: ports, times, keys, versions of the server, fences.
fn plain(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        words.push(if let Some((head, tail)) = word.split_once("127.0.0.1:") {
            let tail = tail.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{head}10.0.0.1:6379{tail}")
        } else if let Some((head, _)) = word.split_once("Key(") {
            format!("{head}Key(…))")
        } else if word.len() >= 16 && word[..16].bytes().all(|b| b.is_ascii_hexdigit()) {
            format!("…{}", &word[16..])
        } else {
            word.to_owned()
        });
    }
    let text = words.join(" ");
    let text = match text.split_once("unavailable for ") {
        Some((head, tail)) => {
            format!("{head}unavailable for 0.1{}", tail.trim_start_matches(|c: char| c != ' '))
        }
        None => text,
    };
    let text = match text.split_once("is Redis 5") {
        Some((head, tail)) => format!("{head}is Redis 5.0{}", &tail[tail.find(';').unwrap_or(0)..]),
        None => text,
    };
    text.replace("3600.1 s", "3600.0 s").replace('|', "\\|")
}

#[tokio::test]
async fn addresses_with_everything_in_them() {
    let password = "p@ss:w/rd%?#";
    let locked = RedisServer::builder().password(password).start().unwrap();
    let at = format!("default:p%40ss%3Aw%2Frd%25%3F%23@127.0.0.1:{}", locked.port());
    for address in [
        format!("redis://{at}"),
        format!("redis://{at}/3"),
        format!("valkey://{}/4", at.trim_start_matches("default")),
        format!("redis://{at}/5?protocol=resp3"),
    ] {
        let ring = nodes([address.clone()]).connect().await.unwrap_or_else(|e| panic!("{address}: {e}"));
        let id = logins(&ring).create(&login(1)).await.unwrap();
        assert_eq!(logins(&ring).get(&id).await.unwrap(), Some(login(1)));
    }
    let error = refused([format!("redis://{at}/99")]).await;
    says(&error, Error::is_configuration, &["no database of this number"]);
    let error = refused(["unix:/no/such/socket".to_owned()]).await;
    says(&error, Error::is_unavailable, &["/no/such/socket"]);
}

#[test]
fn the_builder_shows_no_password() {
    let builder = SessionRing::builder().node("a", "redis://app:hunter2@10.0.0.1");
    let shown = format!("{builder:?}");
    assert!(shown.contains("\"a\"") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_handle_that_outlives_its_runtime_says_so_and_never_hangs() {
    let server = server();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = runtime();
    let (sessions, id) = first.block_on(async {
        let sessions = logins(&on(std::slice::from_ref(&server)).connect().await.unwrap());
        let id = sessions.create(&login(1)).await.unwrap();
        (sessions, id)
    });
    drop(first);
    runtime().block_on(async {
        says(&sessions.get(&id).await.unwrap_err(), Error::is_closed, &["runtime"]);
        says(&sessions.set(&id, &login(2)).await.unwrap_err(), Error::is_closed, &["runtime"]);
        for result in sessions.get_many(&[id.clone(), id.clone()]).await {
            says(&result.unwrap_err(), Error::is_closed, &["runtime"]);
        }
    });
    let _ = Client::connect(server.socket_address()).unwrap();
}
