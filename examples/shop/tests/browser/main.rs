//! The shop in a real browser, while nodes join, leave and die, and people log out elsewhere.
//!
//! `make browser` installs Chromium and its driver where there are none, and runs this. Each test has a shop, servers and
//! browsers of its own, which end with it.
//!
//! - `resize`, `log_out`, `dead_node`, `without_scripts`, `cookies`: what must hold
//! - `shop`, `operator`, `shopper`, `resting`: the shop, its operator's page, and who shops there
//! - `browsers`, `page`, `picture`, `programs`, `kept`: browsers and what they show

mod browsers;
mod cookies;
mod dead_node;
mod kept;
mod log_out;
mod operator;
mod page;
mod picture;
mod programs;
mod resize;
mod resting;
mod shop;
mod shopper;
mod without_scripts;

/// What a test comes to: any error ends it.
type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
