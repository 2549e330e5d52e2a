//! Brings what routes send elsewhere to its place, and proves that it arrived.
//!
//! It comes after the manifest and before the ledger's word: a place that cannot be reached keeps the job on the
//! disk, and nothing of the job is uploaded again. What is there already, byte for byte, is delivered.

use crate::lab::{Entry, hex};
use crate::ledger::FailureClass;
use crate::manifest::{Manifest, ManifestEntry};
use crate::planner::plan::Plan;
use crate::routes::{Errand, RouteError};
use crate::shown::Shown;
use crate::store::{Created, Held, Store, StoreError};
use crate::tree::{JobDir, Snapshot};
use crate::uploader::cutter::{Cutter, Whole, send_parts};
use crate::uploader::transfer::UploadError;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// So many files of one name find a place.
const GENERATIONS: u32 = 9;
/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// Why a file is not where its route leads. Its job stays, whole.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DeliverError {
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("{0}")]
    Changed(String),
    #[error("cannot read what a route sends")]
    Read(#[source] UploadError),
    #[error("cannot deliver {0}")]
    Store(String, #[source] StoreError),
    #[error("{0} is taken, and so are all places before it: move them away, or change the route's `key`")]
    Taken(String),
    #[error("{0} reads back as something else")]
    ReadBack(String),
    #[error("{0} does not fit into one object of that store")]
    TooLarge(String),
    #[error("a reader died")]
    Died(#[from] tokio::task::JoinError),
}

impl DeliverError {
    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            DeliverError::Store(_, error) => error.class(),
            DeliverError::Read(error) => error.class(),
            DeliverError::Changed(_) => FailureClass::ChangedSource,
            DeliverError::ReadBack(_) => FailureClass::Checksum,
            DeliverError::Route(_) | DeliverError::Taken(_) => FailureClass::Precondition,
            DeliverError::TooLarge(_) => FailureClass::Io,
            DeliverError::Died(_) => FailureClass::Panic,
        }
    }
}

/// Delivers what of a proven job goes elsewhere, one file after the other.
///
/// # Errors
/// The first [`DeliverError`]; what was delivered until then stays there.
pub async fn deliver(plan: &Plan, manifest: &Manifest) -> Result<(), DeliverError> {
    let site = &plan.attempt.lane.site;
    if site.routes.is_empty() {
        return Ok(());
    }
    for errand in site.routes.errands(&plan.dir, &plan.snapshot)? {
        let place = format!("{}/{}", errand.route.store.name(), errand.key);
        let Some(file) = plan.snapshot.entries.get(errand.index) else { continue };
        let listed = manifest.entries.iter().find(|entry| entry.path().is_ok_and(|path| path == file.path));
        // What instructions keep from the store goes nowhere else either.
        let Some(sha256) = listed.and_then(ManifestEntry::sha256) else { continue };
        let failed = |error| DeliverError::Store(place, error);
        errand.route.store.ready("").await.map_err(failed)?;
        beside(plan, errand, sha256).await?;
    }
    Ok(())
}

/// Brings one file to its place, or beside what else stands there: nothing is ever overwritten.
async fn beside(plan: &Plan, mut errand: Errand<'_>, sha256: &str) -> Result<(), DeliverError> {
    let (wanted, mut place, job) = (errand.key.clone(), String::new(), plan.attempt.job());
    for generation in 1..=GENERATIONS {
        errand.key = numbered(&wanted, generation);
        place = format!("{}/{}", errand.route.store.name(), errand.key);
        match bring(plan, &errand, sha256, &place).await? {
            Brought::New if generation > 1 => {
                warn!(%job, to = %Shown::text(&place), taken = %Shown::text(&wanted), "routed beside what stands there");
                let taken = format!("{}/{wanted}", errand.route.store.name());
                plan.attempt.lane.site.collisions.note(job, &taken);
            }
            Brought::New => info!(%job, to = %Shown::text(&place), "routed"),
            Brought::Taken => continue,
            Brought::Before => {}
        }
        return Ok(());
    }
    Err(DeliverError::Taken(place))
}

/// The key for the `generation`-th file of that name: `a/b~2/c` beside `a/b/c`.
fn numbered(key: &str, generation: u32) -> String {
    match (generation, key.rsplit_once('/')) {
        (..=1, _) => key.to_owned(),
        (_, Some((dir, file))) => format!("{dir}~{generation}/{file}"),
        (_, None) => format!("{key}~{generation}"),
    }
}

/// What became of a file at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    New,
    Before,
    Taken,
}

/// Brings one file to one place, unless something stands there.
async fn bring(plan: &Plan, errand: &Errand<'_>, sha256: &str, place: &str) -> Result<Brought, DeliverError> {
    let store = &errand.route.store;
    let size = plan.snapshot.entries.get(errand.index).map_or(0, |entry| entry.size);
    // Compressing what cannot be compressed adds some bytes.
    let part_size = store.part_size_for(size + size / 100).unwrap_or(store.single_put());
    let room = usize::try_from(part_size).unwrap_or(usize::MAX).saturating_mul(2);
    let _room = plan.attempt.lane.site.memory.room(room).await;
    let mut pieces = Pieces::of(plan, errand, part_size);
    let first = pieces.next().await.unwrap_or_default();
    let failed = |error| DeliverError::Store(place.to_owned(), error);
    let Some(second) = pieces.next().await else {
        let whole = pieces.end(sha256).await?;
        let there = store.head(&errand.key).await.map_err(failed)?;
        return match store.create(&errand.key, first).await.map_err(failed)? {
            Created::Made(held) => {
                prove(store, &errand.key, &held, &whole, place).await?;
                Ok(if there.is_none() { Brought::New } else { Brought::Before })
            }
            Created::Exists(..) => Ok(Brought::Taken),
        };
    };
    if store.part_size_for(size).is_none() {
        return Err(DeliverError::TooLarge(place.to_owned()));
    }
    if store.head(&errand.key).await.map_err(failed)?.is_some() {
        drop((first, second));
        while pieces.next().await.is_some() {}
        let whole = pieces.end(sha256).await?;
        let there = store.read_back(&errand.key).await.map_err(failed)?;
        let same =
            there.is_some_and(|(digest, size)| (digest.to_string(), size) == (whole.sha256, whole.size));
        return Ok(if same { Brought::Before } else { Brought::Taken });
    }
    let id = store.multipart(&errand.key).await.map_err(failed)?;
    let held = match parts(store, errand, &id, [first, second], pieces, sha256, place).await {
        Ok(sent) => sent,
        Err(error) => {
            let _ = store.abort(&errand.key, &id).await;
            return Err(error);
        }
    };
    prove(store, &errand.key, &held.0, &held.1, place).await?;
    Ok(Brought::New)
}

async fn parts(
    store: &Store,
    errand: &Errand<'_>,
    id: &str,
    begun: [Bytes; 2],
    mut pieces: Pieces,
    sha256: &str,
    place: &str,
) -> Result<(Held, Whole), DeliverError> {
    let failed = |error| DeliverError::Store(place.to_owned(), error);
    let sent = send_parts(store, (&errand.key, id), begun, &mut pieces.take).await;
    let tokens = sent.map_err(failed)?;
    let whole = pieces.end(sha256).await?;
    let held = store.complete(&errand.key, id, &tokens, whole.size, whole.checksum.as_deref()).await;
    Ok((held.map_err(failed)?, whole))
}

/// The store's own checksum is ours, or its bytes are.
async fn prove(
    store: &Store,
    key: &str,
    held: &Held,
    whole: &Whole,
    place: &str,
) -> Result<(), DeliverError> {
    let theirs = held.checksum.as_ref().map(|checksum| format!("{}={}", checksum.name, checksum.value));
    if held.size == whole.size && whole.checksum.is_some() && theirs == whole.checksum {
        return Ok(());
    }
    let there = store.read_back(key).await.map_err(|error| DeliverError::Store(place.to_owned(), error))?;
    match there {
        Some((digest, size)) if digest.to_string() == whole.sha256 && size == whole.size => Ok(()),
        _ => Err(DeliverError::ReadBack(place.to_owned())),
    }
}

/// An object as it is sent, in pieces of one part each.
struct Pieces {
    take: mpsc::Receiver<Bytes>,
    reader: JoinHandle<Result<(String, Whole), DeliverError>>,
}

impl Pieces {
    /// Reads a file, and compresses it if its route does.
    fn of(plan: &Plan, errand: &Errand<'_>, part_size: u64) -> Self {
        let (give, take) = mpsc::channel(1);
        let (dir, snapshot, index) = (plan.dir.clone(), plan.snapshot.clone(), errand.index);
        let (gzip, checker) = (errand.route.gzip, errand.route.store.checker());
        let size = usize::try_from(part_size).unwrap_or(usize::MAX);
        let cutter = Cutter::new(size, checker, give);
        let reader = tokio::task::spawn_blocking(move || read(&dir, &snapshot, index, gzip, cutter));
        Pieces { take, reader }
    }

    async fn next(&mut self) -> Option<Bytes> {
        self.take.recv().await
    }

    /// The end: what was read must be the file that the manifest speaks of.
    async fn end(self, sha256: &str) -> Result<Whole, DeliverError> {
        drop(self.take);
        let (read, whole) = self.reader.await??;
        match read == sha256 {
            true => Ok(whole),
            false => Err(DeliverError::Changed("a file that a route sends changed".into())),
        }
    }
}

fn read(
    dir: &Arc<JobDir>,
    snapshot: &Snapshot,
    index: usize,
    gzip: bool,
    cutter: Cutter,
) -> Result<(String, Whole), DeliverError> {
    let Some(entry) = snapshot.entries.get(index) else {
        return Err(DeliverError::Changed("a file that a route sends is gone".into()));
    };
    if gzip {
        // Without a time in its head: the same file is the same object.
        let mut encoder = GzEncoder::new(cutter, Compression::default());
        let sha256 = copy(dir, entry, &mut encoder)?;
        Ok((sha256, encoder.finish().and_then(Cutter::end).map_err(|error| unread(entry, error))?))
    } else {
        let mut cutter = cutter;
        let sha256 = copy(dir, entry, &mut cutter)?;
        Ok((sha256, cutter.end().map_err(|error| unread(entry, error))?))
    }
}

/// Reads a file to its end; it must be, before and after, what the snapshot saw. Answers with its SHA-256.
fn copy(dir: &JobDir, entry: &Entry, to: &mut impl Write) -> Result<String, DeliverError> {
    let mut file = dir.open_file(entry).map_err(|error| match UploadError::open(entry, error) {
        UploadError::Changed(what) => DeliverError::Changed(what),
        error => DeliverError::Read(error),
    })?;
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let count = file.read(&mut buffer).map_err(|error| unread(entry, error))?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        sha256.update(chunk);
        to.write_all(chunk).map_err(|error| unread(entry, error))?;
    }
    match dir.unchanged(&file, entry) {
        true => Ok(hex(&sha256.finalize())),
        false => Err(DeliverError::Changed(format!("{} changed while it was read", entry.path))),
    }
}

fn unread(entry: &Entry, error: io::Error) -> DeliverError {
    DeliverError::Read(UploadError::Read(entry.path.to_string(), error))
}
