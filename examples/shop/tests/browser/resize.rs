//! Nodes join and leave while people shop.

use std::collections::BTreeSet;

use crate::{
    Result, browsers::Browsers, operator::Operator, picture, resting::Resting, shop::Shop, shopper::Shopper,
};

/// So many sessions, and so many of them moved in a second: a resize then takes eight seconds or more, which
/// is long enough for some clicks of a browser on a busy machine.
const OPTIONS: [&str; 4] = ["--visitors", "600", "--rate", "20"];

#[tokio::test]
async fn a_cart_is_filled_while_a_node_joins_and_another_leaves() -> Result {
    let shop = Shop::start(&OPTIONS)?;
    let mut browsers = Browsers::start()?;
    let mut alice = shop.visitor(&mut browsers).await?;
    alice.add().await?;
    alice.log_in("alice").await?;
    let operator = Operator::beside(&alice.page, &shop).await?;
    let founders = operator.nodes().await?;
    let mut resting = Resting::on(&founders, &shop, &mut browsers).await?;
    let mut homes = vec![alice.kept_on().await?];

    operator.add_node().await?;
    shop_meanwhile(&operator, &mut alice, &mut resting).await?;
    let nodes = operator.nodes().await?;
    assert_eq!(nodes[..founders.len()], founders);
    let [joined] = &nodes[founders.len()..] else { panic!("{nodes:?}") };
    homes.push(alice.kept_on().await?);

    // The one that has her cart; if that has gone to the new one already, another.
    let leaving = if homes[1] == *joined { &founders[0] } else { &homes[1] };
    operator.remove(leaving).await?;
    picture::take(&operator.page, "resize").await?;
    shop_meanwhile(&operator, &mut alice, &mut resting).await?;
    assert!(!operator.nodes().await?.contains(leaving));
    homes.push(alice.kept_on().await?);

    assert!(homes.iter().collect::<BTreeSet<_>>().len() > 1, "her cart was to move: {homes:?}");
    alice.look().await?;
    picture::take(&alice.page, "cart").await?;
    resting.look_at_all().await?;
    assert_eq!(alice.served_by.len(), 3, "all applications have answered: {:?}", alice.served_by);
    Ok(())
}

/// Alice goes on shopping until the resize is done, and the others look at their carts.
async fn shop_meanwhile(operator: &Operator, alice: &mut Shopper<'_>, resting: &mut Resting<'_>) -> Result {
    let mut clicks = 0;
    while operator.is_resizing().await? {
        alice.add().await?;
        resting.look_at_next().await?;
        clicks += 1;
    }
    assert!(clicks >= 2, "{clicks} clicks: the resize was over too soon");
    Ok(())
}
