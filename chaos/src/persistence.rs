//! What a server still knows when it has died, by how it writes down what it knows.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use sessionring::{Builder, Returning, SessionRing};
use sessionring_testkit::RedisServer;

use crate::{
    cluster::{Result, text},
    history::{Nanos, now},
    ledger::{Load, id_at, runtime},
    linearizability::Policy,
};

/// The node whose server dies.
const NODE: &str = "a";
/// Work before the server dies.
const WORK: Duration = Duration::from_millis(2500);
/// What the disk of a machine that dies may be behind with `everysec`.
const BEHIND: Duration = Duration::from_secs(1);

/// How a server dies, and what it has written down by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Case {
    /// Nothing is written down.
    Nothing,
    /// A snapshot about every second.
    Snapshots,
    /// `appendfsync everysec`, and the process dies.
    EverySecond,
    /// The same, and the machine dies: what the disk did not have for a second is gone.
    EverySecondMachine,
    /// `appendfsync always`.
    Always,
    /// Somebody puts back a backup of two seconds before.
    Backup,
}

impl Case {
    const ALL: [Case; 6] = [
        Case::Nothing,
        Case::Snapshots,
        Case::EverySecond,
        Case::EverySecondMachine,
        Case::Always,
        Case::Backup,
    ];

    fn name(self) -> &'static str {
        match self {
            Case::Nothing => "no persistence, SIGKILL",
            Case::Snapshots => "RDB (save 1 1), SIGKILL",
            Case::EverySecond => "AOF everysec, SIGKILL",
            Case::EverySecondMachine => "AOF everysec, last second not on disk",
            Case::Always => "AOF always, SIGKILL",
            Case::Backup => "backup of 2 s before put back",
        }
    }

    fn server(self) -> Result<RedisServer> {
        let builder = RedisServer::builder();
        let aof = |builder: sessionring_testkit::RedisServerBuilder, fsync| {
            builder.config("appendonly", "yes").config("appendfsync", fsync)
        };
        let builder = match self {
            Case::Nothing | Case::Backup => builder,
            Case::Snapshots => builder.config("save", "1 1"),
            Case::EverySecond | Case::EverySecondMachine => aof(builder, "everysec"),
            Case::Always => aof(builder, "always"),
        };
        builder.start().map_err(text)
    }

    /// What the operator of a strict ring says of a server that died so.
    fn returning(self) -> Returning {
        if self == Case::Always { Returning::Keep } else { Returning::Discard }
    }
}

/// What came of one case.
#[derive(Debug)]
#[non_exhaustive]
pub struct Row {
    case: Case,
    policy: Policy,
    deaths: usize,
    acknowledged: usize,
    lost: usize,
    undone: usize,
    /// The longest time before a death in which something was acknowledged that is gone, in milliseconds.
    window: f64,
    /// Requests that were answered in a strict ring before an operator said something.
    early: usize,
}

impl Row {
    /// Whether it kept what is promised for it.
    pub fn is_clean(&self) -> bool {
        let kept = self.case != Case::Always || self.lost + self.undone == 0;
        let final_ = self.policy != Policy::Strict || self.undone + self.early == 0;
        kept && final_
    }
}

/// All cases, under both policies; the server dies so often in each.
///
/// # Errors
/// The servers do not do what they should.
pub fn run(deaths: usize, rate: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for policy in [Policy::Trust, Policy::Strict] {
        for case in Case::ALL {
            let mut row =
                Row { case, policy, deaths, acknowledged: 0, lost: 0, undone: 0, window: 0.0, early: 0 };
            for _ in 0..deaths {
                one(&mut row, rate)?;
            }
            println!("{row}");
            rows.push(row);
        }
    }
    Ok(rows)
}

fn one(row: &mut Row, rate: u32) -> Result<()> {
    let (server, other) = (row.case.server()?, RedisServer::start().map_err(text)?);
    let builder = || {
        let builder = SessionRing::builder().name("persistence").request_timeout(Duration::from_secs(1));
        let builder = builder.node(NODE, server.address()).node("b", other.address());
        if row.policy == Policy::Strict { builder.strict() } else { builder }
    };
    let load = Load::begin(builder(), NODE, rate);
    let died = die(row.case, &server)?;
    let early = match row.policy {
        Policy::Strict => operate(builder(), row.case.returning())?,
        Policy::Trust => 0,
    };
    // It is used again, by the application that was there all the time.
    let begin = Instant::now();
    while load.ledger().first_after(died).is_none() {
        if begin.elapsed() > Duration::from_secs(30) {
            return Err(format!("{}: it is not used again", row.case.name()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let ledger = load.end()?;
    let (before, after) = ledger.judge(builder())?.around(died);
    if let Some(error) = ledger.unexpected() {
        return Err(error);
    }
    if after.lost.len() + after.undone.len() > 0 {
        return Err(format!("{}: what was acknowledged after the return is gone", row.case.name()));
    }
    row.acknowledged += ledger.counts().1;
    row.lost += before.lost.len();
    row.undone += before.undone.len();
    row.window = row.window.max(before.reaches_back(died));
    row.early += early;
    Ok(())
}

/// The server dies while it is used, and comes back with what it has written down.
fn die(case: Case, server: &RedisServer) -> Result<Nanos> {
    match case {
        Case::Backup => {
            thread::sleep(WORK - Duration::from_secs(2));
            let backup = server.dump().map_err(text)?;
            thread::sleep(Duration::from_secs(2));
            let died = now();
            server.restart_from(&backup).map_err(text)?;
            Ok(died)
        }
        Case::EverySecondMachine => {
            let done = AtomicBool::new(false);
            let sizes = thread::scope(|scope| {
                let sampling = scope.spawn(|| sample(server.dir(), &done));
                thread::sleep(WORK);
                done.store(true, Relaxed);
                sampling.join().map_err(|_| "the sampling has panicked".to_owned())
            })??;
            let died = now();
            server.kill().map_err(text)?;
            let behind = died.saturating_sub(BEHIND.as_nanos() as Nanos);
            let size = sizes.iter().rev().find(|(at, ..)| *at <= behind);
            let (_, file, size) = size.ok_or("the file was not looked at for long enough")?;
            let file = fs::OpenOptions::new().write(true).open(file).map_err(text)?;
            file.set_len(*size).map_err(text)?;
            server.restart().map_err(text)?;
            Ok(died)
        }
        _ => {
            thread::sleep(WORK);
            let died = now();
            server.kill().map_err(text)?;
            server.restart().map_err(text)?;
            Ok(died)
        }
    }
}

/// How large the append-only file was, and when.
fn sample(folder: &Path, done: &AtomicBool) -> Result<Vec<(Nanos, PathBuf, u64)>> {
    let mut sizes = Vec::new();
    while !done.load(Relaxed) {
        let (at, file) = (now(), append_only_file(folder)?);
        let size = fs::metadata(&file).map_err(text)?.len();
        sizes.push((at, file, size));
        thread::sleep(Duration::from_millis(5));
    }
    Ok(sizes)
}

/// The file that grows: of several in a folder in Redis 7, one in Redis 6.
fn append_only_file(folder: &Path) -> Result<PathBuf> {
    let several = folder.join("appendonlydir");
    if !several.is_dir() {
        return Ok(folder.join("appendonly.aof"));
    }
    let files = fs::read_dir(several).map_err(text)?.filter_map(|entry| Some(entry.ok()?.path()));
    let growing = files.filter(|file| file.to_string_lossy().ends_with(".incr.aof")).max();
    growing.ok_or_else(|| "there is no append-only file".into())
}

/// The operator of a strict ring: sees that nobody is answered, and then says what is to become of the server. How many
/// were answered before.
fn operate(builder: Builder, returning: Returning) -> Result<usize> {
    runtime()?.block_on(async {
        let ring = builder.connect().await.map_err(text)?;
        let sessions = ring.sessions::<u64>("ledger");
        let mut answered = 0;
        for _ in 0..50 {
            let id = id_at(&ring, NODE);
            answered += usize::from(sessions.get(&id).await.is_ok());
            answered += usize::from(sessions.create_with_id(&id, &1).await.is_ok());
        }
        ring.readmit(NODE, returning).await.map_err(text)?;
        ring.close().await;
        Ok(answered)
    })
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { case, policy, deaths, acknowledged, lost, undone, window, early } = self;
        write!(
            f,
            "| {} | {policy:?} | {deaths} | {acknowledged} | {lost} | {undone} | {window:.0} ms | {} |",
            case.name(),
            match policy {
                Policy::Strict => early.to_string(),
                Policy::Trust => "-".into(),
            }
        )
    }
}
