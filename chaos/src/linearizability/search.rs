//! All states that the answers so far allow, carried from event to event.
//!
//! This is Wing and Gong's search with Lowe's two ideas, done breadth first: what was reached once (the state, and which of
//! the operations under way have taken place) is not searched again, and an operation is only made to take place when
//! its answer is there. Four things are decided without a choice, since the decision leaves open whatever the other
//! one would:
//!
//! - what only observes takes place as soon as it sees what it saw;
//! - a *patient* write (`Certain::is_patient`) takes place right before another write that needs no more than it, or at
//!   its return;
//! - log-outs without an answer are all alike, and so are such creates;
//! - values that nobody saw are all alike.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::{
    Loss, Memory, Policy, State,
    prepare::{Certain, Demand, Prepared, Step, UNSEEN, prepare},
};
use crate::history::{Nanos, Operation, Token};

/// More than this at once are not searched.
const MOST: usize = 200_000;
/// So many operations may be under way at once.
const SLOTS: usize = 128;

/// Why a search ended early.
#[derive(Debug)]
pub(super) enum Stuck {
    /// Nothing explains the answer to this operation of the history.
    At(usize),
    /// There are too many possibilities.
    TooMuch(String),
}

/// One way in which it may have gone so far, as far as the future depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration {
    state: State,
    /// The operations and losses under way that have taken place, by slot.
    done: u128,
    /// How many of the log-outs without an answer were needed.
    deletes: u16,
    /// How many of the creates without an answer were needed.
    creates: u16,
    /// It was live at some time; only where a loss may bring that back.
    has_lived: bool,
    /// It was deleted at some time; only where a loss may bring that back.
    has_died: bool,
}

/// The losses that a configuration needed.
type Used = Option<Rc<Needed>>;

#[derive(Debug)]
struct Needed {
    loss: usize,
    count: usize,
    before: Used,
}

fn count(used: &Used) -> usize {
    used.as_ref().map_or(0, |needed| needed.count)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Operation(usize),
    Loss(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Begins,
    Returns,
    Ends,
}

struct Search<'a> {
    prepared: &'a Prepared,
    losses: &'a [Loss],
    rolls_back: bool,
    policy: Policy,
    slots: Vec<Option<Item>>,
    configurations: HashMap<Configuration, Used>,
    /// How many log-outs and creates without an answer there are so far.
    deletes: u16,
    creates: u16,
    /// Certain operations that have returned.
    returned: Vec<bool>,
    now: Nanos,
}

/// Answers the losses that were needed, as few as can be.
pub(super) fn search(history: &[Operation], losses: &[Loss], policy: Policy) -> Result<Vec<usize>, Stuck> {
    let prepared = prepare(history).map_err(Stuck::TooMuch)?;
    let mut events = Vec::new();
    for (i, certain) in prepared.certain.iter().enumerate() {
        events.push((certain.invoked, Phase::Begins, Item::Operation(i)));
        // Also where it was seen before it was asked for: then it cannot be explained.
        events.push((certain.returned, Phase::Returns, Item::Operation(i)));
    }
    for (i, loss) in losses.iter().enumerate() {
        events.push((loss.from, Phase::Begins, Item::Loss(i)));
        events.push((loss.until, Phase::Ends, Item::Loss(i)));
    }
    events.sort_by_key(|&(at, phase, _)| (at, phase));
    let begin = Configuration {
        state: State::Absent,
        done: 0,
        deletes: 0,
        creates: 0,
        has_lived: false,
        has_died: false,
    };
    let mut search = Search {
        prepared: &prepared,
        losses,
        rolls_back: losses.iter().any(|loss| restores(loss, policy)),
        policy,
        slots: Vec::new(),
        configurations: HashMap::from([(begin, None)]),
        deletes: 0,
        creates: 0,
        returned: vec![false; prepared.certain.len()],
        now: 0,
    };
    for (at, phase, item) in events {
        search.now = at;
        let asked = |times: &[Nanos]| times.partition_point(|&time| time <= at).min(u16::MAX.into()) as u16;
        search.deletes = asked(&prepared.deletes);
        search.creates = asked(&prepared.creates);
        match phase {
            Phase::Begins => search.begins(item)?,
            Phase::Returns | Phase::Ends => search.ends(item)?,
        }
    }
    let best = search.configurations.into_values().min_by_key(count);
    let mut needed = best.flatten();
    let mut used = Vec::new();
    while let Some(one) = needed {
        used.push(one.loss);
        needed = one.before.clone();
    }
    used.reverse();
    Ok(used)
}

fn restores(loss: &Loss, policy: Policy) -> bool {
    policy == Policy::Trust && loss.memory == Memory::Old
}

impl Search<'_> {
    fn begins(&mut self, item: Item) -> Result<(), Stuck> {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free == SLOTS {
            return Err(Stuck::TooMuch(format!("more than {SLOTS} operations were under way at once")));
        }
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(item);
        if let Item::Operation(i) = item
            && matches!(self.prepared.certain[i].step, Step::Observe(_) | Step::Delete)
        {
            let before = std::mem::take(&mut self.configurations);
            for (configuration, used) in before {
                let settled = self.settled(configuration);
                self.add(settled, used);
            }
        }
        Ok(())
    }

    /// Makes `item` take place wherever it has not yet; a loss may also never have.
    fn ends(&mut self, item: Item) -> Result<(), Stuck> {
        let Some(slot) = self.slots.iter().position(|&slot| slot == Some(item)) else {
            // It was seen before it was asked for.
            return match item {
                Item::Operation(i) => Err(Stuck::At(self.prepared.certain[i].at)),
                Item::Loss(_) => Ok(()),
            };
        };
        let bit = 1 << slot;
        let optional = matches!(item, Item::Loss(_));
        let mut reached = HashMap::new();
        let mut seen = HashMap::new();
        let mut open: Vec<(Configuration, Used)> =
            std::mem::take(&mut self.configurations).into_iter().collect();
        if optional {
            reached.extend(open.iter().filter(|(one, _)| one.done & bit == 0).cloned());
        }
        while let Some((configuration, used)) = open.pop() {
            if configuration.done & bit != 0 {
                let without = Configuration { done: configuration.done & !bit, ..configuration };
                keep(&mut reached, without, used);
                continue;
            }
            self.successors(&configuration, &used, item, |next, used| {
                let better = seen.get(&next).is_none_or(|&known| count(&used) < known);
                if better {
                    seen.insert(next.clone(), count(&used));
                    open.push((next, used));
                }
            });
            if seen.len() + reached.len() > MOST {
                return Err(Stuck::TooMuch(format!("more than {MOST} possibilities at {} ns", self.now)));
            }
        }
        self.slots[slot] = None;
        self.configurations = reached;
        if let Item::Operation(i) = item {
            self.returned[i] = true;
            if self.configurations.is_empty() {
                return Err(Stuck::At(self.prepared.certain[i].at));
            }
        }
        Ok(())
    }

    /// All that may take place next. `ending` is about to return.
    fn successors(
        &self,
        from: &Configuration,
        used: &Used,
        ending: Item,
        mut found: impl FnMut(Configuration, Used),
    ) {
        let lives = matches!(from.state, State::Live(_));
        for (slot, item) in self.slots.iter().enumerate() {
            let bit = 1 << slot;
            let Some(item) = *item else { continue };
            if from.done & bit != 0 {
                continue;
            }
            match item {
                Item::Operation(i) => {
                    let certain = &self.prepared.certain[i];
                    match certain.step {
                        Step::Observe(_) => {}
                        Step::Write(demand, token) => {
                            if !demand.holds(from.state) || (certain.is_patient() && item != ending) {
                                continue;
                            }
                            let mut next = from.clone();
                            if demand == Demand::Live {
                                next.done |= self.patient();
                            }
                            next.done |= bit;
                            found(self.entering(next, State::Live(token)), used.clone());
                        }
                        Step::Delete => {
                            let mut next = from.clone();
                            next.done |= bit;
                            if lives {
                                next.done |= self.patient();
                                found(self.entering(next, State::Deleted), used.clone());
                            } else {
                                found(next, used.clone());
                            }
                        }
                    }
                }
                Item::Loss(i) => self.lose(from, used, i, bit, &mut found),
            }
        }
        if lives && from.deletes < self.deletes {
            let mut next = from.clone();
            next.deletes += 1;
            next.done |= self.patient();
            found(self.entering(next, State::Deleted), used.clone());
        }
        if from.state == State::Absent && from.creates < self.creates {
            let mut next = from.clone();
            next.creates += 1;
            found(self.entering(next, State::Live(UNSEEN)), used.clone());
        }
    }

    fn lose(
        &self,
        from: &Configuration,
        used: &Used,
        loss: usize,
        bit: u128,
        found: &mut impl FnMut(Configuration, Used),
    ) {
        let mut next = from.clone();
        next.done |= bit;
        if matches!(from.state, State::Live(_)) {
            next.done |= self.patient();
        }
        let used = Some(Rc::new(Needed { loss, count: count(used) + 1, before: used.clone() }));
        let mut after: HashSet<State> = HashSet::from([State::Absent]);
        if restores(&self.losses[loss], self.policy) {
            if from.has_died {
                after.insert(State::Deleted);
            }
            if from.has_lived {
                after.insert(State::Live(UNSEEN));
            }
            after.extend(self.earlier(from).map(State::Live));
        }
        for state in after {
            // Back to the same value is worth something to the writes that took place in between.
            if state != from.state || next.done != from.done | bit {
                found(self.entering(next.clone(), state), used.clone());
            }
        }
    }

    /// The values that were there at some time, and may be seen yet.
    fn earlier<'a>(&'a self, from: &'a Configuration) -> impl Iterator<Item = Token> + 'a {
        self.prepared.writer.iter().filter_map(move |(&token, &writer)| {
            let seen_later = self.prepared.seen_until.get(&token).is_some_and(|&last| last >= self.now);
            let done = || {
                self.slots
                    .iter()
                    .position(|&slot| slot == Some(Item::Operation(writer)))
                    .is_some_and(|slot| from.done & (1 << slot) != 0)
            };
            (seen_later && (self.returned[writer] || done())).then_some(token)
        })
    }

    /// The patient writes under way.
    fn patient(&self) -> u128 {
        let patient = |certain: &Certain| certain.is_patient();
        self.mask(|i| patient(&self.prepared.certain[i]))
    }

    fn mask(&self, wanted: impl Fn(usize) -> bool) -> u128 {
        let bits = self.slots.iter().enumerate().filter_map(|(slot, item)| match item {
            Some(Item::Operation(i)) if wanted(*i) => Some(1 << slot),
            _ => None,
        });
        bits.fold(0, |mask, bit: u128| mask | bit)
    }

    fn entering(&self, mut configuration: Configuration, state: State) -> Configuration {
        configuration.state = state;
        if self.rolls_back {
            configuration.has_lived |= matches!(state, State::Live(_));
            configuration.has_died |= state == State::Deleted;
        }
        self.settled(configuration)
    }

    /// Lets take place whatever sees now what it saw.
    fn settled(&self, mut configuration: Configuration) -> Configuration {
        let final_death = configuration.state == State::Deleted && self.losses.is_empty();
        configuration.done |= self.mask(|i| match self.prepared.certain[i].step {
            Step::Observe(demand) => demand.holds(configuration.state),
            Step::Delete => final_death,
            Step::Write(..) => false,
        });
        configuration
    }

    fn add(&mut self, configuration: Configuration, used: Used) {
        keep(&mut self.configurations, configuration, used);
    }
}

/// Keeps the way that needed the fewest losses.
fn keep(among: &mut HashMap<Configuration, Used>, configuration: Configuration, used: Used) {
    match among.entry(configuration) {
        std::collections::hash_map::Entry::Vacant(vacant) => {
            vacant.insert(used);
        }
        std::collections::hash_map::Entry::Occupied(mut occupied) => {
            if count(&used) < count(occupied.get()) {
                occupied.insert(used);
            }
        }
    }
}
