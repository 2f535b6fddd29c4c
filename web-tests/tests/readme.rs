//! The lines of the README that show axum: they compile here, stand there as they are, and do what they say.

mod support;

use support::Browser;

include!("readme/axum.rs");

const LINES: &str = include_str!("readme/axum.rs");

#[test]
fn the_readme_has_these_lines() {
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(&format!("```Rust\n{LINES}```\n")),
        "README.md has other lines than tests/readme/axum.rs"
    );
    assert!(LINES.lines().filter(|line| !line.is_empty()).count() <= 15);
}

#[tokio::test]
async fn they_count_visits() {
    let store = RingStore::new(&support::in_memory(2).await, "shop");
    let mut browser =
        Browser::new(&Router::new().route("/", get(visits)).layer(SessionManagerLayer::new(store)));
    for before in 0..3 {
        assert_eq!(browser.visit("/").await, format!("{before} visits before this one"));
    }
}
