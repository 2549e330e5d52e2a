//! Does the store hold these objects, now?
//!
//! One LIST answers for a thousand objects where the store's ETag names a write: size and ETag equal to
//! those of a write that the store proved with a checksum are that write. Everything else is asked one by
//! one, and where a store proves nothing the bytes are read back and hashed.

use crate::ledger::FailureClass;
use crate::manifest::Object;
use crate::shown::Shown;
use crate::store::{Held, Store, StoreError};
use crate::uploader::transfer::Sent;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::task::JoinSet;

/// So many objects are asked for at once; the store's connections bound the requests.
const AT_ONCE: usize = 32;

/// What the store shows is not what was sent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckError {
    #[error("cannot ask the store what it holds")]
    Store(#[from] StoreError),
    #[error("{0} is not in the store")]
    Missing(String),
    #[error("{key} is in the store with {found} bytes instead of {expected}")]
    Size { key: String, expected: u64, found: u64 },
    #[error("{0} is in the store with other bytes than were sent")]
    Bytes(String),
    #[error("the one who asked died")]
    Died(#[from] tokio::task::JoinError),
}

impl CheckError {
    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            CheckError::Store(error) => error.class(),
            CheckError::Missing(_) => FailureClass::NotFound,
            CheckError::Died(_) => FailureClass::Panic,
            CheckError::Size { .. } | CheckError::Bytes(_) => FailureClass::Checksum,
        }
    }
}

/// Proves that the store holds each object, as it was sent.
///
/// # Errors
/// The first [`CheckError`].
pub async fn check(store: &Store, prefix: &str, sent: &[Sent]) -> Result<(), CheckError> {
    if cfg!(seeded_bug = "no_verification") {
        return Ok(());
    }
    let lists = store.abilities().list_proves;
    let standing = if lists { listed(store, prefix, sent).await? } else { BTreeMap::new() };
    let mut doubtful = Vec::new();
    for sent in sent {
        match standing.get(&sent.object.key) {
            Some(held) if sent.proven && same_write(&sent.object, held) => {
                size(&sent.object, sent.size, held.size)?
            }
            None if lists => return Err(CheckError::Missing(shown(&sent.object))),
            _ => doubtful.push(sent),
        }
    }
    if !doubtful.is_empty()
        && let Some(sums) = summed(store, &doubtful).await?
    {
        return doubtful.into_iter().try_for_each(|sent| same_sum(&sent.object, &sums));
    }
    let mut asked = JoinSet::new();
    for sent in doubtful {
        if asked.len() >= AT_ONCE
            && let Some(answer) = asked.join_next().await
        {
            answer??;
        }
        let (store, sent) = (store.clone(), sent.clone());
        asked.spawn(async move { ask(&store, &sent).await });
    }
    while let Some(answer) = asked.join_next().await {
        answer??;
    }
    Ok(())
}

/// What the store says of the bytes of all these, where it answers for many at once.
async fn summed(store: &Store, sent: &[&Sent]) -> Result<Option<HashMap<String, String>>, CheckError> {
    let keys: Vec<(&str, u64)> = sent.iter().map(|sent| (sent.object.key.as_str(), sent.size)).collect();
    Ok(store.sums(&keys).await?)
}

fn same_sum(object: &Object, sums: &HashMap<String, String>) -> Result<(), CheckError> {
    match sums.get(&object.key) {
        Some(sum) if *sum == object.sha256 => Ok(()),
        Some(_) => Err(CheckError::Bytes(shown(object))),
        None => Err(CheckError::Missing(shown(object))),
    }
}

/// What the store lists under every prefix that the objects are in.
async fn listed(store: &Store, prefix: &str, sent: &[Sent]) -> Result<BTreeMap<String, Held>, CheckError> {
    let mut all = store.list(prefix).await?;
    // Objects that an earlier manifest of the same job proves are under that manifest's prefix.
    let elsewhere = sent.iter().filter(|sent| !all.contains_key(&sent.object.key));
    let elsewhere: BTreeSet<&str> = elsewhere.filter_map(|sent| earlier(prefix, &sent.object.key)).collect();
    for prefix in elsewhere {
        all.extend(store.list(prefix).await?);
    }
    Ok(all)
}

/// The prefix of an earlier generation that a key lies in: `p/1-a` for `p/1-a/x` when ours is `p/1-a~2`.
fn earlier<'a>(ours: &str, key: &'a str) -> Option<&'a str> {
    let depth = ours.split('/').count();
    let end = key.match_indices('/').nth(depth - 1).map(|(at, _)| at)?;
    key.get(..end).filter(|prefix| *prefix != ours)
}

/// An ETag or a version that is still the one of the verified write.
fn same_write(object: &Object, held: &Held) -> bool {
    (object.etag.is_some() && object.etag == held.etag)
        && (held.version.is_none() || object.version.is_none() || object.version == held.version)
}

fn size(object: &Object, expected: u64, found: u64) -> Result<(), CheckError> {
    match expected == found {
        true => Ok(()),
        false => Err(CheckError::Size { key: shown(object), expected, found }),
    }
}

/// Asks for one object: by the store's checksum if it has one, else by reading it back.
async fn ask(store: &Store, sent: &Sent) -> Result<(), CheckError> {
    let (object, key) = (&sent.object, &sent.object.key);
    if let Some((name, value)) = object.proof.split_once('=') {
        let held = store.head(key).await?.ok_or_else(|| CheckError::Missing(shown(object)))?;
        size(object, sent.size, held.size)?;
        if let Some(theirs) = held.checksum.filter(|theirs| theirs.name == name) {
            return if theirs.value == value { Ok(()) } else { Err(CheckError::Bytes(shown(object))) };
        }
    }
    read_back(store, object, sent.size).await
}

/// Reads an object and hashes it.
///
/// # Errors
/// [`CheckError`] when it is not there, or not what was sent.
pub async fn read_back(store: &Store, object: &Object, expected: u64) -> Result<(), CheckError> {
    let read = store.read_back(&object.key).await?;
    let (digest, found) = read.ok_or_else(|| CheckError::Missing(shown(object)))?;
    size(object, expected, found)?;
    match digest.to_string() == object.sha256 {
        true => Ok(()),
        false => Err(CheckError::Bytes(shown(object))),
    }
}

fn shown(object: &Object) -> String {
    Shown::text(&object.key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_an_earlier_generation_is_found_in_the_key() {
        assert_eq!(earlier("p/1-a~2", "p/1-a/debug/x"), Some("p/1-a"));
        assert_eq!(earlier("1-a~3", "1-a~2/x"), Some("1-a~2"));
        assert_eq!(earlier("p/1-a", "p/1-a/debug/x"), None);
        assert_eq!(earlier("p/1-a", "x"), None);
    }
}
