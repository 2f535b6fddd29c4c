//! What an operation costs, counted at the server.

mod support;

use sessionring::SessionId;
use sessionring_testkit::{FaultProxy, MonitorLine};
use support::{Login, login, logins, nodes, on, servers};

fn names(lines: &[MonitorLine]) -> Vec<String> {
    lines.iter().filter(|line| !line.is_lua).map(MonitorLine::name).collect()
}

#[tokio::test]
async fn steady_state_costs_one_command_each() {
    let servers = servers(1);
    let ring = on(&servers).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create(&login(1)).await.unwrap();
    let mut monitor = servers[0].monitor().unwrap();
    let mut cost = || names(&monitor.take().unwrap());

    logins.get(&id).await.unwrap().unwrap();
    assert_eq!(cost(), ["MGET"]);
    logins.set(&id, &login(2)).await.unwrap();
    assert_eq!(cost(), ["EVALSHA"]);
    logins.touch(&id).await.unwrap();
    assert_eq!(cost(), ["EVALSHA"]);
    logins.exists(&id).await.unwrap();
    assert_eq!(cost(), ["EVALSHA"]);
    logins.remaining(&id).await.unwrap();
    assert_eq!(cost(), ["EVALSHA"]);
    logins.create(&login(3)).await.unwrap();
    assert_eq!(cost(), ["EVALSHA"]);
    logins.update(&id, |l| l.user += 1).await.unwrap();
    assert_eq!(cost(), ["MGET", "EVALSHA"]);
    logins.delete(&id).await.unwrap();
    assert_eq!(cost(), ["EVALSHA"]);
    logins.get(&id).await.unwrap();
    assert_eq!(cost(), ["MGET"], "a tombstone is an answer");
}

#[tokio::test]
async fn the_script_does_what_it_has_to_and_no_more() {
    let servers = servers(1);
    let ring = on(&servers).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create(&login(1)).await.unwrap();
    let mut monitor = servers[0].monitor().unwrap();
    let mut cost = || -> Vec<String> {
        let lines = monitor.take().unwrap();
        lines.iter().filter(|line| line.is_lua).map(MonitorLine::name).collect()
    };
    logins.set(&id, &login(2)).await.unwrap();
    assert_eq!(cost(), ["GET", "TIME", "GETRANGE", "SET", "INCR"]);
    logins.touch(&id).await.unwrap();
    assert_eq!(cost(), ["GET", "TIME", "GETRANGE", "PEXPIREAT", "INCR"]);
    logins.exists(&id).await.unwrap();
    assert_eq!(cost(), ["GET", "TIME", "GETRANGE", "PTTL"], "a question is no write");
    logins.delete(&id).await.unwrap();
    assert_eq!(cost(), ["GET", "TIME", "GETRANGE", "PTTL", "DEL", "SET", "INCR"]);
}

#[tokio::test]
async fn many_cost_one_round_trip_per_node() {
    let servers = servers(3);
    let proxies: Vec<FaultProxy> =
        servers.iter().map(|server| FaultProxy::in_front_of(server).unwrap()).collect();
    let ring = nodes(proxies.iter().map(FaultProxy::address)).connect().await.unwrap();
    let logins = logins(&ring);
    let cost = || -> Vec<u64> { proxies.iter().map(|proxy| proxy.take_counts().round_trips).collect() };
    cost();

    let values: Vec<Login> = (0..900).map(login).collect();
    let ids: Vec<_> = logins.create_many(&values).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(cost(), [1, 1, 1]);
    assert!(logins.get_many(&ids).await.iter().all(Result::is_ok));
    assert_eq!(cost(), [1, 1, 1]);
    let sessions: Vec<_> = ids.iter().cloned().zip(values).collect();
    assert!(logins.set_many(&sessions).await.iter().all(Result::is_ok));
    assert_eq!(cost(), [1, 1, 1]);
    assert!(logins.touch_many(&ids).await.iter().all(Result::is_ok));
    assert_eq!(cost(), [1, 1, 1]);
    assert!(logins.update_many(&ids, |_, l| l.user += 1).await.iter().all(Result::is_ok));
    assert_eq!(cost(), [2, 2, 2]);
    assert!(logins.exists_many(&ids).await.iter().all(Result::is_ok));
    assert_eq!(cost(), [1, 1, 1]);
    assert!(logins.delete_many(&ids).await.iter().all(Result::is_ok));
    assert_eq!(cost(), [1, 1, 1]);
}

/// A miss is looked at once more, all of them together; and what answers were lost is sent again together.
#[tokio::test]
async fn many_second_looks_and_second_copies_travel_together() {
    let servers = servers(1);
    let proxy = FaultProxy::in_front_of(&servers[0]).unwrap();
    let ring = nodes([proxy.address()]).connect().await.unwrap();
    let logins = logins(&ring);
    let ids: Vec<_> = (0..1000).map(|_| SessionId::generate().unwrap()).collect();
    let _ = proxy.take_counts();
    for result in logins.get_many(&ids).await {
        assert_eq!(result.unwrap(), None);
    }
    assert!(proxy.take_counts().round_trips < 10, "two flights, the second of several commands");
    proxy.cut_after_request();
    assert!(logins.delete_many(&ids).await.iter().all(Result::is_ok));
    assert!(proxy.take_counts().round_trips < 20, "the handshake and two flights");
}

#[tokio::test]
async fn one_connection_per_node_and_process() {
    let servers = servers(1);
    let proxy = FaultProxy::in_front_of(&servers[0]).unwrap();
    let ring = nodes([proxy.address()]).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    let tasks = (0..100).map(|_| {
        let (sessions, id) = (logins(&ring.clone()), id.clone());
        tokio::spawn(async move { sessions.get(&id).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.unwrap().unwrap().is_some());
    }
    assert_eq!(proxy.counts().connections, 1);
}
