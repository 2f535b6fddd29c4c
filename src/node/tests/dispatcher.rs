//! The dispatcher on real servers: batches, faults, bounds.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use sessionring_testkit::{FakeServer, FaultProxy, RedisServer, Reply, Script};

use super::*;
use crate::protocol::Outcome;

async fn node() -> (RedisServer, TestNode) {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let node = TestNode::connect("dispatch", &server.address(), Limits::default()).await;
    (server, node)
}

async fn node_behind_proxy() -> (RedisServer, FaultProxy, TestNode) {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let node = TestNode::connect("dispatch", &proxy.address(), Limits::default()).await;
    (server, proxy, node)
}

fn create(operation: u64) -> Command {
    Command::from(write(Condition::Absent, operation, b"value"))
}

#[tokio::test]
async fn a_batch_with_one_bad_key_fails_only_that_key() {
    let (server, node) = node().await;
    let (listed, garbled) = (node.key(3), node.key(5));
    let list: [&[u8]; 3] = [b"RPUSH", listed.as_bytes(), b"x"];
    assert_eq!(server.command(&list).unwrap(), Reply::Int(1));
    let garbage: [&[u8]; 3] = [b"SET", garbled.as_bytes(), b"no record"];
    server.command(&garbage).unwrap();
    let requests = (0..8).map(|key| node.request(key, create(u64::from(key)))).collect();
    let answers = node.node.submit_many(requests).await;
    for (key, answer) in answers.into_iter().enumerate() {
        match (key, answer.unwrap()) {
            (3, Outcome::WrongType) | (5, Outcome::Unexpected(_)) => {}
            (3 | 5, other) => panic!("key {key}: {other:?}"),
            (_, outcome) => assert!(matches!(outcome, Outcome::Applied(_)), "key {key}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn what_waits_travels_together_and_batches_are_bounded() {
    let (server, node) = node().await;
    let monitor = server.monitor().unwrap();
    let requests = (0..200).map(|key| node.request(key, create(u64::from(key)))).collect();
    assert!(node.node.submit_many(requests).await.iter().all(Result::is_ok));
    let reads = (0..200).map(|key| node.request(key, Command::Read)).collect();
    assert!(node.node.submit_many(reads).await.iter().all(Result::is_ok));
    let lines = monitor.stop().unwrap();
    let commands: Vec<(String, usize)> =
        lines.iter().filter(|line| !line.is_lua).map(|line| (line.name(), line.args.len())).collect();
    let (fixed, per_write) = (8, 2);
    let evalsha = |writes: usize| ("EVALSHA".to_owned(), fixed + per_write * writes);
    assert_eq!(commands, [evalsha(96), evalsha(96), evalsha(8), ("MGET".to_owned(), 3 + 200)]);
}

/// How large a record is turns out when it is read.
#[tokio::test]
async fn large_records_are_read_few_at_a_time() {
    let (server, node) = node().await;
    let value = vec![0; (64 << 10) - 35];
    let requests = (0..64)
        .map(|key| node.request(key, write(Condition::Absent, u64::from(key), &value).into()))
        .collect();
    assert!(node.node.submit_many(requests).await.iter().all(Result::is_ok));
    let read = || (0..64).map(|key| node.request(key, Command::Read)).collect();
    assert!(node.node.submit_many(read()).await.iter().all(Result::is_ok));
    let monitor = server.monitor().unwrap();
    assert!(node.node.submit_many(read()).await.iter().all(Result::is_ok));
    let lines = monitor.stop().unwrap();
    let asked: Vec<usize> = lines.iter().map(|line| line.args.len() - 3).collect();
    assert_eq!(asked, [16; 4], "a command asks for about a megabyte");
}

#[tokio::test]
async fn a_flushed_script_is_loaded_again() {
    let (server, node) = node().await;
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    let requests = (0..200).map(|key| node.request(key, create(u64::from(key)))).collect();
    for answer in node.node.submit_many(requests).await {
        assert!(matches!(answer, Ok(Outcome::Applied(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_flushed_node_refuses_everything_and_says_that_it_has_no_fence() {
    let (server, node) = node().await;
    assert!(node.run(1, create(1)).await.is_ok());
    server.command(&["FLUSHALL"]).unwrap();
    for command in [Command::Read, create(2)] {
        let answer = node.run(1, command).await;
        assert!(matches!(&answer, Err(Failure::Refused(refusal)) if refusal.stored.is_none()), "{answer:?}");
    }
}

#[tokio::test]
async fn another_fence_refuses_everything() {
    let (server, node) = node().await;
    assert!(node.run(1, create(1)).await.is_ok());
    let other = fence("another ring");
    let other = other.encode();
    let set: [&[u8]; 3] = [b"SET", node.keys.fence.as_bytes(), &other];
    server.command(&set).unwrap();
    for command in [Command::Read, Command::Delete(delete(2)), Command::Touch(HOUR)] {
        let answer = node.run(1, command).await;
        assert!(
            matches!(&answer, Err(Failure::Refused(refusal)) if refusal.stored.as_deref() == Some(&other)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_lost_and_the_next_request_goes_through() {
    let (_server, proxy, node) = node_behind_proxy().await;
    proxy.cut_after_request();
    let answer = node.run(1, create(1)).await;
    assert!(matches!(answer, Err(Failure::Lost(_))), "{answer:?}");
    // It had happened, and the same write again says so.
    let again = node.run(1, create(1)).await;
    assert!(matches!(again, Ok(Outcome::Applied(_))), "{again:?}");
    assert_eq!(node.run(1, create(2)).await.unwrap(), Outcome::Exists);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_breaks_costs_no_request() {
    let (_server, proxy, node) = node_behind_proxy().await;
    for round in 0..5 {
        let connections = proxy.counts().connections;
        proxy.cut();
        assert!(proxy.wait_for(|counts| counts.connections > connections, Duration::from_secs(10)));
        let answer = node.run(round, Command::from(write(Condition::Live, 1, b"blind"))).await;
        assert_eq!(answer.unwrap(), Outcome::Absent);
    }
}

/// The connection ends at the very moment at which requests arrive: what did not leave waits for the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_meets_a_closed_connection_is_not_refused() {
    let (server, node) = node().await;
    for round in 0..1500 {
        let reading = tokio::spawn(node.node.submit(node.request(1, Command::Read)));
        for _ in 0..round % 4 {
            tokio::task::yield_now().await;
        }
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
        let begin = Instant::now();
        let first = reading.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "{first:?} came at the deadline");
        assert!(matches!(first, Ok(Outcome::Absent) | Err(Failure::Lost(_))), "{first:?}");
        // Until the next connection stands, so that the next round does not hit it in its handshake.
        loop {
            match node.run(2, Command::Read).await {
                Ok(_) => break,
                Err(Failure::Lost(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_goes_silent_fails_requests_at_their_deadline_and_then_at_once() {
    let (_server, proxy, node) = node_behind_proxy().await;
    proxy.blackhole(true);
    let deadline = Instant::now() + Duration::from_millis(100);
    let request = |key, command| Request { deadline, ..node.request(key, command) };
    let (read, write) =
        tokio::join!(node.node.submit(request(1, Command::Read)), node.node.submit(request(1, create(1))));
    for answer in [read, write] {
        assert!(matches!(&answer, Err(Failure::Lost(e)) if e.is_unavailable()), "{answer:?}");
    }
    // The next one waits for the first attempt to connect again, which the proxy swallows too.
    let waited = node.run(1, Command::Read).await;
    assert!(matches!(&waited, Err(Failure::Unsent(e)) if e.is_unavailable()), "{waited:?}");
    // From here on nobody waits.
    let begin = Instant::now();
    for _ in 0..100 {
        assert!(node.run(1, Command::Read).await.is_err());
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    proxy.blackhole(false);
    proxy.cut();
    while node.run(1, Command::Read).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_full_queue_refuses_with_an_error_that_says_so() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let limits = Limits { queue_requests: 10, read_batch: 1, flight_batches: 1, ..Limits::default() };
    let node = TestNode::connect("queue", &proxy.address(), limits).await;
    proxy.hold(sessionring_testkit::Direction::ToServer, true);
    let waiting: Vec<_> =
        (0..20).map(|key| tokio::spawn(node.node.submit(node.request(key, Command::Read)))).collect();
    tokio::task::yield_now().await;
    proxy.hold(sessionring_testkit::Direction::ToServer, false);
    let mut overloaded = 0;
    for waiting in waiting {
        match waiting.await.unwrap() {
            Ok(Outcome::Absent) => {}
            Err(Failure::Unsent(error)) if error.is_overloaded() => overloaded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((9..=10).contains(&overloaded), "{overloaded}");
    assert_eq!(node.run(1, Command::Read).await.unwrap(), Outcome::Absent);
}

#[tokio::test]
async fn a_queue_is_full_by_its_bytes_too() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let limits = Limits { queue_bytes: 1000, script_batch: 1, flight_batches: 1, ..Limits::default() };
    let node = TestNode::connect("queue", &proxy.address(), limits).await;
    proxy.hold(sessionring_testkit::Direction::ToServer, true);
    let large = |number: u8| Command::from(write(Condition::AbsentOrLive, u64::from(number), &[number; 400]));
    let waiting: Vec<_> =
        (0..8).map(|key| tokio::spawn(node.node.submit(node.request(key, large(key))))).collect();
    tokio::task::yield_now().await;
    proxy.hold(sessionring_testkit::Direction::ToServer, false);
    let mut overloaded = 0;
    for waiting in waiting {
        match waiting.await.unwrap() {
            Ok(Outcome::Applied(_)) => {}
            Err(Failure::Unsent(error)) if error.is_overloaded() => overloaded += 1,
            other => panic!("{other:?}"),
        }
    }
    // One may be on its way, and two wait.
    assert!((5..=6).contains(&overloaded), "{overloaded}");
}

#[tokio::test]
async fn closing_lets_what_was_submitted_finish() {
    let (_server, node) = node().await;
    let submitted: Vec<_> = (0..50).map(|key| node.node.submit(node.request(key, create(1)))).collect();
    node.node.close().await;
    for answer in submitted {
        assert!(matches!(answer.await, Ok(Outcome::Applied(_))));
    }
    match node.run(1, Command::Read).await {
        Err(Failure::Unsent(error)) => assert!(error.is_closed(), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// A user who loses a permission for a moment: of three batches in one flight the second is refused.
#[tokio::test]
async fn a_batch_that_breaks_the_connection_says_nothing_of_the_others() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let (client, scripts) = (std::sync::Mutex::new(server.client().unwrap()), AtomicU32::new(0));
    let refusing = FakeServer::start(Script::respond(move |args| {
        // The control plane's scripts have more keys than a batch of two.
        if args[0] == b"EVALSHA" && args[2] == b"4" && scripts.fetch_add(1, Relaxed) == 1 {
            return b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n".to_vec();
        }
        client.lock().unwrap().command(args).unwrap().encode()
    }))
    .unwrap();
    let limits = Limits { script_batch: 2, ..Limits::default() };
    let node = TestNode::connect("refused", &refusing.address(), limits).await;
    let requests = (0..6).map(|key| node.request(key, create(u64::from(key)))).collect();
    for (key, answer) in node.node.submit_many(requests).await.into_iter().enumerate() {
        match (key, answer) {
            (2 | 3, Err(Failure::Unsent(error))) => assert!(error.is_configuration(), "{error}"),
            (0 | 1 | 4 | 5, Ok(Outcome::Applied(_))) => {}
            (key, other) => panic!("key {key}: {other:?}"),
        }
    }
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), Reply::Int(4 + 5));
}

#[tokio::test]
async fn every_close_waits_for_the_end() {
    let (_server, proxy, node) = node_behind_proxy().await;
    proxy.hold(sessionring_testkit::Direction::ToClient, true);
    let mut answer = tokio::spawn(node.node.submit(node.request(1, create(1))));
    tokio::task::yield_now().await;
    let mut first = tokio::spawn(node.node.close());
    let mut second = tokio::spawn(node.node.close());
    let moment = Duration::from_millis(20);
    assert!(tokio::time::timeout(moment, &mut first).await.is_err());
    assert!(tokio::time::timeout(moment, &mut second).await.is_err());
    let mut third = tokio::spawn(node.node.close());
    assert!(tokio::time::timeout(moment, &mut third).await.is_err());
    assert!(!answer.is_finished());
    proxy.hold(sessionring_testkit::Direction::ToClient, false);
    for closed in [first, second, third] {
        closed.await.unwrap();
    }
    assert!(matches!((&mut answer).await.unwrap(), Ok(Outcome::Applied(_))));
}

#[tokio::test]
async fn a_flight_on_a_lost_connection_does_not_break_the_next_one() {
    let (_server, proxy, node) = node_behind_proxy().await;
    proxy.blackhole(true);
    let within = |millis, key, command| {
        let deadline = Instant::now() + Duration::from_millis(millis);
        node.node.submit(Request { deadline, ..node.request(key, command) })
    };
    let write = tokio::spawn(within(1500, 1, create(1)));
    assert!(matches!(within(50, 1, Command::Read).await, Err(Failure::Lost(_))));
    proxy.blackhole(false);
    while node.run(2, Command::Read).await.is_err() {
        tokio::task::yield_now().await;
    }
    let connections = proxy.counts().connections;
    assert!(matches!(write.await.unwrap(), Err(Failure::Lost(_))));
    assert!(node.run(2, Command::Read).await.is_ok());
    assert_eq!(proxy.counts().connections, connections);
}

/// A server whose data was set back under an open connection: nobody believes its answers.
#[tokio::test]
async fn a_node_that_goes_back_in_time_is_looked_at_anew() {
    let (server, proxy, node) = node_behind_proxy().await;
    for number in 1..=3 {
        node.run(1, Command::from(write(Condition::AbsentOrLive, number, b"value"))).await.unwrap();
    }
    let connections = proxy.counts().connections;
    server.command(&["SET", &node.keys.seq, "1"]).unwrap();
    let answer = node.run(1, Command::Read).await;
    assert!(
        matches!(&answer, Err(Failure::Lost(error)) if error.to_string().contains("back in time")),
        "{answer:?}"
    );
    // The next connection counts anew.
    assert!(matches!(node.run(1, Command::Read).await, Ok(Outcome::Record(_))));
    assert_eq!(proxy.counts().connections, connections + 1);
}
