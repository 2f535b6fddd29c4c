//! What is on the page, and what a person does with it.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use thirtyfour::{By, Cookie, WebDriver, WebElement, WindowHandle, extensions::query::ElementWaitable};
use tokio::time::sleep;

use crate::{Result, browsers::PATIENCE};

/// Between two looks at something that tells nobody when it changes.
const PAUSE: Duration = Duration::from_millis(20);
/// Of windows, in pixels.
const WIDTH: u32 = 900;
/// What the shop calls its cookie where there is no TLS.
const COOKIE: &str = "shop";

/// A window of a browser. Elements are named by CSS selectors.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    browser: WebDriver,
    window: WindowHandle,
}

impl Page {
    /// The window in which the browser has opened.
    pub(crate) async fn new(browser: WebDriver) -> Result<Page> {
        let window = browser.window().await?;
        Ok(Page { browser, window })
    }

    pub(crate) async fn second_window(&self) -> Result<Page> {
        Ok(Page { window: self.browser.new_window().await?, browser: self.browser.clone() })
    }

    /// A browser does what it is told in the window that it was told last.
    async fn here(&self) -> Result<&WebDriver> {
        self.browser.switch_to_window(self.window.clone()).await?;
        Ok(&self.browser)
    }

    pub(crate) async fn open(&self, address: &str) -> Result {
        Ok(self.here().await?.goto(address).await?)
    }

    pub(crate) async fn reload(&self) -> Result {
        Ok(self.here().await?.refresh().await?)
    }

    pub(crate) async fn back(&self) -> Result {
        Ok(self.here().await?.back().await?)
    }

    /// Waits until it can be seen, or else says what can. Whatever goes wrong while a page makes way for the next one is no
    /// more than "not yet".
    pub(crate) async fn shows(&self, css: &str) -> Result<WebElement> {
        let browser = self.here().await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = async {
                let element = browser.find(By::Css(css)).await?;
                element.is_displayed().await.map(|displayed| displayed.then_some(element))
            };
            match found.await {
                Ok(Some(element)) => return Ok(element),
                seen if Instant::now() >= deadline => {
                    panic!("{css} is not shown ({seen:?}). {}", self.described().await)
                }
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Waits until the page that has this element has made way for another one.
    pub(crate) async fn leaves(&self, element: &WebElement) -> Result {
        self.here().await?;
        match element.wait_until().wait(PATIENCE, PAUSE).stale().await {
            Ok(()) => Ok(()),
            Err(_) => panic!("the page stays. {}", self.described().await),
        }
    }

    /// How many there are now.
    pub(crate) async fn count(&self, css: &str) -> Result<usize> {
        Ok(self.here().await?.find_all(By::Css(css)).await?.len())
    }

    pub(crate) async fn text(&self, css: &str) -> Result<String> {
        Ok(self.shows(css).await?.text().await?.trim().to_owned())
    }

    pub(crate) async fn click(&self, css: &str) -> Result {
        Ok(self.shows(css).await?.click().await?)
    }

    pub(crate) async fn write(&self, css: &str, text: &str) -> Result {
        Ok(self.shows(css).await?.send_keys(text).await?)
    }

    /// What a script says that runs on the page.
    pub(crate) async fn script<T: DeserializeOwned>(&self, script: &str) -> Result<T> {
        Ok(self.here().await?.execute(script, []).await?.convert()?)
    }

    /// The status with which the page came.
    pub(crate) async fn status(&self) -> Result<u16> {
        self.script("return performance.getEntriesByType('navigation')[0].responseStatus").await
    }

    /// The cookie of the session, as the browser keeps it.
    pub(crate) async fn cookie(&self) -> Result<Option<Cookie>> {
        let cookies = self.here().await?.get_all_cookies().await?;
        Ok(cookies.into_iter().find(|cookie| cookie.name == COOKIE))
    }

    /// Has this cookie from now on, or none.
    pub(crate) async fn set_cookie(&self, cookie: Option<&Cookie>) -> Result {
        let browser = self.here().await?;
        browser.delete_all_cookies().await?;
        if let Some(cookie) = cookie {
            browser.add_cookie(cookie.clone()).await?;
        }
        Ok(())
    }

    /// The whole page (PNG), in a window that has been made as high as it is.
    pub(crate) async fn picture(&self) -> Result<Vec<u8>> {
        let script = "const page = document.documentElement.getBoundingClientRect().height;
            return Math.ceil(outerHeight - innerHeight + page)";
        let height = self.script(script).await?;
        self.browser.set_window_rect(0, 0, WIDTH, height).await?;
        Ok(self.browser.screenshot_as_png().await?)
    }

    /// Where it is and what can be read there.
    async fn described(&self) -> String {
        let address = self.browser.current_url().await.map(String::from).unwrap_or_default();
        let text = match self.browser.find(By::Tag("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        format!("{address} says:\n{text}")
    }
}
