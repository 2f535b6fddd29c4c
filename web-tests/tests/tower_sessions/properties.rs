//! What the store promises beyond the framework's trait.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use sessionring::{
    ErrorKind, OnCorrupt, SealingKeys, SessionId, SessionRing,
    record::Json,
    web::tower_sessions::{RingStore, error_kind, session_id},
};
use time::OffsetDateTime;
use tokio::sync::Barrier;

use super::tower_sessions::{
    Expiry, Session, SessionManagerLayer, SessionStore,
    session::{Error as SessionError, Id, Record},
    session_store::Error,
};
use crate::{
    on_both,
    support::{self, Browser},
};

const ROUNDS: usize = 40;

type Answer<T> = Result<T, StatusCode>;

fn failed(error: SessionError) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

fn store(ring: &SessionRing) -> RingStore {
    RingStore::new(ring, "web")
}

/// Adds in the three ways in which applications keep a cart.
async fn add(session: &Session, item: &str) -> Result<(), SessionError> {
    let mut list: Vec<String> = session.get("list").await?.unwrap_or_default();
    let mut counts: Map<String, Value> = session.get("counts").await?.unwrap_or_default();
    list.push(item.to_owned());
    counts.insert(item.to_owned(), json!(1));
    session.insert("list", list).await?;
    session.insert("counts", counts).await?;
    session.insert(&format!("item {item}"), true).await
}

async fn cart(session: Session) -> Answer<String> {
    let list: Vec<String> = session.get("list").await.map_err(failed)?.unwrap_or_default();
    let counts: Map<String, Value> = session.get("counts").await.map_err(failed)?.unwrap_or_default();
    for item in &list {
        assert!(counts.contains_key(item), "{item} is not in {counts:?}");
        assert!(session.get::<bool>(&format!("item {item}")).await.map_err(failed)?.is_some());
    }
    Ok(list.join(","))
}

/// A shop whose `/together` and `/slow` have loaded the session before they meet at the gate, where the test, or other
/// requests, meet them. `/slow` meets it twice: when it has loaded, and before it goes on.
fn shop(store: RingStore, gate: &Arc<Barrier>) -> Router {
    let (together, slow, slow_cycle) = (gate.clone(), gate.clone(), gate.clone());
    Router::new()
        .route("/cart", get(cart))
        .route(
            "/add/{item}",
            get(async |session: Session, Path(item): Path<String>| {
                add(&session, &item).await.map_err(failed)
            }),
        )
        .route(
            "/together/{item}",
            get(async move |session: Session, Path(item): Path<String>| {
                session.get_value("list").await.map_err(failed)?;
                together.wait().await;
                add(&session, &item).await.map_err(failed)
            }),
        )
        .route(
            "/slow/{item}",
            get(async move |session: Session, Path(item): Path<String>| {
                session.get_value("list").await.map_err(failed)?;
                slow.wait().await;
                slow.wait().await;
                add(&session, &item).await.map_err(failed)
            }),
        )
        .route(
            "/slow_cycle/{item}",
            get(async move |session: Session, Path(item): Path<String>| {
                session.cycle_id().await.map_err(failed)?;
                slow_cycle.wait().await;
                slow_cycle.wait().await;
                add(&session, &item).await.map_err(failed)
            }),
        )
        .route(
            "/cycle_and_fail",
            get(async |session: Session| {
                session.cycle_id().await.map_err(failed)?;
                add(&session, "lost").await.map_err(failed)?;
                Answer::<()>::Err(StatusCode::BAD_GATEWAY)
            }),
        )
        .route("/cycle", get(async |session: Session| session.cycle_id().await.map_err(failed)))
        .route("/flush", get(async |session: Session| session.flush().await.map_err(failed)))
        .route(
            "/clear",
            get(async |session: Session| {
                session.get_value("list").await.map_err(failed)?;
                session.clear().await;
                Answer::Ok(())
            }),
        )
        .route(
            "/flush_and_add/{item}",
            get(async |session: Session, Path(item): Path<String>| {
                session.flush().await.map_err(failed)?;
                add(&session, &item).await.map_err(failed)
            }),
        )
        .route(
            "/add_twice/{item}",
            get(async |session: Session, Path(item): Path<String>| {
                add(&session, &item).await.map_err(failed)?;
                session.save().await.map_err(failed)?;
                add(&session, &item).await.map_err(failed)
            }),
        )
        .route(
            "/save_and_cycle/{item}",
            get(async |session: Session, Path(item): Path<String>| {
                add(&session, &item).await.map_err(failed)?;
                session.save().await.map_err(failed)?;
                session.cycle_id().await.map_err(failed)
            }),
        )
        .layer(SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(time::Duration::hours(1))))
}

/// A shop in which nobody waits for anybody.
fn open_shop(ring: &SessionRing) -> Router {
    shop(store(ring), &Arc::new(Barrier::new(1)))
}

async fn shopping(router: &Router) -> Browser {
    let mut browser = Browser::new(router);
    browser.visit("/add/first").await;
    browser
}

/// The session behind a cookie, as this crate sees it.
fn id_of(browser: &Browser) -> SessionId {
    let id: Id = browser.cookie.as_ref().expect("a cookie").parse().unwrap();
    session_id(id.0).unwrap()
}

fn sorted(cart: &str) -> Vec<&str> {
    let mut items: Vec<&str> = cart.split(',').collect();
    items.sort_unstable();
    items
}

fn backend(result: Result<(), Error>) -> String {
    match result.unwrap_err() {
        Error::Backend(text) => text,
        other => panic!("{other:?}"),
    }
}

fn record(entries: &[(&str, Value)], lives: time::Duration) -> Record {
    let data = entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Record { id: Id(0), data, expiry_date: OffsetDateTime::now_utc() + lives }
}

on_both! {
    async fn parallel_requests_that_add_to_the_cart_lose_nothing(ring: SessionRing) {
        let gate = Arc::new(Barrier::new(5));
        let router = shop(store(&ring), &gate);
        for round in 0..ROUNDS {
            let mut browser = shopping(&router).await;
            // Different things, and five times the same.
            let items: Vec<String> =
                (0..5).map(|n| if round % 2 == 0 { format!("item {n}") } else { "book".into() }).collect();
            let requests = items.iter().map(|item| {
                let (mut tab, path) = (browser.clone(), format!("/together/{}", item.replace(' ', "%20")));
                async move { tab.visit(&path).await }
            });
            join_all(requests).await;
            let cart = browser.visit("/cart").await;
            let mut expected: Vec<&str> = items.iter().map(String::as_str).chain(["first"]).collect();
            expected.sort_unstable();
            assert_eq!(sorted(&cart), expected, "round {round}");
        }
    }

    async fn what_both_have_changed_is_the_applications_to_decide(ring: SessionRing) {
        let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
        let store = store(&ring).merge(move |both| match both.key {
            "visits" => Some((number(both.mine) + number(both.theirs) - number(both.base)).into()),
            _ => both.merged(),
        });
        let mut first = record(&[("visits", json!(1)), ("page", json!("a"))], time::Duration::hours(1));
        store.create(&mut first).await.unwrap();
        let id = first.id;
        let mut tabs = [store.load(&id).await.unwrap().unwrap(), store.load(&id).await.unwrap().unwrap()];
        for (tab, page) in tabs.iter_mut().zip(["b", "c"]) {
            tab.data.insert("visits".into(), json!(2));
            tab.data.insert("page".into(), json!(page));
        }
        store.save(&tabs[0]).await.unwrap();
        store.save(&tabs[1]).await.unwrap();
        let data = store.load(&id).await.unwrap().unwrap().data;
        assert_eq!((&data["visits"], &data["page"]), (&json!(3), &json!("c")));
    }

    async fn a_request_may_save_several_times(ring: SessionRing) {
        let router = open_shop(&ring);
        let mut browser = Browser::new(&router);
        browser.visit("/add_twice/tea").await;
        assert_eq!(browser.visit("/cart").await, "tea,tea", "a new session");
        browser.visit("/add_twice/cup").await;
        assert_eq!(browser.visit("/cart").await, "tea,tea,cup,cup");
        let mut browser = Browser::new(&router);
        browser.visit("/save_and_cycle/pen").await;
        assert_eq!(browser.visit("/cart").await, "pen");
    }

    async fn a_log_out_beats_a_save_that_is_under_way(ring: SessionRing) {
        let gate = Arc::new(Barrier::new(2));
        let router = shop(store(&ring), &gate);
        let browser = shopping(&router).await;
        let mut tab = browser.clone();
        let slow = tokio::spawn(async move { tab.get("/slow/late").await });
        gate.wait().await;
        browser.clone().visit("/flush").await;
        gate.wait().await;
        let answer = slow.await.unwrap();
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.set_cookie.is_none());
        assert_eq!(browser.clone().visit("/cart").await, "", "it stays logged out");
    }

    async fn log_outs_race_saves(ring: SessionRing) {
        let router = open_shop(&ring);
        for round in 0..ROUNDS {
            let browser = shopping(&router).await;
            let (mut one, mut other, mut third) = (browser.clone(), browser.clone(), browser.clone());
            let path = if round % 2 == 0 { "/add/late" } else { "/cycle" };
            let (out, saved, again) = tokio::join!(other.get("/flush"), one.get(path), third.get("/add/later"));
            assert_eq!(out.status, StatusCode::OK);
            for answer in [saved, again] {
                // Before the log-out, after it as somebody new, or refused.
                assert!(answer.status == StatusCode::OK || answer.status == StatusCode::INTERNAL_SERVER_ERROR);
            }
            assert_eq!(browser.clone().visit("/cart").await, "", "round {round}");
        }
    }

    async fn deleted_is_told_from_expired(ring: SessionRing) {
        let store = store(&ring);
        let mut deleted = record(&[("x", json!(1))], time::Duration::hours(1));
        store.create(&mut deleted).await.unwrap();
        let loaded = store.load(&deleted.id).await.unwrap().unwrap();
        store.delete(&deleted.id).await.unwrap();
        store.delete(&deleted.id).await.unwrap();
        assert!(store.load(&deleted.id).await.unwrap().is_none());
        for late in [&deleted, &loaded] {
            let text = backend(store.save(late).await);
            assert_eq!(error_kind(&text), Some(ErrorKind::Deleted), "{text}");
        }

        let mut expired = record(&[("x", json!(1))], time::Duration::seconds(-1));
        store.create(&mut expired).await.unwrap();
        while store.load(&expired.id).await.unwrap().is_some() {}
        let text = backend(store.save(&expired).await);
        assert_eq!(error_kind(&text), Some(ErrorKind::NotFound), "{text}");
    }

    async fn cycle_id_ends_the_old_id_and_keeps_the_session(ring: SessionRing) {
        let router = open_shop(&ring);
        let mut browser = shopping(&router).await;
        let old = browser.clone();
        browser.visit("/cycle").await;
        assert_eq!(browser.visit("/cart").await, "first");
        assert_eq!(old.clone().visit("/cart").await, "");
        let text = ring.sessions::<Value>("web").touch(&id_of(&old)).await.unwrap_err();
        assert!(text.is_deleted());
    }

    async fn cycle_id_loses_nothing_when_the_response_fails(ring: SessionRing) {
        let mut browser = shopping(&open_shop(&ring)).await;
        let answer = browser.get("/cycle_and_fail").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(answer.set_cookie.is_none());
        assert_eq!(browser.visit("/cart").await, "first", "as it was, under the id that it had");
        browser.visit("/add/second").await;
        assert_eq!(browser.visit("/cart").await, "first,second");
    }

    async fn a_log_out_beats_a_cycle_that_is_under_way(ring: SessionRing) {
        let gate = Arc::new(Barrier::new(2));
        let router = shop(store(&ring), &gate);
        let browser = shopping(&router).await;
        let mut tab = browser.clone();
        let slow = tokio::spawn(async move { tab.get("/slow_cycle/late").await });
        gate.wait().await;
        browser.clone().visit("/flush").await;
        gate.wait().await;
        assert_eq!(slow.await.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(browser.clone().visit("/cart").await, "");
    }

    async fn a_cycle_takes_along_what_others_added_meanwhile(ring: SessionRing) {
        let gate = Arc::new(Barrier::new(2));
        let router = shop(store(&ring), &gate);
        let browser = shopping(&router).await;
        let mut tab = browser.clone();
        let slow = tokio::spawn(async move {
            tab.visit("/slow_cycle/mine").await;
            tab
        });
        gate.wait().await;
        browser.clone().visit("/add/theirs").await;
        gate.wait().await;
        assert_eq!(slow.await.unwrap().visit("/cart").await, "first,theirs,mine");
    }

    async fn of_two_cycles_one_goes_on(ring: SessionRing) {
        let router = open_shop(&ring);
        for _ in 0..ROUNDS {
            let browser = shopping(&router).await;
            let (mut one, mut other) = (browser.clone(), browser.clone());
            tokio::join!(one.get("/cycle"), other.get("/cycle"));
            let mut carts = Vec::new();
            for tab in [&mut one, &mut other] {
                carts.push(tab.visit("/cart").await);
            }
            carts.sort_unstable();
            assert_eq!(carts, ["", "first"]);
            assert_eq!(browser.clone().visit("/cart").await, "", "the old id is dead");
        }
    }

    async fn clear_keeps_the_session_and_empties_it(ring: SessionRing) {
        let mut browser = shopping(&open_shop(&ring)).await;
        let before = browser.cookie.clone();
        browser.visit("/clear").await;
        assert_eq!(browser.cookie, before);
        assert_eq!(browser.visit("/cart").await, "");
        browser.visit("/add/second").await;
        assert_eq!(browser.visit("/cart").await, "second");
        assert_eq!(browser.cookie, before);
    }

    async fn after_a_log_out_in_the_same_request_a_new_session_begins(ring: SessionRing) {
        let mut browser = shopping(&open_shop(&ring)).await;
        let old = browser.clone();
        browser.visit("/flush_and_add/second").await;
        assert_ne!(browser.cookie, old.cookie);
        assert_eq!(browser.visit("/cart").await, "second");
        assert_eq!(old.clone().visit("/cart").await, "");
    }

    async fn the_other_name_of_a_loaded_record_is_no_cookie(ring: SessionRing) {
        let (store, router) = (store(&ring), open_shop(&ring));
        let mut browser = shopping(&router).await;
        let id: Id = browser.cookie.as_ref().unwrap().parse().unwrap();
        let loaded = store.load(&id).await.unwrap().unwrap();
        assert_ne!(loaded.id, id);
        assert_eq!(Browser::with_cookie(&router, &loaded.id.to_string()).visit("/cart").await, "");
        store.delete(&loaded.id).await.unwrap();
        assert_eq!(browser.visit("/cart").await, "first", "that was no log-out");
    }

    async fn ids_are_the_stores_own(ring: SessionRing) {
        let store = store(&ring);
        let mut ids = std::collections::HashSet::new();
        for _ in 0..ROUNDS {
            let mut record = record(&[("x", json!(1))], time::Duration::hours(1));
            record.id = Id(7);
            store.create(&mut record).await.unwrap();
            assert!(record.id.0 > 0 && ids.insert(record.id));
        }
        assert!(!ids.contains(&Id(7)));
    }

    async fn the_end_is_what_was_asked_for(ring: SessionRing) {
        let raw = ring.sessions::<Value>("web");
        let mut session = record(&[("x", json!(1))], time::Duration::hours(1));
        store(&ring).create(&mut session).await.unwrap();
        let id = SessionId::foreign(session.id.0.to_be_bytes()).unwrap();
        let left = raw.remaining(&id).await.unwrap().unwrap();
        assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
        let loaded = store(&ring).load(&session.id).await.unwrap().unwrap();
        let difference = session.expiry_date - loaded.expiry_date;
        assert!(difference >= time::Duration::ZERO && difference < time::Duration::microseconds(1));

        session.expiry_date = OffsetDateTime::now_utc() + time::Duration::days(10_000_000 / 4);
        store(&ring).save(&session).await.unwrap();
        assert!(raw.remaining(&id).await.unwrap().unwrap() <= Duration::from_secs(400 * 24 * 3600));

        let limited = store(&ring).absolute(Duration::from_secs(600)).unwrap();
        let mut session = record(&[("x", json!(1))], time::Duration::hours(1));
        limited.create(&mut session).await.unwrap();
        let id = SessionId::foreign(session.id.0.to_be_bytes()).unwrap();
        assert!(raw.remaining(&id).await.unwrap().unwrap() <= Duration::from_secs(600));
        assert!(store(&ring).absolute(Duration::ZERO).unwrap_err().is_configuration());
    }

    async fn what_is_stored_is_what_the_application_put_there(ring: SessionRing) {
        let (json, packed) = (store(&ring).json(), store(&ring));
        let mut session = record(&[("list", json!(["a"])), ("deep", json!({"n": -1, "f": 0.5}))], time::Duration::hours(1));
        json.create(&mut session).await.unwrap();
        let id = SessionId::foreign(session.id.0.to_be_bytes()).unwrap();
        for _ in 0..2 {
            let stored = ring.sessions::<Value>("web").codec(Json).get(&id).await.unwrap().unwrap();
            assert_eq!(stored["data"], json!({"list": ["a"], "deep": {"n": -1, "f": 0.5}}));
            let loaded = packed.load(&session.id).await.unwrap().unwrap();
            json.save(&loaded).await.unwrap();
        }
        let loaded = json.load(&session.id).await.unwrap().unwrap();
        packed.save(&loaded).await.unwrap();
        assert_eq!(json.load(&session.id).await.unwrap().unwrap().data["deep"], json!({"n": -1, "f": 0.5}));
    }

    async fn a_session_that_cannot_be_read_follows_on_corrupt(ring: SessionRing) {
        let id = SessionId::foreign(5_i128.to_be_bytes()).unwrap();
        ring.sessions::<String>("web").create_with_id(&id, &"of another type".to_owned()).await.unwrap();
        assert!(matches!(store(&ring).load(&Id(5)).await.unwrap_err(), Error::Decode(_)));
        let router = open_shop(&ring);
        let cookie = Id(5).to_string();
        assert_eq!(Browser::with_cookie(&router, &cookie).get("/cart").await.status, StatusCode::INTERNAL_SERVER_ERROR);

        let router = shop(store(&ring).on_corrupt(OnCorrupt::Reset), &Arc::new(Barrier::new(1)));
        let mut browser = Browser::with_cookie(&router, &cookie);
        browser.visit("/add/anew").await;
        assert_ne!(browser.cookie.as_ref(), Some(&cookie));
        assert_eq!(browser.visit("/cart").await, "anew");
    }

    async fn what_is_too_large_is_refused_and_the_session_stays_as_it_was(ring: SessionRing) {
        let store = store(&ring).max_bytes(200);
        let mut session = record(&[("x", json!(1))], time::Duration::hours(1));
        store.create(&mut session).await.unwrap();
        let mut loaded = store.load(&session.id).await.unwrap().unwrap();
        loaded.data.insert("large".into(), json!("x".repeat(200)));
        let text = backend(store.save(&loaded).await);
        assert_eq!(error_kind(&text), Some(ErrorKind::TooLarge), "{text}");
        assert!(!store.load(&session.id).await.unwrap().unwrap().data.contains_key("large"));
    }

    async fn sealed_sessions(ring: SessionRing) {
        let sealed = store(&ring).seal(SealingKeys::new(1, &[7; 32]).unwrap());
        let mut session = record(&[("x", json!(1))], time::Duration::hours(1));
        sealed.create(&mut session).await.unwrap();
        assert!(matches!(store(&ring).load(&session.id).await.unwrap_err(), Error::Backend(_)));
        let loaded = sealed.load(&session.id).await.unwrap().unwrap();
        assert_eq!(loaded.data["x"], json!(1));
        let other = Session::new(Some(session.id), Arc::new(sealed.clone()), None);
        other.cycle_id().await.unwrap();
        other.save().await.unwrap();
        assert_eq!(sealed.load(&other.id().unwrap()).await.unwrap().unwrap().data["x"], json!(1));
        assert!(sealed.load(&session.id).await.unwrap().is_none());
    }

    async fn the_ring_is_resized_while_requests_run(ring: SessionRing) {
        let router = open_shop(&ring);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let visitors: Vec<_> = (0..8)
            .map(|n| {
                let (mut browser, stopped) = (Browser::new(&router), stopped.clone());
                tokio::spawn(async move {
                    let mut added = 0;
                    while !*stopped.borrow() || added < 10 {
                        browser.visit("/add/x").await;
                        added += 1;
                        if added % 5 == n % 5 {
                            browser.visit("/cycle").await;
                        }
                        if added % 200 == 0 {
                            browser.visit("/flush").await;
                            added = 0;
                        }
                    }
                    let cart = browser.visit("/cart").await;
                    assert_eq!(cart.split(',').count(), added);
                })
            })
            .collect();
        ring.add_node("z", "memory:").await.unwrap().wait().await.unwrap();
        ring.remove_node("a").await.unwrap().wait().await.unwrap();
        stop.send(true).unwrap();
        for visitor in visitors {
            visitor.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_down_is_an_error_and_nobody_is_logged_out() {
    let servers = support::servers(1);
    let ring = support::nodes([servers[0].address()])
        .request_timeout(Duration::from_millis(500))
        .connect()
        .await
        .unwrap();
    let router = open_shop(&ring);
    let mut browser = shopping(&router).await;
    let before = browser.cookie.clone();
    servers[0].stop_process().unwrap();
    for path in ["/cart", "/add/more", "/cycle"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert!(answer.set_cookie.is_none_or(|cookie| !cookie.removes()), "{path}");
    }
    let id = before.as_ref().unwrap().parse().unwrap();
    // What a handler gets of it says that the node is down, although it is a text.
    let error = Session::new(Some(id), Arc::new(store(&ring)), None).get_value("list").await.unwrap_err();
    assert_eq!(error_kind(&error), Some(ErrorKind::Unavailable), "{error}");
    servers[0].continue_process().unwrap();
    let status = loop {
        let answer = Browser::with_cookie(&router, before.as_ref().unwrap()).get("/cart").await;
        if answer.status == StatusCode::OK {
            break answer.body;
        }
    };
    assert!(status.starts_with("first"), "{status}");
}

/// Nothing is known of a record that somebody made by hand, so all of it is meant.
#[tokio::test]
async fn records_that_were_made_by_hand() {
    let ring = support::in_memory(1).await;
    let store = store(&ring);
    let mut session = record(&[("x", json!(1))], time::Duration::hours(1));
    store.create(&mut session).await.unwrap();
    let by_hand = Record { data: HashMap::from([("y".to_owned(), json!(2))]), ..session.clone() };
    store.save(&by_hand).await.unwrap();
    let data = store.load(&session.id).await.unwrap().unwrap().data;
    assert!(data.contains_key("y") && !data.contains_key("x"));
}
