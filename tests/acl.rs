//! The rule set of docs/operations.md is enough for everything, and nothing in it can be left out.

mod support;

use sessionring::{Error, Resize, SessionRing};
use sessionring_testkit::RedisServer;
use support::{login, logins, nodes};

/// The line of the documentation that begins like this, without it.
fn documented(beginning: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(beginning));
    line.unwrap_or_else(|| panic!("{beginning} is not in {path}")).to_owned()
}

/// What is noticed now and then only: that an idle server has become a replica. `tests/failure.rs` holds the library to it.
const NOW_AND_THEN: &str = "role";

/// Connects, and does everything that the library can do. What fails without an error of its own answers `None`.
async fn everything(server: &RedisServer, name: &str) -> Result<(), Option<Error>> {
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    let ring = nodes([server.address_as("app", "password")]).name(name).connect().await?;
    let done = use_and_change(server, &ring).await;
    ring.close().await;
    done
}

async fn use_and_change(server: &RedisServer, ring: &SessionRing) -> Result<(), Option<Error>> {
    let sessions = logins(ring);
    let id = sessions.create(&login(1)).await?;
    // The scripts are forgotten in between.
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    sessions.set(&id, &login(2)).await?;
    sessions.set(&id, &login(3)).await?;
    sessions.get(&id).await?;
    let updated = sessions.update_many(&[id.clone(), id.clone()], |_, l| l.user += 1).await;
    updated.into_iter().collect::<Result<Vec<_>, Error>>()?;
    sessions.touch(&id).await?;
    sessions.remaining(&id).await?;

    let plan = ring.plan().add("b", "memory:")?;
    if !plan.sample().await?.unavailable.is_empty() {
        return Err(None);
    }
    // From the server to another node, and back.
    finish(plan.start().await?).await?;
    finish(ring.remove_node("b").await?).await?;
    assert_eq!(sessions.get(&id).await?, Some(login(5)));

    sessions.delete(&id).await?;
    match server.command(&["GET".to_owned(), format!("sessionring:{}:seq", ring.name())]).unwrap().text() {
        Some(_) => Ok(()),
        None => Err(Some(sessions.set(&id, &login(1)).await.unwrap_err())),
    }
}

/// Whatever a resize is stuck at will not mend itself here.
async fn finish(mut resize: Resize) -> Result<(), Error> {
    while let Some(progress) = resize.progress().await {
        if let Some(stuck) = progress.stuck.into_iter().next() {
            return Err(stuck.error);
        }
    }
    resize.wait().await
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
    everything(&server, "all").await.unwrap();
    let commands: Vec<&str> = rules.split(' ').filter_map(|rule| rule.strip_prefix('+')).collect();
    assert!(commands.len() > 10 && commands.contains(&NOW_AND_THEN), "{rules}");
    for (i, command) in commands.into_iter().enumerate() {
        if command == NOW_AND_THEN {
            continue;
        }
        set(&[&format!("-{command}")]);
        // A resize that gets stuck goes on in vain: nobody else uses a ring of this name.
        let result = everything(&server, &format!("without-{i}")).await;
        set(&[&format!("+{command}")]);
        match result {
            Ok(()) => panic!("+{command} is not needed"),
            Err(Some(error)) => {
                assert!(error.is_configuration() || error.is_deleted(), "without {command}: {error:?}");
            }
            Err(None) => {}
        }
    }
    everything(&server, "all-again").await.unwrap();
}
