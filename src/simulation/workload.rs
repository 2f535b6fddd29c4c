use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

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
#[derive(Clone)]
pub(super) struct Known {
    id: SessionId,
    space: Space,
}

/// Which handle it is used through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Generated,
    Foreign,
    /// Sessions that expire during the simulation.
    Mortal,
}

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
            for (i, Known { id, space }) in sessions.iter().enumerate() {
                let key = Keyspace::new(RING, space.name()).key(id);
                let mortal = (*space == Space::Mortal).then_some(MORTAL);
                let name = format!("{i} ({space:?})");
                inner.history.add_session(key, name, *space == Space::Foreign, mortal);
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
    match dice.below(10) {
        0..6 => Known { id: SessionId::from_bytes(bytes), space: Space::Generated },
        6..8 => Known { id: SessionId::from_bytes(bytes), space: Space::Mortal },
        _ => Known { id: SessionId::foreign(bytes).expect("24 bytes"), space: Space::Foreign },
    }
}

impl Space {
    fn name(self) -> &'static str {
        match self {
            Space::Generated => "g",
            Space::Foreign => "f",
            Space::Mortal => "m",
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
    fn answer(&self, ticket: Ticket, answer: Answer, error: Option<&Error>) {
        if self.is_dead() {
            return;
        }
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

    fn done(&self, ticket: Ticket, result: Result<(), Error>) {
        match result {
            Ok(()) => self.answer(ticket, Answer::Done, None),
            Err(error) => self.answer(ticket, of_error(&error), Some(&error)),
        }
    }

    fn got(&self, ticket: Ticket, result: Result<Option<Value>, Error>) {
        match result {
            Ok(Some(value)) => self.answer(ticket, Answer::Found(value.number), None),
            Ok(None) => self.answer(ticket, Answer::Nothing, None),
            Err(error) => self.answer(ticket, of_error(&error), Some(&error)),
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
        let Known { id, space } = &self.population.sessions[index];
        let sessions = self.sessions(*space);
        match dice.below(100) {
            0..14 => {
                let value = self.population.value();
                let ticket = self.invoke(index, What::Create(value.number));
                self.done(ticket, sessions.create_with_id(id, &value).await);
            }
            14..36 => {
                let ticket = self.invoke(index, What::Get);
                self.got(ticket, sessions.get(id).await);
            }
            36..51 => {
                let value = self.population.value();
                let what = match space {
                    Space::Foreign => What::Upsert(value.number),
                    _ => What::Set(value.number),
                };
                let ticket = self.invoke(index, what);
                self.done(ticket, sessions.set(id, &value).await);
            }
            51..68 => {
                let ticket = self.invoke(index, What::Update(None));
                let updated = sessions.update(id, |value| self.next(ticket, value)).await;
                self.done(ticket, updated);
            }
            68..75 => {
                let ticket = self.invoke(index, What::Touch);
                self.done(ticket, sessions.touch(id).await);
            }
            75..80 => {
                let ticket = self.invoke(index, What::Delete);
                self.done(ticket, sessions.delete(id).await);
            }
            80..86 => {
                let ticket = self.invoke(index, What::Exists);
                match sessions.exists(id).await {
                    Ok(true) => self.answer(ticket, Answer::Live, None),
                    Ok(false) => self.answer(ticket, Answer::Nothing, None),
                    Err(error) => self.answer(ticket, of_error(&error), Some(&error)),
                }
            }
            86..94 => {
                let (some, ids) = self.some(dice, *space);
                self.get_many(&some, *space, &ids).await;
            }
            _ => {
                let (some, ids) = self.some(dice, *space);
                let tickets: Vec<_> = some.iter().map(|&i| self.invoke(i, What::Update(None))).collect();
                let updated = sessions.update_many(&ids, |id, value| {
                    if let Some(at) = ids.iter().position(|other| other == id) {
                        self.next(tickets[at], value);
                    }
                });
                for (ticket, updated) in tickets.iter().zip(updated.await) {
                    self.done(*ticket, updated);
                }
            }
        }
    }

    fn next(&self, ticket: Ticket, value: &mut Value) {
        let next = self.population.value();
        if !self.is_dead() {
            self.world.with(|inner| inner.history.attempt(ticket, value.number, next.number));
        }
        *value = next;
    }

    /// A few sessions of this kind, each once.
    fn some(&self, dice: &mut Dice, space: Space) -> (Vec<usize>, Vec<SessionId>) {
        let fits = |(_, known): &(usize, &Known)| known.space == space;
        let some = self.population.sessions.iter().enumerate().filter(fits).filter(|_| dice.chance(400));
        some.map(|(i, known)| (i, known.id.clone())).unzip()
    }

    async fn get_many(&self, some: &[usize], space: Space, ids: &[SessionId]) -> usize {
        let tickets: Vec<_> = some.iter().map(|&i| self.invoke(i, What::Get)).collect();
        let mut failed = 0;
        for (ticket, got) in tickets.into_iter().zip(self.sessions(space).get_many(ids).await) {
            failed += usize::from(got.is_err());
            self.got(ticket, got);
        }
        failed
    }

    /// Reads every session; how many could not be read.
    pub(super) async fn read_all(&self) -> usize {
        let mut failed = 0;
        for space in [Space::Generated, Space::Foreign, Space::Mortal] {
            let all = self.population.sessions.iter().enumerate().filter(|(_, known)| known.space == space);
            let (some, ids): (Vec<usize>, Vec<SessionId>) =
                all.map(|(i, known)| (i, known.id.clone())).unzip();
            failed += self.get_many(&some, space, &ids).await;
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
