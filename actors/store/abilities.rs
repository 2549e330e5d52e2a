//! What a store can do, found out by asking it: not every server that speaks S3 is S3.

use super::{Store, StoreError};
use bytes::Bytes;
use tracing::{debug, info};
use uuid::Uuid;

/// What a store was found to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Abilities {
    /// It refuses a conditional create of what is there.
    pub creates: bool,
    /// It answers a write with a checksum over its own bytes.
    pub answers_checksum: bool,
    /// Its listing shows another ETag after a write of other bytes of the same size.
    pub list_proves: bool,
}

/// Writes, reads, lists and deletes small objects under `PREFIX/.dronekeeper-probe/`.
pub(super) async fn probe(store: &Store, prefix: &str) -> Result<Abilities, StoreError> {
    let slash = if prefix.is_empty() { "" } else { "/" };
    let dir = format!("{prefix}{slash}.dronekeeper-probe/{}", Uuid::new_v4());
    let key = format!("{dir}/object");
    let found = ask(store, &dir, &key).await;
    if let Err(error) = store.delete(&key).await {
        debug!(error = %crate::shown::chain(&error), "the probe's object stays");
    }
    let abilities = found?;
    info!(
        store = store.name(),
        creates = abilities.creates,
        answers_checksum = abilities.answers_checksum,
        list_proves = abilities.list_proves,
        "store probed"
    );
    Ok(abilities)
}

async fn ask(store: &Store, dir: &str, key: &str) -> Result<Abilities, StoreError> {
    let (one, two) = (Bytes::from(vec![b'1'; 1024]), Bytes::from(vec![b'2'; 1024]));
    let first = store.put(key, one.clone()).await?;
    let listed = |all: std::collections::BTreeMap<String, super::Held>| {
        all.get(key).and_then(|held| held.etag.clone())
    };
    let before = listed(store.list(dir).await?);
    store.put(key, two.clone()).await?;
    let after = listed(store.list(dir).await?);
    let read = store.get(key, 4096).await?;
    if read.is_none_or(|(read, _)| read != two) {
        let why = "it gives back other bytes than were written".to_owned();
        return Err(StoreError::Settings { store: store.name().to_owned(), why });
    }
    let answered = first.checksum.map(|checksum| checksum.to_string());
    let answers_checksum = answered.is_some() && answered == store.checksum_of(&one);
    // A local directory's ETag names the time of the last write, which bit rot does not change.
    let list_proves = answers_checksum && before.is_some() && before == first.etag && before != after;
    let creates = store.refuses_to_overwrite(key, one).await?;
    Ok(Abilities { creates, answers_checksum, list_proves })
}

impl Store {
    /// Does a conditional create leave what is there?
    async fn refuses_to_overwrite(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = super::path(key)?;
        let put = self.0.backend.store.put_opts(&path, PutPayload::from(body), options).await;
        match put {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(true)
            }
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })
            | Ok(_) => Ok(false),
            Err(error) => Err(StoreError::new(self, key, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Created, Settings};

    fn open(url: &str) -> Store {
        let (connections, stall) = (4, std::time::Duration::from_secs(5));
        let settings =
            Settings { url: url.into(), options: vec![], connections, stall, min_rate: 1, bandwidth: None };
        Store::open(&settings).unwrap()
    }

    #[tokio::test]
    async fn a_directory_and_a_memory_create_but_prove_nothing_by_themselves() {
        let dir = tempfile::tempdir().unwrap();
        for url in [format!("file://{}", dir.path().display()), "memory://probe".into()] {
            let found = open(&url).probe("p").await.unwrap();
            assert_eq!(
                found,
                Abilities { creates: true, answers_checksum: false, list_proves: false },
                "{url}"
            );
        }
        let left = std::fs::read_dir(dir.path().join("p/.dronekeeper-probe")).map(|dir| dir.count());
        assert!(left.is_err() || left.unwrap() <= 1);
    }

    #[tokio::test]
    async fn keys_arrive_to_the_letter() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("file://{}", dir.path().display()));
        for key in ["1-a~2/a%23b", "1-a/%2edronekeeper/x", "1-a/50%", "1-a/a b/c"] {
            store.put(key, Bytes::from_static(b"x")).await.unwrap();
            assert!(dir.path().join(key).exists(), "{key} went elsewhere");
        }
        let listed: Vec<String> = store.list("1-a").await.unwrap().into_keys().collect();
        assert_eq!(listed, ["1-a/%2edronekeeper/x", "1-a/50%", "1-a/a b/c"]);
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_is_cleared_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("file://{}", dir.path().display()));
        store.put("1-a/debug/x", Bytes::from_static(b"x")).await.unwrap();
        for name in ["1-a/debug/x#1", "1-a/y#27", "1-a/kept#a", "2-b#1"] {
            std::fs::write(dir.path().join(name), "half").unwrap();
        }
        store.tidy("1-a").await;
        let there = |name: &str| dir.path().join(name).exists();
        assert!(!there("1-a/debug/x#1") && !there("1-a/y#27"));
        assert!(there("1-a/debug/x") && there("1-a/kept#a") && there("2-b#1"));
    }

    #[tokio::test]
    async fn a_create_over_our_own_bytes_is_ours_and_over_others_is_not() {
        let store = open("memory://create");
        store.probe("").await.unwrap();
        for _ in 0..2 {
            assert!(matches!(store.create("claim", Bytes::from_static(b"us")).await, Ok(Created::Made(_))));
        }
        match store.create("claim", Bytes::from_static(b"them")).await {
            Ok(Created::Exists(there, _)) => assert_eq!(there, "us"),
            other => panic!("{other:?}"),
        }
    }
}
