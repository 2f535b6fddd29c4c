//! A log-out from elsewhere, which is final.

use crate::{Result, browsers::Browsers, picture, shop::Shop};

#[tokio::test]
async fn who_is_logged_out_from_another_browser_is_told_so_at_the_next_click() -> Result {
    let shop = Shop::start(&["--visitors", "0"])?;
    let mut browsers = Browsers::start()?;
    let mut first = shop.visitor(&mut browsers).await?;
    first.log_in("alice").await?;
    first.add().await?;
    let cookie = first.page.cookie().await?.ok_or("logged in without a cookie")?;

    let mut second = shop.visitor(&mut browsers).await?;
    second.log_in("alice").await?;
    second.page.open(&format!("{}/devices", shop.address)).await?;
    second.page.shows("#devices li.current").await?;
    assert_eq!(second.page.count("#devices li").await?, 2);
    picture::take(&second.page, "devices").await?;
    second.page.click("#log-out-everywhere").await?;
    second.page.shows("#login").await?;
    assert_eq!(second.page.text("#who").await?, "nobody");

    // The next click, wherever it leads.
    first.page.click("header a[href='/devices']").await?;
    first.page.shows("#ended").await?;
    assert_eq!(first.page.text("#who").await?, "nobody");
    picture::take(&first.page, "logged-out-from-elsewhere").await?;

    // What the browser remembers does not bring it back; one request for each application, and each page anew.
    first.page.back().await?;
    for _ in 0..3 {
        assert_eq!(first.page.text("#who").await?, "nobody");
        assert_eq!(first.page.text("#cart-count").await?, "0");
        assert_eq!(first.page.count("#log-out").await?, 0);
        first.page.reload().await?;
    }
    // Nor does who has kept the cookie.
    for _ in 0..3 {
        first.page.set_cookie(Some(&cookie)).await?;
        first.page.open(&shop.address).await?;
        assert_eq!(first.page.text("#who").await?, "nobody");
        assert_eq!(first.page.text("#cart-count").await?, "0");
    }
    Ok(())
}
