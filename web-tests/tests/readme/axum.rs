use axum::{Router, http::StatusCode, routing::get};
use sessionring::{SessionRing, web::tower_sessions::RingStore};
use tower_sessions::{Session, SessionManagerLayer};

async fn visits(session: Session) -> Result<String, StatusCode> {
    let before: u64 = session.get("visits").await.or(Err(StatusCode::SERVICE_UNAVAILABLE))?.unwrap_or(0);
    session.insert("visits", before + 1).await.or(Err(StatusCode::SERVICE_UNAVAILABLE))?;
    Ok(format!("{before} visits before this one"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ring = SessionRing::builder().node("a", "memory:").node("b", "memory:").connect().await?;
    let app = Router::new().route("/", get(visits)).layer(SessionManagerLayer::new(RingStore::new(&ring, "shop")));
    Ok(axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?)
}
