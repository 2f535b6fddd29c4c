//! The browser and its driver, as `scripts/install-chromium.sh` finds and installs them.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::Result;

/// Fedora and Debian call it so, older Ubuntus otherwise, and Google's own packages otherwise again.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Where packages put the driver that do not put it on the `PATH`.
const ELSEWHERE: [&str; 3] =
    ["/usr/lib/chromium", "/usr/lib/chromium-browser", "/usr/lib64/chromium-browser"];

/// The browser: what `CHROMIUM` names, or else the first that is on the `PATH`.
pub(crate) fn browser() -> Result<PathBuf> {
    find("CHROMIUM", &BROWSERS)
}

/// Its driver: what `CHROMEDRIVER` names, or else the one on the `PATH`.
pub(crate) fn driver() -> Result<PathBuf> {
    find("CHROMEDRIVER", &["chromedriver"])
}

fn find(variable: &str, names: &[&str]) -> Result<PathBuf> {
    if let Some(named) = env::var_os(variable).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return match named.is_file() {
            true => Ok(named),
            false => Err(format!("{variable} names {}, which is not there", named.display()).into()),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &&str| {
        let folders = env::split_paths(&path).chain(ELSEWHERE.iter().map(PathBuf::from));
        folders.map(|folder| folder.join(name)).find(|program| Path::is_file(program))
    };
    let none =
        || format!("no {} is installed: scripts/install-chromium.sh installs it", names.join(", no ")).into();
    names.iter().find_map(on_path).ok_or_else(none)
}
