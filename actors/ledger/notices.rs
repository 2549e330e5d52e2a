//! What other programs are still to be told of offloaded jobs.

use super::rows::{nanoseconds, time};
use super::{Books, LedgerError, Work};
use actix::Message;
use rusqlite::params;
use std::time::SystemTime;

/// So many are handed out at a time, the oldest first.
const MOST: usize = 1000;

/// What one address is to be told of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The same whenever it is told: SHA-256 of the job's manifest.
    pub id: String,
    /// Who is told.
    pub url: String,
    /// When the job was proven.
    pub at: SystemTime,
    /// The facts, as JSON.
    pub text: String,
}

/// Writes down what is to be told, in the transaction that says why.
pub(super) fn add(books: &Books<'_>, notices: &[Notice]) -> rusqlite::Result<()> {
    let mut insert = books.open.prepare_cached("INSERT OR IGNORE INTO notices VALUES (?1, ?2, ?3, ?4)")?;
    for Notice { id, url, at, text } in notices {
        insert.execute(params![id, url, nanoseconds(*at), text])?;
    }
    Ok(())
}

/// Forgets what was told, keeps what waits, also in a ledger that was begun anew, and asks for the oldest.
#[derive(Debug, Default, Message)]
#[rtype(result = "Result<Vec<Notice>, LedgerError>")]
#[allow(missing_docs)]
pub struct KeepNotices {
    pub told: Vec<Notice>,
    pub waiting: Vec<Notice>,
}

impl Work for KeepNotices {
    type Output = Vec<Notice>;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Vec<Notice>> {
        let mut delete = books.open.prepare_cached("DELETE FROM notices WHERE id = ?1 AND url = ?2")?;
        for Notice { id, url, .. } in &self.told {
            delete.execute(params![id, url])?;
        }
        let count: i64 = books.open.query_row("SELECT count(*) FROM notices", [], |row| row.get(0))?;
        if usize::try_from(count).unwrap_or_default() < self.waiting.len() {
            add(books, &self.waiting)?;
        }
        let select = "SELECT id, url, at, text FROM notices ORDER BY at LIMIT ?1";
        let mut select = books.open.prepare_cached(select)?;
        let rows = select.query_map([MOST as i64], |row| {
            Ok(Notice { id: row.get(0)?, url: row.get(1)?, at: time(row.get(2)?), text: row.get(3)? })
        })?;
        rows.collect()
    }
}
