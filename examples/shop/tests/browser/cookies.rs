//! The cookie, as a browser keeps it.

use thirtyfour::SameSite;

use crate::{Result, browsers::Browsers, shop::Shop};

#[tokio::test]
async fn the_cookie_is_out_of_reach_and_another_one_after_the_log_in() -> Result {
    let shop = Shop::start(&["--visitors", "0"])?;
    let mut browsers = Browsers::start()?;
    let mut alice = shop.visitor(&mut browsers).await?;
    alice.add().await?;
    let before = alice.page.cookie().await?.ok_or("a cart without a cookie")?;
    alice.log_in("alice").await?;
    alice.look().await?;
    let after = alice.page.cookie().await?.ok_or("logged in without a cookie")?;

    for cookie in [&before, &after] {
        assert_eq!(cookie.http_only, Some(true));
        assert!(matches!(cookie.same_site, Some(SameSite::Lax)), "{cookie:?}");
        assert_eq!(cookie.path.as_deref(), Some("/"));
    }
    assert_eq!(alice.page.script::<String>("return document.cookie").await?, "");

    // Whoever has planted the id before the log-in, or has seen it, is not logged in by it.
    assert_ne!(before.value, after.value);
    alice.page.set_cookie(Some(&before)).await?;
    for _ in 0..3 {
        alice.page.open(&shop.address).await?;
        assert_eq!(alice.page.text("#who").await?, "nobody");
    }
    alice.page.set_cookie(Some(&after)).await?;
    alice.look().await?;
    Ok(())
}
