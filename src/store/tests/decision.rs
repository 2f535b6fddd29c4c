use futures_util::future::join_all;

use super::*;
use crate::protocol::{Action, Ballot, Ending, Proposal, Rule};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_proposers_decide_one_document() {
    for nodes in Nodes::both(3) {
        let nodes = Arc::new(nodes);
        let base = nodes.found(&["a", "b", "c"]).await;
        let tasks = (0..8).map(|number| {
            let (nodes, base) = (nodes.clone(), base.clone());
            tokio::spawn(async move {
                let next = reweighted(&base, "a", 2 + number);
                match nodes.store(&["a"]).propose(&base, next.clone()).await.unwrap() {
                    Decision::Own => (true, next),
                    Decision::Other(other) => (false, other),
                }
            })
        });
        let decided = tokio::time::timeout(Duration::from_secs(30), join_all(tasks)).await.expect("a hang");
        let decided: Vec<_> = decided.into_iter().map(Result::unwrap).collect();
        assert!(decided.iter().all(|(_, document)| *document == decided[0].1));
        assert_eq!(decided.iter().filter(|(own, _)| *own).count(), 1);
        for name in ["a", "b", "c"] {
            assert!(nodes.obeys(name, &decided[0].1).await);
        }
    }
}

/// A proposer that stops after some of its messages, and can be taken up again.
struct Stopped {
    proposal: Proposal,
    actions: Vec<Action>,
}

impl Stopped {
    fn new(base: &Document, next: &Document, proposer: u64) -> Stopped {
        let acceptors = base.members().iter().map(|member| (member.id.clone(), member.incarnation));
        let ballot = Ballot { round: 1, proposer };
        let slot = Some(base.fence());
        let proposal = Proposal::new(slot, Rule::Majority, ballot, next.encode().clone(), acceptors);
        Stopped { actions: proposal.begin(), proposal }
    }

    /// Sends so many messages; fewer if it ends before.
    async fn go_on(&mut self, nodes: &Nodes, messages: usize, backwards: bool) {
        for _ in 0..messages {
            if self.proposal.ending().is_some() || self.actions.is_empty() {
                return;
            }
            let last = self.actions.len() - 1;
            let Action::Send(to, control) = self.actions.remove(if backwards { last } else { 0 }) else {
                panic!("nobody is behind")
            };
            let reply = nodes.node(to.as_str()).call(control).await.unwrap();
            self.actions.extend(self.proposal.reply(&to, &reply));
        }
    }
}

#[tokio::test]
async fn a_proposer_may_die_after_any_message() {
    for messages in 0..=6 {
        for backwards in [false, true] {
            for nodes in if messages % 3 == 1 { Nodes::both(3).into() } else { vec![Nodes::memory(3)] } {
                let base = nodes.found(&["a", "b", "c"]).await;
                let (one, other) = (reweighted(&base, "a", 2), reweighted(&base, "b", 3));
                let mut stopped = Stopped::new(&base, &one, 7);
                stopped.go_on(&nodes, messages, backwards).await;
                let was_decided = matches!(stopped.proposal.ending(), Some(Ending::Decided(_)));
                let decided = match nodes.store(&["b"]).propose(&base, other.clone()).await.unwrap() {
                    Decision::Own => other.clone(),
                    Decision::Other(decided) => decided,
                };
                assert!(decided == one || decided == other);
                assert!(!was_decided || decided == one);
                // It comes back and goes on where it was.
                stopped.go_on(&nodes, 10, backwards).await;
                match stopped.proposal.ending() {
                    Some(Ending::Decided(bytes)) => assert_eq!(bytes, decided.encode()),
                    Some(Ending::Newer(_, fence)) => assert_eq!(*fence, decided.fence()),
                    Some(Ending::Outbid(_) | Ending::Unreachable { .. }) => {}
                    other => panic!("{other:?}"),
                }
                let again = nodes.store(&["c"]).propose(&base, one.clone()).await.unwrap();
                assert_eq!(again, if decided == one { Decision::Own } else { Decision::Other(decided) });
            }
        }
    }
}

#[tokio::test]
async fn two_dead_proposers_leave_one_document() {
    for first in 0..=6 {
        for second in 0..=6 {
            let nodes = Nodes::memory(3);
            let base = nodes.found(&["a", "b", "c"]).await;
            let (one, other) = (reweighted(&base, "a", 2), reweighted(&base, "b", 3));
            let mut stopped = [Stopped::new(&base, &one, 7), Stopped::new(&base, &other, 8)];
            stopped[0].go_on(&nodes, first, false).await;
            stopped[1].go_on(&nodes, second, true).await;
            let third = reweighted(&base, "c", 4);
            let decided = match nodes.store(&["a"]).propose(&base, third.clone()).await.unwrap() {
                Decision::Own => third,
                Decision::Other(decided) => decided,
            };
            for stopped in &stopped {
                if let Some(Ending::Decided(bytes)) = stopped.proposal.ending() {
                    assert_eq!(bytes, decided.encode(), "after {first} and {second} messages");
                }
            }
        }
    }
}

/// A ring whose last `down` nodes do not answer.
async fn with_nodes_down(count: usize, down: usize) -> (Nodes, Document, NodeStore) {
    let nodes = Nodes::redis(count);
    let names = &NAMES[..count];
    let base = nodes.found(names).await;
    for server in &nodes.servers[count - down..] {
        server.command(&["SAVE"]).unwrap();
        server.kill().unwrap();
    }
    let contacts: Vec<_> = names.iter().map(|name| (*name, nodes.address(name))).collect();
    let store = patient_store(&contacts, Duration::from_millis(300));
    (nodes, base, store)
}

#[tokio::test]
async fn a_majority_decides_without_the_others() {
    let (nodes, base, store) = with_nodes_down(3, 1).await;
    let next = reweighted(&base, "a", 2);
    assert_eq!(store.propose(&base, next.clone()).await.unwrap(), Decision::Own);
    assert!(nodes.obeys("a", &next).await && nodes.obeys("b", &next).await);
    // The one that was down takes part in the next decision.
    nodes.servers[2].restart().unwrap();
    nodes.servers[1].kill().unwrap();
    let last = next.next(&Change::Settle).unwrap();
    assert_eq!(store.propose(&next, last.clone()).await.unwrap(), Decision::Own);
    assert!(nodes.obeys("a", &last).await && nodes.obeys("c", &last).await);
}

#[tokio::test]
async fn a_minority_decides_nothing_and_says_who_is_missing() {
    for (count, down) in [(3, 2), (2, 1), (4, 2)] {
        let (nodes, base, store) = with_nodes_down(count, down).await;
        let error = store.propose(&base, reweighted(&base, "a", 2)).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        for name in &NAMES[count - down..count] {
            assert!(error.to_string().contains(&format!("node {name}")), "{error}");
        }
        assert!(nodes.obeys("a", &base).await);
    }
}

#[tokio::test]
async fn force_drops_a_node_that_is_gone_from_a_ring_of_two() {
    let (nodes, base, store) = with_nodes_down(2, 1).await;
    let error = store.forget(&base, &id("b"), false).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    // Force says who is gone; whoever else is missing is still needed.
    let error = store.forget(&base, &id("a"), true).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("node b"), "{error}");
    assert_eq!(store.forget(&base, &id("b"), true).await.unwrap(), Decision::Own);
    let next = base.next(&Change::Forget { node: id("b") }).unwrap();
    assert!(nodes.obeys("a", &next).await);
}

#[tokio::test]
async fn an_empty_node_has_no_vote_but_does_not_stop_the_others() {
    for nodes in Nodes::both(3) {
        let base = nodes.found(&["a", "b", "c"]).await;
        for name in ["a", "b"] {
            nodes.wipe(name);
        }
        let next = reweighted(&base, "a", 2);
        assert_eq!(nodes.store(&["a", "b", "c"]).propose(&base, next.clone()).await.unwrap(), Decision::Own);
        assert!(nodes.obeys("c", &next).await);
        for name in ["a", "b"] {
            assert_eq!(nodes.standing(name).await.fence, None, "it was decided for another memory");
        }
    }
    for nodes in Nodes::both(2) {
        let base = nodes.found(&["a", "b"]).await;
        nodes.wipe("a");
        let next = reweighted(&base, "a", 2);
        assert_eq!(nodes.store(&["a", "b"]).propose(&base, next.clone()).await.unwrap(), Decision::Own);
        assert!(nodes.obeys("b", &next).await);
    }
    for nodes in Nodes::both(1) {
        let base = nodes.found(&["a"]).await;
        nodes.wipe("a");
        let error = nodes.store(&["a"]).propose(&base, moved(&base, "a", "memory:x")).await.unwrap_err();
        assert!(error.is_unavailable() && error.to_string().contains("lost their memories"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_node_and_one_that_is_down_are_no_majority() {
    let (nodes, base, store) = with_nodes_down(3, 1).await;
    nodes.wipe("a");
    let error = store.propose(&base, reweighted(&base, "a", 2)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    for reason in ["node a has lost its memory", "node c"] {
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(nodes.obeys("b", &base).await);
}

#[tokio::test]
async fn acceptors_that_are_behind_are_raised_first() {
    for nodes in Nodes::both(4) {
        let first = nodes.found(&["a", "b", "c"]).await;
        // c misses two changes, d is not even initialised.
        let store = nodes.store(&["a", "b", "c"]);
        let Enlisted { incarnation, process } =
            store.enlist(&first, &id("d"), nodes.address("d")).await.unwrap();
        let address = nodes.address("d").to_owned();
        let add = Edit::Add { id: id("d"), weight: Weight::ONE, address, incarnation, process };
        let second = first.next(&Change::Resize(vec![add])).unwrap();
        let mut dying = Stopped::new(&first, &second, 7);
        dying.go_on(&nodes, 10, false).await;
        assert!(matches!(dying.proposal.ending(), Some(Ending::Decided(_))));
        for name in ["a", "b"] {
            raise_only(&nodes, &second, name).await;
        }
        assert!(nodes.obeys("c", &first).await);
        assert_eq!(nodes.standing("d").await.fence, None);
        let third = second.next(&Change::Settle).unwrap();
        assert_eq!(store.propose(&second, third.clone()).await.unwrap(), Decision::Own);
        for name in NAMES {
            assert!(nodes.obeys(name, &third).await, "{name}");
        }
    }
}

async fn raise_only(nodes: &Nodes, document: &Document, name: &str) {
    let (_, member) = document.member(&id(name)).unwrap();
    let (fence, incarnation) = (document.fence(), member.incarnation);
    let raise =
        Control::Raise { name: name.to_owned(), fence, document: document.encode().clone(), incarnation };
    nodes.node(name).call(raise).await.unwrap();
    assert!(nodes.obeys(name, document).await);
}

#[tokio::test]
async fn one_attempt_is_enough_to_go_beyond_whatever_was_promised() {
    let nodes = Nodes::memory(3);
    let base = nodes.found(&["a", "b", "c"]).await;
    let ballot = Ballot { round: 1 << 60, proposer: 1 };
    nodes.node("b").call(Control::Prepare { slot: Some(base.fence()), ballot }).await.unwrap();
    nodes.node("c").call(Control::Prepare { slot: Some(base.fence()), ballot }).await.unwrap();
    let next = reweighted(&base, "a", 2);
    assert_eq!(nodes.store(&["a"]).propose(&base, next).await.unwrap(), Decision::Own);
}

#[tokio::test]
async fn who_comes_late_learns_what_was_decided() {
    for nodes in Nodes::both(3) {
        let first = nodes.found(&["a", "b", "c"]).await;
        let second = reweighted(&first, "a", 2);
        let third = second.next(&Change::Settle).unwrap();
        let store = nodes.store(&["a"]);
        assert_eq!(store.propose(&first, second.clone()).await.unwrap(), Decision::Own);
        assert_eq!(store.propose(&second, third.clone()).await.unwrap(), Decision::Own);
        let late = nodes.store(&["b"]).propose(&first, reweighted(&first, "b", 9)).await.unwrap();
        assert_eq!(late, Decision::Other(third));
    }
}

#[tokio::test]
async fn a_node_that_left_is_raised_too() {
    for nodes in Nodes::both(2) {
        let first = nodes.found(&["a", "b"]).await;
        let store = nodes.store(&["a", "b"]);
        let second = first.next(&Change::Resize(vec![Edit::Remove { id: id("b") }])).unwrap();
        assert_eq!(store.propose(&first, second.clone()).await.unwrap(), Decision::Own);
        let third = second.next(&Change::Settle).unwrap();
        assert_eq!(store.propose(&second, third.clone()).await.unwrap(), Decision::Own);
        assert!(third.member(&id("b")).is_none() && nodes.obeys("b", &third).await);
        // It may join again, as the memory that it is.
        let Enlisted { incarnation, process } =
            store.enlist(&third, &id("b"), nodes.address("b")).await.unwrap();
        let address = nodes.address("b").to_owned();
        let add = Edit::Add { id: id("b"), weight: Weight::ONE, address, incarnation, process };
        let fourth = third.next(&Change::Resize(vec![add])).unwrap();
        assert_eq!(store.propose(&third, fourth.clone()).await.unwrap(), Decision::Own);
        assert!(nodes.obeys("b", &fourth).await);
    }
}
