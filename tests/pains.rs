//! What users of other session stores have asked for, or suffered from, for years: one test for each, named after it. The
//! table with the places where they asked is in docs/sessions.md.

mod support;

use std::{sync::Arc, time::Duration};

use sessionring::{Lifetime, OnCorrupt, SessionId, SessionRing};
use support::{login, logins};

on_both! {
    async fn concurrent_requests_overwrite_each_other(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(0)).await.unwrap();
        let (mut one, mut other) = (logins.load(&id).await.unwrap().unwrap(), logins.load(&id).await.unwrap().unwrap());
        one.cart.push("ink".into());
        other.cart.push("pen".into());
        logins.save(&mut one).await.unwrap();
        logins.save_or_merge(&mut other, |mine, theirs| theirs.cart.push(mine.cart.last().unwrap().clone())).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap().unwrap().cart, ["book", "tea", "ink", "pen"]);
    }

    async fn a_deleted_session_comes_back(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(0)).await.unwrap();
        let mut slow = logins.load(&id).await.unwrap().unwrap();
        logins.delete(&id).await.unwrap();
        assert!(sessionring::Error::from(logins.save(&mut slow).await.unwrap_err()).is_deleted());
        assert!(logins.set(&id, &login(1)).await.unwrap_err().is_deleted());
        assert_eq!(logins.get(&id).await.unwrap(), None);
    }

    async fn a_decode_failure_after_a_deploy_lasts_until_the_cookie_dies(ring: SessionRing) {
        let id = ring.sessions::<String>("login").create(&"of the type before".into()).await.unwrap();
        let logins = ring.sessions::<(u64, u64)>("login");
        assert!(logins.get(&id).await.unwrap_err().is_corrupt());
        assert_eq!(logins.clone().on_corrupt(OnCorrupt::Reset).get(&id).await.unwrap(), None, "log in again");
        logins.delete(&id).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), None);
    }

    async fn there_is_no_log_out_everywhere_and_no_list_of_my_sessions(ring: SessionRing) {
        let logins = logins(&ring);
        let phone = logins.create_for("ada", &login(1)).await.unwrap();
        let laptop = logins.create_for("ada", &login(2)).await.unwrap();
        assert_eq!(logins.sessions_of("ada").await.unwrap().len(), 2);
        logins.revoke_all_but("ada", &phone).await.unwrap();
        assert_eq!(logins.get(&laptop).await.unwrap(), None);
        logins.revoke_all("ada").await.unwrap();
        assert_eq!(logins.get(&phone).await.unwrap(), None);
    }

    async fn indexes_of_users_leak(ring: SessionRing) {
        let logins = logins(&ring);
        for n in 0..100 {
            let id = logins.create_for("ada", &login(n)).await.unwrap();
            logins.delete(&id).await.unwrap();
        }
        // Nobody hears of an expiry: the list finds out by itself.
        assert!(logins.sessions_of("ada").await.unwrap().is_empty());
        assert_eq!(logins.revoke_all("ada").await.unwrap(), 0);
    }

    async fn a_rotation_crosses_shards_or_loses_the_lifetime(ring: SessionRing) {
        let lifetime = Lifetime::new(Duration::from_secs(60), Duration::from_secs(600)).unwrap();
        let short = logins(&ring).lifetime(lifetime);
        for n in 0..50 {
            let old = short.create(&login(n)).await.unwrap();
            let new = logins(&ring).rotate(&old).await.unwrap();
            assert_eq!(ring.owner(&old), ring.owner(&new));
            let remaining = logins(&ring).remaining(&new).await.unwrap().unwrap();
            assert!(remaining <= lifetime.absolute() && remaining > lifetime.idle(), "{remaining:?}");
        }
    }

    async fn a_touch_rewrites_the_session_or_undoes_a_log_out(ring: SessionRing) {
        let logins = logins(&ring);
        let id = logins.create(&login(1)).await.unwrap();
        let version = logins.load(&id).await.unwrap().unwrap().version();
        logins.touch(&id).await.unwrap();
        logins.visit(&id).await.unwrap();
        assert_eq!(logins.load(&id).await.unwrap().unwrap().version(), version, "not written");
        logins.delete(&id).await.unwrap();
        assert!(logins.touch(&id).await.unwrap_err().is_deleted());
        assert_eq!(logins.get(&id).await.unwrap(), None);
    }

    async fn locks_hurt(ring: SessionRing) {
        let logins = Arc::new(logins(&ring));
        let id = logins.create(&login(0)).await.unwrap();
        // One that has loaded the session and never goes on holds up nobody.
        let _stuck = logins.load(&id).await.unwrap().unwrap();
        let tasks = (0..20).map(|_| {
            let (logins, id) = (logins.clone(), id.clone());
            tokio::spawn(async move { logins.update(&id, |l| l.user += 1).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        assert_eq!(logins.get(&id).await.unwrap().unwrap().user, 20);
    }

    async fn fixation_and_secrets_at_rest(ring: SessionRing) {
        let logins = logins(&ring);
        assert!(logins.set(&SessionId::generate().unwrap(), &login(1)).await.unwrap_err().is_not_found());
        let planted = logins.create(&login(1)).await.unwrap();
        logins.bind(&planted, "ada").await.unwrap();
        assert_eq!(logins.get(&planted).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_redis_that_is_down_reads_as_logged_out_or_hangs() {
    let servers = support::servers(1);
    let ring = support::on(&servers).connect().await.unwrap();
    let logins = logins(&ring);
    let id = logins.create_for("ada", &login(1)).await.unwrap();
    servers[0].kill().unwrap();
    assert!(logins.get(&id).await.unwrap_err().is_unavailable());
    assert!(logins.sessions_of("ada").await.unwrap_err().is_unavailable());
}
