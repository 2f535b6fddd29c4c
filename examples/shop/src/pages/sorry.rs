//! The page in place of one that cannot be shown.

use askama::Template;

use super::{Header, Page, render};
use crate::{app::App, trouble::Trouble};

#[derive(Template)]
#[template(path = "sorry.html")]
struct Sorry<'a> {
    header: Header,
    trouble: &'a Trouble,
}

pub(crate) fn show(app: &App, trouble: &Trouble) -> Page {
    render(&Sorry { header: Header::of_nobody_knows(app), trouble })
}
