//! What one node was asked for at an even pace, what it acknowledged, and what it still knows of that afterwards.
//!
//! New sessions all the time; every second one is logged out a little later. So it can be said of each whether it ought to be
//! there.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use sessionring::{Builder, SessionId, SessionRing};
use tokio::{
    runtime::Runtime,
    time::{interval, sleep},
};

use crate::{
    cluster::{Result, lock, text},
    history::{Nanos, now},
};

/// Until a session is logged out.
const LIFE: Duration = Duration::from_millis(150);
/// Sessions that are looked at together.
const CHUNK: usize = 100;

/// From the question to the acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) asked: Nanos,
    pub(crate) acknowledged: Nanos,
}

struct Entry {
    id: SessionId,
    created: Span,
    /// `Some(None)`: it was asked for, and nobody knows.
    logged_out: Option<Option<Span>>,
}

/// What a node has acknowledged.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<Vec<Entry>>,
    asked: AtomicUsize,
    answered: AtomicUsize,
    /// The last answer that is neither an acknowledgement nor one of a node that is away.
    unexpected: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// What is no longer as it was acknowledged.
#[derive(Debug, Default, Clone)]
pub(crate) struct Harm {
    /// Sessions that are gone, though nobody has logged them out.
    pub(crate) lost: Vec<Span>,
    /// Log-outs that were undone.
    pub(crate) undone: Vec<Span>,
}

/// Work on one node of a ring, in a thread of its own.
pub(crate) struct Load {
    ledger: Arc<Ledger>,
    thread: JoinHandle<Result<()>>,
}

impl Load {
    /// So many new sessions per second.
    pub(crate) fn begin(builder: Builder, node: &'static str, rate: u32) -> Load {
        let ledger = Arc::new(Ledger::default());
        let working = ledger.clone();
        let thread = thread::spawn(move || {
            runtime()?.block_on(async {
                let ring = builder.connect().await.map_err(text)?;
                let mut pace = interval(Duration::from_secs(1) / rate);
                while !working.stop.load(Relaxed) {
                    pace.tick().await;
                    tokio::spawn(live(ring.clone(), working.clone(), id_at(&ring, node)));
                }
                // What is under way has its deadline.
                sleep(LIFE + Duration::from_millis(1500)).await;
                ring.close().await;
                Ok(())
            })
        });
        Load { ledger, thread }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// No more sessions; returns when all is answered.
    pub(crate) fn end(self) -> Result<Arc<Ledger>> {
        self.ledger.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| "the load has panicked".to_owned())??;
        Ok(self.ledger)
    }
}

/// The life of one session.
async fn live(ring: SessionRing, ledger: Arc<Ledger>, id: SessionId) {
    let sessions = ring.sessions::<u64>("ledger");
    let create = async { sessions.create_with_id(&id, &1).await };
    let Some(created) = ledger.ask(create).await else { return };
    let number = {
        let mut entries = lock(&ledger.entries);
        entries.push(Entry { id: id.clone(), created, logged_out: None });
        entries.len() - 1
    };
    if number.is_multiple_of(2) {
        sleep(LIFE).await;
        lock(&ledger.entries)[number].logged_out = Some(None);
        let logged_out = ledger.ask(async { sessions.delete(&id).await }).await;
        lock(&ledger.entries)[number].logged_out = Some(logged_out);
    }
}

impl Ledger {
    async fn ask(&self, question: impl Future<Output = Result<(), sessionring::Error>>) -> Option<Span> {
        self.asked.fetch_add(1, Relaxed);
        let asked = now();
        match question.await {
            Ok(()) => {
                self.answered.fetch_add(1, Relaxed);
                Some(Span { asked, acknowledged: now() })
            }
            Err(error) => {
                if !error.is_unavailable() && !error.is_indeterminate() {
                    *lock(&self.unexpected) = Some(error.to_string());
                }
                None
            }
        }
    }

    /// How much was asked for, and how much of that was acknowledged.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.asked.load(Relaxed), self.answered.load(Relaxed))
    }

    /// An answer that nothing explains.
    pub(crate) fn unexpected(&self) -> Option<String> {
        lock(&self.unexpected).clone()
    }

    /// The first write that was asked for after this and acknowledged.
    pub(crate) fn first_after(&self, at: Nanos) -> Option<Span> {
        let entries = lock(&self.entries);
        let spans = entries.iter().map(|entry| entry.created).filter(|span| span.asked > at);
        spans.min_by_key(|span| span.acknowledged)
    }

    /// Whether any request that was asked for between these two was acknowledged.
    pub(crate) fn any_between(&self, from: Nanos, until: Nanos) -> bool {
        let entries = lock(&self.entries);
        let spans = entries.iter().flat_map(|entry| [Some(entry.created), entry.logged_out.flatten()]);
        spans.flatten().any(|span| span.asked > from && span.acknowledged < until)
    }

    /// Looks at every session with a fresh client.
    pub(crate) fn judge(&self, builder: Builder) -> Result<Harm> {
        let entries = lock(&self.entries);
        let mut harm = Harm::default();
        runtime()?.block_on(async {
            let ring = builder.connect().await.map_err(text)?;
            let sessions = ring.sessions::<u64>("ledger");
            for chunk in entries.chunks(CHUNK) {
                let ids: Vec<SessionId> = chunk.iter().map(|entry| entry.id.clone()).collect();
                for (entry, found) in chunk.iter().zip(sessions.get_many(&ids).await) {
                    match (entry.logged_out, found.map_err(text)?) {
                        (None, None) => harm.lost.push(entry.created),
                        (Some(Some(logged_out)), Some(_)) => harm.undone.push(logged_out),
                        _ => {}
                    }
                }
            }
            ring.close().await;
            Ok(harm)
        })
    }
}

impl Harm {
    /// What was acknowledged before this moment, and what was asked for after it. In between is neither.
    pub(crate) fn around(&self, at: Nanos) -> (Harm, Harm) {
        let select = |keep: &dyn Fn(&Span) -> bool| Harm {
            lost: self.lost.iter().copied().filter(|span| keep(span)).collect(),
            undone: self.undone.iter().copied().filter(|span| keep(span)).collect(),
        };
        (select(&|span| span.acknowledged <= at), select(&|span| span.asked > at))
    }

    /// How long before this moment the first of it was acknowledged, in milliseconds.
    pub(crate) fn reaches_back(&self, at: Nanos) -> f64 {
        let first = self.lost.iter().chain(&self.undone).map(|span| span.acknowledged).min();
        first.map_or(0.0, |first| at.saturating_sub(first) as f64 / 1e6)
    }
}

/// A fresh id that this node owns.
pub(crate) fn id_at(ring: &SessionRing, node: &str) -> SessionId {
    loop {
        // Without randomness nothing goes on.
        if let Ok(id) = SessionId::generate()
            && ring.owner(&id).as_str() == node
        {
            return id;
        }
    }
}

pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)
}
