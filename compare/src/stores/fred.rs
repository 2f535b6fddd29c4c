//! fred, one client per node, modulo placement: as close to the floor as it gets. (On a cluster it would pay for slots
//! too, which says nothing about the client.)

use std::{ops::Range, sync::Arc};

use fred::{
    clients::Client,
    interfaces::{ClientLike, KeysInterface},
    types::{Builder, ClusterHash, CustomCommand, Expiration, Value, config::Config},
};

use super::{LIFETIME_MS, Store, by_node, change, place};
use crate::{Result, data::Data};

#[derive(Clone)]
pub(super) struct Fred {
    clients: Arc<[Client]>,
    data: Arc<Data>,
}

pub(super) async fn connect(addresses: &[String], data: Arc<Data>) -> Result<Fred> {
    let mut clients = Vec::new();
    for address in addresses {
        let client = Builder::from_config(Config::from_url(address)?).build()?;
        client.init().await?;
        clients.push(client);
    }
    Ok(Fred { clients: clients.into(), data })
}

impl Fred {
    fn client(&self, key: &str) -> &Client {
        &self.clients[place(key, self.clients.len())]
    }

    async fn write(&self, key: &str, value: &str) -> Result<()> {
        let expiry = Some(Expiration::PX(LIFETIME_MS as i64));
        Ok(self.client(key).set(key, value, expiry, None, false).await?)
    }
}

impl Store for Fred {
    fn data(&self) -> &Data {
        &self.data
    }

    async fn get(&self, i: usize) -> Result<Option<String>> {
        let key = self.data.keys[i].as_str();
        Ok(self.client(key).get(key).await?)
    }

    async fn set(&self, i: usize) -> Result<()> {
        self.write(&self.data.keys[i], &self.data.values[i]).await
    }

    /// It has no call for GETEX.
    async fn visit(&self, i: usize) -> Result<Option<String>> {
        let key = self.data.keys[i].as_str();
        let getex = CustomCommand::new_static("GETEX", ClusterHash::FirstKey, false);
        let arguments: Vec<Value> = vec![key.into(), "PX".into(), (LIFETIME_MS as i64).into()];
        Ok(self.client(key).custom(getex, arguments).await?)
    }

    async fn update(&self, i: usize) -> Result<()> {
        let mut value = self.get(i).await?.ok_or("a session is lost")?;
        change(&mut value);
        self.write(&self.data.keys[i], &value).await
    }

    async fn get_many(&self, range: Range<usize>) -> Result<Vec<Option<String>>> {
        by_node(&self.data, range, self.clients.len(), |node, part| {
            let keys: Vec<&str> = part.iter().map(|&i| self.data.keys[i].as_str()).collect();
            async move { Ok(self.clients[node].mget(keys).await?) }
        })
        .await
    }

    async fn close(&self) {
        for client in self.clients.iter() {
            // It is only the end of a connection.
            let _ = client.quit().await;
        }
    }
}
