//! Without the feature `tls`, an address that needs it says so.

use sessionring::SessionRing;

#[tokio::test]
async fn an_address_with_tls_names_the_feature() {
    let error = SessionRing::builder().node("a", "rediss://10.0.0.1").connect().await.unwrap_err();
    assert!(error.is_configuration(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "node a: the address asks for TLS, which this application was built without: switch on the feature `tls` of \
         sessionring in its Cargo.toml; nothing was sent"
    );
    let ring = SessionRing::builder().node("a", "memory:").connect().await.unwrap();
    let error = ring.add_node("b", "rediss://10.0.0.1").await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("feature `tls`"), "{error}");
}
