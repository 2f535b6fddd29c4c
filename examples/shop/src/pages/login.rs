//! Logging in and out. Where a log-in leads is not for the browser to say, so nobody can be led elsewhere by it.

use askama::Template;
use axum::{
    Form,
    extract::{
        Query,
        rejection::{FormRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Header, Page, render};
use crate::{session::Visit, trouble::Trouble, users};

/// A browser's name of itself is text of strangers: as much of it as fits into a line.
const LONGEST_NAME: usize = 200;

#[derive(Template)]
#[template(path = "login.html")]
struct LogIn {
    header: Header,
    notice: Option<Notice>,
}

/// Why the form is shown.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Notice {
    /// The log-in was ended from elsewhere.
    Ended,
    /// It has come to its end by itself.
    Expired,
    LoggedOut,
    #[serde(skip)]
    Wrong,
}

#[derive(Deserialize)]
pub(crate) struct Why {
    notice: Option<Notice>,
}

pub(crate) async fn show(visit: Visit, why: Result<Query<Why>, QueryRejection>) -> Page {
    let notice = why.ok().and_then(|Query(why)| why.notice);
    render(&LogIn { header: Header::of(&visit).await?, notice })
}

#[derive(Deserialize)]
pub(crate) struct Credentials {
    name: String,
    password: String,
}

pub(crate) async fn log_in(
    visit: Visit,
    headers: HeaderMap,
    form: Result<Form<Credentials>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(Credentials { name, password }) = form.map_err(|_| Trouble::BadForm)?;
    let Some(user) = users::check(&name, &password) else {
        let page = render(&LogIn { header: Header::of(&visit).await?, notice: Some(Notice::Wrong) })?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    visit.log_in(user, &browser(&headers)).await?;
    Ok(Redirect::to("/").into_response())
}

pub(crate) async fn log_out(visit: Visit) -> Result<Redirect, Trouble> {
    visit.log_out().await?;
    Ok(Redirect::to("/login?notice=logged-out"))
}

fn browser(headers: &HeaderMap) -> String {
    let name = headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok());
    name.unwrap_or("a browser without a name").chars().take(LONGEST_NAME).collect()
}
