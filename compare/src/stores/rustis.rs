//! rustis, one multiplexed client per node, modulo placement.

use std::{ops::Range, sync::Arc};

use rustis::{
    client::Client,
    commands::{GetExOptions, SetExpiration, StringCommands},
};

use super::{LIFETIME_MS, Store, by_node, change, place};
use crate::{Result, data::Data};

#[derive(Clone)]
pub(super) struct Rustis {
    clients: Arc<[Client]>,
    data: Arc<Data>,
}

pub(super) async fn connect(addresses: &[String], data: Arc<Data>) -> Result<Rustis> {
    let mut clients = Vec::new();
    for address in addresses {
        clients.push(Client::connect(address.as_str()).await?);
    }
    Ok(Rustis { clients: clients.into(), data })
}

impl Rustis {
    fn client(&self, key: &str) -> &Client {
        &self.clients[place(key, self.clients.len())]
    }

    async fn write(&self, key: &str, value: &str) -> Result<()> {
        self.client(key).set_with_options(key, value, None, SetExpiration::Px(LIFETIME_MS)).await?;
        Ok(())
    }
}

impl Store for Rustis {
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

    async fn visit(&self, i: usize) -> Result<Option<String>> {
        let key = self.data.keys[i].as_str();
        Ok(self.client(key).getex(key, GetExOptions::Px(LIFETIME_MS)).await?)
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
}
