//! How fast sessions move between two local servers, and what requests feel of it.
//!
//! `cargo bench -p sessionring-benches --bench resize`; each figure is of one run, and what is compared was measured in it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sessionring::{Lifetime, Phase, SessionId, SessionRing, Sessions};
use sessionring_testkit::RedisServer;

/// Makes records of 300 bytes: 35 of header, 2 of length, 263 of value.
const VALUE: usize = 262;
const SESSIONS: usize = 400_000;
const READERS: usize = 16;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap_or_else(|error| panic!("{error}")).block_on(run());
}

async fn run() {
    let servers: Vec<RedisServer> =
        (0..2).map(|_| RedisServer::start().unwrap_or_else(|error| panic!("{error}"))).collect();
    let ring = SessionRing::builder()
        .node("a", servers[0].address())
        .request_timeout(Duration::from_secs(30))
        .connect()
        .await
        .unwrap();
    let day = Duration::from_secs(86_400);
    let sessions = ring.sessions::<Vec<u8>>("bench").lifetime(Lifetime::new(day, day).unwrap());
    let mut ids = Vec::with_capacity(SESSIONS);
    while ids.len() < SESSIONS {
        let values = vec![vec![7; VALUE]; 4_000];
        ids.extend(sessions.create_many(&values).await.into_iter().map(Result::unwrap));
    }

    println!("unthrottled: {SESSIONS} sessions of 300 bytes on one node, another joins, and leaves again");
    for round in 1..=3 {
        let plan = ring.plan().add("b", servers[1].address()).unwrap();
        timed(round, "joins", plan.unthrottled(), &sessions, &ids, &servers).await;
        let plan = ring.plan().remove("b").unwrap();
        timed(round, "leaves", plan.unthrottled(), &sessions, &ids, &servers).await;
    }

    println!("throttled by default: {READERS} readers, each always waiting for one get");
    let ids = Arc::new(ids);
    for round in 1..=3 {
        let before = percentiles(&sessions, &ids, Duration::from_secs(4)).await;
        let resize = ring.add_node("b", servers[1].address()).await.unwrap();
        let during = percentiles(&sessions, &ids, Duration::from_secs(4)).await;
        assert!(ring.is_resizing(), "it was over before the readers were");
        let progress = resize.now();
        resize.wait().await.unwrap();
        println!(
            "  round {round}: p50 {:.0} µs before, {:.0} µs during; p99 {:.0} µs before, {:.0} µs during, ratio {:.2}; {:.0} \
             sessions/s moved",
            before.0,
            during.0,
            before.1,
            during.1,
            during.1 / before.1,
            progress.rate
        );
        ring.plan().remove("b").unwrap().unthrottled().start().await.unwrap().wait().await.unwrap();
    }
}

async fn timed(
    round: u32,
    what: &str,
    plan: sessionring::Plan,
    sessions: &Sessions<Vec<u8>>,
    ids: &[SessionId],
    servers: &[RedisServer],
) {
    let processes: Vec<String> = std::iter::once("self".to_owned())
        .chain(servers.iter().filter_map(|server| server.pid()).map(|pid| pid.to_string()))
        .collect();
    let busy = || processes.iter().map(|process| busy_seconds(process)).collect::<Vec<_>>();
    let diff = plan.diff();
    let moves = ids.iter().filter(|id| diff.find(id.token()).is_some()).count();
    let (begin, before) = (Instant::now(), busy());
    let mut resize = plan.start().await.unwrap();
    while resize.progress().await.is_some_and(|progress| progress.phase == Phase::Moving) {}
    let moved = begin.elapsed().as_secs_f64();
    resize.wait().await.unwrap();
    let took = begin.elapsed().as_secs_f64();
    let spent: Vec<String> =
        busy().iter().zip(&before).map(|(after, before)| format!("{:.2}", after - before)).collect();
    println!(
        "  round {round}: {what}: {moves} sessions in {moved:.2} s, {:.0} sessions/s; cleaned up after {took:.2} s; CPU \
         here, of a and of b: {} s",
        moves as f64 / moved,
        spent.join(", ")
    );
    for id in ids.iter().step_by(997) {
        assert!(sessions.get(id).await.unwrap().is_some());
    }
}

/// p50 and p99 of `get`, in µs.
async fn percentiles(sessions: &Sessions<Vec<u8>>, ids: &Arc<Vec<SessionId>>, time: Duration) -> (f64, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let (sessions, ids, stop) = (sessions.clone(), ids.clone(), stop.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut i = reader * 7919;
                while !stop.load(Relaxed) {
                    i = (i + 104_729) % ids.len();
                    let begin = Instant::now();
                    assert!(sessions.get(&ids[i]).await.unwrap().is_some());
                    times.push(begin.elapsed().as_secs_f64() * 1e6);
                }
                times
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Relaxed);
    let mut times = Vec::new();
    for reader in readers {
        times.extend(reader.await.unwrap());
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// CPU time of a process so far, where the system tells.
fn busy_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .filter_map(|field| field.parse().ok())
        .collect();
    // The state, which is no number, is left out; user and system time are in hundredths of a second.
    fields.get(10).zip(fields.get(11)).map_or(0.0, |(user, system)| (user + system) / 100.0)
}
