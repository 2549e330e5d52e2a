//! Many small files in few objects: tar archives, of which each file can be fetched alone.
//!
//! ```text
//! pack object:  | header, file, padding | header, file, padding | … |      each record compressed by itself
//! manifest:       offset, length, SHA-256 of each file
//! ```
//!
//! A record is a whole frame (zstd) or member (gzip), so the object is an archive that `tar` reads, and a range of it
//! is one file. A pack's key tells which files, of which change, are in it: a request of an earlier attempt that
//! arrives late can only write the same bytes.

use super::small;
use super::transfer::{Sent, UploadError, sent};
use crate::lab::{Digest, Entry, hex};
use crate::manifest::Part;
use crate::packing::{self, Encoding};
use crate::planner::names::pack_key;
use crate::planner::plan::Plan;
use crate::site::Memory;
use crate::store::Store;
use crate::tree::{JobDir, Snapshot};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// So many packs of one job are made and sent at once.
pub const AT_ONCE: usize = 4;
/// Most bytes of files in a pack.
const BYTES: u64 = 8 << 20;
/// Most files in a pack.
const FILES: usize = 8192;

/// A pack that is in the store, and where in it each file is, by position in the snapshot.
#[derive(Clone, Debug)]
pub struct PackSent {
    /// The object; its index is of no entry.
    pub sent: Sent,
    /// The files.
    pub files: Vec<(usize, Part)>,
}

/// One pack that is to be made.
pub struct Pack {
    dir: Arc<JobDir>,
    snapshot: Arc<Snapshot>,
    files: Vec<usize>,
    number: usize,
    bytes: u64,
    key: String,
    encoding: Encoding,
    store: Store,
    memory: Memory,
    watch: Arc<dyn crate::progress::Watch>,
}

/// Cuts the files that go into packs into packs, in path order.
pub fn packs(plan: &Plan, files: &[(usize, &Entry)]) -> Vec<Pack> {
    let site = &plan.attempt.lane.site;
    let pack = |(number, files): (usize, &[(usize, &Entry)])| Pack {
        dir: plan.dir.clone(),
        snapshot: plan.snapshot.clone(),
        files: files.iter().map(|(index, _)| *index).collect(),
        number,
        bytes: files.iter().map(|(_, entry)| entry.size).sum(),
        key: pack_key(&plan.claimed.prefix, &contents(files, site.packing.encoding), site.packing.encoding),
        encoding: site.packing.encoding,
        store: site.store.clone(),
        memory: site.memory.clone(),
        watch: site.watch.clone(),
    };
    small::cut(files, FILES, BYTES).into_iter().enumerate().map(pack).collect()
}

/// Which files, of which change, a pack holds.
fn contents(files: &[(usize, &Entry)], encoding: Encoding) -> Digest {
    let mut sha256 = Sha256::new();
    sha256.update(encoding.name());
    for (_, entry) in files {
        sha256.update((entry.path.as_bytes().len() as u64).to_le_bytes());
        sha256.update(entry.path.as_bytes());
        for number in [entry.size.cast_signed(), entry.ino.cast_signed(), entry.mtime_ns, entry.ctime_ns] {
            sha256.update(number.to_le_bytes());
        }
    }
    Digest(sha256.finalize().into())
}

/// Reads the files of a pack, packs and hashes them, and sends the pack.
///
/// # Errors
/// The first [`UploadError`].
pub async fn send(pack: Pack) -> Result<PackSent, UploadError> {
    let files = pack.files.len() as u64;
    // Records have a header and padding; what is compressed away is not counted on.
    let room = pack.bytes.saturating_add(files.saturating_mul(1024));
    let room = pack.memory.room(usize::try_from(room).unwrap_or(usize::MAX)).await;
    let (store, key, watch, number) = (pack.store.clone(), pack.key.clone(), pack.watch.clone(), pack.number);
    let raw = pack.bytes;
    let (body, files, sha256, checksum) = tokio::task::spawn_blocking(move || make(&pack)).await??;
    let size = body.len() as u64;
    let held =
        store.put(&key, body).await.map_err(|error| UploadError::Store(format!("pack {number}"), error))?;
    drop(room);
    watch.sent(raw);
    files.iter().for_each(|_| watch.stored());
    let files = files.into_iter().map(|(index, part)| (index, Part { pack: number, ..part })).collect();
    Ok(PackSent { sent: sent(usize::MAX, key, sha256, size, checksum, held), files })
}

type Made = (Bytes, Vec<(usize, Part)>, String, Option<String>);

fn make(pack: &Pack) -> Result<Made, UploadError> {
    let (mut body, mut files) = (Vec::with_capacity(usize::try_from(pack.bytes).unwrap_or(0)), Vec::new());
    for index in &pack.files {
        let Some(entry) = pack.snapshot.entries.get(*index) else { continue };
        let content = small::read(&pack.dir, entry)?;
        let failed = |error| UploadError::Read(entry.path.to_string(), error);
        let record = packing::record(entry, &content, pack.encoding).map_err(failed)?;
        let (offset, length) = (body.len() as u64, record.len() as u64);
        body.extend_from_slice(&record);
        let sha256 = hex(&Digest::of(&content).0);
        files.push((*index, Part { pack: 0, offset, length, sha256 }));
    }
    body.extend_from_slice(
        &packing::end(pack.encoding).map_err(|error| UploadError::Read("pack".into(), error))?,
    );
    let (sha256, checksum) = (hex(&Digest::of(&body).0), pack.store.checksum_of(&body));
    Ok((Bytes::from(body), files, sha256, checksum))
}
