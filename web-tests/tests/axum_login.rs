//! axum-login 0.18 on the store: logging in gives a new id, logging out is final.

mod support;

use std::{convert::Infallible, sync::Arc};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, login_required};
use sessionring::{SessionRing, web::tower_sessions::RingStore};
use support::Browser;
use tokio::sync::Barrier;
use tower_sessions_0_14::{Session, SessionManagerLayer};

#[derive(Debug, Clone)]
struct User {
    id: u64,
    hash: Vec<u8>,
}

impl AuthUser for User {
    type Id = u64;

    fn id(&self) -> u64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.hash
    }
}

/// Every number is a user.
#[derive(Debug, Clone)]
struct Users;

impl AuthnBackend for Users {
    type User = User;
    type Credentials = u64;
    type Error = Infallible;

    async fn authenticate(&self, id: u64) -> Result<Option<User>, Infallible> {
        self.get_user(&id).await
    }

    async fn get_user(&self, id: &u64) -> Result<Option<User>, Infallible> {
        Ok(Some(User { id: *id, hash: id.to_be_bytes().to_vec() }))
    }
}

type Auth = AuthSession<Users>;

const FAILED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

async fn log_in(mut auth: Auth, Path(id): Path<u64>) -> Result<(), StatusCode> {
    let user = auth.authenticate(id).await.map_err(|_| FAILED)?.ok_or(StatusCode::FORBIDDEN)?;
    auth.login(&user).await.map_err(|_| FAILED)
}

fn app(ring: &SessionRing, gate: &Arc<Barrier>) -> Router {
    let gate = gate.clone();
    Router::new()
        .route("/me", get(async |auth: Auth| auth.user.map(|user| user.id.to_string()).ok_or(FAILED)))
        .route_layer(login_required!(Users))
        .route("/login/{id}", get(log_in))
        .route(
            "/login_and_fail/{id}",
            get(async |auth: Auth, id: Path<u64>| {
                log_in(auth, id).await?;
                Result::<(), _>::Err(StatusCode::BAD_GATEWAY)
            }),
        )
        .route("/logout", get(async |mut auth: Auth| auth.logout().await.map(drop).map_err(|_| FAILED)))
        .route("/add", get(async |session: Session| session.insert("cart", "book").await.map_err(|_| FAILED)))
        .route(
            "/slow_add",
            get(async move |session: Session| {
                session.get_value("cart").await.map_err(|_| FAILED)?;
                gate.wait().await;
                gate.wait().await;
                session.insert("cart", "tea").await.map_err(|_| FAILED)
            }),
        )
        .route(
            "/cart",
            get(async |session: Session| {
                let cart = session.get::<String>("cart").await;
                cart.map(Option::unwrap_or_default).map_err(|_| FAILED)
            }),
        )
        .layer(
            AuthManagerLayerBuilder::new(Users, SessionManagerLayer::new(RingStore::new(ring, "web")))
                .build(),
        )
}

fn open(ring: &SessionRing) -> Router {
    app(ring, &Arc::new(Barrier::new(1)))
}

on_both! {
    async fn logging_in_gives_a_new_id_and_keeps_the_cart(ring: SessionRing) {
        let mut browser = Browser::new(&open(&ring));
        assert_eq!(browser.get("/me").await.status, StatusCode::UNAUTHORIZED);
        browser.visit("/add").await;
        let planted = browser.clone();
        browser.visit("/login/7").await;
        assert_ne!(browser.cookie, planted.cookie);
        assert_eq!(browser.visit("/me").await, "7");
        assert_eq!(browser.visit("/cart").await, "book");
        assert_eq!(planted.clone().get("/me").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(planted.clone().visit("/cart").await, "", "nothing is left under the id from before");
    }

    async fn a_log_in_that_fails_leaves_the_cart(ring: SessionRing) {
        let mut browser = Browser::new(&open(&ring));
        browser.visit("/add").await;
        assert_eq!(browser.get("/login_and_fail/7").await.status, StatusCode::BAD_GATEWAY);
        assert_eq!(browser.visit("/cart").await, "book");
        assert_eq!(browser.get("/me").await.status, StatusCode::UNAUTHORIZED);
        browser.visit("/login/7").await;
        assert_eq!(browser.visit("/cart").await, "book");
    }

    async fn logging_out_is_final_whatever_is_under_way(ring: SessionRing) {
        let gate = Arc::new(Barrier::new(2));
        let mut browser = Browser::new(&app(&ring, &gate));
        browser.visit("/login/7").await;
        let mut tab = browser.clone();
        let slow = tokio::spawn(async move { tab.get("/slow_add").await });
        gate.wait().await;
        let stolen = browser.clone();
        browser.visit("/logout").await;
        assert!(browser.cookie.is_none());
        gate.wait().await;
        assert_eq!(slow.await.unwrap().status, FAILED);
        assert_eq!(stolen.clone().get("/me").await.status, StatusCode::UNAUTHORIZED);
    }
}
