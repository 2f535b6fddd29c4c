//! The store, once for each version of the trait: they differ in their types and in nothing else.

macro_rules! session_store {
    ($feature:literal, $core:ident, $name:ident) => {
        #[cfg(feature = $feature)]
        mod $name {
            use async_trait::async_trait;
            use time::OffsetDateTime;
            use $core::{
                SessionStore,
                session::{Id, Record},
                session_store::{Error, Result},
            };

            use super::super::{
                RingStore,
                failure::{Category, Failure},
            };

            #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
            #[async_trait]
            impl SessionStore for RingStore {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    let expires = microseconds(record.expiry_date);
                    record.id = Id(RingStore::create(self, &mut record.data, expires).await.map_err(told)?);
                    Ok(())
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    let expires = microseconds(record.expiry_date);
                    RingStore::save(self, record.id.0, &record.data, expires).await.map_err(told)
                }

                async fn load(&self, id: &Id) -> Result<Option<Record>> {
                    let loaded = RingStore::load(self, id.0).await.map_err(told)?;
                    Ok(loaded.map(|(id, data, expires)| Record {
                        id: Id(id),
                        data,
                        expiry_date: date(expires),
                    }))
                }

                async fn delete(&self, id: &Id) -> Result<()> {
                    RingStore::delete(self, id.0).await.map_err(told)
                }
            }

            fn told(failure: Failure) -> Error {
                let text = failure.text();
                match failure.category() {
                    Category::Encode => Error::Encode(text),
                    Category::Decode => Error::Decode(text),
                    Category::Backend => Error::Backend(text),
                }
            }

            /// The years that a date can have fit into the number.
            fn microseconds(date: OffsetDateTime) -> i64 {
                (date.unix_timestamp_nanos() / 1_000) as i64
            }

            fn date(microseconds: i64) -> OffsetDateTime {
                OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1_000)
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            }
        }
    };
}

session_store!("tower-sessions-0-14", tower_sessions_core_0_14, core_0_14);
session_store!("tower-sessions-0-15", tower_sessions_core_0_15, core_0_15);
