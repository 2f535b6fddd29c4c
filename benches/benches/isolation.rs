//! What one node of three costs the other two when it dies, hangs or is cut off under load: the times of their requests
//! before and meanwhile, side by side.
//!
//! `cargo bench --bench isolation` prints a table. The machine is shared by the servers and their client, so only the ratio
//! says something.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sessionring::{Event, SessionId, SessionRing, Sessions};
use sessionring_testkit::{FaultProxy, RedisServer};
use tokio::task::JoinHandle;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Clients of each node, each with one request under way.
const CLIENTS: usize = 16;
const MEASURED: Duration = Duration::from_secs(5);

/// What the clients measure at present: the warm-up, the time before, the time meanwhile.
const PHASES: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    println!(
        "| node b | requests to a and c | failed | p50 | p99 | p99.9 | p99 to before | failed at b | slowest at b |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    measure("killed (SIGKILL)", |server, _| server.kill().map_err(Into::into)).await?;
    measure("stopped (SIGSTOP)", |server, _| server.stop_process().map_err(Into::into)).await?;
    measure("cut off (packets vanish)", |_, proxy| {
        proxy.blackhole(true);
        Ok(())
    })
    .await
}

async fn measure(what: &str, fail: impl Fn(&RedisServer, &FaultProxy) -> Result<()>) -> Result<()> {
    let servers = [RedisServer::start()?, RedisServer::start()?, RedisServer::start()?];
    let proxy = FaultProxy::in_front_of(&servers[1])?;
    let ring = SessionRing::builder()
        .node("a", servers[0].address())
        .node("b", proxy.address())
        .node("c", servers[2].address())
        .connect()
        .await?;
    let sessions = ring.sessions::<String>("bench");
    let phase = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for name in ["a", "b", "c"] {
        for _ in 0..CLIENTS {
            let id = owned_by(&ring, name)?;
            sessions.create_with_id(&id, &"x".repeat(300)).await?;
            clients.push((name, client(&sessions, id, &phase)));
        }
    }
    let mut events = ring.events();
    tokio::time::sleep(Duration::from_secs(1)).await;
    phase.store(1, Relaxed);
    tokio::time::sleep(MEASURED).await;
    phase.store(2, Relaxed);
    fail(&servers[1], &proxy)?;
    while !matches!(events.next().await, Some(Event::NodeDown { .. }) | None) {}
    tokio::time::sleep(MEASURED).await;
    phase.store(PHASES, Relaxed);
    let (mut well, mut broken): ([Times; PHASES], [Times; PHASES]) = Default::default();
    for (name, client) in clients {
        let into = if name == "b" { &mut broken } else { &mut well };
        for (into, times) in into.iter_mut().zip(client.await?) {
            into.answered.extend(times.answered);
            into.failed.extend(times.failed);
        }
    }
    let before = well[1].percentile(0.99);
    for (phase, when) in [(1, "well"), (2, what)] {
        let (times, here) = (&mut well[phase], &broken[phase]);
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| times.percentile(part));
        println!(
            "| {when} | {} | {} | {p50:.2?} | {p99:.2?} | {p999:.2?} | {:.2}x | {} | {:.2?} |",
            times.answered.len(),
            times.failed.len(),
            p99.as_secs_f64() / before.as_secs_f64(),
            here.failed.len(),
            here.failed.iter().max().copied().unwrap_or_default(),
        );
    }
    Ok(())
}

#[derive(Default)]
struct Times {
    answered: Vec<Duration>,
    failed: Vec<Duration>,
}

impl Times {
    fn percentile(&mut self, part: f64) -> Duration {
        self.answered.sort_unstable();
        let last = self.answered.len().saturating_sub(1);
        self.answered.get((last as f64 * part) as usize).copied().unwrap_or_default()
    }
}

/// Reads, and now and then writes, one session over and over.
fn client(
    sessions: &Sessions<String>,
    id: SessionId,
    phase: &Arc<AtomicUsize>,
) -> JoinHandle<[Times; PHASES]> {
    let (sessions, phase) = (sessions.clone(), phase.clone());
    tokio::spawn(async move {
        let mut times: [Times; PHASES] = Default::default();
        for round in 0_u64.. {
            let now = phase.load(Relaxed);
            let Some(times) = times.get_mut(now) else { break };
            let begin = Instant::now();
            let asked = match round % 8 {
                0 => sessions.touch(&id).await,
                _ => sessions.get(&id).await.map(drop),
            };
            let took = begin.elapsed();
            match asked {
                Ok(()) => times.answered.push(took),
                Err(_) => {
                    times.failed.push(took);
                    // An application that is told at once does not ask a million times a second.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        times
    })
}

fn owned_by(ring: &SessionRing, name: &str) -> Result<SessionId> {
    loop {
        let id = SessionId::generate()?;
        if ring.owner(&id).as_str() == name {
            return Ok(id);
        }
    }
}
