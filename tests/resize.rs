//! Nodes join, leave and change weight while applications use the ring: nothing is lost, and nothing comes back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use sessionring::{Error, Progress, Resize, Returning, SessionId, SessionRing, Sessions};
use sessionring_testkit::{Direction, FaultProxy, RedisServer};

/// A hang is a failure.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("in time")
}

/// Addresses of so many nodes: in memory, or on servers.
struct Nodes {
    addresses: Vec<String>,
    servers: Vec<RedisServer>,
}

impl Nodes {
    fn memory(count: usize) -> Nodes {
        static RUN: AtomicU64 = AtomicU64::new(0);
        let run = RUN.fetch_add(1, SeqCst);
        let addresses = (0..count).map(|i| format!("memory:resize-{run}-{i}")).collect();
        Nodes { addresses, servers: Vec::new() }
    }

    fn servers(count: usize) -> Nodes {
        let servers: Vec<RedisServer> =
            (0..count).map(|_| RedisServer::start().unwrap_or_else(|error| panic!("{error}"))).collect();
        Nodes { addresses: servers.iter().map(RedisServer::address).collect(), servers }
    }

    async fn connect(&self, names: &[usize]) -> SessionRing {
        let mut builder = SessionRing::builder().request_timeout(Duration::from_secs(10));
        for &i in names {
            builder = builder.node(name(i), &self.addresses[i]);
        }
        builder.connect().await.unwrap()
    }
}

fn name(i: usize) -> String {
    format!("n{i}")
}

/// What an application knows for certain of its sessions.
#[derive(Default)]
struct Known {
    live: BTreeMap<Vec<u8>, (SessionId, u64)>,
    out: Vec<SessionId>,
}

/// Uses sessions of its own until told to stop: every answer is checked against what it knows.
async fn application(sessions: Sessions<u64>, stop: Arc<AtomicBool>, mut random: u64) -> (Known, u64) {
    let mut known = Known::default();
    let mut operations = 0;
    while !stop.load(SeqCst) {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let dice = random >> 33;
        operations += 1;
        let pick = || {
            let keys: Vec<_> = known.live.keys().collect();
            keys.get((dice / 16) as usize % keys.len().max(1)).map(|key| known.live[*key].clone())
        };
        match dice % 16 {
            0..4 => {
                let id = sessions.create(&0).await.unwrap();
                known.live.insert(id.as_bytes().to_vec(), (id, 0));
            }
            4..8 => {
                if let Some((id, value)) = pick() {
                    let after = sessions
                        .update(&id, |n| {
                            *n += 1;
                            *n
                        })
                        .await
                        .unwrap();
                    assert_eq!(after, value + 1, "an update was lost");
                    known.live.insert(id.as_bytes().to_vec(), (id, after));
                }
            }
            8..10 => {
                if let Some((id, value)) = pick() {
                    sessions.set(&id, &(value + 10)).await.unwrap();
                    known.live.insert(id.as_bytes().to_vec(), (id, value + 10));
                }
            }
            10 => {
                if let Some((id, _)) = pick() {
                    sessions.delete(&id).await.unwrap();
                    known.live.remove(id.as_bytes());
                    known.out.push(id);
                }
            }
            11 => {
                if let Some((id, _)) = pick() {
                    sessions.touch(&id).await.unwrap();
                }
            }
            12 => {
                if let Some(id) = known.out.last() {
                    assert_eq!(sessions.get(id).await.unwrap(), None, "a log-out was undone");
                    assert!(sessions.set(id, &1).await.unwrap_err().is_deleted());
                }
            }
            _ => {
                if let Some((id, value)) = pick() {
                    assert_eq!(sessions.get(&id).await.unwrap(), Some(value), "a session was lost");
                }
            }
        }
    }
    (known, operations)
}

async fn check(sessions: &Sessions<u64>, known: &[Known]) -> usize {
    let mut checked = 0;
    for known in known {
        let (ids, values): (Vec<_>, Vec<_>) = known.live.values().cloned().unzip();
        for (value, found) in values.into_iter().zip(sessions.get_many(&ids).await) {
            assert_eq!(found.unwrap(), Some(value));
            checked += 1;
        }
        for found in sessions.get_many(&known.out).await {
            assert_eq!(found.unwrap(), None);
            checked += 1;
        }
    }
    checked
}

/// Three applications with connections of their own use the ring while it changes.
async fn under_traffic<F: Future<Output = Result<(), Error>>>(
    nodes: &Nodes,
    names: &[usize],
    change: impl FnOnce(SessionRing) -> F,
) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut applications = Vec::new();
    for i in 0..3 {
        let ring = nodes.connect(names).await;
        for j in 0..4 {
            let task = application(ring.sessions("s"), stop.clone(), i * 100 + j + 1);
            applications.push(tokio::spawn(task));
        }
    }
    let ring = nodes.connect(names).await;
    let changed = change(ring.clone()).await;
    stop.store(true, SeqCst);
    let mut known = Vec::new();
    let mut operations = 0;
    for application in applications {
        let (all, count) = application.await.unwrap();
        known.push(all);
        operations += count;
    }
    changed.unwrap();
    let checked = check(&ring.sessions("s"), &known).await;
    println!("{operations} operations, {checked} sessions checked, epoch {}", ring.epoch());
    assert!(!ring.is_resizing());
}

async fn finished(resize: Resize) -> Result<Progress, Error> {
    resize.wait().await?;
    Ok(resize.now())
}

async fn grow_and_shrink(ring: SessionRing, nodes: &Nodes) -> Result<(), Error> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("{}", finished(ring.add_node("n3", &nodes.addresses[3]).await?).await?);
    println!("{}", finished(ring.remove_node("n0").await?).await?);
    println!("{}", finished(ring.reweight("n1", 3).await?).await?);
    println!("{}", finished(ring.plan().add("n0", &nodes.addresses[0])?.remove("n2")?.start().await?).await?);
    assert_eq!(ring.ring().members().iter().map(|m| m.id().as_str()).collect::<Vec<_>>(), ["n0", "n1", "n3"]);
    Ok(())
}

#[tokio::test]
async fn nodes_in_memory_come_and_go() {
    let nodes = Nodes::memory(4);
    in_time(under_traffic(&nodes, &[0, 1, 2], |ring| grow_and_shrink(ring, &nodes))).await;
}

#[tokio::test]
async fn servers_come_and_go() {
    let nodes = Nodes::servers(4);
    in_time(under_traffic(&nodes, &[0, 1, 2], |ring| grow_and_shrink(ring, &nodes))).await;
}

/// One session that belongs to this node.
async fn session_at(ring: &SessionRing, sessions: &Sessions<u64>, node: &str) -> SessionId {
    loop {
        let id = SessionId::generate().unwrap();
        if ring.owner(&id).as_str() == node {
            sessions.create_with_id(&id, &1).await.unwrap();
            return id;
        }
    }
}

/// An application falls asleep with half of a request sent. When it wakes, the ring has changed three times, others have
/// logged the user out or written, and the rest of the request arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_slept_through_three_resizes_harms_nothing() {
    let nodes = Nodes::servers(3);
    let ring = nodes.connect(&[0, 1]).await;
    let sessions = ring.sessions::<u64>("s");
    let proxy = FaultProxy::in_front_of(&nodes.servers[0]).unwrap();
    let sleeper = SessionRing::builder()
        .request_timeout(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20))
        .probe_interval(Duration::from_secs(3600))
        .node("n0", &nodes.addresses[0])
        .node("n1", &nodes.addresses[1])
        .route("n0", proxy.address());
    for log_out in [true, false] {
        let sleeper = sleeper.clone().connect().await.unwrap();
        let asleep = sleeper.sessions::<u64>("s");
        let id = session_at(&ring, &sessions, "n0").await;
        assert_eq!(asleep.get(&id).await.unwrap(), Some(1));
        let before = proxy.counts().requests;
        proxy.hold_after(Direction::ToServer, 100);
        let late = tokio::spawn({
            let (asleep, id) = (asleep.clone(), id.clone());
            async move { asleep.set(&id, &666).await }
        });
        assert!(proxy.wait_for(|counts| counts.requests > before, Duration::from_secs(10)));

        in_time(async {
            finished(ring.add_node("n2", &nodes.addresses[2]).await.unwrap()).await.unwrap();
            finished(ring.remove_node("n0").await.unwrap()).await.unwrap();
            sessions.set(&id, &2).await.unwrap();
            if log_out {
                sessions.delete(&id).await.unwrap();
            }
            let back = ring.plan().add("n0", &nodes.addresses[0]).unwrap().remove("n2").unwrap();
            finished(back.start().await.unwrap()).await.unwrap();
        })
        .await;
        proxy.hold(Direction::ToServer, false);
        let answer = in_time(late).await.unwrap();
        if log_out {
            assert!(answer.unwrap_err().is_deleted());
            assert_eq!(sessions.get(&id).await.unwrap(), None);
            assert_eq!(asleep.get(&id).await.unwrap(), None);
        } else {
            // It was refused where it arrived, routed again, and is a write of this moment.
            answer.unwrap();
            assert_eq!(sessions.get(&id).await.unwrap(), Some(666));
        }
        assert_eq!(sleeper.epoch(), ring.epoch());
    }
}

/// A node that takes no more data can be emptied, and users on it log out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_is_drained_and_log_outs_on_it_work() {
    let nodes = Nodes::servers(3);
    let ring = nodes.connect(&[0, 1]).await;
    let sessions = ring.sessions::<Vec<u8>>("s");
    let values: Vec<Vec<u8>> = (0..500u32).map(|i| i.to_be_bytes().repeat(50)).collect();
    let ids: Vec<SessionId> =
        sessions.create_many(&values).await.into_iter().collect::<Result<_, _>>().unwrap();
    nodes.servers[0].config_set("maxmemory", "1").unwrap();
    let (on_full, elsewhere): (Vec<usize>, Vec<usize>) =
        (0..ids.len()).partition(|&i| ring.owner(&ids[i]).as_str() == "n0");
    assert!(sessions.set(&ids[on_full[0]], &vec![1]).await.unwrap_err().is_full());
    sessions.delete(&ids[on_full[0]]).await.unwrap();

    let resize = ring.plan().add("n2", &nodes.addresses[2]).unwrap().remove("n0").unwrap().rate(1_000);
    let resize = resize.start().await.unwrap();
    // While it is drained.
    sessions.delete(&ids[on_full[1]]).await.unwrap();
    in_time(finished(resize)).await.unwrap();
    assert_eq!(nodes.servers[0].config_get("maxmemory").unwrap().as_deref(), Some("1"));
    for (place, &i) in on_full.iter().enumerate() {
        let expected = (place > 1).then(|| values[i].clone());
        assert_eq!(sessions.get(&ids[i]).await.unwrap(), expected);
    }
    for i in elsewhere {
        assert_eq!(sessions.get(&ids[i]).await.unwrap().as_ref(), Some(&values[i]));
    }
}

/// A target that is full: what is to move there waits and stays in use, log-outs pass, and the resize says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_target_makes_the_resize_wait_and_nobody_else() {
    let nodes = Nodes::servers(2);
    let ring = nodes.connect(&[0]).await;
    let sessions = ring.sessions::<u64>("s");
    let ids: Vec<SessionId> =
        sessions.create_many(&[7; 200]).await.into_iter().collect::<Result<_, _>>().unwrap();
    let mut resize = ring.plan().add("n1", &nodes.addresses[1]).unwrap().rate(100).start().await.unwrap();
    nodes.servers[1].config_set("maxmemory", "1").unwrap();
    in_time(async {
        while let Some(progress) = resize.progress().await {
            if progress.stuck.iter().any(|stuck| stuck.error.is_full()) {
                break;
            }
        }
    })
    .await;
    let mut gone = 0;
    for id in &ids {
        assert_eq!(sessions.get(id).await.unwrap(), Some(7));
        if ring.owner(id).as_str() == "n1" && gone < 5 {
            sessions.delete(id).await.unwrap();
            assert_eq!(sessions.get(id).await.unwrap(), None);
            gone += 1;
        }
    }
    nodes.servers[1].config_set("maxmemory", "0").unwrap();
    in_time(resize.wait()).await.unwrap();
    let left = sessions.get_many(&ids).await.into_iter().filter(|found| matches!(found, Ok(Some(7)))).count();
    assert_eq!((gone, left), (5, ids.len() - 5));
}

/// A node that lost its memory is taken up again by whoever meets it, under a new epoch; what it held is absent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_node_is_readmitted_once_for_all() {
    for count in [1, 2, 3] {
        let nodes = Nodes::servers(count);
        let all: Vec<usize> = (0..count).collect();
        let rings = [nodes.connect(&all).await, nodes.connect(&all).await];
        let sessions = rings[0].sessions::<u64>("s");
        let id = session_at(&rings[0], &sessions, "n0").await;
        nodes.servers[0].command(&["FLUSHALL"]).unwrap();
        for ring in &rings {
            assert_eq!(in_time(ring.sessions::<u64>("s").get(&id)).await.unwrap(), None);
        }
        assert_eq!((rings[0].epoch().get(), rings[1].epoch().get()), (2, 2), "of {count} nodes");
        let again = session_at(&rings[0], &sessions, "n0").await;
        assert_eq!(rings[1].sessions::<u64>("s").get(&again).await.unwrap(), Some(1));
    }
}

/// In a strict ring a restarted node waits for an operator, and what it held counts only if he says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_ring_believes_no_restarted_node() {
    for returning in [Returning::Discard, Returning::Keep] {
        let nodes = Nodes::servers(3);
        let builder = (0..3).fold(SessionRing::builder().strict(), |builder, i| {
            builder.node(name(i), &nodes.addresses[i]).request_timeout(Duration::from_secs(5))
        });
        let ring = builder.connect().await.unwrap();
        let sessions = ring.sessions::<u64>("s");
        let id = session_at(&ring, &sessions, "n1").await;
        let dump = nodes.servers[1].dump().unwrap();
        nodes.servers[1].kill().unwrap();
        nodes.servers[1].restart_from(&dump).unwrap();
        let error = in_time(async {
            loop {
                match sessions.get(&id).await {
                    Err(error) if error.to_string().contains("readmit") => break error,
                    Err(error) => assert!(error.is_unavailable(), "{error}"),
                    Ok(found) => panic!("it was believed: {found:?}"),
                }
            }
        })
        .await;
        assert!(error.is_unavailable());
        in_time(ring.readmit("n1", returning)).await.unwrap();
        let expected = (returning == Returning::Keep).then_some(1);
        let found = in_time(async {
            loop {
                match sessions.get(&id).await {
                    Ok(found) => break found,
                    Err(error) => assert!(error.is_unavailable(), "{error}"),
                }
            }
        })
        .await;
        assert_eq!(found, expected);
    }
}

/// The process that drives a resize goes; another one takes it over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_resumes_a_resize() {
    let nodes = Nodes::servers(3);
    let (first, second) = (nodes.connect(&[0, 1]).await, nodes.connect(&[0, 1]).await);
    let sessions = second.sessions::<u64>("s");
    let ids: Vec<SessionId> =
        sessions.create_many(&[7; 600]).await.into_iter().collect::<Result<_, _>>().unwrap();
    let resize = first.plan().add("n2", &nodes.addresses[2]).unwrap().rate(50).start().await.unwrap();
    first.close().await;
    assert!(in_time(resize.wait()).await.unwrap_err().is_closed());
    let other = second.add_node("n9", "memory:").await.unwrap_err();
    assert!(other.is_configuration() && other.to_string().contains("resume_resize"), "{other}");
    let resumed = second.resume_resize().await.unwrap().expect("a resize is under way");
    in_time(resumed.wait()).await.unwrap();
    assert!(second.resume_resize().await.unwrap().is_none());
    for found in sessions.get_many(&ids).await {
        assert_eq!(found.unwrap(), Some(7));
    }
}

/// A node dies for good in the middle of a resize: what is stuck is said, all else works, and forgetting it ends the wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_forgotten_in_the_middle_of_a_resize() {
    let nodes = Nodes::servers(4);
    let ring = nodes.connect(&[0, 1, 2]).await;
    let sessions = ring.sessions::<u64>("s");
    let ids: Vec<SessionId> =
        sessions.create_many(&[7; 600]).await.into_iter().collect::<Result<_, _>>().unwrap();
    let before = ring.ring();
    nodes.servers[1].kill().unwrap();
    let mut resize = ring.add_node("n3", &nodes.addresses[3]).await.unwrap();
    in_time(async {
        while let Some(progress) = resize.progress().await {
            if progress.stuck.iter().any(|stuck| stuck.source.as_str() == "n1") {
                assert!(progress.to_string().contains("forget_node"), "{progress}");
                break;
            }
        }
    })
    .await;
    let forgotten = in_time(ring.forget_node("n1")).await.unwrap();
    assert!((0.3..0.4).contains(&forgotten.share.as_f64()), "{forgotten:?}");
    in_time(resize.wait()).await.unwrap();
    assert!(!ring.is_resizing());
    let found = sessions.get_many(&ids).await;
    for (id, found) in ids.iter().zip(found) {
        let lost = before.owner(id.token()).as_str() == "n1";
        assert_eq!(found.unwrap(), (!lost).then_some(7));
    }
    sessions.create(&1).await.unwrap();
}

/// What a plan says is what happens, and it changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_tells_what_would_move_and_changes_nothing() {
    let nodes = Nodes::servers(3);
    let ring = nodes.connect(&[0, 1]).await;
    let sessions = ring.sessions::<Vec<u8>>("s");
    let values = vec![vec![1; 100]; 3_000];
    let ids: Vec<SessionId> =
        sessions.create_many(&values).await.into_iter().collect::<Result<_, _>>().unwrap();
    let plan = ring.plan().add("n2", &nodes.addresses[2]).unwrap();
    let sample = plan.sample().await.unwrap();
    for flow in &sample.flows {
        let moves =
            |id: &&SessionId| ring.owner(id) == flow.from && *plan.ring().owner(id.token()) == flow.to;
        let truth = ids.iter().filter(moves).count() as f64;
        assert!(
            (flow.sessions as f64) > 0.7 * truth && (flow.sessions as f64) < 1.4 * truth,
            "{flow:?} {truth}"
        );
        let bytes = flow.bytes as f64 / flow.sessions as f64;
        assert!((130.0..190.0).contains(&bytes), "{flow:?}");
    }
    assert_eq!(sample.flows.len(), 2);
    assert_eq!(ring.epoch().get(), 1);
    let after = plan.ring().clone();
    in_time(plan.unthrottled().start().await.unwrap().wait()).await.unwrap();
    assert_eq!(ring.ring().fingerprint(), after.fingerprint());
}
