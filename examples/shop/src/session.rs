//! What a session holds, and who is asking.
//!
//! The session is the framework's: tower-sessions keeps its id in the cookie, loads it when a request first asks for it, and saves
//! with the response what the request has changed. Requests of one browser run at the same time, on different applications; the
//! store brings their changes together entry by entry, and of lists to which both have appended it keeps both additions. So the
//! cart is a list to which things are appended, and nothing else has to be done for two tabs to lose nothing.

use axum::{extract::FromRequestParts, http::request::Parts};
use sessionring::{NodeId, SessionId, web::tower_sessions::session_id};
use tower_sessions::Session;

use crate::{
    app::App,
    logins::{Presence, principal},
    trouble::Trouble,
    users::User,
};

/// The entries: slugs of products.
const CART: &str = "cart";
const HISTORY: &str = "history";
/// The id of a log-in, see [`Logins`](crate::logins::Logins).
const LOGIN: &str = "login";

/// So many things fit into a cart.
const FULL: usize = 200;
/// So many products are remembered; of twice as many the older half is forgotten.
const REMEMBERED: usize = 20;

/// A request's session, and who is logged in by it. As a parameter of a handler it is loaded, and a log-in that was ended from
/// elsewhere has come to its end here: no handler sees it.
pub(crate) struct Visit {
    pub(crate) app: App,
    pub(crate) login: Option<Login>,
    session: Session,
}

pub(crate) struct Login {
    pub(crate) id: SessionId,
    pub(crate) user: &'static User,
}

impl FromRequestParts<App> for Visit {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Visit, Trouble> {
        let session = Session::from_request_parts(parts, app).await;
        let session = session.map_err(|(_, why)| Trouble::Broken(why.into()))?;
        let login = match session.get::<String>(LOGIN).await? {
            None => None,
            Some(id) => {
                let id = SessionId::parse(&id).map_err(|error| Trouble::Broken(error.to_string()))?;
                match app.logins.visit(&id).await? {
                    Presence::Here(user) => Some(Login { id, user }),
                    Presence::Ended(how) => {
                        // Whoever has this browser now is to see nothing of what was done in it.
                        session.flush().await?;
                        return Err(Trouble::LogInEnded(how));
                    }
                }
            }
        };
        Ok(Visit { app: app.clone(), login, session })
    }
}

impl Visit {
    pub(crate) async fn cart(&self) -> Result<Vec<String>, Trouble> {
        Ok(self.session.get(CART).await?.unwrap_or_default())
    }

    /// `false`: it is full.
    pub(crate) async fn add_to_cart(&self, slug: &str) -> Result<bool, Trouble> {
        let mut cart = self.cart().await?;
        if cart.len() >= FULL {
            return Ok(false);
        }
        cart.push(slug.to_owned());
        self.session.insert(CART, cart).await?;
        Ok(true)
    }

    /// The last product first, each once.
    pub(crate) async fn history(&self) -> Result<Vec<String>, Trouble> {
        let mut seen: Vec<String> = Vec::new();
        for slug in self.looked_at().await?.into_iter().rev() {
            if !seen.contains(&slug) {
                seen.push(slug);
            }
        }
        Ok(seen)
    }

    pub(crate) async fn has_looked_at(&self, slug: &str) -> Result<(), Trouble> {
        let mut looked_at = self.looked_at().await?;
        if looked_at.len() >= 2 * REMEMBERED {
            looked_at.drain(..REMEMBERED);
        }
        looked_at.push(slug.to_owned());
        Ok(self.session.insert(HISTORY, looked_at).await?)
    }

    async fn looked_at(&self) -> Result<Vec<String>, Trouble> {
        Ok(self.session.get(HISTORY).await?.unwrap_or_default())
    }

    /// Cart and history stay. The id in the cookie is a new one from now on, so whoever planted the old one has nothing.
    pub(crate) async fn log_in(&self, user: &'static User, browser: &str) -> Result<(), Trouble> {
        let logins = &self.app.logins;
        if let Some(before) = &self.login {
            logins.end(&before.id).await?;
        }
        let id = logins.begin(user, browser).await?;
        self.session.insert(LOGIN, id.expose()).await?;
        self.session.cycle_id().await?;
        // The framework would save with the response; if it could not, nobody would have this log-in, and it would be in the list
        // of devices for hours.
        if let Err(error) = self.session.save().await {
            logins.end(&id).await?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Final: nothing that is under way brings the session back. The log-in goes first, so that if the second step fails the first
    /// one counts.
    pub(crate) async fn log_out(&self) -> Result<(), Trouble> {
        if let Some(login) = &self.login {
            self.app.logins.end(&login.id).await?;
        }
        Ok(self.session.flush().await?)
    }

    /// The node on which this session is, for those who look at the ring and not at the shop.
    pub(crate) fn node(&self) -> Option<NodeId> {
        let id = session_id(self.session.id()?.0).ok()?;
        Some(self.app.ring.owner(&id))
    }
}

impl Login {
    pub(crate) fn principal(&self) -> String {
        principal(self.user.number)
    }
}
