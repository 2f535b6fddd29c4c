use futures_util::future::join_all;

use super::*;
use crate::protocol::{Action, Ballot, Proposal, Rule};

const ABC: &[&str] = &["a", "b", "c"];
const ABD: &[&str] = &["a", "b", "d"];
const BC: &[&str] = &["b", "c"];

/// Everybody founds at once, each with a store of its own; answers what they agree on.
async fn race(nodes: &Arc<Nodes>, lists: &[&'static [&'static str]]) -> Document {
    let tasks = lists.iter().map(|names| {
        let (nodes, names) = (nodes.clone(), *names);
        tokio::spawn(async move { nodes.store(names).found(Policy::Trust, &ring_of(names)).await })
    });
    let founded = tokio::time::timeout(Duration::from_secs(30), join_all(tasks)).await.expect("a hang");
    let founded: Vec<Document> = founded.into_iter().map(|task| task.unwrap().unwrap()).collect();
    for other in &founded[1..] {
        assert_eq!(*other, founded[0]);
    }
    let document = founded[0].clone();
    for member in document.members() {
        assert!(nodes.obeys(member.id.as_str(), &document).await, "{}", member.id);
    }
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_founders_with_one_list_found_one_ring() {
    for nodes in Nodes::both(3) {
        let document = race(&Arc::new(nodes), &[ABC; 8]).await;
        assert_eq!((document.epoch(), document.members().len()), (crate::Epoch::FIRST, 3));
        assert!(!document.is_migrating());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_with_overlapping_lists_found_one_ring() {
    for _ in 0..5 {
        for nodes in Nodes::both(4) {
            let nodes = Arc::new(nodes);
            let document = race(&nodes, &[ABC, ABD, BC, ABC, ABD, BC, ABC, ABD]).await;
            // Whoever is not in it is not used by it.
            for name in NAMES.iter().filter(|name| document.member(&id(name)).is_none()) {
                assert_eq!(nodes.standing(name).await.fence, None);
            }
        }
    }
}

#[tokio::test]
async fn every_node_must_be_there() {
    let nodes = Nodes::memory(2);
    let nobody = nowhere();
    let store = store(&[("a", nodes.address("a")), ("b", nodes.address("b")), ("c", &nobody)]);
    let error = store.found(Policy::Trust, &ring_of(&["a", "b", "c"])).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("node c"), "{error}");
    assert_eq!(nodes.standing("a").await, Standing::default());
}

#[tokio::test]
async fn a_ring_that_is_there_is_found_even_if_a_node_is_down_or_listed_otherwise() {
    for nodes in Nodes::both(3) {
        let document = nodes.found(&["a", "b"]).await;
        let nobody = nowhere();
        let other = store(&[("a", nodes.address("a")), ("x", &nobody)]);
        assert_eq!(other.found(Policy::Strict, &ring_of(&["a", "x"])).await.unwrap(), document);
        assert_eq!(nodes.found(&["b", "c"]).await, document);
        assert_eq!(nodes.standing("c").await, Standing::default());
    }
}

#[tokio::test]
async fn one_database_is_not_two_nodes() {
    for nodes in Nodes::both(2) {
        let (a, b) = (nodes.address("a"), nodes.address("b"));
        let twice = store(&[("a", a), ("x", a), ("b", b)]);
        let error = twice.found(Policy::Trust, &ring_of(&["a", "x", "b"])).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("same database"), "{error}");
        // Nothing is left that would keep the right list from working.
        let document = nodes.found(&["a", "b"]).await;
        let error = nodes.store(&["a"]).enlist(&document, &id("x"), b).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("belongs to node b"), "{error}");
    }
}

#[tokio::test]
async fn one_empty_database_does_not_join_under_two_names() {
    let nodes = Nodes::memory(2);
    let document = nodes.found(&["a"]).await;
    let store = nodes.store(&["a"]);
    let address = nodes.address("b");
    let enlisted = store.enlist(&document, &id("b"), address).await.unwrap();
    let Enlisted { incarnation, process } = enlisted;
    let (id_b, address) = (id("b"), address.to_owned());
    let add = Edit::Add { id: id_b, weight: Weight::ONE, address: address.clone(), incarnation, process };
    let next = document.next(&Change::Resize(vec![add])).unwrap();
    // It is decided, but has not been raised there yet.
    let error = store.enlist(&next, &id("x"), &address).await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("same database as node b"), "{error}");
    assert_eq!(store.enlist(&next, &id("b"), &address).await.unwrap(), enlisted);
}

#[tokio::test]
async fn full_nodes_can_found_and_decide() {
    let nodes = Nodes::redis(2);
    for server in &nodes.servers {
        server.config_set("maxmemory", "1").unwrap();
    }
    let document = nodes.found(&["a", "b"]).await;
    let next = reweighted(&document, "a", 3);
    assert_eq!(nodes.store(&["a"]).propose(&document, next.clone()).await.unwrap(), Decision::Own);
    assert!(nodes.obeys("a", &next).await && nodes.obeys("b", &next).await);
}

/// A founder with the list a, b, c that goes away after so many of its messages; with each order of nodes in turn.
async fn founder_dies(nodes: &Nodes, messages: usize, backwards: bool) -> Document {
    let store = nodes.store(&["a", "b", "c"]);
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        let Enlisted { incarnation, process } = store.mark(&id(name), nodes.address(name)).await.unwrap();
        let address = nodes.address(name).to_owned();
        let weight = Weight::ONE;
        members.push(DocumentMember {
            id: id(name),
            weight,
            address,
            incarnation,
            process,
            leaving: false,
            rejoined: false,
        });
    }
    let ring = ring_of(&["a", "b", "c"]);
    let document = Document::found(RING, crate::Epoch::FIRST, Policy::Trust, ring, members).unwrap();
    let acceptors = document.members().iter().map(|member| (member.id.clone(), member.incarnation));
    let ballot = Ballot { round: 1, proposer: 7 };
    let mut proposal = Proposal::new(None, Rule::All, ballot, document.encode().clone(), acceptors);
    let mut actions = proposal.begin();
    for _ in 0..messages {
        let action = if backwards { actions.pop() } else { Some(actions.remove(0)) };
        let Some(Action::Send(to, control)) = action else { panic!("{action:?}") };
        let reply = nodes.node(to.as_str()).call(control).await.unwrap();
        actions.extend(proposal.reply(&to, &reply));
    }
    document
}

#[tokio::test]
async fn a_founding_that_was_left_half_done_is_finished_or_superseded() {
    for messages in 0..=6 {
        for backwards in [false, true] {
            for names in [&["a", "b", "d"][..], &["a", "b", "c"], &["c", "d"]] {
                for nodes in if messages == 4 { Nodes::both(4).into() } else { vec![Nodes::memory(4)] } {
                    let half = founder_dies(&nodes, messages, backwards).await;
                    let found = nodes.found(names).await;
                    if messages == 6 {
                        assert_eq!(found, half, "it was decided");
                    }
                    assert!(found == half || found.members().len() == names.len());
                    // Whoever comes later finds the same: every list here shares a node with it.
                    assert_eq!(nodes.found(ABC).await, found);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_ring_whose_nodes_are_all_empty_is_founded_anew() {
    for nodes in Nodes::both(3) {
        let first = nodes.found(&["a", "b", "c"]).await;
        let known = reweighted(&first, "a", 2);
        let store = nodes.store(&["a", "b", "c"]);
        assert_eq!(store.propose(&first, known.clone()).await.unwrap(), Decision::Own);
        for name in ["a", "b"] {
            nodes.wipe(name);
        }
        // One node knows it still: nothing is founded.
        assert_eq!(store.load(None).await.unwrap().document.unwrap(), known);
        let error = store.refound(&known).await.unwrap_err();
        assert!(error.is_unavailable() && error.to_string().contains("node c: it still holds"), "{error}");
        nodes.wipe("c");
        let again = store.refound(&known).await.unwrap();
        assert_eq!(again.epoch(), known.epoch().next());
        assert!(!again.is_migrating());
        assert_eq!(store.refound(&known).await.unwrap(), again);
        for name in ["a", "b", "c"] {
            assert!(nodes.obeys(name, &again).await);
        }
    }
}
