//! Which jobs the hub called finished: asked once, and remembered.

use super::rows::{nanoseconds, time};
use super::{Books, LedgerError, Work};
use crate::lab::{Incarnation, RelPath};
use actix::Message;
use rusqlite::params;
use std::time::SystemTime;

/// Writes down that a job has finished.
#[derive(Clone, Debug, PartialEq, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct RecordFinished {
    pub job: RelPath,
    pub incarnation: Incarnation,
    pub lane: String,
    pub at: SystemTime,
}

impl Work for RecordFinished {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO finished VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let which = &self.incarnation;
        let (dev, ino) = (which.dev as i64, which.ino as i64);
        let values = params![self.job.as_bytes(), dev, ino, which.born_ns, self.lane, nanoseconds(self.at)];
        books.open.prepare_cached(insert)?.execute(values).map(drop)
    }
}

/// Asks for every job that was called finished and is not forgotten.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<RecordFinished>, LedgerError>")]
pub struct Finished;

impl Work for Finished {
    type Output = Vec<RecordFinished>;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Vec<RecordFinished>> {
        let mut rows = books.open.prepare("SELECT job, dev, ino, born, lane, at FROM finished")?;
        let rows = rows.query_map([], |row| {
            let (dev, ino): (i64, i64) = (row.get(1)?, row.get(2)?);
            let incarnation = Incarnation { dev: dev as u64, ino: ino as u64, born_ns: row.get(3)? };
            let Ok(job) = RelPath::new(row.get::<_, Vec<u8>>(0)?) else { return Ok(None) };
            Ok(Some(RecordFinished { job, incarnation, lane: row.get(4)?, at: time(row.get(5)?) }))
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

/// Forgets a job whose directory is gone.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
pub struct ForgetFinished(pub RelPath);

impl Work for ForgetFinished {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        books.open.execute("DELETE FROM finished WHERE job = ?1", [self.0.as_bytes()]).map(drop)
    }
}
