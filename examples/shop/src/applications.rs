//! The processes of the shop.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    task::AbortHandle,
};

use crate::{
    Result,
    app::{self, NamedNode, Options},
};

/// They end when this is dropped.
pub(crate) struct Applications(Vec<Application>);

struct Application {
    address: SocketAddr,
    _runs: Runs,
}

enum Runs {
    /// It ends when the pipe to its standard input closes, so also when this process is killed.
    Process(#[expect(dead_code, reason = "kept for what its drop does")] Child),
    /// Nodes in memory cannot be shared between processes.
    Task(AbortHandle),
}

impl Drop for Runs {
    fn drop(&mut self) {
        if let Runs::Task(task) = self {
            task.abort();
        }
    }
}

impl Applications {
    /// Starts so many, and waits until each of them answers.
    pub(crate) async fn start(
        count: u8,
        nodes: &[NamedNode],
        secure: bool,
        in_this_process: bool,
    ) -> Result<Applications> {
        let mut applications = Vec::new();
        for number in 1..=count {
            let options = Options { number, nodes: nodes.to_vec(), secure };
            applications.push(if in_this_process { task(options).await? } else { process(options).await? });
        }
        Ok(Applications(applications))
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|application| application.address).collect()
    }
}

async fn process(options: Options) -> Result<Application> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["application", "--number", &options.number.to_string()]);
    for node in &options.nodes {
        command.args(["--node", &node.to_string()]);
    }
    if options.secure {
        command.arg("--secure");
    }
    // Ctrl-C is for the shop as a whole, which then closes the pipe.
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()?;
    let said = child.stdout.take().ok_or("the application has no standard output")?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).await?;
    let port = line.trim().parse().map_err(|_| format!("application {} did not start", options.number))?;
    Ok(Application { address: (Ipv4Addr::LOCALHOST, port).into(), _runs: Runs::Process(child) })
}

async fn task(options: Options) -> Result<Application> {
    let (listener, address) = listen().await?;
    let router = app::router(&options).await?;
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(Application { address, _runs: Runs::Task(serving.abort_handle()) })
}

/// What a process of the shop does: says where it listens, and serves until the one that started it is gone.
pub(crate) async fn be_one(options: Options) -> Result<()> {
    let (listener, address) = listen().await?;
    let router = app::router(&options).await?;
    println!("{}", address.port());
    let mut nothing = Vec::new();
    let mut parent = tokio::io::stdin();
    tokio::select! {
        served = axum::serve(listener, router) => Ok(served?),
        _ = parent.read_to_end(&mut nothing) => Ok(()),
    }
}

async fn listen() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
