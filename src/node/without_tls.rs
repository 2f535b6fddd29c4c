//! What stands in the place of `tls` where the feature is switched off: there is no such thing.

use std::{convert::Infallible, error::Error as StdError, io};

use tokio::net::TcpStream;

use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub(crate) struct Tls(Infallible);

impl Tls {
    pub(crate) fn system_roots() -> Result<Tls> {
        Err(Error::configuration(
            "the address asks for TLS, which this application was built without: switch on the feature `tls` of \
             sessionring in its Cargo.toml; nothing was sent",
        ))
    }

    pub(crate) async fn secure(&self, _: &str, _: TcpStream) -> io::Result<TcpStream> {
        match self.0 {}
    }
}

pub(crate) fn explain(_: &(dyn StdError + 'static)) -> Option<String> {
    None
}
