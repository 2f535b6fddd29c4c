//! The cart.

use askama::Template;
use axum::{
    Form,
    extract::{
        Query,
        rejection::{FormRejection, QueryRejection},
    },
    response::Redirect,
};
use serde::Deserialize;

use super::{Header, Page, render};
use crate::{
    catalogue::{self, CATALOGUE, Cents, Product},
    session::Visit,
    trouble::Trouble,
};

#[derive(Template)]
#[template(path = "cart.html")]
struct Cart {
    header: Header,
    lines: Vec<Line>,
    total: Cents,
    is_full: bool,
}

struct Line {
    product: &'static Product,
    count: usize,
}

#[derive(Deserialize)]
pub(crate) struct Asked {
    /// Something more was to go into it.
    full: Option<String>,
}

pub(crate) async fn show(visit: Visit, asked: Result<Query<Asked>, QueryRejection>) -> Page {
    let cart = visit.cart().await?;
    let count = |product: &Product| cart.iter().filter(|slug| *slug == product.slug).count();
    let lines = CATALOGUE.iter().map(|product| Line { product, count: count(product) });
    let lines: Vec<Line> = lines.filter(|line| line.count > 0).collect();
    let total = Cents(lines.iter().map(|line| line.count * line.product.price.0).sum());
    let is_full = asked.is_ok_and(|Query(asked)| asked.full.is_some());
    render(&Cart { header: Header::of(&visit).await?, lines, total, is_full })
}

#[derive(Deserialize)]
pub(crate) struct Add {
    product: String,
}

pub(crate) async fn add(visit: Visit, form: Result<Form<Add>, FormRejection>) -> Result<Redirect, Trouble> {
    let Form(Add { product }) = form.map_err(|_| Trouble::BadForm)?;
    let product = catalogue::find(&product).ok_or(Trouble::NotFound)?;
    let fits = visit.add_to_cart(product.slug).await?;
    Ok(Redirect::to(if fits { "/cart" } else { "/cart?full" }))
}
