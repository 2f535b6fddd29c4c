//! The pages of a browser whose user has switched JavaScript off.

use crate::{Result, browsers::Browsers, operator::Operator, picture, shop::Shop, shopper::Shopper};

/// What it shows tells whether scripts run.
const SCRIPT: &str =
    "data:text/html,<p id=p>off</p><script>document.getElementById('p').textContent='on'</script>";

#[tokio::test]
async fn all_of_it_works_without_javascript() -> Result {
    let shop = Shop::start(&["--visitors", "20"])?;
    let mut browsers = Browsers::start()?;
    for (page, says) in [(browsers.open().await?, "on"), (browsers.open_without_scripts().await?, "off")] {
        page.open(SCRIPT).await?;
        assert_eq!(page.text("#p").await?, says);
    }

    let mut alice = Shopper::new(browsers.open_without_scripts().await?, &shop);
    alice.add().await?;
    alice.page.open(&shop.address).await?;
    alice.page.click("#products a.product[href='/product/lamp']").await?;
    alice.page.shows("main > .price").await?;
    alice.log_in("alice").await?;
    alice.add().await?;
    alice.page.open(&shop.address).await?;
    assert_eq!(alice.page.count("#history li[data-product=lamp]").await?, 1);
    picture::take(&alice.page, "shop").await?;

    // The operator's page renews itself, and its forms do what they say.
    let operator = Operator::beside(&alice.page, &shop).await?;
    let nodes = operator.page.shows("#nodes").await?;
    operator.page.leaves(&nodes).await?;
    operator.click("#add-node").await?;
    operator.page.shows("#nodes tr[data-node=d][data-state=up]").await?;

    alice.page.open(&format!("{}/devices", shop.address)).await?;
    alice.page.click("#devices li.current .end").await?;
    alice.page.shows("#logged-out").await?;
    assert_eq!(alice.page.text("#who").await?, "nobody");
    Ok(())
}
