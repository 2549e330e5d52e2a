//! Small files: read and hashed in batches off the network threads, then sent many at a time.
//!
//! A file is read once; its SHA-256 and the store's own checksum are taken from the very bytes that are sent.

use super::transfer::{Sent, UploadError, sent};
use crate::lab::{Digest, Entry, Kind, hex};
use crate::planner::plan::Plan;
use crate::planner::stored::Source;
use crate::site::{Memory, Room};
use crate::store::Store;
use crate::tree::{JobDir, Snapshot};
use bytes::Bytes;
use std::io::Read;
use std::sync::Arc;
use tokio::task::JoinSet;

/// So many batches of one job are under way at once; the store's connections bound the requests.
pub const BATCHES: usize = 8;
/// Most files in a batch: what a reader does between two looks at the clock.
const FILES: usize = 32;
/// Most bytes in a batch, unless a single file is larger.
const BYTES: u64 = 4 << 20;

/// Files of one plan that are read together.
pub struct Batch {
    dir: Arc<JobDir>,
    snapshot: Arc<Snapshot>,
    files: Vec<(usize, String, Source)>,
    bytes: u64,
    store: Store,
    memory: Memory,
    watch: Arc<dyn crate::progress::Watch>,
}

impl Batch {
    /// The files of `plan` at these positions.
    pub fn new(plan: &Plan, files: &[(usize, &Entry)]) -> Self {
        let site = &plan.attempt.lane.site;
        Batch {
            dir: plan.dir.clone(),
            snapshot: plan.snapshot.clone(),
            files: files.iter().map(|(index, entry)| (*index, plan.key(entry), plan.source(entry))).collect(),
            bytes: files.iter().map(|(_, entry)| entry.size).sum(),
            store: site.store.clone(),
            memory: site.memory.clone(),
            watch: site.watch.clone(),
        }
    }
}

/// Cuts a list of files into batches of few files or few bytes, whichever comes first.
pub fn batches<'a>(files: &'a [(usize, &'a Entry)]) -> Vec<&'a [(usize, &'a Entry)]> {
    cut(files, FILES, BYTES)
}

/// Cuts a list of files into pieces of at most so many files and so many bytes, unless a single file is larger.
pub fn cut<'a>(files: &'a [(usize, &'a Entry)], count: usize, most: u64) -> Vec<&'a [(usize, &'a Entry)]> {
    let (mut pieces, mut rest) = (Vec::new(), files);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, entry): &&(usize, &Entry)| {
            bytes += entry.size;
            bytes <= most
        };
        let count = rest.iter().take(count).take_while(fits).count().max(1);
        let (piece, others) = rest.split_at(count);
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// One object in memory, hashed.
struct Ready {
    index: usize,
    key: String,
    body: Bytes,
    sha256: String,
    checksum: Option<String>,
}

/// Reads a batch, then sends its files side by side.
///
/// # Errors
/// The first [`UploadError`]; the other files of the batch may or may not be in the store.
pub async fn send(batch: Batch) -> Result<Vec<Sent>, UploadError> {
    let room = batch.memory.room(usize::try_from(batch.bytes).unwrap_or(usize::MAX)).await;
    let room: Arc<Option<Room>> = Arc::new(room);
    let (dir, snapshot, store) = (batch.dir, batch.snapshot.clone(), batch.store.clone());
    let read = tokio::task::spawn_blocking(move || -> Result<Vec<Ready>, UploadError> {
        let entry = |index: usize| snapshot.entries.get(index);
        batch
            .files
            .into_iter()
            .filter_map(|(index, key, source)| Some((index, key, source, entry(index)?)))
            .map(|(index, key, source, entry)| {
                let body = match source {
                    Source::Text(text) => text,
                    Source::File | Source::Nothing => read(&dir, entry)?,
                };
                let (sha256, checksum) = (hex(&Digest::of(&body).0), store.checksum_of(&body));
                Ok(Ready { index, key, body: Bytes::from(body), sha256, checksum })
            })
            .collect()
    });
    let mut flights = JoinSet::new();
    for ready in read.await?? {
        let (store, room, snapshot) = (batch.store.clone(), room.clone(), batch.snapshot.clone());
        let watch = batch.watch.clone();
        flights.spawn(async move {
            let Ready { index, key, body, sha256, checksum } = ready;
            let size = body.len() as u64;
            let held = store.put(&key, body).await;
            drop(room);
            let held = held.map_err(|error| match snapshot.entries.get(index) {
                Some(entry) => UploadError::store(entry, error),
                None => UploadError::Store(key.clone(), error),
            })?;
            if snapshot.entries.get(index).is_some_and(|entry| entry.kind == Kind::File) {
                watch.sent(size);
                watch.stored();
            }
            Ok(sent(index, key, sha256, size, checksum, held))
        });
    }
    drop(room);
    let mut all = Vec::with_capacity(flights.len());
    while let Some(landed) = flights.join_next().await {
        let landed: Result<Sent, UploadError> = landed?;
        all.push(landed?);
    }
    Ok(all)
}

/// Reads one file whole; it must be, before and after, what the snapshot saw.
///
/// # Errors
/// [`UploadError`] when it cannot be read, or is another.
pub fn read(dir: &JobDir, entry: &Entry) -> Result<Vec<u8>, UploadError> {
    let mut file = dir.open_file(entry).map_err(|error| UploadError::open(entry, error))?;
    let failed = |error| UploadError::Read(entry.path.to_string(), error);
    let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
    let mut body = Vec::with_capacity(size.saturating_add(1));
    // One byte more than there should be: a file that grows is noticed here.
    (&mut file).take(entry.size.saturating_add(1)).read_to_end(&mut body).map_err(failed)?;
    if body.len() != size || !dir.unchanged(&file, entry) {
        return Err(UploadError::Changed(format!("{} changed while it was read", entry.path)));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Kind, RelPath};

    fn file(size: u64) -> Entry {
        let path = RelPath::new(&b"f"[..]).unwrap();
        let (kind, target) = (Kind::File, None);
        Entry {
            path,
            kind,
            ino: 0,
            size,
            mtime_ns: 0,
            ctime_ns: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
            target,
        }
    }

    #[test]
    fn batches_are_bounded_in_files_and_bytes_and_lose_nothing() {
        let sizes = [vec![10; 70], vec![BYTES + 5], vec![BYTES / 2 + 1; 3], vec![0]].concat();
        let entries: Vec<Entry> = sizes.into_iter().map(file).collect();
        let files: Vec<(usize, &Entry)> = entries.iter().enumerate().collect();
        let cut = batches(&files);
        assert_eq!(cut.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [32, 32, 6, 1, 1, 1, 2]);
        assert!(cut.concat().iter().map(|(index, _)| *index).eq(0..files.len()));
    }
}
