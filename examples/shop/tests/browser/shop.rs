//! The shop itself, as a user starts it.

use std::path::Path;

use crate::{Result, browsers::Browsers, kept::Kept, shopper::Shopper};

/// A running shop: its servers and its applications. They end with it.
#[derive(Debug)]
pub(crate) struct Shop {
    _process: Kept,
    /// Where it is found, `http://127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Where its operator's page is found.
    pub(crate) operator: String,
}

impl Shop {
    pub(crate) fn start(options: &[&str]) -> Result<Shop> {
        let options = [&["--port", "0", "--operator-port", "0"], options].concat();
        let mut process = Kept::start(Path::new(env!("CARGO_BIN_EXE_shop")), &options)?;
        let mut address = |mark| {
            Ok::<_, Box<dyn std::error::Error>>(process.line_after(mark)?.trim_end_matches('/').to_owned())
        };
        let (shop, operator) = (address("shop: ")?, address("operator: ")?);
        Ok(Shop { _process: process, address: shop, operator })
    }

    /// Somebody new, in a browser with a profile that nobody has used.
    pub(crate) async fn visitor(&self, browsers: &mut Browsers) -> Result<Shopper<'_>> {
        Ok(Shopper::new(browsers.open().await?, self))
    }
}
