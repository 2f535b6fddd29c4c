//! What tower-sessions' own route tests check, case by case, under their names.

use axum::{Router, http::StatusCode, routing::get};
use sessionring::web::tower_sessions::RingStore;
use time::{Duration, OffsetDateTime};

use super::tower_sessions::{Expiry, Session, SessionManagerLayer};
use crate::{
    on_both,
    support::{Browser, SetCookie},
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn routes() -> Router {
    Router::new()
        .route("/", get(|_: Session| async { "nothing" }))
        .route("/insert", get(async |s: Session| s.insert("foo", 42).await.unwrap()))
        .route("/get", get(async |s: Session| s.get::<usize>("foo").await.unwrap().unwrap().to_string()))
        .route("/get_value", get(async |s: Session| format!("{:?}", s.get_value("foo").await.unwrap())))
        .route("/remove_value", get(async |s: Session| drop(s.remove_value("foo").await.unwrap())))
        .route("/cycle_id", get(async |s: Session| s.cycle_id().await.unwrap()))
        .route("/flush", get(async |s: Session| s.flush().await.unwrap()))
        .route(
            "/set_expiry",
            get(async |s: Session| {
                s.set_expiry(Some(Expiry::AtDateTime(OffsetDateTime::now_utc() + Duration::days(1))));
            }),
        )
        .route("/remove_expiry", get(async |s: Session| s.set_expiry(Some(Expiry::OnSessionEnd))))
}

fn app(ring: &sessionring::SessionRing, hours: Option<i64>, domain: Option<&'static str>) -> Router {
    let mut layer = SessionManagerLayer::new(RingStore::new(ring, "web"));
    if let Some(hours) = hours {
        layer = layer.with_expiry(Expiry::OnInactivity(Duration::hours(hours)));
    }
    if let Some(domain) = domain {
        layer = layer.with_domain(domain);
    }
    routes().layer(layer)
}

/// The framework counts from now, and the machine may be busy.
fn lasts(cookie: &SetCookie, seconds: i64) {
    let age = cookie.max_age().expect("a cookie that ends");
    assert!(age <= seconds && age > seconds - 600, "{age} s instead of {seconds}");
}

on_both! {
    async fn no_session_set(ring: SessionRing) {
        let answer = Browser::new(&app(&ring, Some(1), None)).get("/").await;
        assert!(answer.set_cookie.is_none());
    }

    async fn bogus_session_cookie(ring: SessionRing) {
        let bogus = "AAAAAAAAAAAAAAAAAAAAAA";
        let answer = Browser::with_cookie(&app(&ring, Some(1), None), bogus).get("/insert").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_ne!(answer.set_cookie.unwrap().value(), bogus);
    }

    async fn malformed_session_cookie(ring: SessionRing) {
        let answer = Browser::with_cookie(&app(&ring, Some(1), None), "malformed").get("/").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_ne!(answer.set_cookie.unwrap().value(), "malformed");
    }

    async fn insert_session(ring: SessionRing) {
        let cookie = Browser::new(&app(&ring, Some(1), None)).get("/insert").await.set_cookie.unwrap();
        assert_eq!(cookie.name(), "id");
        assert_eq!(cookie.attribute("HttpOnly"), Some(""));
        assert_eq!(cookie.attribute("SameSite"), Some("Strict"));
        assert_eq!(cookie.attribute("Secure"), Some(""));
        assert_eq!(cookie.attribute("Path"), Some("/"));
        lasts(&cookie, HOUR);
    }

    async fn session_max_age(ring: SessionRing) {
        let cookie = Browser::new(&app(&ring, None, None)).get("/insert").await.set_cookie.unwrap();
        assert_eq!(cookie.name(), "id");
        assert_eq!(cookie.attribute("HttpOnly"), Some(""));
        assert_eq!(cookie.attribute("SameSite"), Some("Strict"));
        assert_eq!(cookie.attribute("Secure"), Some(""));
        assert_eq!(cookie.attribute("Path"), Some("/"));
        assert_eq!(cookie.max_age(), None);
    }

    async fn get_session(ring: SessionRing) {
        let mut browser = Browser::new(&app(&ring, Some(1), None));
        browser.visit("/insert").await;
        assert_eq!(browser.visit("/get").await, "42");
    }

    async fn get_no_value(ring: SessionRing) {
        assert_eq!(Browser::new(&app(&ring, Some(1), None)).visit("/get_value").await, "None");
    }

    async fn remove_last_value(ring: SessionRing) {
        let mut browser = Browser::new(&app(&ring, Some(1), None));
        browser.visit("/insert").await;
        browser.visit("/remove_value").await;
        assert_eq!(browser.visit("/get_value").await, "None");
    }

    async fn cycle_session_id(ring: SessionRing) {
        let mut browser = Browser::new(&app(&ring, Some(1), None));
        browser.visit("/insert").await;
        let first = browser.cookie.clone();
        browser.visit("/cycle_id").await;
        assert_ne!(browser.cookie, first);
        assert_eq!(browser.visit("/get").await, "42");
    }

    async fn flush_session(ring: SessionRing) {
        let mut browser = Browser::new(&app(&ring, Some(1), None));
        browser.visit("/insert").await;
        let cookie = browser.get("/flush").await.set_cookie.unwrap();
        assert!(cookie.removes());
        assert_eq!(cookie.max_age(), Some(0));
        assert_eq!(cookie.attribute("Path"), Some("/"));
    }

    async fn flush_with_domain(ring: SessionRing) {
        let mut browser = Browser::new(&app(&ring, Some(1), Some("localhost")));
        browser.visit("/insert").await;
        let cookie = browser.get("/flush").await.set_cookie.unwrap();
        assert!(cookie.removes());
        assert_eq!(cookie.max_age(), Some(0));
        assert_eq!(cookie.attribute("Domain"), Some("localhost"));
        assert_eq!(cookie.attribute("Path"), Some("/"));
    }

    async fn set_expiry(ring: SessionRing) {
        let mut browser = Browser::new(&app(&ring, Some(1), Some("localhost")));
        lasts(&browser.get("/insert").await.set_cookie.unwrap(), HOUR);
        lasts(&browser.get("/set_expiry").await.set_cookie.unwrap(), DAY);
    }

    async fn change_expiry_type(ring: SessionRing) {
        let mut browser = Browser::new(&app(&ring, None, Some("localhost")));
        assert_eq!(browser.get("/insert").await.set_cookie.unwrap().max_age(), None);
        lasts(&browser.get("/set_expiry").await.set_cookie.unwrap(), DAY);

        let mut browser = Browser::new(&app(&ring, Some(1), Some("localhost")));
        lasts(&browser.get("/insert").await.set_cookie.unwrap(), HOUR);
        assert_eq!(browser.get("/remove_expiry").await.set_cookie.unwrap().max_age(), None);
    }
}
