//! Could one register have given all the answers that a session gave? (Linearizability, by the search of Wing and Gong
//! with Lowe's memory. It is small since every value is written once.)

use std::{collections::BTreeSet, fmt::Write as _};

use tokio::time::Instant;

use super::history::{Answer, Session, Value, What};

/// What a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Vacant,
    Live(Value),
    Tombstone,
}

/// What can be seen of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Vacant,
    Live,
    Value(Value),
    Tombstone,
    /// Vacant or a tombstone: reads do not tell them apart.
    Nothing,
    /// Vacant or live.
    NoTombstone,
}

/// What a call did, or saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    See(Sight),
    Write {
        given: Sight,
        value: Value,
    },
    Delete {
        upsertable: bool,
    },
    /// A node forgot: everything, or everything since some moment.
    Lose {
        older: bool,
    },
}

pub(super) struct Event {
    pub(super) invoked: u64,
    pub(super) returned: u64,
    /// It may have happened at any time since, or never.
    pub(super) optional: bool,
    pub(super) action: Action,
    /// When its answer came.
    pub(super) at: Instant,
}

/// What is wrong with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was there, and is not.
    Lost,
    /// It was logged out, and is there.
    Resurrected,
    /// It is there, and is not what it should be.
    Wrong,
    Immortal,
    /// It is there under an id that was replaced long ago.
    Undead,
}

pub(super) struct Violation {
    pub(super) verdict: Verdict,
    pub(super) text: String,
}

impl Sight {
    fn fits(self, state: State) -> bool {
        match self {
            Sight::Vacant => state == State::Vacant,
            Sight::Live => matches!(state, State::Live(_)),
            Sight::Value(value) => state == State::Live(value),
            Sight::Tombstone => state == State::Tombstone,
            Sight::Nothing => !matches!(state, State::Live(_)),
            Sight::NoTombstone => state != State::Tombstone,
        }
    }
}

/// Up to 256 events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Set([u64; 4]);

const MOST: usize = 256;

impl Set {
    fn has(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    fn with(mut self, i: usize) -> Set {
        self.0[i / 64] |= 1 << (i % 64);
        self
    }
}

struct Search<'a> {
    events: &'a [Event],
    /// From when on a session may have expired.
    dies: Option<Instant>,
    tried: BTreeSet<(Set, State)>,
}

/// Judges everything that was asked of a session.
pub(super) fn judge(session: &Session) -> Result<(), Violation> {
    if session.split() {
        return Ok(());
    }
    if let Some(call) = session.came_back {
        return Err(Violation { verdict: Verdict::Undead, text: tell(session, call) });
    }
    if let Some(immortal) = immortal(session) {
        return Err(immortal);
    }
    if explain(session, u64::MAX) {
        return Ok(());
    }
    // The first answer that nothing explains any more.
    let mut answers: Vec<(u64, usize)> = session.calls.iter().enumerate().filter_map(returned).collect();
    answers.sort_unstable();
    let guilty = answers.iter().find(|(until, _)| !explain(session, *until)).map_or(0, |&(_, call)| call);
    let call = &session.calls[guilty];
    let answer = call.answered.map(|(_, _, answer)| answer);
    let logged_out = session.calls.iter().any(|other| {
        other.what == What::Delete
            && other.answered.is_some_and(|(at, _, answer)| answer == Answer::Done && at < call.invoked)
    });
    let verdict = match answer {
        Some(Answer::Nothing | Answer::NotFound) => Verdict::Lost,
        Some(Answer::Found(_) | Answer::Live | Answer::Done | Answer::AlreadyThere) if logged_out => {
            Verdict::Resurrected
        }
        _ => Verdict::Wrong,
    };
    Err(Violation { verdict, text: tell(session, guilty) })
}

fn returned((call, asked): (usize, &super::history::Call)) -> Option<(u64, usize)> {
    asked.answered.map(|(at, ..)| (at, call))
}

/// A session that was seen after its absolute deadline, which counts from its creation.
fn immortal(session: &Session) -> Option<Violation> {
    let (_, absolute) = session.mortal?;
    let created = session.calls.iter().filter(|call| matches!(call.what, What::Create(_)));
    // A create may be executed late; and clocks differ.
    let slack = super::network::LATEST.as_millis() as u64 + 8_000;
    let last = created.map(|call| call.answered.map_or(call.asked, |(_, at, _)| at)).max()?;
    let dead = last + std::time::Duration::from_millis(absolute + slack);
    let seen = |answer| matches!(answer, Answer::Found(_) | Answer::Live);
    let (guilty, _) =
        session.calls.iter().enumerate().find(|(_, call)| {
            call.asked > dead && call.answered.is_some_and(|(_, _, answer)| seen(answer))
        })?;
    Some(Violation { verdict: Verdict::Immortal, text: tell(session, guilty) })
}

fn explain(session: &Session, until: u64) -> bool {
    let Some(events) = session.events(until) else { return false };
    let events = relevant(events);
    if events.len() > MOST {
        return true;
    }
    let born =
        session.calls.iter().filter(|call| matches!(call.what, What::Create(_))).map(|call| call.asked).min();
    let dies =
        session.mortal.and_then(|(idle, _)| Some(born? + std::time::Duration::from_millis(idle - 2_000)));
    let mut search = Search { events: &events, dies, tried: BTreeSet::new() };
    search.from(Set::default(), State::Vacant)
}

/// Without what may have happened and left no trace: a write over a live session whose value nobody saw.
fn relevant(mut events: Vec<Event>) -> Vec<Event> {
    loop {
        let seen: BTreeSet<Value> = events
            .iter()
            .filter_map(|event| match event.action {
                Action::See(Sight::Value(value)) | Action::Write { given: Sight::Value(value), .. } => {
                    Some(value)
                }
                _ => None,
            })
            .collect();
        let before = events.len();
        events.retain(|event| match event.action {
            Action::Write { given: Sight::Live | Sight::Value(_), value } if event.optional => {
                seen.contains(&value)
            }
            _ => true,
        });
        if events.len() == before {
            return events;
        }
    }
}

impl Search<'_> {
    fn from(&mut self, mut done: Set, state: State) -> bool {
        // What is seen now may as well be seen now: it changes nothing.
        loop {
            let bound = self.bound(&done);
            let Some(bound) = bound else { return true };
            let idle = (0..self.events.len()).find(|&i| {
                let event = &self.events[i];
                !done.has(i)
                    && event.invoked < bound
                    && !event.optional
                    && matches!(event.action, Action::See(sight) if sight.fits(state))
            });
            match idle {
                Some(i) => done = done.with(i),
                None => break,
            }
        }
        if !self.tried.insert((done, state)) {
            return false;
        }
        let Some(bound) = self.bound(&done) else { return true };
        for certain in [true, false] {
            for i in 0..self.events.len() {
                let event = &self.events[i];
                if done.has(i) || event.invoked >= bound || event.optional == certain {
                    continue;
                }
                let after = self.with_its_copy(done.with(i), i, state);
                for next in self.after(&done, state, event.action) {
                    if self.from(after, next) {
                        return true;
                    }
                }
            }
        }
        // It expired.
        let expires =
            |dies: Instant| self.events.iter().any(|e| !e.optional && e.returned >= bound && e.at >= dies);
        matches!(state, State::Live(_)) && self.dies.is_some_and(expires) && self.from(done, State::Vacant)
    }

    /// A log-out that found something left a tombstone, and a late copy of it changes nothing any more.
    fn with_its_copy(&self, done: Set, i: usize, found: State) -> Set {
        let (event, next) = (&self.events[i], self.events.get(i + 1));
        let is_copy =
            |copy: &Event| copy.optional && copy.invoked == event.invoked && copy.action == event.action;
        let found_something = matches!(event.action, Action::Delete { .. }) && found != State::Vacant;
        if found_something && next.is_some_and(is_copy) { done.with(i + 1) } else { done }
    }

    /// When the first of the answers came that are still to be explained.
    fn bound(&self, done: &Set) -> Option<u64> {
        let open = self.events.iter().enumerate().filter(|(i, event)| !event.optional && !done.has(*i));
        open.map(|(_, event)| event.returned).min()
    }

    fn after(&self, done: &Set, state: State, action: Action) -> Vec<State> {
        match action {
            Action::See(sight) => Vec::from_iter(sight.fits(state).then_some(state)),
            Action::Write { given, value } => Vec::from_iter(given.fits(state).then_some(State::Live(value))),
            Action::Delete { upsertable } => match state {
                State::Vacant if !upsertable => vec![State::Vacant],
                _ => vec![State::Tombstone],
            },
            Action::Lose { older: false } => vec![State::Vacant],
            Action::Lose { older: true } => {
                let earlier = self.events.iter().enumerate().filter(|(i, _)| done.has(*i));
                let earlier = earlier.filter_map(|(_, event)| match event.action {
                    Action::Write { value, .. } => Some(State::Live(value)),
                    Action::Delete { .. } => Some(State::Tombstone),
                    _ => None,
                });
                let states: BTreeSet<State> = earlier.chain([State::Vacant]).collect();
                states.into_iter().collect()
            }
        }
    }
}

fn tell(session: &Session, guilty: usize) -> String {
    let mut text = format!("session {} (memory lost {} times):\n", session.name, session.losses());
    let start = session.calls.first().map(|call| call.asked);
    let mut calls: Vec<_> = session.calls.iter().enumerate().collect();
    calls.sort_by_key(|(_, call)| call.invoked);
    for (i, call) in calls {
        let since = |at: Instant| start.map_or(0.0, |start| (at - start).as_secs_f64() * 1e3);
        let answer = match call.answered {
            Some((_, at, answer)) => format!("{:>9.1} {answer:?}", since(at)),
            None => "          no answer".into(),
        };
        let mark = if i == guilty { ">>" } else { "  " };
        let _ = writeln!(
            text,
            "{mark} {:>9.1} .. {answer:30} process {} {:?}",
            since(call.asked),
            call.process,
            call.what
        );
    }
    text
}
