//! Jobs and their attempts: begun, failed, void, stored, pruned, parked.

use super::notices::{self, Notice};
use super::rows::{AttemptRow, COLUMNS, JobRow, JobState, Raw, nanoseconds, seconds};
use super::{Books, FailureClass, LedgerError, Work, dwell};
use crate::lab::{Digest, Incarnation, RelPath};
use actix::Message;
use rusqlite::{OptionalExtension, params};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tracing::warn;
use uuid::Uuid;

/// Voids are counted over so long (SAFETY.md, step 7).
const VOID_WINDOW: Duration = Duration::from_secs(6 * 3600);
/// Pruned jobs are remembered for so long.
const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Writes down that a job is tried, before anything is done.
#[derive(Debug, Message)]
#[rtype(result = "Result<Opened, LedgerError>")]
#[allow(missing_docs)]
pub struct OpenAttempt {
    pub job: RelPath,
    pub incarnation: Incarnation,
    pub lane: String,
    pub attempt: Uuid,
}

/// What the ledger knows of the attempt that it has just written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The how-manieth attempt it is since the job was last stored or released.
    pub number: u32,
    /// So many attempts before it, in a row, ended with the death of their handler.
    pub crashed: u32,
}

impl Work for OpenAttempt {
    type Output = Opened;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Opened> {
        let (job, now) = (self.job.as_bytes(), nanoseconds(books.now));
        let cut = "UPDATE attempts SET ended = ?2,
            outcome = CASE boot WHEN ?3 THEN 'crashed' ELSE 'interrupted' END WHERE job = ?1 AND ended IS NULL";
        books.open.execute(cut, params![job, now, books.boot.as_bytes()])?;
        let known = read(books, &self.job)?.filter(|row| row.incarnation == self.incarnation);
        let fresh = || JobRow {
            first_seen: books.now,
            ..JobRow::new(self.job.clone(), self.incarnation.clone(), &self.lane)
        };
        let mut row = known.unwrap_or_else(fresh);
        row.attempts = row.attempts.saturating_add(1);
        row.lane.clone_from(&self.lane);
        row.state = JobState::Attempting;
        write(books, &row)?;
        let open = "INSERT INTO attempts (id, job, number, boot, started) VALUES (?1, ?2, ?3, ?4, ?5)";
        let (id, boot) = (self.attempt.as_bytes(), books.boot.as_bytes());
        books.open.execute(open, params![id, job, row.attempts, boot, now])?;
        let mut earlier = books.open.prepare_cached(
            "SELECT outcome FROM attempts WHERE job = ?1 AND ended IS NOT NULL ORDER BY started DESC LIMIT 10",
        )?;
        let outcomes = earlier.query_map([job], |row| row.get::<_, Option<String>>(0))?;
        let outcomes: Vec<Option<String>> = outcomes.collect::<Result<_, _>>()?;
        let crashed = outcomes.iter().take_while(|outcome| outcome.as_deref() == Some("crashed")).count();
        Ok(Opened { number: row.attempts, crashed: crashed as u32 })
    }
}

/// Ends an attempt as failed.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct FailAttempt {
    pub job: RelPath,
    pub attempt: Uuid,
    pub class: FailureClass,
    pub error: String,
    pub retry_at: SystemTime,
}

impl Work for FailAttempt {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        end(books, &self.job, &self.attempt, self.class.as_str(), Some(&self.error), |row| {
            row.state = JobState::Failed { retry_at: self.retry_at };
        })
    }
}

/// Ends an attempt because the job's files changed; answers with the voids of the last six hours.
#[derive(Debug, Message)]
#[rtype(result = "Result<u32, LedgerError>")]
#[allow(missing_docs)]
pub struct RecordVoid {
    pub job: RelPath,
    pub attempt: Uuid,
    pub what: String,
    pub retry_at: SystemTime,
}

impl Work for RecordVoid {
    type Output = u32;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<u32> {
        end(books, &self.job, &self.attempt, "void", Some(&self.what), |row| {
            row.state = JobState::Failed { retry_at: self.retry_at };
        })?;
        let since = nanoseconds(books.now).saturating_sub(VOID_WINDOW.as_nanos() as i64);
        let count = "SELECT count(*) FROM attempts WHERE job = ?1 AND outcome = 'void' AND ended >= ?2";
        books.open.query_row(count, params![self.job.as_bytes(), since], |row| row.get(0))
    }
}

/// Ends an attempt that was let go without a result, as when the process stops: no failure of the job.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct DropAttempt {
    pub job: RelPath,
    pub attempt: Uuid,
}

impl Work for DropAttempt {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        end(books, &self.job, &self.attempt, "interrupted", None, |row| {
            row.attempts = row.attempts.saturating_sub(1);
        })
    }
}

/// Ends an attempt as a success: the job's manifest stands in the store. Answers with how long it has stood
/// there already.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration, LedgerError>")]
#[allow(missing_docs)]
pub struct RecordPublished {
    pub job: RelPath,
    pub incarnation: Incarnation,
    pub lane: String,
    pub attempt: Uuid,
    pub prefix: String,
    pub manifest_sha256: Digest,
    pub published_at: SystemTime,
    /// Who is to be told, if this is news.
    pub notices: Vec<Notice>,
}

impl Work for RecordPublished {
    type Output = Duration;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Duration> {
        if dwell::begun(books, &self.job, &self.manifest_sha256)?.is_none() {
            notices::add(books, &self.notices)?;
        }
        let dwell = dwell::dwell(books, &self.job, &self.manifest_sha256)?;
        let state = JobState::Published {
            at: self.published_at.checked_sub(dwell).unwrap_or(self.published_at),
            prefix: self.prefix.clone(),
            manifest_sha256: self.manifest_sha256,
        };
        end(books, &self.job, &self.attempt, "published", None, |_| {})?;
        let known = read(books, &self.job)?.filter(|row| row.incarnation == self.incarnation);
        // A ledger that was begun anew meanwhile has no such attempt; the fact is true all the same.
        let fresh = || JobRow {
            first_seen: books.now,
            ..JobRow::new(self.job.clone(), self.incarnation.clone(), &self.lane)
        };
        write(books, &JobRow { state, attempts: 0, last_error: None, ..known.unwrap_or_else(fresh) })?;
        super::resume::clear(books, &self.job)?;
        Ok(dwell)
    }
}

/// Writes down that a job's directory was deleted.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct RecordPruned {
    pub job: RelPath,
    pub prefix: String,
}

impl Work for RecordPruned {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        dwell::forget(books, &self.job)?;
        let Some(row) = read(books, &self.job)? else { return Ok(()) };
        let state = JobState::Pruned { at: books.now, prefix: self.prefix.clone() };
        write(books, &JobRow { state, ..row })
    }
}

/// Parks a job for a person.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct Quarantine {
    pub job: RelPath,
    pub incarnation: Incarnation,
    pub lane: String,
    pub attempt: Uuid,
    pub reason: String,
}

impl Work for Quarantine {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        end(books, &self.job, &self.attempt, "quarantined", Some(&self.reason), |_| {})?;
        let fresh = || JobRow {
            first_seen: books.now,
            ..JobRow::new(self.job.clone(), self.incarnation.clone(), &self.lane)
        };
        let row =
            read(books, &self.job)?.filter(|row| row.incarnation == self.incarnation).unwrap_or_else(fresh);
        write(books, &JobRow { state: JobState::Quarantined { reason: self.reason.clone() }, ..row })
    }
}

/// Makes failed jobs due now, and releases quarantined ones; answers with how many.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, LedgerError>")]
pub struct RetryNow {
    /// These jobs, or all that failed.
    pub jobs: Option<Vec<RelPath>>,
    /// Quarantined jobs too.
    pub quarantined: bool,
}

impl Work for RetryNow {
    type Output = usize;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<usize> {
        let mut count = 0;
        for row in all(books, "state IN ('attempting', 'failed', 'quarantined')", 0)? {
            let named = self.jobs.as_ref().is_none_or(|jobs| jobs.contains(&row.job));
            let waits = match row.state {
                JobState::Quarantined { .. } => self.quarantined,
                _ => row.standing() == "failed",
            };
            if !named || !waits {
                continue;
            }
            count += 1;
            // What is being tried needs no word.
            if row.state != JobState::Attempting {
                let state = JobState::Failed { retry_at: books.now };
                write(books, &JobRow { state, attempts: 0, ..row })?;
            }
        }
        Ok(count)
    }
}

/// Forgets a quarantined job's row; its directory stays, and is found again by the next sweep.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LedgerError>")]
pub struct Forget(pub RelPath);

impl Work for Forget {
    type Output = bool;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<bool> {
        let row = read(books, &self.0)?;
        if !row.is_some_and(|row| matches!(row.state, JobState::Quarantined { .. })) {
            return Ok(false);
        }
        super::resume::clear(books, &self.0)?;
        books.open.execute("DELETE FROM attempts WHERE job = ?1", [self.0.as_bytes()])?;
        Ok(books.open.execute("DELETE FROM jobs WHERE job = ?1", [self.0.as_bytes()])? > 0)
    }
}

/// Asks for the jobs whose rows changed since a version; 0 asks for all that are on the disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<Changed, LedgerError>")]
pub struct Changes {
    /// The version up to which all is known.
    pub since: u64,
}

/// What changed.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Which ledger this is: another one knows nothing of what the first said.
    pub epoch: u64,
    /// The version up to which `rows` tells everything.
    pub version: u64,
    /// The jobs.
    pub rows: Vec<JobRow>,
    /// How long those that are published have stood in the store.
    pub dwells: HashMap<RelPath, Duration>,
}

impl Work for Changes {
    type Output = Changed;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Changed> {
        let meta = |key: &str| {
            books.open.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, i64>(0))
        };
        let (epoch, version) = (meta("epoch")?.unsigned_abs(), meta("version")?.unsigned_abs());
        let which = if self.since == 0 { "state <> 'pruned'" } else { "TRUE" };
        let rows = all(books, which, self.since as i64)?;
        let published = rows.iter().filter_map(|row| match &row.state {
            JobState::Published { manifest_sha256, .. } => Some((&row.job, manifest_sha256)),
            _ => None,
        });
        let dwells = dwell::dwells(books, published)?;
        Ok(Changed { epoch, version, rows, dwells })
    }
}

/// Asks for jobs, for people.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<JobRow>, LedgerError>")]
pub struct ListJobs;

impl Work for ListJobs {
    type Output = Vec<JobRow>;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Vec<JobRow>> {
        all(books, "TRUE", 0)
    }
}

/// Asks for one job and its attempts, oldest first.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<(JobRow, Vec<AttemptRow>)>, LedgerError>")]
pub struct History(pub RelPath);

impl Work for History {
    type Output = Option<(JobRow, Vec<AttemptRow>)>;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Self::Output> {
        let Some(row) = read(books, &self.0)? else { return Ok(None) };
        let mut attempts = books.open.prepare_cached(
            "SELECT number, started, ended, outcome, error FROM attempts WHERE job = ?1 ORDER BY started",
        )?;
        let attempts = attempts.query_map([self.0.as_bytes()], |row| {
            let (started, ended): (i64, Option<i64>) = (row.get(1)?, row.get(2)?);
            let (started, ended) = (seconds(started), ended.map(seconds));
            Ok(AttemptRow { number: row.get(0)?, started, ended, outcome: row.get(3)?, error: row.get(4)? })
        })?;
        Ok(Some((row, attempts.collect::<Result<_, _>>()?)))
    }
}

/// Lets old history go, and the clock of the dwells go on.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
pub struct Trim;

impl Work for Trim {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        dwell::tick(books)?;
        let before = nanoseconds(books.now).saturating_sub(HISTORY.as_nanos() as i64);
        let gone = "SELECT job FROM jobs WHERE state = 'pruned' AND at < ?1";
        books.open.execute(&format!("DELETE FROM attempts WHERE job IN ({gone})"), [before])?;
        books.open.execute("DELETE FROM jobs WHERE state = 'pruned' AND at < ?1", [before])?;
        let hour = nanoseconds(books.now).saturating_sub(3_600_000_000_000);
        books.open.execute("DELETE FROM deletions WHERE at < ?1", [hour]).map(drop)
    }
}

/// Ends an attempt and changes its job's row; an attempt that the ledger does not have open changes nothing.
fn end(
    books: &Books<'_>,
    job: &RelPath,
    attempt: &Uuid,
    outcome: &str,
    error: Option<&String>,
    change: impl FnOnce(&mut JobRow),
) -> rusqlite::Result<()> {
    let close = "UPDATE attempts SET ended = ?1, outcome = ?2, error = ?3
        WHERE id = ?4 AND job = ?5 AND ended IS NULL";
    let (now, id) = (nanoseconds(books.now), attempt.as_bytes());
    let closed = books.open.execute(close, params![now, outcome, error, id, job.as_bytes()])?;
    if closed == 0 {
        return Ok(());
    }
    let Some(mut row) = read(books, job)? else { return Ok(()) };
    if let Some(error) = error {
        row.last_error = Some(error.clone());
    }
    change(&mut row);
    write(books, &row)
}

fn read(books: &Books<'_>, job: &RelPath) -> rusqlite::Result<Option<JobRow>> {
    let select = format!("SELECT {COLUMNS} FROM jobs WHERE job = ?1");
    let raw = books.open.prepare_cached(&select)?.query_row([job.as_bytes()], Raw::read).optional()?;
    Ok(raw.and_then(believed))
}

fn all(books: &Books<'_>, which: &str, since: i64) -> rusqlite::Result<Vec<JobRow>> {
    let select = format!("SELECT {COLUMNS} FROM jobs WHERE version > ?1 AND {which} ORDER BY version");
    let mut rows = books.open.prepare_cached(&select)?;
    let raws: Vec<Option<Raw>> = rows.query_map([since], Raw::read)?.collect::<Result<_, _>>()?;
    Ok(raws.into_iter().filter_map(believed).collect())
}

/// A row whose sum is wrong says nothing.
fn believed(raw: Option<Raw>) -> Option<JobRow> {
    let row = raw.and_then(Raw::job);
    if row.is_none() {
        warn!("a row of the ledger is damaged: its job counts as unknown");
    }
    row
}

fn write(books: &Books<'_>, row: &JobRow) -> rusqlite::Result<()> {
    let raw = Raw::from(row);
    let insert = format!(
        "INSERT OR REPLACE INTO jobs ({COLUMNS}, version)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
    );
    let (sum, version) = (raw.sum(), books.next_version()?);
    let values = params![
        raw.job,
        raw.dev,
        raw.ino,
        raw.born,
        raw.lane,
        raw.state,
        raw.at,
        raw.text,
        raw.manifest,
        raw.attempts,
        raw.last_error,
        raw.first_seen,
        sum,
        version
    ];
    books.open.prepare_cached(&insert)?.execute(values).map(drop)
}
