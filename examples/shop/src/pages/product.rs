//! One product. Whoever looks at it has it in his history.

use askama::Template;
use axum::extract::Path;

use super::{Header, Page, render};
use crate::{
    catalogue::{self, Product},
    session::Visit,
    trouble::Trouble,
};

#[derive(Template)]
#[template(path = "product.html")]
struct Shown {
    header: Header,
    product: &'static Product,
}

pub(crate) async fn show(visit: Visit, Path(slug): Path<String>) -> Page {
    let product = catalogue::find(&slug).ok_or(Trouble::NotFound)?;
    visit.has_looked_at(product.slug).await?;
    render(&Shown { header: Header::of(&visit).await?, product })
}
