//! sessionring, start to finish: 100,000 log-ins on three Redis servers.
//!
//! ```sh
//! make demo                                              # three servers of its own, gone afterwards
//! SESSIONS=5000 make demo                                # fewer log-ins
//! NODES="redis://10.0.0.1 redis://10.0.0.2" make demo    # your own servers; it removes only what it put there
//! ```
//!
//! Where no server program is installed, and `NODES` is not set, the nodes live in this process (`memory:`).
//!
//! Read this file first: `story` is the demo. Then, in the order of the story:
//! - `login`: what a session holds
//! - `servers`: where the nodes come from, looking into them, cleaning up
//! - `crowd`: logging many in, reading them back, logging them out
//! - `answers`: what each operation answers
//! - `growth`: what one more node would move
//! - `report`, `progress`: tables and progress bars, nothing about sessions

mod answers;
mod crowd;
mod growth;
mod login;
mod progress;
mod report;
mod servers;

use std::process::ExitCode;

use sessionring::SessionRing;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    login::Login,
    progress::Progress,
    report::{Count, Placed, line, say, title},
    servers::Servers,
};

/// The demo does not tell errors apart, it shows them: any error will do.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What was counted, for the last line.
struct Counted {
    sessions: usize,
    nodes: usize,
    read_back: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await.and_then(last_line) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn last_line(counted: Counted) -> Result<ExitCode> {
    let Counted { sessions, nodes, read_back } = counted;
    let lost = sessions - read_back;
    line(format_args!("\ndemo: sessions={sessions} nodes={nodes} read_back={read_back} lost={lost}"))?;
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The story between its beginning and its end: whatever happens in it, the nodes are left as they were found.
async fn demo() -> Result<Counted> {
    let wanted = wanted_sessions()?;
    let interrupted = interrupted()?;
    let servers = Servers::from_environment()?;
    line(servers.title())?;
    say(servers.list())?;

    let ring = match connect(&servers).await {
        Ok(ring) => ring,
        Err(error) => {
            // A node that was reached may hold its name already; one that was not holds nothing of ours.
            let _ = servers.clean_up().await;
            return Err(error.into());
        }
    };
    let told = tokio::select! {
        told = story(&servers, &ring, wanted) => told,
        () = interrupted => Err("interrupted".into()),
    };
    // Waits for what is still under way, so that nothing arrives after the cleaning.
    ring.close().await;
    match (told, servers.clean_up().await) {
        (Ok(counted), Ok(cleaned)) => say(cleaned).map(|()| counted),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(error), Err(left)) => Err(format!("{error}; and then {left}").into()),
    }
}

/// One ring of all nodes. The **name** of a node is what places sessions; its address may change.
async fn connect(servers: &Servers) -> sessionring::Result<SessionRing> {
    let mut builder = SessionRing::builder().name(servers.ring_name());
    for node in servers.nodes() {
        builder = builder.node(node.name(), node.address());
    }
    builder.connect().await
}

async fn story(servers: &Servers, ring: &SessionRing, wanted: usize) -> Result<Counted> {
    // A typed view of the ring, cheap to clone. Sessions of another namespace would not see these.
    let logins = ring.sessions::<Login>(login::NAMESPACE).lifetime(login::lifetime()?);

    title(format!("{} log-ins, each with a shopping cart", Count(wanted)))?;
    let memory_before = servers.used_memory().await?;
    let progress = Progress::new("logged in", wanted);
    let ids = crowd::log_in(&logins, wanted, &progress).await?;
    say(progress.done())?;
    let memory = servers.used_memory().await?.into_iter().zip(memory_before);
    let memory: Vec<_> = memory.map(|(after, before)| after?.checked_sub(before?)).collect();

    title("Every session read back, and compared with what was written")?;
    let progress = Progress::new("read back", ids.len());
    let read_back = crowd::read_back(&logins, &ids, &progress).await;
    say(progress.done())?;
    say(read_back.verdict())?;

    title("Where they are")?;
    let placed = Placed::count(servers, ring, &ids, &read_back, &servers.held().await?);
    say(placed.table(servers, &memory))?;
    say(placed.verdict(ring))?;

    title("What the operations answer")?;
    let answers = answers::ask(&logins).await?;
    say(answers.table())?;
    say(answers.errors())?;

    let grown = growth::Growth::by_one_node(ring, servers.next_name(), &ids)?;
    title(grown.title())?;
    say(grown.table())?;
    say(grown.verdict())?;

    title("Cleaning up")?;
    let progress = Progress::new("logged out", ids.len());
    let still_there = crowd::log_out(&logins, &ids, &progress).await?;
    say(progress.done())?;
    say(format!("sessions that still answer after their log-out: {}", Count(still_there)))?;

    Ok(Counted { sessions: ids.len(), nodes: ring.ring().members().len(), read_back: read_back.good() })
}

fn wanted_sessions() -> Result<usize> {
    match std::env::var("SESSIONS") {
        Err(_) => Ok(100_000),
        Ok(text) => match text.parse() {
            Ok(number @ 1..=10_000_000) => Ok(number),
            _ => Err(format!("SESSIONS={text}: a number from 1 to 10000000 is needed").into()),
        },
    }
}

/// Waits for Ctrl-C, or for being asked to terminate; from this call on, neither ends the process by itself.
/// Servers of the demo's own would end anyway (each has a watchdog); this is for what stands on yours.
fn interrupted() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
