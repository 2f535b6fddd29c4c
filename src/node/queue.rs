//! What waits for a node, and how much may wait.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{Answer, Condition, Failure, KINDS, Kind, Limits};
use crate::{
    error::Error,
    protocol::{Command, Outcome, Scope},
    record::Key,
    topology::Fence,
};

/// A queue that was emptied has room for so many at most.
const ROOM: usize = 1024;

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
        self.command.payload().len()
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.command {
            Command::Read => Kind::Read,
            Command::Visit => Kind::Visit,
            Command::Fetch => Kind::Fetch,
            _ => Kind::Script,
        }
    }
}

/// What there is for each [`Kind`] of requests.
#[derive(Debug, Default)]
pub(super) struct Lanes<T>([T; KINDS]);

impl<T> Lanes<T> {
    pub(super) fn of(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

/// Between those who submit and the dispatcher.
///
/// Whoever submits leaves the request here and is done. The dispatcher is woken only for what it can do something about at
/// once; while a flight is under way the queue just grows, and all of it is there when the next one departs.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    most_requests: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct State {
    arrived: Lanes<VecDeque<Waiting>>,
    /// No deadline in `arrived` is earlier.
    earliest: Option<Instant>,
    /// What was submitted and not yet sent or failed, the dispatcher's part included.
    requests: usize,
    bytes: usize,
    /// Whether the dispatcher, when it last went to sleep, wanted to be woken by whatever arrives.
    wanted: bool,
    /// When the dispatcher looks after deadlines in any case: what has to be failed earlier wakes it.
    alarm: Option<Instant>,
    /// Gone when it was woken, until it goes to sleep again.
    waker: Option<Waker>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is taken, and what was is finished.
    Closing,
    /// The dispatcher is gone.
    Ended,
}

/// Why something was not taken.
pub(super) enum Rejected {
    /// So many requests wait already.
    Full(usize),
    Closed,
}

impl Queue {
    pub(super) fn new(limits: &Limits) -> Queue {
        Queue {
            state: Mutex::new(State {
                arrived: Lanes::default(),
                earliest: None,
                requests: 0,
                bytes: 0,
                wanted: false,
                alarm: None,
                waker: None,
                phase: Phase::Open,
            }),
            most_requests: limits.queue_requests,
            most_bytes: limits.queue_bytes,
        }
    }

    /// Takes all of these or none. An empty queue takes anything, so that one large group is never refused for ever.
    pub(super) fn push(
        &self,
        count: usize,
        bytes: usize,
        arriving: impl IntoIterator<Item = Waiting>,
    ) -> Result<(), Rejected> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.phase != Phase::Open {
            return Err(Rejected::Closed);
        }
        let fits = state.requests + count <= self.most_requests && state.bytes + bytes <= self.most_bytes;
        if !fits && state.requests > 0 {
            return Err(Rejected::Full(state.requests));
        }
        state.requests += count;
        state.bytes += bytes;
        for (i, waiting) in arriving.into_iter().enumerate() {
            let (kind, deadline) = (waiting.request.kind(), waiting.request.deadline);
            state.earliest = state.earliest.into_iter().chain([deadline]).min();
            let arrived = state.arrived.of(kind);
            if i == 0 {
                // Nearly always all of them are of one kind.
                arrived.reserve(count);
            }
            arrived.push_back(waiting);
        }
        let waker = if state.is_called() { state.waker.take() } else { None };
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().requests
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl State {
    /// Whether the dispatcher, as it went to sleep, has something to do.
    fn is_called(&self) -> bool {
        let late = |deadline| self.alarm.is_none_or(|alarm| deadline < alarm);
        (self.wanted && self.arrived.iter().any(|arrived| !arrived.is_empty()))
            || self.earliest.is_some_and(late)
    }
}

/// The dispatcher's end of a queue.
pub(crate) struct Inbox {
    queue: Arc<Queue>,
    condition: Arc<Condition>,
    /// How the first attempt to connect has ended. When this is dropped, the dispatcher has ended.
    tried: watch::Sender<Option<Result<(), Error>>>,
}

impl Inbox {
    /// The inbox of this queue, and what knows when it is gone.
    pub(super) fn new(
        queue: Arc<Queue>,
        condition: Arc<Condition>,
    ) -> (Inbox, watch::Receiver<Option<Result<(), Error>>>) {
        let (tried, progress) = watch::channel(None);
        (Inbox { queue, condition, tried }, progress)
    }

    pub(super) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// An attempt to connect has ended like this. The first one counts.
    pub(super) fn has_tried(&self, result: Result<(), Error>) {
        self.tried.send_if_modified(|tried| {
            let first = tried.is_none();
            tried.get_or_insert(result);
            first
        });
    }

    /// Ready when there is something to [`take`](Inbox::take): anything if that is `wanted`, or with a deadline before the alarm;
    /// and when the queue was closed since `closing` was asked for.
    pub(super) fn poll(
        &self,
        context: &Context<'_>,
        wanted: bool,
        alarm: Option<Instant>,
        closing: bool,
    ) -> Poll<()> {
        let mut state = self.queue.state.lock();
        state.wanted = wanted;
        state.alarm = alarm;
        if state.is_called() || (state.phase != Phase::Open && !closing) {
            return Poll::Ready(());
        }
        let waker = context.waker();
        state.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
        Poll::Pending
    }

    /// Hands over what has arrived, with its earliest deadline; says whether no more will.
    pub(super) fn take<'a>(
        &self,
        into: impl Iterator<Item = &'a mut VecDeque<Waiting>>,
    ) -> (Option<Instant>, bool) {
        let mut state = self.queue.state.lock();
        let State { arrived, earliest, phase, .. } = &mut *state;
        for (into, arrived) in into.zip(arrived.iter_mut()) {
            if into.is_empty() {
                std::mem::swap(into, arrived);
                // A flight keeps the room that it is given. About as many come again; after a burst room for few is left.
                arrived.reserve(into.len().min(ROOM));
            } else {
                into.append(arrived);
            }
        }
        (earliest.take(), *phase != Phase::Open)
    }

    /// So much waits no longer; answers how many requests do.
    pub(super) fn subtract(&self, requests: usize, bytes: usize) -> usize {
        let mut state = self.queue.state.lock();
        state.requests -= requests;
        state.bytes -= bytes;
        state.requests
    }

    /// Makes room for a request that had it before.
    pub(super) fn put_back(&self, bytes: usize) {
        let mut state = self.queue.state.lock();
        state.requests += 1;
        state.bytes += bytes;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.phase = Phase::Ended;
        let arrived = std::mem::take(&mut state.arrived);
        // Whoever waits is woken by the end of his request, which must not happen under the lock.
        drop(state);
        drop(arrived);
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
