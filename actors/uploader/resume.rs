//! What an earlier attempt left in the store, so that a restart goes on where it was: at the object, at
//! the part.
//!
//! The ledger notes each object that the store proved, and each part. A note counts only while the file
//! is the one that was sent and the store still shows the very object; without notes everything is sent
//! again, over the same keys.

use super::buffers::Buffers;
use super::transfer::Sent;
use crate::lab::{Entry, Kind, RelPath};
use crate::lane::Lane;
use crate::ledger::{ForgetUpload, ObjectRow, PartRow, SaveObjects, SaveParts, SaveUpload, UploadRow};
use crate::manifest::Object;
use crate::planner::plan::Plan;
use crate::planner::stored::Source;
use crate::tree::Snapshot;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Notes are written together, at most so often.
const TOGETHER: Duration = Duration::from_secs(1);

/// A multipart upload that is under way.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The store's name for it.
    pub id: String,
    /// Size of every part but the last, in bytes.
    pub part_size: u64,
    /// The tokens of the parts that the store already has, by number.
    pub parts: HashMap<u32, String>,
}

/// A part that the store has.
#[derive(Clone, Debug)]
pub struct PartNote {
    /// Its number, from 0.
    pub number: u32,
    /// What the store called it.
    pub token: String,
}

/// The notes of one attempt. Clones share them.
#[derive(Clone)]
pub struct Notes(Arc<Inner>);

struct Inner {
    lane: Arc<Lane>,
    job: RelPath,
    attempt: Uuid,
    snapshot: Arc<Snapshot>,
    uploads: HashMap<RelPath, UploadRow>,
    objects: Mutex<Pending<ObjectRow>>,
    parts: Mutex<HashMap<RelPath, Pending<PartRow>>>,
    buffers: Buffers,
}

struct Pending<T> {
    rows: Vec<T>,
    since: Instant,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Pending { rows: Vec::new(), since: Instant::now() }
    }
}

impl<T> Pending<T> {
    /// Takes rows in; gives them out when they have waited long enough.
    fn add(&mut self, rows: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
        self.rows.extend(rows);
        (self.since.elapsed() >= TOGETHER && !self.rows.is_empty()).then(|| std::mem::take(self).rows)
    }
}

impl Notes {
    /// The notes of a plan's attempt, with what an earlier one left.
    pub fn of(plan: &Plan) -> Self {
        let uploads =
            plan.resumed.uploads.iter().map(|upload| (upload.path.clone(), upload.clone())).collect();
        Notes(Arc::new(Inner {
            lane: plan.attempt.lane.clone(),
            job: plan.attempt.job().clone(),
            attempt: plan.attempt.id,
            snapshot: plan.snapshot.clone(),
            uploads,
            objects: Mutex::default(),
            parts: Mutex::default(),
            buffers: plan.attempt.lane.site.buffers.clone(),
        }))
    }

    /// The files that need not be sent: proven by an earlier manifest, taken over, or noted and still in the store.
    pub async fn already(&self, plan: &Plan) -> Vec<Sent> {
        let rows: HashMap<&RelPath, &ObjectRow> =
            plan.resumed.objects.iter().map(|row| (&row.path, row)).collect();
        let mut already = Vec::new();
        for (index, entry) in plan.snapshot.entries.iter().enumerate() {
            let proven = plan.claimed.inherited.get(&entry.path);
            let object = match (plan.source(entry), proven) {
                (Source::File | Source::Text(_), Some(object)) => Some(object.clone()),
                (Source::File, None) => rows.get(&entry.path).and_then(|row| noted(plan, entry, row)),
                _ => None,
            };
            if let Some(object) = object {
                if entry.kind == Kind::File {
                    plan.attempt.lane.site.watch.sent(entry.size);
                    plan.attempt.lane.site.watch.stored();
                }
                already.push(Sent::standing(index, &object, entry.size));
            }
        }
        already
    }

    /// Notes objects that the store proved.
    pub async fn keep(&self, sent: &[Sent]) {
        let file = |entry: &&Entry| entry.kind == Kind::File;
        let row = |sent: &Sent| Some(row(self.0.snapshot.entries.get(sent.index).filter(file)?, sent));
        let rows = sent.iter().filter(|sent| sent.proven && sent.object.plain.is_none()).filter_map(row);
        let together = self.0.objects.lock().unwrap_or_else(PoisonError::into_inner).add(rows);
        if let Some(rows) = together {
            let (job, attempt) = (self.0.job.clone(), self.0.attempt);
            let _ = self.0.lane.site.ledger(SaveObjects { job, attempt, rows }).await;
        }
    }

    /// The upload of this very file that an earlier attempt began, if it can be gone on with.
    pub fn upload(&self, entry: &Entry, key: &str, part_size: u64) -> Option<Upload> {
        let row = self.0.uploads.get(&entry.path)?;
        let same = row.key == key
            && row.part_size == part_size
            && (row.size, row.mtime_ns, row.ctime_ns, row.ino)
                == (entry.size, entry.mtime_ns, entry.ctime_ns, entry.ino);
        let parts = row.parts.iter().map(|part| (part.number, part.token.clone())).collect();
        (same && self.0.lane.site.store.can_resume()).then(|| Upload {
            id: row.upload_id.clone(),
            part_size,
            parts,
        })
    }

    /// Notes that an upload was begun; without the note it could not be cleaned up either.
    pub async fn opened(&self, entry: &Entry, key: &str, upload: &Upload) {
        let row = UploadRow {
            path: entry.path.clone(),
            key: key.to_owned(),
            upload_id: upload.id.clone(),
            part_size: upload.part_size,
            size: entry.size,
            mtime_ns: entry.mtime_ns,
            ctime_ns: entry.ctime_ns,
            ino: entry.ino,
            parts: Vec::new(),
        };
        let (job, attempt) = (self.0.job.clone(), self.0.attempt);
        let _ = self.0.lane.site.ledger(SaveUpload { job, attempt, upload: row }).await;
    }

    /// Notes a part that the store has.
    pub async fn part(&self, entry: &Entry, part: PartNote) {
        let row = PartRow { number: part.number, token: part.token };
        let together = {
            let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.entry(entry.path.clone()).or_default().add([row])
        };
        if let Some(parts) = together {
            let (job, attempt, path) = (self.0.job.clone(), self.0.attempt, entry.path.clone());
            let _ = self.0.lane.site.ledger(SaveParts { job, attempt, path, parts }).await;
        }
    }

    /// An upload ended, well or not: there is nothing to go on with.
    pub async fn closed(&self, entry: &Entry, upload: &Upload) {
        let (job, path, upload_id) = (self.0.job.clone(), entry.path.clone(), upload.id.clone());
        let _ = self.0.lane.site.ledger(ForgetUpload { job, path, upload_id }).await;
    }

    /// Buffers that all files of the site share.
    pub fn buffers(&self) -> Buffers {
        self.0.buffers.clone()
    }
}

/// A noted object counts while its file is unchanged and the store shows the very same write.
fn noted(plan: &Plan, entry: &Entry, row: &ObjectRow) -> Option<Object> {
    let same = (row.size, row.mtime_ns, row.ctime_ns, row.ino)
        == (entry.size, entry.mtime_ns, entry.ctime_ns, entry.ino);
    let held = plan.claimed.standing.get(&row.key)?;
    let there = held.size == row.size && held.etag.is_some() && held.etag == row.etag;
    let object = Object {
        key: row.key.clone(),
        sha256: row.sha256.clone(),
        size: None,
        plain: None,
        etag: row.etag.clone(),
        version: row.version.clone(),
        proof: row.proof.clone(),
    };
    (same && there && row.key == plan.key(entry)).then_some(object)
}

fn row(entry: &Entry, sent: &Sent) -> ObjectRow {
    ObjectRow {
        path: entry.path.clone(),
        key: sent.object.key.clone(),
        size: entry.size,
        mtime_ns: entry.mtime_ns,
        ctime_ns: entry.ctime_ns,
        ino: entry.ino,
        sha256: sent.object.sha256.clone(),
        etag: sent.object.etag.clone(),
        version: sent.object.version.clone(),
        proof: sent.object.proof.clone(),
    }
}
