//! What a visitor sees when something is wrong. Above all: a node that does not answer logs nobody out.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use sessionring::{ErrorKind, web::tower_sessions::error_kind};
use tower_sessions::session;

use crate::{app::App, logins::Ended, pages};

/// After so many seconds a browser may try again; the ring looks after a node that is down every two.
const RETRY_AFTER: &str = "2";

/// Why there is no page.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// This is for those who have logged in.
    LogInFirst,
    /// Somebody was logged in, and no longer is.
    LogInEnded(Ended),
    NotFound,
    /// What the form holds is nothing that ours sends.
    BadForm,
    /// The node does not answer, whose session this is. The session is there, and the cookie is good.
    Unavailable(String),
    /// The click was understood, and what it changed could not be stored.
    NotSaved,
    /// A mistake of ours.
    Broken(String),
}

impl From<sessionring::Error> for Trouble {
    fn from(error: sessionring::Error) -> Trouble {
        Trouble::of(Some(error.kind()), error.to_string())
    }
}

/// The framework's errors are texts; the store's function knows what was behind them.
impl From<session::Error> for Trouble {
    fn from(error: session::Error) -> Trouble {
        Trouble::of(error_kind(&error), error.to_string())
    }
}

impl Trouble {
    fn of(kind: Option<ErrorKind>, text: String) -> Trouble {
        match kind {
            Some(ErrorKind::Unavailable | ErrorKind::Overloaded) => Trouble::Unavailable(text),
            // It may have happened or not, or somebody logged out meanwhile: the next click tells.
            Some(
                ErrorKind::Indeterminate
                | ErrorKind::Full
                | ErrorKind::Conflict
                | ErrorKind::Deleted
                | ErrorKind::TooLarge,
            ) => Trouble::NotSaved,
            _ => Trouble::Broken(text),
        }
    }
}

/// A status of its own kind, and the trouble itself for [`explain`], which makes a page of it. That status keeps the session
/// layer from saving, and from touching the cookie.
impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = match self {
            Trouble::LogInFirst => Redirect::to("/login").into_response(),
            Trouble::LogInEnded(Ended::ByHand) => Redirect::to("/login?notice=ended").into_response(),
            Trouble::LogInEnded(Ended::ByTime) => Redirect::to("/login?notice=expired").into_response(),
            Trouble::NotFound => StatusCode::NOT_FOUND.into_response(),
            Trouble::BadForm => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
            Trouble::Unavailable(_) | Trouble::NotSaved => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Trouble::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes pages of troubles. Outside of the session layer, whose own answer is an empty 500 when it could not save.
pub(crate) async fn explain(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let is_empty_500 = response.status() == StatusCode::INTERNAL_SERVER_ERROR
        && !response.headers().contains_key(header::CONTENT_TYPE);
    let trouble = match response.extensions_mut().remove::<Trouble>() {
        Some(trouble) => trouble,
        None if is_empty_500 => Trouble::NotSaved,
        None => return response,
    };
    let status = match &trouble {
        Trouble::NotSaved => StatusCode::SERVICE_UNAVAILABLE,
        _ => response.status(),
    };
    if status.is_redirection() {
        return response;
    }
    if let Trouble::Unavailable(why) | Trouble::Broken(why) = &trouble {
        eprintln!("application {}: {why}", app.number);
    }
    let page = pages::sorry::show(&app, &trouble).unwrap_or_default();
    // With what the session layer has put there: a cookie that it removes stays removed.
    let headers = std::mem::take(response.headers_mut());
    let mut response = (status, page).into_response();
    for (name, value) in headers.iter().filter(|(name, _)| *name == header::SET_COOKIE) {
        response.headers_mut().append(name, value.clone());
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{Router, routing::get};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        app::{NamedNode, connect, with_sessions},
        session::Visit,
    };

    /// The session is loaded, and cannot be saved: the empty 500 of the session layer becomes a page, and no cookie is set.
    #[tokio::test]
    async fn what_could_not_be_saved_is_told() {
        async fn page(visit: Visit) -> Result<&'static str, Trouble> {
            visit.add_to_cart("tea").await?;
            visit.app.ring.close().await;
            Ok("it is in the cart")
        }
        let app = App::new(7, connect(&[NamedNode::new("a", "memory:")]).await.unwrap()).unwrap();
        let router = with_sessions(Router::new().route("/", get(page)), app, false);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let answer = reqwest::get(format!("http://{address}/")).await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "2");
        assert!(answer.headers().get("set-cookie").is_none());
        let page = answer.text().await.unwrap();
        assert!(page.contains(r#"id="unavailable""#) && page.contains("could not save"), "{page}");
        assert!(page.contains(r#"<b id="served-by">7</b>"#), "{page}");
    }
}
