//! A server that speaks Redis and lies: whatever it answers, nobody is shown somebody else's session, nobody waits for ever,
//! and when it tells the truth again, the application that was there all the time goes on.

mod support;

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sessionring::{
    Error, Result, SealingKeys, SessionId, Sessions,
    record::{Header, Keyspace},
    ring::Token,
    topology::{Document, Fence},
};
use sessionring_testkit::{FakeServer, RedisServer, Reply, Script};
use support::{Login, id_at, login, logins, nodes, on, server, servers};

/// Repeatable chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// `SEED=n` repeats the lies of a run, as far as who asks when repeats itself.
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(5);
    println!("SEED={seed}");
    seed
}

fn keys() -> SealingKeys {
    SealingKeys::new(1, &[7; 32]).unwrap()
}

/// Asks until the node is used again.
async fn again<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                assert!(!error.is_closed(), "the task of the node has died: {error}");
                assert!(begin.elapsed().as_secs() < 30, "it is not used again: {error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Passes everything on to a real server, and says something else instead of its answers as long as there are lies left.
fn liar(
    server: &RedisServer,
    lies: Arc<AtomicU64>,
    lie: impl Fn(&[Vec<u8>], Reply) -> Vec<u8> + Send + Sync + 'static,
) -> FakeServer {
    let client = Mutex::new(server.client().unwrap());
    FakeServer::start(Script::respond(move |args| {
        let truth = client.lock().unwrap().command(args).unwrap();
        let lies = lies.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if lies.is_ok() { lie(args, truth) } else { truth.encode() }
    }))
    .unwrap()
}

/// Another answer than this one, made of what Redis says, of what it said to others, and of what it never says.
fn twist(truth: Reply, dice: &mut Dice, heard: &mut Vec<Reply>) -> Vec<u8> {
    if heard.len() < 200 {
        heard.push(truth.clone());
    } else {
        let at = dice.roll(heard.len());
        heard[at] = truth.clone();
    }
    let bytes = truth.encode();
    match dice.roll(12) {
        // Of another type, as RESP3 has them; or a message that nobody asked for.
        0 => {
            let types: [&[u8]; 9] = [
                b"_\r\n",
                b"#t\r\n",
                b",1.5\r\n",
                b"(3492890328409238509324850943850943825024385\r\n",
                b"~2\r\n:1\r\n:2\r\n",
                b"%1\r\n+a\r\n:1\r\n",
                b"=7\r\ntxt:abc\r\n",
                b"|1\r\n+a\r\n:1\r\n:2\r\n",
                b">2\r\n+invalidate\r\n*1\r\n+key\r\n",
            ];
            types[dice.roll(types.len())].to_vec()
        }
        1 => [b">3\r\n+message\r\n+channel\r\n+text\r\n".to_vec(), bytes].concat(),
        // More answers than were asked for, or none.
        2 => [bytes.clone(), bytes].concat(),
        3 if dice.roll(4) == 0 => Vec::new(),
        // The answer to another question.
        3 | 4 => heard[dice.roll(heard.len())].encode(),
        _ => twist_a_part(truth, dice, heard).encode(),
    }
}

fn twist_a_part(truth: Reply, dice: &mut Dice, heard: &[Reply]) -> Reply {
    if let Reply::Array(mut parts) = truth {
        if parts.is_empty() || dice.roll(3) == 0 {
            let at = dice.roll(parts.len() + 1);
            match dice.roll(4) {
                0 => parts.truncate(at),
                1 => parts.insert(at, heard[dice.roll(heard.len())].clone()),
                2 => parts.reverse(),
                _ => parts.rotate_left(at),
            }
        } else {
            let at = dice.roll(parts.len());
            parts[at] = twist_a_part(parts[at].clone(), dice, heard);
        }
        return Reply::Array(parts);
    }
    match (dice.roll(8), truth) {
        (0, _) => Reply::Nil,
        (1, _) => Reply::Int([i64::MIN, -1, 0, 1, 1 << 48, 1 << 53, i64::MAX][dice.roll(7)]),
        (2, _) => {
            let codes = [
                "LOADING",
                "READONLY",
                "NOPERM",
                "MOVED 1 127.0.0.1:1",
                "OOM",
                "NOSCRIPT",
                "WRONGTYPE",
                "BUSY",
                "MASTERDOWN",
                "NOAUTH",
                "ERR what",
                "CLUSTERDOWN",
                "EXECABORT",
                "",
            ];
            Reply::Error(codes[dice.roll(codes.len())].to_owned())
        }
        (3, _) => Reply::Array(vec![Reply::Nil; dice.roll(4)]),
        (4, Reply::Bulk(bytes)) => Reply::Bulk(bytes[..dice.roll(bytes.len() + 1)].to_vec()),
        (5 | 6, Reply::Bulk(mut bytes)) if !bytes.is_empty() => {
            let at = dice.roll(bytes.len());
            bytes[at] ^= 1 << dice.roll(8);
            Reply::Bulk(bytes)
        }
        (_, Reply::Int(number)) => Reply::Int(number.wrapping_add([-1, 1, 1 << 40][dice.roll(3)])),
        (_, Reply::Bulk(_)) => Reply::Bulk("9".repeat(dice.roll(30)).into()),
        _ => heard[dice.roll(heard.len())].clone(),
    }
}

/// What one user does, and sees: never anything but his own session. `None` is possible, since the node may say that the
/// session is gone.
async fn uses(sessions: &Sessions<Login>, id: &SessionId, user: u64, what: usize) -> Result<()> {
    let mine = |seen: Option<Login>| assert!(seen.is_none_or(|seen| seen.user == user), "of somebody else");
    match what {
        0 => mine(sessions.get(id).await?),
        1 => mine(sessions.visit(id).await?),
        2 => sessions.set(id, &login(user)).await?,
        3 => {
            let change = |seen: &mut Login| {
                assert_eq!(seen.user, user, "of somebody else");
                seen.cart.push("pen".into());
            };
            sessions.update(id, change).await?;
        }
        4 => sessions.touch(id).await?,
        5 => drop(sessions.remaining(id).await?),
        6 => {
            if let Some(mut session) = sessions.load(id).await? {
                assert_eq!(session.user, user, "of somebody else");
                session.cart.clear();
                sessions.save(&mut session).await.map_err(Error::from)?;
            }
        }
        7 => {
            let renewed = sessions.rotate(id).await?;
            mine(sessions.get(&renewed).await?);
        }
        8 => drop(sessions.exists(id).await?),
        _ => sessions.delete(id).await?,
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_node_answers_nobody_sees_the_session_of_somebody_else() {
    let servers = servers(2);
    let (lies, dice) = (Arc::new(AtomicU64::new(0)), Mutex::new((Dice(seed()), Vec::new())));
    let lying = liar(&servers[1], lies.clone(), move |_, truth| {
        let (dice, heard) = &mut *dice.lock().unwrap();
        twist(truth, dice, heard)
    });
    let ring = nodes([servers[0].address(), lying.address()])
        .request_timeout(Duration::from_millis(500))
        .connect_timeout(Duration::from_millis(500))
        .probe_interval(Duration::from_millis(20));
    let ring = ring.connect().await.unwrap();
    let sessions = logins(&ring).seal(keys());
    let (elsewhere, mut dice) = (id_at(&ring, "a"), Dice(seed()));
    sessions.create_with_id(&elsewhere, &login(99)).await.unwrap();
    let mut failures = 0;
    for round in 0..60 {
        let mut users = Vec::new();
        for user in 0..12 {
            let id = id_at(&ring, "b");
            again(async || match sessions.create_with_id(&id, &login(user)).await {
                Err(error) if error.is_exists() => Ok(()),
                other => other,
            })
            .await;
            users.push((id, user, dice.roll(10)));
        }
        lies.store(1 + dice.roll(12) as u64, Relaxed);
        let used = users.iter().map(|(id, user, what)| uses(&sessions, id, *user, *what));
        for result in futures_util::future::join_all(used).await {
            if let Err(error) = result {
                assert!(!error.is_closed(), "round {round}: the task of the node has died: {error}");
                failures += 1;
            }
        }
        lies.store(0, Relaxed);
        for (id, user, _) in &users {
            let seen = again(|| sessions.get(id)).await;
            assert!(seen.is_none_or(|seen| seen.user == *user), "round {round}");
        }
    }
    assert!(failures > 60, "{failures}");
    assert_eq!(
        again(|| sessions.get(&elsewhere)).await,
        Some(login(99)),
        "the other node has heard of nothing"
    );
}

/// As behind a proxy that confuses who asked what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_mixed_up_open_no_sealed_session() {
    let server = server();
    let (lies, last) = (Arc::new(AtomicU64::new(0)), Mutex::new(None));
    let confused = liar(&server, lies.clone(), move |args, truth| match (&*args[0], truth) {
        (b"MGET", Reply::Array(mut parts)) if parts.len() > 3 => {
            parts[2..].rotate_right(1);
            Reply::Array(parts).encode()
        }
        (b"MGET", truth) => last.lock().unwrap().replace(truth.clone()).unwrap_or(truth).encode(),
        (_, truth) => truth.encode(),
    });
    let ring = nodes([confused.address()]).connect().await.unwrap();
    let (sealed, plain) = (logins(&ring).seal(keys()), ring.sessions::<Login>("plain"));
    let mut ids = Vec::new();
    for user in 0..10 {
        ids.push(sealed.create(&login(user)).await.unwrap());
    }
    let open = [plain.create(&login(0)).await.unwrap(), plain.create(&login(1)).await.unwrap()];
    lies.store(u64::MAX, Relaxed);
    for seen in sealed.get_many(&ids).await {
        assert!(seen.unwrap_err().is_corrupt());
    }
    sealed.get(&ids[0]).await.unwrap();
    for ids in ids.windows(2) {
        assert!(sealed.get(&ids[1]).await.unwrap_err().is_corrupt(), "it is the session of the one before");
    }
    // What SECURITY.md says of sessions that are not sealed is so.
    let _ = plain.get(&open[0]).await;
    assert_eq!(plain.get(&open[1]).await.unwrap(), Some(login(0)));
}

/// Nothing that it could mean may be taken for a session, for none, or for a log-out that was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_too_many_too_few_or_of_another_type_are_errors() {
    type Change = fn(Vec<Reply>) -> Reply;
    let changes: [(&str, Change); 7] = [
        ("one more", |parts| Reply::Array([parts, vec![Reply::Nil]].concat())),
        ("one fewer", |mut parts| Reply::Array(parts.drain(..parts.len() - 1).collect())),
        ("none", |_| Reply::Array(Vec::new())),
        ("a number", |_| Reply::Int(7)),
        ("OK", |_| Reply::Simple("OK".into())),
        ("lists", |parts| Reply::Array(parts.into_iter().map(|part| Reply::Array(vec![part])).collect())),
        ("a word for the last", |mut parts| {
            *parts.last_mut().unwrap() = Reply::Simple("QUEUED".into());
            Reply::Array(parts)
        }),
    ];
    let server = server();
    for (what, change) in changes {
        for word in ["MGET", "EVALSHA"] {
            let (lies, lying) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let told = lying.clone();
            let fake = liar(&server, lies.clone(), move |args, truth| match truth {
                // The control plane's script has more keys.
                Reply::Array(parts)
                    if args[0] == word.as_bytes() && args[2] != b"6" && told.load(Relaxed) =>
                {
                    change(parts).encode()
                }
                truth => truth.encode(),
            });
            let ring = on(std::slice::from_ref(&server)).route("a", fake.address());
            let ring = ring.request_timeout(Duration::from_secs(2)).connect().await.unwrap();
            let sessions = logins(&ring);
            let id = sessions.create(&login(1)).await.unwrap();
            lies.store(u64::MAX, Relaxed);
            lying.store(true, Relaxed);
            let connections = fake.connections();
            for _ in 0..2 {
                let errors = match word {
                    "MGET" => vec![
                        sessions.get(&id).await.map(drop).expect_err(what),
                        sessions.visit(&id).await.map(drop).expect_err(what),
                        sessions
                            .get_many(&[id.clone(), id.clone()])
                            .await
                            .remove(1)
                            .map(drop)
                            .expect_err(what),
                    ],
                    _ => vec![
                        sessions.set(&id, &login(1)).await.expect_err(what),
                        sessions.touch(&id).await.expect_err(what),
                        sessions.delete(&id).await.expect_err(what),
                    ],
                };
                for error in errors {
                    let typed =
                        error.is_configuration() || error.is_unavailable() || error.is_indeterminate();
                    assert!(typed && error.node().unwrap().as_str() == "a", "{word}, {what}: {error:?}");
                }
            }
            assert!(fake.connections() > connections, "{word}, {what}: the connection is used on");
            lying.store(false, Relaxed);
            again(|| sessions.get(&id)).await;
        }
    }
}

/// Documents that a node may hold in the place of the ring's, each with the fence that names it or with another.
fn documents(own: &Document) -> Vec<(&'static str, Vec<u8>, Fence)> {
    let bytes = own.encode().to_vec();
    let with = |at: usize, put: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + put.len()].copy_from_slice(put);
        bytes
    };
    let newer = Fence { epoch: own.epoch().next(), ..own.fence() };
    let naming = |epoch: u64, bytes: &[u8]| Fence {
        epoch: sessionring::Epoch::new(epoch),
        nonce: Token::of(bytes).get(),
        ..own.fence()
    };
    // protocol, format, policy, placement (7), cluster, epoch, members
    let (epoch, members) = (18, 26);
    let far = with(epoch, &u64::MAX.to_be_bytes());
    let next = with(epoch, &newer.epoch.get().to_be_bytes());
    let last = with(epoch, &((1_u64 << 48) - 1).to_be_bytes());
    let many = with(members, &u16::MAX.to_be_bytes());
    let mut large = next.clone();
    large.resize(9 << 20, 0);
    vec![
        ("of another fence", next.clone(), newer),
        ("of this very epoch, changed", with(2, &[1]), naming(own.epoch().get(), &with(2, &[1]))),
        (
            "of the last epoch and named, but cut",
            last[..last.len() - 1].to_vec(),
            naming((1 << 48) - 1, &last),
        ),
        ("beyond the last epoch", far.clone(), naming(u64::MAX, &far)),
        ("of a format to come", with(1, &[2]), naming(2, &with(1, &[2]))),
        ("of a million nodes", many.clone(), naming(2, &many)),
        ("that never ends", large.clone(), naming(2, &large)),
        ("of nothing", Vec::new(), naming(2, b"")),
        ("of garbage", b"{\"nodes\": []}".to_vec(), naming(2, b"{\"nodes\": []}")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topology_that_is_none_is_adopted_by_nobody() {
    let servers = servers(2);
    let ring = on(&servers).probe_interval(Duration::from_millis(50)).connect().await.unwrap();
    let sessions = logins(&ring);
    let ids = ["a", "b"].map(|node| id_at(&ring, node));
    for id in &ids {
        sessions.create_with_id(id, &login(1)).await.unwrap();
    }
    let (document, fence) = ("sessionring:sessionring:document", "sessionring:sessionring:fence");
    let held = |key: &str| servers[1].command(&["GET", key]).unwrap().bytes().unwrap().to_vec();
    let put = |key: &str, bytes: &[u8]| {
        servers[1].command(&[b"SET", key.as_bytes(), bytes]).unwrap().ok().unwrap();
    };
    let (own, own_fence) = (held(document), held(fence));
    let decoded = Document::decode(&own).unwrap();
    assert_eq!(decoded.fence().encode().as_slice(), own_fence);
    for (what, bytes, named) in documents(&decoded) {
        put(document, &bytes);
        put(fence, &named.encode());
        let begin = Instant::now();
        let error = sessions.get(&ids[1]).await.expect_err(what);
        assert!(error.is_configuration() || error.is_upgrade_required(), "{what}: {error:?}");
        assert_eq!(error.node().unwrap().as_str(), "b", "{what}: {error}");
        // Who comes new finds the same.
        let error = match on(&servers).connect().await {
            Ok(new) => logins(&new).get(&ids[1]).await.expect_err(what),
            Err(error) => error,
        };
        let typed = error.is_configuration() || error.is_upgrade_required() || error.is_corrupt();
        assert!(typed, "{what}: {error:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}: {:?}", begin.elapsed());
        assert_eq!(ring.epoch(), decoded.epoch(), "{what}");
        assert_eq!(sessions.get(&ids[0]).await.unwrap(), Some(login(1)), "{what}");
        put(document, &own);
        put(fence, &own_fence);
        assert_eq!(again(|| sessions.get(&ids[1])).await, Some(login(1)), "{what}");
    }
}

/// Records with every number as high as it goes, and without an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_the_far_future_are_read_and_ended_and_never_overflow() {
    let server = server();
    let ring = on(std::slice::from_ref(&server)).connect().await.unwrap();
    let sessions = logins(&ring);
    let keyspace = Keyspace::new(ring.name(), "login");
    let id = sessions.create(&login(1)).await.unwrap();
    let key = keyspace.key(&id);
    let own = server.command(&[b"GET", key.as_bytes()]).unwrap().bytes().unwrap().to_vec();
    let put = |record: &[u8]| server.command(&[b"SET", key.as_bytes(), record]).unwrap().ok().unwrap();
    let header = Header::decode(&own).unwrap();
    let far = |mut header: Header| {
        (header.version, header.max_deadline) = ((1 << 53) - 1, (1 << 48) - 1);
        header.encode().to_vec()
    };

    let live = [far(header), own[Header::LEN..].to_vec()].concat();
    put(&live);
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(1)));
    assert_eq!(sessions.visit(&id).await.unwrap(), Some(login(1)));
    assert!(sessions.remaining(&id).await.unwrap().is_some());
    for error in [
        sessions.set(&id, &login(2)).await.unwrap_err(),
        sessions.update(&id, |login| login.user += 1).await.unwrap_err(),
        sessions.touch(&id).await.unwrap_err(),
        sessions.rotate(&id).await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_corrupt(), "{error}");
    }
    sessions.delete(&id).await.unwrap();
    assert_eq!(sessions.get(&id).await.unwrap(), None);

    let mut tombstone = far(header);
    tombstone[1] = b'T';
    put(&tombstone);
    assert_eq!(sessions.get(&id).await.unwrap(), None);
    assert_eq!(sessions.visit(&id).await.unwrap(), None);
    assert!(sessions.set(&id, &login(2)).await.unwrap_err().is_deleted());
    assert!(sessions.create_with_id(&id, &login(2)).await.unwrap_err().is_deleted());
    sessions.delete(&id).await.unwrap();
    // One that forwards for ever, to nowhere.
    tombstone[2] = 2;
    tombstone.extend([0xff; 40]);
    put(&tombstone);
    for result in [sessions.get(&id).await, sessions.visit(&id).await] {
        assert!(result.unwrap_err().is_corrupt());
    }
    // Nobody knows what would have to be logged out, so nobody says that it is done.
    assert!(sessions.delete(&id).await.unwrap_err().is_corrupt());
}

/// Neither one that greets and hangs up, nor one that hangs up where an answer is due, is called without pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_up_is_called_less_and_less_often() {
    let server = server();
    on(std::slice::from_ref(&server)).connect().await.unwrap();
    for word in ["MGET", "TIME"] {
        let (client, hangs_up) = (Mutex::new(server.client().unwrap()), Arc::new(AtomicBool::new(false)));
        let told = hangs_up.clone();
        let fake = FakeServer::start(Script::until(move |args| {
            let ends = args[0] == word.as_bytes() && told.load(Relaxed);
            (!ends).then(|| client.lock().unwrap().command(args).unwrap().encode())
        }))
        .unwrap();
        let ring = on(std::slice::from_ref(&server)).route("a", fake.address());
        let ring = ring.request_timeout(Duration::from_secs(1)).connect().await.unwrap();
        let (sessions, id) = (logins(&ring), SessionId::generate().unwrap());
        hangs_up.store(true, Relaxed);
        fake.cut();
        let (before, begin) = (fake.connections(), Instant::now());
        while begin.elapsed() < Duration::from_millis(1500) {
            let error = sessions.get(&id).await.unwrap_err();
            assert!(error.is_unavailable(), "{error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The first few at once, then after pauses of 25 ms or more.
        let most = 40 + begin.elapsed().as_millis() as u64 / 25;
        let called = fake.connections() - before;
        assert!(called > 2 && called < most, "{word}: {called} of at most {most}");
        hangs_up.store(false, Relaxed);
        again(|| sessions.get(&id)).await;
    }
}

/// What costs a few bytes on the wire and much more in memory.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_small_things_does_not_fill_the_memory() {
    let server = server();
    let (lies, mut flood) = (Arc::new(AtomicU64::new(0)), b"*1000000000\r\n".to_vec());
    flood.extend(b"*0\r\n".repeat(64 << 20));
    let flooding = liar(&server, lies.clone(), move |args, truth| match &*args[0] {
        b"MGET" => flood.clone(),
        _ => truth.encode(),
    });
    let ring = nodes([flooding.address()]).connect().await.unwrap();
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    lies.store(u64::MAX, Relaxed);
    let before = most_memory();
    let error = sessions.get(&id).await.unwrap_err();
    assert!(error.is_unavailable() && error.node().unwrap().as_str() == "a", "{error}");
    let more = most_memory() - before;
    assert!(more < 1 << 30, "{more}");
    lies.store(0, Relaxed);
    assert_eq!(again(|| sessions.get(&id)).await, Some(login(1)));
}

/// The most memory that this process has had.
#[cfg(target_os = "linux")]
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
