//! Nodes that are broken, set up wrongly while they are used, or out for harm: each is a clear error, and nothing worse.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sessionring::{Builder, Error, Event, Events, NodeState};
use sessionring_testkit::{FakeServer, FaultProxy, RedisServer, Reply, Script};
use support::{id_at, login, logins, nodes, on, server, servers};

/// What no Redis ever says.
fn horrors() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("garbage", b"\x00\xff\x17 what is this\r\n\r\n\x80".to_vec()),
        ("a web server", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("a string without end", b"$999999999999\r\nabc".to_vec()),
        ("a string of the longest length that there is", b"$9223372036854775807\r\nabc".to_vec()),
        ("a list without end", b"*2147483647\r\n".to_vec()),
        ("a list of the longest length that there is", b"*9223372036854775807\r\n:1\r\n".to_vec()),
        ("lists of lists", b"*1\r\n".repeat(200_000)),
        ("long lists of long lists", b"*2147483647\r\n".repeat(200_000)),
        ("a map without end", b"%9223372036854775807\r\n".to_vec()),
        ("a length below nothing", b"$-7\r\n*-3\r\n%-1\r\n|-1\r\n".to_vec()),
        ("a number that is none", b":9999999999999999999999\r\n".to_vec()),
        ("the answer to a question that nobody asked", b"+OK\r\n".repeat(100)),
        ("lists of nothing", b"*0\r\n".repeat(100_000)),
    ]
}

/// The most memory that this process has had.
#[cfg(target_os = "linux")]
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_redis_is_never_a_node() {
    for (what, bytes) in horrors() {
        for script in [Script::Greet(bytes.clone()), Script::Each(bytes.clone()), Script::OnceAndClose(bytes)]
        {
            let fake = FakeServer::start(script.clone()).unwrap();
            let timeout = Duration::from_millis(500);
            let begin = Instant::now();
            let error = nodes([fake.address()]).connect_timeout(timeout).connect().await.expect_err(what);
            assert!(error.is_configuration() || error.is_unavailable(), "{what}: {error:?}");
            assert!(error.to_string().starts_with("node a: "), "{what}, {script:?}: {error}");
            assert!(begin.elapsed() < Duration::from_secs(30), "{what}: {:?}", begin.elapsed());
        }
    }
    #[cfg(target_os = "linux")]
    assert!(most_memory() < 1 << 30, "{}", most_memory());
}

/// A string without end that does come, as fast as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_stops_talking_is_cut_off_before_it_fills_the_memory() {
    let mut flood = b"$999999999\r\n".to_vec();
    flood.resize(8 << 20, b'x');
    let fake = FakeServer::start(Script::Each(flood)).unwrap();
    let error = nodes([fake.address()]).connect().await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("more comes than was asked for"), "{error}");
}

/// A server that is as it should be until it answers a read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_redis_does_not_give_is_an_error_and_never_a_session() {
    let server = server();
    for (what, bytes) in horrors() {
        let client = Mutex::new(server.client().unwrap());
        let turned = Arc::new(AtomicU64::new(0));
        let has_turned = turned.clone();
        let fake = FakeServer::start(Script::respond(move |args| match &*args[0] {
            b"MGET" if has_turned.load(Relaxed) > 0 => bytes.clone(),
            _ => client.lock().unwrap().command(args).unwrap().encode(),
        }))
        .unwrap();
        let ring = on(std::slice::from_ref(&server))
            .route("a", fake.address())
            .request_timeout(Duration::from_millis(400));
        let ring = ring.connect().await.unwrap();
        let sessions = logins(&ring);
        let id = sessions.create(&login(1)).await.unwrap();
        turned.store(1, Relaxed);
        for _ in 0..3 {
            let error = sessions.get(&id).await.expect_err(what);
            assert!(error.is_configuration() || error.is_unavailable(), "{what}: {error:?}");
            assert_eq!(error.node().unwrap().as_str(), "a", "{what}: {error}");
        }
        turned.store(0, Relaxed);
        let begin = Instant::now();
        while sessions.get(&id).await.ok().flatten() != Some(login(1)) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}: it does not come back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    #[cfg(target_os = "linux")]
    assert!(most_memory() < 1 << 30, "{}", most_memory());
}

/// Byte by byte, too slowly for anybody's deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drips_keeps_nobody_past_the_deadline() {
    let server = server();
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let ring = nodes([proxy.address()]).request_timeout(Duration::from_millis(300)).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    // A few bytes of the answer come, and then no more.
    proxy.hold_after(sessionring_testkit::Direction::ToClient, 7);
    let waited = tokio::time::timeout(Duration::from_secs(10), sessions.get(&id)).await;
    let error = waited.expect("it is waited for without end").unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(sessions.get(&id).await.unwrap_err().unavailable_since().is_some());
    proxy.hold(sessionring_testkit::Direction::ToClient, false);
    while sessions.get(&id).await.ok().flatten() != Some(login(1)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A byte now and then, and never the end: it is always just about to answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drips_for_ever_is_waited_for_until_the_deadline_and_costs_the_other_nothing() {
    let servers = servers(2);
    let (client, drips) = (Mutex::new(servers[1].client().unwrap()), Arc::new(AtomicU64::new(0)));
    let dripping = drips.clone();
    let fake = FakeServer::start(Script::drip(Duration::from_millis(2), move |args| match &*args[0] {
        b"MGET" | b"EVALSHA" if dripping.load(Relaxed) > 0 => Vec::new(),
        _ => client.lock().unwrap().command(args).unwrap().encode(),
    }))
    .unwrap();
    let ring = on(&servers).route("b", fake.address()).request_timeout(Duration::from_millis(500));
    let ring = ring.connect().await.unwrap();
    let (sessions, ids) = (logins(&ring), [id_at(&ring, "a"), id_at(&ring, "b")]);
    for id in &ids {
        sessions.create_with_id(id, &login(1)).await.unwrap();
    }
    drips.store(1, Relaxed);
    for round in 0..5 {
        let begin = Instant::now();
        let (mine, ()) = tokio::join!(
            async {
                if round % 2 == 0 {
                    sessions.get(&ids[1]).await.map(drop)
                } else {
                    sessions.delete(&ids[1]).await
                }
            },
            async {
                for _ in 0..20 {
                    assert_eq!(sessions.get(&ids[0]).await.unwrap(), Some(login(1)));
                }
            },
        );
        let error = mine.unwrap_err();
        assert!(error.is_unavailable() || error.is_indeterminate(), "{error}");
        assert_eq!(error.node().unwrap().as_str(), "b");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}: {error}", begin.elapsed());
    }
    drips.store(0, Relaxed);
    let begin = Instant::now();
    while sessions.exists(&ids[1]).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One that drips from the beginning is never a node.
    let endless = FakeServer::start(Script::drip(Duration::from_millis(2), |_| Vec::new())).unwrap();
    let begin = Instant::now();
    let error =
        nodes([endless.address()]).connect_timeout(Duration::from_millis(500)).connect().await.unwrap_err();
    assert!(error.is_unavailable() && begin.elapsed() < Duration::from_secs(10), "{error}");
}

/// Looks at open connections all the time.
fn watchful(builder: Builder) -> Builder {
    builder.probe_interval(Duration::from_millis(50))
}

async fn next(events: &mut Events) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
    event.expect("nobody noticed").expect("the ring is open")
}

/// Waits until this node is down, and says why.
async fn goes_down(events: &mut Events, name: &str) -> Error {
    match next(events).await {
        Event::NodeDown { node, error } => {
            assert_eq!(node.as_str(), name, "{error}");
            error
        }
        other => panic!("{other:?}"),
    }
}

async fn comes_up(events: &mut Events, name: &str) {
    match next(events).await {
        Event::NodeUp { node } => assert_eq!(node.as_str(), name),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_evict_while_it_is_used_is_used_no_more() {
    let servers = servers(2);
    let ring = watchful(on(&servers)).connect().await.unwrap();
    let tolerant = watchful(on(&servers)).allow_eviction(true).connect().await.unwrap();
    let (sessions, id) = (logins(&ring), id_at(&ring, "b"));
    sessions.create_with_id(&id, &login(1)).await.unwrap();
    let mut events = ring.events();
    servers[1].config_set("maxmemory-policy", "allkeys-lru").unwrap();
    let error = goes_down(&mut events, "b").await;
    let asked = sessions.get(&id).await.unwrap_err();
    for error in [&error, &asked] {
        assert!(error.is_configuration(), "{error:?}");
        assert!(
            error.to_string().contains("allkeys-lru") && error.to_string().contains("noeviction"),
            "{error}"
        );
    }
    assert!(asked.unavailable_since().is_some());
    assert!(matches!(ring.health()[1].state, NodeState::Refused(_)), "{:?}", ring.health()[1]);
    assert!(matches!(ring.health()[0].state, NodeState::Up(_)), "{:?}", ring.health()[0]);
    assert_eq!(logins(&tolerant).get(&id).await.unwrap(), Some(login(1)), "who accepts it goes on");
    servers[1].config_set("maxmemory-policy", "noeviction").unwrap();
    comes_up(&mut events, "b").await;
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(1)));
}

/// Nobody writes, so nobody is told that it takes no writes; and what it answers to reads may be old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_demoted_while_it_is_only_read_from_is_used_no_more() {
    let servers = servers(2);
    let ring = watchful(on(&servers)).connect().await.unwrap();
    let primary = RedisServer::builder().replica_of(&servers[1]).start().unwrap();
    primary.wait_for_link().unwrap();
    primary.command(&["REPLICAOF", "NO", "ONE"]).unwrap().ok().unwrap();
    let mut events = ring.events();
    servers[1].command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).unwrap().ok().unwrap();
    let error = goes_down(&mut events, "b").await;
    assert!(error.to_string().contains("replica"), "{error}");
    assert!(matches!(ring.health()[0].state, NodeState::Up(_)), "{:?}", ring.health()[0]);
    servers[1].command(&["REPLICAOF", "NO", "ONE"]).unwrap().ok().unwrap();
    comes_up(&mut events, "b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_while_the_node_is_used_costs_that_node_and_not_the_one_beside_it() {
    for jump in [3 * 3600, -3 * 3600] {
        let servers = servers(2);
        let ahead = Arc::new(AtomicI64::new(0));
        let jumping = impostor_with_clock(&servers[1], ahead.clone());
        let ring = watchful(nodes([servers[0].address(), jumping.address()])).connect().await.unwrap();
        let mut events = ring.events();
        let (sessions, ids) = (logins(&ring), [id_at(&ring, "a"), id_at(&ring, "b")]);
        for id in &ids {
            sessions.create_with_id(id, &login(1)).await.unwrap();
        }
        ahead.store(jump, Relaxed);
        let error = goes_down(&mut events, "b").await;
        assert!(error.is_configuration() && error.to_string().contains("clock"), "{error}");
        assert!(error.to_string().contains(if jump < 0 { "behind" } else { "ahead of" }), "{error}");
        assert!(sessions.get(&ids[1]).await.unwrap_err().is_configuration());
        // Node a, whose clock is as far from b's as b's from its own, was looked at as well.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(sessions.get(&ids[0]).await.unwrap(), Some(login(1)));
        // Nor does it lose its place when its connection breaks.
        servers[0].command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        let begin = Instant::now();
        while sessions.get(&ids[0]).await.ok().flatten() != Some(login(1)) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", ring.health());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ahead.store(0, Relaxed);
        comes_up(&mut events, "b").await;
        assert_eq!(sessions.get(&ids[1]).await.unwrap(), Some(login(1)));
        let b = &ring.health()[1];
        assert!(b.last_error.as_ref().unwrap().to_string().contains("clock"), "{b:?}");
    }
}

/// A server whose clock is so many seconds ahead.
fn impostor_with_clock(server: &RedisServer, ahead: Arc<AtomicI64>) -> FakeServer {
    let client = Mutex::new(server.client().unwrap());
    FakeServer::start(Script::respond(move |args| {
        let reply = client.lock().unwrap().command(args).unwrap();
        match (&*args[0], reply) {
            (b"TIME", Reply::Array(parts)) => {
                let seconds: i64 = parts[0].text().unwrap().parse().unwrap();
                let seconds = (seconds + ahead.load(Relaxed)).to_string();
                Reply::Array(vec![Reply::Bulk(seconds.into()), parts[1].clone()]).encode()
            }
            (_, reply) => reply.encode(),
        }
    }))
    .unwrap()
}

/// What another application has put where our sessions would be is nobody's session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_another_application_under_our_names_are_errors_and_no_sessions() {
    let server = server();
    let ring = watchful(on(std::slice::from_ref(&server))).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    for (key, said) in [("fence", "protocol"), ("node", "belongs to node"), ("document", "protocol")] {
        let key = format!("sessionring:sessionring:{key}");
        let was = server.command(&["GET", &key]).unwrap();
        server.command(&["SET", &key, "of another application"]).unwrap();
        // An application that comes new sees every one of them.
        let error = match on(std::slice::from_ref(&server)).connect().await {
            Ok(new) => logins(&new).get(&id).await.expect_err(said),
            Err(error) => error,
        };
        let typed = error.is_configuration() || error.is_upgrade_required();
        assert!(typed && error.to_string().contains(said), "{error:?}");
        let Reply::Bulk(was) = was else { panic!("{was:?}") };
        let put_back: [&[u8]; 3] = [b"SET", key.as_bytes(), &was];
        server.command(&put_back).unwrap();
        while sessions.get(&id).await.ok().flatten() != Some(login(1)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
