//! sessionring, start to finish: 100,000 log-ins on three Redis servers; then a fourth one joins and the first one leaves,
//! while the sessions are used.
//!
//! ```sh
//! make demo                                              # four servers of its own, gone afterwards
//! SESSIONS=5000 make demo                                # fewer log-ins
//! NODES="redis://10.0.0.1 redis://10.0.0.2" make demo    # your own servers; it removes only what it put there
//! ```
//!
//! Of four or more servers in `NODES` the last one joins; with fewer, none does.
//!
//! Where no server program is installed, and `NODES` is not set, the nodes live in this process (`memory:`).
//!
//! Read this file first: `story` is the demo. Then, in the order of the story:
//! - `login`: what a session holds
//! - `servers`: where the nodes come from, looking into them, cleaning up
//! - `crowd`: logging many in, reading them back, logging them out
//! - `answers`: what each operation answers
//! - `growth`: what one more node would move
//! - `traffic`: two applications that go on using their sessions, and check every answer
//! - `change`: a node joins and a node leaves meanwhile
//! - `report`, `progress`: tables and progress bars, nothing about sessions

mod answers;
mod change;
mod crowd;
mod growth;
mod login;
mod progress;
mod report;
mod servers;
mod traffic;

use std::process::ExitCode;

use sessionring::SessionRing;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    login::Login,
    progress::Progress,
    report::{Count, Placed, line, say, title},
    servers::Servers,
    traffic::Session,
};

/// The demo does not tell errors apart, it shows them: any error will do.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What was counted, for the last line.
struct Counted {
    sessions: usize,
    founded: usize,
    joined: usize,
    left: usize,
    read_back: usize,
    moved: usize,
    lost: usize,
    resurrected: usize,
    /// Operations that failed, or whose answer was wrong.
    failed: usize,
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
    let Counted { sessions, founded, joined, left, read_back, moved, lost, resurrected, failed } = counted;
    line(format_args!(
        "\ndemo: sessions={sessions} nodes={founded}+{joined}-{left} read_back={read_back} moved={moved} lost={lost} \
         resurrected={resurrected}"
    ))?;
    Ok(if lost + resurrected + failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The story between its beginning and its end: whatever happens in it, the nodes are left as they were found.
async fn demo() -> Result<Counted> {
    let wanted = wanted_sessions()?;
    let interrupted = interrupted()?;
    let mut servers = Servers::from_environment()?;
    line(servers.title())?;
    say(servers.list())?;

    // Two handles that know nothing of each other, as in two processes.
    let connected = async { Ok([connect(&servers).await?, connect(&servers).await?]) };
    let [ring, other] = match connected.await {
        Ok(rings) => rings,
        Err::<_, sessionring::Error>(error) => {
            // A node that was reached may hold its name already; one that was not holds nothing of ours.
            let _ = servers.clean_up().await;
            return Err(error.into());
        }
    };
    let told = tokio::select! {
        told = story(&mut servers, &ring, &other, wanted) => told,
        () = interrupted => Err("interrupted".into()),
    };
    // Waits for what is still under way, so that nothing arrives after the cleaning.
    ring.close().await;
    other.close().await;
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

async fn story(
    servers: &mut Servers,
    ring: &SessionRing,
    other: &SessionRing,
    wanted: usize,
) -> Result<Counted> {
    // A typed view of the ring, cheap to clone. Sessions of another namespace would not see these.
    let lifetime = login::lifetime()?;
    let [logins, theirs] =
        [ring, other].map(|ring| ring.sessions::<Login>(login::NAMESPACE).lifetime(lifetime));

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
    let placed = Placed::count(servers, ring, &ids, &read_back.same, &servers.held().await?);
    say(placed.table(servers, Some(&memory)))?;
    say(placed.verdict(ring))?;

    title("What the operations answer")?;
    let answers = answers::ask(&logins).await?;
    say(answers.table())?;
    say(answers.errors())?;

    let grown = growth::Growth::by_one_node(ring, servers.next_name(), &ids)?;
    title(grown.title())?;
    say(grown.table())?;
    say(grown.verdict())?;

    let founded = servers.nodes().len();
    // What was not read back is counted already.
    let sessions = ids.iter().enumerate().zip(&read_back.same).filter(|(_, same)| **same);
    let sessions = sessions.map(|((user, id), _)| Session::new(id.clone(), user)).collect();
    let applications = [logins.clone(), theirs];
    let changed = change::change(servers, ring, other, applications, sessions).await?;

    title("Cleaning up")?;
    let progress = Progress::new("logged out", changed.ids.len());
    let still_there = crowd::log_out(&logins, &changed.ids, &progress).await?;
    say(progress.done())?;
    say(format!("sessions that still answer after their log-out: {}", Count(still_there)))?;

    Ok(Counted {
        sessions: ids.len(),
        founded,
        joined: changed.joined,
        left: changed.left,
        read_back: changed.read_back,
        moved: changed.moved,
        lost: ids.len() - read_back.good() + changed.lost,
        resurrected: changed.resurrected + still_there,
        failed: changed.failed,
    })
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
