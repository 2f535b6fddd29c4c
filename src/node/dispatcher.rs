//! The task in front of one node.
//!
//! Everything that waits when a batch can go travels in it, so the more is in flight, the fewer commands there
//! are per request; when nothing waits, a request goes at once, alone. There are two lanes, reads and scripts,
//! with one flight each: one batch in flight was measured to beat several.
//!
//! The dispatcher is never blocked: it always takes what is submitted, fails what waits past its deadline, and
//! hands requests out again as *unsent* (the node never saw them) or *lost* (it may have).

use std::{
    collections::VecDeque,
    future::Future,
    ops::Range,
    pin::{Pin, pin},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{
    Batch, BatchReply, Clocks, Failure, Limits, Link, Node, Standing, Transport,
    admission::{admit, refused},
    queue::{Inbox, Job, Load, Waiting},
};
use crate::{
    error::{Error, ErrorKind},
    ring::NodeId,
    topology::Fence,
};

/// Jobs taken from the inbox at once.
const INBOX_BATCH: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

type Flying = Pin<Box<dyn Future<Output = Landed> + Send>>;
type Connecting<L> = Pin<Box<dyn Future<Output = Result<L, Error>> + Send>>;
type Closed = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Dispatcher<T: Transport> {
    id: NodeId,
    limits: Limits,
    load: Load,
    transport: T,
    fence: Fence,
    clocks: Clocks,
    state: State<T::Link>,
    /// Counts connections, so that what an old one still had in flight says nothing about the new one.
    connections: u64,
    reads: Lane,
    scripts: Lane,
}

enum State<L> {
    Up {
        link: L,
        closed: Closed,
    },
    /// `down` is set when an attempt has failed before: then nobody waits for this one.
    Connecting {
        attempt: u32,
        connecting: Connecting<L>,
        down: Option<Down>,
    },
    Pausing {
        attempt: u32,
        until: Instant,
        down: Down,
    },
}

#[derive(Clone)]
struct Down {
    since: Instant,
    error: Error,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// No deadline in `waiting` is earlier.
    earliest: Option<Instant>,
    flight: Option<Flight>,
}

struct Flight {
    connection: u64,
    flying: Flying,
}

struct Landed {
    /// Whether the connection can still be used.
    fit: Result<(), Error>,
    /// What never left, because the connection was gone already: it goes with the next one.
    kept: Vec<Waiting>,
}

impl<T: Transport> Dispatcher<T> {
    /// Puts a task between `node` and its transport. Without a `link` it begins by connecting.
    pub(crate) fn spawn(
        node: &Node,
        inbox: Inbox,
        limits: Limits,
        transport: T,
        link: Result<T::Link, Error>,
        fence: Fence,
        clocks: Clocks,
    ) {
        let now = Instant::now();
        let state = match link {
            Ok(link) => State::up(link),
            Err(error) => State::Pausing { attempt: 0, until: now, down: Down { since: now, error } },
        };
        let dispatcher = Dispatcher {
            id: node.id.clone(),
            limits,
            load: node.load.clone(),
            transport,
            fence,
            clocks,
            state,
            connections: 0,
            reads: Lane::default(),
            scripts: Lane::default(),
        };
        tokio::spawn(dispatcher.run(inbox));
    }

    async fn run(mut self, mut inbox: Inbox) {
        let mut jobs = Vec::with_capacity(INBOX_BATCH);
        let mut open = true;
        // Armed at the earliest deadline that was known; when it fires early, it is armed anew. So a queue that
        // moves costs no timer per request.
        let mut timer = pin!(sleep_until(Instant::now()));
        let mut armed: Option<Instant> = None;
        while open || !self.is_idle() {
            if let Some(deadline) = self.next_deadline()
                && armed.is_none_or(|at| deadline < at)
            {
                timer.as_mut().reset(deadline);
                armed = Some(deadline);
            }
            tokio::select! {
                biased;
                (connection, landed) = land(&mut self.reads.flight) => self.landed(connection, landed),
                (connection, landed) = land(&mut self.scripts.flight) => self.landed(connection, landed),
                changed = self.state.changed() => self.change(changed),
                count = inbox.jobs.recv_many(&mut jobs, INBOX_BATCH), if open => {
                    open = count > 0;
                    for job in jobs.drain(..) {
                        match job {
                            Job::One(waiting) => self.enqueue(waiting),
                            Job::Many(group) => group.into_iter().for_each(|waiting| self.enqueue(waiting)),
                            Job::Close => inbox.jobs.close(),
                        }
                    }
                }
                () = &mut timer, if armed.is_some() => {
                    armed = None;
                    self.expire();
                }
            }
            self.depart();
        }
        // The connection goes before whoever waits for the end hears of it.
        drop(self);
        drop(inbox);
    }

    fn is_idle(&self) -> bool {
        [&self.reads, &self.scripts].iter().all(|lane| lane.waiting.is_empty() && lane.flight.is_none())
    }

    fn enqueue(&mut self, waiting: Waiting) {
        self.put(waiting, VecDeque::push_back);
    }

    fn put(&mut self, mut waiting: Waiting, push: fn(&mut VecDeque<Waiting>, Waiting)) {
        if let Some(down) = self.state.down() {
            self.load.subtract(1, waiting.request.weight());
            waiting.answer(Err(Failure::Unsent(self.unavailable(down))));
            return;
        }
        let lane = if waiting.request.is_read() { &mut self.reads } else { &mut self.scripts };
        let deadline = waiting.request.deadline;
        lane.earliest = Some(lane.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        push(&mut lane.waiting, waiting);
    }

    /// Sends what waits, on every lane that is free.
    fn depart(&mut self) {
        let State::Up { link, .. } = &self.state else { return };
        for (lane, most, bytes) in [
            (&mut self.reads, self.limits.read_batch, usize::MAX),
            (&mut self.scripts, self.limits.script_batch, self.limits.script_bytes),
        ] {
            if lane.flight.is_some() || lane.waiting.is_empty() {
                continue;
            }
            let load = lane.load(most, bytes, self.limits.flight_batches);
            self.load.subtract(load.requests.len(), load.weight);
            let flying = Box::pin(fly(self.id.clone(), link.clone(), load));
            lane.flight = Some(Flight { connection: self.connections, flying });
        }
    }

    fn landed(&mut self, connection: u64, landed: Landed) {
        if landed.fit.is_err() && connection == self.connections && matches!(self.state, State::Up { .. }) {
            self.connect(0, None);
        }
        for waiting in landed.kept.into_iter().rev() {
            self.load.put_back(waiting.request.weight());
            self.put(waiting, VecDeque::push_front);
        }
    }

    fn connect(&mut self, attempt: u32, down: Option<Down>) {
        self.connections += 1;
        let (transport, fence, id) = (self.transport.clone(), self.fence, self.id.clone());
        let clocks = self.clocks.clone();
        let limit = self.limits.connect_timeout;
        let connecting = async move {
            let attempt = async {
                let (link, hello) = transport.connect().await?;
                clocks.record(&id, hello.reading);
                clocks.check(&id)?;
                admit(&id, &link, &fence, hello.standing).await?;
                Ok(link)
            };
            timeout(limit, attempt).await.unwrap_or_else(|_| Err(no_answer(&id, limit)))
        };
        self.state = State::Connecting { attempt, connecting: Box::pin(connecting), down };
    }

    fn change(&mut self, change: Change<T::Link>) {
        match change {
            // Nothing was in flight, or its flight says what is lost; what waits is sent on the next connection.
            Change::Closed => self.connect(0, None),
            Change::Retry(attempt, down) => self.connect(attempt, Some(down)),
            Change::Connected(Ok(link), ..) => self.state = State::up(link),
            Change::Connected(Err(error), attempt, down) => {
                let since = down.map_or_else(Instant::now, |down| down.since);
                let down = Down { since, error };
                let failure = Failure::Unsent(self.unavailable(&down));
                for lane in [&mut self.reads, &mut self.scripts] {
                    for mut waiting in lane.waiting.drain(..) {
                        self.load.subtract(1, waiting.request.weight());
                        waiting.answer(Err(failure.clone()));
                    }
                    lane.earliest = None;
                }
                let until = Instant::now() + pause(attempt);
                self.state = State::Pausing { attempt, until, down };
            }
        }
    }

    /// The earliest time at which something that waits may have to be failed.
    fn next_deadline(&self) -> Option<Instant> {
        [self.reads.earliest, self.scripts.earliest].into_iter().flatten().min()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let failure = Failure::Unsent(Error::at(
            ErrorKind::Unavailable,
            &self.id,
            "the request waited for its turn until its deadline and was not sent",
        ));
        for lane in [&mut self.reads, &mut self.scripts] {
            if lane.earliest.is_none_or(|earliest| earliest > now) {
                continue;
            }
            lane.waiting.retain_mut(|waiting| {
                waiting.fail_if_past(now, &failure);
                if waiting.is_answered() {
                    self.load.subtract(1, waiting.request.weight());
                }
                !waiting.is_answered()
            });
            lane.earliest = lane.waiting.iter().map(|waiting| waiting.request.deadline).min();
        }
    }

    /// An error of the setup stays what it is; anything else is unavailability, with its age.
    fn unavailable(&self, down: &Down) -> Error {
        if down.error.kind() != ErrorKind::Unavailable {
            return down.error.clone();
        }
        let age = down.since.elapsed().as_secs_f64();
        let message = format!(
            "unavailable for {age:.1} s ({}); its sessions are neither lost nor logged out; nothing was sent",
            down.error.message()
        );
        Error::at(ErrorKind::Unavailable, &self.id, message)
    }
}

/// What happened to the connection.
enum Change<L> {
    Closed,
    Connected(Result<L, Error>, u32, Option<Down>),
    Retry(u32, Down),
}

impl<L: Link> State<L> {
    fn up(link: L) -> State<L> {
        State::Up { closed: Box::pin(link.clone().closed()), link }
    }

    async fn changed(&mut self) -> Change<L> {
        match self {
            State::Up { closed, .. } => {
                closed.await;
                Change::Closed
            }
            State::Connecting { attempt, connecting, down } => {
                let link = connecting.await;
                Change::Connected(link, *attempt, down.take())
            }
            State::Pausing { attempt, until, down } => {
                sleep_until(*until).await;
                Change::Retry(*attempt + 1, down.clone())
            }
        }
    }

    fn down(&self) -> Option<&Down> {
        match self {
            State::Up { .. } => None,
            State::Connecting { down, .. } => down.as_ref(),
            State::Pausing { down, .. } => Some(down),
        }
    }
}

/// What one flight carries: requests of one fence, cut into batches.
struct Cargo {
    fence: Fence,
    reads: bool,
    requests: Vec<Waiting>,
    batches: Vec<Range<usize>>,
    weight: usize,
}

impl Lane {
    /// Takes from the queue what one flight may carry. The requests of a flight were all routed under one
    /// topology; those of the next one wait for the next flight.
    fn load(&mut self, most: usize, most_bytes: usize, most_batches: usize) -> Cargo {
        let fence = self.waiting[0].request.fence;
        let reads = self.waiting[0].request.is_read();
        let (mut batches, mut weight) = (Vec::new(), 0);
        let (mut batch, mut bytes) = (0..0, 0);
        for Waiting { request, .. } in self.waiting.iter().take_while(|next| next.request.fence == fence) {
            if batch.len() == most || (!batch.is_empty() && bytes + request.weight() > most_bytes) {
                if batches.len() + 1 == most_batches {
                    break;
                }
                let next = batch.end..batch.end;
                batches.push(std::mem::replace(&mut batch, next));
                bytes = 0;
            }
            batch.end += 1;
            bytes += request.weight();
            weight += request.weight();
        }
        let requests = self.waiting.drain(..batch.end).collect();
        batches.push(batch);
        if self.waiting.is_empty() {
            self.earliest = None;
        }
        Cargo { fence, reads, requests, batches, weight }
    }
}

async fn land(flight: &mut Option<Flight>) -> (u64, Landed) {
    let Some(Flight { connection, flying }) = flight else { return std::future::pending().await };
    let landed = (*connection, flying.await);
    *flight = None;
    landed
}

/// Sends the batches and gives every request its answer, unless the connection is gone already.
async fn fly<L: Link>(id: NodeId, link: L, mut cargo: Cargo) -> Landed {
    let batches = cargo.batches.clone();
    let fit = match cargo.exchange(&id, &link, &batches).await {
        Ok(replies) => match replies.first() {
            Some(BatchReply::Closed(error)) => {
                let fit = Err(error.clone());
                cargo.requests.retain(|waiting| !waiting.is_answered());
                return Landed { fit, kept: cargo.requests };
            }
            _ => deliver(id, link, cargo, batches, replies).await,
        },
        Err(error) => Err(error),
    };
    Landed { fit, kept: Vec::new() }
}

/// Gives every request its answer. An error says that the connection is of no use.
async fn deliver<L: Link>(
    id: NodeId,
    link: L,
    mut cargo: Cargo,
    mut batches: Vec<Range<usize>>,
    mut replies: Vec<BatchReply>,
) -> Result<(), Error> {
    let forgot = |reply: &BatchReply| matches!(reply, BatchReply::Refused(None));
    if replies.iter().any(forgot) {
        // The node has lost its memory. Give it its fence back and send once more what it refused.
        let admitted =
            timeout_at(cargo.last_deadline(), admit(&id, &link, &cargo.fence, Standing::default())).await;
        let admitted = admitted.unwrap_or_else(|_| Err(overdue(&id)));
        if let Err(error) = admitted {
            // Whoever this is, it cannot be used: connect again, which looks closer.
            for reply in replies.iter_mut().filter(|reply| forgot(reply)) {
                *reply = BatchReply::Broken(Failure::Unsent(error.clone()));
            }
        } else {
            let (again, done): (Vec<_>, Vec<_>) =
                batches.into_iter().zip(replies).partition(|(_, reply)| forgot(reply));
            cargo.hand_out_all(&id, done)?;
            batches = again.into_iter().map(|(batch, _)| batch).collect();
            replies = cargo.exchange(&id, &link, &batches).await?;
        }
    }
    cargo.hand_out_all(&id, batches.into_iter().zip(replies))
}

impl Cargo {
    fn last_deadline(&self) -> Instant {
        self.requests.iter().map(|waiting| waiting.request.deadline).max().unwrap_or_else(Instant::now)
    }

    /// Sends the batches. A request whose deadline passes meanwhile is lost; when all are, so is the connection.
    async fn exchange<L: Link>(
        &mut self,
        id: &NodeId,
        link: &L,
        batches: &[Range<usize>],
    ) -> Result<Vec<BatchReply>, Error> {
        let parcel = {
            let (reads, fence) = (self.reads, &self.fence);
            let packed =
                batches.iter().map(|batch| Batch { reads, fence, requests: &self.requests[batch.clone()] });
            link.pack(&packed.collect::<Vec<_>>())
        };
        let mut replies = pin!(link.clone().exchange(parcel));
        loop {
            let open = self.requests.iter().filter(|waiting| !waiting.is_answered());
            let Some(next) = open.map(|waiting| waiting.request.deadline).min() else {
                return Err(overdue(id));
            };
            if let Ok(replies) = timeout_at(next, &mut replies).await {
                return Ok(replies);
            }
            let lost = Failure::Lost(overdue(id));
            self.requests.iter_mut().for_each(|waiting| waiting.fail_if_past(next, &lost));
        }
    }

    /// Gives the requests of each batch the answers of that batch, also when another one broke the connection: what
    /// the node executed is not unsent because of that. Requests without an answer go down with the connection.
    fn hand_out_all(
        &mut self,
        id: &NodeId,
        replies: impl IntoIterator<Item = (Range<usize>, BatchReply)>,
    ) -> Result<(), Error> {
        let mut fit = Ok(());
        for (batch, reply) in replies {
            let handed = self.hand_out(id, batch, reply);
            fit = fit.and(handed);
        }
        if let Err(error) = &fit {
            // Only what the node refused is still open.
            let failure = Failure::Unsent(error.clone());
            self.requests.iter_mut().for_each(|waiting| waiting.answer(Err(failure.clone())));
        }
        fit
    }

    /// Gives the requests of one batch their answers. An error says that the connection is of no use.
    fn hand_out(&mut self, id: &NodeId, batch: Range<usize>, reply: BatchReply) -> Result<(), Error> {
        let count = batch.len();
        let all = |failure: Failure| vec![Err(failure); count];
        let (answers, fit) = match reply {
            BatchReply::Refused(stored) => {
                (all(Failure::Unsent(refused(id, &self.fence, stored.as_deref()))), Ok(()))
            }
            BatchReply::Failed(failure) => (all(failure), Ok(())),
            BatchReply::Broken(failure) => (all(failure.clone()), Err(failure.into_error())),
            BatchReply::Closed(error) => (all(Failure::Unsent(error.clone())), Err(error)),
            BatchReply::Done(answers) => (answers, Ok(())),
            BatchReply::Last(answers, error) => (answers, Err(error)),
        };
        self.requests[batch].iter_mut().zip(answers).for_each(|(waiting, answer)| waiting.answer(answer));
        fit
    }
}

fn overdue(id: &NodeId) -> Error {
    Error::at(ErrorKind::Unavailable, id, "the node did not answer before the deadline")
}

fn no_answer(id: &NodeId, limit: Duration) -> Error {
    let message = format!("no connection within {} ms", limit.as_millis());
    Error::at(ErrorKind::Unavailable, id, message)
}

/// Doubles with every attempt; half of it is random, so that a thousand processes do not return in step.
fn pause(attempt: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE);
    let random = getrandom::u32().unwrap_or(0);
    whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}
