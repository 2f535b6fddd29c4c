//! One application: the ring, the session layer of the framework, the routes.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use clap::Args;
use sessionring::{SessionRing, web::tower_sessions::RingStore};
use tower_sessions::{Expiry, SessionManagerLayer, cookie::SameSite};

use crate::{Result, logins::Logins, pages, same_origin, trouble};

/// The framework's sessions have this namespace on the ring.
pub(crate) const SESSIONS: &str = "session";

/// What all requests of an application share.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) number: u8,
    pub(crate) ring: SessionRing,
    pub(crate) logins: Logins,
}

impl App {
    pub(crate) fn new(number: u8, ring: SessionRing) -> sessionring::Result<App> {
        Ok(App(Arc::new(Shared { number, logins: Logins::new(&ring)?, ring })))
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

pub(crate) async fn router(options: &Options) -> Result<Router> {
    let app = App::new(options.number, connect(&options.nodes).await?)?;
    let pages = Router::new()
        .route("/", get(pages::home::show))
        .route("/product/{slug}", get(pages::product::show))
        .route("/cart", get(pages::cart::show).post(pages::cart::add))
        .route("/login", get(pages::login::show).post(pages::login::log_in))
        .route("/logout", post(pages::login::log_out))
        .route("/devices", get(pages::devices::show))
        .route("/devices/end", post(pages::devices::end))
        .route("/devices/end-all", post(pages::devices::end_all))
        .route("/style.css", get(pages::style))
        .fallback(pages::not_found);
    Ok(with_sessions(pages, app, options.secure).layer(middleware::from_fn(same_origin::same_origin)))
}

pub(crate) fn with_sessions(pages: Router<App>, app: App, secure: bool) -> Router {
    // A visitor's cart stays for a week after he was here last. How long he stays *logged in* is in `logins`.
    let week = Expiry::OnInactivity(time::Duration::weeks(1));
    let sessions = SessionManagerLayer::new(RingStore::new(&app.ring, SESSIONS))
        .with_expiry(week)
        .with_http_only(true)
        .with_same_site(SameSite::Lax)
        .with_secure(secure)
        // A cookie of this prefix is accepted by browsers only over TLS and from this very host.
        .with_name(if secure { "__Host-shop" } else { "shop" });
    pages
        .layer(sessions)
        // Around the session layer, so that it can explain what that has failed with, too.
        .layer(middleware::from_fn_with_state(app.clone(), trouble::explain))
        .with_state(app)
}

/// The ring of these nodes. They are where an application looks for it: which nodes it has by now, these tell.
pub(crate) async fn connect(nodes: &[NamedNode]) -> sessionring::Result<SessionRing> {
    // Servers, applications and browser are on one machine here: patience does no harm.
    let patience = Duration::from_secs(5);
    let builder = SessionRing::builder().name("shop").request_timeout(patience).connect_timeout(patience);
    nodes.iter().fold(builder, |builder, node| builder.node(&node.name, &node.address)).connect().await
}

/// How the shop starts one.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which one it is
    #[arg(long)]
    pub(crate) number: u8,
    /// NAME=ADDRESS
    #[arg(long = "node", required = true)]
    pub(crate) nodes: Vec<NamedNode>,
    #[arg(long)]
    pub(crate) secure: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct NamedNode {
    pub(crate) name: String,
    pub(crate) address: String,
}

impl NamedNode {
    pub(crate) fn new(name: &str, address: &str) -> NamedNode {
        NamedNode { name: name.into(), address: address.into() }
    }
}

impl fmt::Display for NamedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.address)
    }
}

impl FromStr for NamedNode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<NamedNode, Self::Err> {
        let (name, address) = text.split_once('=').ok_or("NAME=ADDRESS is needed")?;
        Ok(NamedNode::new(name, address))
    }
}
