use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::{
    dice::Dice,
    history::{Answer, Ticket, What},
    world::{RING, World},
};
use crate::{
    client::{Builder, SessionRing},
    error::{Error, ErrorKind},
    node::simulated,
    record::{Keyspace, SessionId},
    session::{Lifetime, Sessions},
};

/// What sessions hold. Every one that is written has a number of its own.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Value {
    number: u64,
}

/// A session of the simulation.
pub(super) struct Known {
    /// Those that it had, oldest first.
    ids: Mutex<Vec<Named>>,
    /// Rotations whose end nobody has heard of.
    rotations: AtomicU64,
    space: Space,
}

/// An id of a session.
#[derive(Clone)]
struct Named {
    id: SessionId,
    /// Somebody wanted it replaced, so it may be dead.
    rotated: bool,
    /// From then on it must be.
    dead: Option<Instant>,
}

/// A session that is about to be used through one of its ids.
struct Used {
    index: usize,
    which: usize,
    named: Named,
    space: Space,
}

impl Known {
    fn named(&self, which: usize) -> Named {
        self.ids.lock()[which].clone()
    }

    fn first(&self) -> SessionId {
        self.named(0).id
    }
}

/// Which handle it is used through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Generated,
    Foreign,
    /// Sessions that expire during the simulation.
    Mortal,
    /// Sessions that get new ids. The old ones are good for longer than the simulation.
    Rotating,
    /// The same, and the old ones die soon, or at once.
    Fleeting,
}

const SPACES: [Space; 5] =
    [Space::Generated, Space::Foreign, Space::Mortal, Space::Rotating, Space::Fleeting];

/// How long old ids of the last kind are good.
const GRACE: Duration = Duration::from_millis(1_500);

/// In milliseconds, idle and absolute.
const MORTAL: (u64, u64) = (25_000, 35_000);

/// All sessions of a simulation; every process knows them.
pub(super) struct Population {
    pub(super) sessions: Vec<Known>,
    values: AtomicU64,
}

impl Population {
    pub(super) fn new(world: &World, dice: &mut Dice, count: usize) -> Arc<Population> {
        let sessions: Vec<Known> = (0..count).map(|_| known(dice)).collect();
        world.with(|inner| {
            for (i, known) in sessions.iter().enumerate() {
                let space = known.space;
                let key = Keyspace::new(RING, space.name()).key(&known.first());
                let mortal = (space == Space::Mortal).then_some(MORTAL);
                let name = format!("{i} ({space:?})");
                inner.history.add_session(key, name, space == Space::Foreign, mortal);
            }
        });
        Arc::new(Population { sessions, values: AtomicU64::new(0) })
    }

    fn value(&self) -> Value {
        Value { number: 1 + self.values.fetch_add(1, Relaxed) }
    }
}

fn known(dice: &mut Dice) -> Known {
    let mut bytes = [0; 24];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&dice.roll().to_be_bytes()));
    let generated = SessionId::from_bytes(bytes);
    let (id, space) = match dice.below(14) {
        0..6 => (generated, Space::Generated),
        6..8 => (generated, Space::Mortal),
        8..10 => (SessionId::foreign(bytes).expect("24 bytes"), Space::Foreign),
        10..12 => (generated, Space::Rotating),
        _ => (generated, Space::Fleeting),
    };
    let ids = Mutex::new(vec![Named { id, rotated: false, dead: None }]);
    Known { ids, rotations: AtomicU64::new(0), space }
}

impl Space {
    fn name(self) -> &'static str {
        match self {
            Space::Generated => "g",
            Space::Foreign => "f",
            Space::Mortal => "m",
            Space::Rotating => "r",
            Space::Fleeting => "l",
        }
    }
}

/// A process that uses the ring.
#[derive(Clone)]
pub(super) struct App {
    pub(super) process: u64,
    pub(super) ring: SessionRing,
    generated: Sessions<Value>,
    foreign: Sessions<Value>,
    mortal: Sessions<Value>,
    rotating: Sessions<Value>,
    fleeting: Sessions<Value>,
    world: Arc<World>,
    population: Arc<Population>,
}

impl App {
    pub(super) async fn connect(
        world: &Arc<World>,
        population: &Arc<Population>,
        process: u64,
        builder: Builder,
    ) -> Result<App, Error> {
        let mut connecting = Box::pin(builder.connect());
        let ring = poll_fn(|context| {
            simulated::become_process(process);
            connecting.as_mut().poll(context)
        })
        .await?;
        let (idle, absolute) = MORTAL;
        let lifetime = Lifetime::new(Duration::from_millis(idle), Duration::from_millis(absolute))?;
        Ok(App {
            process,
            generated: ring.sessions(Space::Generated.name()),
            foreign: ring.sessions(Space::Foreign.name()).upsert_foreign(true),
            mortal: ring.sessions(Space::Mortal.name()).lifetime(lifetime),
            rotating: ring.sessions(Space::Rotating.name()).rotation_grace(Duration::MAX),
            fleeting: ring.sessions(Space::Fleeting.name()).rotation_grace(GRACE),
            ring,
            world: world.clone(),
            population: population.clone(),
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.world.is_dead(self.process)
    }

    fn sessions(&self, space: Space) -> &Sessions<Value> {
        match space {
            Space::Generated => &self.generated,
            Space::Foreign => &self.foreign,
            Space::Mortal => &self.mortal,
            Space::Rotating => &self.rotating,
            Space::Fleeting => &self.fleeting,
        }
    }

    /// What stands between an id and its session is no register's matter: an answer through an id that may be dead is taken
    /// for what it is, that nothing was found or done under this id.
    fn through(&self, used: &Used, ticket: Ticket, answer: Answer) -> Answer {
        use Answer::{Deleted, Done, Failed, Found, Live, NotFound, Nothing, Unknown};
        if matches!(answer, Found(_) | Live) && used.named.dead.is_some_and(|dead| dead < ticket.asked) {
            self.world.with(|inner| inner.history.came_back(ticket));
        }
        let known = self.population.sessions[used.index].named(used.which);
        match answer {
            // It stays used up while its session lives on.
            Deleted if known.rotated && ticket.creates => Failed,
            Nothing | Deleted | NotFound if known.rotated && used.space == Space::Fleeting => Failed,
            Done if known.rotated && used.space == Space::Fleeting && ticket.deletes => Unknown,
            answer => answer,
        }
    }

    fn invoke(&self, session: usize, what: What) -> Ticket {
        self.world.with(|inner| {
            let process = self.process;
            inner.trace.note(&[30, process, session as u64], || {
                format!("process {process} asks: {what:?} of session {session}")
            });
            inner.history.invoke(process, session, what)
        })
    }

    /// Nobody hears what a dead process is answered.
    fn answer(&self, used: &Used, ticket: Ticket, answer: Answer, error: Option<&Error>) {
        if self.is_dead() {
            return;
        }
        let answer = self.through(used, ticket, answer);
        self.world.with(|inner| {
            inner.trace.note(&[31, self.process], || {
                let error = error.map(Error::to_string).unwrap_or_default();
                format!("process {} is answered: {answer:?} {error}", self.process)
            });
            inner.history.answer(ticket, answer);
            if let Some(error) = error.filter(|error| is_strange(error)) {
                inner.violations.push(format!("process {}: {error}", self.process));
            }
        });
    }

    fn done(&self, used: &Used, ticket: Ticket, result: Result<(), Error>) {
        match result {
            Ok(()) => self.answer(used, ticket, Answer::Done, None),
            Err(error) => self.answer(used, ticket, of_error(&error), Some(&error)),
        }
    }

    fn got(&self, used: &Used, ticket: Ticket, result: Result<Option<Value>, Error>) {
        match result {
            Ok(Some(value)) => self.answer(used, ticket, Answer::Found(value.number), None),
            Ok(None) => self.answer(used, ticket, Answer::Nothing, None),
            Err(error) => self.answer(used, ticket, of_error(&error), Some(&error)),
        }
    }

    /// Uses sessions until it is told to stop, or dies.
    pub(super) async fn work(self, mut dice: Dice, until: Instant, pace: u64) {
        while Instant::now() < until && !self.is_dead() {
            sleep(dice.millis(1, pace)).await;
            if dice.chance(30) {
                // Whoever asked does not wait for the answer.
                let patience = dice.millis(1, 60);
                let _ = timeout(patience, self.step(&mut dice)).await;
            } else {
                self.step(&mut dice).await;
            }
        }
    }

    async fn step(&self, dice: &mut Dice) {
        let index = dice.below(self.population.sessions.len() as u64) as usize;
        let used = self.pick(dice, index);
        let (id, space) = (&used.named.id, used.space);
        let sessions = self.sessions(space);
        let may_rotate = matches!(space, Space::Rotating | Space::Fleeting);
        match dice.below(if may_rotate { 112 } else { 100 }) {
            0..14 => {
                let value = self.population.value();
                let first = Used { which: 0, named: self.population.sessions[index].named(0), ..used };
                let ticket = self.invoke(index, What::Create(value.number));
                let created = sessions.create_with_id(&first.named.id, &value).await;
                self.done(&first, ticket, created);
            }
            14..36 => {
                let ticket = self.invoke(index, What::Get);
                self.got(&used, ticket, sessions.get(id).await);
            }
            36..51 => {
                let value = self.population.value();
                let what = match space {
                    Space::Foreign => What::Upsert(value.number),
                    _ => What::Set(value.number),
                };
                let ticket = self.invoke(index, what);
                self.done(&used, ticket, sessions.set(id, &value).await);
            }
            51..68 => {
                let ticket = self.invoke(index, What::Update(None));
                let updated = sessions.update(id, |value| self.next(ticket, value)).await;
                self.done(&used, ticket, updated);
            }
            68..75 => {
                let ticket = self.invoke(index, What::Touch);
                self.done(&used, ticket, sessions.touch(id).await);
            }
            75..80 => {
                let ticket = self.invoke(index, What::Delete);
                self.done(&used, ticket, sessions.delete(id).await);
            }
            80..86 => {
                let ticket = self.invoke(index, What::Exists);
                match sessions.exists(id).await {
                    Ok(true) => self.answer(&used, ticket, Answer::Live, None),
                    Ok(false) => self.answer(&used, ticket, Answer::Nothing, None),
                    Err(error) => self.answer(&used, ticket, of_error(&error), Some(&error)),
                }
            }
            86..94 => {
                let some = self.some(dice, space);
                self.get_many(some, space).await;
            }
            94..100 => {
                let some = self.some(dice, space);
                let ids: Vec<SessionId> = some.iter().map(|used| used.named.id.clone()).collect();
                let tickets: Vec<_> =
                    some.iter().map(|used| self.invoke(used.index, What::Update(None))).collect();
                let updated = sessions.update_many(&ids, |id, value| {
                    if let Some(at) = ids.iter().position(|other| other == id) {
                        self.next(tickets[at], value);
                    }
                });
                for ((ticket, updated), used) in tickets.iter().zip(updated.await).zip(&some) {
                    self.done(used, *ticket, updated);
                }
            }
            _ => self.rotate(dice, &used).await,
        }
    }

    async fn rotate(&self, dice: &mut Dice, used: &Used) {
        let (sessions, known) = (self.sessions(used.space), &self.population.sessions[used.index]);
        let at_once = used.space == Space::Fleeting && dice.chance(300);
        // An id leads on to the newest one, and that is replaced.
        known.ids.lock().iter_mut().for_each(|named| named.rotated = true);
        known.rotations.fetch_add(1, Relaxed);
        let ticket = self.invoke(used.index, What::Rotate);
        let rotated = match at_once {
            true => sessions.rotate_at_once(&used.named.id).await,
            false => sessions.rotate(&used.named.id).await,
        };
        if !self.is_dead() && !rotated.as_ref().is_err_and(Error::is_indeterminate) {
            known.rotations.fetch_sub(1, Relaxed);
        }
        if let Ok(id) = &rotated
            && !self.is_dead()
        {
            let mut ids = known.ids.lock();
            if used.space == Space::Fleeting {
                // Its clock is a server's; sessions move between them.
                let grace = if at_once { Duration::ZERO } else { GRACE };
                let dead = Instant::now() + grace + Duration::from_secs(2);
                let first = ids[used.which].dead.map_or(dead, |before| before.min(dead));
                ids[used.which].dead = Some(first);
            }
            let rotated = known.rotations.load(Relaxed) > 0;
            ids.push(Named { id: id.clone(), rotated, dead: None });
        }
        self.done(used, ticket, rotated.map(drop));
    }

    fn next(&self, ticket: Ticket, value: &mut Value) {
        let next = self.population.value();
        if !self.is_dead() {
            self.world.with(|inner| inner.history.attempt(ticket, value.number, next.number));
        }
        *value = next;
    }

    /// One of the ids of a session: the newest, mostly.
    fn pick(&self, dice: &mut Dice, index: usize) -> Used {
        let known = &self.population.sessions[index];
        let ids = known.ids.lock();
        let which = match ids.len() {
            1 => 0,
            len if dice.chance(600) => len - 1,
            // No further back than an id leads.
            len => len - 1 - dice.below(len.min(8) as u64) as usize,
        };
        Used { index, which, named: ids[which].clone(), space: known.space }
    }

    /// A few sessions of this kind, each once.
    fn some(&self, dice: &mut Dice, space: Space) -> Vec<Used> {
        let fits = |(_, known): &(usize, &Known)| known.space == space;
        let some = self.population.sessions.iter().enumerate().filter(fits);
        let some: Vec<usize> = some.map(|(i, _)| i).filter(|_| dice.chance(400)).collect();
        some.into_iter().map(|index| self.pick(dice, index)).collect()
    }

    async fn get_many(&self, some: Vec<Used>, space: Space) -> usize {
        let ids: Vec<SessionId> = some.iter().map(|used| used.named.id.clone()).collect();
        let tickets: Vec<_> = some.iter().map(|used| self.invoke(used.index, What::Get)).collect();
        let mut failed = 0;
        let got = self.sessions(space).get_many(&ids).await;
        for ((ticket, got), used) in tickets.into_iter().zip(got).zip(&some) {
            // One that was replaced too often says so.
            failed += usize::from(got.as_ref().is_err_and(|error| !error.is_conflict()));
            self.got(used, ticket, got);
        }
        failed
    }

    /// Reads every session, by every id that it had; how many could not be read.
    pub(super) async fn read_all(&self) -> usize {
        let mut failed = 0;
        for space in SPACES {
            let mut all = Vec::new();
            for (index, known) in
                self.population.sessions.iter().enumerate().filter(|(_, k)| k.space == space)
            {
                for (which, named) in known.ids.lock().iter().enumerate() {
                    all.push(Used { index, which, named: named.clone(), space });
                }
            }
            failed += self.get_many(all, space).await;
        }
        failed
    }
}

fn of_error(error: &Error) -> Answer {
    match error.kind() {
        ErrorKind::NotFound => Answer::NotFound,
        ErrorKind::Deleted => Answer::Deleted,
        ErrorKind::Exists => Answer::AlreadyThere,
        ErrorKind::Indeterminate => Answer::Unknown,
        _ => Answer::Failed,
    }
}

/// What no fault of the simulation explains.
fn is_strange(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::Overloaded
            | ErrorKind::Full
            | ErrorKind::NotFound
            | ErrorKind::Deleted
            | ErrorKind::Exists
            | ErrorKind::Conflict
            | ErrorKind::Indeterminate
            | ErrorKind::Closed
    )
}
