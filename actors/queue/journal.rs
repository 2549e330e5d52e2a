//! The queues' items, on the disk before anybody is told that they are taken in.
//!
//! An item is a job's directory, by its identity: another of its name is another item. A lease names the run of the
//! process that has it; the process has its state directory for itself, so whoever starts next knows that every older
//! lease is void. A journal that is lost is rebuilt from the directories that are still there: what had been done is
//! then done once more, under the same key.

use crate::lab::{Digest, Incarnation, RelPath};
use crate::ledger::LedgerError;
use crate::ledger::keeper::Keeper;
use crate::ledger::schema::Schema;
use config::{On, Queue};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;

static SCHEMA: Schema = Schema {
    name: "queue journal",
    source: "the directories that are still there",
    steps: &["
    CREATE TABLE items (
        queue TEXT NOT NULL, key TEXT NOT NULL, job BLOB NOT NULL, dev INTEGER NOT NULL, ino INTEGER NOT NULL,
        born INTEGER NOT NULL, lane TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
        due INTEGER NOT NULL, boot BLOB, error TEXT, taken_in INTEGER NOT NULL, settled INTEGER,
        PRIMARY KEY (queue, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX items_due ON items (queue, state, due);
    CREATE INDEX items_by_job ON items (job);
    "],
};

/// Items that are done are remembered for so long, in seconds.
const HISTORY: i64 = 30 * 24 * 3600;
/// Which columns make an [`Item`].
const COLUMNS: &str = "queue, key, job, dev, ino, born, lane, attempts";

/// All queues of a drone. Every use may block on the disk.
pub struct Queues {
    keeper: Mutex<Keeper>,
    settings: Vec<Queue>,
    boot: Uuid,
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

/// One item that is leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its queue.
    pub queue: String,
    /// The same whenever it runs: SHA-256 of queue, directory and identity, in hex.
    pub key: String,
    /// The directory.
    pub job: RelPath,
    /// Which of that name.
    pub incarnation: Incarnation,
    /// Its lane.
    pub lane: String,
    /// So many runs have failed.
    pub attempts: u32,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed, and runs again after a pause.
    Again(String, Duration),
    /// It failed for the last time; a person decides.
    Dead(String),
}

/// How a job stands with the queues that it goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every item is done, or was dropped by a person.
    Done,
    /// Some are still to run.
    Waiting,
    /// Some failed for the last time, the others are done.
    Dead,
}

/// An item for people.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct ItemView {
    pub queue: String,
    pub key: String,
    pub job: String,
    pub lane: String,
    /// `queued`, `running`, `done`, `dead` or `dropped`.
    pub state: String,
    pub attempts: u32,
    pub error: Option<String>,
    /// Seconds since 1970.
    pub taken_in: i64,
    pub due: i64,
}

impl Queues {
    /// Keeps `queue.sqlite` below `dir`; it is opened at its first use. `boot` names this run of the process.
    pub fn new(dir: &Path, settings: Vec<Queue>, boot: Uuid) -> Self {
        Queues { keeper: Mutex::new(Keeper::new(dir.join("queue.sqlite"), &SCHEMA)), settings, boot }
    }

    fn with<T>(&self, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).with(work)
    }

    fn of<'a>(&'a self, on: On, lane: &'a str) -> impl Iterator<Item = &'a Queue> + Clone {
        let takes = move |queue: &&Queue| {
            queue.on == on && (queue.lanes.is_empty() || queue.lanes.iter().any(|name| name == lane))
        };
        self.settings.iter().filter(takes)
    }

    /// Takes a job into the queues that it goes into, unless it is there, and says how it stands with them.
    ///
    /// # Errors
    /// The journal's; nothing was taken in.
    pub fn admit(
        &self,
        on: On,
        lane: &str,
        job: &RelPath,
        incarnation: &Incarnation,
    ) -> Result<Standing, LedgerError> {
        if self.of(on, lane).next().is_none() {
            return Ok(Standing::Done);
        }
        self.with(|tx| {
            let mut standing = Standing::Done;
            for queue in self.of(on, lane) {
                let key = key(&queue.name, job, incarnation);
                let state = match state(tx, &queue.name, &key)? {
                    Some(state) => state,
                    None => {
                        let Incarnation { dev, ino, born_ns } = incarnation;
                        let insert = "INSERT INTO items (queue, key, job, dev, ino, born, lane, state, attempts, due,
                                      taken_in) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', 0, 0, unixepoch())";
                        let (dev, ino) = (dev.cast_signed(), ino.cast_signed());
                        let values = params![queue.name, key, job.as_bytes(), dev, ino, born_ns, lane];
                        tx.prepare_cached(insert)?.execute(values)?;
                        "queued".to_owned()
                    }
                };
                standing = match (state.as_str(), standing) {
                    ("done" | "dropped", standing) => standing,
                    ("dead", Standing::Done | Standing::Dead) => Standing::Dead,
                    _ => Standing::Waiting,
                };
            }
            Ok(standing)
        })
    }

    /// May this job be deleted, as far as the queues are concerned? Those that must come first have succeeded.
    ///
    /// # Errors
    /// The journal's; then it may not.
    pub fn allow_prune(
        &self,
        lane: &str,
        job: &RelPath,
        incarnation: &Incarnation,
    ) -> Result<bool, LedgerError> {
        let first = || [On::Completed, On::Offloaded].into_iter().flat_map(|on| self.of(on, lane));
        if !first().any(|queue| queue.must_precede_prune) {
            return Ok(true);
        }
        self.with(|tx| {
            for queue in first().filter(|queue| queue.must_precede_prune) {
                let state = state(tx, &queue.name, &key(&queue.name, job, incarnation))?;
                if !matches!(state.as_deref(), Some("done" | "dropped")) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The item that is due first, leased to this process; those that an earlier run of it had are due at once.
    ///
    /// # Errors
    /// The journal's; nothing is leased.
    pub fn lease(&self, queue: &str) -> Result<Option<Item>, LedgerError> {
        self.with(|tx| {
            let void = "UPDATE items SET state = 'queued', boot = NULL WHERE queue = ?1 AND state = 'running' AND boot <> ?2";
            let boot = self.boot.as_bytes();
            if cfg!(not(seeded_bug = "lease_for_ever")) {
                tx.prepare_cached(void)?.execute(params![queue, boot])?;
            }
            let select = format!(
                "SELECT {COLUMNS} FROM items WHERE queue = ?1 AND state = 'queued' AND due <= unixepoch()
                 ORDER BY due, taken_in, key LIMIT 1"
            );
            let item = tx.prepare_cached(&select)?.query_row([queue], item).optional()?.flatten();
            let Some(item) = item else { return Ok(None) };
            let update = "UPDATE items SET state = 'running', boot = ?3 WHERE queue = ?1 AND key = ?2";
            tx.prepare_cached(update)?.execute(params![queue, item.key, boot])?;
            Ok(Some(item))
        })
    }

    /// Writes down what came of a run; the lease ends with it.
    ///
    /// # Errors
    /// The journal's; the item runs again after the next start.
    pub fn settle(&self, item: &Item, outcome: &Outcome) -> Result<(), LedgerError> {
        self.with(|tx| {
            let (state, error, pause, failed) = match outcome {
                Outcome::Done => ("done", None, 0, 0),
                Outcome::Again(why, pause) => ("queued", Some(why), pause.as_secs().max(1), 1),
                Outcome::Dead(why) => ("dead", Some(why), 0, 1),
            };
            let update =
                "UPDATE items SET state = ?4, error = ?5, due = unixepoch() + ?6, attempts = attempts + ?7,
                          settled = unixepoch(), boot = NULL WHERE queue = ?1 AND key = ?2 AND boot = ?3";
            let pause = i64::try_from(pause).unwrap_or(i64::MAX);
            let values = params![item.queue, item.key, self.boot.as_bytes(), state, error, pause, failed];
            tx.prepare_cached(update)?.execute(values)?;
            let old = "DELETE FROM items WHERE state IN ('done', 'dropped') AND settled < unixepoch() - ?1";
            tx.prepare_cached(old)?.execute([HISTORY]).map(drop)
        })
    }

    /// The items, or those that a person looks for: of one state, of one job.
    ///
    /// # Errors
    /// The journal's.
    pub fn list(&self, state: Option<&str>, job: Option<&RelPath>) -> Result<Vec<ItemView>, LedgerError> {
        if self.settings.is_empty() {
            return Ok(Vec::new());
        }
        self.with(|tx| {
            let select = "SELECT queue, key, job, lane, state, attempts, error, taken_in, due FROM items
                          WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR job = ?2)
                          ORDER BY queue, taken_in, key LIMIT 10000";
            let mut select = tx.prepare_cached(select)?;
            let rows = select.query_map(params![state, job.map(RelPath::as_bytes)], |row| {
                let job: Vec<u8> = row.get(2)?;
                Ok(ItemView {
                    queue: row.get(0)?,
                    key: row.get(1)?,
                    job: crate::shown::Shown(&job).to_string(),
                    lane: row.get(3)?,
                    state: row.get(4)?,
                    attempts: row.get(5)?,
                    error: row.get(6)?,
                    taken_in: row.get(7)?,
                    due: row.get(8)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Makes dead items of these jobs, or of all, due again, from their first attempt; answers with how many.
    ///
    /// # Errors
    /// The journal's.
    pub fn retry(&self, jobs: Option<&[RelPath]>) -> Result<usize, LedgerError> {
        self.decide(
            "UPDATE items SET state = 'queued', attempts = 0, due = 0 WHERE state IN ('dead', 'queued')",
            jobs,
        )
    }

    /// A person says that these jobs need not be processed; answers with how many items that concerns.
    ///
    /// # Errors
    /// The journal's.
    pub fn forget(&self, jobs: &[RelPath]) -> Result<usize, LedgerError> {
        let update =
            "UPDATE items SET state = 'dropped', settled = unixepoch() WHERE state IN ('dead', 'queued')";
        self.decide(update, Some(jobs))
    }

    fn decide(&self, update: &str, jobs: Option<&[RelPath]>) -> Result<usize, LedgerError> {
        self.with(|tx| match jobs {
            None => tx.execute(&format!("{update} AND state = 'dead'"), []),
            Some(jobs) => {
                let mut update = tx.prepare(&format!("{update} AND job = ?1"))?;
                jobs.iter().map(|job| update.execute([job.as_bytes()])).sum()
            }
        })
    }
}

fn key(queue: &str, job: &RelPath, incarnation: &Incarnation) -> String {
    let Incarnation { dev, ino, born_ns } = incarnation;
    let text =
        [queue.as_bytes(), b"\0", job.as_bytes(), format!("\0{dev} {ino} {born_ns}").as_bytes()].concat();
    Digest::of(&text).to_string()
}

fn state(tx: &Transaction<'_>, queue: &str, key: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT state FROM items WHERE queue = ?1 AND key = ?2";
    tx.prepare_cached(select)?.query_row([queue, key], |row| row.get(0)).optional()
}

/// `None` for a row that says what no item can.
fn item(row: &Row<'_>) -> rusqlite::Result<Option<Item>> {
    let job: Vec<u8> = row.get(2)?;
    let incarnation = Incarnation {
        dev: row.get::<_, i64>(3)?.cast_unsigned(),
        ino: row.get::<_, i64>(4)?.cast_unsigned(),
        born_ns: row.get(5)?,
    };
    let (queue, key, lane, attempts) = (row.get(0)?, row.get(1)?, row.get(6)?, row.get(7)?);
    Ok(RelPath::new(job).ok().map(|job| Item { queue, key, job, incarnation, lane, attempts }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(dir: &Path, boot: u8) -> Queues {
        let parse =
            |name: &str, on| Queue { name: name.into(), on, command: vec!["x".into()], ..Queue::default() };
        let settings = vec![parse("parse", On::Completed), parse("report", On::Offloaded)];
        Queues::new(dir, settings, Uuid::from_bytes([boot; 16]))
    }

    fn job(name: &str) -> (RelPath, Incarnation) {
        (RelPath::new(name.as_bytes()).unwrap(), Incarnation { dev: 1, ino: 2, born_ns: 3 })
    }

    #[test]
    fn an_item_is_taken_in_once_and_leased_to_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (queues, (job, incarnation)) = (queues(dir.path(), 1), job("1-a"));
        for _ in 0..3 {
            assert_eq!(queues.admit(On::Completed, "jobs", &job, &incarnation).unwrap(), Standing::Waiting);
        }
        let item = queues.lease("parse").unwrap().unwrap();
        assert_eq!(queues.lease("parse").unwrap(), None);
        assert_eq!(queues.lease("report").unwrap(), None);
        queues.settle(&item, &Outcome::Done).unwrap();
        assert_eq!(queues.admit(On::Completed, "jobs", &job, &incarnation).unwrap(), Standing::Done);
        // Another directory of that name is another item.
        let other = Incarnation { ino: 9, ..incarnation.clone() };
        assert_eq!(queues.admit(On::Completed, "jobs", &job, &other).unwrap(), Standing::Waiting);
        assert!(
            !queues.allow_prune("jobs", &job, &incarnation).unwrap(),
            "the other queue must come first too"
        );
        queues.admit(On::Offloaded, "jobs", &job, &incarnation).unwrap();
        let report = queues.lease("report").unwrap().unwrap();
        queues.settle(&report, &Outcome::Done).unwrap();
        assert!(queues.allow_prune("jobs", &job, &incarnation).unwrap());
    }

    #[test]
    fn what_a_dead_process_had_is_leased_again_and_its_late_word_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let (first, (job, incarnation)) = (queues(dir.path(), 1), job("1-a"));
        first.admit(On::Completed, "jobs", &job, &incarnation).unwrap();
        let item = first.lease("parse").unwrap().unwrap();
        let second = queues(dir.path(), 2);
        let again = second.lease("parse").unwrap().unwrap();
        assert_eq!((&again.key, again.attempts), (&item.key, 0));
        first.settle(&item, &Outcome::Done).unwrap();
        assert_eq!(second.list(Some("running"), None).unwrap().len(), 1);
        second.settle(&again, &Outcome::Dead("broken".into())).unwrap();
        assert_eq!(second.admit(On::Completed, "jobs", &job, &incarnation).unwrap(), Standing::Dead);
        assert!(!second.allow_prune("jobs", &job, &incarnation).unwrap());
        assert_eq!(second.retry(None).unwrap(), 1);
        assert_eq!(second.lease("parse").unwrap().unwrap().attempts, 0);
    }
}
