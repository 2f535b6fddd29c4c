//! Somebody who fills a cart, and knows what must be in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Result, page::Page, shop::Shop};

const PRODUCTS: [&str; 6] = ["tea", "mug", "book", "lamp", "rug", "pen"];

#[derive(Debug)]
pub(crate) struct Shopper<'a> {
    pub(crate) page: Page,
    shop: &'a Shop,
    who: &'static str,
    cart: BTreeMap<&'static str, usize>,
    /// The applications that have answered.
    pub(crate) served_by: BTreeSet<String>,
}

impl<'a> Shopper<'a> {
    /// Somebody with an empty cart, whom nobody knows.
    pub(crate) fn new(page: Page, shop: &'a Shop) -> Shopper<'a> {
        Shopper { page, shop, who: "nobody", cart: BTreeMap::new(), served_by: BTreeSet::new() }
    }

    /// Logs in by the form.
    pub(crate) async fn log_in(&mut self, name: &'static str) -> Result {
        self.page.open(&format!("{}/login", self.shop.address)).await?;
        self.page.write("#login [name=name]", name).await?;
        self.page.write("#login [name=password]", "secret").await?;
        self.page.click("#log-in").await?;
        self.page.shows("#log-out").await?;
        self.who = name;
        self.look_at_header().await
    }

    /// Puts the next product into the cart by a click, and looks at what the cart then is.
    pub(crate) async fn add(&mut self) -> Result {
        let product = PRODUCTS[self.items() % PRODUCTS.len()];
        self.page.open(&self.shop.address).await?;
        self.look_at_header().await?;
        self.page.click(&format!("#add-{product}")).await?;
        *self.cart.entry(product).or_default() += 1;
        self.look_at_cart().await
    }

    /// Goes to the cart and looks at what is in it.
    pub(crate) async fn look(&mut self) -> Result {
        self.page.open(&format!("{}/cart", self.shop.address)).await?;
        self.look_at_cart().await
    }

    /// The node that has the cart.
    pub(crate) async fn kept_on(&self) -> Result<String> {
        self.page.text("#kept-on").await
    }

    fn items(&self) -> usize {
        self.cart.values().sum()
    }

    /// On the page of the cart: is everything in it, and nothing else?
    pub(crate) async fn look_at_cart(&mut self) -> Result {
        self.page.shows("#cart").await?;
        let script = "return [...document.querySelectorAll('#cart li')]
            .map(line => [line.dataset.product, Number(line.querySelector('.count').textContent)])";
        let shown: Vec<(String, usize)> = self.page.script(script).await?;
        let expected = self.cart.iter().map(|(product, count)| ((*product).to_owned(), *count));
        assert_eq!(BTreeMap::from_iter(shown), BTreeMap::from_iter(expected), "the cart of {}", self.who);
        self.look_at_header().await
    }

    async fn look_at_header(&mut self) -> Result {
        self.served_by.insert(self.page.text("#served-by").await?);
        assert_eq!(self.page.text("#who").await?, self.who, "whoever is logged in stays it");
        assert_eq!(
            self.page.text("#cart-count").await?,
            self.items().to_string(),
            "in the header of {}",
            self.who
        );
        Ok(())
    }
}
