//! Real servers that refuse for a while: each refusal says what to do, nothing is believed to have been written, and when it
//! is over the application goes on without a restart.

mod support;

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sessionring::{Error, Result, SessionRing, Sessions};
use sessionring_testkit::{FakeServer, RedisServer, Script};
use support::{Login, login, logins, nodes, on, server};

async fn ring_on(server: &RedisServer) -> (SessionRing, Sessions<Login>) {
    let ring = on(std::slice::from_ref(server)).connect().await.unwrap();
    let sessions = logins(&ring);
    (ring, sessions)
}

/// Asks until what is wrong is named; until then the node may just be away.
async fn says<T, F: Future<Output = Result<T>>>(words: &str, mut attempt: impl FnMut() -> F) -> Error {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Err(error) if error.to_string().contains(words) => return error,
            Err(error) => assert!(error.is_unavailable() && begin.elapsed().as_secs() < 30, "{error}"),
            Ok(_) => assert!(begin.elapsed().as_secs() < 30, "nobody says {words:?}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn again<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(begin.elapsed().as_secs() < 30, "it is not used again: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_too_many_connections_says_so_and_those_that_are_open_go_on() {
    let server = server();
    let (_ring, sessions) = ring_on(&server).await;
    let id = sessions.create(&login(1)).await.unwrap();
    let mut control = server.client().unwrap();
    control.command(&["CONFIG", "SET", "maxclients", "1"]).unwrap().ok().unwrap();
    let error = says("maxclients", || on(std::slice::from_ref(&server)).connect()).await;
    assert!(error.is_unavailable(), "{error}");
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(1)));
    // Nor is it called again without a pause by who has lost his connection.
    control.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
    let error = says("maxclients", || sessions.get(&id)).await;
    assert!(error.is_unavailable() && error.unavailable_since().is_some(), "{error}");
    control.command(&["CONFIG", "SET", "maxclients", "1000"]).unwrap().ok().unwrap();
    assert_eq!(again(|| sessions.get(&id)).await, Some(login(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_with_a_script_of_somebody_else() {
    let server = server();
    let (_ring, sessions) = ring_on(&server).await;
    let id = sessions.create(&login(1)).await.unwrap();
    server.config_set("lua-time-limit", "1").unwrap();
    let mut other = server.client().unwrap();
    other.send(&["EVAL", "while true do end", "0"]).unwrap();
    let error = says("another script blocks the server", || sessions.get(&id)).await;
    assert!(error.is_unavailable(), "{error}");
    let other_login = login(2);
    let error = says("another script blocks the server", || sessions.set(&id, &other_login)).await;
    assert!(error.is_unavailable(), "nothing of it has happened: {error}");
    server.command(&["SCRIPT", "KILL"]).unwrap().ok().unwrap();
    assert_eq!(again(|| sessions.get(&id)).await, Some(login(1)));
    sessions.set(&id, &login(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_misses_its_replicas_takes_no_writes() {
    let server = server();
    let (_ring, sessions) = ring_on(&server).await;
    let id = sessions.create(&login(1)).await.unwrap();
    server.config_set("min-replicas-to-write", "1").unwrap();
    for error in [
        sessions.set(&id, &login(2)).await.unwrap_err(),
        sessions.update(&id, |login| login.user += 1).await.unwrap_err(),
        sessions.touch(&id).await.unwrap_err(),
        sessions.delete(&id).await.unwrap_err(),
        sessions.create(&login(3)).await.unwrap_err(),
    ] {
        assert!(error.is_unavailable() && error.to_string().contains("min-replicas-to-write"), "{error}");
    }
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(1)));
    server.config_set("min-replicas-to-write", "0").unwrap();
    sessions.delete(&id).await.unwrap();
    assert_eq!(sessions.get(&id).await.unwrap(), None);
}

/// It says why, unasked, and hangs up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_protected_mode_says_so() {
    let denied =
        "DENIED Redis is running in protected mode because protected mode is enabled. Set a password.";
    let fake = FakeServer::start(Script::OnceAndClose(format!("-{denied}\r\n").into())).unwrap();
    let error = nodes([fake.address()]).connect().await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("ACL users"), "{error}");
}

/// Every refusal of a whole command, in the middle of work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_refuses_while_it_is_used_was_not_done() {
    type Is = fn(&Error) -> bool;
    let refusals: [(&str, Is, &str); 8] = [
        ("LOADING Redis is loading the dataset in memory", Error::is_unavailable, "still loading"),
        ("READONLY You can't write against a read only replica.", Error::is_unavailable, "replica"),
        ("MASTERDOWN Link with MASTER is down", Error::is_unavailable, "replica"),
        ("NOAUTH Authentication required.", Error::is_configuration, "wants a password"),
        ("NOPERM User app has no permissions", Error::is_configuration, "docs/operations.md"),
        ("OOM command not allowed when used memory > 'maxmemory'.", Error::is_full, "maxmemory"),
        ("MISCONF Errors writing to the AOF file: No space left on device", Error::is_full, "disk"),
        ("CLUSTERDOWN Hash slot not served", Error::is_configuration, "Redis Cluster"),
    ];
    let server = server();
    for (refusal, is, words) in refusals {
        let (client, refuses) = (Mutex::new(server.client().unwrap()), Arc::new(AtomicBool::new(false)));
        let told = refuses.clone();
        let fake = FakeServer::start(Script::respond(move |args| {
            if told.load(Relaxed) {
                return format!("-{refusal}\r\n").into_bytes();
            }
            client.lock().unwrap().command(args).unwrap().encode()
        }))
        .unwrap();
        let ring = on(std::slice::from_ref(&server)).route("a", fake.address());
        let ring = ring.request_timeout(Duration::from_secs(1)).connect().await.unwrap();
        let sessions = logins(&ring);
        let id = sessions.create(&login(1)).await.unwrap();
        refuses.store(true, Relaxed);
        // Known to be refused, so never indeterminate.
        let write = sessions.set(&id, &login(2)).await.unwrap_err();
        let (read, delete) = (sessions.get(&id).await.unwrap_err(), sessions.delete(&id).await.unwrap_err());
        for error in [write, read, delete] {
            assert!(is(&error) || error.is_unavailable(), "{refusal}: {error:?}");
        }
        let begin = Instant::now();
        loop {
            let error = sessions.set(&id, &login(2)).await.unwrap_err();
            if is(&error) && error.to_string().contains(words) {
                break;
            }
            assert!(error.is_unavailable() && begin.elapsed().as_secs() < 30, "{refusal}: {error}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        refuses.store(false, Relaxed);
        assert_eq!(again(|| sessions.get(&id)).await, Some(login(1)), "{refusal}");
        sessions.set(&id, &login(2)).await.unwrap();
    }
}
