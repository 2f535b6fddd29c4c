//! What an operation costs, counted at the server.

mod support;

use std::time::Duration;

use sessionring::{Lifetime, NodeState, SessionId, SessionRing};
use sessionring_testkit::{Direction, FaultProxy, MonitorLine, RedisServer};
use support::{Login, login, logins, nodes, on, servers};

const HOUR: Duration = Duration::from_secs(3600);

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

/// Nobody changes anything in the first share of the idle time, and at its end not the body either.
#[tokio::test]
async fn a_visit_is_one_round_trip_and_writes_nothing_until_it_is_due() {
    const VISIT: [&str; 4] = ["TIME", "MGET", "PTTL", "GET"];
    let Counted { proxies, ring, _servers: servers } = Counted::connect().await;
    let lasting =
        |idle, absolute| logins(&ring).lifetime(Lifetime::new(idle * HOUR, absolute * HOUR).unwrap());
    let id = lasting(1, 48).create(&login(1)).await.unwrap();
    let ends = lasting(1, 1).create(&login(2)).await.unwrap();
    for (id, sessions, slides) in [
        (&id, lasting(1, 48), false),
        (&id, lasting(24, 48).slide_after(1.0), false),
        (&ends, lasting(1, 1).slide_after(0.0), false),
        (&id, lasting(24, 48), true),
        (&id, lasting(24, 48), false),
        (&id, lasting(24, 48).slide_after(0.0), true),
    ] {
        let node = usize::from(ring.owner(id).as_str().as_bytes()[0] - b'a');
        let changes = || servers[node].info("rdb_changes_since_last_save").unwrap().unwrap();
        let (before, monitor, sent) = (changes(), servers[node].monitor().unwrap(), proxies[node].counts());
        assert!(sessions.visit(id).await.unwrap().is_some());
        let (lines, now) = (monitor.stop().unwrap(), proxies[node].counts());
        let mut expected = VISIT.to_vec();
        if slides {
            expected.push("EVALSHA");
        }
        assert_eq!(names(&lines), expected, "{lines:?}");
        assert_eq!(now.round_trips - sent.round_trips, if slides { 2 } else { 1 });
        assert_eq!(changes() == before, !slides);
        assert!(lines.iter().all(|line| line.name() != "SET"), "the body was written");
    }
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

/// Three real nodes, each behind a proxy that counts.
struct Counted {
    proxies: Vec<FaultProxy>,
    ring: SessionRing,
    _servers: Vec<RedisServer>,
}

impl Counted {
    async fn connect() -> Counted {
        let servers = servers(3);
        let proxies: Vec<FaultProxy> =
            servers.iter().map(|server| FaultProxy::in_front_of(server).unwrap()).collect();
        let ring = nodes(proxies.iter().map(FaultProxy::address)).connect().await.unwrap();
        Counted::of(ring, proxies, servers).await
    }

    /// Waits for all connections: a greeting whose answers were held back would be counted as well.
    async fn of(ring: SessionRing, proxies: Vec<FaultProxy>, servers: Vec<RedisServer>) -> Counted {
        while !ring.health().iter().all(|node| matches!(node.state, NodeState::Up(_))) {
            tokio::task::yield_now().await;
        }
        Counted { proxies, ring, _servers: servers }
    }

    /// The commands that these sessions take at each node, so many at a time.
    fn commands(&self, ids: &[SessionId], at_a_time: u64) -> Vec<u64> {
        let names = self.ring.ring().members().iter().map(|member| member.id().clone()).collect::<Vec<_>>();
        let owned = names.iter().map(|name| ids.iter().filter(|id| self.ring.owner(id) == *name).count());
        owned.map(|count| (count as u64).div_ceil(at_a_time)).collect()
    }

    fn arrived(&self) -> Vec<u64> {
        self.proxies.iter().map(|proxy| proxy.counts().requests).collect()
    }

    /// Holds every answer back until so many commands have arrived at each node, which none of them waits for: so
    /// they are one round trip. Nothing else may arrive.
    async fn one_round_trip<T>(&self, commands: &[u64], operation: impl Future<Output = T>) -> T {
        // Of two nodes that are asked at once the second may be answering still.
        while !self.proxies.iter().all(FaultProxy::is_at_rest) {
            tokio::task::yield_now().await;
        }
        let before = self.arrived();
        let hold = |on| self.proxies.iter().for_each(|proxy| proxy.hold(Direction::ToClient, on));
        hold(true);
        let ((), result) = tokio::join!(
            async {
                for ((proxy, before), commands) in self.proxies.iter().zip(&before).zip(commands) {
                    while proxy.counts().requests < before + commands {
                        tokio::task::yield_now().await;
                    }
                }
                hold(false);
            },
            operation
        );
        let added: Vec<u64> = self.arrived().iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(added, commands);
        result
    }
}

#[tokio::test]
async fn many_cost_one_round_trip_per_node() {
    let counted = Counted::connect().await;
    let logins = logins(&counted.ring);
    let values: Vec<Login> = (0..900).map(login).collect();
    let ids: Vec<_> = values.iter().map(|_| SessionId::generate().unwrap()).collect();
    let sessions: Vec<_> = ids.iter().cloned().zip(values).collect();
    let (reads, scripts) = (counted.commands(&ids, 1024), counted.commands(&ids, 96));
    assert!(scripts.iter().all(|&scripts| (2..=8).contains(&scripts)), "{scripts:?}");

    let created = counted.one_round_trip(&scripts, logins.create_with_id_many(&sessions)).await;
    assert!(created.iter().all(Result::is_ok));
    let read = counted.one_round_trip(&reads, logins.get_many(&ids)).await;
    assert!(read.iter().all(Result::is_ok));
    let set = counted.one_round_trip(&scripts, logins.set_many(&sessions)).await;
    assert!(set.iter().all(Result::is_ok));
    let touched = counted.one_round_trip(&scripts, logins.touch_many(&ids)).await;
    assert!(touched.iter().all(Result::is_ok));
    let there = counted.one_round_trip(&scripts, logins.exists_many(&ids)).await;
    assert!(there.iter().all(|there| matches!(there, Ok(true))));
    let deleted = counted.one_round_trip(&scripts, logins.delete_many(&ids)).await;
    assert!(deleted.iter().all(Result::is_ok));
}

/// A miss is looked at once more, all of them together; an update reads and writes together; and what answers were lost
/// is sent again together.
#[tokio::test]
async fn second_steps_and_second_copies_travel_together() {
    let counted = Counted::connect().await;
    let logins = logins(&counted.ring);
    let ids: Vec<_> = (0..900).map(|_| SessionId::generate().unwrap()).collect();
    let (reads, scripts) = (counted.commands(&ids, 1024), counted.commands(&ids, 96));
    let both: Vec<u64> = reads.iter().zip(&scripts).map(|(reads, scripts)| reads + scripts).collect();
    let cost = |before: Vec<u64>| -> Vec<u64> {
        counted.arrived().iter().zip(before).map(|(now, before)| now - before).collect()
    };

    let before = counted.arrived();
    assert!(logins.get_many(&ids).await.iter().all(|result| matches!(result, Ok(None))));
    assert_eq!(cost(before), both);

    let sessions: Vec<_> = ids.iter().map(|id| (id.clone(), login(1))).collect();
    assert!(logins.create_with_id_many(&sessions).await.iter().all(Result::is_ok));
    let before = counted.arrived();
    assert!(logins.update_many(&ids, |_, l| l.user += 1).await.iter().all(Result::is_ok));
    assert_eq!(cost(before), both);

    let before = counted.arrived();
    counted.proxies[0].cut_after_request();
    assert!(logins.delete_many(&ids).await.iter().all(Result::is_ok));
    let again = cost(before)[0] - scripts[0];
    assert!(again < 20, "the handshake and one more flight, not {again} commands");
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
    let begin = std::time::Instant::now();
    while proxy.open_connections() > 1 {
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "another connection stays open");
        tokio::task::yield_now().await;
    }
    // The others were there while the ring was looked for and founded.
    assert!(proxy.counts().connections <= 4, "{:?}", proxy.counts());
}

/// While a session moves, the node that it moves to and the one that it comes from are asked at once: one round trip, and
/// two commands. Answers are held back until both have arrived, and nothing else arrives.
#[tokio::test]
async fn a_get_of_a_moving_session_costs_one_round_trip_to_two_nodes() {
    let servers = servers(3);
    let ring = on(&servers[..2]).connect().await.unwrap();
    let ids: Vec<SessionId> = (0..200).map(|_| SessionId::generate().unwrap()).collect();
    let sessions: Vec<_> = ids.iter().cloned().zip((0..).map(login)).collect();
    assert!(logins(&ring).create_with_id_many(&sessions).await.iter().all(Result::is_ok));
    let before: Vec<_> = ids.iter().map(|id| ring.owner(id)).collect();
    // So slowly that it does not come to the end.
    let plan = ring.plan().rate(1).add("c", servers[2].address()).unwrap();
    let resize = plan.start().await.unwrap();

    let proxies: Vec<FaultProxy> = servers.iter().map(|s| FaultProxy::in_front_of(s).unwrap()).collect();
    let routes = ["a", "b", "c"].into_iter().zip(&proxies);
    let reader = routes.fold(on(&servers[..2]), |reader, (name, proxy)| reader.route(name, proxy.address()));
    let reader = reader.connect().await.unwrap();
    let counted = Counted::of(reader, proxies, servers).await;
    let mut moving = 0;
    for (id, source) in ids.iter().zip(before) {
        let owner = counted.ring.owner(id);
        if owner == source {
            continue;
        }
        moving += 1;
        let asked = ["a", "b", "c"].map(|name| u64::from(owner.as_str() == name || source.as_str() == name));
        let found = counted.one_round_trip(&asked, logins(&counted.ring).get(id)).await;
        assert!(found.unwrap().is_some());
    }
    let moved = resize.now().moved;
    assert!(moving > 20 && moved < 20, "{moving} of 200 are to move, {moved} have");
}
