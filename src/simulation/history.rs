use std::collections::BTreeMap;

use tokio::time::Instant;

use super::oracle::{Action, Event, Sight};
use crate::{record::Key, ring::Token};

/// The unique number of a written value.
pub(super) type Value = u64;

/// What was asked of every session, and what was answered.
#[derive(Default)]
pub(super) struct History {
    sessions: Vec<Session>,
    keys: BTreeMap<Key, usize>,
    /// Counts whatever happens; so there is an order of all of it.
    clock: u64,
}

pub(super) struct Session {
    pub(super) name: String,
    token: Token,
    pub(super) calls: Vec<Call>,
    losses: Vec<(u64, Loss)>,
    /// A log-out leaves a tombstone even where nothing is.
    pub(super) upsertable: bool,
    /// The first call that found the session under an id that had been dead for long.
    pub(super) came_back: Option<usize>,
    /// In milliseconds, idle and absolute, where a session may expire during the simulation.
    pub(super) mortal: Option<(u64, u64)>,
}

/// What was asked of a session.
pub(super) struct Call {
    pub(super) process: u64,
    pub(super) what: What,
    pub(super) invoked: u64,
    pub(super) asked: Instant,
    /// Never, if nobody lived to hear an answer.
    pub(super) answered: Option<(u64, Instant, Answer)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Create(Value),
    Set(Value),
    Upsert(Value),
    /// What was seen last, and what was to take its place.
    Update(Option<(Value, Value)>),
    Touch,
    Delete,
    Get,
    Exists,
    /// Another id for the session.
    Rotate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Found(Value),
    /// To `exists`.
    Live,
    /// No session, whatever the reason.
    Nothing,
    NotFound,
    Deleted,
    AlreadyThere,
    /// It failed, and nothing was changed.
    Failed,
    /// It may have happened, or happen yet.
    Unknown,
}

/// What a node may have forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Everything,
    /// Everything since some moment.
    Older,
}

/// Names a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    session: usize,
    call: usize,
    pub(super) asked: Instant,
    pub(super) creates: bool,
    pub(super) deletes: bool,
}

impl History {
    pub(super) fn add_session(
        &mut self,
        key: Key,
        name: String,
        upsertable: bool,
        mortal: Option<(u64, u64)>,
    ) -> usize {
        let session = self.sessions.len();
        self.keys.insert(key, session);
        let (calls, losses, token) = (Vec::new(), Vec::new(), key.token());
        self.sessions.push(Session { name, token, calls, losses, upsertable, came_back: None, mortal });
        session
    }

    pub(super) fn session_of(&self, key: &Key) -> Option<usize> {
        self.keys.get(key).copied()
    }

    pub(super) fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = (usize, Token)> + '_ {
        self.sessions.iter().map(|session| session.token).enumerate()
    }

    pub(super) fn lost_something(&self, session: usize) -> bool {
        !self.sessions[session].losses.is_empty()
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Something may have been lost at any time from `since` on.
    pub(super) fn loss(&mut self, session: usize, since: u64, loss: Loss) {
        self.sessions[session].losses.push((since, loss));
    }

    pub(super) fn invoke(&mut self, process: u64, session: usize, what: What) -> Ticket {
        let (invoked, asked) = (self.tick(), Instant::now());
        let calls = &mut self.sessions[session].calls;
        calls.push(Call { process, what, invoked, asked, answered: None });
        let (creates, deletes) = (matches!(what, What::Create(_)), what == What::Delete);
        Ticket { session, call: calls.len() - 1, asked, creates, deletes }
    }

    /// An update is about to try this.
    pub(super) fn attempt(&mut self, ticket: Ticket, seen: Value, next: Value) {
        self.sessions[ticket.session].calls[ticket.call].what = What::Update(Some((seen, next)));
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let now = self.tick();
        let call = &mut self.sessions[ticket.session].calls[ticket.call];
        call.answered = Some((now, Instant::now(), answer));
    }

    /// The session was found under an id that had been dead for long.
    pub(super) fn came_back(&mut self, ticket: Ticket) {
        self.sessions[ticket.session].came_back.get_or_insert(ticket.call);
    }

    pub(super) fn calls(&self) -> usize {
        self.sessions.iter().map(|session| session.calls.len()).sum()
    }
}

impl Session {
    /// What a node forgets it may forget of one id and not of another, and an id that is forgotten may be created anew: then its
    /// ids are no longer names of one session, and no register.
    pub(super) fn split(&self) -> bool {
        let rotated = self.calls.iter().any(|call| call.what == What::Rotate);
        rotated && !self.losses.is_empty()
    }

    pub(super) fn losses(&self) -> usize {
        self.losses.len()
    }

    /// What the oracle is to explain; of the answers up to `until`, and of what had been asked by then. `None` for an
    /// answer that cannot be to this question.
    pub(super) fn events(&self, until: u64) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        for call in &self.calls {
            if call.invoked > until {
                continue;
            }
            let (returned, answer) = match call.answered {
                Some((returned, _, answer)) if returned <= until => (returned, answer),
                _ => (u64::MAX, Answer::Unknown),
            };
            if let Some(action) = action(call.what, answer, self.upsertable)? {
                let optional = answer == Answer::Unknown;
                let returned = if optional { u64::MAX } else { returned };
                let at = call.answered.map_or(call.asked, |(_, at, _)| at);
                events.push(Event { invoked: call.invoked, returned, optional, action, at });
                // A log-out is sent again if no answer comes. Where nothing was, it leaves nothing, and its first copy may
                // come late and end what was created under this id after all. The copy comes right behind its original.
                if matches!(action, Action::Delete { upsertable: false }) && !optional {
                    let (invoked, returned) = (call.invoked, u64::MAX);
                    events.push(Event { invoked, returned, optional: true, action, at });
                }
            }
        }
        for &(invoked, loss) in self.losses.iter().filter(|(at, _)| *at <= until) {
            let action = Action::Lose { older: loss == Loss::Older };
            let at = Instant::now();
            events.push(Event { invoked, returned: u64::MAX, optional: true, action, at });
        }
        events.sort_by_key(|event| event.invoked);
        Some(events)
    }
}

/// What an answer says of the state of the session; nothing, if nothing was done or seen.
fn action(what: What, answer: Answer, upsertable: bool) -> Option<Option<Action>> {
    use Answer::{AlreadyThere, Deleted, Done, Failed, Found, Live, NotFound, Nothing, Unknown};
    let write = |given, value| Action::Write { given, value };
    Some(Some(match (what, answer) {
        (What::Get | What::Exists | What::Touch | What::Rotate, Unknown) | (_, Failed) => return Some(None),
        (What::Create(value), Done | Unknown) => write(Sight::Vacant, value),
        (What::Create(_), AlreadyThere) => Action::See(Sight::Live),
        (What::Set(value), Done | Unknown) => write(Sight::Live, value),
        (What::Upsert(value), Done | Unknown) => write(Sight::NoTombstone, value),
        (What::Update(Some((seen, next))), Done | Unknown) => write(Sight::Value(seen), next),
        (What::Update(None), Unknown) => return Some(None),
        (What::Touch | What::Rotate, Done) | (What::Exists, Live) => Action::See(Sight::Live),
        (What::Delete, Done | Unknown) => Action::Delete { upsertable },
        (What::Get, Found(value)) => Action::See(Sight::Value(value)),
        (What::Get | What::Exists, Nothing) => Action::See(Sight::Nothing),
        (What::Set(_) | What::Update(_) | What::Touch | What::Rotate, NotFound) => Action::See(Sight::Vacant),
        (
            What::Create(_) | What::Set(_) | What::Upsert(_) | What::Update(_) | What::Touch | What::Rotate,
            Deleted,
        ) => Action::See(Sight::Tombstone),
        _ => return None,
    }))
}
