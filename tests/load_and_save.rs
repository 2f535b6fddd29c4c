//! Sessions in hand: loaded, changed and saved while others do the same. Nothing is lost without a word.

mod support;

use std::collections::BTreeSet;

use sessionring::{Error, SaveError, Session, SessionId, SessionRing};
use support::{Login, login, logins, on, servers};
use tokio::task::JoinSet;

async fn loaded(ring: &SessionRing, id: &SessionId) -> Session<Login> {
    logins(ring).load(id).await.unwrap().expect("a session")
}

on_both! {
    async fn a_session_is_loaded_changed_and_saved(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(7)).await.unwrap();
        let mut session = loaded(&ring, &id).await;
        assert_eq!((session.id(), session.user), (&id, 7));
        let first = session.version();
        for user in [8, 9] {
            session.user = user;
            logins.save(&mut session).await.unwrap();
            assert_eq!(logins.get(&id).await.unwrap(), Some(login(user)));
        }
        assert_eq!(session.version(), first + 2);
        assert_eq!(loaded(&ring, &id).await.version(), first + 2);
        assert_eq!(session.into_value(), login(9));
    }

    async fn a_conflict_shows_what_is_there_and_changes_nothing(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(1)).await.unwrap();
        let (mut mine, mut other) = (loaded(&ring, &id).await, loaded(&ring, &id).await);
        other.user = 2;
        logins.save(&mut other).await.unwrap();
        mine.user = 3;
        let version = mine.version();
        for _ in 0..2 {
            let Err(SaveError::Conflict(there)) = logins.save(&mut mine).await else { panic!("saved") };
            assert_eq!((there.user, there.version(), there.id()), (2, other.version(), &id));
            assert_eq!((mine.user, mine.version()), (3, version), "what is in hand stays in hand");
        }
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(2)));
        // What came with the conflict can be saved.
        let Err(SaveError::Conflict(mut there)) = logins.save(&mut mine).await else { panic!("saved") };
        there.user = 4;
        logins.save(&mut there).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(4)));
        let error = Error::from(logins.save(&mut mine).await.unwrap_err());
        assert!(error.is_conflict(), "{error}");
    }

    async fn many_are_loaded_and_saved_each_with_a_result_of_its_own(ring: SessionRing) {
        let logins = logins(&ring);
        let ids: Vec<SessionId> =
            logins.create_many(&[1, 2, 3, 4].map(login)).await.into_iter().collect::<Result<_, _>>().unwrap();
        logins.delete(&ids[3]).await.unwrap();
        let mut loaded = Vec::new();
        for (i, session) in logins.load_many(&ids).await.into_iter().enumerate() {
            let session = session.unwrap();
            assert_eq!(session.as_ref().map(|session| (session.id(), session.user)), ids.get(i).filter(|_| i < 3).map(|id| (id, i as u64 + 1)));
            loaded.extend(session);
        }
        logins.set(&ids[0], &login(10)).await.unwrap();
        logins.delete(&ids[1]).await.unwrap();
        let version = loaded[2].version();
        loaded.iter_mut().for_each(|session| session.user += 100);
        let saved = logins.save_many(&mut loaded).await;
        match &saved[..] {
            [Err(SaveError::Conflict(there)), Err(SaveError::Failed(error)), Ok(())] => {
                assert_eq!((there.id(), there.user), (&ids[0], 10));
                assert!(error.is_deleted(), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(loaded[2].version(), version + 1);
        let users = logins.get_many(&ids).await.into_iter().map(|login| login.unwrap().map(|login| login.user));
        assert_eq!(users.collect::<Vec<_>>(), [Some(10), None, Some(103), None]);
        assert!(logins.save_many(&mut loaded[2..]).await[0].is_ok(), "it is in hand as it was saved");
        assert!(logins.load_many(&[]).await.is_empty());
    }

    async fn a_save_never_brings_a_session_back(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(1)).await.unwrap();
        let mut session = loaded(&ring, &id).await;
        logins.delete(&id).await.unwrap();
        assert!(logins.load(&id).await.unwrap().is_none());
        for error in [
            Error::from(logins.save(&mut session).await.unwrap_err()),
            logins.save_or_merge(&mut session, |_, _| panic!("nothing to merge with")).await.unwrap_err(),
        ] {
            assert!(error.is_deleted(), "{error}");
        }
        assert_eq!(logins.get(&id).await.unwrap(), None);
        let unknown = SessionId::generate().unwrap();
        assert!(logins.load(&unknown).await.unwrap().is_none());
    }

    async fn a_merge_gets_what_was_in_hand_each_time(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(1)).await.unwrap();
        let mut session = loaded(&ring, &id).await;
        session.cart.push("ink".into());
        let mut seen = Vec::new();
        // Whoever merges is overtaken again, three times.
        for user in 10..13 {
            logins.update(&id, |l| l.user = user).await.unwrap();
            let mut hand = loaded(&ring, &id).await;
            logins.update(&id, |l| l.cart.push(format!("{user}"))).await.unwrap();
            hand.cart = session.cart.clone();
            logins.save_or_merge(&mut hand, |mine, theirs| {
                seen.push((mine.cart.clone(), theirs.user));
                theirs.cart.retain(|item| !mine.cart.contains(item));
                theirs.cart.extend(mine.cart.iter().cloned());
            }).await.unwrap();
            assert_eq!(*hand, logins.get(&id).await.unwrap().unwrap(), "it is what was saved");
        }
        let mine = ["book", "tea", "ink"].map(String::from).to_vec();
        assert_eq!(seen, [10, 11, 12].map(|user| (mine.clone(), user)));
        let there: BTreeSet<String> = logins.get(&id).await.unwrap().unwrap().cart.into_iter().collect();
        assert_eq!(there, ["10", "11", "12", "book", "ink", "tea"].map(String::from).into());
    }
}

#[tokio::test]
async fn neither_a_session_nor_a_conflict_shows_its_value_or_id() {
    let ring = support::nodes(["memory:".to_owned()]).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create(&login(7)).await.unwrap();
    let mut session = loaded(&ring, &id).await;
    logins.update(&id, |l| l.user = 8).await.unwrap();
    let error = logins.save(&mut session).await.unwrap_err();
    let shown = format!("{session:?} {error:?} {error}");
    assert!(!shown.contains("book") && !shown.contains(&id.expose()), "{shown}");
}

/// Eight clients, each with items of its own to put into one cart: by save and reload, by merge, and by update.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_all_kinds_lose_nothing() {
    let servers = servers(2);
    let mut rings = Vec::new();
    for _ in 0..4 {
        rings.push(on(&servers).connect().await.unwrap());
    }
    let id = logins(&rings[0]).create(&Login { user: 0, cart: vec![] }).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..12 {
        let (logins, id) = (logins(&rings[writer % rings.len()]), id.clone());
        writers.spawn(async move {
            let mut session = logins.load(&id).await.unwrap().expect("a session");
            for i in 0..20 {
                let item = format!("{writer}-{i}");
                match writer % 3 {
                    0 => loop {
                        session.cart.push(item.clone());
                        session.user += 1;
                        match logins.save(&mut session).await {
                            Ok(()) => break,
                            Err(SaveError::Conflict(there)) => session = *there,
                            Err(SaveError::Failed(error)) => panic!("{error}"),
                        }
                    },
                    1 => {
                        session.cart.push(item.clone());
                        session.user += 1;
                        let merge = |_: &Login, theirs: &mut Login| {
                            theirs.cart.push(item.clone());
                            theirs.user += 1;
                        };
                        logins.save_or_merge(&mut session, merge).await.unwrap();
                    }
                    _ => {
                        let change = |l: &mut Login| {
                            l.cart.push(item.clone());
                            l.user += 1;
                        };
                        logins.update(&id, change).await.unwrap();
                    }
                }
            }
        });
    }
    writers.join_all().await;
    let end = logins(&rings[0]).get(&id).await.unwrap().unwrap();
    let items: BTreeSet<&String> = end.cart.iter().collect();
    assert_eq!((end.user, end.cart.len(), items.len()), (240, 240, 240));
}
