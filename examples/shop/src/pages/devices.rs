//! "My devices": every browser in which this user is logged in, each of which can be logged out from here.

use std::time::SystemTime;

use askama::Template;
use axum::{Form, extract::rejection::FormRejection, response::Redirect};
use serde::Deserialize;
use sessionring::SessionHandle;

use super::{Header, Page, render};
use crate::{
    session::{Login, Visit},
    trouble::Trouble,
};

#[derive(Template)]
#[template(path = "devices.html")]
struct Devices {
    header: Header,
    devices: Vec<Row>,
}

struct Row {
    handle: SessionHandle,
    browser: String,
    since: String,
    is_current: bool,
}

pub(crate) async fn show(visit: Visit) -> Page {
    let login = logged_in(&visit)?;
    let devices = visit.app.logins.of(&login.principal()).await?;
    let devices = devices.into_iter().map(|device| Row {
        handle: device.handle(),
        since: ago(device.since()),
        is_current: device.is(&login.id),
        browser: device
            .into_value()
            .map_or_else(|_| "a browser that we know nothing of".into(), |device| device.browser),
    });
    render(&Devices { header: Header::of(&visit).await?, devices: devices.collect() })
}

#[derive(Deserialize)]
pub(crate) struct End {
    device: String,
}

pub(crate) async fn end(visit: Visit, form: Result<Form<End>, FormRejection>) -> Result<Redirect, Trouble> {
    let login = logged_in(&visit)?;
    let Form(End { device }) = form.map_err(|_| Trouble::BadForm)?;
    // A handle is no secret, and ends nothing that is not his.
    let device = device.parse().map_err(|_| Trouble::BadForm)?;
    visit.app.logins.end_one(&login.principal(), device).await?;
    Ok(Redirect::to("/devices"))
}

/// All the others, and this one.
pub(crate) async fn end_all(visit: Visit) -> Result<Redirect, Trouble> {
    let login = logged_in(&visit)?;
    visit.app.logins.end_all(&login.principal()).await?;
    visit.log_out().await?;
    Ok(Redirect::to("/login?notice=logged-out"))
}

fn logged_in(visit: &Visit) -> Result<&Login, Trouble> {
    visit.login.as_ref().ok_or(Trouble::LogInFirst)
}

fn ago(since: SystemTime) -> String {
    match since.elapsed().unwrap_or_default().as_secs() / 60 {
        0 => "just now".into(),
        1 => "a minute ago".into(),
        minutes @ 2..60 => format!("{minutes} minutes ago"),
        minutes => format!("{} hours ago", minutes / 60),
    }
}
