//! What both versions of the program have in common: they read commands from standard input, one a line, and answer each
//! with a line.
//!
//! - `login USER`: the id of a new session
//! - `visit ID TIMES`: counts so many visits, one update each; answers the session as this version knows it
//! - `loaded-visit ID`: the same once, by load and save

use std::{env, fmt::Debug, future::Future, io::stdin};

use sessionring::{
    Error, SaveError, SessionData, SessionId, SessionRing, Sessions,
    record::{Json, MessagePack},
};

/// A session that both versions can make and count visits in.
pub trait Visited: SessionData + Debug {
    /// The session of a user who has just logged in.
    fn new(user: u64) -> Self;

    /// Counts a visit.
    fn visit(&mut self);
}

/// Runs one version of the program: `PROGRAM CODEC ADDRESS…`.
pub async fn run<T: Visited>() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let codec = arguments.next().ok_or("which codec?")?;
    let nodes = arguments.enumerate();
    let ring = nodes
        .fold(SessionRing::builder(), |ring, (i, address)| ring.node(format!("node-{i}"), address))
        .connect()
        .await?;
    let sessions = ring.versioned_sessions::<T>("login");
    let sessions = match &*codec {
        "message-pack" => sessions.codec(MessagePack),
        "json" => sessions.codec(Json),
        _ => sessions,
    };
    for line in stdin().lines() {
        println!("{}", answer(&sessions, &line?).await?);
    }
    Ok(())
}

async fn answer<T: Visited>(
    sessions: &Sessions<T>,
    line: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    let words: Vec<&str> = line.split(' ').collect();
    Ok(match words[..] {
        ["login", user] => sessions.create(&T::new(user.parse()?)).await?.expose(),
        ["visit", id, times] => {
            let (id, times) = (SessionId::parse(id)?, times.parse::<u32>()?);
            shown(async {
                for _ in 0..times {
                    sessions.update(&id, T::visit).await?;
                }
                sessions.get(&id).await
            })
            .await
        }
        ["loaded-visit", id] => {
            let id = SessionId::parse(id)?;
            shown(async {
                let Some(mut session) = sessions.load(&id).await? else { return Ok(None) };
                session.visit();
                while let Err(error) = sessions.save(&mut session).await {
                    match error {
                        SaveError::Conflict(there) => session = *there,
                        SaveError::Failed(error) => return Err(error),
                    }
                    session.visit();
                }
                Ok(Some(session.into_value()))
            })
            .await
        }
        _ => format!("what is {line:?}?"),
    })
}

async fn shown<T: Debug>(read: impl Future<Output = Result<Option<T>, Error>>) -> String {
    match read.await {
        Ok(Some(session)) => format!("{session:?}"),
        Ok(None) => "logged out".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}
