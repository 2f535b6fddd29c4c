//! The pages: one file each, and one template each.

pub(crate) mod cart;
pub(crate) mod devices;
pub(crate) mod home;
pub(crate) mod login;
pub(crate) mod product;
pub(crate) mod sorry;

use askama::Template;
use axum::{
    http::header,
    response::{Html, IntoResponse, Response},
};

use crate::{app::App, session::Visit, trouble::Trouble};

/// What every page says at its top.
pub(crate) struct Header {
    served_by: u8,
    who: String,
    /// Not known where the session could not be read.
    is_logged_in: Option<bool>,
    cart_count: String,
    /// The nodes that hold the session and the log-in.
    kept_on: Option<String>,
    login_on: Option<String>,
}

impl Header {
    pub(crate) async fn of(visit: &Visit) -> Result<Header, Trouble> {
        let login = visit.login.as_ref();
        Ok(Header {
            served_by: visit.app.number,
            who: login.map_or("nobody", |login| login.user.name).into(),
            is_logged_in: Some(login.is_some()),
            cart_count: visit.cart().await?.len().to_string(),
            kept_on: visit.node().map(|node| node.to_string()),
            login_on: login.map(|login| visit.app.ring.owner(&login.id).to_string()),
        })
    }

    /// Where the session could not be read.
    pub(crate) fn of_nobody_knows(app: &App) -> Header {
        Header {
            served_by: app.number,
            who: "?".into(),
            is_logged_in: None,
            cart_count: "?".into(),
            kept_on: None,
            login_on: None,
        }
    }
}

pub(crate) type Page = Result<Rendered, Trouble>;

#[derive(Default)]
pub(crate) struct Rendered(String);

impl IntoResponse for Rendered {
    /// Nobody keeps a copy: after a log-out, going back shows nothing of what was there.
    fn into_response(self) -> Response {
        ([(header::CACHE_CONTROL, "no-store")], Html(self.0)).into_response()
    }
}

pub(crate) fn render(page: &impl Template) -> Page {
    page.render().map(Rendered).map_err(|error| Trouble::Broken(error.to_string()))
}

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css")], include_str!("../../templates/style.css"))
}

pub(crate) async fn not_found() -> Trouble {
    Trouble::NotFound
}
