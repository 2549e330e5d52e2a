//! What the old offloader stored, taken over: its marker says that a job is in the store, and we look whether it is.
//!
//! The marker alone permits nothing; its writer put it on jobs that were never stored (reference F1.1). Every object
//! that stands there must hold the very bytes of a file of the job; then the place is the job's own, those files
//! need not be sent again, and all of it is proven like everything else. One that differs, or belongs to no file,
//! and the job goes beside, as it does when a stranger holds its name.

use super::names::object_key;
use crate::lab::{Digest, Entry, Kind, RelPath, hex};
use crate::manifest::Object;
use crate::store::{Held, Store, StoreError};
use crate::tree::{JobDir, Snapshot};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// The old offloader's marker, directly in the job's directory (reference A2.10).
const MARKER: &[u8] = b".GS_UPLOADED";
/// So many objects are compared at once.
const AT_ONCE: usize = 8;
/// So much of a file is read at once, in bytes.
const CHUNK: usize = 1 << 20;

/// Does the job say that the old offloader has stored it?
pub fn is_marked(snapshot: &Snapshot) -> bool {
    snapshot.entries.iter().any(|entry| entry.kind == Kind::File && entry.path.as_bytes() == MARKER)
}

/// The objects under `prefix` by the file that each of them holds; `None` if any holds something else.
///
/// # Errors
/// The store's. A file that cannot be read is a file that differs.
pub async fn adopt(
    store: &Store,
    io: &Handle,
    dir: &Arc<JobDir>,
    snapshot: &Snapshot,
    prefix: &str,
    standing: &BTreeMap<String, Held>,
) -> Result<Option<HashMap<RelPath, Object>>, StoreError> {
    let files = snapshot.entries.iter().filter(|entry| entry.kind == Kind::File);
    let files: HashMap<String, &Entry> =
        files.map(|entry| (object_key(prefix, &entry.path), entry)).collect();
    let mut adopted = HashMap::new();
    let mut comparing: JoinSet<Result<Option<(RelPath, Object)>, StoreError>> = JoinSet::new();
    for (key, held) in standing {
        let Some(entry) = files.get(key).filter(|entry| entry.size == held.size) else { return Ok(None) };
        if comparing.len() >= AT_ONCE && !land(&mut comparing, &mut adopted).await? {
            return Ok(None);
        }
        let (store, io, dir, entry, key) =
            (store.clone(), io.clone(), dir.clone(), (*entry).clone(), key.clone());
        comparing.spawn(async move { compare(&store, &io, dir, entry, key).await });
    }
    while !comparing.is_empty() {
        if !land(&mut comparing, &mut adopted).await? {
            return Ok(None);
        }
    }
    Ok(Some(adopted))
}

/// Takes one comparison in; `false` if something differed.
async fn land(
    comparing: &mut JoinSet<Result<Option<(RelPath, Object)>, StoreError>>,
    adopted: &mut HashMap<RelPath, Object>,
) -> Result<bool, StoreError> {
    match comparing.join_next().await {
        Some(Ok(Ok(Some((path, object))))) => {
            adopted.insert(path, object);
            Ok(true)
        }
        Some(Ok(Err(error))) => Err(error),
        Some(Ok(Ok(None)) | Err(_)) => Ok(false),
        None => Ok(true),
    }
}

/// Compares one file with the object of its name: by the store's checksum, or else by reading the object back.
async fn compare(
    store: &Store,
    io: &Handle,
    dir: Arc<JobDir>,
    entry: Entry,
    key: String,
) -> Result<Option<(RelPath, Object)>, StoreError> {
    let (path, mut checker) = (entry.path.clone(), store.checker());
    let hash = move || -> Option<(Digest, Option<String>)> {
        let mut file = dir.open_file(&entry).ok()?;
        let (mut sha256, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            let read = file.read(&mut buffer).ok()?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
            sha256.update(chunk);
            checker.update(chunk);
        }
        dir.unchanged(&file, &entry).then(|| (Digest(sha256.finalize().into()), checker.finish()))
    };
    let Ok(Some((sha256, ours))) = io.spawn_blocking(hash).await else { return Ok(None) };
    let Some(held) = store.head(&key).await? else { return Ok(None) };
    let theirs = held.checksum.as_ref().map(|checksum| format!("{}={}", checksum.name, checksum.value));
    let proof = match ours.filter(|ours| theirs.as_ref() == Some(ours)) {
        Some(proof) => proof,
        None => match store.read_back(&key).await? {
            Some((stored, _)) if stored == sha256 => "read-back".to_owned(),
            _ => return Ok(None),
        },
    };
    let sha256 = hex(&sha256.0);
    Ok(Some((
        path,
        Object { key, sha256, size: None, plain: None, etag: held.etag, version: held.version, proof },
    )))
}
