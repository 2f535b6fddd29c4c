//! A client process: works on the sessions of the run and writes down what it asked for and what came back.
//!
//! It is told what to do in one line on its standard input; further lines are changes of membership that it shall carry
//! out. When its input ends, whoever started it is gone, and it ends too.

use std::{
    collections::BTreeMap,
    future::pending,
    io::BufRead,
    path::PathBuf,
    process::{abort, exit},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sessionring::{
    Builder, Error, ErrorKind, SessionRing, Sessions,
    internals::{Step, on_step},
};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use crate::{
    history::{Action, Answer, Nanos, Reason, Token, now},
    population::{Deed, Population},
    random::Random,
    recording::Recorder,
    resizes::Change,
};

/// Names the step of a resize at which a worker dies, and the how many-th time: `ChunkSent:3`.
pub const DIE_AT: &str = "CHAOS_DIE_AT";

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Assignment {
    /// Its number, which no other process of the run has.
    pub process: u32,
    /// Of the run.
    pub seed: u64,
    /// Whether the ring is strict.
    pub strict: bool,
    /// Name and weight of the nodes that the ring begins with.
    pub members: Vec<(String, u32)>,
    /// By name, where each node is that ever may be one: what the ring is told.
    pub addresses: BTreeMap<String, String>,
    /// By name, where this process finds it.
    pub routes: BTreeMap<String, String>,
    /// When the run began.
    pub begin: Nanos,
    /// When to stop.
    pub end: Nanos,
    /// So many things are done at a time; none by a mere operator.
    pub tasks: u64,
    /// Between two of them, on average.
    pub pause_us: u64,
    /// How long a request may take.
    pub request_timeout_ms: u64,
    /// Where to write down what happens.
    pub recording: PathBuf,
}

/// What a session holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Content {
    /// The value's name.
    pub token: Token,
    /// The value that an update replaced, or 0.
    pub replaced: Token,
    /// So that memory runs out.
    pub padding: Vec<u8>,
}

impl Content {
    fn new(token: Token, replaced: Token) -> Content {
        Content { token, replaced, padding: vec![b'.'; 100 + (token % 400) as usize] }
    }
}

/// The sessions that all clients of a run share.
pub fn sessions(ring: &SessionRing) -> Sessions<Content> {
    ring.sessions("chaos")
}

/// The ring of a run, as one of its processes reaches it.
///
/// # Errors
/// The library cannot do what was asked for.
pub fn builder(assignment: &Assignment) -> Result<Builder, String> {
    let timeout = Duration::from_millis(assignment.request_timeout_ms);
    let mut builder = SessionRing::builder()
        .name("chaos")
        .request_timeout(timeout)
        .connect_timeout(timeout)
        .probe_interval(Duration::from_secs(1));
    for (name, weight) in &assignment.members {
        let Some(address) = assignment.addresses.get(name) else {
            return Err(format!("there is no address of node {name}"));
        };
        builder = builder.weighted_node(name, address, *weight);
    }
    for (name, route) in &assignment.routes {
        builder = builder.route(name, route);
    }
    Ok(if assignment.strict { builder.strict() } else { builder })
}

/// Runs a worker to its end.
///
/// # Errors
/// What it was told makes no sense, or it cannot write.
pub fn run() -> Result<(), String> {
    if let Ok(told) = std::env::var(DIE_AT) {
        die_at(&told)?;
    }
    let mut line = String::new();
    let mut input = std::io::stdin().lock();
    input.read_line(&mut line).map_err(|error| error.to_string())?;
    drop(input);
    let assignment: Assignment = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    let recorder = Recorder::create(&assignment.recording, assignment.process);
    let recorder = Arc::new(recorder.map_err(|error| error.to_string())?);
    let (commands, changes) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = commands.send(line);
        }
        exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work(assignment, recorder, changes))
}

/// From now on this process dies at a step of the resize that it drives.
fn die_at(told: &str) -> Result<(), String> {
    static STEP: OnceLock<String> = OnceLock::new();
    static TIMES: AtomicU32 = AtomicU32::new(0);
    let (step, times) = told.split_once(':').ok_or_else(|| format!("{told:?} is no step and number"))?;
    TIMES.store(times.parse().map_err(|error| format!("{told:?}: {error}"))?, Relaxed);
    STEP.get_or_init(|| step.to_owned());
    on_step(|step: Step| {
        let here = STEP.get().is_some_and(|name| *name == format!("{step:?}"));
        if here && TIMES.fetch_sub(1, Relaxed) <= 1 {
            abort();
        }
    });
    Ok(())
}

async fn work(
    assignment: Assignment,
    recorder: Arc<Recorder>,
    mut commands: mpsc::UnboundedReceiver<String>,
) -> Result<(), String> {
    let builder = builder(&assignment)?;
    let ring = loop {
        match builder.clone().connect().await {
            Ok(ring) => break ring,
            Err(_) if assignment.tasks > 0 && now() >= assignment.end => return Ok(()),
            Err(error) => {
                if !error.is_unavailable() {
                    recorder.remark(&format!("connect: {error}"));
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (changing, addresses, said) = (ring.clone(), assignment.addresses.clone(), recorder.clone());
    tokio::spawn(async move {
        while let Some(line) = commands.recv().await {
            let address = |name: &str| addresses.get(name).cloned().unwrap_or_default();
            let outcome = match line.parse::<Change>() {
                Ok(change) => change.make(&changing, address).await,
                Err(error) => Err(error),
            };
            said.remark(&format!("change {line}: {}", outcome.err().unwrap_or_else(|| "done".into())));
        }
    });
    let mut tasks = JoinSet::new();
    for task in 0..assignment.tasks {
        let client = Client {
            sessions: sessions(&ring),
            recorder: recorder.clone(),
            population: Population::new(assignment.seed, assignment.begin),
            random: Random::fork(assignment.seed, u64::from(assignment.process) << 16 | task),
            end: assignment.end,
            pause_us: assignment.pause_us,
        };
        tasks.spawn(client.run());
    }
    if assignment.tasks == 0 {
        // Its input ends when nobody needs it any more.
        pending::<()>().await;
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// One of the things that a worker does at a time.
struct Client {
    sessions: Sessions<Content>,
    recorder: Arc<Recorder>,
    population: Population,
    random: Random,
    end: Nanos,
    pause_us: u64,
}

impl Client {
    async fn run(mut self) {
        while now() < self.end {
            let token = self.recorder.token();
            match self.population.deed(&mut self.random, now(), token) {
                Deed::One(session, action) => self.one(session, action).await,
                Deed::ReadMany(sessions) => self.read_many(sessions).await,
            }
            sleep(Duration::from_micros(self.random.below(2 * self.pause_us))).await;
        }
    }

    async fn read_many(&self, sessions: [usize; 4]) {
        let ids = sessions.map(|session| self.population.id(session));
        let begun = sessions.map(|session| self.recorder.begin(session, Action::Get));
        let found = self.sessions.get_many(&ids).await;
        for (begun, found) in begun.into_iter().zip(found) {
            let replaced = found.as_ref().ok().and_then(Option::as_ref).map(|content| content.replaced);
            let answer = found.map(|content| Answer::Found(content.map(|content| content.token)));
            self.recorder.end(begun, answer.unwrap_or_else(|error| self.explain(&error)), replaced);
        }
    }

    async fn one(&self, session: usize, action: Action) {
        let id = self.population.id(session);
        let begun = self.recorder.begin(session, action);
        let mut replaced = None;
        let answer = match action {
            Action::Create(token) => {
                self.sessions.create_with_id(&id, &Content::new(token, 0)).await.map(|()| Answer::Done)
            }
            Action::Set(token) => {
                self.sessions.set(&id, &Content::new(token, 0)).await.map(|()| Answer::Done)
            }
            Action::Touch => self.sessions.touch(&id).await.map(|()| Answer::Done),
            Action::Delete => self.sessions.delete(&id).await.map(|()| Answer::Done),
            Action::Exists => self.sessions.exists(&id).await.map(Answer::There),
            Action::Get => self.sessions.get(&id).await.map(|found| {
                replaced = found.as_ref().map(|content| content.replaced);
                Answer::Found(found.map(|content| content.token))
            }),
            Action::Update(token) => {
                let change = |content: &mut Content| {
                    let before = content.token;
                    *content = Content::new(token, before);
                    before
                };
                self.sessions.update(&id, change).await.map(Answer::Updated)
            }
        };
        let answer = answer.unwrap_or_else(|error| self.explain(&error));
        self.recorder.end(begun, answer, replaced);
    }

    fn explain(&self, error: &Error) -> Answer {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Overloaded => Answer::Refused(Reason::Unavailable),
            ErrorKind::Full => Answer::Refused(Reason::Full),
            ErrorKind::Conflict => Answer::Refused(Reason::Conflict),
            ErrorKind::Deleted => Answer::Deleted,
            ErrorKind::NotFound => Answer::NotFound,
            ErrorKind::Exists => Answer::AlreadyThere,
            ErrorKind::Indeterminate => Answer::Indeterminate,
            _ => {
                self.recorder.remark(&format!("{error:?}"));
                Answer::Refused(Reason::Unexpected)
            }
        }
    }
}
