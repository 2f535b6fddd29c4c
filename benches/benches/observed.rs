//! What it costs to be watched: reads of an in-memory node, where nothing hides it. Run it without features, with `metrics`,
//! with `tracing`, and with RECORD=1 for a recorder that keeps everything; the names of the benches say which.

use std::{env, hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sessionring::{SessionId, SessionRing, Sessions};
use tokio::{runtime::Runtime, task::JoinSet};

/// Reads in one round of the crowd.
const CROWD: u64 = 256;

fn variant() -> String {
    let records = env::var_os("RECORD").is_some();
    #[cfg(feature = "metrics")]
    if records {
        metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().expect("the only recorder");
    }
    let mut parts = Vec::new();
    parts.extend(cfg!(feature = "metrics").then_some("metrics"));
    parts.extend((cfg!(feature = "metrics") && records).then_some("recorder"));
    parts.extend(cfg!(feature = "tracing").then_some("tracing"));
    if parts.is_empty() { "off".into() } else { parts.join("+") }
}

async fn alone(sessions: &Sessions<u64>, id: &SessionId) {
    black_box(sessions.get(id).await).expect("an answer");
}

/// So many tasks, each of which reads once.
async fn crowd(sessions: &Sessions<u64>, id: &SessionId) {
    let mut tasks = JoinSet::new();
    for _ in 0..CROWD {
        let (sessions, id) = (sessions.clone(), id.clone());
        tasks.spawn(async move { alone(&sessions, &id).await });
    }
    while tasks.join_next().await.is_some() {}
}

fn reads(criterion: &mut Criterion) {
    let variant = variant();
    let runtime = Runtime::new().expect("a runtime");
    let (sessions, id) = runtime.block_on(async {
        let ring = SessionRing::builder().node("a", "memory:").connect().await.expect("a ring");
        let sessions = ring.sessions::<u64>("bench");
        let id = sessions.create(&7).await.expect("a session");
        (sessions, id)
    });
    let mut group = criterion.benchmark_group("observed");
    group.measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("get, 1 in flight, {variant}"), |bencher| {
        bencher.iter(|| runtime.block_on(alone(&sessions, &id)));
    });
    group.throughput(Throughput::Elements(CROWD));
    group.bench_function(format!("get, {CROWD} in flight, {variant}"), |bencher| {
        bencher.iter(|| runtime.block_on(crowd(&sessions, &id)));
    });
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
