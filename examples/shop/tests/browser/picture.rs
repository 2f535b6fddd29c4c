//! The pictures of the pages in the docs: `SCREENSHOTS=1 make browser` takes them anew.

use std::{env, fs, path::Path};

use crate::{Result, page::Page};

/// Beside the docs.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/screenshots");

/// Takes one of what the window shows, where pictures are asked for.
pub(crate) async fn take(page: &Page, name: &str) -> Result {
    if env::var_os("SCREENSHOTS").is_some_and(|value| !value.is_empty() && value != "0") {
        fs::create_dir_all(FOLDER)?;
        fs::write(Path::new(FOLDER).join(format!("{name}.png")), page.picture().await?)?;
    }
    Ok(())
}
