//! What the ledger's rows say, and the sum that a row must have to be believed.

use crate::lab::{Digest, Incarnation, RelPath};
use rusqlite::Row;
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is known of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    /// Its directory below the results root.
    pub job: RelPath,
    /// Which directory of that name.
    pub incarnation: Incarnation,
    /// The lane that it goes through.
    pub lane: String,
    /// Where it stands.
    pub state: JobState,
    /// Attempts since it was last stored, released or tried by hand.
    pub attempts: u32,
    /// The last error that an attempt met.
    pub last_error: Option<String>,
    /// When its first attempt began.
    pub first_seen: SystemTime,
}

impl JobRow {
    /// A job of which nothing is known but that it is being tried.
    pub fn new(job: RelPath, incarnation: Incarnation, lane: &str) -> Self {
        let (lane, state, first_seen) = (lane.to_owned(), JobState::Attempting, UNIX_EPOCH);
        JobRow { job, incarnation, lane, state, attempts: 0, last_error: None, first_seen }
    }

    /// How people are told of it: a job that failed is a failed one until it succeeds, also while it is tried again.
    pub fn standing(&self) -> &'static str {
        match (&self.state, &self.last_error) {
            (JobState::Attempting, Some(_)) => "failed",
            (state, _) => state.name(),
        }
    }
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq)]
pub enum JobState {
    /// An attempt was begun.
    Attempting,
    /// The last attempt failed.
    Failed {
        /// When the next may begin.
        retry_at: SystemTime,
    },
    /// Its manifest stands in the store.
    Published {
        /// Since when.
        at: SystemTime,
        /// Where its objects are.
        prefix: String,
        /// SHA-256 of the manifest's bytes.
        manifest_sha256: Digest,
    },
    /// It waits for a person.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// Its directory was deleted from the drone.
    Pruned {
        /// When.
        at: SystemTime,
        /// Where its objects are.
        prefix: String,
    },
}

impl JobState {
    /// The state's name, as it is written down.
    pub fn name(&self) -> &'static str {
        match self {
            JobState::Attempting => "attempting",
            JobState::Failed { .. } => "failed",
            JobState::Published { .. } => "published",
            JobState::Quarantined { .. } => "quarantined",
            JobState::Pruned { .. } => "pruned",
        }
    }
}

/// One attempt at a job, as the history tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptRow {
    /// The how-manieth.
    pub number: u32,
    /// When it began, in seconds since 1970.
    pub started: i64,
    /// When it ended.
    pub ended: Option<i64>,
    /// How it ended; `None` while it is under way.
    pub outcome: Option<String>,
    /// The error that was captured.
    pub error: Option<String>,
}

/// An object that the store proved before its job was whole.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct ObjectRow {
    pub path: RelPath,
    pub key: String,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub ino: u64,
    pub sha256: String,
    pub etag: Option<String>,
    pub version: Option<String>,
    pub proof: String,
}

/// A multipart upload that was begun.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct UploadRow {
    pub path: RelPath,
    pub key: String,
    pub upload_id: String,
    pub part_size: u64,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub ino: u64,
    pub parts: Vec<PartRow>,
}

/// A part that the store has.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct PartRow {
    pub number: u32,
    pub token: String,
}

/// Why pruning, a lane or all lanes are held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PauseRow {
    /// The lane, or `None` for all.
    pub lane: Option<String>,
    /// Until when, in seconds since 1970; `None`: until a person resumes it.
    pub until: Option<i64>,
    /// Why.
    pub reason: String,
}

/// What a job's row holds, as it is written and summed.
#[allow(missing_docs)]
pub struct Raw {
    pub job: Vec<u8>,
    pub dev: i64,
    pub ino: i64,
    pub born: i64,
    pub lane: String,
    pub state: String,
    pub at: i64,
    pub text: String,
    pub manifest: Vec<u8>,
    pub attempts: i64,
    pub last_error: Option<String>,
    pub first_seen: i64,
}

/// The columns of [`Raw`], in order, and the sum after them.
pub const COLUMNS: &str =
    "job, dev, ino, born, lane, state, at, text, manifest, attempts, last_error, first_seen, sum";

impl Raw {
    /// Reads a row in the order of [`COLUMNS`]; `None` when its sum is not that of its content, or a column
    /// holds what its type cannot.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Option<Raw>> {
        match Self::decode(row) {
            Err(error) if error.sqlite_error().is_none() => Ok(None),
            decoded => decoded,
        }
    }

    fn decode(row: &Row<'_>) -> rusqlite::Result<Option<Raw>> {
        let raw = Raw {
            job: row.get(0)?,
            dev: row.get(1)?,
            ino: row.get(2)?,
            born: row.get(3)?,
            lane: row.get(4)?,
            state: row.get(5)?,
            at: row.get(6)?,
            text: row.get(7)?,
            manifest: row.get(8)?,
            attempts: row.get(9)?,
            last_error: row.get(10)?,
            first_seen: row.get(11)?,
        };
        let sum: i64 = row.get(12)?;
        Ok((sum == raw.sum()).then_some(raw))
    }

    /// CRC32C over every column, each with its length, so that nothing can move between two of them.
    pub fn sum(&self) -> i64 {
        let numbers = [self.dev, self.ino, self.born, self.at, self.attempts, self.first_seen];
        let error = self.last_error.as_deref().unwrap_or("\0");
        let texts: [&[u8]; 6] = [
            &self.job,
            self.lane.as_bytes(),
            self.state.as_bytes(),
            self.text.as_bytes(),
            &self.manifest,
            error.as_bytes(),
        ];
        let mut sum = 0;
        for number in numbers {
            sum = crc32c::crc32c_append(sum, &number.to_le_bytes());
        }
        for text in texts {
            sum = crc32c::crc32c_append(sum, &(text.len() as u64).to_le_bytes());
            sum = crc32c::crc32c_append(sum, text);
        }
        sum.into()
    }

    /// A row as others see it; `None` when it says something that this version does not know.
    pub fn job(self) -> Option<JobRow> {
        let at = time(self.at);
        let state = match self.state.as_str() {
            "attempting" => JobState::Attempting,
            "failed" => JobState::Failed { retry_at: at },
            "published" => {
                let manifest_sha256 = Digest(self.manifest.try_into().ok()?);
                JobState::Published { at, prefix: self.text, manifest_sha256 }
            }
            "quarantined" => JobState::Quarantined { reason: self.text },
            "pruned" => JobState::Pruned { at, prefix: self.text },
            _ => return None,
        };
        Some(JobRow {
            job: RelPath::new(self.job).ok()?,
            incarnation: Incarnation { dev: self.dev as u64, ino: self.ino as u64, born_ns: self.born },
            lane: self.lane,
            state,
            attempts: self.attempts.try_into().ok()?,
            last_error: self.last_error,
            first_seen: time(self.first_seen),
        })
    }
}

impl From<&JobRow> for Raw {
    fn from(row: &JobRow) -> Self {
        let (at, text, manifest) = match &row.state {
            JobState::Attempting => (0, String::new(), Vec::new()),
            JobState::Failed { retry_at } => (nanoseconds(*retry_at), String::new(), Vec::new()),
            JobState::Published { at, prefix, manifest_sha256 } => {
                (nanoseconds(*at), prefix.clone(), manifest_sha256.0.to_vec())
            }
            JobState::Quarantined { reason } => (0, reason.clone(), Vec::new()),
            JobState::Pruned { at, prefix } => (nanoseconds(*at), prefix.clone(), Vec::new()),
        };
        Raw {
            job: row.job.as_bytes().to_vec(),
            dev: row.incarnation.dev as i64,
            ino: row.incarnation.ino as i64,
            born: row.incarnation.born_ns,
            lane: row.lane.clone(),
            state: row.state.name().to_owned(),
            at,
            text,
            manifest,
            attempts: row.attempts.into(),
            last_error: row.last_error.clone(),
            first_seen: nanoseconds(row.first_seen),
        }
    }
}

/// Nanoseconds since 1970; what lies outside of what can be told is moved to the nearest end.
pub fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The time of so many nanoseconds since 1970.
pub fn time(nanoseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds.max(0).unsigned_abs())
}

/// Seconds since 1970, for people.
pub fn seconds(nanoseconds: i64) -> i64 {
    nanoseconds / 1_000_000_000
}
