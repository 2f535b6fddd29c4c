use super::*;
use crate::topology::{Fence, MetaKeys};

#[tokio::test]
async fn the_newest_document_is_found_through_any_node_that_knows_of_it() {
    for nodes in Nodes::both(3) {
        let first = nodes.found(&["a", "b"]).await;
        let store = nodes.store(&["a", "b"]);
        let loaded = store.load(None).await.unwrap();
        assert_eq!(loaded.document.as_ref(), Some(&first));
        assert!(loaded.blank.is_empty() && loaded.unreachable.is_empty());
        let Enlisted { incarnation, process } =
            store.enlist(&first, &id("c"), nodes.address("c")).await.unwrap();
        let address = nodes.address("c").to_owned();
        let add = Edit::Add { id: id("c"), weight: Weight::ONE, address, incarnation, process };
        let second = first.next(&Change::Resize(vec![add])).unwrap();
        assert_eq!(store.propose(&first, second.clone()).await.unwrap(), Decision::Own);
        let third = second.next(&Change::Settle).unwrap();
        assert_eq!(store.propose(&second, third.clone()).await.unwrap(), Decision::Own);
        // a lags behind, and is the only contact point.
        for name in ["b", "c"] {
            assert!(nodes.obeys(name, &third).await);
        }
        assert_eq!(nodes.store(&["a"]).load(Some(&first)).await.unwrap().document, Some(third.clone()));
        // Whoever knows more than the nodes keeps what he knows.
        let beyond = reweighted(&third, "a", 2);
        assert_eq!(nodes.store(&["a"]).load(Some(&beyond)).await.unwrap().document, Some(beyond));
    }
}

#[tokio::test]
async fn nodes_that_are_down_or_empty_are_listed() {
    for nodes in Nodes::both(2) {
        let document = nodes.found(&["a", "b"]).await;
        nodes.wipe("b");
        let nobody = nowhere();
        let store = store(&[("a", nodes.address("a")), ("x", &nobody)]);
        let loaded = store.load(None).await.unwrap();
        assert_eq!(loaded.document, Some(document));
        assert_eq!(loaded.blank, [id("b")]);
        assert!(matches!(&loaded.unreachable[..], [(x, error)] if *x == id("x") && error.is_unavailable()));
    }
    let loaded = store(&[("a", &nowhere())]).load(None).await.unwrap();
    assert!(loaded.document.is_none() && loaded.unreachable.len() == 1);
}

#[tokio::test]
async fn a_contact_point_that_moved_is_looked_at_where_the_document_says() {
    let nodes = Nodes::memory(2);
    let document = nodes.found(&["a", "b"]).await;
    let nobody = nowhere();
    let store = store(&[("a", nodes.address("a")), ("b", &nobody)]);
    let loaded = store.load(None).await.unwrap();
    assert_eq!(loaded.document, Some(document));
    assert!(loaded.unreachable.is_empty(), "{loaded:?}");
}

#[tokio::test]
async fn two_rings_of_one_name_are_told_apart() {
    let nodes = Nodes::memory(2);
    nodes.found(&["a"]).await;
    nodes.found(&["b"]).await;
    let error = nodes.store(&["a", "b"]).load(None).await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("two rings"), "{error}");
}

#[tokio::test]
async fn what_is_stored_must_be_whole() {
    let nodes = Nodes::redis(2);
    let document = nodes.found(&["a", "b"]).await;
    let keys = MetaKeys::new(RING);
    let a = &nodes.servers[0];
    let set = |key: &str, bytes: &[u8]| {
        a.client().unwrap().command(&[b"SET", key.as_bytes(), bytes]).unwrap().ok().unwrap();
    };
    let store = nodes.store(&["a"]);
    let unreachable = || async {
        let loaded = store.load(None).await.unwrap();
        assert!(loaded.document.is_none(), "{loaded:?}");
        loaded.unreachable.into_iter().next().unwrap().1
    };
    let mut damaged = document.encode().to_vec();
    damaged.pop();
    set(&keys.document, &damaged);
    assert!(unreachable().await.is_corrupt());
    let other = reweighted(&document, "a", 2);
    set(&keys.document, other.encode());
    assert!(unreachable().await.is_corrupt());
    a.command(&["DEL", &keys.document]).unwrap();
    assert!(unreachable().await.is_configuration());
    set(&keys.fence, b"\x01garbage");
    assert!(unreachable().await.is_configuration());
    let foreign = Fence { cluster: 1, ..document.fence() };
    set(&keys.fence, &foreign.encode());
    set(&keys.document, document.encode());
    let error = unreachable().await;
    assert!(error.is_configuration() && error.to_string().contains("another ring"), "{error}");
    let newer = Fence { protocol: crate::topology::PROTOCOL_VERSION + 1, ..document.fence() };
    set(&keys.fence, &newer.encode());
    assert!(store.load(None).await.unwrap_err().is_upgrade_required());
}
