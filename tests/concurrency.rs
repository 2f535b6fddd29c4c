//! Writers that race: nothing is lost, and nobody comes back.

mod support;

use std::sync::Arc;

use sessionring::{Error, SessionRing};
use support::{login, logins, on, servers};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_increments_through_different_clients_end_at_two_hundred() {
    let servers = servers(3);
    let mut rings = Vec::new();
    for _ in 0..8 {
        rings.push(on(&servers).connect().await.unwrap());
    }
    let id = logins(&rings[0]).create(&login(0)).await.unwrap();
    let mut tasks = JoinSet::new();
    for i in 0..200 {
        let (logins, id) = (logins(&rings[i % rings.len()]), id.clone());
        tasks.spawn(async move { logins.update(&id, |l| l.user += 1).await });
    }
    for result in tasks.join_all().await {
        result.unwrap();
    }
    assert_eq!(logins(&rings[0]).get(&id).await.unwrap().unwrap().user, 200);
}

/// Every kind of write from two clients against one log-out: whatever the order, the session ends, and no write
/// that began after the log-out was acknowledged succeeds.
async fn nobody_comes_back(rings: [SessionRing; 2], rounds: usize) {
    for round in 0..rounds {
        let sessions = logins(&rings[0]);
        let id = sessions.create(&login(round as u64)).await.unwrap();
        let out = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for i in 0..12 {
            let (sessions, id, out) = (logins(&rings[i % 2]), id.clone(), out.clone());
            writers.spawn(async move {
                for _ in 0..5 {
                    let late = out.load(std::sync::atomic::Ordering::SeqCst);
                    let result: Result<(), Error> = match i % 4 {
                        0 => sessions.set(&id, &login(1)).await,
                        1 => sessions.update(&id, |l| l.user += 1).await,
                        2 => sessions.touch(&id).await,
                        _ => match sessions.get(&id).await.unwrap() {
                            Some(_) => Ok(()),
                            None => return,
                        },
                    };
                    match result {
                        Ok(()) => assert!(!late, "a write that began after the log-out succeeded"),
                        Err(error) => {
                            assert!(error.is_deleted(), "{error}");
                            return;
                        }
                    }
                }
            });
        }
        logins(&rings[1]).delete(&id).await.unwrap();
        out.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(logins(&rings[0]).get(&id).await.unwrap(), None);
        writers.join_all().await;
        assert_eq!(logins(&rings[0]).get(&id).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_out_beats_every_write_on_redis() {
    let servers = servers(3);
    let rings = [on(&servers).connect().await.unwrap(), on(&servers).connect().await.unwrap()];
    nobody_comes_back(rings, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_out_beats_every_write_in_memory() {
    let addresses = || ["a", "b", "c"].map(|name| format!("memory:race-{name}"));
    let rings = [
        support::nodes(addresses()).connect().await.unwrap(),
        support::nodes(addresses()).connect().await.unwrap(),
    ];
    nobody_comes_back(rings, 200).await;
}
