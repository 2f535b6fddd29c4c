//! The checker itself: what it must refuse, what it must accept, and that its short cuts lead where the long way does.

mod notation;

use chaos::{
    history::{Action, Answer, Operation, Reason},
    linearizability::{Loss, Memory, Policy, Verdict, check},
    random::Random,
};
use notation::history;
use proptest::prelude::*;

/// Histories that no session could have, without any loss of memory.
const BAD: &[(&str, &str)] = &[
    ("read after an acknowledged delete", "0-1 create 1: ok / 2-3 delete: ok / 4-5 get: 1"),
    (
        "read after a delete that another read has seen",
        "0-1 create 1: ok / 2-? delete: ? / 3-4 get: none / 5-6 get: 1",
    ),
    ("lost update", "0-1 create 1: ok / 2-5 update 2: ok 1 / 3-6 update 3: ok 1"),
    ("update that a later set did not see", "0-1 create 1: ok / 2-3 set 2: ok / 4-5 update 3: ok 1"),
    ("stale read", "0-1 create 1: ok / 2-3 set 2: ok / 4-5 get: 1"),
    ("two reads in the wrong order", "0-1 create 1: ok / 2-9 set 2: ok / 3-4 get: 2 / 5-6 get: 1"),
    ("resurrected by a late set", "0-1 create 1: ok / 2-? set 2: ? / 3-4 delete: ok / 5-6 get: 2"),
    ("resurrected by a late create", "0-? create 1: ? / 1-2 create 2: deleted / 3-4 get: 1"),
    ("resurrected by a late update", "0-1 create 1: ok / 2-? update 2: ? / 3-4 delete: ok / 5-6 touch: ok"),
    ("value from the future", "0-1 create 1: ok / 2-3 get: 2 / 4-5 set 2: ok"),
    ("value from nowhere", "0-1 create 1: ok / 2-3 get: 7"),
    ("value of a refused set", "0-1 create 1: ok / 2-3 set 2: refused / 4-5 get: 2"),
    ("value of a set that found nothing", "0-1 set 1: absent / 2-3 create 2: ok / 4-5 get: 1"),
    ("two creates succeed", "0-1 create 1: ok / 2-3 create 2: ok"),
    ("two creates at once succeed", "0-5 create 1: ok / 1-6 create 2: ok"),
    ("create after delete succeeds", "0-1 create 1: ok / 2-3 delete: ok / 4-5 create 2: ok"),
    ("set after delete succeeds", "0-1 create 1: ok / 2-3 delete: ok / 4-5 set 2: ok"),
    ("update after delete succeeds", "0-1 create 1: ok / 2-3 delete: ok / 4-5 update 2: ok 1"),
    ("touch of a deleted session succeeds", "0-1 create 1: ok / 2-3 delete: ok / 4-5 touch: ok"),
    ("deleted session is there", "0-1 create 1: ok / 2-3 delete: ok / 4-5 exists: true"),
    (
        "deleted session is not found instead of deleted",
        "0-1 create 1: ok / 2-3 delete: ok / 4-5 set 2: absent",
    ),
    ("acknowledged create is lost", "0-1 create 1: ok / 2-3 get: none"),
    ("acknowledged create is not found by a touch", "0-1 create 1: ok / 2-3 touch: absent"),
    ("acknowledged set is lost", "0-1 create 1: ok / 2-3 set 2: ok / 4-5 get: 2 / 6-7 get: 1"),
    ("set without a session succeeds", "0-1 set 1: ok"),
    ("session of nobody", "0-1 exists: true"),
    ("create finds one that nobody made", "0-1 create 1: exists"),
    ("version written twice", "0-1 create 1: ok / 2-3 set 2: ok / 4-5 set 3: ok / 6-7 get: 2"),
    (
        "value comes back after another was seen",
        "0-1 create 1: ok / 2-? set 2: ? / 3-? set 3: ? / 4-5 get: 2 / 6-7 get: 3 / 8-9 get: 2",
    ),
    ("deleted by nobody", "0-1 create 1: ok / 2-3 touch: deleted"),
    ("deleted before the log-out was asked for", "0-1 create 1: ok / 2-3 touch: deleted / 4-5 delete: ok"),
    (
        "lives on after the log-out that a touch has seen",
        "0-1 create 1: ok / 2-9 delete: ok / 3-4 touch: deleted / 5-6 get: 1",
    ),
    (
        "unseen set hides what is seen afterwards",
        "0-1 create 1: ok / 2-9 set 2: ok / 3-10 set 3: ok / 11-12 get: 1",
    ),
    (
        "chain of updates with a set squeezed in",
        "0-1 create 1: ok / 2-9 update 2: ok 1 / 3-8 set 3: ok / 10-11 get: 2",
    ),
    (
        "unseen set squeezed in before an update of something else",
        "0-1 create 1: ok / 2-9 update 2: ok 1 / 3-8 update 3: ok 2 / 3-8 set 4: ok / 10-11 get: 3",
    ),
];

/// Histories that a session may have.
const GOOD: &[(&str, &str)] = &[
    ("nothing", ""),
    (
        "one after the other",
        "0-1 create 1: ok / 2-3 get: 1 / 4-5 set 2: ok / 6-7 get: 2 / 8-9 delete: ok / 10-11 get: none",
    ),
    ("read during a set sees the old value", "0-1 create 1: ok / 2-5 set 2: ok / 3-4 get: 1"),
    ("read during a set sees the new value", "0-1 create 1: ok / 2-5 set 2: ok / 3-4 get: 2"),
    (
        "reads before and after the moment of a set",
        "0-1 create 1: ok / 2-9 set 2: ok / 3-4 get: 1 / 5-6 get: 2 / 7-8 get: 2",
    ),
    ("create twice, once refused", "0-5 create 1: exists / 1-6 create 2: ok / 7-8 get: 2"),
    (
        "updates one upon the other",
        "0-1 create 1: ok / 2-9 update 2: ok 1 / 2-9 update 3: ok 2 / 2-9 update 4: ok 3 / 10-11 get: 4",
    ),
    ("late set happens", "0-1 create 1: ok / 2-? set 2: ? / 3-4 get: 1 / 5-6 get: 2"),
    (
        "late set never happens",
        "0-1 create 1: ok / 2-? set 2: ? / 3-4 get: 1 / 5-6 delete: ok / 7-8 get: none",
    ),
    (
        "late set happens after another one",
        "0-1 create 1: ok / 2-? set 2: ? / 3-4 set 3: ok / 5-6 get: 3 / 7-8 get: 2",
    ),
    ("late create happens", "0-? create 1: ? / 1-2 get: none / 3-4 touch: ok / 5-6 exists: true"),
    ("late create is refused by another one", "0-? create 1: ? / 1-2 create 2: ok / 3-4 get: 2"),
    (
        "late delete happens",
        "0-1 create 1: ok / 2-? delete: ? / 3-4 get: 1 / 5-6 get: none / 7-8 set 2: deleted",
    ),
    (
        "killed client's update seen by the next",
        "0-1 create 1: ok / 2-? update 2: ? / 3-4 update 3: ok 2 / 5-6 get: 3",
    ),
    ("delete of nothing changes nothing", "0-1 delete: ok / 2-3 create 1: ok / 4-5 get: 1"),
    (
        "delete of nothing and a create at once",
        "0-9 delete: ok / 1-8 create 1: ok / 2-7 get: 1 / 10-11 get: none",
    ),
    (
        "two deletes",
        "0-1 create 1: ok / 2-5 delete: ok / 3-6 delete: ok / 7-8 delete: ok / 9-10 create 2: deleted",
    ),
    (
        "set during a delete",
        "0-1 create 1: ok / 2-9 delete: ok / 3-8 set 2: ok / 4-7 set 3: deleted / 10-11 get: none",
    ),
    ("full node refuses", "0-1 create 1: ok / 2-3 set 2: refused / 4-5 get: 1 / 6-7 delete: ok"),
    (
        "sets at once, the last one seen",
        "0-1 create 1: ok / 2-9 set 2: ok / 2-9 set 3: ok / 2-9 set 4: ok / 10-11 get: 3",
    ),
    ("session that never was", "0-1 get: none / 2-3 touch: absent / 4-5 set 1: absent / 6-7 exists: false"),
    ("touch while it lives", "0-9 create 1: ok / 1-8 touch: ok / 2-7 get: none / 3-6 touch: absent"),
    (
        "unseen sets fit before a seen one",
        "0-1 create 1: ok / 2-9 set 2: ok / 2-9 set 3: ok / 4-10 set 4: ok / 11-12 get: 4",
    ),
    (
        "unseen set fits before the log-out",
        "0-1 create 1: ok / 2-9 set 2: ok / 3-4 delete: ok / 5-6 get: none",
    ),
    ("answer at the moment of the next call", "0-1 create 1: ok / 1-2 set 2: ok / 2-3 get: 1"),
];

fn verdict(text: &str, losses: &[Loss], policy: Policy) -> Verdict {
    check(&history(text), losses, policy)
}

#[test]
fn bad_histories_are_refused() {
    for (name, text) in BAD {
        let verdict = verdict(text, &[], Policy::Trust);
        assert!(matches!(verdict, Verdict::Violation(_)), "{name}: {verdict:?}");
    }
}

#[test]
fn good_histories_are_accepted() {
    for (name, text) in GOOD {
        let verdict = verdict(text, &[], Policy::Strict);
        assert!(matches!(verdict, Verdict::Linearizable), "{name}: {verdict:?}");
    }
}

/// What only a loss of memory explains: the history, the losses that it needs under `Trust` and under `Strict`.
#[test]
fn losses_explain_what_they_can_and_no_more() {
    let empty = [Loss::new(20, 30, Memory::Empty)];
    let old = [Loss::new(20, 30, Memory::Old)];
    let cases: [(&str, &str, &[Loss], bool, bool); 15] = [
        (
            "unseen set, then back before it",
            "0-1 create 1: ok / 15-35 set 2: ok / 40-41 get: 1",
            &old,
            true,
            false,
        ),
        ("session gone", "0-1 create 1: ok / 40-41 get: none", &empty, true, true),
        ("session gone before the loss", "0-1 create 1: ok / 10-11 get: none", &empty, false, false),
        (
            "gone, and there again after the loss",
            "0-1 create 1: ok / 40-41 get: none / 50-51 get: 1",
            &empty,
            false,
            false,
        ),
        ("created anew", "0-1 create 1: ok / 40-41 create 2: ok / 50-51 get: 2", &empty, true, true),
        (
            "created anew after a log-out",
            "0-1 create 1: ok / 2-3 delete: ok / 40-41 create 2: ok",
            &empty,
            true,
            true,
        ),
        (
            "resurrected from nothing",
            "0-1 create 1: ok / 2-3 delete: ok / 40-41 get: 1",
            &empty,
            false,
            false,
        ),
        ("older value from nothing", "0-1 create 1: ok / 2-3 set 2: ok / 40-41 get: 1", &empty, false, false),
        ("resurrected by an old dump", "0-1 create 1: ok / 2-3 delete: ok / 40-41 get: 1", &old, true, false),
        ("older value by an old dump", "0-1 create 1: ok / 2-3 set 2: ok / 40-41 get: 1", &old, true, false),
        (
            "older value, then it lives on",
            "0-1 create 1: ok / 2-3 set 2: ok / 40-41 get: 1 / 50-51 update 3: ok 1",
            &old,
            true,
            false,
        ),
        ("a value that never was", "0-1 create 1: ok / 40-41 get: 2 / 50-51 set 2: ok", &old, false, false),
        (
            "live without a value that was seen",
            "0-1 create 1: ok / 2-3 delete: ok / 40-41 touch: ok",
            &old,
            true,
            false,
        ),
        ("deleted before it ever was", "0-1 create 1: ok / 40-41 touch: deleted", &old, false, false),
        (
            "loss during an update",
            "0-1 create 1: ok / 15-45 update 2: ok 1 / 50-51 get: none",
            &empty,
            true,
            true,
        ),
    ];
    for (name, text, losses, trust, strict) in cases {
        for (policy, explained) in [(Policy::Trust, trust), (Policy::Strict, strict)] {
            let verdict = verdict(text, losses, policy);
            let fits = match &verdict {
                Verdict::WithLosses(used) => explained && used == &[0],
                Verdict::Violation(_) => !explained,
                _ => false,
            };
            assert!(fits, "{name}, {policy:?}: {verdict:?}");
        }
    }
}

#[test]
fn no_more_losses_are_used_than_needed() {
    let losses = [10, 20, 30].map(|at| Loss::new(at, at + 5, Memory::Empty));
    let text = "0-1 create 1: ok / 17-18 get: 1 / 40-41 get: none / 50-51 get: none";
    let Verdict::WithLosses(used) = verdict(text, &losses, Policy::Strict) else { panic!("not explained") };
    assert_eq!(used.len(), 1);
    let text = "0-1 create 1: ok / 17-18 create 2: ok / 27-28 create 3: ok / 37-38 get: 3";
    let Verdict::WithLosses(used) = verdict(text, &losses, Policy::Strict) else { panic!("not explained") };
    assert_eq!(used, [0, 1]);
}

#[test]
fn a_witness_is_small_and_says_why() {
    let mut text = String::from("0-1 create 1: ok");
    for i in 1..100 {
        text += &format!(
            " / {}-{} set {}: ok / {}-{} get: {}",
            10 * i,
            10 * i + 1,
            i + 1,
            10 * i + 2,
            10 * i + 3,
            i + 1
        );
    }
    text += " / 2000-2001 delete: ok / 2002-2003 touch: deleted / 2004-2005 get: 100 / 2006-2007 get: none";
    let Verdict::Violation(witness) = verdict(&text, &[], Policy::Trust) else { panic!("accepted") };
    assert!(witness.core.len() <= 5, "{witness}");
    let shown = witness.to_string();
    assert!(shown.contains("Found(Some(100))") && shown.contains("Set(100)"), "{shown}");
}

#[test]
fn a_value_written_twice_is_no_history() {
    assert!(matches!(verdict("0-1 create 1: ok / 2-3 set 1: ok", &[], Policy::Trust), Verdict::Undecided(_)));
}

/// A session that clients really work on: each operation takes place at one moment between call and answer.
struct Execution {
    random: Random,
    history: Vec<Operation>,
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Absent,
    Live(u64),
    Deleted,
}

impl Execution {
    /// `count` operations of `clients`; so many in a thousand lose their answer, and happen late, or never.
    fn run(seed: u64, clients: u32, count: usize, lost: u64) -> Vec<Operation> {
        let mut this = Execution { random: Random::new(seed), history: Vec::new() };
        // When, and the operation's place in the history.
        let mut moments: Vec<(u64, usize)> = Vec::new();
        let mut free = vec![0; clients as usize];
        for i in 0..count {
            let client = this.random.below(clients.into()) as usize;
            let invoked = free[client] + this.random.below(20);
            let returned = invoked + 1 + this.random.below(60);
            free[client] = returned + 1;
            let token = i as u64 + 1;
            let action = match this.random.below(20) {
                0..3 => Action::Create(token),
                3..9 => Action::Get,
                9 => Action::Exists,
                10..13 => Action::Set(token),
                13..18 => Action::Update(token),
                18 => Action::Touch,
                _ if this.random.chance(300) => Action::Delete,
                _ => Action::Get,
            };
            let is_lost = this.random.chance(lost);
            let moment = match is_lost {
                true if this.random.chance(500) => None,
                true => Some(invoked + this.random.below(400)),
                false => Some(this.random.between(invoked, returned)),
            };
            moments.extend(moment.map(|moment| (moment, i)));
            let (answer, returned) = match is_lost {
                true if this.random.chance(500) => (Answer::Indeterminate, None),
                true => (Answer::Indeterminate, Some(returned)),
                // Put in when it takes place.
                false => (Answer::Done, Some(returned)),
            };
            this.history.push(Operation::new(client as u32, action, invoked, answer, returned));
        }
        this.answer(moments)
    }

    /// The same operations, taking place at other moments.
    fn again(history: Vec<Operation>, seed: u64) -> Vec<Operation> {
        let mut this = Execution { random: Random::new(seed), history };
        let mut moments = Vec::new();
        for (i, one) in this.history.iter().enumerate() {
            let last = one.returned.unwrap_or(one.invoked + 100);
            if one.answer != Answer::Indeterminate || this.random.chance(700) {
                moments.push((this.random.between(one.invoked, last), i));
            }
        }
        this.answer(moments)
    }

    fn answer(mut self, mut moments: Vec<(u64, usize)>) -> Vec<Operation> {
        moments.sort_by_key(|&(moment, _)| moment);
        let mut cell = Cell::Absent;
        for (_, i) in moments {
            let (next, answer) = execute(cell, self.history[i].action);
            cell = next;
            if self.history[i].answer != Answer::Indeterminate {
                self.history[i].answer = answer;
            }
        }
        self.history
    }
}

fn execute(cell: Cell, action: Action) -> (Cell, Answer) {
    match (action, cell) {
        (Action::Create(token), Cell::Absent) => (Cell::Live(token), Answer::Done),
        (Action::Create(_), Cell::Live(_)) => (cell, Answer::AlreadyThere),
        (Action::Get, Cell::Live(token)) => (cell, Answer::Found(Some(token))),
        (Action::Get, _) => (cell, Answer::Found(None)),
        (Action::Exists, _) => (cell, Answer::There(matches!(cell, Cell::Live(_)))),
        (Action::Set(token), Cell::Live(_)) => (Cell::Live(token), Answer::Done),
        (Action::Update(token), Cell::Live(before)) => (Cell::Live(token), Answer::Updated(before)),
        (Action::Touch, Cell::Live(_)) => (cell, Answer::Done),
        (Action::Delete, Cell::Live(_)) => (Cell::Deleted, Answer::Done),
        (Action::Delete, _) => (cell, Answer::Done),
        (_, Cell::Deleted) => (cell, Answer::Deleted),
        (_, Cell::Absent) => (cell, Answer::NotFound),
        (action, _) => unreachable!("{action:?}"),
    }
}

/// Another answer of the same shape, which is hardly ever right.
fn mutate(history: &mut [Operation], random: &mut Random) -> bool {
    let certain: Vec<usize> =
        (0..history.len()).filter(|&i| history[i].answer != Answer::Indeterminate).collect();
    let Some(&at) = random.pick(&certain) else { return false };
    let other = 1 + random.below(history.len() as u64);
    let before = history[at].answer;
    history[at].answer = match before {
        Answer::Found(Some(_)) if random.chance(300) => Answer::Found(None),
        Answer::Found(_) => Answer::Found(Some(other)),
        Answer::There(there) => Answer::There(!there),
        Answer::Updated(_) => Answer::Updated(other),
        Answer::Done if history[at].action == Action::Delete => Answer::Refused(Reason::Unavailable),
        Answer::Done => Answer::Deleted,
        Answer::NotFound | Answer::Deleted if !matches!(history[at].action, Action::Update(_)) => {
            Answer::Done
        }
        Answer::NotFound => Answer::Deleted,
        Answer::Deleted => Answer::NotFound,
        _ => Answer::Done,
    };
    history[at].answer != before
}

proptest! {
    #![proptest_config(ProptestConfig { source_file: Some(file!()), ..ProptestConfig::default() })]

    #[test]
    fn what_really_happened_is_accepted(seed: u64, clients in 1_u32..12, count in 1_usize..300, lost in 0_u64..300) {
        let history = Execution::run(seed, clients, count, lost);
        let verdict = check(&history, &[], Policy::Trust);
        prop_assert!(matches!(verdict, Verdict::Linearizable), "{verdict:?}");
    }

    #[test]
    fn short_cuts_lead_where_the_long_way_does(seed: u64, count in 1_usize..7, losses in 0_usize..3) {
        let mut random = Random::new(seed);
        // Half of them what really happened, then with lies in them.
        let mut history = Execution::run(random.next(), 3, count, 250);
        if random.chance(500) {
            // Enough life for the rest to happen to something.
            for (i, one) in history.iter_mut().enumerate() {
                one.action = if i == 0 { Action::Create(1) } else { one.action };
            }
            history = Execution::again(history, random.next());
        }
        // Then at other times.
        for one in &mut history {
            if random.chance(200) {
                one.invoked = one.invoked.saturating_sub(random.below(40));
                one.returned = one.returned.map(|returned| returned + random.below(40));
            } else if random.chance(100) {
                one.returned = one.returned.map(|returned| (returned - random.below(40).min(returned)).max(one.invoked + 1));
            }
        }
        for _ in 0..random.below(3) {
            mutate(&mut history, &mut random);
        }
        let losses: Vec<Loss> = (0..losses).map(|_| {
            let from = random.below(150);
            let memory = if random.chance(500) { Memory::Old } else { Memory::Empty };
            Loss::new(from, from + random.below(40), memory)
        }).collect();
        for policy in [Policy::Trust, Policy::Strict] {
            let long = long_way(&history, &losses, policy);
            let short = match check(&history, &losses, policy) {
                Verdict::Linearizable => Some(0),
                Verdict::WithLosses(used) => Some(used.len()),
                Verdict::Violation(_) => None,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(long, short, "{:?} {:?} {:?}", policy, losses, history);
        }
    }
}

/// Lies are found, most of the time: some of them could as well be true.
#[test]
fn most_lies_are_found() {
    let (mut told, mut found) = (0, 0);
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut history = Execution::run(seed, 4, 60, 100);
        // What comes after the log-out is all alike.
        if mutate(&mut history, &mut random) {
            told += 1;
            found += usize::from(!check(&history, &[], Policy::Trust).is_fine());
        }
    }
    println!("{found} of {told} lies found");
    assert!(told > 300 && found * 10 > told * 8, "only {found} of {told} lies were found");
}

/// Tries every order of everything. Answers how many losses were needed at least.
fn long_way(history: &[Operation], losses: &[Loss], policy: Policy) -> Option<usize> {
    let mut way = LongWay { history, losses, policy, best: None };
    way.step(
        Cell::Absent,
        &mut vec![Cell::Absent],
        &mut vec![false; history.len()],
        &mut vec![false; losses.len()],
    );
    way.best
}

struct LongWay<'a> {
    history: &'a [Operation],
    losses: &'a [Loss],
    policy: Policy,
    best: Option<usize>,
}

impl LongWay<'_> {
    fn step(&mut self, cell: Cell, held: &mut Vec<Cell>, done: &mut Vec<bool>, lost: &mut Vec<bool>) {
        let needed = |i: usize| !matches!(self.history[i].answer, Answer::Indeterminate | Answer::Refused(_));
        let count = lost.iter().filter(|&&lost| lost).count();
        if (0..done.len()).all(|i| done[i] || !needed(i)) {
            self.best = Some(self.best.map_or(count, |best: usize| best.min(count)));
            return;
        }
        if self.best.is_some_and(|best| count >= best) {
            return;
        }
        // Nothing may come after something that must have ended before it.
        let end = (0..done.len()).filter(|&i| !done[i] && needed(i)).map(|i| self.history[i].ended()).min();
        let end = end.unwrap_or(u64::MAX);
        let begun = (0..done.len()).filter(|&i| done[i]).map(|i| self.history[i].invoked).max().unwrap_or(0);
        let begun =
            (0..lost.len()).filter(|&i| lost[i]).map(|i| self.losses[i].from).max().unwrap_or(0).max(begun);
        for i in 0..done.len() {
            let Operation { action, answer, invoked, .. } = self.history[i];
            if done[i] || invoked > end || matches!(answer, Answer::Refused(_)) {
                continue;
            }
            if needed(i) && self.history[i].ended() < begun {
                continue;
            }
            let (next, said) = execute(cell, action);
            if answer == said || answer == Answer::Indeterminate {
                done[i] = true;
                held.push(next);
                self.step(next, held, done, lost);
                held.pop();
                done[i] = false;
            }
        }
        for i in 0..lost.len() {
            let Loss { from, until, memory, .. } = self.losses[i];
            if lost[i] || from > end || until < begun {
                continue;
            }
            let mut after = vec![Cell::Absent];
            if self.policy == Policy::Trust && memory == Memory::Old {
                after.extend(held.clone());
            }
            lost[i] = true;
            for next in after {
                held.push(next);
                self.step(next, held, done, lost);
                held.pop();
            }
            lost[i] = false;
        }
    }
}
