//! The task in front of one node.
//!
//! Everything that waits when a flight can depart travels with it, so the more is in flight, the fewer commands there
//! are per request; when nothing waits, a request goes at once, alone. There is a lane for each kind of requests, and one
//! flight at a time that takes from all of them.
//!
//! The dispatcher is never blocked: it always takes what is submitted, fails what waits past its deadline, and
//! hands requests out again as *unsent* (the node never saw them) or *lost* (it may have).

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Connection, Driver, Failure, Gate, Kind, Limits, Link, Node, Transport,
    backoff::Restlessness,
    breaker::{Breaker, Down},
    flight::{Cargo, Flight, Landed, Lane, Unfit},
    probe::{Probe, Probed},
    queue::{Inbox, Lanes, Waiting},
    quiet::Quietly,
    run,
};
use crate::{
    error::{Error, ErrorKind},
    ring::NodeId,
    telemetry::{self, NodeMeters, Span},
};

/// When the last flight carried so many, and fewer wait, the tasks that are ready are let go on before the next one departs:
/// most of them ask for something, and that goes with it instead of with the one after. A request that is alone never waits
/// for others, and what is as much as the last flight carried is enough.
const CROWD: usize = 2;

/// Connection attempts that an admission may take, in their time limits.
const ADMISSION: u32 = 4;

/// A pause, which ends early where the node turns out to be elsewhere.
type Pausing = Pin<Box<dyn Future<Output = ()> + Send>>;

type Connecting<L> = Pin<Box<dyn Future<Output = Result<Connection<L>, Error>> + Send>>;

pub(crate) struct Dispatcher<T: Transport, G> {
    id: NodeId,
    limits: Limits,
    transport: T,
    gate: G,
    state: State<T::Link>,
    /// Counts connections, so that what an old one still had in flight says nothing about the new one.
    connections: u64,
    restlessness: Restlessness,
    breaker: Breaker,
    meters: NodeMeters,
    lanes: Lanes<Lane>,
    flight: Option<Flight>,
    /// No more will arrive.
    closing: bool,
    // Last: the connection goes before whoever waits for the end hears of it.
    inbox: Inbox,
}

enum State<L> {
    Up {
        link: L,
        /// Something was answered on it.
        useful: bool,
        driver: Driver,
        probe: Probe,
    },
    Connecting(Connecting<L>),
    Pausing(Pausing),
}

impl<T: Transport, G: Gate<T::Link>> Dispatcher<T, G> {
    /// Puts a task between `node` and its transport. It begins by connecting; what is submitted meanwhile waits.
    pub(crate) fn spawn(node: &Node, inbox: Inbox, limits: Limits, transport: T, gate: G) {
        let mut dispatcher = Dispatcher {
            id: node.id().clone(),
            meters: gate.meters(),
            limits,
            transport,
            gate,
            state: State::Connecting(Box::pin(std::future::pending())),
            connections: 0,
            restlessness: Restlessness::default(),
            breaker: Breaker::default(),
            lanes: Lanes::default(),
            flight: None,
            closing: false,
            inbox,
        };
        dispatcher.connect(Duration::ZERO);
        tokio::spawn(dispatcher.run());
    }

    async fn run(mut self) {
        // Armed at the earliest deadline that was known; when it fires early, it is armed anew. So a queue that
        // moves costs no timer per request.
        let mut timer = pin!(sleep_until(Instant::now()));
        let mut armed: Option<Instant> = None;
        let quietly = Quietly::new();
        let mut carried = 0;
        while !self.closing || !self.is_idle() {
            if let Some(deadline) = self.next_deadline()
                && armed.is_none_or(|at| deadline < at)
            {
                timer.as_mut().reset(deadline);
                armed = Some(deadline);
            }
            let event = poll_fn(|context| {
                quietly.poll(context, |context| {
                    if let Poll::Ready(event) = self.poll(context) {
                        return Poll::Ready(event);
                    }
                    if self.inbox.poll(context, self.wanted(), armed, self.closing).is_ready() {
                        return Poll::Ready(Event::Submitted);
                    }
                    match armed {
                        Some(_) => timer.as_mut().poll(context).map(|()| Event::Deadline),
                        None => Poll::Pending,
                    }
                })
            });
            match event.await {
                Event::Landed(connection, landed) => {
                    carried = landed.carried;
                    self.landed(connection, landed);
                }
                Event::Changed(change) => {
                    let tried = match &change {
                        Change::Connected(connected) => {
                            Some(connected.as_ref().map(drop).map_err(Error::clone))
                        }
                        _ => None,
                    };
                    self.change(change);
                    // Whoever waits for it is to find everything told.
                    if let Some(tried) = tried {
                        self.inbox.has_tried(tried);
                    }
                }
                Event::Deadline => {
                    armed = None;
                    self.take();
                    self.expire();
                }
                Event::Submitted => {}
            }
            self.take();
            let waiting = self.lanes.iter().map(|lane| lane.waiting.len()).sum::<usize>();
            if carried >= CROWD && waiting < carried {
                yield_now().await;
                self.take();
            }
            self.depart();
        }
    }

    /// Runs the connection, and the flights on it.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event<T::Link>> {
        if let Poll::Ready(change) = self.state.poll(context) {
            return Poll::Ready(Event::Changed(change));
        }
        if let Some(flight) = &mut self.flight
            && let Poll::Ready((connection, landed)) = flight.poll(context)
        {
            self.flight = None;
            return Poll::Ready(Event::Landed(connection, landed));
        }
        Poll::Pending
    }

    fn is_idle(&self) -> bool {
        self.flight.is_none() && self.nothing_waits()
    }

    fn nothing_waits(&self) -> bool {
        self.lanes.iter().all(|lane| lane.waiting.is_empty())
    }

    /// Whether something can be done about what arrives at once: it can depart, or it has to be refused.
    fn wanted(&self) -> bool {
        match &self.state {
            State::Up { .. } => self.flight.is_none(),
            _ => self.breaker.open().is_some(),
        }
    }

    /// Takes over what has arrived.
    fn take(&mut self) {
        let into = self.lanes.iter_mut().map(|lane| &mut lane.waiting);
        let (earliest, closing) = self.inbox.take(into);
        self.closing = closing;
        for lane in self.lanes.iter_mut() {
            lane.earliest = lane.earliest.into_iter().chain(earliest).min();
        }
        self.refuse();
    }

    /// While the node is known to be down nobody waits for it.
    fn refuse(&mut self) {
        if self.nothing_waits() {
            return;
        }
        if let Some(down) = self.breaker.open() {
            let failure = Failure::Unsent(self.unavailable(down));
            self.fail_all(&failure);
        }
    }

    fn fail_all(&mut self, failure: &Failure) {
        for lane in self.lanes.iter_mut() {
            for mut waiting in lane.waiting.drain(..) {
                self.inbox.subtract(1, waiting.request.weight());
                waiting.answer(Err(failure.clone()));
            }
            lane.earliest = None;
        }
    }

    /// Sends what waits.
    fn depart(&mut self) {
        let State::Up { link, .. } = &self.state else { return };
        if self.flight.is_some() || self.nothing_waits() {
            return;
        }
        let mut cargo = Cargo::default();
        for lane in self.lanes.iter_mut() {
            lane.load(&mut cargo, &self.limits);
        }
        let waiting = self.inbox.subtract(cargo.requests.len(), cargo.weight);
        self.meters.departed(cargo.batches(), waiting);
        let span = Span::flight(&self.id, cargo.epoch(), cargo.requests.len());
        self.flight =
            Some(Flight::new(self.connections, span.around(cargo.fly(self.id.clone(), link.clone()))));
    }

    fn landed(&mut self, connection: u64, landed: Landed) {
        if landed.refused > 0 {
            telemetry::stale(&self.id, landed.refused);
        }
        for (lane, brought) in self.lanes.iter_mut().zip(landed.brought.iter()) {
            lane.got(*brought);
        }
        if connection == self.connections {
            match (landed.fit, &mut self.state) {
                (Ok(()), State::Up { useful, .. }) => {
                    *useful = true;
                    self.breaker.answered();
                }
                (Err(Unfit::Silent(error)), State::Up { .. }) => self.fall_silent(error),
                (Err(Unfit::Broken), _) => self.reconnect(),
                _ => {}
            }
        }
        for waiting in landed.kept.into_iter().rev() {
            self.inbox.put_back(waiting.request.weight());
            let lane = self.lanes.of(waiting.request.kind());
            lane.earliest = lane.earliest.into_iter().chain([waiting.request.deadline]).min();
            lane.waiting.push_front(waiting);
        }
        // They cannot wait for a connection that nobody waits for.
        self.refuse();
    }

    /// Opens another connection in the place of this one; less and less often, if none is of any use.
    fn reconnect(&mut self) {
        if let State::Up { useful, .. } = self.state {
            let wait = self.restlessness.ended(useful);
            self.inbox.condition().connecting();
            self.connect(wait);
        }
    }

    /// Nobody answers on this connection: requests fail at once until somebody does on another one.
    fn fall_silent(&mut self, error: Error) {
        let wait = self.breaker.silent(Instant::now(), error);
        self.connect(wait);
        self.report();
        self.gate.unreachable();
    }

    /// Tells whoever looks from outside that the node is down.
    fn report(&self) {
        if let Some(Down { since, error }) = self.breaker.open() {
            self.inbox.condition().down(*since, error);
            self.gate.turned(self.inbox.condition());
        }
    }

    fn connect(&mut self, wait: Duration) {
        self.connections += 1;
        let (transport, gate, id) = (self.transport.clone(), self.gate.clone(), self.id.clone());
        let limit = self.limits.connect_timeout;
        let connecting = async move {
            sleep(wait).await;
            let no_answer = |_| Err(no_answer(&id, limit));
            let connected = timeout(limit, transport.connect()).await.unwrap_or_else(no_answer)?;
            let Connection { link, hello, mut driver } = connected;
            // It may have to ask other nodes, which may be slow to answer, too.
            let admission = timeout(ADMISSION * limit, run(&mut driver, gate.admit(&link, &hello)));
            admission.await.unwrap_or_else(|_| Err(not_admitted(&id)))?;
            Ok(Connection { link, hello, driver })
        };
        self.state = State::Connecting(Box::pin(connecting));
    }

    fn change(&mut self, change: Change<T::Link>) {
        match change {
            // Nothing was in flight, or its flight says what is lost; what waits is sent on the next connection.
            Change::Closed => self.reconnect(),
            Change::Retry => self.connect(Duration::ZERO),
            Change::Probed(Probed::Well(look)) => {
                self.inbox.condition().seen(look.fence.as_deref());
                // What is wrong is found again by whoever connects, and said.
                if self.gate.noticed(look).is_err() {
                    self.reconnect();
                }
            }
            Change::Probed(Probed::Unfit) => self.reconnect(),
            Change::Probed(Probed::Silent) => {
                let error = no_probe(&self.id, self.limits.connect_timeout);
                self.fall_silent(error);
            }
            Change::Connected(Ok(connection)) => {
                self.breaker.connected();
                telemetry::connected(&self.id, connection.hello.version.as_deref());
                self.inbox.condition().up(&connection.hello);
                self.gate.turned(self.inbox.condition());
                self.state = State::up(connection, &self.limits);
            }
            Change::Connected(Err(error)) => {
                telemetry::not_connected(&self.id, &error);
                let wait = self.breaker.failed(Instant::now(), error);
                let moved = self.transport.clone().moved();
                self.state = State::Pausing(Box::pin(async move {
                    let _ = timeout(wait, moved).await;
                }));
                self.report();
                self.gate.unreachable();
            }
        }
    }

    /// The earliest time at which something that waits may have to be failed.
    fn next_deadline(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.earliest).min()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let failure = Failure::Unsent(Error::at(
            ErrorKind::Unavailable,
            &self.id,
            "the request waited for its turn until its deadline and was not sent",
        ));
        for lane in self.lanes.iter_mut() {
            if lane.earliest.is_none_or(|earliest| earliest > now) {
                continue;
            }
            lane.waiting.retain_mut(|waiting| {
                waiting.fail_if_past(now, &failure);
                if waiting.is_answered() {
                    self.inbox.subtract(1, waiting.request.weight());
                }
                !waiting.is_answered()
            });
            lane.earliest = lane.waiting.iter().map(|waiting| waiting.request.deadline).min();
        }
    }

    /// An error of the setup stays what it is; anything else is unavailability. Both say since when.
    fn unavailable(&self, down: &Down) -> Error {
        let (since, error) = (down.since.elapsed(), &down.error);
        if error.kind() != ErrorKind::Unavailable {
            return Error::at(error.kind(), &self.id, error.message()).unavailable_for(since);
        }
        let message = format!(
            "unavailable for {:.1} s ({}); its sessions are neither lost nor logged out; nothing was sent",
            since.as_secs_f64(),
            error.message()
        );
        Error::at(ErrorKind::Unavailable, &self.id, message).unavailable_for(since)
    }
}

/// What the dispatcher has to do something about.
enum Event<L> {
    Changed(Change<L>),
    /// A flight on the connection of this number.
    Landed(u64, Landed),
    /// There is something in the inbox.
    Submitted,
    /// The earliest deadline has come.
    Deadline,
}

/// What happened to the connection.
enum Change<L> {
    Closed,
    Probed(Probed),
    Connected(Result<Connection<L>, Error>),
    Retry,
}

impl<L: Link> State<L> {
    fn up(connection: Connection<L>, limits: &Limits) -> State<L> {
        let Connection { link, driver, .. } = connection;
        let probe = Probe::new(limits.probe_interval, limits.connect_timeout);
        State::Up { link, useful: false, driver, probe }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Change<L>> {
        match self {
            State::Up { link, driver, probe, .. } => match driver.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Change::Closed),
                Poll::Pending => probe.poll(link, context).map(Change::Probed),
            },
            State::Connecting(connecting) => connecting.as_mut().poll(context).map(Change::Connected),
            State::Pausing(pause) => pause.as_mut().poll(context).map(|()| Change::Retry),
        }
    }
}

fn not_admitted(id: &NodeId) -> Error {
    let message = "the ring did not agree in time on how to take the node up again";
    Error::at(ErrorKind::Unavailable, id, message)
}

fn no_answer(id: &NodeId, limit: Duration) -> Error {
    let message = format!("no connection within {} ms", limit.as_millis());
    Error::at(ErrorKind::Unavailable, id, message)
}

fn no_probe(id: &NodeId, limit: Duration) -> Error {
    let message = format!("no answer within {} ms when it was looked at", limit.as_millis());
    Error::at(ErrorKind::Unavailable, id, message)
}
