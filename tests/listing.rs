//! Listing and counting: every session once, whatever happens to the ring meanwhile, and nothing that is none.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sessionring::{Error, Lifetime, Listing, SessionId, SessionRing, Sessions, record::Key};
use sessionring_testkit::FaultProxy;
use support::{Login, login, logins, nodes, on, server, servers};
use tokio::time::{Instant, timeout};

/// A hang is a failure.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), work).await.expect("in time")
}

async fn create(sessions: &Sessions<Login>, count: u64) -> Vec<SessionId> {
    let values: Vec<Login> = (0..count).map(login).collect();
    sessions.create_many(&values).await.into_iter().collect::<Result<_, _>>().unwrap()
}

fn keys<'a>(sessions: &Sessions<Login>, ids: impl IntoIterator<Item = &'a SessionId>) -> BTreeSet<Key> {
    ids.into_iter().map(|id| sessions.key_of(id)).collect()
}

/// Reads to the end. No session comes twice.
async fn read<V>(listing: &mut Listing<V>, into: &mut BTreeSet<Key>) -> Vec<Error> {
    let mut errors = Vec::new();
    while let Some(page) = in_time(listing.next()).await {
        match page {
            Ok(page) => {
                assert!(!page.sessions.is_empty());
                for session in page.sessions {
                    assert!(into.insert(session.key), "{} was listed twice", session.key);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}

on_both! {
    async fn every_session_is_listed_once_with_what_is_known_of_it(ring: SessionRing) {
        let logins = logins(&ring).lifetime(Lifetime::OWASP);
        let ids = create(&logins, 400).await;
        let (out, live) = ids.split_at(100);
        logins.delete_many(out).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        ring.sessions::<u64>("others").create_many(&[1; 50]).await;
        let owners: BTreeMap<Key, _> = live.iter().map(|id| (logins.key_of(id), ring.owner(id))).collect();

        let mut found = BTreeMap::new();
        let mut listing = logins.list_with_values().unthrottled();
        while let Some(page) = in_time(listing.next()).await {
            let page = page.unwrap();
            for session in page.sessions {
                assert!(session.remaining <= Lifetime::OWASP.idle());
                assert!(session.remaining > Lifetime::OWASP.idle() - Duration::from_secs(60));
                assert!(session.bytes > 35, "{}", session.bytes);
                assert_eq!(session.value.unwrap().cart, ["book", "tea"]);
                assert!(found.insert(session.key, page.node.clone()).is_none());
            }
        }
        assert_eq!(found, owners);
        assert!(!listing.retry());

        let mut keys_alone = BTreeSet::new();
        assert!(read(&mut logins.list().unthrottled(), &mut keys_alone).await.is_empty());
        assert!(keys_alone.iter().eq(owners.keys()));
        for count in [in_time(logins.count()).await, in_time(logins.estimate()).await] {
            assert!(count.is_complete());
            assert_eq!(count.total(), 300);
            for node in &count.nodes {
                let here = owners.values().filter(|owner| **owner == node.node).count();
                assert_eq!(node.sessions, here as u64, "{}", node.node);
            }
        }
        assert_eq!(in_time(ring.sessions::<u64>("nobody").count()).await.nodes.len(), 3);
    }

    /// What moves while it is listed is at its owner when the source is looked at, and at neither for nobody.
    async fn what_is_carried_over_meanwhile_is_listed_once(ring: SessionRing) {
        let logins = logins(&ring);
        let emptied = ring.plan().reweight("c", 0).unwrap().unthrottled().start().await.unwrap();
        in_time(emptied.wait()).await.unwrap();
        let ids = create(&logins, 600).await;
        let resize = ring.plan().reweight("c", 1).unwrap().rate(1).start().await.unwrap();
        assert!(ring.is_resizing());
        // At this pace a SCAN is of four keys, and goes on only as pages are read.
        let mut listing = logins.list().rate(200);
        let mut found = BTreeSet::new();
        let first = in_time(listing.next()).await.unwrap().unwrap();
        found.extend(first.sessions.iter().map(|session| session.key));
        let sessions: Vec<_> = ids.iter().map(|id| (id.clone(), login(7))).collect();
        logins.set_many(&sessions).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        assert!(read(&mut listing, &mut found).await.is_empty());
        assert_eq!(found, keys(&logins, &ids));
        assert!(ring.is_resizing());
        drop(resize);
    }

    /// The nodes that were listed under the old topology are listed again under the new one, where sessions may have come to.
    async fn a_resize_that_begins_and_ends_meanwhile_hides_nothing(ring: SessionRing) {
        let logins = logins(&ring);
        let ids = create(&logins, 300).await;
        let mut listing = logins.list().rate(200);
        let mut found = BTreeSet::new();
        let first = in_time(listing.next()).await.unwrap().unwrap();
        found.extend(first.sessions.iter().map(|session| session.key));
        let resize = ring.plan().remove(first.node.as_str()).unwrap().unthrottled().start().await.unwrap();
        in_time(resize.wait()).await.unwrap();
        assert!(read(&mut listing, &mut found).await.is_empty());
        assert_eq!(found, keys(&logins, &ids));
    }
}

/// A record that its node does not own any more, or owns again without it, is no session.
#[tokio::test]
async fn leftovers_are_not_listed() {
    let (a, b) = (server(), server());
    let ring = nodes([a.address()]).connect().await.unwrap();
    let logins = logins(&ring);
    let ids = create(&logins, 50).await;
    let record = |id: &SessionId| {
        let reply = a.command(&[b"GET", logins.key_of(id).as_bytes()]).unwrap();
        reply.bytes().unwrap().to_vec()
    };
    let before: Vec<_> = ids.iter().map(record).collect();
    in_time(ring.add_node("b", b.address()).await.unwrap().wait()).await.unwrap();
    let b_id = "b".parse().unwrap();
    let (at, id) = ids.iter().enumerate().find(|(_, id)| ring.owner(id) == b_id).expect("one has moved");
    let key = logins.key_of(id);
    b.command(&[b"DEL", key.as_bytes()]).unwrap();
    a.command(&[b"SET", key.as_bytes(), &before[at], b"EX", b"1000"]).unwrap();
    let others = || keys(&logins, ids.iter().filter(|other| *other != id));

    let mut found = BTreeSet::new();
    assert!(read(&mut logins.list().unthrottled(), &mut found).await.is_empty());
    assert_eq!(found, others(), "its node is another");
    a.command(&[b"DEL", key.as_bytes()]).unwrap();
    in_time(ring.remove_node("b").await.unwrap().wait()).await.unwrap();
    a.command(&[b"SET", key.as_bytes(), &before[at], b"EX", b"1000"]).unwrap();
    assert!(logins.get(id).await.unwrap().is_none());
    let mut found = BTreeSet::new();
    assert!(read(&mut logins.list().unthrottled(), &mut found).await.is_empty());
    assert_eq!(found, others(), "it is of an earlier tenure");
    assert_eq!(in_time(logins.estimate()).await.total(), 49);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_down_is_told_of_and_listed_when_it_is_back() {
    let servers = servers(3);
    let ring = on(&servers).request_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let logins = logins(&ring);
    let ids = create(&logins, 200).await;
    let (lost, kept): (Vec<_>, Vec<_>) = ids.iter().partition(|id| ring.owner(id).as_str() == "b");
    servers[1].dump().unwrap();
    servers[1].kill().unwrap();

    let mut listing = logins.list().unthrottled();
    let mut found = BTreeSet::new();
    let errors = read(&mut listing, &mut found).await;
    assert_eq!(found, keys(&logins, kept));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].is_unavailable() && errors[0].node().unwrap().as_str() == "b", "{errors:?}");
    let count = in_time(logins.list().unthrottled().count()).await;
    assert!(!count.is_complete() && count.total() == found.len() as u64, "{count:?}");
    assert!(count.nodes[1].error.is_some() && count.nodes[0].error.is_none());

    servers[1].restart().unwrap();
    assert!(listing.retry());
    let mut rest = BTreeSet::new();
    assert!(read(&mut listing, &mut rest).await.is_empty());
    assert_eq!(rest, keys(&logins, lost), "what was listed is not listed again");
    assert!(!listing.retry());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_costs_no_session_and_a_listing_that_is_dropped_leaves_none() {
    let server = server();
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let ring = nodes([proxy.address()]).connect().await.unwrap();
    let logins = logins(&ring);
    let ids = create(&logins, 300).await;
    let before = proxy.open_connections();
    let mut listing = logins.list().rate(2_000);
    let mut found = BTreeSet::new();
    for _ in 0..3 {
        let page = in_time(listing.next()).await.unwrap().unwrap();
        found.extend(page.sessions.iter().map(|session| session.key));
    }
    assert!(proxy.open_connections() > before, "it uses connections of its own");
    proxy.cut();
    assert!(read(&mut listing, &mut found).await.is_empty());
    assert_eq!(found, keys(&logins, &ids));

    let mut listing = logins.list().rate(500);
    in_time(listing.next()).await.unwrap().unwrap();
    drop(listing);
    in_time(async {
        while proxy.open_connections() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    ring.close().await;
    let errors = read(&mut logins.list(), &mut BTreeSet::new()).await;
    assert!(errors.len() == 1 && errors[0].is_closed(), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn it_goes_at_the_pace_that_was_asked_for() {
    let ring = SessionRing::builder().node("a", "memory:").connect().await.unwrap();
    let logins = logins(&ring);
    create(&logins, 1_000).await;
    let begin = Instant::now();
    assert_eq!(logins.list().rate(1_000).count().await.total(), 1_000);
    let took = begin.elapsed().as_millis();
    assert!((950..1_200).contains(&took), "{took}");
    let begin = Instant::now();
    assert_eq!(logins.list().unthrottled().count().await.total(), 1_000);
    assert_eq!(begin.elapsed().as_millis(), 0);
}

/// A namespace of few sessions beside one of many: judged by a part of the keys.
#[tokio::test]
async fn an_estimate_is_near() {
    let server = server();
    for address in [server.address(), "memory:".into()] {
        let ring = nodes([address]).connect().await.unwrap();
        let (logins, carts) = (logins(&ring), ring.sessions::<u64>("cart"));
        create(&logins, 6_000).await;
        carts.create_many(&vec![7; 6_000]).await;
        let count = in_time(logins.estimate()).await;
        assert!((4_500..7_500).contains(&count.total()), "{count:?}");
    }
}
