//! The rule set of docs/operations.md is enough for everything, and nothing in it can be left out.

mod support;

use sessionring::{Error, Result};
use sessionring_testkit::RedisServer;
use support::{login, logins, nodes};

/// The line of the documentation that begins like this, without it.
fn documented(beginning: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(beginning));
    line.unwrap_or_else(|| panic!("{beginning} is not in {path}")).to_owned()
}

/// Connects, and does everything that the library can do.
async fn everything(server: &RedisServer) -> Result<()> {
    // A ring that is founded, and whose script is forgotten in between.
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    let ring = nodes([server.address_as("app", "password")]).connect().await?;
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await?;
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    sessions.set(&id, &login(2)).await?;
    sessions.set(&id, &login(3)).await?;
    sessions.get(&id).await?;
    sessions
        .update_many(&[id.clone(), id.clone()], |_, l| l.user += 1)
        .await
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    sessions.touch(&id).await?;
    sessions.remaining(&id).await?;
    sessions.delete(&id).await?;
    match server.command(&["GET", "sessionring:sessionring:seq"]).unwrap().text() {
        Some(_) => Ok(()),
        None => Err(sessions.set(&id, &login(1)).await.unwrap_err()),
    }
}

#[tokio::test]
async fn the_documented_rules_are_enough_and_none_can_be_left_out() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let rules = documented("ACL SETUSER app on >password ");
    let set = |rules: &[&str]| {
        let command = [&["ACL", "SETUSER", "app"], rules].concat();
        server.command(&command).unwrap();
    };
    set(&["reset", "on", ">password"]);
    set(&rules.split(' ').collect::<Vec<_>>());
    everything(&server).await.unwrap();
    let commands: Vec<&str> = rules.split(' ').filter_map(|rule| rule.strip_prefix('+')).collect();
    assert!(commands.len() > 10, "{rules}");
    for command in commands {
        set(&[&format!("-{command}")]);
        let result = everything(&server).await;
        set(&[&format!("+{command}")]);
        assert!(result.is_err(), "+{command} is not needed");
        let error: Error = result.unwrap_err();
        assert!(error.is_configuration() || error.is_deleted(), "without {command}: {error:?}");
    }
    everything(&server).await.unwrap();
}
