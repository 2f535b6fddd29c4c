//! What there is to buy.

use std::fmt;

#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) slug: &'static str,
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) price: Cents,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cents(pub(crate) usize);

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

pub(crate) const CATALOGUE: [Product; 6] = [
    Product { slug: "tea", name: "Tea", text: "Assam, a hundred grams, loose.", price: Cents(650) },
    Product {
        slug: "mug",
        name: "Mug",
        text: "Stoneware, blue, holds a third of a litre.",
        price: Cents(1400),
    },
    Product { slug: "book", name: "Book", text: "About rings, consistent ones.", price: Cents(2990) },
    Product { slug: "lamp", name: "Lamp", text: "For reading the book, over the mug.", price: Cents(5400) },
    Product {
        slug: "rug",
        name: "Rug",
        text: "Wool, woven by hand, two by three metres.",
        price: Cents(32_000),
    },
    Product { slug: "pen", name: "Pen", text: "Writes, and does not overwrite.", price: Cents(320) },
];

pub(crate) fn find(slug: &str) -> Option<&'static Product> {
    CATALOGUE.iter().find(|product| product.slug == slug)
}
