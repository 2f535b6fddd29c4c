//! The store inside actix-session 0.11: what its acceptance suite and the tests of its Redis store check, case by case under their
//! names, and what the store promises beyond. On real servers and in memory.

mod support;

use std::{collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use actix_session::{
    Session, SessionExt, SessionMiddleware,
    config::{CookieContentSecurity, PersistentSession, TtlExtensionPolicy},
    storage::{LoadError, SessionKey, SessionStore},
};
use actix_web::{
    App, Error, HttpResponse,
    body::{BoxBody, to_bytes},
    cookie::{Cookie, Key, SameSite, time::Duration as Ttl},
    dev::{Service, ServiceResponse},
    guard as guards,
    http::StatusCode,
    rt, test,
    web::{self, Path},
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sessionring::{OnCorrupt, SessionId, SessionRing, record::Json, web::actix_session::RingStore};
use tokio::sync::Barrier;

const ROUNDS: usize = 40;
const POLICIES: [CookieContentSecurity; 2] = [CookieContentSecurity::Signed, CookieContentSecurity::Private];
const WEEK: Ttl = Ttl::days(7);

macro_rules! on_both {
    ($(async fn $name:ident($ring:ident: SessionRing) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn scenario($ring: SessionRing) $body

            #[actix_web::test]
            async fn on_redis() {
                let servers = support::servers(2);
                scenario(support::on(&servers).await).await;
            }

            #[actix_web::test]
            async fn in_memory() {
                scenario(support::in_memory(2).await).await;
            }
        }
    )*};
}

fn store(ring: &SessionRing) -> RingStore {
    RingStore::new(ring, "web")
}

/// Each request runs in a task of its own, as on a server.
struct Browser<S> {
    app: Rc<S>,
    cookie: Option<Cookie<'static>>,
}

impl<S> Clone for Browser<S> {
    fn clone(&self) -> Browser<S> {
        Browser { app: self.app.clone(), cookie: self.cookie.clone() }
    }
}

struct Answer {
    status: StatusCode,
    set_cookie: Option<Cookie<'static>>,
    body: String,
}

impl Answer {
    fn json(&self) -> Shown {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl<S> Browser<S>
where
    S: Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
    S::Future: 'static,
{
    fn new(app: S) -> Browser<S> {
        Browser { app: Rc::new(app), cookie: None }
    }

    async fn send(&mut self, request: test::TestRequest) -> Answer {
        let request = self.cookie.iter().cloned().fold(request, test::TestRequest::cookie).to_request();
        let app = self.app.clone();
        let answer = rt::spawn(async move {
            let response = match app.call(request).await {
                Ok(response) => response.into_parts().1,
                Err(error) => {
                    eprintln!("{error}");
                    error.error_response()
                }
            };
            let set_cookie = response.cookies().next().map(Cookie::into_owned);
            let status = response.status();
            let body = to_bytes(response.into_body()).await.unwrap_or_default();
            Answer { status, set_cookie, body: String::from_utf8(body.to_vec()).unwrap() }
        });
        let answer = answer.await.unwrap();
        if let Some(cookie) = &answer.set_cookie {
            self.cookie = (!cookie.value().is_empty()).then(|| cookie.clone());
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(test::TestRequest::with_uri(path)).await
    }

    async fn post(&mut self, path: &str) -> Answer {
        self.send(test::TestRequest::post().uri(path)).await
    }

    async fn visit(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shown {
    user_id: Option<String>,
    counter: i32,
}

fn shown(user_id: Option<&str>, counter: i32) -> Shown {
    Shown { user_id: user_id.map(str::to_owned), counter }
}

async fn index(session: Session) -> actix_web::Result<HttpResponse> {
    let counter = session.get("counter")?.unwrap_or(0);
    Ok(HttpResponse::Ok().json(Shown { user_id: session.get("user_id")?, counter }))
}

async fn do_something(session: Session) -> actix_web::Result<HttpResponse> {
    session.insert("counter", session.get::<i32>("counter")?.unwrap_or(0) + 1)?;
    index(session).await
}

async fn login(user: Path<String>, session: Session) -> actix_web::Result<HttpResponse> {
    session.insert("user_id", user.into_inner())?;
    session.renew();
    index(session).await
}

async fn logout(session: Session) -> HttpResponse {
    session.purge();
    HttpResponse::Ok().finish()
}

/// Notes what it keeps in the three ways in which applications keep a cart.
fn add(session: &Session, item: &str) -> actix_web::Result<String> {
    let mut list: Vec<String> = session.get("list")?.unwrap_or_default();
    let mut counts: HashMap<String, u64> = session.get("counts")?.unwrap_or_default();
    list.push(item.to_owned());
    counts.insert(item.to_owned(), 1);
    session.insert("list", &list)?;
    session.insert("counts", counts)?;
    session.insert(format!("item {item}"), true)?;
    Ok(list.join(","))
}

fn middleware(
    store: RingStore,
    policy: CookieContentSecurity,
    lifecycle: PersistentSession,
) -> SessionMiddleware<RingStore> {
    SessionMiddleware::builder(store, Key::generate())
        .cookie_content_security(policy)
        .session_lifecycle(lifecycle)
        .build()
}

/// A shop whose `/together` meets others at the gate before it changes anything; `/slow` meets them twice.
async fn shop(
    store: RingStore,
    policy: CookieContentSecurity,
    gate: Arc<Barrier>,
) -> Browser<impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = Error>> {
    let (together, slow) = (gate.clone(), gate.clone());
    let app = App::new()
        .wrap(middleware(store, policy, PersistentSession::default().session_ttl(WEEK)))
        .route("/", web::get().to(index))
        .route("/do_something", web::post().to(do_something))
        .route("/login/{user}", web::post().to(login))
        .route("/logout", web::post().to(logout))
        .service(
            web::scope("/protected")
                .guard(guards::fn_guard(|request| {
                    request.get_session().get::<String>("user_id").unwrap().is_some()
                }))
                .route("/count", web::get().to(index)),
        )
        .route(
            "/cart",
            web::get().to(async |session: Session| {
                let list: Vec<String> = session.get("list")?.unwrap_or_default();
                let counts: HashMap<String, u64> = session.get("counts")?.unwrap_or_default();
                for item in &list {
                    assert!(counts.contains_key(item) && session.contains_key(&format!("item {item}")));
                }
                actix_web::Result::<_>::Ok(list.join(","))
            }),
        )
        .route(
            "/add/{item}",
            web::get().to(async |session: Session, item: Path<String>| add(&session, &item)),
        )
        .route(
            "/together/{item}",
            web::get().to(move |session: Session, item: Path<String>| {
                let gate = together.clone();
                async move {
                    gate.wait().await;
                    add(&session, &item)
                }
            }),
        )
        .route(
            "/slow/{item}",
            web::get().to(move |session: Session, item: Path<String>| {
                let gate = slow.clone();
                async move {
                    gate.wait().await;
                    gate.wait().await;
                    add(&session, &item)
                }
            }),
        )
        .route(
            "/entries",
            web::get().to(async |session: Session| {
                let mut names: Vec<String> = session.entries().keys().cloned().collect();
                names.sort_unstable();
                names.join(",")
            }),
        );
    Browser::new(test::init_service(app).await)
}

fn alone() -> Arc<Barrier> {
    Arc::new(Barrier::new(1))
}

fn generated() -> SessionKey {
    SessionId::generate().unwrap().expose().try_into().unwrap()
}

fn same(key: &SessionKey) -> SessionKey {
    key.as_ref().to_owned().try_into().unwrap()
}

fn state(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

on_both! {
    async fn basic_workflow(ring: SessionRing) {
        for policy in POLICIES {
            let session = SessionMiddleware::builder(store(&ring), Key::generate())
                .cookie_path("/test/".into())
                .cookie_name("actix-test".into())
                .cookie_domain(Some("localhost".into()))
                .cookie_same_site(SameSite::Lax)
                .cookie_content_security(policy)
                .session_lifecycle(PersistentSession::default().session_ttl(Ttl::seconds(100)))
                .build();
            let app = App::new()
                .wrap(session)
                .route("/", web::get().to(async |session: Session| {
                    session.insert("counter", 100)?;
                    actix_web::Result::<_>::Ok("stored")
                }))
                .route("/test/", web::get().to(async |session: Session| {
                    session.get::<usize>("counter").unwrap().unwrap().to_string()
                }));
            let mut browser = Browser::new(test::init_service(app).await);
            let cookie = browser.get("/").await.set_cookie.unwrap();
            assert_eq!((cookie.name(), cookie.path()), ("actix-test", Some("/test/")));
            assert_eq!(browser.visit("/test/").await, "100");
        }
    }

    async fn expiration_is_refreshed_on_changes(ring: SessionRing) {
        for policy in POLICIES {
            let mut browser = shop(store(&ring), policy, alone()).await;
            let first = browser.post("/do_something").await.set_cookie.unwrap();
            assert_eq!(first.max_age(), Some(WEEK));
            assert!(browser.get("/").await.set_cookie.is_none(), "nothing has changed");
            let again = browser.post("/do_something").await.set_cookie.unwrap();
            assert_eq!(again.max_age(), Some(WEEK));
        }
    }

    async fn expiration_is_always_refreshed_if_configured_to_refresh_on_every_request(ring: SessionRing) {
        for policy in POLICIES {
            let minute = Ttl::seconds(60);
            let lifecycle = PersistentSession::default()
                .session_ttl(minute)
                .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
            let app = App::new()
                .wrap(middleware(store(&ring), policy, lifecycle))
                .route("/", web::get().to(do_something))
                .route("/test/", web::get().to(|| async { "nothing changed" }));
            let mut browser = Browser::new(test::init_service(app).await);
            for path in ["/", "/test/"] {
                let cookie = browser.get(path).await.set_cookie.expect("a cookie every time");
                assert_eq!(cookie.max_age(), Some(minute), "{path}");
            }
        }
    }

    async fn complex_workflow(ring: SessionRing) {
        for policy in POLICIES {
            let mut browser = shop(store(&ring), policy, alone()).await;
            let answer = browser.get("/").await;
            assert!(answer.set_cookie.is_none(), "a session without state is none");
            assert_eq!(answer.json(), shown(None, 0));

            let answer = browser.post("/do_something").await;
            assert_eq!(answer.json(), shown(None, 1));
            assert_eq!(answer.set_cookie.unwrap().max_age(), Some(WEEK));

            let answer = browser.get("/").await;
            assert!(answer.set_cookie.is_none());
            assert_eq!(answer.json(), shown(None, 1));
            assert_eq!(browser.post("/do_something").await.json(), shown(None, 2));

            let mut before = browser.clone();
            let answer = browser.post("/login/ferris").await;
            assert_eq!(answer.json(), shown(Some("ferris"), 2));
            assert_ne!(answer.set_cookie.unwrap().value(), before.cookie.as_ref().unwrap().value());
            assert_eq!(browser.get("/").await.json(), shown(Some("ferris"), 2));
            assert_eq!(browser.post("/do_something").await.json(), shown(Some("ferris"), 3));

            let answer = before.get("/").await;
            assert!(answer.set_cookie.is_none());
            assert_eq!(answer.json(), shown(None, 0), "the id from before the log-in is dead");

            let mut stolen = browser.clone();
            let cookie = browser.post("/logout").await.set_cookie.unwrap();
            assert_eq!((cookie.max_age(), cookie.path()), (Some(Ttl::ZERO), Some("/")));
            let answer = stolen.get("/").await;
            assert!(answer.set_cookie.is_none());
            assert_eq!(answer.json(), shown(None, 0));
        }
    }

    async fn guard(ring: SessionRing) {
        for policy in POLICIES {
            let mut browser = shop(store(&ring), policy, alone()).await;
            assert_eq!(browser.get("/protected/count").await.status, StatusCode::NOT_FOUND);
            browser.post("/login/ferris").await;
            assert_eq!(browser.post("/do_something").await.json(), shown(Some("ferris"), 1));
            assert_eq!(browser.get("/protected/count").await.json(), shown(Some("ferris"), 1));
        }
    }

    async fn loading_a_missing_session_returns_none(ring: SessionRing) {
        let malformed = ["", "short", &"x".repeat(4064)].map(|text| SessionKey::try_from(text.to_owned()).unwrap());
        for key in malformed.into_iter().chain([generated()]) {
            assert!(store(&ring).load(&key).await.unwrap().is_none());
        }
    }

    async fn loading_an_invalid_session_state_returns_deserialization_error(ring: SessionRing) {
        let id = ring.sessions::<String>("web").create(&"no state".to_owned()).await.unwrap();
        let key = SessionKey::try_from(id.expose()).unwrap();
        let error = store(&ring).load(&key).await.unwrap_err();
        assert!(matches!(error, LoadError::Other(_)), "unless asked for, it is an error: {error:?}");
        let reset = store(&ring).on_corrupt(OnCorrupt::Reset);
        assert!(matches!(reset.load(&key).await.unwrap_err(), LoadError::Deserialization(_)));

        let after = reset.update(key, state(&[("x", "1")]), &WEEK).await.unwrap();
        assert_eq!(reset.load(&after).await.unwrap().unwrap()["x"], "1");
    }

    async fn updating_of_an_expired_state_is_handled_gracefully(ring: SessionRing) {
        let key = generated();
        let before = key.as_ref().to_owned();
        let key = store(&ring).update(key, HashMap::new(), &Ttl::seconds(1)).await.unwrap();
        assert_ne!(before, key.as_ref());
    }

    async fn a_session_that_was_logged_out_is_updated_never(ring: SessionRing) {
        let store = store(&ring);
        let key = store.save(state(&[("x", "1")]), &WEEK).await.unwrap();
        store.load(&key).await.unwrap().unwrap();
        store.delete(&key).await.unwrap();
        store.delete(&key).await.unwrap();
        store.update_ttl(&key, &WEEK).await.unwrap();
        let error = store.update(same(&key), state(&[("x", "2")]), &WEEK).await.unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains("logged out"), "{error}");
        assert!(store.load(&key).await.unwrap().is_none());
    }

    async fn parallel_requests_that_add_to_the_cart_lose_nothing(ring: SessionRing) {
        let empty = shop(store(&ring), CookieContentSecurity::Signed, Arc::new(Barrier::new(5))).await;
        for round in 0..ROUNDS {
            let mut browser = empty.clone();
            browser.visit("/add/first").await;
            // Different things, and five times the same.
            let items: Vec<String> =
                (0..5).map(|n| if round % 2 == 0 { format!("item{n}") } else { "book".into() }).collect();
            let requests = items.iter().map(|item| {
                let (mut tab, path) = (browser.clone(), format!("/together/{item}"));
                async move { tab.visit(&path).await }
            });
            join_all(requests).await;
            let cart = browser.visit("/cart").await;
            let mut found: Vec<&str> = cart.split(',').collect();
            let mut expected: Vec<&str> = items.iter().map(String::as_str).chain(["first"]).collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "round {round}");
        }
    }

    async fn the_application_sees_its_own_entries_only(ring: SessionRing) {
        let mut browser = shop(store(&ring), CookieContentSecurity::Signed, alone()).await;
        browser.visit("/add/x").await;
        assert_eq!(browser.visit("/entries").await, "counts,item x,list");
    }

    async fn what_both_have_changed_is_the_applications_to_decide(ring: SessionRing) {
        let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
        let store = store(&ring).json().merge(move |both| match both.key {
            "visits" => Some((number(both.mine) + number(both.theirs) - number(both.base)).into()),
            _ => both.merged(),
        });
        let key = store.save(state(&[("visits", "1")]), &WEEK).await.unwrap();
        let gate = Arc::new(Barrier::new(3));
        let tabs = (0..3).map(|_| {
            let (store, key, gate) = (store.clone(), same(&key), gate.clone());
            rt::spawn(async move {
                store.load(&key).await.unwrap().unwrap();
                gate.wait().await;
                store.update(key, state(&[("visits", "2")]), &WEEK).await.unwrap();
            })
        });
        join_all(tabs).await.into_iter().for_each(Result::unwrap);
        assert_eq!(store.load(&key).await.unwrap().unwrap()["visits"], "4");
        let id = SessionId::parse(key.as_ref()).unwrap();
        let stored = ring.sessions::<Value>("web").codec(Json).get(&id).await.unwrap();
        assert_eq!(stored, Some(json!({"entries": {"visits": "4"}})));
    }

    async fn a_log_out_beats_an_update_that_is_under_way(ring: SessionRing) {
        let gate = Arc::new(Barrier::new(2));
        let mut browser = shop(store(&ring), CookieContentSecurity::Signed, gate.clone()).await;
        browser.visit("/add/first").await;
        let mut tab = browser.clone();
        let mut stolen = browser.clone();
        let slow = rt::spawn(async move { tab.get("/slow/late").await });
        gate.wait().await;
        browser.post("/logout").await;
        gate.wait().await;
        assert_eq!(slow.await.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(stolen.visit("/cart").await, "", "it stays logged out");
    }

    async fn the_ring_is_resized_while_requests_run(ring: SessionRing) {
        let empty = shop(store(&ring), CookieContentSecurity::Signed, alone()).await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let visitors: Vec<_> = (0..8)
            .map(|_| {
                let (mut browser, stopped) = (empty.clone(), stopped.clone());
                rt::spawn(async move {
                    let mut added = 0;
                    while !*stopped.borrow() || added < 10 {
                        browser.visit("/add/x").await;
                        added += 1;
                        if added == 200 {
                            browser.post("/logout").await;
                            added = 0;
                        }
                    }
                    assert_eq!(browser.visit("/cart").await.split(',').count(), added);
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

#[actix_web::test]
async fn a_node_that_is_down_is_an_error_and_nobody_is_logged_out() {
    let servers = support::servers(1);
    let ring = support::nodes([servers[0].address()])
        .request_timeout(Duration::from_millis(500))
        .connect()
        .await
        .unwrap();
    let mut browser = shop(store(&ring), CookieContentSecurity::Signed, alone()).await;
    browser.visit("/add/first").await;
    servers[0].stop_process().unwrap();
    for path in ["/cart", "/add/more"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert!(answer.set_cookie.is_none(), "{path}");
    }
    servers[0].continue_process().unwrap();
    let cart = loop {
        let answer = browser.get("/cart").await;
        if answer.status == StatusCode::OK {
            break answer.body;
        }
    };
    assert_eq!(cart, "first");
}
