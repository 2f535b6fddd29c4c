//! The shop as a user starts it, walked through with a plain HTTP client: every page, on real servers, while nodes join, leave and die.
#![allow(missing_docs, unreachable_pub, reason = "a test")]

mod browser;
mod process;

use std::collections::BTreeSet;

use browser::{Browser, Operator, Page};
use futures_util::future::join_all;
use process::{Shop, until};
use reqwest::{
    Method, StatusCode,
    header::{RETRY_AFTER, SET_COOKIE},
};

#[tokio::test]
async fn shopping_logging_in_and_out() {
    let shop = Shop::open(&[]);
    let alice = Browser::named(&shop, "Netscape <script>");

    // Who only looks at the list has no session yet.
    let page = alice.get("/").await;
    assert_eq!(page.between(r#"<a class="product" href="/product/"#, "\"").len(), 6);
    assert_eq!(
        (page.text("who").as_deref(), page.text("cart-count").as_deref()),
        (Some("nobody"), Some("0"))
    );
    assert!(page.set_cookie().is_none() && !page.has("history") && !page.has("kept-on"));

    let page = alice.get("/product/lamp").await;
    let first_cookie = page.set_cookie().unwrap().to_owned();
    for expected in ["shop=", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(first_cookie.contains(expected), "{first_cookie}");
    }
    assert!(!first_cookie.contains("Secure"), "it would not come back over plain HTTP");
    alice.get("/product/tea").await;
    alice.get("/product/lamp").await;
    let page = alice.get("/").await;
    assert_eq!(page.between(r#"<li data-product=""#, "\""), ["lamp", "tea"], "the last one first, each once");

    alice.add("tea").await;
    alice.add("mug").await;
    let page = alice.add("tea").await;
    assert_eq!(cart(&page), [("tea", "2"), ("mug", "1")]);
    assert_eq!(page.text("total").as_deref(), Some("27.00"));
    assert_eq!(alice.post("/cart", &[("product", "car")]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(alice.post("/cart", &[("fruit", "tea")]).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(alice.get("/product/car").await.status, StatusCode::NOT_FOUND);
    assert!(alice.get("/nowhere").await.has("not-found"));

    assert_eq!(alice.get("/devices").await.path, "/login", "there are none of nobody");
    for (name, password) in [("alice", "Secret"), ("alice", ""), ("carol", "secret"), ("", "nobody's")] {
        let page = alice.post("/login", &[("name", name), ("password", password)]).await;
        assert!(page.has("wrong") && page.has("log-in"), "{name} {password}: {page:?}");
        assert_eq!(page.text("who").as_deref(), Some("nobody"));
    }
    // Whoever planted the id before the log-in has nothing of it.
    let planted = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
    let other = Browser::new(&shop);
    let with_first = [("cookie", &*planted(&first_cookie))];
    let before = other.send(Method::GET, "/cart", &[], &with_first).await;
    assert_eq!(before.text("cart-count").as_deref(), Some("3"));
    let page = alice.log_in("alice").await;
    assert_eq!((page.path.as_str(), page.text("cart-count").as_deref()), ("/", Some("3")), "the cart stays");
    assert!(page.has("history") && page.has("log-out") && page.has("login-on"));
    let after = Browser::new(&shop).send(Method::GET, "/cart", &[], &with_first).await;
    assert_eq!(
        (after.text("who").as_deref(), after.text("cart-count").as_deref()),
        (Some("nobody"), Some("0"))
    );

    let page = alice.get("/devices").await;
    assert_eq!(page.between("<span class=\"browser\">", "</span>"), ["Netscape &#60;script&#62;"], "escaped");
    assert!(page.contains("this device"));
    assert_eq!(alice.post("/devices/end", &[("device", "x")]).await.status, StatusCode::UNPROCESSABLE_ENTITY);

    let page = alice.post("/logout", &[]).await;
    assert!(page.has("logged-out"), "{page:?}");
    let page = alice.get("/").await;
    assert_eq!(
        (page.text("who").as_deref(), page.text("cart-count").as_deref()),
        (Some("nobody"), Some("0"))
    );
}

/// Products and how many of each.
fn cart(page: &Page) -> Vec<(&str, &str)> {
    let products = page.between(r#"<li data-product=""#, "\"");
    products.into_iter().zip(page.between(r#"<span class="count">"#, "<")).collect()
}

#[tokio::test]
async fn no_request_sticks_to_an_application() {
    let shop = Shop::open(&["--apps", "4"]);
    let bob = Browser::new(&shop);
    bob.log_in("bob").await;
    let mut served = BTreeSet::new();
    for count in 1..=8 {
        let page = bob.add("pen").await;
        assert_eq!(
            (page.text("cart-count"), page.text("who").as_deref()),
            (Some(count.to_string()), Some("bob"))
        );
        served.insert(page.text("served-by").unwrap());
    }
    assert_eq!(served.len(), 2, "a form and the page it leads to take turns: {served:?}");
    for _ in 0..4 {
        served.insert(bob.get("/").await.text("served-by").unwrap());
    }
    assert_eq!(served, ["1", "2", "3", "4"].map(str::to_owned).into());

    // One of them dies, and nobody notices.
    let victim = shop.children().into_iter().find(|child| child.name == "shop").unwrap();
    victim.kill();
    victim.wait_until_gone();
    let mut served = BTreeSet::new();
    for _ in 0..8 {
        let page = bob.get("/cart").await;
        assert_eq!((cart(&page), page.text("who").as_deref()), (vec![("pen", "8")], Some("bob")));
        served.insert(page.text("served-by").unwrap());
    }
    assert_eq!(served.len(), 3, "{served:?}");
}

#[tokio::test]
async fn things_put_into_the_cart_at_the_same_time_are_all_there() {
    let shop = Shop::open(&[]);
    let bob = Browser::new(&shop);
    bob.add("rug").await;
    let products = ["tea", "mug", "book", "lamp", "rug", "pen"];
    join_all((0..48).map(|at| bob.add(products[at % products.len()]))).await;
    let page = bob.get("/cart").await;
    let expected = [("tea", "8"), ("mug", "8"), ("book", "8"), ("lamp", "8"), ("rug", "9"), ("pen", "8")];
    assert_eq!(cart(&page), expected);
}

#[tokio::test]
async fn a_cart_has_an_end() {
    let shop = Shop::open(&["--memory"]);
    let bob = Browser::new(&shop);
    for _ in 0..200 {
        assert!(!bob.add("pen").await.has("full"));
    }
    let page = bob.post("/cart", &[("product", "tea")]).await;
    assert!(page.has("full"), "{page:?}");
    assert_eq!(cart(&page), [("pen", "200")]);
}

#[tokio::test]
async fn carts_stay_while_a_node_joins_and_another_leaves() {
    let shop = Shop::open(&["--visitors", "400", "--rate", "30"]);
    let operator = Operator::of(&shop);
    assert_eq!(operator.nodes().await, ["a up", "b up", "c up"]);
    assert_eq!(operator.page().await.text("total").as_deref(), Some("400"));
    assert!(!operator.is_resizing().await);

    let browsers: Vec<Browser> = (0..12).map(|_| Browser::new(&shop)).collect();
    for browser in &browsers {
        browser.log_in("alice").await;
        browser.add("book").await;
    }
    let mut count = 1;
    for button in ["/nodes", "/nodes/a/remove"] {
        let page = operator.press(button).await;
        assert!(page.text("notice").unwrap().ends_with("s"), "joins, or leaves: {page:?}");
        assert!(page.contains(r#"data-state="running""#), "{page:?}");
        // Another change is refused for as long, and says so.
        let refused = operator.press("/nodes").await;
        let during = refused.contains(r#"data-state="running""#);
        assert!(
            during && refused.text("notice").unwrap().contains("another resize is under way"),
            "{refused:?}"
        );
        let mut rounds = 0;
        loop {
            let resizing = operator.is_resizing().await;
            // A cart has an end, and how long a resize takes nobody knows.
            let adds = count < 150;
            count += usize::from(adds);
            let clicks = browsers.iter().map(async |browser| match adds {
                true => browser.add("tea").await,
                false => browser.get("/cart").await,
            });
            for page in join_all(clicks).await {
                assert_eq!(page.text("cart-count"), Some(count.to_string()));
                assert_eq!(page.text("who").as_deref(), Some("alice"));
            }
            if !resizing {
                break;
            }
            rounds += 1;
        }
        assert!(rounds > 0, "nobody shopped meanwhile");
    }
    assert_eq!(operator.nodes().await, ["b up", "c up", "d up"], "the refused one left nothing behind");
    assert_eq!(operator.page().await.text("total").as_deref(), Some("412"));
    for browser in &browsers {
        let page = browser.get("/cart").await;
        assert_eq!(cart(&page), [("tea", &*(count - 1).to_string()), ("book", "1")]);
        assert!(["b", "c", "d"].contains(&&*page.text("kept-on").unwrap()));
    }
    assert_eq!(browsers[0].get("/devices").await.between("<span class=\"browser\">", "<").len(), 12);
}

#[tokio::test]
async fn logged_out_everywhere_means_everywhere_at_the_next_click() {
    let shop = Shop::open(&[]);
    let [laptop, phone, tablet] = ["laptop", "phone", "tablet"].map(|name| Browser::named(&shop, name));
    let bob = Browser::new(&shop);
    for device in [&laptop, &phone, &tablet] {
        device.add("mug").await;
        device.log_in("alice").await;
    }
    bob.log_in("bob").await;

    // One of them.
    let devices = laptop.get("/devices").await;
    assert_eq!(devices.between("<span class=\"browser\">", "<"), ["tablet", "phone", "laptop"]);
    assert_eq!(devices.between("class=\"current\"", "</li>").len(), 1);
    let handles = devices.between("name=\"device\" value=\"", "\"");
    assert_eq!(handles.len(), 2, "this device has none");
    bob.post("/devices/end", &[("device", handles[0])]).await;
    assert_eq!(tablet.get("/").await.text("who").as_deref(), Some("alice"), "bob cannot end what is hers");
    laptop.post("/devices/end", &[("device", handles[0])]).await;
    let page = tablet.add_unless_logged_out().await;
    assert!(page.has("ended") && page.has("log-in"), "{page:?}");
    assert_eq!(page.text("cart-count").as_deref(), Some("0"), "nothing of hers is left in this browser");
    assert_eq!(phone.get("/").await.text("who").as_deref(), Some("alice"));

    // All of them.
    let page = laptop.post("/devices/end-all", &[]).await;
    assert!(page.has("logged-out") && !page.has("ended"), "{page:?}");
    let page = phone.get("/cart").await;
    assert!(page.has("ended"), "{page:?}");
    assert_eq!(page.text("who").as_deref(), Some("nobody"));
    assert_eq!(bob.get("/").await.text("who").as_deref(), Some("bob"));
    // It is told once; and who never was logged in is not told.
    assert!(!phone.get("/devices").await.has("ended"));
    assert!(!Browser::new(&shop).get("/devices").await.has("ended"));
    phone.log_in("alice").await;
    assert_eq!(phone.get("/devices").await.between("<span class=\"browser\">", "<"), ["phone"]);
}

impl Browser {
    async fn add_unless_logged_out(&self) -> Page {
        self.post("/cart", &[("product", "tea")]).await
    }
}

#[tokio::test]
async fn other_sites_cannot_send_our_forms() {
    let shop = Shop::open(&["--memory"]);
    let alice = Browser::new(&shop);
    alice.log_in("alice").await;
    let evil = [
        [("origin", "http://evil.example")],
        [("origin", "null")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ];
    for headers in &evil {
        for path in ["/cart", "/login", "/logout", "/devices/end", "/devices/end-all"] {
            let form = [("product", "rug"), ("name", "bob"), ("password", "secret")];
            let page = alice.send(Method::POST, path, &form, headers).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
        }
        let page = alice.send(Method::GET, "/", &[], headers).await;
        assert_eq!(page.text("who").as_deref(), Some("alice"), "a link is no form");
        for path in ["/nodes", "/nodes/a/remove", "/nodes/a/kill", "/nodes/a/start"] {
            assert_eq!(Operator::of(&shop).send(path, headers).await, StatusCode::FORBIDDEN, "{path}");
        }
    }
    let own = [("origin", &*shop.address), ("sec-fetch-site", "same-origin")];
    let page = alice.send(Method::POST, "/cart", &[("product", "pen")], &own).await;
    assert_eq!(page.text("cart-count").as_deref(), Some("1"));
    assert_eq!(Operator::of(&shop).nodes().await.len(), 3);
}

#[tokio::test]
async fn a_node_that_was_killed_logs_nobody_out() {
    let shop = Shop::open(&[]);
    let operator = Operator::of(&shop);
    // Of each node a browser whose session is there; the log-ins of alice are at one of them.
    let mut browsers: Vec<(String, Browser)> = Vec::new();
    let mut login_on = String::new();
    while browsers.len() < 3 {
        let browser = Browser::new(&shop);
        browser.log_in("alice").await;
        let page = browser.add("lamp").await;
        let node = page.text("kept-on").unwrap();
        login_on = page.text("login-on").unwrap();
        if browsers.iter().all(|(known, _)| *known != node) {
            browsers.push((node, browser));
        }
    }
    let guest = Browser::new(&shop);
    guest.add("pen").await;

    let (dead, victim) = browsers.iter().find(|(node, _)| *node != login_on).unwrap();
    operator.press(&format!("/nodes/{dead}/kill")).await;
    operator.wait_for(&format!("{dead} down")).await;
    assert!(operator.sessions().await.contains(&"?".to_owned()), "nobody knows");
    for method in [Method::GET, Method::POST] {
        let page = victim.send(method, "/cart", &[("product", "tea")], &[]).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.has("unavailable") && page.contains("You are <b>not</b> logged out"), "{page:?}");
        assert_eq!(page.headers.get(RETRY_AFTER).unwrap(), "2");
        assert!(page.headers.get(SET_COOKIE).is_none(), "the cookie is left alone");
        assert_eq!(page.text("who").as_deref(), Some("?"));
    }
    for (node, browser) in &browsers {
        let status = browser.get("/cart").await.status;
        assert_eq!(status == StatusCode::OK, node != dead, "{node}: {status}");
    }
    operator.press(&format!("/nodes/{dead}/start")).await;
    until("the node is in use again", async || all_applications_answer(victim).await).await;
    let page = victim.get("/cart").await;
    assert_eq!((cart(&page), page.text("who").as_deref()), (vec![("lamp", "1")], Some("alice")));

    // The node of the log-ins: who is logged in waits, too, and stays logged in.
    operator.press(&format!("/nodes/{login_on}/kill")).await;
    operator.wait_for(&format!("{login_on} down")).await;
    for (_, browser) in &browsers {
        let page = browser.get("/").await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.has("unavailable") && page.set_cookie().is_none());
    }
    operator.press(&format!("/nodes/{login_on}/start")).await;
    for (_, browser) in &browsers {
        until("the log-ins are there again", async || all_applications_answer(browser).await).await;
        assert_eq!(browser.get("/").await.text("who").as_deref(), Some("alice"));
    }
    until("the guest can go on", async || all_applications_answer(&guest).await).await;
    assert_eq!(guest.cart_count().await, "1");
}

/// Each of the three finds out by itself that a node is back.
async fn all_applications_answer(browser: &Browser) -> bool {
    let mut served = BTreeSet::new();
    for _ in 0..3 {
        let page = browser.get("/cart").await;
        if page.status != StatusCode::OK {
            return false;
        }
        served.insert(page.text("served-by"));
    }
    served.len() == 3
}

#[tokio::test]
async fn it_does_without_servers() {
    let shop = Shop::open(&["--memory", "--visitors", "50"]);
    let operator = Operator::of(&shop);
    let page = operator.page().await;
    assert_eq!(page.text("total").as_deref(), Some("50"));
    assert!(page.contains("http-equiv") && !operator.still_page().await.contains("http-equiv"));
    assert!(!page.contains("class=\"kill\"") && !page.contains("class=\"start\""));
    let alice = Browser::new(&shop);
    alice.add("book").await;
    alice.log_in("alice").await;
    operator.press("/nodes").await;
    operator.wait_until_at_rest().await;
    operator.press("/nodes/b/remove").await;
    operator.wait_until_at_rest().await;
    assert_eq!(operator.nodes().await, ["a up", "c up", "d up"]);
    let mut served = BTreeSet::new();
    for _ in 0..6 {
        let page = alice.get("/cart").await;
        assert_eq!((cart(&page), page.text("who").as_deref()), (vec![("book", "1")], Some("alice")));
        served.insert(page.text("served-by").unwrap());
    }
    assert_eq!(served.len(), 3);
    assert!(shop.children().is_empty(), "all of it is in one process");
    assert!(shop.interrupt().success());
}

#[tokio::test]
async fn behind_tls_the_cookie_is_for_https_alone() {
    let shop = Shop::open(&["--memory", "--secure"]);
    let page = Browser::new(&shop).get("/product/tea").await;
    let cookie = page.set_cookie().unwrap();
    for expected in ["__Host-shop=", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(expected), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
}

#[test]
fn nothing_is_left_however_it_ends() {
    for interrupted in [true, false] {
        let shop = Shop::open(&["--nodes", "2", "--apps", "2"]);
        let children = shop.children();
        let named = |name: &str| children.iter().filter(|child| child.name == name).count();
        // Applications, servers, and what watches over the servers.
        let servers = named("redis-server") + named("valkey-server");
        assert_eq!((named("shop"), servers, named("sh"), children.len()), (2, 2, 2, 6), "{children:?}");
        if interrupted {
            assert!(shop.interrupt().success());
        } else {
            shop.kill();
        }
        children.iter().for_each(process::Process::wait_until_gone);
    }
}
