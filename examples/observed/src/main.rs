//! A ring that is watched from outside.
//!
//! ```text
//! cargo run --release -p observed                        log lines on stderr, what Prometheus would scrape on stdout
//! cargo run --release -p observed -- 127.0.0.1:9187      the same, and then it serves http://127.0.0.1:9187/metrics
//! RUST_LOG=sessionring=debug cargo run …                 a line per request
//! ```
//!
//! The nodes are inside this process, so nothing has to be installed. With servers only the addresses differ.

mod workload;

use std::{env, error::Error, io, net::SocketAddr};

use metrics_exporter_prometheus::{ExporterFuture, Matcher, PrometheusBuilder, PrometheusHandle};
use sessionring::SessionRing;
use tracing_subscriber::EnvFilter;

/// Where the buckets of latencies end, in seconds: a node in this process answers in microseconds, one far away in tens of
/// milliseconds, and a request has a second.
const LATENCIES: [f64; 9] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 1.0];
const BATCHES: [f64; 6] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen: Option<SocketAddr> = env::args().nth(1).map(|address| address.parse()).transpose()?;
    log_to_stderr();
    // Before the ring connects: it registers its handles with the recorder that it finds.
    let metrics = record(listen)?;

    let ring = SessionRing::builder()
        .name("shop")
        .node("a", "memory:")
        .node("b", "memory:")
        .node("c", "memory:")
        .connect()
        .await?;
    let heard = tokio::spawn(workload::listen(ring.session_events()));
    workload::run(&ring).await?;

    metrics.run_upkeep();
    println!("{}", metrics.render());
    if let Some(address) = listen {
        eprintln!("observed: http://{address}/metrics until Ctrl-C");
        tokio::signal::ctrl_c().await?;
    }
    ring.close().await;
    // The events end with the ring.
    eprintln!("observed: {}", heard.await?);
    Ok(())
}

/// Everything from `info` up, or what RUST_LOG says.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

/// Makes the exporter the recorder of this process.
fn record(listen: Option<SocketAddr>) -> Result<PrometheusHandle, Box<dyn Error>> {
    let mut builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("sessionring_request_seconds".into()), &LATENCIES)?
        .set_buckets_for_metric(Matcher::Full("sessionring_batch_requests".into()), &BATCHES)?;
    let Some(address) = listen else { return Ok(builder.install_recorder()?) };
    builder = builder.with_http_listener(address);
    let (recorder, exporter) = builder.build()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    tokio::spawn(serve(exporter));
    Ok(handle)
}

async fn serve(exporter: ExporterFuture) {
    if let Err(error) = exporter.await {
        eprintln!("observed: nobody can scrape: {error:?}");
    }
}
