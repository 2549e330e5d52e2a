//! What people have said, and what only people may undo: pauses, and the stop of all pruning.

use super::rows::{PauseRow, nanoseconds, seconds};
use super::{Books, LedgerError, Work};
use actix::Message;
use rusqlite::{OptionalExtension, params};
use std::time::SystemTime;

/// The name under which the stop of all pruning is kept; no lane can have it.
const PRUNING: &str = "/pruning";

/// Holds a lane, or all: nothing new is begun. Survives a restart.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct Pause {
    pub lane: Option<String>,
    pub until: Option<SystemTime>,
    pub reason: String,
}

impl Work for Pause {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        let (lane, until) = (self.lane.as_deref().unwrap_or(""), self.until.map(nanoseconds));
        let hold = "INSERT OR REPLACE INTO pauses VALUES (?1, ?2, ?3)";
        books.open.execute(hold, params![lane, until, self.reason]).map(drop)
    }
}

/// Lets a lane, or all, go on. Answers whether it was held.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LedgerError>")]
#[allow(missing_docs)]
pub struct Unpause {
    pub lane: Option<String>,
}

impl Work for Unpause {
    type Output = bool;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<bool> {
        let lane = self.lane.as_deref();
        let free = "DELETE FROM pauses WHERE lane <> ?2 AND (?1 IS NULL OR lane = ?1)";
        Ok(books.open.execute(free, params![lane, PRUNING])? > 0)
    }
}

/// Asks what is held now.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<PauseRow>, LedgerError>")]
pub struct Pauses;

impl Work for Pauses {
    type Output = Vec<PauseRow>;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Vec<PauseRow>> {
        let select =
            "SELECT lane, until, reason FROM pauses WHERE lane <> ?2 AND (until IS NULL OR until > ?1)";
        let mut pauses = books.open.prepare_cached(select)?;
        let pauses = pauses.query_map(params![nanoseconds(books.now), PRUNING], |row| {
            let (lane, until): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
            let lane = Some(lane).filter(|lane| !lane.is_empty());
            Ok(PauseRow { lane, until: until.map(seconds), reason: row.get(2)? })
        })?;
        pauses.collect()
    }
}

/// Stops all pruning until a person releases it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct HoldPruning {
    pub reason: String,
}

impl Work for HoldPruning {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        let hold = "INSERT OR REPLACE INTO pauses VALUES (?1, NULL, ?2)";
        books.open.execute(hold, params![PRUNING, self.reason]).map(drop)
    }
}

/// Lets pruning go on, with a fresh hour. Answers whether it was held.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LedgerError>")]
pub struct ReleasePruning;

impl Work for ReleasePruning {
    type Output = bool;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<bool> {
        let held = books.open.execute("DELETE FROM pauses WHERE lane = ?1", [PRUNING])? > 0;
        if held {
            books.open.execute("DELETE FROM deletions", [])?;
        }
        Ok(held)
    }
}

/// Asks why pruning is held, if it is.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<String>, LedgerError>")]
pub struct PruningHeld;

impl Work for PruningHeld {
    type Output = Option<String>;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Option<String>> {
        let why = "SELECT reason FROM pauses WHERE lane = ?1";
        books.open.query_row(why, [PRUNING], |row| row.get(0)).optional()
    }
}

/// Counts a deletion before it is done; answers with the deletions of the last hour, this one included.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, LedgerError>")]
pub struct CountDeletion;

impl Work for CountDeletion {
    type Output = u64;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<u64> {
        let now = nanoseconds(books.now);
        books.open.execute("INSERT INTO deletions VALUES (?1)", [now])?;
        let since = now.saturating_sub(3_600_000_000_000);
        let count = "SELECT count(*) FROM deletions WHERE at >= ?1";
        books.open.query_row(count, [since], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
    }
}
