//! Starts everything, and ends it.

use std::{net::Ipv4Addr, sync::Arc};

use clap::Args;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{Result, app, applications::Applications, front, nodes::Nodes, operator, visitors};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Servers that hold sessions
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    nodes: u8,
    /// Processes of the shop
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    apps: u8,
    /// Where the shop is found (0: any free port)
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the operator's page is found (0: any free port)
    #[arg(long, default_value_t = 8081)]
    operator_port: u16,
    /// Nodes in memory instead of servers, and all of the shop in one process
    #[arg(long)]
    memory: bool,
    /// The shop is reached over TLS, which ends before it: the cookie is for HTTPS alone
    #[arg(long)]
    secure: bool,
    /// Sessions of invented visitors, so that there is something to see
    #[arg(long, default_value_t = 2_000)]
    visitors: usize,
    /// How many sessions per second move in a resize, so that one can watch it
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

/// Until Ctrl-C, or being asked to terminate. What was started ends when it is dropped, and also if this process is killed.
pub(crate) async fn run(options: Options) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        ended = everything(options) => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn everything(options: Options) -> Result<()> {
    // Before anything is started: a port that is taken is the mistake that is made most often.
    let shop = listen(options.port).await?;
    let operator = listen(options.operator_port).await?;

    let nodes = Nodes::start(options.nodes, options.memory).await?;
    eprintln!("sessions are on {} {}", options.nodes, nodes.kind());
    let list = nodes.list();
    // Whoever connects first founds the ring; the applications find it.
    let ring = app::connect(&list).await?;
    visitors::invent(&ring, options.visitors).await?;
    let applications = Applications::start(options.apps, &list, options.secure, nodes.is_memory()).await?;
    let front = front::router(applications.addresses());
    let operators = operator::router(Arc::new(operator::Operator::new(ring, nodes, options.rate)));

    println!("shop: http://{}/", shop.local_addr()?);
    println!("operator: http://{}/", operator.local_addr()?);
    tokio::try_join!(async { axum::serve(shop, front).await }, async {
        axum::serve(operator, operators).await
    },)?;
    Ok(())
}

/// On the loopback alone: this is a demonstration, and its operator's page asks nobody who he is.
async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("port {port}: {error}; name another one (--help)").into())
}
