//! A node that is down logs nobody out.

use std::time::Instant;

use crate::{
    Result,
    browsers::{Browsers, PATIENCE},
    operator::Operator,
    picture,
    resting::Resting,
    shop::Shop,
};

#[tokio::test]
async fn whose_node_is_down_is_told_so_and_is_logged_in_when_it_is_back() -> Result {
    let shop = Shop::start(&["--visitors", "0"])?;
    let mut browsers = Browsers::start()?;
    let mut alice = shop.visitor(&mut browsers).await?;
    alice.add().await?;
    alice.log_in("alice").await?;
    let operator = Operator::beside(&alice.page, &shop).await?;
    let home = alice.kept_on().await?;
    let others: Vec<String> = operator.nodes().await?.into_iter().filter(|node| *node != home).collect();
    let mut elsewhere = Resting::on(&others, &shop, &mut browsers).await?;
    let cookie = alice.page.cookie().await?.ok_or("logged in without a cookie")?;

    operator.kill(&home).await?;
    picture::take(&operator.page, "node-down").await?;
    for path in ["/", "/cart", "/product/tea"] {
        alice.page.open(&format!("{}{path}", shop.address)).await?;
        let says = alice.page.text("#unavailable").await?;
        assert!(says.contains("safe") && says.contains("not logged out"), "{says}");
        assert_eq!(alice.page.count("a[href='/login']").await?, 0, "who is logged in need not log in");
        assert_eq!(alice.page.status().await?, 503);
        let kept = alice.page.cookie().await?.map(|cookie| cookie.value);
        assert_eq!(kept.as_ref(), Some(&cookie.value), "the cookie is left alone");
    }
    picture::take(&alice.page, "node-down-for-a-visitor").await?;
    // The other nodes do not mind.
    elsewhere.look_at_all().await?;

    alice.served_by.clear();
    operator.start(&home).await?;
    // Each application finds out by itself within seconds; until then it says what it said before.
    let deadline = Instant::now() + PATIENCE;
    while alice.served_by.len() < 3 {
        alice.page.open(&format!("{}/cart", shop.address)).await?;
        alice.page.shows("#cart, #unavailable").await?;
        if alice.page.count("#unavailable").await? == 0 {
            alice.look_at_cart().await?;
        }
        assert!(Instant::now() < deadline, "the node is up, and only these see it: {:?}", alice.served_by);
    }
    Ok(())
}
