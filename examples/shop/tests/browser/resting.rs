//! Visitors who filled a cart and went away, one or more on each node.

use std::collections::BTreeSet;

use thirtyfour::Cookie;

use crate::{Result, browsers::Browsers, page::Page, shop::Shop, shopper::Shopper};

/// They share a browser: it has the cookie of one of them at a time.
#[derive(Debug)]
pub(crate) struct Resting<'a> {
    page: Page,
    visitors: Vec<(Cookie, Shopper<'a>)>,
    looks: usize,
}

impl<'a> Resting<'a> {
    /// As many as it takes until each of these nodes has one; those on other nodes do not count.
    pub(crate) async fn on(nodes: &[String], shop: &'a Shop, browsers: &mut Browsers) -> Result<Resting<'a>> {
        let page = browsers.open().await?;
        let mut without: BTreeSet<&String> = nodes.iter().collect();
        let mut visitors = Vec::new();
        page.open(&shop.address).await?;
        while !without.is_empty() {
            page.set_cookie(None).await?;
            let mut visitor = Shopper::new(page.clone(), shop);
            visitor.add().await?;
            let home = visitor.kept_on().await?;
            if nodes.contains(&home) {
                without.remove(&home);
                visitors.push((page.cookie().await?.ok_or("there is a cart, and no cookie")?, visitor));
            }
        }
        Ok(Resting { page, visitors, looks: 0 })
    }

    /// The next one's cart is what it was.
    pub(crate) async fn look_at_next(&mut self) -> Result {
        let next = self.looks % self.visitors.len();
        self.looks += 1;
        let (cookie, visitor) = &mut self.visitors[next];
        self.page.set_cookie(Some(cookie)).await?;
        visitor.look().await
    }

    pub(crate) async fn look_at_all(&mut self) -> Result {
        for _ in 0..self.visitors.len() {
            self.look_at_next().await?;
        }
        Ok(())
    }
}
