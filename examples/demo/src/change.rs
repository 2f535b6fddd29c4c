//! A node joins, and the first one leaves, while two applications go on using the ring.

use std::time::{Duration, Instant};

use sessionring::{Resize, SessionId, SessionRing, Sessions, ring::Ring};
use tokio::time::sleep;

use crate::{
    Result,
    login::Login,
    progress::{Live, Progress},
    report::{Count, Placed, say, title},
    servers::Servers,
    traffic::{self, Session, Traffic},
};

/// Between two steps the traffic goes on for so long.
const MEANWHILE: Duration = Duration::from_millis(300);

/// What was counted.
pub(crate) struct Changed {
    /// Everybody who ever was logged in.
    pub(crate) ids: Vec<SessionId>,
    pub(crate) joined: usize,
    pub(crate) left: usize,
    pub(crate) read_back: usize,
    /// Sessions that are at another node than before, and were found there.
    pub(crate) moved: usize,
    pub(crate) lost: usize,
    pub(crate) resurrected: usize,
    /// Operations that failed, or whose answer was wrong.
    pub(crate) failed: usize,
}

/// `here` changes the ring. `elsewhere` is told nothing, as another process would not be.
pub(crate) async fn change(
    servers: &mut Servers,
    here: &SessionRing,
    elsewhere: &SessionRing,
    applications: [Sessions<Login>; 2],
    sessions: Vec<Session>,
) -> Result<Changed> {
    let users = sessions.len();
    let mut traffic = Traffic::start(&applications, users, sessions);
    // The rings before, between and after the changes.
    let mut rings = vec![here.ring()];
    let (mut joined, mut left) = (0, 0);

    match servers.spare() {
        None => {
            title("No node joins")?;
            say("NODES names no server for it: with four addresses or more the last one joins.")?;
        }
        Some(node) => {
            title(format!("{} joins, while two applications use the ring", node.name()))?;
            let plan = here.plan().add(node.name(), node.address())?;
            say(&plan)?;
            say(plan.sample().await?)?;
            sleep(MEANWHILE).await;
            traffic.next_step();
            let resize = plan.start().await?;
            follow(resize, &traffic).await?;
            traffic.next_step();
            servers.joined();
            joined = 1;
        }
    }
    rings.push(here.ring());
    // Whoever logged in between is moved by the second change only.
    let between = 2 * joined;

    sleep(MEANWHILE).await;
    match servers.nodes() {
        [first, _, ..] => {
            title(format!("{} leaves", first.name()))?;
            let plan = here.plan().remove(first.name())?;
            say(&plan)?;
            traffic.next_step();
            let resize = plan.start().await?;
            follow(resize, &traffic).await?;
            left = 1;
            // Nobody has told it. A server should stay until everyone has heard that it is no longer needed.
            while elsewhere.epoch() < here.epoch() {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(MEANWHILE).await;
            say(format!("The other application has learnt of it by itself: epoch {}.", elsewhere.epoch()))?;
            if let Some(off) = servers.first_has_left() {
                say(off)?;
            }
        }
        _ => {
            title("No node leaves")?;
            say("It is the only one.")?;
        }
    }
    rings.push(here.ring());
    sleep(MEANWHILE).await;
    let sessions = traffic.stop().await?;
    say(traffic.done().summary())?;
    if let Some(problem) = traffic.problem() {
        say(format!("the first: {problem}"))?;
    }

    title("Every session checked")?;
    let progress = Progress::new("checked", sessions.len());
    let checked = traffic::check(&applications[0], &sessions, &progress).await;
    say(progress.done())?;
    say(checked.verdict())?;

    title("Where they are now, what is remembered of log-outs included")?;
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
    let placed = Placed::count(servers, here, &ids, &checked.good, &servers.held().await?);
    say(placed.table(servers, None))?;
    say(placed.verdict(here))?;
    let moved = sessions.iter().zip(&placed.found).filter(|(session, found)| {
        let moves = |at: usize| owner(&rings[at], session) != owner(&rings[at + 1], session);
        **found && (session.step == 0 && moves(0) || session.step <= between && moves(1))
    });
    let moved = moved.count();
    say(format!("{} of them have moved, and were found where they belong now.", Count(moved)))?;

    Ok(Changed {
        ids,
        joined,
        left,
        read_back: checked.read_back,
        moved,
        lost: checked.lost,
        resurrected: checked.resurrected,
        failed: traffic.done().failed(),
    })
}

fn owner<'a>(ring: &'a Ring, session: &Session) -> &'a str {
    ring.owner(session.id.token()).as_str()
}

/// Shows how far it is, until it is over.
async fn follow(mut resize: Resize, traffic: &Traffic) -> Result<()> {
    let (began, live) = (Instant::now(), Live::new());
    while let Some(progress) = resize.progress().await {
        live.show(format_args!("{progress} | {}", traffic.done().summary()));
    }
    resize.wait().await?;
    live.done();
    let (seconds, moved) = (began.elapsed().as_secs_f64(), resize.now().moved);
    say(format!(
        "Done in {seconds:.2} s: {} carried over, others taken along by who used them.",
        Count(moved as usize)
    ))
}
