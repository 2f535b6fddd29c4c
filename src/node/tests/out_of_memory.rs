//! A node at `maxmemory` with `noeviction` must still log people out.

use sessionring_testkit::RedisServer;

use super::*;
use crate::protocol::{Install, Outcome};

/// A server that has just been filled to the brim, with a session under key 1.
async fn full() -> (RedisServer, TestNode) {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let node = TestNode::connect("full", &server.address(), Limits::default()).await;
    let created = node.run(1, Command::from(write(Condition::Absent, 1, b"cart"))).await;
    assert!(matches!(created, Ok(Outcome::Applied(_))), "{created:?}");
    server.config_set("maxmemory", "1").unwrap();
    let refused = server.client().unwrap().command(&["SET", "x", "y"]).unwrap();
    assert!(refused.is_error("OOM"), "{refused:?}");
    (server, node)
}

#[tokio::test]
async fn a_log_out_succeeds_and_is_counted() {
    let (server, node) = full().await;
    let before = server.command(&["GET", &node.keys.seq]).unwrap().text();
    assert!(matches!(node.run(1, Command::Delete(delete(2))).await, Ok(Outcome::Applied(_))));
    let set = node.run(1, Command::from(write(Condition::Live, 3, b"back?"))).await;
    assert_eq!(set.unwrap(), Outcome::Deleted);
    let after = server.command(&["GET", &node.keys.seq]).unwrap().text();
    assert_eq!((before.as_deref(), after.as_deref()), (Some("1"), Some("2")));
}

#[tokio::test]
async fn writes_are_refused_and_change_nothing() {
    let (_server, node) = full().await;
    for (key, condition) in [(1, Condition::Live), (1, Condition::AbsentOrLive), (2, Condition::Absent)] {
        match node.run(key, Command::from(write(condition, 5, b"more"))).await {
            Err(Failure::Unsent(error)) => assert!(error.is_full(), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    let Ok(Outcome::Record(record)) = node.run(1, Command::Read).await else { panic!() };
    assert!(record.ends_with(b"cart"));
}

#[tokio::test]
async fn touch_and_inspect_work() {
    let (_server, node) = full().await;
    assert!(matches!(node.run(1, Command::Touch(2 * HOUR)).await, Ok(Outcome::Applied(_))));
    assert!(matches!(node.run(1, Command::Inspect).await, Ok(Outcome::Inspected(_, left)) if left > HOUR));
}

/// What a log-out needs to carry a session over, and nothing else, passes; and so does what gives memory back.
#[tokio::test]
async fn a_session_is_carried_here_to_be_logged_out_and_carried_away() {
    let (_server, node) = full().await;
    let Ok(Outcome::Fetched { record, deadline }) = node.run(1, Command::Fetch).await else { panic!() };
    let install = |for_logout| {
        let install = Install::new(record.clone(), deadline, for_logout).unwrap();
        node.run(2, Command::from(install))
    };
    match install(false).await {
        Err(Failure::Unsent(error)) => assert!(error.is_full(), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(node.run(2, Command::Fetch).await.unwrap(), Outcome::Absent);
    assert!(matches!(install(true).await, Ok(Outcome::Applied(_))));
    assert!(matches!(node.run(2, Command::Delete(delete(3))).await, Ok(Outcome::Applied(_))));
    assert!(matches!(node.run(1, Command::Release).await, Ok(Outcome::Applied(_))));
    assert_eq!(node.run(2, Command::Erase).await.unwrap(), Outcome::Applied(0));
}
