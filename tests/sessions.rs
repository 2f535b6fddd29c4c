//! What the session API promises, on real servers and in memory.

mod support;

use std::time::Duration;

use sessionring::{
    ErrorKind, Lifetime, SessionId, SessionRing,
    record::{Json, MessagePack},
};
use support::{Login, login, logins};

const HOUR: Duration = Duration::from_secs(3600);

on_both! {
    async fn a_session_from_log_in_to_log_out(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(7)).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(7)));
        assert!(logins.exists(&id).await.unwrap());

        logins.set(&id, &login(8)).await.unwrap();
        let items = logins.update(&id, |l| { l.cart.push("ink".into()); l.cart.len() }).await.unwrap();
        assert_eq!(items, 3);
        assert_eq!(logins.get(&id).await.unwrap().unwrap().cart, ["book", "tea", "ink"]);
        logins.touch(&id).await.unwrap();

        logins.delete(&id).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), None);
        assert!(!logins.exists(&id).await.unwrap());
        assert_eq!(logins.remaining(&id).await.unwrap(), None);
    }

    async fn a_log_out_is_final(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(7)).await.unwrap();
        logins.delete(&id).await.unwrap();
        for _ in 0..2 {
            assert!(logins.set(&id, &login(1)).await.unwrap_err().is_deleted());
            assert!(logins.update(&id, |l| l.user = 1).await.unwrap_err().is_deleted());
            assert!(logins.touch(&id).await.unwrap_err().is_deleted());
            assert!(logins.create_with_id(&id, &login(1)).await.unwrap_err().is_deleted());
            logins.delete(&id).await.unwrap();
        }
        assert_eq!(logins.get(&id).await.unwrap(), None);
    }

    async fn a_generated_id_is_never_upserted(ring: SessionRing) {
        let logins = logins(&ring).upsert_foreign(true);
        let id = SessionId::generate().unwrap();
        assert!(logins.set(&id, &login(1)).await.unwrap_err().is_not_found());
        assert!(logins.update(&id, |l| l.user = 1).await.unwrap_err().is_not_found());
        assert!(logins.touch(&id).await.unwrap_err().is_not_found());
        logins.delete(&id).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), None);
    }

    async fn a_foreign_id_may_be_upserted_when_asked_for(ring: SessionRing) {
        let id = SessionId::foreign("customer-4711-with-a-long-and-secret-tail").unwrap();
        let strict = logins(&ring);
        assert!(strict.set(&id, &login(1)).await.unwrap_err().is_not_found());
        let upserting = logins(&ring).upsert_foreign(true);
        upserting.set(&id, &login(1)).await.unwrap();
        upserting.set(&id, &login(2)).await.unwrap();
        assert_eq!(strict.get(&id).await.unwrap(), Some(login(2)));
        upserting.delete(&id).await.unwrap();
        assert!(upserting.set(&id, &login(3)).await.unwrap_err().is_deleted());
        // Even an id that never was stays logged out, whatever was in flight.
        let other = SessionId::foreign("another").unwrap();
        upserting.delete(&other).await.unwrap();
        assert!(upserting.set(&other, &login(3)).await.unwrap_err().is_deleted());
    }

    async fn create_with_id_takes_an_id_once(ring: SessionRing) {
        let logins = logins(&ring);
        let id = SessionId::generate().unwrap();
        logins.create_with_id(&id, &login(1)).await.unwrap();
        assert!(logins.create_with_id(&id, &login(2)).await.unwrap_err().is_exists());
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(1)));
    }

    async fn namespaces_are_apart(ring: SessionRing) {
        let (logins, carts) = (logins(&ring), ring.sessions::<Login>("cart"));
        let id = logins.create(&login(7)).await.unwrap();
        assert_eq!(carts.get(&id).await.unwrap(), None);
        carts.create_with_id(&id, &login(8)).await.unwrap();
        carts.delete(&id).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(7)));
    }

    async fn too_large_is_refused_with_sizes_and_changes_nothing(ring: SessionRing) {
        let logins = logins(&ring);
        let large = Login { user: 7, cart: vec!["x".repeat(70_000)] };
        let id = logins.create(&login(7)).await.unwrap();
        for error in [
            logins.create(&large).await.unwrap_err(),
            logins.set(&id, &large).await.unwrap_err(),
            logins.update(&id, |l| *l = large.clone()).await.unwrap_err(),
        ] {
            assert!(error.is_too_large());
            let text = error.to_string();
            assert!(text.contains("70007 bytes") && text.contains("65536"), "{text}");
        }
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(7)));
        // Written by one with a larger limit, read by one with a smaller.
        logins.clone().max_bytes(100_000).set(&id, &large).await.unwrap();
        assert!(logins.get(&id).await.unwrap_err().is_too_large());
        assert_eq!(logins.max_bytes(100_000).get(&id).await.unwrap(), Some(large));
    }

    async fn idle_and_absolute_lifetime(ring: SessionRing) {
        let quarter = Duration::from_millis(400);
        let lifetime = Lifetime::new(quarter, 2 * quarter).unwrap();
        let short = logins(&ring).lifetime(lifetime);
        let (left, touched) = (short.create(&login(1)).await.unwrap(), short.create(&login(2)).await.unwrap());
        let remaining = short.remaining(&left).await.unwrap().unwrap();
        assert!(remaining <= quarter, "{remaining:?}");
        // Touched or written well within the idle time, a session lives on, until its absolute deadline.
        let begin = tokio::time::Instant::now();
        let mut lives = 0;
        loop {
            tokio::time::sleep(quarter / 8).await;
            let alive = if lives % 2 == 0 {
                short.touch(&touched).await
            } else {
                short.set(&touched, &login(2)).await
            };
            match alive {
                Ok(()) => lives += 1,
                Err(error) => {
                    assert!(error.is_not_found(), "{error}");
                    break;
                }
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "outlived its absolute deadline");
        }
        assert_eq!(short.get(&touched).await.unwrap(), None);
        assert_eq!(short.get(&left).await.unwrap(), None, "nobody touched it");
        assert!(short.set(&left, &login(1)).await.unwrap_err().is_not_found(), "expired is not deleted");
    }

    async fn touch_extends_to_the_idle_lifetime(ring: SessionRing) {
        let day = Lifetime::new(24 * HOUR, 48 * HOUR).unwrap();
        let hour = Lifetime::new(HOUR, 48 * HOUR).unwrap();
        let id = logins(&ring).lifetime(hour).create(&login(1)).await.unwrap();
        let days = logins(&ring).lifetime(day);
        days.touch(&id).await.unwrap();
        let remaining = days.remaining(&id).await.unwrap().unwrap();
        assert!(remaining > 23 * HOUR && remaining <= 24 * HOUR, "{remaining:?}");
    }

    async fn a_visit_reads_and_slides_when_it_is_due(ring: SessionRing) {
        let lasting = |idle| logins(&ring).lifetime(Lifetime::new(idle, 48 * HOUR).unwrap()).slide_after(0.5);
        let (hour, day) = (lasting(HOUR), lasting(24 * HOUR));
        let ids: Vec<_> = hour.create_many(&[1, 2, 3].map(login)).await.into_iter().map(Result::unwrap).collect();
        for (id, user) in ids.iter().zip(1..) {
            assert_eq!(hour.visit(id).await.unwrap(), Some(login(user)));
            assert!(hour.remaining(id).await.unwrap().unwrap() <= HOUR);
        }
        // For this handle 23 of 24 hours have passed.
        assert_eq!(day.visit(&ids[0]).await.unwrap(), Some(login(1)));
        assert!(day.remaining(&ids[0]).await.unwrap().unwrap() > 23 * HOUR);
        day.delete(&ids[1]).await.unwrap();
        let unknown = SessionId::generate().unwrap();
        assert_eq!(day.visit(&ids[1]).await.unwrap(), None);
        assert_eq!(day.visit(&unknown).await.unwrap(), None);
        let all = [&ids[..], &[unknown]].concat();
        let visited: Vec<_> = day.visit_many(&all).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(visited, [Some(login(1)), None, Some(login(3)), None]);
        assert!(day.remaining(&ids[2]).await.unwrap().unwrap() > 23 * HOUR);
    }

    async fn many_at_once_each_with_its_own_result(ring: SessionRing) {
        let logins = logins(&ring);
        let values: Vec<Login> = (0..300).map(login).collect();
        let ids: Vec<SessionId> = logins.create_many(&values).await.into_iter().map(Result::unwrap).collect();
        let read: Vec<Login> = logins.get_many(&ids).await.into_iter().map(|r| r.unwrap().unwrap()).collect();
        assert_eq!(read, values);

        // Every third is logged out, and one id is unknown.
        let out: Vec<SessionId> = ids.iter().step_by(3).cloned().collect();
        assert!(logins.delete_many(&out).await.iter().all(Result::is_ok));
        let mut asked = ids.clone();
        asked.push(SessionId::generate().unwrap());
        let expect = |i: usize, error: &sessionring::Error| match i {
            300 => assert!(error.is_not_found()),
            _ => assert!(i.is_multiple_of(3) && error.is_deleted(), "{i}: {error}"),
        };
        for (i, result) in logins.touch_many(&asked).await.iter().enumerate() {
            if i == 300 || i.is_multiple_of(3) { expect(i, result.as_ref().unwrap_err()) } else { assert!(result.is_ok()) }
        }
        let sessions: Vec<_> = asked.iter().map(|id| (id.clone(), login(9))).collect();
        for (i, result) in logins.set_many(&sessions).await.iter().enumerate() {
            if i == 300 || i.is_multiple_of(3) { expect(i, result.as_ref().unwrap_err()) } else { assert!(result.is_ok()) }
        }
        let updated = logins.update_many(&asked, |id, l| {
            assert!(asked.contains(id));
            l.user += 1;
            l.user
        }).await;
        for (i, result) in updated.iter().enumerate() {
            if i == 300 || i.is_multiple_of(3) { expect(i, result.as_ref().unwrap_err()) } else { assert_eq!(*result.as_ref().unwrap(), 10) }
        }
        let there: Vec<bool> = logins.exists_many(&asked).await.into_iter().map(Result::unwrap).collect();
        assert!(there.iter().enumerate().all(|(i, &there)| there == (i < 300 && !i.is_multiple_of(3))));
        let left = logins.remaining_many(&asked).await;
        assert!(left.iter().zip(&there).all(|(left, &there)| left.as_ref().unwrap().is_some() == there));

        assert!(logins.create_with_id_many(&[(asked[300].clone(), login(1)), (asked[1].clone(), login(1))]).await
            .iter().zip([None, Some(ErrorKind::Exists)]).all(|(r, kind)| r.as_ref().err().map(|e| e.kind()) == kind));
        assert!(logins.get_many(&[]).await.is_empty());
    }

    async fn one_too_large_among_many_fails_alone(ring: SessionRing) {
        let logins = logins(&ring).max_bytes(100);
        let values = [login(1), Login { user: 2, cart: vec!["x".repeat(200)] }, login(3)];
        let results = logins.create_many(&values).await;
        assert!(results[0].is_ok() && results[2].is_ok());
        assert!(results[1].as_ref().unwrap_err().is_too_large());
    }

    async fn the_same_id_twice_in_one_call(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(0)).await.unwrap();
        let ids = vec![id.clone(); 10];
        assert!(logins.update_many(&ids, |_, l| l.user += 1).await.iter().all(Result::is_ok));
        assert_eq!(logins.get(&id).await.unwrap().unwrap().user, 10);
    }

    async fn codecs_may_change_while_sessions_live(ring: SessionRing) {
        let bincode = logins(&ring);
        let id = bincode.create(&login(7)).await.unwrap();
        let named = logins(&ring).codec(MessagePack);
        assert_eq!(named.get(&id).await.unwrap(), Some(login(7)));
        named.update(&id, |l| l.user = 8).await.unwrap();
        let json = logins(&ring).codec(Json);
        assert_eq!(json.get(&id).await.unwrap(), Some(login(8)));
        json.update(&id, |l| l.user = 9).await.unwrap();
        assert_eq!(bincode.get(&id).await.unwrap(), Some(login(9)));
    }

    async fn a_session_of_another_type_is_corrupt_and_can_be_ended(ring: SessionRing) {
        let id = ring.sessions::<String>("login").create(&"not a login".to_owned()).await.unwrap();
        let logins = logins(&ring);
        let error = logins.get(&id).await.unwrap_err();
        assert!(error.is_corrupt() && error.node().is_some(), "{error}");
        assert!(!error.to_string().contains("not a login"), "{error}");
        assert!(logins.update(&id, |l| l.user = 1).await.unwrap_err().is_corrupt());
        logins.delete(&id).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_longest_times_there_are_overflow_nothing() {
    let ring = support::nodes(["memory:".to_owned()])
        .request_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .max_clock_skew(Duration::MAX)
        .connect()
        .await
        .unwrap();
    let logins = logins(&ring);
    let id = logins.create(&login(7)).await.unwrap();
    logins.update(&id, |l| l.user = 8).await.unwrap();
    assert_eq!(logins.get_many(std::slice::from_ref(&id)).await.len(), 1);
    logins.delete(&id).await.unwrap();
    ring.close().await;
}
