//! Nodes that Sentinels watch: real primaries, replicas and Sentinels.

mod support;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sessionring::{
    Builder, Credentials, Error, Event, Events, NodeState, Result, Returning, SessionId, SessionRing,
    Sessions,
};
use sessionring_testkit::{Authority, FakeServer, RedisServer, Script, Watched};
use support::{Login, id_at, login, logins, nodes, server};
use tokio::task::JoinHandle;

/// Longer than a busy machine lets a living server wait.
const DOWN_AFTER: Duration = Duration::from_secs(1);
/// As long as anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

fn watched() -> Watched {
    Watched::start("sessions-a", DOWN_AFTER).unwrap_or_else(|error| panic!("{error}"))
}

/// A node that Sentinels watch, and a plain one.
fn beside(watched: &Watched, plain: &RedisServer) -> Builder {
    nodes([watched.address(), plain.address()])
        .request_timeout(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(2))
}

/// Tries until it works; what fails on the way is a node that is away, or a write whose answer was lost.
async fn until_ok<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                assert!(error.is_unavailable() || error.is_indeterminate(), "{error}");
                assert!(begin.elapsed() < PATIENCE, "{error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("nobody noticed").expect("the ring is open")
}

async fn refusal(builder: Builder) -> Error {
    builder.connect().await.expect_err("it must not connect")
}

/// The log-outs that were acknowledged, with the times at which they were asked for, and what failed.
type Done = (Vec<(Instant, SessionId)>, Vec<Error>);

/// Logs in and out at one node, without pause.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: JoinHandle<Done>,
}

impl Load {
    fn begin(ring: &SessionRing, node: &'static str) -> Load {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ring, sessions) = (ring.clone(), logins(ring));
        let (stopped, counted) = (stop.clone(), done.clone());
        let task = tokio::spawn(async move {
            let (mut ended, mut errors) = (Vec::new(), Vec::new());
            while !stopped.load(Relaxed) {
                let id = id_at(&ring, node);
                let log_in_and_out = async {
                    sessions.create_with_id(&id, &login(1)).await?;
                    let begun = Instant::now();
                    sessions.delete(&id).await?;
                    Ok(begun)
                };
                match log_in_and_out.await {
                    Ok(begun) => {
                        ended.push((begun, id));
                        counted.fetch_add(1, Relaxed);
                    }
                    Err(error) => errors.push(error),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (ended, errors)
        });
        Load { stop, done, task }
    }

    async fn goes_on(&self) {
        let (wanted, begin) = (self.done.load(Relaxed) + 20, Instant::now());
        while self.done.load(Relaxed) < wanted {
            assert!(begin.elapsed() < PATIENCE, "it does not go on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(self) -> Done {
        self.stop.store(true, Relaxed);
        self.task.await.unwrap()
    }
}

/// Whether each of these was logged out there.
async fn all_ended(sessions: &Sessions<Login>, ids: impl Iterator<Item = &SessionId>) {
    for id in ids {
        // An id that was never used could be created; one that was logged out never again.
        let error = sessions.create_with_id(id, &login(2)).await.unwrap_err();
        assert!(error.is_deleted(), "{id:?}: {error}");
        assert_eq!(sessions.get(id).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_under_load_moves_nothing_and_the_traffic_goes_on() {
    let (watched, plain) = (watched(), server());
    let ring = beside(&watched, &plain).connect().await.unwrap();
    let (shares, epoch) = (ring.ring(), ring.epoch());
    let process = ring.health()[0].process;
    let mut events = ring.events();
    let (load, neighbour) = (Load::begin(&ring, "a"), Load::begin(&ring, "b"));
    load.goes_on().await;

    watched.servers[0].kill().unwrap();
    assert!(matches!(next(&mut events).await, Event::NodeDown { node, .. } if node.as_str() == "a"));
    assert!(matches!(next(&mut events).await, Event::NodeUp { node } if node.as_str() == "a"));
    load.goes_on().await;
    watched.wait_for_promotion(0).unwrap();
    // From here on every log-out is asked of the new primary.
    let promoted = Instant::now();
    load.goes_on().await;
    // The old one comes back, as a primary at first, and becomes the replica.
    watched.servers[0].restart().unwrap();
    load.goes_on().await;
    watched.wait_until_whole().unwrap();
    load.goes_on().await;

    let (ended, errors) = load.end().await;
    assert!(errors.iter().all(|error| error.is_unavailable() || error.is_indeterminate()), "{errors:?}");
    let (_, errors) = neighbour.end().await;
    assert!(errors.is_empty(), "{:?}", errors.first());
    assert_eq!((ring.epoch(), ring.ring()), (epoch, shares), "a promotion moves nothing");
    let health = &ring.health()[0];
    assert!(matches!(health.state, NodeState::Up(_)) && health.process != process, "{health:?}");
    let after = ended.iter().filter(|(begun, _)| *begun > promoted);
    assert!(after.clone().count() > 40);
    all_ended(&logins(&ring), after.map(|(_, id)| id)).await;
}

/// As where a primary is cut off from its replica and the Sentinels, and not from the application: it takes writes for ever,
/// and no connection to it ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_and_does_not_know_it_is_written_to_no_more() {
    let watched = watched();
    let (old, new) = (&watched.servers[0], &watched.servers[1]);
    let plain = server();
    let ring = beside(&watched, &plain).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = id_at(&ring, "a");
    sessions.create_with_id(&id, &login(1)).await.unwrap();
    // Who may not demote it cannot tell it.
    old.command(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof", "-multi", "-client"]).unwrap();
    watched.sentinels[0].command(&["SENTINEL", "FAILOVER", &watched.name]).unwrap().ok().unwrap();
    watched.wait_for_promotion(0).unwrap();
    assert_eq!(old.info("role").unwrap().as_deref(), Some("master"));
    // The application hears of it by itself.
    let written = |server: &RedisServer| server.command(&["DBSIZE"]).unwrap().int().unwrap();
    let begin = Instant::now();
    while written(new) <= written(old) {
        let _ = sessions.create_with_id(&id_at(&ring, "a"), &login(2)).await;
        assert!(begin.elapsed() < PATIENCE, "it still writes to the old one");
    }
    let (at_old, at_new) = (written(old), written(new));
    for _ in 0..100 {
        sessions.create_with_id(&id_at(&ring, "a"), &login(3)).await.unwrap();
    }
    assert_eq!((written(old), written(new)), (at_old, at_new + 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_is_replaced_and_what_it_holds_back_counts_nothing() {
    let (watched, plain) = (watched(), server());
    let ring = beside(&watched, &plain).connect().await.unwrap();
    let sessions = logins(&ring);
    let load = Load::begin(&ring, "a");
    load.goes_on().await;
    watched.servers[0].stop_process().unwrap();
    watched.wait_for_promotion(0).unwrap();
    load.goes_on().await;
    let promoted = Instant::now();
    load.goes_on().await;
    // It goes on where it stopped: as a primary that nobody has told anything.
    watched.servers[0].continue_process().unwrap();
    load.goes_on().await;
    watched.wait_until_whole().unwrap();
    load.goes_on().await;
    let (ended, errors) = load.end().await;
    assert!(errors.iter().all(|error| error.is_unavailable() || error.is_indeterminate()), "{errors:?}");
    all_ended(&sessions, ended.iter().filter(|(begun, _)| *begun > promoted).map(|(_, id)| id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_ring_takes_a_promotion_for_a_restart() {
    let (watched, plain) = (watched(), server());
    let ring = beside(&watched, &plain).strict().connect().await.unwrap();
    let sessions = logins(&ring);
    let (id, other) = (id_at(&ring, "a"), id_at(&ring, "b"));
    sessions.create_with_id(&id, &login(1)).await.unwrap();
    sessions.create_with_id(&other, &login(2)).await.unwrap();
    // Everything has arrived at the replica: this promotion loses nothing, which only an operator can know.
    watched.servers[0].command(&["WAIT", "1", "10000"]).unwrap().ok().unwrap();
    watched.servers[0].kill().unwrap();
    watched.wait_for_promotion(0).unwrap();
    let begin = Instant::now();
    loop {
        let error = sessions.get(&id).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        if error.to_string().contains("has to readmit it") {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sessions.get(&other).await.unwrap(), Some(login(2)));
    until_ok(|| ring.readmit("a", Returning::Keep)).await;
    assert_eq!(until_ok(|| sessions.get(&id)).await, Some(login(1)));
    until_ok(|| sessions.delete(&id)).await;
    assert_eq!(sessions.get(&id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_are_dead_cost_nothing_as_long_as_one_lives() {
    let (watched, plain) = (watched(), server());
    watched.sentinels[0].kill().unwrap();
    let ring = beside(&watched, &plain).connect().await.unwrap();
    let sessions = logins(&ring);
    // Two of three still promote.
    watched.servers[0].kill().unwrap();
    watched.wait_for_promotion(0).unwrap();
    let id = id_at(&ring, "a");
    until_ok(|| sessions.exists(&id)).await;
    sessions.create_with_id(&id, &login(1)).await.unwrap();
    assert!(watched.sentinels[1].pid().is_some());
    // The last one still knows the way.
    watched.sentinels[1].kill().unwrap();
    let again = beside(&watched, &plain).connect().await.unwrap();
    assert_eq!(logins(&again).get(&id).await.unwrap(), Some(login(1)));
    // Without any, what is open goes on; what is not cannot be opened, and says why.
    watched.sentinels[2].kill().unwrap();
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(1)));
    let error = ring.reconnect().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(
        error.to_string().contains("no Sentinel says where sessions-a is: no connection to 127.0.0.1:"),
        "{error}"
    );
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(1)));
    watched.sentinels[2].restart().unwrap();
    until_ok(|| ring.reconnect()).await;
}

/// What a Sentinel would say: a primary, since this promotion.
fn says(port: u16, epoch: u64) -> Script {
    Script::respond(move |command| {
        let word = command.get(1).map(|word| word.to_ascii_uppercase());
        match (command[0].to_ascii_uppercase().as_slice(), word.as_deref()) {
            (b"SENTINEL", Some(b"MASTER")) => {
                format!("*2\r\n$12\r\nconfig-epoch\r\n${}\r\n{epoch}\r\n", epoch.to_string().len())
                    .into_bytes()
            }
            (b"SENTINEL", _) => {
                format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.to_string().len()).into_bytes()
            }
            _ => b"+OK\r\n".to_vec(),
        }
    })
}

fn at(sentinels: &[&FakeServer]) -> String {
    let hosts: Vec<_> = sentinels.iter().map(|one| one.socket_address().to_string()).collect();
    format!("redis+sentinel://{}/p", hosts.join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_promotion_counts_and_two_of_the_same_number_are_a_contradiction() {
    let (new, old) = (server(), server());
    let (knows, late) =
        (FakeServer::start(says(new.port(), 12)).unwrap(), FakeServer::start(says(old.port(), 9)).unwrap());
    let silent = FakeServer::start(Script::Silence).unwrap();
    let ring = nodes([at(&[&late, &silent, &knows])]).connect().await.unwrap();
    logins(&ring).create(&login(1)).await.unwrap();
    let keys = |server: &RedisServer| server.command(&["DBSIZE"]).unwrap().int().unwrap();
    assert!(keys(&new) > 0 && keys(&old) == 0);
    late.set_script(says(old.port(), 12));
    let error = refusal(nodes([at(&[&late, &knows])])).await;
    assert!(
        error.is_configuration() && error.to_string().contains("the Sentinels disagree: p is at 127.0.0.1:"),
        "{error}"
    );
}

/// A Sentinel that says where the primary is, and announces without end that it is elsewhere.
fn announces(says: Script) -> Script {
    let mut flood = b"*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n".to_vec();
    let message = "p 127.0.0.1 1 127.0.0.1 2";
    let announced =
        format!("*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${}\r\n{message}\r\n", message.len());
    flood.extend(announced.repeat(10_000).into_bytes());
    let Script::Respond(answers) = says else { unreachable!() };
    Script::respond(move |command| match &*command[0] {
        b"SUBSCRIBE" => flood.clone(),
        _ => answers(command),
    })
}

/// Each announcement is a reason to ask all Sentinels, which is not to be had as often as somebody likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_announces_without_end_is_not_asked_without_end() {
    let primary = server();
    let sentinel = FakeServer::start(announces(says(primary.port(), 1))).unwrap();
    let ring = nodes([at(&[&sentinel])]).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    let (before, begin) = (sentinel.connections(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(1)));
    // It is asked about every 100 ms, and listened to by one connection.
    let (asked, most) = (sentinel.connections() - before, 5 + begin.elapsed().as_millis() as u64 / 75);
    assert!(asked > 2 && asked <= most, "{asked} of at most {most}");
}

/// The old primary accepts and says nothing: whoever waits for it goes where the Sentinels point, and not only at the end of his time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_waited_for_until_the_sentinels_announce_another() {
    let (hangs, primary) = (FakeServer::start(Script::Silence).unwrap(), server());
    let sentinel = FakeServer::start(announces(says(hangs.port(), 1))).unwrap();
    let patient = nodes([at(&[&sentinel])]).connect_timeout(10 * PATIENCE);
    let connecting = tokio::spawn(patient.connect());
    while hangs.connections() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sentinel.set_script(announces(says(primary.port(), 2)));
    let ring = tokio::time::timeout(PATIENCE, connecting).await.expect("it waits for the one that hangs");
    let ring = ring.unwrap().unwrap();
    logins(&ring).create(&login(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_never_stops_talking_is_cut_off_before_it_fills_the_memory() {
    let mut flood = b"$999999999\r\n".to_vec();
    flood.resize(8 << 20, b'x');
    let fake = FakeServer::start(Script::Each(flood)).unwrap();
    let error = refusal(nodes([at(&[&fake])])).await;
    assert!(error.is_unavailable() && error.to_string().contains("more comes than was asked for"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_turns_out_to_be_a_replica_is_not_used() {
    let primary = server();
    let replica = RedisServer::builder().replica_of(&primary).start().unwrap();
    replica.wait_for_link().unwrap();
    let mistaken = FakeServer::start(says(replica.port(), 1)).unwrap();
    let error = refusal(nodes([at(&[&mistaken])])).await;
    assert!(error.is_unavailable(), "{error}");
    assert!(
        error.to_string().contains("the Sentinels say that")
            && error.to_string().contains("is being promoted"),
        "{error}"
    );
    // They have heard of it.
    mistaken.set_script(says(primary.port(), 2));
    nodes([at(&[&mistaken])]).connect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_found_is_said_clearly() {
    let primary = server();
    let sentinel =
        RedisServer::builder().sentinel().watch("p", primary.port(), 1, DOWN_AFTER).start().unwrap();
    let host = sentinel.socket_address();
    let connect = |address: String| refusal(nodes([address]).connect_timeout(Duration::from_secs(1)));

    let error = connect(format!("redis+sentinel://{host}/q")).await;
    assert!(error.is_configuration(), "{error}");
    assert!(error.to_string().contains("the Sentinels watch no primary that is called q"), "{error}");
    let error = connect(format!("redis+sentinel://{}/p", primary.socket_address())).await;
    assert!(
        error.is_configuration() && error.to_string().contains("is no Sentinel, but a server"),
        "{error}"
    );
    let error = connect(format!("redis://{host}")).await;
    assert!(error.is_configuration() && error.to_string().contains("redis+sentinel://"), "{error}");
    let error = connect("redis+sentinel://127.0.0.1:1,127.0.0.1:2/p".into()).await;
    assert!(error.is_unavailable(), "{error}");
    assert!(
        error.to_string().contains("no Sentinel says where p is: no connection to 127.0.0.1:"),
        "{error}"
    );

    for (what, script) in [
        ("HTTP", Script::http()),
        ("a nested list without end", Script::Greet(b"*1\r\n".repeat(1 << 20))),
        ("a string of 2^62 bytes", Script::huge_bulk(1 << 62)),
        ("numbers", Script::Each(b":1\r\n".to_vec())),
        ("no port", Script::respond(|_| b"*2\r\n$1\r\na\r\n$1\r\nb\r\n".to_vec())),
        ("nothing", Script::Silence),
        ("an end", Script::Close),
    ] {
        let fake = FakeServer::start(script).unwrap();
        let error = connect(at(&[&fake])).await;
        assert!(error.is_configuration() || error.is_unavailable(), "{what}: {error}");
        // Beside one that is a Sentinel it does no harm.
        let both = format!("redis+sentinel://{},{host}/p", fake.socket_address());
        nodes([both]).connect().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_sentinels_joins_a_ring_and_its_address_holds_no_secrets() {
    let with_password = || RedisServer::builder().password("of the server").start().unwrap();
    let (plain, primary) = (with_password(), with_password());
    let sentinel = RedisServer::builder()
        .sentinel()
        .password("of the Sentinel")
        .watch("p", primary.port(), 1, DOWN_AFTER)
        .config("sentinel", "auth-pass p \"of the server\"")
        .start()
        .unwrap();
    let host = sentinel.socket_address();
    let login_there = Credentials::password("of the server");
    let ring = nodes([plain.address()]).credentials(login_there.clone()).connect().await.unwrap();
    let address =
        format!("redis+sentinel://:of%20the%20server@{host}/p?sentinel_password=of%20the%20Sentinel");
    let plan = ring.plan().add("b", &address).unwrap();
    assert!(!format!("{plan:?} {plan}").contains("of%20the"));
    plan.start().await.unwrap().wait().await.unwrap();
    let id = id_at(&ring, "b");
    logins(&ring).create_with_id(&id, &login(1)).await.unwrap();

    // Another application finds the node in the document, and brings its own secrets.
    let other = |sentinel: &str| {
        nodes([plain.address()])
            .credentials(login_there.clone())
            .sentinel_credentials(Credentials::password(sentinel))
    };
    let open = other("of the Sentinel").connect().await.unwrap();
    assert_eq!(logins(&open).get(&id).await.unwrap(), Some(login(1)));
    assert_eq!(open.ring(), ring.ring());
    let document = plain.command(&["GET", "sessionring:sessionring:document"]).unwrap();
    let document = String::from_utf8_lossy(document.bytes().unwrap()).into_owned();
    assert!(
        document.contains(&format!("redis+sentinel://{host}/p")) && !document.contains("of%20the"),
        "{document:?}"
    );
    let error = refusal(other("wrong")).await;
    assert!(
        error.is_configuration() && error.to_string().contains("refuses this user or password"),
        "{error}"
    );
    // They are replaced at run time.
    sentinel.command(&["ACL", "SETUSER", "default", "resetpass", ">new"]).unwrap().ok().unwrap();
    assert!(open.reconnect().await.is_err());
    open.set_sentinel_credentials(Credentials::password("new"));
    open.reconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_servers_over_tls() {
    let authority = Authority::new().unwrap();
    let identity = authority.issue(&["127.0.0.1"]).unwrap();
    let primary = RedisServer::builder().tls(&authority.certificate(), &identity).start().unwrap();
    let sentinel = RedisServer::builder()
        .tls(&authority.certificate(), &identity)
        .sentinel()
        .config("tls-replication", "yes")
        .watch("p", primary.tls_port(), 1, DOWN_AFTER)
        .start()
        .unwrap();
    let tls = sessionring::Tls::private_ca(authority.certificate()).unwrap();
    let at = |scheme: &str, port: u16| nodes([format!("{scheme}://127.0.0.1:{port}/p")]).tls(tls.clone());
    let ring = at("rediss+sentinel", sentinel.tls_port()).connect().await.unwrap();
    let id = logins(&ring).create(&login(1)).await.unwrap();
    assert_eq!(logins(&ring).get(&id).await.unwrap(), Some(login(1)));
    let error = refusal(at("redis+sentinel", sentinel.port())).await;
    assert!(error.to_string().contains("is plaintext: write rediss+sentinel://"), "{error}");
    let stranger = sessionring::Tls::private_ca(Authority::new().unwrap().certificate()).unwrap();
    let error = refusal(at("rediss+sentinel", sentinel.tls_port()).tls(stranger)).await;
    assert!(error.is_configuration() && error.to_string().contains("not trusted here"), "{error}");
}

/// What docs/operations.md says that an application needs at a Sentinel: enough, and no word too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rules_are_enough_for_a_sentinel_and_none_can_be_left_out() {
    let documented = include_str!("../docs/operations.md");
    let rules = documented.lines().find(|line| line.contains("+sentinel|")).unwrap();
    let rules: Vec<&str> = rules.split_whitespace().skip(3).collect();
    let primary = server();
    let sentinel =
        RedisServer::builder().sentinel().watch("p", primary.port(), 1, DOWN_AFTER).start().unwrap();
    let works = async |rules: &[&str]| {
        let command = [&["ACL", "SETUSER", "app", "reset"], rules].concat();
        sentinel.command(&command).unwrap();
        let credentials = Credentials::new("app", "password");
        let asked = nodes([format!("redis+sentinel://{}/p", sentinel.socket_address())])
            .sentinel_credentials(credentials)
            .connect()
            .await;
        // It is listened to in the background, where nothing but a promotion would show that it cannot be.
        let mut listener = sentinel.client().unwrap();
        let listened = listener.auth("app", "password");
        let listened = listened.and_then(|()| listener.command(&["SUBSCRIBE", "+switch-master"])?.ok());
        asked.is_ok() && listened.is_ok()
    };
    assert!(works(&rules).await);
    for (i, rule) in rules.iter().enumerate() {
        // These take away what was not given.
        if !["resetchannels", "-@all"].contains(rule) {
            let mut fewer = rules.clone();
            fewer.remove(i);
            assert!(!works(&fewer).await, "{rule} is not needed");
        }
    }
}
