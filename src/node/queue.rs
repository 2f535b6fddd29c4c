//! What waits for a node, and how much may wait.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{Answer, Failure, Kind, Limits};
use crate::{
    error::Error,
    protocol::{Command, Outcome, Scope},
    record::Key,
    topology::Fence,
};

/// One operation on its way to a node, under the topology that routed it there.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) key: Key,
    pub(crate) command: Command,
    /// What the node may take for a record. What it writes is of the fence's epoch.
    pub(crate) scope: Scope,
    pub(crate) fence: Fence,
    /// When whoever asked stops waiting.
    pub(crate) deadline: Instant,
}

impl Request {
    /// Bytes that the request holds while it waits, beyond a fixed size.
    pub(crate) fn weight(&self) -> usize {
        match &self.command {
            Command::Write(write) => write.payload.len(),
            Command::Install(install) => install.payload.len(),
            _ => 0,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.command {
            Command::Read => Kind::Read,
            Command::Fetch => Kind::Fetch,
            _ => Kind::Script,
        }
    }
}

pub(crate) enum Job {
    One(Waiting),
    Many(Vec<Waiting>),
    /// Finish what was queued, then end.
    Close,
}

/// The dispatcher's end of a queue.
pub(crate) struct Inbox {
    pub(crate) jobs: mpsc::UnboundedReceiver<Job>,
    /// How the first attempt to connect has ended. When this is dropped, the dispatcher has ended.
    tried: watch::Sender<Option<Result<(), Error>>>,
}

impl Inbox {
    /// An attempt to connect has ended like this. The first one counts.
    pub(crate) fn has_tried(&self, result: Result<(), Error>) {
        self.tried.send_if_modified(|tried| {
            let first = tried.is_none();
            tried.get_or_insert(result);
            first
        });
    }

    /// The inbox for these jobs, and what knows when it is gone.
    pub(crate) fn new(
        jobs: mpsc::UnboundedReceiver<Job>,
    ) -> (Inbox, watch::Receiver<Option<Result<(), Error>>>) {
        let (tried, progress) = watch::channel(None);
        (Inbox { jobs, tried }, progress)
    }
}

/// A request and who waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Request,
    reply: Option<Reply>,
}

#[derive(Debug)]
pub(crate) enum Reply {
    One(oneshot::Sender<Answer>),
    Part(Arc<Group>, usize),
}

impl Waiting {
    pub(crate) fn new(request: Request, reply: Reply) -> Waiting {
        Waiting { request, reply: Some(reply) }
    }

    /// Gives the answer, once; later ones are ignored. Whoever stopped waiting does not mind.
    pub(crate) fn answer(&mut self, answer: Answer) {
        match self.reply.take() {
            Some(Reply::One(reply)) => drop(reply.send(answer)),
            Some(Reply::Part(group, index)) => group.put(index, answer),
            None => {}
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.reply.is_none()
    }

    pub(crate) fn fail_if_past(&mut self, now: Instant, failure: &Failure) {
        if self.request.deadline <= now {
            self.answer(Err(failure.clone()));
        }
    }
}

/// Collects the answers of requests that were submitted together.
#[derive(Debug)]
pub(crate) struct Group(Mutex<Collected>);

#[derive(Debug)]
struct Collected {
    answers: Vec<Answer>,
    missing: usize,
    reply: Option<oneshot::Sender<Vec<Answer>>>,
}

impl Group {
    pub(crate) fn new(count: usize) -> (Arc<Group>, oneshot::Receiver<Vec<Answer>>) {
        let (reply, answers) = oneshot::channel();
        let collected =
            Collected { answers: vec![Ok(Outcome::Absent); count], missing: count, reply: Some(reply) };
        (Arc::new(Group(Mutex::new(collected))), answers)
    }

    /// Each index is put exactly once: [`Waiting`] gives its reply away.
    fn put(&self, index: usize, answer: Answer) {
        let mut collected = self.0.lock();
        collected.answers[index] = answer;
        collected.missing -= 1;
        if collected.missing == 0
            && let Some(reply) = collected.reply.take()
        {
            let _ = reply.send(std::mem::take(&mut collected.answers));
        }
    }
}

/// Counts what is queued and not yet sent.
#[derive(Debug, Clone)]
pub(crate) struct Load(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    most_requests: usize,
    most_bytes: usize,
}

impl Load {
    pub(crate) fn new(limits: &Limits) -> Load {
        Load(Arc::new(Counters {
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            most_requests: limits.queue_requests,
            most_bytes: limits.queue_bytes,
        }))
    }

    /// Takes room; `Err` says how many requests wait when there is none. An empty queue takes anything, so
    /// that one large group is never refused for ever.
    pub(crate) fn add(&self, requests: usize, bytes: usize) -> Result<(), usize> {
        let counters = &*self.0;
        let waiting = counters.requests.fetch_add(requests, Relaxed);
        let queued = counters.bytes.fetch_add(bytes, Relaxed);
        let fits = waiting + requests <= counters.most_requests && queued + bytes <= counters.most_bytes;
        if fits || waiting == 0 {
            return Ok(());
        }
        self.subtract(requests, bytes);
        Err(waiting)
    }

    /// Takes room for a request that had it before.
    pub(crate) fn put_back(&self, bytes: usize) {
        self.0.requests.fetch_add(1, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn subtract(&self, requests: usize, bytes: usize) {
        self.0.requests.fetch_sub(requests, Relaxed);
        self.0.bytes.fetch_sub(bytes, Relaxed);
    }
}
