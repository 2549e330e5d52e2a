//! Large files: read once, hashed as they are read, sent in parts side by side.
//!
//! The upload's id and its finished parts are noted in the ledger, so that a restart goes on at the part.
//! The notes are a memory: the file's identity must still be the noted one, the whole file is hashed
//! again, and the finished object is verified like every other.

use super::buffers::Buffers;
use super::resume::{Notes, PartNote, Upload};
use super::transfer::{Sent, UploadError, sent};
use crate::lab::{Entry, hex};
use crate::planner::plan::Plan;
use crate::site::{Memory, Room};
use crate::store::{Checker, Part, Store};
use crate::tree::{JobDir, Snapshot};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// So many large files of one job are under way at once.
pub const FILES: usize = 2;

/// One large file of a plan.
pub struct Large {
    dir: Arc<JobDir>,
    snapshot: Arc<Snapshot>,
    index: usize,
    key: String,
    store: Store,
    memory: Memory,
    watch: Arc<dyn crate::progress::Watch>,
    notes: Notes,
}

impl Large {
    /// The file of `plan` at this position.
    pub fn new(plan: &Plan, index: usize, notes: &Notes) -> Self {
        let site = &plan.attempt.lane.site;
        let key = plan.snapshot.entries.get(index).map(|entry| plan.key(entry)).unwrap_or_default();
        Large {
            dir: plan.dir.clone(),
            snapshot: plan.snapshot.clone(),
            index,
            key,
            store: site.store.clone(),
            memory: site.memory.clone(),
            watch: site.watch.clone(),
            notes: notes.clone(),
        }
    }
}

/// A part as it was read, with the room that it takes in memory.
struct Piece {
    number: u32,
    bytes: Bytes,
    room: Option<Room>,
}

/// What the reader knows at the end of the file.
struct Hashed {
    sha256: String,
    checksum: Option<String>,
}

/// Sends one large file.
///
/// # Errors
/// The first [`UploadError`]; parts that were sent are noted for the next attempt.
pub async fn send(large: Large) -> Result<Vec<Sent>, UploadError> {
    let Some(entry) = large.snapshot.entries.get(large.index) else { return Ok(Vec::new()) };
    let store = &large.store;
    let part_size =
        store.part_size_for(entry.size).ok_or_else(|| UploadError::TooLarge(entry.path.to_string()))?;
    let upload = match large.notes.upload(entry, &large.key, part_size) {
        Some(upload) => upload,
        None => {
            let id = store.multipart(&large.key).await.map_err(|error| UploadError::store(entry, error))?;
            let upload = Upload { id, part_size, parts: HashMap::new() };
            large.notes.opened(entry, &large.key, &upload).await;
            upload
        }
    };
    let sending = parts(&large, entry, &upload).await;
    let (tokens, hashed) = match sending {
        Ok(done) => done,
        Err(error) => {
            // The store no longer knows the upload: the next attempt begins the file anew.
            if matches!(&error, UploadError::Store(_, error) if error.is_not_found()) {
                large.notes.closed(entry, &upload).await;
            }
            return Err(error);
        }
    };
    let completed =
        store.complete(&large.key, &upload.id, &tokens, entry.size, hashed.checksum.as_deref()).await;
    large.notes.closed(entry, &upload).await;
    let held = completed.map_err(|error| UploadError::store(entry, error))?;
    large.watch.stored();
    Ok(vec![sent(large.index, large.key.clone(), hashed.sha256, entry.size, hashed.checksum, held)])
}

/// Reads the file to its end and sends the parts that are not noted as sent; tokens in order of number.
async fn parts(large: &Large, entry: &Entry, upload: &Upload) -> Result<(Vec<String>, Hashed), UploadError> {
    let (give, mut pieces) = mpsc::channel::<Piece>(1);
    let (dir, snapshot, index) = (large.dir.clone(), large.snapshot.clone(), large.index);
    let (memory, checker, part_size) = (large.memory.clone(), large.store.checker(), upload.part_size);
    let buffers = large.notes.buffers();
    let reader = tokio::task::spawn_blocking(move || match snapshot.entries.get(index) {
        Some(entry) => read(&dir, entry, part_size, checker, &memory, &buffers, &give),
        None => Err(UploadError::Ending),
    });
    let mut flights: JoinSet<(u32, u64, Result<Part, crate::store::StoreError>)> = JoinSet::new();
    let mut done: Vec<PartNote> = Vec::new();
    loop {
        let room_in_flight = flights.len() < large.store.parts_at_once();
        tokio::select! {
            piece = pieces.recv(), if room_in_flight => {
                let Some(piece) = piece else { break };
                match upload.parts.get(&piece.number) {
                    Some(token) => {
                        large.watch.sent(piece.bytes.len() as u64);
                        done.push(PartNote { number: piece.number, token: token.clone() });
                    }
                    None => fly(&mut flights, large, upload, piece),
                }
            }
            Some(landed) = flights.join_next() => {
                land(landed?, large, entry, &mut done).await?;
            }
        }
    }
    let hashed = reader.await??;
    while let Some(landed) = flights.join_next().await {
        land(landed?, large, entry, &mut done).await?;
    }
    done.sort_unstable_by_key(|part| part.number);
    Ok((done.into_iter().map(|part| part.token).collect(), hashed))
}

fn fly(
    flights: &mut JoinSet<(u32, u64, Result<Part, crate::store::StoreError>)>,
    large: &Large,
    upload: &Upload,
    piece: Piece,
) {
    let (store, key, id) = (large.store.clone(), large.key.clone(), upload.id.clone());
    flights.spawn(async move {
        let Piece { number, bytes, room } = piece;
        let size = bytes.len() as u64;
        let part = store.put_part(&key, &id, number, bytes).await;
        drop(room);
        (number, size, part)
    });
}

async fn land(
    (number, size, part): (u32, u64, Result<Part, crate::store::StoreError>),
    large: &Large,
    entry: &Entry,
    done: &mut Vec<PartNote>,
) -> Result<(), UploadError> {
    let part = part.map_err(|error| UploadError::store(entry, error))?;
    large.watch.sent(size);
    let note = PartNote { number, token: part.token };
    large.notes.part(entry, note.clone()).await;
    done.push(note);
    Ok(())
}

/// Reads a file from its first byte to its last, hashing each part before it is given away.
fn read(
    dir: &JobDir,
    entry: &Entry,
    part_size: u64,
    mut checker: Checker,
    memory: &Memory,
    buffers: &Buffers,
    give: &mpsc::Sender<Piece>,
) -> Result<Hashed, UploadError> {
    let mut file = dir.open_file(entry).map_err(|error| UploadError::open(entry, error))?;
    let changed = || UploadError::Changed(format!("{} changed while it was read", entry.path));
    let runtime = tokio::runtime::Handle::current();
    let (mut sha256, mut left, mut number) = (Sha256::new(), entry.size, 0);
    while left > 0 {
        let size = left.min(part_size);
        let room = runtime.block_on(memory.room(usize::try_from(size).unwrap_or(usize::MAX)));
        let mut buffer = buffers.take();
        buffer.reserve_exact(usize::try_from(size).unwrap_or(0));
        let read = (&mut file).take(size).read_to_end(&mut buffer);
        read.map_err(|error| UploadError::Read(entry.path.to_string(), error))?;
        if buffer.len() as u64 != size {
            return Err(changed());
        }
        sha256.update(&buffer);
        checker.update(&buffer);
        let piece = Piece { number, bytes: buffers.lend(buffer), room };
        // Nobody takes pieces any more: the transfer has failed and says why itself.
        give.blocking_send(piece).map_err(|_| UploadError::Ending)?;
        (left, number) = (left - size, number + 1);
    }
    let beyond = (&mut file).take(1).read_to_end(&mut Vec::new());
    if !matches!(beyond, Ok(0)) || !dir.unchanged(&file, entry) {
        return Err(changed());
    }
    Ok(Hashed { sha256: hex(&sha256.finalize()), checksum: checker.finish() })
}
