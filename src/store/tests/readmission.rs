use futures_util::future::join_all;

use super::*;
use crate::topology::Tenure;

/// Whether everything that a node has a part in counts from this document on only.
fn counts_as_empty(document: &Document, name: &str) -> bool {
    let (index, _) = document.member(&id(name)).unwrap();
    let of_node = |tenure: Tenure| {
        let owned = (tenure.owner == index).then_some(tenure.since);
        let source = tenure.source.filter(|source| source.node == index).map(|source| source.since);
        owned.into_iter().chain(source)
    };
    document.tenures().flat_map(|(_, tenure)| of_node(tenure)).all(|since| since == document.epoch())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_node_is_readmitted_once_by_whoever_finds_it() {
    for count in 1..=3 {
        for nodes in Nodes::both(count) {
            let nodes = Arc::new(nodes);
            let base = nodes.found(&NAMES[..count]).await;
            nodes.wipe("a");
            let tasks = (0..8).map(|_| {
                let (nodes, base) = (nodes.clone(), base.clone());
                tokio::spawn(async move {
                    nodes.store(&NAMES[..count]).readmit(&base, &id("a"), Held::Nothing).await.unwrap()
                })
            });
            let readmitted =
                tokio::time::timeout(Duration::from_secs(30), join_all(tasks)).await.expect("a hang");
            let readmitted: Vec<Document> = readmitted.into_iter().map(Result::unwrap).collect();
            let document = &readmitted[0];
            assert!(readmitted.iter().all(|other| other == document));
            assert_eq!(document.epoch(), base.epoch().next());
            assert!(counts_as_empty(document, "a"));
            for name in &NAMES[..count] {
                assert!(nodes.obeys(name, document).await);
            }
            let standing = nodes.standing("a").await;
            assert_eq!(standing.incarnation, Some(document.member(&id("a")).unwrap().1.incarnation));
        }
    }
}

/// a and b share moving tokens; c has no part in it.
async fn migrating(nodes: &Nodes) -> Document {
    let base = nodes.found(&["a", "c"]).await;
    let store = nodes.store(&["a", "c"]);
    let Enlisted { incarnation, process } = store.enlist(&base, &id("b"), nodes.address("b")).await.unwrap();
    let address = nodes.address("b").to_owned();
    let add = Edit::Add { id: id("b"), weight: Weight::ONE, address, incarnation, process };
    let next = base.next(&Change::Resize(vec![add])).unwrap();
    assert_eq!(store.propose(&base, next.clone()).await.unwrap(), Decision::Own);
    assert!(nodes.obeys("b", &next).await);
    next
}

#[tokio::test]
async fn it_is_initialised_last() {
    let nodes = Nodes::redis(3);
    let document = migrating(&nodes).await;
    nodes.wipe("b");
    // a is silent while the others decide.
    nodes.servers[0].stop_process().unwrap();
    let contacts = ["b", "c"].map(|name| (name, nodes.address(name)));
    let hasty = patient_store(&contacts, Duration::from_millis(300));
    let error = hasty.readmit(&document, &id("b"), Held::Nothing).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    // b is empty and a is not there: a ring of three has no majority.
    nodes.servers[0].continue_process().unwrap();
    let (_, member) = document.member(&id("b")).unwrap();
    let marked = nodes.standing("b").await;
    assert!(marked.fence.is_none() && marked.incarnation.is_some_and(|i| i != member.incarnation));
    let decided = hasty.readmit(&document, &id("b"), Held::Nothing).await.unwrap();
    for name in ["a", "b", "c"] {
        assert!(nodes.obeys(name, &decided).await);
    }
}

#[tokio::test]
async fn it_waits_for_a_node_that_shares_a_moving_token_with_it() {
    let nodes = Nodes::redis(4);
    let document = migrating(&nodes).await;
    // a fourth member makes a majority without a, whose tokens move to b.
    let store = nodes.store(&["b", "c"]);
    let settled = document.next(&Change::Settle).unwrap();
    assert_eq!(store.propose(&document, settled.clone()).await.unwrap(), Decision::Own);
    let Enlisted { incarnation, process } =
        store.enlist(&settled, &id("d"), nodes.address("d")).await.unwrap();
    let address = nodes.address("d").to_owned();
    let add = Edit::Add { id: id("d"), weight: Weight::ONE, address, incarnation, process };
    let moving = settled.next(&Change::Resize(vec![add])).unwrap();
    assert_eq!(store.propose(&settled, moving.clone()).await.unwrap(), Decision::Own);
    let (index, _) = moving.member(&id("d")).unwrap();
    let partner = moving.members()[moving.partners(index)[0].get()].id.clone();
    let silent = NAMES.iter().position(|name| *name == partner.as_str()).unwrap();
    nodes.wipe("d");
    // Four members, one is empty, one is silent: the other two are no majority of four.
    // So the readmission is decided first, and the partner falls silent before d is initialised.
    let enlisted = store.mark(&id("d"), nodes.address("d")).await.unwrap();
    let change = Change::Readmit {
        node: id("d"),
        incarnation: enlisted.incarnation,
        process: enlisted.process,
        keep: false,
    };
    let next = moving.next(&change).unwrap();
    decide_only(&nodes, &moving, &next).await;
    nodes.servers[silent].stop_process().unwrap();
    let contacts: Vec<_> = NAMES.iter().map(|name| (*name, nodes.address(name))).collect();
    let hasty = patient_store(&contacts, Duration::from_millis(300));
    match hasty.raise_node(&next, &id("d")).await {
        Stand::Waits(node) => assert_eq!(node, partner),
        other => panic!("{other:?}"),
    }
    let error = hasty.readmit(&next, &id("d"), Held::Nothing).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains(partner.as_str()), "{error}");
    let raised = hasty.raise(&next, None).await;
    assert!(!raised.obeys(&id("d")) && !raised.obeys(&partner));
    assert_eq!(nodes.standing("d").await.fence, None);
    nodes.servers[silent].continue_process().unwrap();
    assert_eq!(hasty.readmit(&next, &id("d"), Held::Nothing).await.unwrap(), next);
    for name in NAMES {
        assert!(nodes.obeys(name, &next).await);
    }
}

#[tokio::test]
async fn a_node_that_joins_waits_for_nobody() {
    let nodes = Nodes::redis(4);
    let base = nodes.found(&["a", "b", "c"]).await;
    let contacts = ["a", "b", "c"].map(|name| (name, nodes.address(name)));
    let hasty = patient_store(&contacts, Duration::from_millis(300));
    let Enlisted { incarnation, process } = hasty.enlist(&base, &id("d"), nodes.address("d")).await.unwrap();
    let address = nodes.address("d").to_owned();
    let add = Edit::Add { id: id("d"), weight: Weight::ONE, address, incarnation, process };
    let next = base.next(&Change::Resize(vec![add])).unwrap();
    let (index, _) = next.member(&id("d")).unwrap();
    let partner = next.partners(index)[0].get();
    nodes.servers[partner].stop_process().unwrap();
    assert_eq!(hasty.propose(&base, next.clone()).await.unwrap(), Decision::Own);
    assert!(nodes.obeys("d", &next).await);
    nodes.servers[partner].continue_process().unwrap();
}

/// Has a document decided and raised nowhere.
async fn decide_only(nodes: &Nodes, base: &Document, next: &Document) {
    use crate::protocol::{Action, Ballot, Ending, Proposal, Rule};
    let acceptors = base.members().iter().map(|member| (member.id.clone(), member.incarnation));
    let ballot = Ballot { round: 1, proposer: 7 };
    let slot = Some(base.fence());
    let mut proposal = Proposal::new(slot, Rule::Majority, ballot, next.encode().clone(), acceptors);
    let mut actions = proposal.begin();
    while proposal.ending().is_none() {
        let Action::Send(to, control) = actions.remove(0) else { panic!("nobody is behind") };
        let reply = nodes.node(to.as_str()).call(control).await.unwrap();
        actions.extend(proposal.reply(&to, &reply));
    }
    assert_eq!(proposal.ending(), Some(&Ending::Decided(next.encode().clone())));
}

#[tokio::test]
async fn a_node_that_kept_its_data_is_taken_back_with_it_or_without() {
    for nodes in Nodes::both(2) {
        let base = nodes.found(&["a", "b"]).await;
        let store = nodes.store(&["a", "b"]);
        // Nothing happened to it.
        assert_eq!(store.readmit(&base, &id("a"), Held::Nothing).await.unwrap(), base);
        assert_eq!(store.readmit(&base, &id("a"), Held::Keep).await.unwrap(), base);
        assert_eq!(store.readmit(&base, &id("a"), Held::Discard).await.unwrap(), base);
        let restart = || match nodes.servers.first() {
            Some(server) => {
                server.command(&["SAVE"]).unwrap();
                server.restart().unwrap();
            }
            None => {
                let name = nodes.address("a").strip_prefix("memory:").unwrap();
                crate::node::MemoryServer::named(name).restart(true);
            }
        };
        restart();
        let kept = store.readmit(&base, &id("a"), Held::Keep).await.unwrap();
        let member = |document: &Document| document.member(&id("a")).unwrap().1.clone();
        assert_eq!(member(&kept).incarnation, member(&base).incarnation);
        assert_ne!(member(&kept).process, member(&base).process);
        assert!(!counts_as_empty(&kept, "a"));
        // Whoever tries again, because the first attempt was not answered, destroys nothing of what came after it.
        assert_eq!(store.readmit(&kept, &id("a"), Held::Discard).await.unwrap(), kept);
        restart();
        let discarded = store.readmit(&kept, &id("a"), Held::Discard).await.unwrap();
        assert_ne!(member(&discarded).incarnation, member(&base).incarnation);
        assert!(counts_as_empty(&discarded, "a"));
        for name in ["a", "b"] {
            assert!(nodes.obeys(name, &discarded).await);
        }
        assert_eq!(store.readmit(&discarded, &id("a"), Held::Discard).await.unwrap(), discarded);
        // Somebody who still sees the document before discards nothing of the new memory.
        assert_eq!(store.readmit(&kept, &id("a"), Held::Discard).await.unwrap(), discarded);
        assert_eq!(store.readmit(&base, &id("a"), Held::Nothing).await.unwrap(), discarded);
    }
}

#[tokio::test]
async fn there_is_nothing_to_keep_on_an_empty_node() {
    for nodes in Nodes::both(2) {
        let base = nodes.found(&["a", "b"]).await;
        nodes.wipe("a");
        let error = nodes.store(&["a"]).readmit(&base, &id("a"), Held::Keep).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("nothing to keep"), "{error}");
        let error = nodes.store(&["a"]).readmit(&base, &id("x"), Held::Nothing).await.unwrap_err();
        assert!(error.is_configuration(), "{error}");
    }
}

#[tokio::test]
async fn an_older_memory_that_came_back_is_none() {
    let nodes = Nodes::redis(2);
    let base = nodes.found(&["a", "b"]).await;
    let dump = nodes.servers[0].dump().unwrap();
    nodes.wipe("a");
    let store = nodes.store(&["a", "b"]);
    let second = store.readmit(&base, &id("a"), Held::Nothing).await.unwrap();
    nodes.servers[0].restart_from(&dump).unwrap();
    assert!(nodes.obeys("a", &base).await);
    assert!(matches!(store.raise_node(&second, &id("a")).await, Stand::Lost));
    let third = store.readmit(&second, &id("a"), Held::Nothing).await.unwrap();
    assert_eq!(third.epoch(), second.epoch().next());
    assert!(counts_as_empty(&third, "a") && nodes.obeys("a", &third).await);
}
