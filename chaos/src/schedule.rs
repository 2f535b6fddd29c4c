//! Which faults happen when: a function of the seed.

use std::time::Duration;

use crate::random::Random;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A server dies and comes back without its data.
    KillEmpty,
    /// A server that writes down everything before it answers dies and comes back with all its data.
    KillDurable,
    /// A server dies and comes back with a dump that was taken some time before.
    KillOldDump,
    /// A server dies, and a replica that has heard nothing for some time takes its place.
    PromoteLagging,
    /// A server hangs, and goes on.
    FreezeServer,
    /// A server loses everything, and goes on.
    Flush,
    /// A server forgets the scripts.
    ForgetScripts,
    /// A server has reached its `maxmemory`, and gets more.
    OutOfMemory,
    /// What is sent to a server and what it answers vanishes, for everybody.
    CutOff,
    /// A server is slow, for everybody.
    SlowServer,
    /// All connections to a server are cut.
    CutAll,
    /// A client process hangs, and goes on.
    FreezeWorker,
    /// A client process dies, and another one takes its place.
    KillWorker,
    /// What one client sends to one server vanishes.
    SwallowRequests,
    /// What one server answers to one client vanishes.
    SwallowAnswers,
    /// What one client sends to one server arrives late, after the client has given up.
    LateRequests,
    /// What one server answers to one client arrives late.
    LateAnswers,
    /// One client and one server hear each other late.
    Slow,
    /// The server executes writes of one client, whose connection is cut before the answer.
    CutBeforeAnswer,
    /// The same with reads.
    CutBeforeRead,
    /// A worker changes the membership.
    ResizeByWorker,
    /// An operator's process changes the membership.
    ResizeByOperator,
    /// An operator's process dies, and another one finishes what it began.
    KillOperator,
    /// An operator's process hangs, another one finishes what it began, and it goes on.
    FreezeOperator,
    /// An operator's process dies at this moment of the resize that it drives.
    DieAt(Moment),
    /// A server has reached its `maxmemory`, and is removed.
    DrainFull,
    /// A server is gone for good, and is forgotten; an empty one of its name may be added later.
    Forget,
}

/// Moments of a resize, as the library names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Moment {
    /// The document of the change was decided.
    Decided,
    /// The fence of a source was raised.
    SourceFenced,
    /// Some sessions are on their way.
    ChunkSent,
    /// A step of theirs was answered.
    Answered,
    /// All sources were passed over.
    Drained,
    /// The stable document was decided.
    Settled,
    /// Leftovers are being deleted.
    Cleaning,
}

impl Moment {
    const ALL: [Moment; 7] = [
        Moment::Decided,
        Moment::SourceFenced,
        Moment::ChunkSent,
        Moment::Answered,
        Moment::Drained,
        Moment::Settled,
        Moment::Cleaning,
    ];

    /// How often it comes in a resize of a few hundred sessions, at least.
    pub(crate) fn times(self) -> u64 {
        match self {
            Moment::Decided | Moment::Drained | Moment::Settled | Moment::Cleaning => 1,
            Moment::SourceFenced | Moment::ChunkSent => 2,
            Moment::Answered => 5,
        }
    }
}

impl Kind {
    /// All that can be injected.
    pub fn all() -> Vec<Kind> {
        use Kind::*;
        let mut all = vec![
            KillEmpty,
            KillDurable,
            KillOldDump,
            PromoteLagging,
            FreezeServer,
            Flush,
            ForgetScripts,
            OutOfMemory,
            CutOff,
            SlowServer,
            CutAll,
            FreezeWorker,
            KillWorker,
            SwallowRequests,
            SwallowAnswers,
            LateRequests,
            LateAnswers,
            Slow,
            CutBeforeAnswer,
            CutBeforeRead,
        ];
        all.extend([ResizeByWorker, ResizeByOperator, KillOperator, FreezeOperator, DrainFull, Forget]);
        all.extend(Moment::ALL.map(DieAt));
        all
    }

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::KillEmpty => "server killed, back empty",
            Kind::KillDurable => "server killed, back with all its data",
            Kind::KillOldDump => "server killed, back with an old dump",
            Kind::PromoteLagging => "lagging replica promoted",
            Kind::FreezeServer => "server stopped and continued",
            Kind::Flush => "FLUSHALL",
            Kind::ForgetScripts => "SCRIPT FLUSH",
            Kind::OutOfMemory => "maxmemory reached and lifted",
            Kind::CutOff => "server cut off from everybody",
            Kind::SlowServer => "server slow for everybody",
            Kind::CutAll => "all connections of a server cut",
            Kind::FreezeWorker => "client stopped and continued",
            Kind::KillWorker => "client killed",
            Kind::SwallowRequests => "requests vanish",
            Kind::SwallowAnswers => "answers vanish",
            Kind::LateRequests => "requests arrive late",
            Kind::LateAnswers => "answers arrive late",
            Kind::Slow => "slow network",
            Kind::CutBeforeAnswer => "cut after writes, before the answer",
            Kind::CutBeforeRead => "cut after reads, before the answer",
            Kind::ResizeByWorker => "resize by a worker",
            Kind::ResizeByOperator => "resize by an operator",
            Kind::KillOperator => "operator killed, resumed by another",
            Kind::FreezeOperator => "operator stopped, resumed by another",
            Kind::DieAt(Moment::Decided) => "operator dies: change decided",
            Kind::DieAt(Moment::SourceFenced) => "operator dies: source fenced",
            Kind::DieAt(Moment::ChunkSent) => "operator dies: sessions sent",
            Kind::DieAt(Moment::Answered) => "operator dies: step of sessions done",
            Kind::DieAt(Moment::Drained) => "operator dies: sources drained",
            Kind::DieAt(Moment::Settled) => "operator dies: end decided",
            Kind::DieAt(Moment::Cleaning) => "operator dies: cleaning up",
            Kind::DrainFull => "server at maxmemory removed",
            Kind::Forget => "server gone for good, forgotten",
        }
    }

    /// Whether a server is hit as a whole, so that another fault of that kind would get in the way.
    fn hits_server(self) -> bool {
        self <= Kind::CutAll || matches!(self, Kind::DrainFull | Kind::Forget)
    }

    /// Whether it changes the membership, or begins to.
    pub fn changes_ring(self) -> bool {
        self >= Kind::ResizeByWorker
    }

    /// Whether the server's memory is lost, or goes back in time.
    pub(crate) fn loses_memory(self) -> bool {
        use Kind::*;
        matches!(self, KillEmpty | KillOldDump | PromoteLagging | Flush | Forget)
    }

    fn hits_worker(self) -> bool {
        matches!(self, Kind::FreezeWorker | Kind::KillWorker)
    }

    /// Whether it can happen to a server that writes down everything, or to one that does not.
    fn fits(self, durable: bool) -> bool {
        match self {
            Kind::KillDurable => durable,
            Kind::KillOldDump | Kind::PromoteLagging => !durable,
            _ => true,
        }
    }

    /// How long it lasts, in milliseconds.
    fn lasts(self) -> (u64, u64) {
        match self {
            Kind::Flush | Kind::ForgetScripts | Kind::CutAll => (0, 0),
            Kind::KillOldDump | Kind::PromoteLagging => (300, 2000),
            Kind::OutOfMemory => (300, 1500),
            Kind::Forget => (100, 500),
            Kind::DrainFull => (3000, 3000),
            _ => (50, 1500),
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// When, from the beginning of the run.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// The node that it happens to.
    pub node: usize,
    /// The worker that it happens to.
    pub worker: usize,
    /// The way to the node that it happens to: a worker's, or the operators'.
    pub way: usize,
    /// Whatever else has to be chosen.
    pub choice: u64,
}

/// The faults of a run, of these kinds. `durable`: for each node, whether its server writes down everything.
///
/// Every kind comes once before any comes twice; at most half of the servers are hit at the same time, or with `alone` one,
/// and longer.
pub fn schedule(
    seed: u64,
    length: Duration,
    kinds: &[Kind],
    durable: &[bool],
    workers: usize,
    alone: bool,
) -> Vec<Fault> {
    let mut random = Random::fork(seed, 0xFA_0175);
    let ms = Duration::from_millis;
    // The last ones must be over before the end.
    let end = length.saturating_sub(ms(2500));
    let mut nodes_busy = vec![Duration::ZERO; durable.len()];
    let mut workers_busy = vec![Duration::ZERO; workers];
    let (mut faults, mut deck) = (Vec::new(), Vec::new());
    let mut at = ms(800);
    while at < end {
        if deck.is_empty() {
            deck = kinds.to_vec();
            for i in (1..deck.len()).rev() {
                deck.swap(i, random.below(i as u64 + 1) as usize);
            }
        }
        let chosen = deck.iter().rposition(|&kind| {
            let hit = nodes_busy.iter().filter(|&&until| until > at).count();
            !kind.hits_server() || 2 * (hit + 1) <= durable.len()
        });
        let Some(chosen) = chosen else {
            at += ms(100);
            continue;
        };
        let kind: Kind = deck[chosen];
        let fitting: Vec<usize> = (0..durable.len())
            .filter(|&node| kind.fits(durable[node]) && (!kind.hits_server() || nodes_busy[node] <= at))
            .collect();
        let free: Vec<usize> =
            (0..workers).filter(|&worker| !kind.hits_worker() || workers_busy[worker] <= at).collect();
        let (Some(&node), Some(&worker)) = (random.pick(&fitting), random.pick(&free)) else {
            at += ms(100);
            continue;
        };
        deck.remove(chosen);
        let (shortest, longest) = if alone { (500, 2500) } else { kind.lasts() };
        let fault = Fault {
            kind,
            at,
            lasts: ms(random.between(shortest, longest)),
            node,
            worker,
            way: random.below(workers as u64 + 1) as usize,
            choice: random.next(),
        };
        let over = at + fault.lasts + ms(500);
        if kind.hits_server() {
            nodes_busy[node] = over;
        }
        if kind.hits_worker() {
            workers_busy[worker] = over;
        }
        faults.push(fault);
        // It is to be in use again before the next one is hit.
        at += if alone { fault.lasts + ms(1500) } else { ms(random.between(100, 700)) };
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURABLE: [bool; 7] = [false, false, false, false, true, true, true];

    #[test]
    fn a_seed_gives_the_same_faults() {
        let length = Duration::from_secs(60);
        assert_eq!(
            schedule(1, length, &Kind::all(), &DURABLE, 4, false),
            schedule(1, length, &Kind::all(), &DURABLE, 4, false)
        );
        assert_ne!(
            schedule(1, length, &Kind::all(), &DURABLE, 4, false),
            schedule(2, length, &Kind::all(), &DURABLE, 4, false)
        );
    }

    #[test]
    fn every_kind_comes_and_none_gets_in_the_way_of_another() {
        for seed in 0..50 {
            let faults = schedule(seed, Duration::from_secs(30), &Kind::all(), &DURABLE, 4, false);
            for kind in Kind::all() {
                assert!(faults.iter().any(|fault| fault.kind == kind), "seed {seed}: no {kind:?}");
            }
            for (i, one) in faults.iter().enumerate() {
                assert!(one.kind.fits(DURABLE[one.node]));
                for other in &faults[i + 1..] {
                    let apart = other.at >= one.at + one.lasts;
                    let servers =
                        one.kind.hits_server() && other.kind.hits_server() && one.node == other.node;
                    let workers =
                        one.kind.hits_worker() && other.kind.hits_worker() && one.worker == other.worker;
                    assert!(apart || !(servers || workers), "{one:?} {other:?}");
                }
            }
        }
    }
}
