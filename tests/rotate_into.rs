//! Sessions that go on changed, under ids that the application has made; and sessions in hand that were put down in between.

mod support;

use std::collections::VecDeque;

use sessionring::{Lifetime, SaveError, SealingKeys, Session, SessionId, SessionRing, record::MessagePack};
use support::{Login, login, logins, server};

fn id(name: &str) -> SessionId {
    SessionId::foreign(name).unwrap()
}

on_both! {
    async fn the_session_goes_on_changed_and_the_old_id_is_dead(ring: SessionRing) {
        let logins = logins(&ring).codec(MessagePack);
        for (old, new) in [
            (id("old"), id("new")),
            (SessionId::generate().unwrap(), SessionId::generate().unwrap()),
            (id("older"), SessionId::generate().unwrap()),
        ] {
            logins.create_with_id(&old, &login(1)).await.unwrap();
            let before = logins.load(&old).await.unwrap().unwrap().version();
            let change = |l: &mut Login| {
                l.user += 1;
                l.user
            };
            let (at, answer) = logins.rotate_into(&old, || Ok(new.clone()), change).await.unwrap();
            assert_eq!((at, answer), (new.clone(), 2));
            let session = logins.load(&new).await.unwrap().unwrap();
            assert_eq!(*session, login(2));
            assert!(session.version() >= before);
            assert!(logins.get(&old).await.unwrap().is_none());
            assert!(logins.set(&old, &login(9)).await.unwrap_err().is_deleted());
            assert!(logins.create_with_id(&old, &login(9)).await.unwrap_err().is_deleted());
        }
    }

    async fn an_id_that_is_taken_is_left_alone(ring: SessionRing) {
        let logins = logins(&ring);
        for name in ["old", "taken", "ended"] {
            logins.create_with_id(&id(name), &login(1)).await.unwrap();
        }
        logins.delete(&id("ended")).await.unwrap();
        let mut names = VecDeque::from(["taken", "ended", "free"]);
        let fresh = || Ok(id(names.pop_front().unwrap()));
        let (new, ()) = logins.rotate_into(&id("old"), fresh, |l| l.user += 1).await.unwrap();
        assert_eq!(new, id("free"));
        assert_eq!(logins.get(&id("taken")).await.unwrap(), Some(login(1)));
        assert_eq!(logins.get(&id("free")).await.unwrap(), Some(login(2)));
        assert!(logins.get(&id("ended")).await.unwrap().is_none());
    }

    async fn what_cannot_go_on(ring: SessionRing) {
        let logins = logins(&ring);
        let go = async |old: &str| {
            logins.rotate_into(&id(old), SessionId::generate, |_| ()).await.unwrap_err()
        };
        assert!(go("never there").await.is_not_found());
        logins.create_with_id(&id("ended"), &login(1)).await.unwrap();
        logins.delete(&id("ended")).await.unwrap();
        assert!(go("ended").await.is_deleted());

        logins.create_with_id(&id("small"), &login(1)).await.unwrap();
        let small = logins.clone().max_bytes(100);
        let grow = |l: &mut Login| l.cart.push("x".repeat(100));
        let error = small.rotate_into(&id("small"), SessionId::generate, grow).await.unwrap_err();
        assert!(error.is_too_large());
        assert_eq!(logins.get(&id("small")).await.unwrap(), Some(login(1)));

        let fresh = || SessionId::foreign("");
        let error = logins.rotate_into(&id("small"), fresh, |_| ()).await.unwrap_err();
        assert!(error.is_configuration());
        assert_eq!(logins.get(&id("small")).await.unwrap(), Some(login(1)));
    }

    async fn the_absolute_deadline_stays(ring: SessionRing) {
        let hour = std::time::Duration::from_secs(3600);
        let short = logins(&ring).lifetime(Lifetime::new(hour, hour).unwrap());
        let long = logins(&ring).lifetime(Lifetime::NIST_AAL1);
        short.create_with_id(&id("old"), &login(1)).await.unwrap();
        let (new, ()) = long.rotate_into(&id("old"), SessionId::generate, |_| ()).await.unwrap();
        assert!(long.remaining(&new).await.unwrap().unwrap() <= hour);
    }

    async fn sealed_sessions(ring: SessionRing) {
        let sealed = logins(&ring).seal(SealingKeys::new(1, &[7; 32]).unwrap());
        let old = sealed.create(&login(1)).await.unwrap();
        let (new, ()) = sealed.rotate_into(&old, SessionId::generate, |l| l.user = 2).await.unwrap();
        assert_eq!(sealed.get(&new).await.unwrap(), Some(login(2)));
        assert!(logins(&ring).get(&new).await.is_err());
    }

    async fn races_with_updates_and_log_outs(ring: SessionRing) {
        let logins = logins(&ring);
        for round in 0..60 {
            let old = logins.create(&login(0)).await.unwrap();
            let (moved, added, out) = tokio::join!(
                logins.rotate_into(&old, SessionId::generate, |l| l.user += 1),
                logins.update(&old, |l| l.user += 10),
                async { if round % 2 == 0 { logins.delete(&old).await } else { Ok(()) } },
            );
            out.unwrap();
            assert!(logins.get(&old).await.unwrap().is_none(), "the old id is dead in any case");
            match (moved, added) {
                // Whoever came first, nothing is lost: an update either counts or is refused.
                (Ok((new, ())), added) => {
                    let expected = if added.is_ok() { 11 } else { 1 };
                    assert_eq!(logins.get(&new).await.unwrap().map(|l| l.user), Some(expected));
                }
                (Err(error), _) => assert!(error.is_deleted() && round % 2 == 0, "{error}"),
            }
        }
    }

    async fn a_session_that_was_put_down_is_saved_if_nobody_was_faster(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(1)).await.unwrap();
        let loaded = logins.load(&id).await.unwrap().unwrap();
        let (version, mut value) = (loaded.version(), loaded.into_value());
        value.user = 2;
        let mut again = Session::from_parts(id.clone(), version, value.clone());
        logins.save(&mut again).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(2)));
        for version in [version, 0] {
            let mut late = Session::from_parts(id.clone(), version, login(3));
            match logins.save(&mut late).await {
                Err(SaveError::Conflict(there)) => assert_eq!(**there, login(2)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_an_error_and_nothing_is_changed() {
    let server = server();
    let ring = support::nodes([server.address()])
        .request_timeout(std::time::Duration::from_millis(300))
        .connect()
        .await
        .unwrap();
    let logins = logins(&ring);
    let old = logins.create(&login(1)).await.unwrap();
    server.stop_process().unwrap();
    let error = logins.rotate_into(&old, SessionId::generate, |_| ()).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    server.continue_process().unwrap();
    let still = loop {
        match logins.get(&old).await {
            Ok(session) => break session,
            Err(error) => assert!(error.is_unavailable(), "{error:?}"),
        }
    };
    assert_eq!(still, Some(login(1)));
}

on_both! {
    async fn a_bound_session_keeps_to_its_principal(ring: SessionRing) {
        let logins = logins(&ring);
        let bound = logins.create_for("user 7", &login(1)).await.unwrap();
        let error = logins.rotate_into(&bound, SessionId::generate, |_| ()).await.unwrap_err();
        assert!(error.is_configuration(), "{error}");
        assert_eq!(logins.get(&bound).await.unwrap(), Some(login(1)));
        assert_eq!(logins.revoke_all("user 7").await.unwrap(), 1);
    }
}
