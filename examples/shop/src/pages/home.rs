//! What there is to buy, and what this visitor has looked at.

use askama::Template;

use super::{Header, Page, render};
use crate::{
    catalogue::{self, CATALOGUE, Product},
    session::Visit,
};

/// So many products of the history are shown.
const SHOWN: usize = 5;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    header: Header,
    products: &'static [Product],
    history: Vec<&'static Product>,
}

pub(crate) async fn show(visit: Visit) -> Page {
    let history = visit.history().await?;
    let history = history.iter().filter_map(|slug| catalogue::find(slug)).take(SHOWN).collect();
    render(&Home { header: Header::of(&visit).await?, products: &CATALOGUE, history })
}
