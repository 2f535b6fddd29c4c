//! Browsers without a window on the screen, each with a profile of its own.

use std::{collections::BTreeMap, time::Duration};

use thirtyfour::{ChromeCapabilities, ChromiumLikeCapabilities, WebDriver};

use crate::{Result, kept::Kept, page::Page, programs};

/// What a browser is started with besides its folder.
const ARGUMENTS: [&str; 14] = [
    "--headless=new",
    // Its sandbox needs what containers and root do not have. It shows our own pages alone.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    // It looks at the loopback and at nothing else, neither by itself nor through a proxy.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    // Going back asks the cache or the shop. A page that is kept alive in memory is shown without either, at least over
    // plain HTTP, and whatever its headers say.
    "--disable-features=BackForwardCache",
    // Pictures come out alike on all screens.
    "--force-device-scale-factor=1",
    "--window-size=900,700",
];

/// Nothing that is waited for may take longer; a browser on a busy machine does take seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A driver (WebDriver), and the browsers that it has opened. All end with it.
#[derive(Debug)]
pub(crate) struct Browsers {
    driver: Kept,
    address: String,
    opened: usize,
}

impl Browsers {
    pub(crate) fn start() -> Result<Browsers> {
        let mut driver = Kept::start(&programs::driver()?, &["--port=0"])?;
        let port = driver.line_after("started successfully on port ")?;
        let address = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
        Ok(Browsers { driver, address, opened: 0 })
    }

    /// A browser with a profile that nobody has used.
    pub(crate) async fn open(&mut self) -> Result<Page> {
        self.open_with(true).await
    }

    /// The same, and its user has switched JavaScript off.
    pub(crate) async fn open_without_scripts(&mut self) -> Result<Page> {
        self.open_with(false).await
    }

    async fn open_with(&mut self, scripts: bool) -> Result<Page> {
        self.opened += 1;
        let profile = self.driver.folder().join(format!("profile-{}", self.opened));
        let mut wanted = ChromeCapabilities::new();
        wanted.set_binary(&programs::browser()?.to_string_lossy())?;
        wanted.add_arg(&format!("--user-data-dir={}", profile.display()))?;
        for argument in ARGUMENTS {
            wanted.add_arg(argument)?;
        }
        if !scripts {
            // The setting "Don't allow sites to use JavaScript".
            let preferences = [("profile.managed_default_content_settings.javascript", 2)];
            wanted.add_experimental_option("prefs", BTreeMap::from(preferences))?;
        }
        // The variables that name a proxy are for the outside.
        let client = reqwest::Client::builder().no_proxy().timeout(4 * PATIENCE).build()?;
        let browser = WebDriver::builder(&self.address, wanted).client(client).connect().await?;
        // They end with the driver, also where a test panics: nobody needs to say goodbye to each.
        browser.clone().leak()?;
        browser.set_page_load_timeout(PATIENCE).await?;
        Page::new(browser).await
    }
}
