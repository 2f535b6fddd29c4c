//! What a session operation costs on three real servers, with 1, 32 and 256 requests in flight.
//!
//! `get` and `set` are compared with what an application would do by itself: `GET` and `SET … PX` through the
//! same driver's `MultiplexedConnection`, the node chosen by `hash % nodes`. Each sample runs both, one right
//! after the other and in alternating order, so that the printed ratio does not depend on how busy the machine was
//! at the time. Absolute numbers do: client and servers share its processors.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use redis::aio::MultiplexedConnection;
use sessionring::{SessionId, SessionRing, Sessions};
use sessionring_testkit::RedisServer;
use tokio::{runtime::Runtime, task::JoinSet};

/// Bytes of a session.
const VALUE: usize = 300;
/// Sessions that are there from the start.
const SESSIONS: usize = 20_000;
const IN_FLIGHT: [usize; 3] = [1, 32, 256];
/// Operations that each task does per iteration.
const ROUND: usize = 16;
/// Ids in one `get_many`.
const MANY: usize = 100;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// One operation on the session at a position of the list.
trait Operation<F>: Fn(Arc<Clients>, usize) -> F + Copy + Send + 'static {}

impl<F, O: Fn(Arc<Clients>, usize) -> F + Copy + Send + 'static> Operation<F> for O {}

struct Setup {
    runtime: Runtime,
    clients: Arc<Clients>,
    ring: SessionRing,
    // Ended last.
    _servers: Vec<RedisServer>,
}

/// What the tasks share.
struct Clients {
    sessions: Sessions<String>,
    ids: Vec<SessionId>,
    /// The same sessions for the plain driver: key, and connection number.
    keys: Vec<(String, usize)>,
    plain: Vec<MultiplexedConnection>,
    value: String,
    next: AtomicUsize,
}

impl Setup {
    fn new() -> Result<Setup, Error> {
        let runtime = Runtime::new()?;
        let started: Result<Vec<_>, _> = (0..3).map(|_| RedisServer::start()).collect();
        let servers = started?;
        let (ring, clients) = runtime.block_on(async {
            let mut builder = SessionRing::builder();
            let mut plain = Vec::new();
            for (name, server) in ["a", "b", "c"].into_iter().zip(&servers) {
                builder = builder.node(name, server.address());
                plain.push(redis::Client::open(server.address())?.get_multiplexed_async_connection().await?);
            }
            let ring = builder.connect().await?;
            let sessions = ring.sessions::<String>("bench");
            let value = "x".repeat(VALUE);
            let mut ids = Vec::new();
            for values in vec![value.clone(); SESSIONS].chunks(1000) {
                for created in sessions.create_many(values).await {
                    ids.push(created?);
                }
            }
            let place = |id: &SessionId| (id.expose(), (id.token().get() % 3) as usize);
            let keys = ids.iter().map(place).collect();
            let clients = Clients { sessions, ids, keys, plain, value, next: AtomicUsize::new(0) };
            for i in 0..SESSIONS {
                clients.plain_set(i).await?;
            }
            Ok::<_, Error>((ring, Arc::new(clients)))
        })?;
        Ok(Setup { runtime, clients, ring, _servers: servers })
    }

    /// Keeps `in_flight` tasks busy; answers how long they took to do `rounds` rounds each.
    fn time<F>(&self, in_flight: usize, rounds: u64, operation: impl Operation<F>) -> Duration
    where
        F: Future<Output = Result<(), Error>> + Send,
    {
        self.runtime.block_on(async {
            let began = Instant::now();
            let mut tasks = JoinSet::new();
            for _ in 0..in_flight {
                let clients = self.clients.clone();
                tasks.spawn(async move {
                    for _ in 0..rounds * ROUND as u64 {
                        // A large odd stride: neighbours in time are not neighbours in the list.
                        let i = clients.next.fetch_add(7919, Relaxed) % SESSIONS;
                        operation(clients.clone(), i).await?;
                    }
                    Ok::<_, Error>(())
                });
            }
            for done in tasks.join_all().await {
                done.expect("every operation succeeds");
            }
            began.elapsed()
        })
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.runtime.block_on(self.ring.close());
    }
}

impl Clients {
    async fn plain_get(&self, i: usize) -> Result<String, Error> {
        let (key, node) = &self.keys[i];
        Ok(redis::cmd("GET").arg(key).query_async(&mut self.plain[*node].clone()).await?)
    }

    async fn plain_set(&self, i: usize) -> Result<(), Error> {
        let (key, node) = &self.keys[i];
        let mut set = redis::cmd("SET");
        set.arg(key).arg(&self.value).arg("PX").arg(3_600_000);
        Ok(set.query_async(&mut self.plain[*node].clone()).await?)
    }
}

/// Measures `operation`, each time side by side with what it is compared to, and prints the ratio.
fn compared<F, G>(
    criterion: &mut Criterion,
    setup: &Setup,
    name: &str,
    operation: impl Operation<F>,
    plain: impl Operation<G>,
) where
    F: Future<Output = Result<(), Error>> + Send,
    G: Future<Output = Result<(), Error>> + Send,
{
    let mut group = criterion.benchmark_group(name);
    for in_flight in IN_FLIGHT {
        group.throughput(Throughput::Elements((in_flight * ROUND) as u64));
        let mut ratios = Vec::new();
        let mut pair = |rounds| {
            let (mine, theirs);
            if ratios.len() % 2 == 0 {
                mine = setup.time(in_flight, rounds, operation);
                theirs = setup.time(in_flight, rounds, plain);
            } else {
                theirs = setup.time(in_flight, rounds, plain);
                mine = setup.time(in_flight, rounds, operation);
            }
            ratios.push(theirs.as_secs_f64() / mine.as_secs_f64());
            (mine, theirs)
        };
        group.bench_function(BenchmarkId::new("sessionring", in_flight), |bencher| {
            bencher.iter_custom(|rounds| pair(rounds).0);
        });
        group.bench_function(BenchmarkId::new("plain", in_flight), |bencher| {
            bencher.iter_custom(|rounds| pair(rounds).1);
        });
        ratios.sort_unstable_by(f64::total_cmp);
        // None where a filter on the command line left this one out.
        if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
            let median = ratios[ratios.len() / 2];
            println!("{name}/{in_flight}: {median:.2} × plain (median of pairs; {least:.2} to {most:.2})\n");
        }
    }
    group.finish();
}

/// Measures `operation`, which touches `elements` sessions.
fn alone<F>(
    criterion: &mut Criterion,
    setup: &Setup,
    name: &str,
    elements: usize,
    operation: impl Operation<F>,
) where
    F: Future<Output = Result<(), Error>> + Send,
{
    let mut group = criterion.benchmark_group(name);
    for in_flight in IN_FLIGHT {
        group.throughput(Throughput::Elements((in_flight * ROUND * elements) as u64));
        group.bench_function(BenchmarkId::new("sessionring", in_flight), |bencher| {
            bencher.iter_custom(|rounds| setup.time(in_flight, rounds, operation));
        });
    }
    group.finish();
}

fn session_ops(criterion: &mut Criterion) {
    let setup = Setup::new().expect("three servers");

    compared(
        criterion,
        &setup,
        "get",
        |clients, i| async move {
            black_box(clients.sessions.get(&clients.ids[i]).await?);
            Ok(())
        },
        |clients, i| async move {
            black_box(clients.plain_get(i).await?);
            Ok(())
        },
    );
    compared(
        criterion,
        &setup,
        "set",
        |clients, i| async move { Ok(clients.sessions.set(&clients.ids[i], &clients.value).await?) },
        |clients, i| async move { clients.plain_set(i).await },
    );

    alone(criterion, &setup, "update", 1, |clients, i| async move {
        let change = |value: &mut String| value.replace_range(..1, "y");
        Ok(clients.sessions.update(&clients.ids[i], change).await?)
    });
    alone(criterion, &setup, "touch", 1, |clients, i| async move {
        Ok(clients.sessions.touch(&clients.ids[i]).await?)
    });
    alone(criterion, &setup, "create_delete", 1, |clients, _| async move {
        let id = clients.sessions.create(&clients.value).await?;
        Ok(clients.sessions.delete(&id).await?)
    });
    alone(criterion, &setup, "get_many_100", MANY, |clients, i| async move {
        let first = i.min(SESSIONS - MANY);
        for session in clients.sessions.get_many(&clients.ids[first..first + MANY]).await {
            black_box(session?);
        }
        Ok(())
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = session_ops
}
criterion_main!(benches);
