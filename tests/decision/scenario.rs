//! Who wants what of whom.

use std::collections::BTreeSet;

use sessionring::{
    NodeId,
    protocol::{Charter, Rule, Standing},
    topology::{Epoch, Fence, PROTOCOL_VERSION},
};

/// A document is one byte in this model, and an index into this list.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) epoch: u64,
    /// Nodes and their incarnations.
    pub(crate) members: Vec<(usize, u64)>,
}

/// What one proposer is after.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The document that its own is to follow; `None` for a founding.
    pub(crate) after: Option<u8>,
    pub(crate) document: u8,
    pub(crate) rule: Rule,
    /// How often it tries.
    pub(crate) attempts: u8,
    /// What it proposes on top of whatever was decided.
    pub(crate) then: Option<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) documents: Vec<Document>,
    pub(crate) nodes: Vec<Charter>,
    pub(crate) plans: Vec<Plan>,
    /// This node may lose its memory, once.
    pub(crate) forgetful: Option<usize>,
    /// Somebody who knows no better raises this document, any time.
    pub(crate) stale: Option<u8>,
    /// This node never hears anything.
    pub(crate) dead: Option<usize>,
    /// Proposers learn that a node does not answer.
    pub(crate) timeouts: bool,
    /// Whoever decides raises it. Elsewhere that only ends the others' attempts.
    pub(crate) raises: bool,
    /// So many answers may be lost.
    pub(crate) losses: u8,
    /// The first so many nodes may change their names without changing anything else.
    pub(crate) alike: u8,
}

/// With optimisation there is time for more.
const WIDE: bool = !cfg!(debug_assertions);

pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What a node is called after it has lost its memory.
pub(crate) const LATER: u64 = 100;

pub(crate) fn id(node: usize) -> NodeId {
    NodeId::new(NAMES[node]).unwrap()
}

impl Scenario {
    pub(crate) fn all() -> Vec<Scenario> {
        let wide = WIDE.then(Scenario::three_proposers);
        let always = [
            Scenario::two_proposers(),
            Scenario::founding_abd(),
            Scenario::founding_ab(),
            Scenario::lost_memory(),
            Scenario::lost_memory_of_two(),
            Scenario::two_epochs(),
            Scenario::behind(),
            Scenario::force(),
        ];
        always.into_iter().chain(wide).collect()
    }

    pub(crate) fn fence(&self, document: u8) -> Fence {
        let epoch = Epoch::new(self.documents[usize::from(document)].epoch);
        Fence { protocol: PROTOCOL_VERSION, cluster: 1, epoch, nonce: u64::from(document) }
    }

    /// Nodes that obey document 0, and several that may follow it.
    fn ring(name: &'static str, count: usize, successors: u8) -> Scenario {
        let members: Vec<_> = (0..count).map(|node| (node, node as u64 + 1)).collect();
        let mut documents = vec![Document { epoch: 1, members: members.clone() }];
        documents.extend((0..successors).map(|_| Document { epoch: 2, members: members.clone() }));
        let mut scenario = Scenario {
            name,
            documents,
            nodes: Vec::new(),
            plans: Vec::new(),
            forgetful: None,
            stale: None,
            dead: None,
            timeouts: false,
            raises: true,
            losses: u8::from(WIDE),
            alike: count as u8,
        };
        scenario.nodes = (0..count).map(|node| scenario.charter(node, Some(0))).collect();
        scenario
    }

    fn charter(&self, node: usize, obeys: Option<u8>) -> Charter {
        Charter {
            standing: Standing {
                owner: obeys.map(|_| NAMES[node].to_owned()),
                incarnation: Some(node as u64 + 1),
                fence: obeys.map(|document| self.fence(document).encode().to_vec()),
            },
            ..Charter::default()
        }
    }

    fn plan(document: u8, attempts: u8) -> Plan {
        Plan { after: Some(0), document, rule: Rule::Majority, attempts, then: None }
    }

    pub(crate) fn two_proposers() -> Scenario {
        let plans = vec![Scenario::plan(1, 2), Scenario::plan(2, 1)];
        Scenario { plans, raises: false, ..Scenario::ring("two proposers", 3, 2) }
    }

    pub(crate) fn three_proposers() -> Scenario {
        let plans = (1..=3).map(|document| Scenario::plan(document, 1)).collect();
        Scenario { plans, raises: false, losses: 0, ..Scenario::ring("three proposers", 3, 3) }
    }

    fn founding(name: &'static str, lists: &[&[usize]], attempts: u8) -> Scenario {
        let mut scenario = Scenario::ring(name, 4, 0);
        let incarnate = |list: &[usize]| list.iter().map(|&node| (node, node as u64 + 1)).collect();
        scenario.documents =
            lists.iter().map(|list| Document { epoch: 1, members: incarnate(list) }).collect();
        scenario.nodes = (0..4).map(|node| scenario.charter(node, None)).collect();
        scenario.plans = (0..lists.len() as u8)
            .map(|document| Plan { after: None, document, rule: Rule::All, attempts, then: None })
            .collect();
        scenario.alike = 2;
        scenario
    }

    pub(crate) fn founding_abd() -> Scenario {
        let lists: [&[usize]; 2] = [&[0, 1, 2], &[0, 1, 3]];
        Scenario { raises: false, ..Scenario::founding("founding a, b, c and a, b, d", &lists, 2) }
    }

    pub(crate) fn founding_ab() -> Scenario {
        Scenario::founding("founding a, b, c and a, b", &[&[0, 1, 2], &[0, 1]], 2)
    }

    /// One node loses its memory and is readmitted by what one of the proposers wants.
    pub(crate) fn lost_memory() -> Scenario {
        let plans = vec![Scenario::plan(1, 1), Scenario::plan(2, 1)];
        let mut scenario = Scenario {
            plans,
            forgetful: Some(2),
            stale: Some(0),
            alike: 2,
            ..Scenario::ring("a node of three loses its memory", 3, 2)
        };
        scenario.documents[2].members[2].1 = LATER;
        scenario
    }

    pub(crate) fn lost_memory_of_two() -> Scenario {
        let plans = vec![Scenario::plan(1, 1), Scenario::plan(2, 2)];
        let mut scenario = Scenario {
            plans,
            forgetful: Some(1),
            stale: Some(0),
            alike: 0,
            ..Scenario::ring("a node of two loses its memory", 2, 2)
        };
        scenario.documents[2].members[1].1 = LATER;
        scenario
    }

    /// Whoever decides goes on to the next epoch, while messages of the first are still under way.
    pub(crate) fn two_epochs() -> Scenario {
        let mut plans = vec![Scenario::plan(1, 1), Scenario::plan(2, 1)];
        let mut scenario = Scenario::ring("two epochs", 2, 2);
        for (plan, document) in plans.iter_mut().zip(3..) {
            plan.then = Some(document);
            scenario.documents.push(Document { epoch: 3, members: scenario.documents[0].members.clone() });
        }
        Scenario { plans, ..scenario }
    }

    /// One acceptor obeys an older document, another has not been initialised yet.
    pub(crate) fn behind() -> Scenario {
        let mut scenario = Scenario::ring("acceptors behind", 2, 2);
        for document in &mut scenario.documents {
            document.epoch += 1;
        }
        scenario.documents.push(Document { epoch: 1, members: vec![(0, 1)] });
        scenario.nodes = vec![scenario.charter(0, Some(3)), scenario.charter(1, None)];
        let plans = vec![Scenario::plan(1, 1 + u8::from(WIDE)), Scenario::plan(2, 1)];
        Scenario { plans, alike: 0, ..scenario }
    }

    /// Two operators force the ring of a and b to do without c, which is gone.
    pub(crate) fn force() -> Scenario {
        let gone: BTreeSet<NodeId> = [id(2)].into();
        let plans = vec![
            Plan { rule: Rule::AllBut(gone.clone()), ..Scenario::plan(1, 1 + u8::from(WIDE)) },
            Plan { rule: Rule::AllBut(gone), ..Scenario::plan(2, 1) },
        ];
        Scenario { plans, dead: Some(2), timeouts: true, alike: 2, ..Scenario::ring("force", 3, 2) }
    }
}
