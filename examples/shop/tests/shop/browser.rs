//! A browser without a window: cookies, redirects, forms.

use reqwest::{
    Client, Method, StatusCode,
    header::{HeaderMap, SET_COOKIE},
};

use crate::process::{Shop, until};

/// A profile: what is done with a clone is done in another tab.
#[derive(Clone)]
pub struct Browser {
    client: Client,
    address: String,
}

#[derive(Debug)]
pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where the redirects led.
    pub path: String,
    body: String,
}

impl Browser {
    /// With the name that it tells everybody.
    pub fn named(shop: &Shop, name: &str) -> Browser {
        Browser::at(&shop.address, name)
    }

    pub fn new(shop: &Shop) -> Browser {
        Browser::named(shop, "test")
    }

    fn at(address: &str, name: &str) -> Browser {
        let client = Client::builder().cookie_store(true).user_agent(name).build().unwrap();
        Browser { client, address: address.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Page {
        self.send(Method::GET, path, &[], &[]).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Page {
        self.send(Method::POST, path, form, &[]).await
    }

    /// With these headers besides.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.address));
        if method == Method::POST {
            request = request.form(form);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let url = answer.url().clone();
        let path = url.as_str().strip_prefix(&self.address).expect("it leads elsewhere").to_owned();
        Page { status, headers, path, body: answer.text().await.unwrap() }
    }

    pub async fn add(&self, product: &str) -> Page {
        let page = self.post("/cart", &[("product", product)]).await;
        assert_eq!((page.status, page.path.as_str()), (StatusCode::OK, "/cart"), "{page:?}");
        page
    }

    pub async fn log_in(&self, name: &str) -> Page {
        let page = self.post("/login", &[("name", name), ("password", "secret")]).await;
        assert_eq!((page.status, page.text("who").as_deref()), (StatusCode::OK, Some(name)), "{page:?}");
        page
    }

    pub async fn cart_count(&self) -> String {
        self.get("/cart").await.text("cart-count").unwrap()
    }
}

impl Page {
    /// What the element of this id says.
    pub fn text(&self, id: &str) -> Option<String> {
        let (_, rest) = self.body.split_once(&format!(r#"id="{id}""#))?;
        let (text, _) = rest.split_once('>')?.1.split_once('<')?;
        Some(text.to_owned())
    }

    pub fn has(&self, id: &str) -> bool {
        self.text(id).is_some()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    /// What is between each pair of these.
    pub fn between<'a>(&'a self, before: &'a str, after: &'a str) -> Vec<&'a str> {
        self.body.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
    }

    pub fn set_cookie(&self) -> Option<&str> {
        self.headers.get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap())
    }
}

/// Who looks at the nodes.
pub struct Operator(Browser);

impl Operator {
    pub fn of(shop: &Shop) -> Operator {
        Operator(Browser::at(&shop.operator, "operator"))
    }

    pub async fn page(&self) -> Page {
        self.0.get("/").await
    }

    /// The page that does not renew itself.
    pub async fn still_page(&self) -> Page {
        self.0.get("/?still").await
    }

    /// Presses a button.
    pub async fn press(&self, path: &str) -> Page {
        let page = self.0.post(path, &[]).await;
        assert_eq!((page.status, page.path.as_str()), (StatusCode::OK, "/"), "{page:?}");
        page
    }

    pub async fn send(&self, path: &str, headers: &[(&str, &str)]) -> StatusCode {
        self.0.send(Method::POST, path, &[], headers).await.status
    }

    /// Names and states.
    pub async fn nodes(&self) -> Vec<String> {
        let page = self.page().await;
        let rows = page.between("<tr data-node=\"", ">").into_iter();
        rows.map(|row| row.replace("\" data-state=\"", " ").replace('"', "")).collect()
    }

    /// Sessions of one node, as the page says.
    pub async fn sessions(&self) -> Vec<String> {
        let page = self.page().await;
        page.between("<td class=\"sessions\">", "<").into_iter().map(str::to_owned).collect()
    }

    pub async fn is_resizing(&self) -> bool {
        self.page().await.contains(r#"id="resize" data-state="running""#)
    }

    pub async fn wait_until_at_rest(&self) {
        until("the end of the resize", async || !self.is_resizing().await).await;
    }

    pub async fn wait_for(&self, node: &str) {
        until(node, async || self.nodes().await.iter().any(|there| there == node)).await;
    }
}
