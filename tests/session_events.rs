//! What happens to sessions, as whoever listens hears it.

mod support;

use std::time::Duration;

use sessionring::{Lifetime, SessionEvent, SessionEvents, SessionRing, Sessions};
use support::{Login, login, logins, nodes, server};

async fn next(events: &mut SessionEvents) -> SessionEvent {
    tokio::time::timeout(Duration::from_secs(30), events.next()).await.expect("in time").expect("an event")
}

/// The next event is of this kind, and of this session.
macro_rules! expect {
    ($events:ident, $kind:ident, $sessions:expr, $id:expr) => {
        match next(&mut $events).await {
            SessionEvent::$kind(session) => assert_eq!(session.key, $sessions.key_of($id)),
            other => panic!("{other:?}"),
        }
    };
}

async fn gone(sessions: &Sessions<Login>, id: &sessionring::SessionId) {
    while sessions.get(id).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

on_both! {
    async fn beginnings_and_ends_are_told(ring: SessionRing) {
        let logins = logins(&ring);
        // Before anybody listens.
        let early = logins.create(&login(1)).await.unwrap();
        let (mut all, mut carts) = (ring.session_events(), ring.sessions::<u64>("cart").events());
        let id = logins.create(&login(2)).await.unwrap();
        expect!(all, Created, logins, &id);
        let many = logins.create_many(&[login(3), login(4)]).await;
        for id in &many {
            expect!(all, Created, logins, id.as_ref().unwrap());
        }
        let named = sessionring::SessionId::generate().unwrap();
        logins.create_with_id(&named, &login(5)).await.unwrap();
        expect!(all, Created, logins, &named);
        assert!(logins.create_with_id(&named, &login(5)).await.unwrap_err().is_exists());
        logins.set(&id, &login(6)).await.unwrap();
        logins.touch(&id).await.unwrap();
        logins.delete(&id).await.unwrap();
        expect!(all, Deleted, logins, &id);
        // It was over before.
        logins.delete(&id).await.unwrap();
        assert!(logins.get(&id).await.unwrap().is_none());
        assert!(logins.get(&sessionring::SessionId::generate().unwrap()).await.unwrap().is_none());
        logins.delete_many(&[early.clone(), named.clone()]).await;
        expect!(all, Deleted, logins, &early);
        expect!(all, Deleted, logins, &named);

        let cart = ring.sessions::<u64>("cart").create(&7).await.unwrap();
        match next(&mut carts).await {
            SessionEvent::Created(session) => {
                assert_eq!((&*session.namespace, &session.node), ("cart", &ring.owner(&cart)));
            }
            other => panic!("{other:?}"),
        }
        ring.close().await;
        assert!(carts.next().await.is_none());
    }

    async fn what_was_seen_alive_and_is_gone_has_expired(ring: SessionRing) {
        let short = Lifetime::new(Duration::from_millis(50), Duration::from_millis(50)).unwrap();
        let logins = logins(&ring).lifetime(short);
        let unseen = logins.create(&login(1)).await.unwrap();
        gone(&logins, &unseen).await;
        let mut events = logins.events();
        assert!(logins.get(&unseen).await.unwrap().is_none());
        for round in 0..2 {
            let id = logins.create(&login(2)).await.unwrap();
            expect!(events, Created, logins, &id);
            gone(&logins, &id).await;
            expect!(events, Expired, logins, &id);
            match round {
                0 => drop(logins.touch(&id).await.unwrap_err()),
                _ => assert!(!logins.exists(&id).await.unwrap()),
            }
        }
        // Told once; this comes next.
        let id = logins.create(&login(3)).await.unwrap();
        expect!(events, Created, logins, &id);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_no_id_is_in_it() {
    let server = server();
    let ring = nodes([server.address()]).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create(&login(1)).await.unwrap();
    let mut events = logins.events();
    server.command(&[b"SET", logins.key_of(&id).as_bytes(), b"garbage"]).unwrap();
    assert!(logins.get(&id).await.unwrap_err().is_corrupt());
    let event = next(&mut events).await;
    assert!(matches!(event, SessionEvent::Corrupt(_)), "{event:?}");
    let shown = format!("{event:?}");
    assert!(shown.contains("login") && !shown.contains(&id.expose()), "{shown}");
    logins.delete(&id).await.unwrap();
    expect!(events, Deleted, logins, &id);
}

on_both! {
    async fn rotations_and_revocations_are_told(ring: SessionRing) {
        let logins = logins(&ring);
        let mut events = logins.events();
        let old = logins.create(&login(1)).await.unwrap();
        expect!(events, Created, logins, &old);
        let new = logins.rotate(&old).await.unwrap();
        let (old, mut latest) = (logins.key_of(&old), logins.key_of(&new));
        assert!(matches!(next(&mut events).await, SessionEvent::Rotated(session, to) if session.key == old && to == latest));
        let bound = logins.bind(&new, "user 7").await.unwrap();
        let key = logins.key_of(&bound);
        assert!(matches!(next(&mut events).await, SessionEvent::Rotated(session, to) if session.key == latest && to == key));
        latest = key;
        let other = logins.create_for("user 7", &login(2)).await.unwrap();
        expect!(events, Created, logins, &other);
        assert_eq!(logins.revoke_all_but("user 7", &other).await.unwrap(), 1);
        assert!(matches!(next(&mut events).await, SessionEvent::Revoked(session) if session.key == latest));
        assert_eq!(logins.revoke_all("user 7").await.unwrap(), 1);
        expect!(events, Revoked, logins, &other);
        // Neither the list of his sessions nor what stands where sessions were is one.
        assert_eq!(logins.count().await.total(), 0);
    }
}
