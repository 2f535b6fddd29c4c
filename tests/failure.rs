//! A node that dies costs its own sessions a clear answer, and nobody else anything.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sessionring::{Event, Events, NodeState, SessionId, SessionRing, Sessions};
use sessionring_testkit::{Direction, FakeServer, FaultProxy, RedisServer, Script};
use support::{Login, login, logins, nodes, on, server, servers};

/// One session on every node, in the order of the nodes' names.
async fn one_each(ring: &SessionRing, sessions: &Sessions<Login>) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for member in ring.ring().members() {
        loop {
            let id = SessionId::generate().unwrap();
            if ring.owner(&id) == *member.id() {
                sessions.create_with_id(&id, &login(ids.len() as u64)).await.unwrap();
                ids.push(id);
                break;
            }
        }
    }
    ids
}

/// Asks until the node is known to be down, or up again; every answer on the way is one of these two.
async fn until(sessions: &Sessions<Login>, id: &SessionId, up: bool) {
    let begin = Instant::now();
    loop {
        match sessions.get(id).await {
            Ok(_) if up => return,
            Err(error) if !up && error.to_string().contains("unavailable for") => return,
            Ok(_) => {}
            Err(error) => assert!(error.is_unavailable(), "{error}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "up = {up} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_costs_only_its_own_sessions_and_comes_back_by_itself() {
    let servers = servers(3);
    let ring = on(&servers).connect().await.unwrap();
    let sessions = logins(&ring);
    let ids = one_each(&ring, &sessions).await;
    servers[1].kill().unwrap();
    until(&sessions, &ids[1], false).await;

    for i in [0, 2] {
        assert_eq!(sessions.get(&ids[i]).await.unwrap(), Some(login(i as u64)));
        sessions.set(&ids[i], &login(i as u64)).await.unwrap();
    }
    let begin = Instant::now();
    for error in [
        sessions.get(&ids[1]).await.unwrap_err(),
        sessions.set(&ids[1], &login(1)).await.unwrap_err(),
        sessions.touch(&ids[1]).await.unwrap_err(),
        sessions.delete(&ids[1]).await.unwrap_err(),
        sessions.exists(&ids[1]).await.unwrap_err(),
    ] {
        assert!(error.is_unavailable(), "{error}");
        assert_eq!(error.node().unwrap().as_str(), "b");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "far below the deadline of 10 s each");
    let many = sessions.get_many(&ids).await;
    assert!(many[0].is_ok() && many[2].is_ok());
    assert!(many[1].as_ref().unwrap_err().is_unavailable());

    servers[1].restart_empty().unwrap();
    until(&sessions, &ids[1], true).await;
    assert_eq!(sessions.get(&ids[1]).await.unwrap(), None, "an empty node has lost its sessions");
    sessions.create_with_id(&ids[1], &login(9)).await.unwrap();
    assert_eq!(sessions.get(&ids[1]).await.unwrap(), Some(login(9)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_costs_the_others_no_answer_in_a_call_for_many() {
    let servers = servers(2);
    let ring = on(&servers).request_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let sessions = logins(&ring);
    servers[1].stop_process().unwrap();
    let ids: Vec<_> = (0..100).map(|_| SessionId::generate().unwrap()).collect();
    let results = sessions.get_many(&ids).await;
    servers[1].continue_process().unwrap();
    for (id, result) in ids.iter().zip(results) {
        match ring.owner(id).as_str() {
            "a" => assert_eq!(result.unwrap(), None),
            _ => assert!(result.unwrap_err().is_unavailable()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_starts_while_a_node_is_down() {
    let servers = servers(3);
    let first = on(&servers).connect().await.unwrap();
    let ids = one_each(&first, &logins(&first)).await;
    servers[2].kill().unwrap();
    let ring = on(&servers).connect().await.unwrap();
    let sessions = logins(&ring);
    assert_eq!(sessions.get(&ids[0]).await.unwrap(), Some(login(0)));
    assert!(sessions.get(&ids[2]).await.unwrap_err().is_unavailable());
    servers[2].restart().unwrap();
    until(&sessions, &ids[2], true).await;
}

/// A fail-over: the server behind the address becomes a replica of another one, and nobody closes the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_is_not_read_from_for_ever() {
    let old = servers(1);
    let ring = on(&old).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    let new = RedisServer::builder().replica_of(&old[0]).start().unwrap();
    new.wait_for_link().unwrap();
    new.command(&["REPLICAOF", "NO", "ONE"]).unwrap().ok().unwrap();
    old[0].command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).unwrap().ok().unwrap();
    old[0].wait_for_link().unwrap();
    // The user logs out at the new primary. The old one may hear of it late, or never.
    let error = sessions.delete(&id).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("replica"), "{error}");
    let error = sessions.get(&id).await.unwrap_err();
    assert!(error.to_string().contains("replica"), "{error}");
    // It comes back as a primary.
    old[0].command(&["REPLICAOF", "NO", "ONE"]).unwrap().ok().unwrap();
    let begin = Instant::now();
    while sessions.delete(&id).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is never found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sessions.get(&id).await.unwrap(), None);
}

/// A replica of an empty server has lost its fence, too, and cannot be given it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_be_initialised_again_says_why() {
    let servers = servers(2);
    let ring = on(&servers[..1]).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    servers[0].command(&["REPLICAOF", "127.0.0.1", &servers[1].port().to_string()]).unwrap().ok().unwrap();
    servers[0].wait_for_link().unwrap();
    for _ in 0..2 {
        let error = sessions.get(&id).await.unwrap_err();
        assert!(error.to_string().contains("replica"), "{error}");
    }
}

/// One ring behind a proxy, with a short deadline, and a session.
async fn behind_proxy() -> (Vec<RedisServer>, Arc<FaultProxy>, Sessions<Login>, SessionId) {
    let servers = servers(1);
    let proxy = Arc::new(FaultProxy::in_front_of(&servers[0]).unwrap());
    on(&servers).connect().await.unwrap();
    let ring = on(&servers).route("a", proxy.address()).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(0)).await.unwrap();
    (servers, proxy, sessions, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_sent_again_is_and_happens_once() {
    let (_servers, proxy, sessions, id) = behind_proxy().await;
    for round in 1..=5 {
        proxy.cut_after_request();
        sessions.update(&id, |l| l.user += 1).await.unwrap();
        // The read, the write: whichever lost its answer was sent again.
        assert!(!proxy.is_armed());
        proxy.cut_after_request_with(b"EVALSHA");
        sessions.update(&id, |l| l.user += 1).await.unwrap();
        assert!(!proxy.is_armed());
        assert_eq!(sessions.get(&id).await.unwrap().unwrap().user, 2 * round);
    }
    proxy.cut_after_request();
    let fresh = sessions.create(&login(7)).await.unwrap();
    assert_eq!(sessions.get(&fresh).await.unwrap(), Some(login(7)));
    proxy.cut_after_request();
    sessions.touch(&fresh).await.unwrap();
    proxy.cut_after_request();
    sessions.delete(&fresh).await.unwrap();
    proxy.cut_after_request();
    assert_eq!(sessions.get(&fresh).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blind_set_whose_answer_is_lost_is_indeterminate_and_not_repeated() {
    let (_servers, proxy, sessions, id) = behind_proxy().await;
    let scripts = proxy.counts().requests;
    proxy.cut_after_request();
    let error = sessions.set(&id, &login(5)).await.unwrap_err();
    assert!(error.is_indeterminate(), "{error}");
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(5)), "it had happened");
    let handshake = 8 + 5;
    assert!(proxy.counts().requests <= scripts + 1 + handshake + 1);
}

/// A write leaves, hangs in the network, and arrives after somebody else has written, or the user has logged out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_arrives_late_buries_nothing() {
    let (servers, proxy, sessions, id) = behind_proxy().await;
    let other = logins(&on(&servers).connect().await.unwrap());
    for log_out in [false, true] {
        let sent = proxy.counts().requests;
        let late = {
            let (sessions, id, proxy) = (sessions.clone(), id.clone(), proxy.clone());
            let mut first = true;
            tokio::spawn(async move {
                let change = move |l: &mut Login| {
                    // The session has been read, the write is about to leave.
                    proxy.hold(Direction::ToServer, std::mem::take(&mut first));
                    l.user += 100;
                };
                sessions.update(&id, change).await
            })
        };
        assert!(proxy.wait_for(|counts| counts.requests >= sent + 2, Duration::from_secs(10)));
        other.update(&id, |l| l.user += 1).await.unwrap();
        if log_out {
            other.delete(&id).await.unwrap();
        }
        proxy.hold(Direction::ToServer, false);
        let late = late.await.unwrap();
        if log_out {
            assert!(late.unwrap_err().is_deleted());
            assert_eq!(other.get(&id).await.unwrap(), None);
        } else {
            late.unwrap();
            assert_eq!(other.get(&id).await.unwrap().unwrap().user, 101);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_future_cancels_the_waiting_and_not_the_write() {
    let (servers, proxy, sessions, id) = behind_proxy().await;
    proxy.hold(Direction::ToServer, true);
    let sent = proxy.counts().requests;
    {
        let five = login(5);
        let mut set = Box::pin(sessions.set(&id, &five));
        // One poll submits it.
        assert!(futures_poll_once(&mut set).await.is_none());
        assert!(proxy.wait_for(|counts| counts.requests > sent, Duration::from_secs(10)));
    }
    proxy.hold(Direction::ToServer, false);
    // What is asked on the same connection comes after it.
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(5)));
    drop(servers);
}

async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_lets_what_is_under_way_finish_and_closes_the_connections() {
    let (_servers, proxy, sessions, id) = behind_proxy().await;
    let ring = nodes([proxy.address()]).connect().await.unwrap();
    let closing = logins(&ring);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (closing, id) = (closing.clone(), id.clone());
            tokio::spawn(async move { closing.touch(&id).await })
        })
        .collect();
    tokio::task::yield_now().await;
    ring.close().await;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => {}
            Err(error) => assert!(error.is_closed(), "{error}"),
        }
    }
    assert!(closing.get(&id).await.unwrap_err().is_closed());
    ring.close().await;
    assert!(sessions.get(&id).await.unwrap().is_some(), "the other ring goes on");
    let begin = Instant::now();
    while proxy.open_connections() > 1 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the connection stays open");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_every_handle_closes_the_connections() {
    let (_servers, proxy, sessions, _id) = behind_proxy().await;
    drop(sessions);
    let begin = Instant::now();
    while proxy.open_connections() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the connection stays open");
        tokio::task::yield_now().await;
    }
}

/// Two clients of one name and other members found the ring at once: one list counts, for both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_founders_with_different_lists_never_split_the_sessions() {
    for _ in 0..10 {
        let servers = servers(3);
        let (left, right) = tokio::join!(on(&servers[..2]).connect(), on(&servers).connect());
        let (left, right) = (left.unwrap(), right.unwrap());
        assert_eq!(left.ring().fingerprint(), right.ring().fingerprint());
        let other = if left.warnings().is_empty() { &right } else { &left };
        assert!(other.warnings().iter().any(|warning| warning.contains("node c")), "{:?}", other.warnings());
        let id = logins(&left).create(&login(1)).await.unwrap();
        assert_eq!(logins(&right).get(&id).await.unwrap(), Some(login(1)));
    }
}

/// What a test reads every node's session with, over and over, until it is told to stop: for each node, in the order of the
/// names, how often it was answered, and every error with the time that it took.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Vec<Arc<AtomicU64>>,
    readers: Vec<tokio::task::JoinHandle<Vec<(Duration, sessionring::Error)>>>,
}

impl Load {
    fn begin(sessions: &Sessions<Login>, ids: &[SessionId]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let answered: Vec<Arc<AtomicU64>> = ids.iter().map(|_| Arc::default()).collect();
        let readers = ids.iter().zip(&answered).map(|(id, answered)| {
            let (sessions, id, stop) = (sessions.clone(), id.clone(), stop.clone());
            let answered = answered.clone();
            tokio::spawn(async move {
                let mut errors = Vec::new();
                while !stop.load(Relaxed) {
                    let begin = Instant::now();
                    let asked = match answered.load(Relaxed) % 2 {
                        0 => sessions.get(&id).await.map(drop),
                        _ => sessions.update(&id, |login| login.user += 1).await.map(drop),
                    };
                    match asked {
                        Ok(()) => drop(answered.fetch_add(1, Relaxed)),
                        Err(error) => {
                            errors.push((begin.elapsed(), error));
                            // Those that fail at once are not to keep the others from the processor.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                }
                errors
            })
        });
        let readers = readers.collect();
        Load { stop, answered, readers }
    }

    /// Waits until every node has answered some more.
    async fn goes_on(&self) {
        let wanted: Vec<u64> = self.answered.iter().map(|answered| answered.load(Relaxed) + 10).collect();
        let begin = Instant::now();
        while self.answered.iter().zip(&wanted).any(|(answered, wanted)| answered.load(Relaxed) < *wanted) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?} of {wanted:?}", self.answered);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(self) -> Vec<Vec<(Duration, sessionring::Error)>> {
        self.stop.store(true, Relaxed);
        let mut ended = Vec::new();
        for reader in self.readers {
            ended.push(reader.await.unwrap());
        }
        ended
    }
}

async fn next(events: &mut Events) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
    event.expect("nobody noticed").expect("the ring is open")
}

/// As long as a busy machine may need for the nodes that are well. That one is silent is found sooner, by looking at it.
const DEADLINE: Duration = Duration::from_secs(10);

/// Node b of three fails and comes back, under load: all other nodes answer everything, b's requests fail typed and in time,
/// and health and events say what is going on.
async fn one_fails_and_comes_back(addresses: Vec<String>, fail: impl FnOnce(), come_back: impl FnOnce()) {
    let ring = nodes(addresses)
        .request_timeout(DEADLINE)
        .connect_timeout(Duration::from_secs(3))
        .probe_interval(Duration::from_secs(1))
        .connect()
        .await
        .unwrap();
    let sessions = logins(&ring);
    let ids = one_each(&ring, &sessions).await;
    let mut events = ring.events();
    assert!(ring.health().iter().all(|node| matches!(node.state, NodeState::Up(_))), "{:?}", ring.health());
    let load = Load::begin(&sessions, &ids);
    load.goes_on().await;

    fail();
    match next(&mut events).await {
        Event::NodeDown { node, error } => {
            assert_eq!(node.as_str(), "b");
            assert!(error.is_unavailable(), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let b = &ring.health()[1];
    assert!(matches!(b.state, NodeState::Down(_)), "{b:?}");
    assert!(b.last_error.as_ref().unwrap().is_unavailable());
    // It is known to be down: an answer comes at once, and says for how long. A hundred would take many minutes otherwise.
    let begin = Instant::now();
    let mut since = Duration::ZERO;
    for _ in 0..100 {
        let error = sessions.get(&ids[1]).await.unwrap_err();
        assert!(error.is_unavailable() && error.node().unwrap().as_str() == "b", "{error}");
        let now = error.unavailable_since().expect("it is known to be down");
        assert!(now >= since, "it went down once");
        since = now;
    }
    assert!(begin.elapsed() < 2 * DEADLINE, "{:?}", begin.elapsed());

    come_back();
    match next(&mut events).await {
        Event::NodeUp { node } => assert_eq!(node.as_str(), "b"),
        other => panic!("{other:?}"),
    }
    load.goes_on().await;
    let errors = load.end().await;
    assert!(errors[0].is_empty() && errors[2].is_empty(), "{:?} {:?}", errors[0].first(), errors[2].first());
    assert!(!errors[1].is_empty());
    for (took, error) in &errors[1] {
        let typed = error.is_unavailable() || error.is_indeterminate();
        assert!(typed && error.node().unwrap().as_str() == "b", "{error}");
        assert!(*took < DEADLINE + Duration::from_secs(2), "{took:?}: {error}");
    }
    assert!(matches!(ring.health()[1].state, NodeState::Up(_)), "{:?}", ring.health());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_under_load_costs_its_own_sessions_and_nobody_else() {
    let servers: Vec<_> = (0..3)
        .map(|_| {
            RedisServer::builder()
                .config("appendonly", "yes")
                .config("appendfsync", "always")
                .start()
                .unwrap()
        })
        .collect();
    let addresses = servers.iter().map(RedisServer::address).collect();
    one_fails_and_comes_back(addresses, || servers[1].kill().unwrap(), || servers[1].restart().unwrap())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stopped_under_load_costs_its_own_sessions_and_nobody_else() {
    let servers = servers(3);
    let addresses = servers.iter().map(RedisServer::address).collect();
    let (stop, go_on) = (|| servers[1].stop_process().unwrap(), || servers[1].continue_process().unwrap());
    one_fails_and_comes_back(addresses, stop, go_on).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_costs_the_node_behind_it_and_nobody_else() {
    let servers = servers(3);
    let proxy = FaultProxy::in_front_of(&servers[1]).unwrap();
    let mut addresses: Vec<_> = servers.iter().map(RedisServer::address).collect();
    addresses[1] = proxy.address();
    let mend = || {
        proxy.blackhole(false);
        proxy.cut();
    };
    one_fails_and_comes_back(addresses, || proxy.blackhole(true), mend).await;
}

/// Nobody asks for anything, so nobody waits in vain: that it leads nowhere is found by looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_leads_nowhere_is_noticed_by_an_application_that_asks_nothing() {
    let servers = servers(2);
    let proxy = FaultProxy::in_front_of(&servers[1]).unwrap();
    let ring = nodes([servers[0].address(), proxy.address()])
        .connect_timeout(Duration::from_secs(3))
        .probe_interval(Duration::from_millis(100));
    let ring = ring.connect().await.unwrap();
    let mut events = ring.events();
    proxy.blackhole(true);
    match next(&mut events).await {
        Event::NodeDown { node, error } => assert!(node.as_str() == "b" && error.is_unavailable(), "{error}"),
        other => panic!("{other:?}"),
    }
    // What was sent meanwhile is lost: that attempt has to end by itself.
    proxy.blackhole(false);
    match next(&mut events).await {
        Event::NodeUp { node } => assert_eq!(node.as_str(), "b"),
        other => panic!("{other:?}"),
    }
}

/// Whoever waits for a connection that does not come about waits no longer than for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_never_greeted_keeps_nobody_past_the_deadline() {
    let server = server();
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let ring = nodes([proxy.address()])
        .request_timeout(Duration::from_millis(300))
        .connect_timeout(Duration::from_secs(50));
    let ring = ring.connect().await.unwrap();
    let (sessions, id) = (logins(&ring), SessionId::generate().unwrap());
    assert_eq!(sessions.get(&id).await.unwrap(), None);
    proxy.hold(Direction::ToClient, true);
    proxy.cut();
    let begin = Instant::now();
    for _ in 0..3 {
        let error = sessions.get(&id).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    proxy.hold(Direction::ToClient, false);
    until(&sessions, &id, true).await;
}

/// Only the answers to requests are lost, as where large packets do not get through: every connection looks well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_greets_and_answers_no_request_is_not_waited_for_every_time() {
    let server = server();
    let client = Mutex::new(server.client().unwrap());
    let mute = Arc::new(AtomicBool::new(false));
    let says_nothing = mute.clone();
    let greets = FakeServer::start(Script::respond(move |args| match &*args[0] {
        b"MGET" if says_nothing.load(Relaxed) => Vec::new(),
        _ => client.lock().unwrap().command(args).unwrap().encode(),
    }))
    .unwrap();
    let ring = nodes([greets.address()]).request_timeout(Duration::from_millis(100)).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = SessionId::generate().unwrap();
    mute.store(true, Relaxed);
    let (mut waited, mut refused) = (0, 0);
    let begin = Instant::now();
    while waited < 8 {
        let error = sessions.get(&id).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        match error.unavailable_since() {
            Some(_) => refused += 1,
            None => waited += 1,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(refused > waited, "{refused} failed at once, {waited} at their deadline");
    // Eight deadlines, and pauses between them of at least 25, 50, 100, 200 and 400 ms.
    assert!(begin.elapsed() > Duration::from_millis(1500), "{:?}", begin.elapsed());
    mute.store(false, Relaxed);
    until(&sessions, &id, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_come_and_go_are_seen_in_health_and_heard_of() {
    let servers = servers(3);
    let ring = on(&servers[..2]).connect().await.unwrap();
    let mut events = ring.events();
    let pids: Vec<_> = ring.health().iter().map(|node| node.process).collect();
    let founded = ring.epoch();
    for node in ring.health() {
        assert_eq!((node.epoch, node.waiting), (Some(founded), 0), "{node:?}");
        assert!(
            node.version.as_ref().unwrap().contains(' ')
                && node.process.is_some()
                && node.last_error.is_none()
        );
    }
    ring.add_node("c", servers[2].address()).await.unwrap().wait().await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.push(match next(&mut events).await {
            Event::TopologyChanged { epoch, resizing } => {
                assert!(epoch > founded);
                if resizing { "moving" } else { "moved" }
            }
            Event::NodeUp { node } if node.as_str() == "c" => "up",
            other => panic!("{other:?}"),
        });
    }
    heard.sort_unstable();
    assert_eq!(heard, ["moved", "moving", "up"]);
    assert_eq!(ring.health().iter().map(|node| node.node.to_string()).collect::<Vec<_>>(), ["a", "b", "c"]);

    // New connections beside the old ones are no news, and another process is seen.
    ring.reconnect().await.unwrap();
    servers[0].kill().unwrap();
    servers[0].restart().unwrap();
    loop {
        let _ = logins(&ring).get(&SessionId::generate().unwrap()).await;
        let a = &ring.health()[0];
        if a.process != pids[0] && matches!(a.state, NodeState::Up(_)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ring.close().await;
    while let Some(event) = events.next().await {
        match event {
            Event::NodeDown { node, .. } | Event::NodeUp { node } => assert_eq!(node.as_str(), "a"),
            // It came back empty, and was taken up again.
            Event::TopologyChanged { epoch, .. } => assert_eq!(epoch, ring.epoch()),
            other => panic!("{other:?}"),
        }
    }
}
