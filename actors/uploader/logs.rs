//! Text logs, compressed on their way: an object of gzip with `Content-Encoding`, which a browser and `gsutil cat`
//! show as the text that it is.
//!
//! A file whose beginning is no text, or that gzip does not make smaller, goes as it is. What one request does not hold
//! goes in parts, from the first byte again if it is cut off. The manifest has the SHA-256 of both, and says that the
//! one is the gzip of the other.

use super::cutter::{Cutter, Whole, send_parts};
use super::transfer::{Sent, UploadError, sent};
use crate::lab::{Entry, Kind, hex};
use crate::planner::plan::Plan;
use crate::shown::chain;
use crate::site::Room;
use crate::store::{Held, Store};
use crate::tree::{JobDir, Snapshot};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, StreamExt};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;

/// Smaller files are not worth it, in bytes.
const SMALLEST: u64 = 1 << 10;
/// Larger ones go as they are: an upload that is cut off is gone on with.
const LARGEST: u64 = 1 << 30;
/// What one request writes, and the size of a part.
const PIECE: usize = 8 << 20;
/// Pieces that are in memory at once: one is filled, one waits, one is sent.
const PIECES: usize = 3;
/// So much of a file tells whether it is text.
const BEGINNING: usize = 8 << 10;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;
/// A sixth larger than at the usual level and three times as fast: what a disk reads is compressed as it comes.
const LEVEL: u32 = 2;
/// So many are compressed at once.
const AT_ONCE: usize = 4;

/// Sends those of these files that are text, compressed. Answers with them; the others are left.
///
/// # Errors
/// The first [`UploadError`].
pub async fn send(plan: &Plan, files: &[(usize, &Entry)]) -> Result<Vec<Sent>, UploadError> {
    let fits = |(_, entry): &&(usize, &Entry)| {
        entry.kind == Kind::File && (SMALLEST..=LARGEST).contains(&entry.size)
    };
    let candidates: Vec<usize> = files.iter().filter(fits).map(|(index, _)| *index).collect();
    let mut flights =
        stream::iter(candidates.into_iter().map(|index| one(plan, index))).buffer_unordered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(landed) = flights.next().await {
        all.extend(landed?);
    }
    Ok(all)
}

async fn one(plan: &Plan, index: usize) -> Result<Option<Sent>, UploadError> {
    let site = &plan.attempt.lane.site;
    let Some(entry) = plan.snapshot.entries.get(index) else { return Ok(None) };
    let most = usize::try_from(entry.size).unwrap_or(usize::MAX);
    let _room: Option<Room> = site.memory.room(if most > PIECE { PIECE * PIECES } else { most }).await;
    let (dir, snapshot) = (plan.dir.clone(), plan.snapshot.clone());
    let (give, mut pieces) = mpsc::channel(1);
    let cutter = Cutter::new(PIECE, site.store.checker(), give);
    let packing = tokio::task::spawn_blocking(move || pack(&dir, &snapshot, index, cutter));
    let (key, store): (String, &Store) = (plan.key(entry), &site.store);
    let failed = |error| UploadError::store(entry, error);
    let first = pieces.recv().await.unwrap_or_default();
    let (packed, held) = match pieces.recv().await {
        None => {
            let Some(packed) = packing.await?? else { return Ok(None) };
            let ours = store.checksum_of(&first);
            let held = store.put_text(&key, first).await.map_err(failed)?;
            (Packed { whole: Whole { checksum: ours, ..packed.whole }, ..packed }, held)
        }
        Some(second) => {
            let id = store.multipart_text(&key).await.map_err(failed)?;
            let (store, io) = (store.clone(), site.io.clone());
            let mut upload = Upload { store, key: key.clone(), id, io, is_complete: false };
            let Some(done) = parts(&mut upload, entry, [first, second], pieces, packing).await? else {
                return Ok(None);
            };
            done
        }
    };
    site.watch.sent(entry.size);
    site.watch.stored();
    let Packed { whole, plain_sha256 } = packed;
    let mut sent = sent(index, key, whole.sha256, whole.size, whole.checksum, held);
    sent.object.plain = Some(plain_sha256);
    Ok(Some(sent))
}

/// Sends the pieces of one file as parts; `None` when it is better sent as it is.
async fn parts(
    upload: &mut Upload,
    entry: &Entry,
    begun: [Bytes; 2],
    mut pieces: mpsc::Receiver<Bytes>,
    packing: JoinHandle<Result<Option<Packed>, UploadError>>,
) -> Result<Option<(Packed, Held)>, UploadError> {
    let failed = |error| UploadError::store(entry, error);
    let (store, at) = (&upload.store, (upload.key.as_str(), upload.id.as_str()));
    let tokens = send_parts(store, at, begun, &mut pieces).await.map_err(failed)?;
    let Some(packed) = packing.await?? else { return Ok(None) };
    let whole = &packed.whole;
    let Upload { store, key, id, .. } = &*upload;
    let held =
        store.complete(key, id, &tokens, whole.size, whole.checksum.as_deref()).await.map_err(failed)?;
    upload.is_complete = true;
    Ok(Some((packed, held)))
}

/// An upload in parts, given up when it is dropped before it is complete: nobody could go on with it.
struct Upload {
    store: Store,
    key: String,
    id: String,
    io: Handle,
    is_complete: bool,
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        let (store, key, id) = (self.store.clone(), self.key.clone(), self.id.clone());
        self.io.spawn(async move {
            if let Err(error) = store.abort(&key, &id).await {
                debug!(key, error = %chain(&error), "parts of a compressed log stay until the store's own rule ends them");
            }
        });
    }
}

/// A file that was compressed.
struct Packed {
    whole: Whole,
    plain_sha256: String,
}

/// Compresses a file, if it is text and becomes smaller. It must be, before and after, what the snapshot saw.
fn pack(
    dir: &Arc<JobDir>,
    snapshot: &Snapshot,
    index: usize,
    cutter: Cutter,
) -> Result<Option<Packed>, UploadError> {
    let Some(entry) = snapshot.entries.get(index) else { return Ok(None) };
    let mut file = dir.open_file(entry).map_err(|error| UploadError::open(entry, error))?;
    let failed = |error: io::Error| UploadError::Read(entry.path.to_string(), error);
    let (mut plain, mut left, mut buffer) = (Sha256::new(), entry.size, vec![0; CHUNK]);
    // Without a time in its head: the same file is the same object.
    let mut encoder = GzEncoder::new(cutter, Compression::new(LEVEL));
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        if left == entry.size && !is_text(chunk) {
            return Ok(None);
        }
        left = left.saturating_sub(count as u64);
        plain.update(chunk);
        encoder.write_all(chunk).map_err(failed)?;
        if encoder.get_ref().written() >= entry.size {
            return Ok(None);
        }
    }
    let whole = encoder.finish().and_then(Cutter::end).map_err(failed)?;
    if left != 0 || !dir.unchanged(&file, entry) {
        return Err(UploadError::Changed(format!("{} changed while it was read", entry.path)));
    }
    Ok((whole.size < entry.size).then(|| Packed { whole, plain_sha256: hex(&plain.finalize()) }))
}

/// Does a file begin as text does: UTF-8 without control codes but those of terminals and lines?
fn is_text(beginning: &[u8]) -> bool {
    let beginning = beginning.get(..BEGINNING).unwrap_or(beginning);
    let control = |byte: &u8| *byte < 0x20 && !b"\t\n\r\x08\x0b\x0c\x1b".contains(byte);
    let valid = match std::str::from_utf8(beginning) {
        Ok(_) => true,
        // A character that is cut off at the end is no fault.
        Err(error) => error.error_len().is_none(),
    };
    valid && !beginning.iter().any(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_what_is_none() {
        for text in ["log\nline\r\n\ttab", "grün", "\x1b[31mred\x1b[0m"] {
            assert!(is_text(text.as_bytes()), "{text:?}");
        }
        let cut = "ü".repeat(BEGINNING).into_bytes();
        assert!(is_text(&cut) && is_text(&cut[..BEGINNING + 1]) && is_text(&cut[..7]));
        for other in
            [&b"\x7fELF\x02\x01\x01\0"[..], b"PK\x03\x04", b"\x1f\x8b\x08", b"\xff\xfet\0e\0", b"\xc3\x28"]
        {
            assert!(!is_text(other), "{other:?}");
        }
    }
}
