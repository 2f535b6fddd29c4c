//! A shop in several processes, its sessions on nodes that come, go and die while people shop.
//!
//! ```sh
//! cargo run --release -p shop              # or `make shop`; Ctrl-C ends everything
//! cargo run --release -p shop -- --help
//! ```
//!
//! What a web application needs to know of sessionring stands in four files; read these first:
//! - `app`: the ring, the store, the session layer of tower-sessions, the routes
//! - `session`: what a session holds, and who is asking
//! - `logins`: who is logged in where, and log-outs everywhere
//! - `trouble`: what a visitor sees when something is wrong
//!
//! The pages are in `pages`, each beside its template in `templates/`. `catalogue` and `users` are what another shop has
//! in a database; `same_origin` refuses forms of other sites.
//!
//! Around it, so that one command shows all of it:
//! - `supervisor`: starts everything, and ends it
//! - `nodes`: the servers
//! - `applications`: the shop's processes
//! - `front`: the round-robin before them
//! - `operator`: the page on which nodes are added, removed, killed and started again
//! - `visitors`: invented ones, so that there is something to see

mod app;
mod applications;
mod catalogue;
mod front;
mod logins;
mod nodes;
mod operator;
mod pages;
mod same_origin;
mod session;
mod supervisor;
mod trouble;
mod users;
mod visitors;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What goes wrong at the start ends the command: any error will do.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A shop in several processes, its sessions on nodes that come and go.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    shop: supervisor::Options,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// One process of the shop. It is started by the shop, and ends with it.
    #[command(hide = true)]
    Application(app::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.part {
        Some(Part::Application(options)) => applications::be_one(options).await,
        None => supervisor::run(arguments.shop).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}
