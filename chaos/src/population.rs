//! Which sessions there are, and what is done to them: a function of the seed and of the time.
//!
//! A few sessions live as long as the run. The others take turns: each is in use for a while, a crowd works on every
//! eighth of them, and most are logged out towards the end. Now and then somebody comes back to an old one.

use sessionring::SessionId;

use crate::{
    history::{Action, Nanos, Token},
    random::Random,
};

/// Sessions that live as long as the run.
const LASTING: u64 = 12;
/// Of those, the ones that nobody logs out.
const NEVER_DELETED: u64 = 6;
/// A new session comes this often.
const STEP: Nanos = 25_000_000;
/// For so long it is in use.
const LIFE: Nanos = 2_500_000_000;
/// One in so many sessions has a crowd.
const CROWDED: u64 = 8;
/// For so long everybody looks at one session: what happens between two copies of one request is somebody else's work
/// only if there is enough of it.
const FOCUS: Nanos = 250_000_000;

/// The sessions of one run.
#[derive(Debug, Clone)]
pub struct Population {
    seed: u64,
    begin: Nanos,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// One operation on one session.
    One(usize, Action),
    /// Reads several sessions at once.
    ReadMany([usize; 4]),
}

impl Population {
    /// The sessions of the run of this seed that begins then.
    pub fn new(seed: u64, begin: Nanos) -> Population {
        Population { seed, begin }
    }

    /// The id of a session.
    pub fn id(&self, session: usize) -> SessionId {
        let mut random = Random::fork(self.seed ^ 0x5E55_1011, session as u64);
        let mut bytes = [0; 24];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_be_bytes());
        }
        SessionId::from_bytes(bytes)
    }

    /// How many sessions have come by then.
    pub fn size(&self, at: Nanos) -> usize {
        (LASTING + at.saturating_sub(self.begin) / STEP + 1) as usize
    }

    /// The sessions that are in use at this time.
    pub fn in_use(&self, at: Nanos) -> Vec<usize> {
        let newest = at.saturating_sub(self.begin) / STEP;
        let oldest = newest.saturating_sub(LIFE / STEP);
        (0..LASTING).chain(LASTING + oldest..=LASTING + newest).map(|session| session as usize).collect()
    }

    /// What a client does at this time; `token` is the value that it may write.
    pub fn deed(&self, random: &mut Random, at: Nanos, token: Token) -> Deed {
        let session = self.session(random, at);
        if random.chance(30) {
            let mut some = || self.session(random, at) as usize;
            return Deed::ReadMany([session as usize, some(), some(), some()]);
        }
        let (age, delete) = match session {
            0..NEVER_DELETED => (at.saturating_sub(self.begin), 0),
            NEVER_DELETED..LASTING => (at.saturating_sub(self.begin), 1),
            _ => {
                let born = self.begin + (session - LASTING) * STEP;
                let age = at.saturating_sub(born);
                (age, if age > LIFE / 2 { 60 } else { 5 })
            }
        };
        let create = if age < LIFE / 16 { 400 } else { 25 };
        let action = match random.below(1000) {
            n if n < delete => Action::Delete,
            n if n < delete + create => Action::Create(token),
            _ => match random.below(100) {
                0..38 => Action::Get,
                38..42 => Action::Exists,
                42..60 => Action::Set(token),
                60..90 => Action::Update(token),
                _ => Action::Touch,
            },
        };
        Deed::One(session as usize, action)
    }

    fn session(&self, random: &mut Random, at: Nanos) -> u64 {
        let newest = at.saturating_sub(self.begin) / STEP;
        let oldest = newest.saturating_sub(LIFE / STEP);
        LASTING
            + match random.below(100) {
                0..15 => return random.below(LASTING),
                15..18 => random.below(newest + 1),
                18..45 => {
                    let begin = at.saturating_sub(self.begin) / FOCUS * FOCUS;
                    let (newest, oldest) = (begin / STEP, begin.saturating_sub(LIFE) / STEP);
                    Random::fork(self.seed ^ 0xF0C5, begin).between(oldest, newest)
                }
                45..65 => {
                    let crowded = random.between(oldest, newest) / CROWDED * CROWDED;
                    if crowded < oldest { newest } else { crowded }
                }
                _ => random.between(oldest, newest),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeds_are_a_function_of_seed_and_time() {
        let population = Population::new(3, 1000);
        let deeds = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|i| population.deed(&mut random, i * 7_000_000, i)).collect::<Vec<_>>()
        };
        assert_eq!(deeds(1), deeds(1));
        assert_ne!(deeds(1), deeds(2));
        assert_eq!(population.id(5), Population::new(3, 2000).id(5));
        assert_ne!(population.id(5), population.id(6));
    }

    #[test]
    fn only_sessions_that_have_come_are_used_and_some_are_crowded() {
        let population = Population::new(3, 0);
        let mut random = Random::new(1);
        let mut uses = vec![0; 2000];
        for i in 0..20_000 {
            let at = i * 1_000_000;
            match population.deed(&mut random, at, 1) {
                Deed::One(session, _) => {
                    assert!(session < population.size(at));
                    uses[session] += 1;
                }
                Deed::ReadMany(sessions) => assert!(sessions.iter().all(|&one| one < population.size(at))),
            }
        }
        let turns = uses[LASTING as usize..].chunks_exact(CROWDED as usize).take(80);
        let (crowded, quiet) =
            turns.fold((0, 0), |(crowded, quiet), turn| (crowded + turn[0], quiet + turn[1]));
        assert!(crowded > 2 * quiet && quiet > 800, "{crowded} and {quiet}");
        assert!(
            uses.iter().skip(LASTING as usize).any(|&uses| uses > 50),
            "nobody looks at one session together"
        );
    }
}
