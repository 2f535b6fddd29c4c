//! How deep the types of our futures are nested. The compiler follows 128 levels, unless a crate asks for more
//! (`recursion_limit`), and the layers of an application and its framework come on top of ours: so they have to get along
//! with far fewer. That this compiles is the test.
#![recursion_limit = "100"]

use sessionring::{SessionRing, Sessions};

async fn everything(ring: &SessionRing, sessions: &Sessions<u64>) -> Result<(), Box<dyn std::error::Error>> {
    let id = sessions.create(&7).await?;
    sessions.set(&id, &8).await?;
    sessions.update(&id, |value| *value += 1).await?;
    sessions.visit(&id).await?;
    sessions.touch(&id).await?;
    let mut session = sessions.load(&id).await?.ok_or("a session")?;
    sessions.save(&mut session).await?;
    sessions.save_or_merge(&mut session, |_, _| {}).await?;
    let ids = [id];
    for result in sessions.get_many(&ids).await {
        assert_eq!(result?, Some(9));
    }
    sessions.update_many(&ids, |_, value| *value += 1).await;
    let [id] = ids;
    let id = sessions.rotate(&id).await?;
    let id = sessions.bind(&id, "user 7").await?;
    assert_eq!(sessions.sessions_of("user 7").await?.len(), 1);
    assert_eq!(sessions.count().await.total(), 1);
    assert_eq!(sessions.revoke_all("user 7").await?, 1);
    assert!(sessions.get(&id).await?.is_none());
    sessions.delete(&id).await?;
    ring.add_node("b", "memory:").await?.wait().await?;
    ring.close().await;
    Ok(())
}

#[tokio::test]
async fn futures_are_not_nested_deeply() {
    let ring = SessionRing::builder().node("a", "memory:").connect().await.unwrap();
    let sessions = ring.sessions::<u64>("depth");
    tokio::spawn(async move { everything(&ring, &sessions).await.map_err(|error| error.to_string()) })
        .await
        .unwrap()
        .unwrap();
}
