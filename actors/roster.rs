//! The jobs and hosts that the hub gave this drone, and what became of them.
//!
//! ```text
//! heartbeat --(what the hub says)--> roster <--(start, complete)-- programs that run the jobs
//! ```
//!
//! The hub's word is the truth of what is ordered, the drone's of what was done: a record that is here keeps its
//! local fields, whatever the hub sends (reference B2.9). The file is rebuilt from the next heartbeats; a finished
//! job that the hub has not acknowledged is written to a journal of its own first, and outlives the file.

pub mod apply;
pub mod journal;
pub mod local;
pub mod packet;

pub use local::{JobView, LocalError};

use crate::hub::records::{Record, parsed, truth};
use crate::ledger::LedgerError;
use crate::ledger::keeper::Keeper;
use crate::ledger::schema::Schema;
use journal::Journal;
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

static SCHEMA: Schema = Schema {
    name: "roster",
    source: "the next heartbeats and the journal of finished jobs",
    steps: &["
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY, created_on TEXT NOT NULL, open INTEGER NOT NULL, report INTEGER NOT NULL,
        version INTEGER NOT NULL, finished_at INTEGER, record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX jobs_open ON jobs (id) WHERE open = 1;
    CREATE INDEX jobs_to_report ON jobs (id) WHERE report = 1;
    CREATE TABLE hosts (
        id INTEGER PRIMARY KEY, hostname TEXT NOT NULL, status TEXT NOT NULL, invalid INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE keyvals (job_id INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (job_id, name)) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE aside (kind TEXT NOT NULL, id INTEGER NOT NULL, at INTEGER NOT NULL, why TEXT NOT NULL,
        PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID;
    "],
};

/// The roster. One per process; every use may block on the disk.
pub struct Roster {
    keeper: Mutex<Keeper>,
    journal: Journal,
    /// The journal was read into the file that is kept now.
    restored: AtomicBool,
}

/// A record that could not be taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// `job`, `host` or `keyval`.
    pub kind: String,
    /// Its number.
    pub id: i64,
    /// Why.
    pub why: String,
}

/// One job as it is kept.
struct Row {
    id: i64,
    created_on: String,
    open: bool,
    report: bool,
    version: i64,
    record: Record,
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").finish_non_exhaustive()
    }
}

impl Roster {
    /// Keeps `roster.sqlite` and the directory `reports` below `dir`; they are opened at their first use.
    pub fn new(dir: &Path) -> Self {
        Roster {
            keeper: Mutex::new(Keeper::new(dir.join("roster.sqlite"), &SCHEMA)),
            journal: Journal::new(dir.join("reports")),
            restored: AtomicBool::new(false),
        }
    }

    /// Does some work in one transaction, on a file that holds what the journal holds.
    fn with<T>(&self, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh =
            keeper.with(|tx| tx.query_row("SELECT NOT EXISTS (SELECT 1 FROM jobs)", [], |row| row.get(0)))?;
        if fresh || !self.restored.load(Relaxed) {
            let kept = self.journal.read().map_err(|error| LedgerError::Io(error.to_string()))?;
            keeper.with(|tx| kept.iter().try_for_each(|record| restore(tx, record)))?;
            self.restored.store(true, Relaxed);
        }
        keeper.with(work)
    }

    /// Records that could not be taken, the newest first.
    ///
    /// # Errors
    /// The file's.
    pub fn aside(&self) -> Result<Vec<Aside>, LedgerError> {
        self.with(|tx| {
            let mut select =
                tx.prepare_cached("SELECT kind, id, why FROM aside ORDER BY at DESC LIMIT 100")?;
            let rows = select
                .query_map([], |row| Ok(Aside { kind: row.get(0)?, id: row.get(1)?, why: row.get(2)? }))?;
            rows.collect()
        })
    }
}

/// A finished job that the file forgot and the journal kept.
fn restore(tx: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    let Some(id) = record.get("id").and_then(Value::as_i64) else { return Ok(()) };
    match read(tx, id)? {
        Some(row) if !row.open => Ok(()),
        _ => {
            let created_on = record.get("created_on").and_then(Value::as_str).unwrap_or_default().to_owned();
            let row = Row { id, created_on, open: false, report: true, version: 1, record: record.clone() };
            write(tx, &row)
        }
    }
}

fn read(tx: &Transaction<'_>, id: i64) -> rusqlite::Result<Option<Row>> {
    let mut select =
        tx.prepare_cached("SELECT id, created_on, open, report, version, record FROM jobs WHERE id = ?1")?;
    select.query_row([id], row_of).optional()
}

fn row_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        created_on: row.get(1)?,
        open: row.get(2)?,
        report: row.get(3)?,
        version: row.get(4)?,
        record: parsed(&row.get::<_, String>(5)?),
    })
}

fn write(tx: &Transaction<'_>, row: &Row) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO jobs (id, created_on, open, report, version, finished_at, record)
                  VALUES (?1, ?2, ?3, ?4, ?5, CASE WHEN ?3 THEN NULL ELSE unixepoch() END, ?6)";
    let record = Value::Object(row.record.clone()).to_string();
    let values = params![row.id, row.created_on, row.open, row.report, row.version, record];
    tx.prepare_cached(insert)?.execute(values).map(drop)
}

/// Notes that a record could not be taken.
fn set_aside(tx: &Transaction<'_>, kind: &str, id: i64, why: &str) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO aside (kind, id, at, why) VALUES (?1, ?2, unixepoch(), ?3)";
    tx.prepare_cached(insert)?.execute(params![kind, id, why])?;
    // A hub that sends nothing but nonsense does not fill the disk.
    let old =
        "DELETE FROM aside WHERE (kind, id) NOT IN (SELECT kind, id FROM aside ORDER BY at DESC LIMIT 1000)";
    tx.prepare_cached(old)?.execute([]).map(drop)
}

/// The entries of a job.
fn entries(record: &Record) -> Vec<Record> {
    let all = record.get("hostqueueentry_set").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|entry| entry.as_object().cloned()).collect()
}

/// Has a job an entry that is not over?
fn is_open(record: &Record) -> bool {
    entries(record).iter().any(|entry| !truth(entry, "complete"))
}
