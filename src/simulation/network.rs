use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{server::Server, world::World};
use crate::{
    error::{Error, ErrorKind},
    node::{
        Driver,
        simulated::{Network, Question, Response, Wire},
    },
    topology::MetaKeys,
};

/// How the network is, in times out of a thousand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// In milliseconds, from and to.
    pub(super) latency: (u64, u64),
    /// A request is lost, and with it the connection.
    pub(super) request_lost: u64,
    /// A request arrives, its answer does not.
    pub(super) answer_lost: u64,
    /// A request is executed seconds later, when whoever sent it has given up.
    pub(super) late: u64,
    /// Every request arrives, and no answer ever.
    pub(super) mute: u64,
    /// A connection is refused.
    pub(super) refused: u64,
}

impl Weather {
    pub(super) fn calm() -> Weather {
        Weather { latency: (1, 4), request_lost: 0, answer_lost: 0, late: 0, mute: 0, refused: 0 }
    }
}

/// What may be sent long after the connection has ended is executed after this time at the latest.
pub(super) const LATEST: Duration = Duration::from_secs(12);

/// A connection of one process to one process of a server.
pub(super) struct Conn {
    pub(super) number: u64,
    pub(super) process: u64,
    pub(super) server: String,
    /// The process of the server at the other end.
    peer: u64,
    world: Weak<World>,
    outbox: mpsc::UnboundedSender<Parcel>,
    state: Mutex<State>,
    /// The client knows that it has ended. (`watch` would do, but wakes who waits in an order of its own.)
    broken: AtomicBool,
    breaks: Notify,
    /// What was not yet executed never will be.
    discarded: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Nothing overtakes what was sent before.
    last_arrival: Option<Instant>,
    last_answer: Option<Instant>,
    /// Nothing that is sent arrives.
    deaf: bool,
    /// No answer arrives.
    mute: bool,
}

/// A question on its way.
struct Parcel {
    question: Question,
    arrives: Instant,
    /// Where the response goes, and when it arrives there.
    reply: Option<oneshot::Sender<(Response, Instant)>>,
    latency: Duration,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    RequestLost,
    AnswerLost,
    Late,
    Mute,
}

impl Conn {
    pub(super) fn break_in(self: &Arc<Conn>, delay: Duration) {
        let conn = self.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            conn.end();
        });
    }

    pub(super) fn go_deaf(&self) {
        self.state.lock().deaf = true;
    }

    pub(super) fn go_mute(&self) {
        self.state.lock().mute = true;
    }

    pub(super) fn hold_until(&self, until: Instant) {
        let mut state = self.state.lock();
        state.last_arrival = state.last_arrival.max(Some(until));
    }

    fn end(&self) {
        self.broken.store(true, SeqCst);
        self.breaks.notify_waiters();
    }

    fn has_ended(&self) -> bool {
        self.broken.load(SeqCst)
    }

    async fn ended(&self) {
        while !self.has_ended() {
            self.breaks.notified().await;
        }
    }

    /// The client gives the connection up. What it has sent may still be in a buffer.
    fn hang_up(&self) {
        self.end();
        if let Some(world) = self.world.upgrade() {
            world.with(|inner| {
                inner.conns.remove(&self.number);
                if inner.dice.chance(400) && !inner.dead.contains(&self.process) {
                    self.discarded.store(true, SeqCst);
                }
            });
        }
    }

    /// Puts questions on their way; where their responses will arrive.
    fn send(self: &Arc<Conn>, questions: Vec<Question>) -> Vec<oneshot::Receiver<(Response, Instant)>> {
        let Some(world) = self.world.upgrade() else { return Vec::new() };
        world.with(|inner| {
            let (dice, weather) = (&mut inner.dice, inner.weather);
            let count = questions.len() as u64;
            let mut state = self.state.lock();
            let fate = fate(dice.below(1000), &weather);
            // Some of what was sent together may arrive.
            let doomed = dice.below(count) as usize;
            let now = Instant::now();
            let mut receivers = Vec::new();
            let mut gone = state.deaf;
            for (i, question) in questions.into_iter().enumerate() {
                let (reply, response) = oneshot::channel();
                receivers.push(response);
                gone |= fate == Fate::RequestLost && i == doomed;
                if gone {
                    continue;
                }
                let (least, most) = weather.latency;
                let mut arrives = now + dice.millis(least, most + 1);
                if fate == Fate::Late && i == doomed {
                    arrives += dice.millis(300, LATEST.as_millis() as u64);
                }
                arrives = arrives.max(state.last_arrival.unwrap_or(arrives));
                state.last_arrival = Some(arrives);
                state.mute |= fate == Fate::Mute;
                let lost = fate == Fate::AnswerLost && i >= doomed;
                let heard = !state.mute && !lost;
                let latency = dice.millis(least, most + 1);
                let parcel = Parcel { question, arrives, reply: heard.then_some(reply), latency };
                // The other end has ended: nobody executes it.
                let _ = self.outbox.send(parcel);
            }
            if matches!(fate, Fate::RequestLost | Fate::AnswerLost | Fate::Late) {
                let (number, server, process) = (self.number, &self.server, self.process);
                inner.trace.note(&[20, number], || {
                    format!("connection {number} of process {process} to {server} breaks: {fate:?}")
                });
                state.deaf = true;
                // Otherwise nobody says so.
                if dice.chance(600) {
                    let delay = dice.millis(1, 200);
                    self.break_in(delay);
                }
            }
            receivers
        })
    }

    /// The server's end.
    async fn serve(self: Arc<Conn>, mut inbox: mpsc::UnboundedReceiver<Parcel>) {
        while let Some(Parcel { question, arrives, reply, latency }) = inbox.recv().await {
            sleep_until(arrives).await;
            loop {
                let Some(world) = self.world.upgrade() else { return };
                let admission = world.with(|inner| {
                    inner.servers.get(&self.server).map_or(Admission::Never, |server| self.admission(server))
                });
                match admission {
                    Admission::Now => break,
                    Admission::Never => return,
                    Admission::Later => world.changed().await,
                }
            }
            let Some(world) = self.world.upgrade() else { return };
            let response = world.execute(&self, question);
            let at = {
                let mut state = self.state.lock();
                let at = Instant::now() + latency;
                let at = at.max(state.last_answer.unwrap_or(at));
                state.last_answer = Some(at);
                at
            };
            if let Some(reply) = reply
                && !self.state.lock().mute
            {
                let _ = reply.send((response, at));
            }
        }
    }

    fn admission(&self, server: &Server) -> Admission {
        if !server.up || server.contents.process() != self.peer || self.discarded.load(SeqCst) {
            Admission::Never
        } else if server.paused {
            Admission::Later
        } else {
            Admission::Now
        }
    }

    fn lost(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "the connection ended before the answer came (simulated)")
    }

    fn is_of_the_dead(&self) -> bool {
        self.world.upgrade().is_none_or(|world| world.is_dead(self.process))
    }
}

enum Admission {
    Now,
    Later,
    Never,
}

fn fate(roll: u64, weather: &Weather) -> Fate {
    let mut bound = 0;
    let fates = [
        (weather.request_lost, Fate::RequestLost),
        (weather.answer_lost, Fate::AnswerLost),
        (weather.late, Fate::Late),
        (weather.mute, Fate::Mute),
    ];
    for (share, fate) in fates {
        bound += share;
        if roll < bound {
            return fate;
        }
    }
    Fate::Arrives
}

/// The client's end. (The trait is implemented for a type of its own, since `Arc<Conn>` is what it needs.)
struct End(Arc<Conn>);

impl Wire for End {
    fn is_closed(&self) -> bool {
        self.0.has_ended()
    }

    fn ask(&self, questions: Vec<Question>) -> BoxFuture<'static, Result<Vec<Response>, Error>> {
        let conn = self.0.clone();
        Box::pin(async move {
            if conn.is_of_the_dead() {
                return std::future::pending().await;
            }
            if conn.has_ended() {
                return Err(conn.lost());
            }
            let receivers = conn.send(questions);
            let mut responses = Vec::with_capacity(receivers.len());
            for receiver in receivers {
                let arrived = async {
                    match receiver.await {
                        Ok((response, at)) => {
                            sleep_until(at).await;
                            response
                        }
                        Err(_) => std::future::pending().await,
                    }
                };
                let response = tokio::select! {
                    biased;
                    response = arrived => response,
                    () = conn.ended() => return Err(conn.lost()),
                };
                if conn.is_of_the_dead() {
                    return std::future::pending().await;
                }
                responses.push(response);
            }
            Ok(responses)
        })
    }
}

/// Ends when the connection does, and the other way round.
struct Held {
    conn: Arc<Conn>,
    ended: BoxFuture<'static, ()>,
}

impl Future for Held {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.ended.as_mut().poll(context)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.conn.hang_up();
    }
}

/// The network of a world.
pub(super) struct Net(pub(super) Arc<World>);

impl Network for Net {
    fn dial(
        &self,
        process: u64,
        server: &str,
        _: &Arc<MetaKeys>,
    ) -> BoxFuture<'static, Result<(Arc<dyn Wire>, Driver), Error>> {
        let (world, server) = (self.0.clone(), server.to_owned());
        Box::pin(async move {
            let refused = || Error::new(ErrorKind::Unavailable, "connection refused (simulated)");
            let latency = world.with(|inner| {
                let (least, most) = inner.weather.latency;
                inner.dice.millis(2 * least, 2 * most + 1)
            });
            sleep(latency).await;
            if world.is_dead(process) {
                return std::future::pending().await;
            }
            let cut = world.with(|inner| inner.cut.get(&(process, server.clone())).copied());
            if let Some(until) = cut.filter(|until| *until > Instant::now()) {
                sleep_until(until).await;
            }
            let conn = world.with(|inner| {
                let weather = inner.weather;
                if inner.dice.chance(weather.refused) {
                    return None;
                }
                let peer = inner.servers.get(&server).filter(|server| server.up)?.contents.process();
                inner.last_conn += 1;
                let (outbox, inbox) = mpsc::unbounded_channel();
                let conn = Arc::new(Conn {
                    number: inner.last_conn,
                    process,
                    server: server.clone(),
                    peer,
                    world: Arc::downgrade(&world),
                    outbox,
                    state: Mutex::default(),
                    broken: AtomicBool::new(false),
                    breaks: Notify::new(),
                    discarded: AtomicBool::new(false),
                });
                inner.conns.insert(conn.number, conn.clone());
                tokio::spawn(conn.clone().serve(inbox));
                Some(conn)
            });
            let conn = conn.ok_or_else(refused)?;
            let ended = conn.clone();
            let ended = Box::pin(async move { ended.ended().await });
            let driver: Driver = Box::pin(Held { conn: conn.clone(), ended });
            let wire: Arc<dyn Wire> = Arc::new(End(conn));
            Ok((wire, driver))
        })
    }
}
