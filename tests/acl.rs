//! The rule sets of docs/operations.md are enough for everything, and nothing in them can be left out.

mod support;

use sessionring::{Credentials, Error, Resize, SessionRing};
use sessionring_testkit::{Client, RedisServer, Reply};
use support::{Login, login, logins, nodes};

/// The line of the documentation that begins like this, without it.
fn documented(beginning: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(beginning));
    line.unwrap_or_else(|| panic!("{beginning} is not in {path}")).to_owned()
}

/// What is noticed now and then only: that an idle server has become a replica. `tests/failure.rs` holds the library to it.
const NOW_AND_THEN: &str = "role";

/// So slowly that an application is faster.
const SLOWLY: u32 = 1;

/// What fails, and if it has no error of its own, `None`.
type Done = Result<(), Option<Error>>;

async fn ring(server: &RedisServer, user: &str, name: &str) -> Result<SessionRing, Error> {
    let credentials = Credentials::new(user, "password");
    nodes([server.address()]).credentials(credentials).name(name).connect().await
}

/// Connects, founds the ring, and does everything that an application can do, also while others change the ring.
async fn as_application(server: &RedisServer, name: &str) -> Done {
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    let application = ring(server, "app", name).await?;
    let sessions = logins(&application);
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

    // Batches of writes are counted, where that is allowed.
    if server.command(&["GET".to_owned(), format!("sessionring:{name}:seq")]).unwrap().text().is_none() {
        return Err(None);
    }

    // What is long is stored in two steps, where that is allowed, and is whole in any case.
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    let long = Login { user: 5, cart: vec!["a book".into(); 400] };
    sessions.set(&id, &long).await?;
    assert_eq!(sessions.get(&id).await?, Some(long));
    let commands = server.command(&["INFO", "commandstats"]).unwrap();
    if !commands.text().is_some_and(|text| text.contains("cmdstat_setrange:calls=1,")) {
        return Err(None);
    }

    // Carries sessions along, from the server to another node and back.
    let ids = sessions.create_many(&vec![login(6); 20]).await;
    let ids = ids.into_iter().collect::<Result<Vec<_>, Error>>()?;
    let change = nodes([server.address()]).name(name).connect().await?;
    let other = format!("memory:{name}-{}", server.port());
    for step in 0..2 {
        let plan = change.plan();
        let plan = if step == 0 { plan.add("b", other.as_str())? } else { plan.remove("b")? };
        let resize = plan.rate(SLOWLY).start().await?;
        for id in &ids {
            sessions.set(id, &login(7)).await?;
            sessions.touch(id).await?;
        }
        let resumed = change.resume_resize().await?;
        drop(resize);
        if let Some(resumed) = resumed {
            finish(resumed).await?;
        }
    }
    assert_eq!(sessions.get(&ids[0]).await?, Some(login(7)));

    sessions.delete(&id).await?;

    // A node that lost its memory is taken up again.
    finish(change.add_node("b", "memory:").await?).await?;
    server.command(&["FLUSHALL"]).unwrap();
    for result in sessions.create_many(&vec![login(8); 20]).await {
        result?;
    }
    change.close().await;
    application.close().await;
    Ok(())
}

/// Changes the ring.
async fn as_operator(server: &RedisServer, name: &str) -> Done {
    server.command(&["FLUSHALL"]).unwrap();
    let operator = ring(server, "operator", name).await?;
    let id = logins(&operator).create(&login(1)).await?;
    let plan = operator.plan().add("b", "memory:")?;
    if !plan.sample().await?.unavailable.is_empty() {
        return Err(None);
    }
    finish(plan.start().await?).await?;
    finish(operator.remove_node("b").await?).await?;
    assert_eq!(logins(&operator).get(&id).await?, Some(login(1)));
    operator.close().await;
    Ok(())
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

fn set(server: &RedisServer, user: &str, rules: &[&str]) {
    let command = [&["ACL", "SETUSER", user], rules].concat();
    server.command(&command).unwrap();
}

/// A server with this user, as the documentation says; and the commands that he is allowed.
fn server_with(user: &str) -> (RedisServer, Vec<String>) {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let rules = documented(&format!("ACL SETUSER {user} on >password "));
    set(&server, user, &["reset", "on", ">password"]);
    set(&server, user, &rules.split(' ').collect::<Vec<_>>());
    let commands = rules.split(' ').filter_map(|rule| rule.strip_prefix('+'));
    (server, commands.map(str::to_owned).collect())
}

/// It works with all of these commands, and without any one of them it does not.
async fn each_is_needed(
    server: &RedisServer,
    user: &str,
    commands: &[String],
    work: impl AsyncFn(&RedisServer, &str) -> Done,
) {
    work(server, "all").await.unwrap();
    for (i, command) in commands.iter().enumerate() {
        set(server, user, &[&format!("-{command}")]);
        // A resize that gets stuck goes on in vain: nobody else uses a ring of this name.
        let result = work(server, &format!("without-{i}")).await;
        set(server, user, &[&format!("+{command}")]);
        match result {
            Ok(()) => panic!("+{command} is not needed"),
            Err(Some(error)) => {
                assert!(error.is_configuration() || error.is_deleted(), "without {command}: {error:?}");
            }
            Err(None) => {}
        }
    }
    work(server, "all-again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_can_do_everything_and_no_rule_can_be_left_out() {
    let (server, mut commands) = server_with("app");
    assert!(commands.len() > 10 && commands.iter().any(|command| command == NOW_AND_THEN), "{commands:?}");
    commands.retain(|command| command != NOW_AND_THEN);
    each_is_needed(&server, "app", &commands, as_application).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_needs_a_little_more() {
    let (server, commands) = server_with("operator");
    let (_, application) = server_with("app");
    let (shared, more): (Vec<String>, Vec<String>) =
        commands.into_iter().partition(|command| application.contains(command));
    assert_eq!(shared, application);
    assert!(!more.is_empty());
    each_is_needed(&server, "operator", &more, as_operator).await;
}

/// What the application's user is not given is what would list the sessions.
#[tokio::test]
async fn an_application_cannot_list_sessions() {
    let (server, _) = server_with("app");
    let mut client = Client::connect(server.socket_address()).unwrap();
    client.auth("app", "password").unwrap();
    for command in [
        &["SCAN", "0"][..],
        &["KEYS", "*"],
        &["RANDOMKEY"],
        &["EVAL", "return redis.call('SCAN', '0')", "0"],
        &["MONITOR"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["ACL", "LIST"],
    ] {
        let reply = client.command(command).unwrap();
        assert!(matches!(&reply, Reply::Error(_)), "{command:?}: {reply:?}");
    }
}

/// A word of the rules is taken from a user who is at work. What he may not do any more was not done, and is not *unknown*, also
/// where only a script finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forbidden_while_one_works_is_an_error_of_the_setup() {
    let (server, _) = server_with("app");
    let ring = ring(&server, "app", "at-work").await.unwrap();
    let sessions = logins(&ring);
    let mut forbidden = 0;
    for command in ["get", "time", "getrange", "set", "pexpireat", "incr", "mget", "evalsha"] {
        let (id, ended) =
            (sessions.create(&login(1)).await.unwrap(), sessions.create(&login(2)).await.unwrap());
        set(&server, "app", &[&format!("-{command}")]);
        // The operations that look closer first, since a connection on which too little is allowed is not used again.
        let results = [
            sessions.set(&id, &login(3)).await,
            sessions.touch(&id).await,
            sessions.create(&login(4)).await.map(drop),
            sessions.get(&id).await.map(drop),
            sessions.delete(&ended).await,
        ];
        set(&server, "app", &[&format!("+{command}")]);
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(error.is_configuration(), "without {command}: {error:?}");
            assert!(error.to_string().contains("docs/operations.md"), "without {command}: {error}");
        }
        forbidden += results.iter().filter(|result| result.is_err()).count();
        ring.reconnect().await.unwrap();
        assert_eq!(
            sessions.get(&id).await.unwrap(),
            Some(login(if results[0].is_ok() { 3 } else { 1 })),
            "without {command}"
        );
        sessions.delete(&ended).await.unwrap();
        assert_eq!(sessions.get(&ended).await.unwrap(), None);
    }
    assert!(forbidden > 10, "{forbidden}");
}
