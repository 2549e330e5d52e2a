//! What the programs that run the jobs ask and say.

use super::{Roster, Row, entries, is_open, read, row_of, write};
use crate::hub::records::{OVER, Record, number, text, truth};
use crate::ledger::LedgerError;
use crate::shown::Shown;
use rusqlite::OptionalExtension;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most jobs of one answer.
const MOST: i64 = 10_000;
/// The longest status of a host, in bytes.
const LONGEST: usize = 64;

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LocalError {
    #[error(transparent)]
    File(#[from] LedgerError),
    #[error("cannot write the journal of finished jobs")]
    Journal(#[from] std::io::Error),
    #[error("the hub gave this drone no {0} {1}")]
    Unknown(&'static str, i64),
    #[error("{0}")]
    Refused(String),
}

/// A job for those who run it.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct JobView {
    pub id: i64,
    /// `queued`, `running` or `complete`.
    pub state: &'static str,
    /// Where its results go, below the results directory.
    pub dir: String,
    /// The hub wants it to end.
    pub aborted: bool,
    /// The hub has not acknowledged its end.
    pub unreported: bool,
    /// Everything that is known of it.
    pub record: Record,
    /// What its suite says, by key.
    pub suite_keyvals: Map<String, Value>,
}

impl JobView {
    fn of(row: &Row) -> Self {
        let entries = entries(&row.record);
        let state = match (row.open, entries.iter().any(|entry| truth(entry, "active"))) {
            (false, _) => "complete",
            (true, true) => "running",
            (true, false) => "queued",
        };
        JobView {
            id: row.id,
            state,
            dir: dir(row.id, &row.record),
            aborted: entries.iter().any(|entry| truth(entry, "aborted")),
            unreported: row.report,
            record: row.record.clone(),
            suite_keyvals: Map::new(),
        }
    }
}

/// The name of a job's directory (reference A1.1).
fn dir(id: i64, record: &Record) -> String {
    format!("{id}-{}", text(record, "owner").unwrap_or_default())
}

impl Roster {
    /// The jobs of one state, or all.
    ///
    /// # Errors
    /// The file's.
    pub fn jobs(&self, state: Option<&str>) -> Result<Vec<JobView>, LedgerError> {
        let views = self.with(|tx| {
            let select = match state {
                Some("complete") => "SELECT id, created_on, open, report, version, record FROM jobs WHERE open = 0 ORDER BY id DESC LIMIT ?1",
                Some(_) => "SELECT id, created_on, open, report, version, record FROM jobs WHERE open = 1 ORDER BY id LIMIT ?1",
                None => "SELECT id, created_on, open, report, version, record FROM jobs ORDER BY open DESC, id LIMIT ?1",
            };
            let mut select = tx.prepare_cached(select)?;
            let rows = select.query_map([MOST], row_of)?.collect::<Result<Vec<_>, _>>()?;
            let mut views: Vec<JobView> = rows.iter().map(JobView::of).collect();
            let mut keyvals = tx.prepare_cached("SELECT name, value FROM keyvals WHERE job_id = ?1")?;
            for view in &mut views {
                let Some(parent) = view.record.get("parent_job_id").and_then(number) else { continue };
                let pairs = keyvals.query_map([parent], |row| Ok((row.get(0)?, row.get::<_, String>(1)?.into())))?;
                view.suite_keyvals = pairs.collect::<Result<_, _>>()?;
            }
            Ok(views)
        })?;
        Ok(views.into_iter().filter(|view| state.is_none_or(|state| view.state == state)).collect())
    }

    /// The hosts, as the hub and the programs here say.
    ///
    /// # Errors
    /// The file's.
    pub fn hosts(&self) -> Result<Vec<Value>, LedgerError> {
        self.with(|tx| {
            let mut select =
                tx.prepare_cached("SELECT status, record FROM hosts WHERE invalid = 0 ORDER BY id")?;
            let hosts = select.query_map([], |row| {
                let mut host = crate::hub::records::parsed(&row.get::<_, String>(1)?);
                host.insert("status".into(), row.get::<_, String>(0)?.into());
                Ok(Value::Object(host))
            })?;
            hosts.collect()
        })
    }

    /// A program begins a job, on a host of its choice.
    ///
    /// # Errors
    /// [`LocalError`]: a job that is over, aborted, or begun already.
    pub fn start(&self, id: i64, host: Option<i64>) -> Result<JobView, LocalError> {
        self.change(id, |row| {
            let view = JobView::of(row);
            match view.state {
                _ if view.aborted => return Err(format!("job {id} was aborted: complete it as Aborted")),
                "queued" => {}
                state => return Err(format!("job {id} is {state}")),
            }
            let now = now_text();
            change_entries(row, |entry| {
                entry.insert("status".into(), "Running".into());
                entry.insert("active".into(), true.into());
                entry.insert("started_on".into(), now.as_str().into());
                if let Some(host) = host {
                    entry.insert("host_id".into(), host.into());
                }
            });
            Ok(())
        })
    }

    /// A program is done with a job. It is in the journal before this returns.
    ///
    /// # Errors
    /// [`LocalError`]: a status that is none, or another than the job ended with.
    pub fn complete(&self, id: i64, status: &str, subdir: Option<&str>) -> Result<JobView, LocalError> {
        if !OVER.contains(&status) {
            let known = OVER.join(", ");
            return Err(LocalError::Refused(format!("`{}` is none of {known}", Shown::text(status))));
        }
        if subdir.is_some_and(|dir| {
            dir.len() > 255 || dir.contains('/') || dir.starts_with('.') || dir.chars().any(char::is_control)
        }) {
            return Err(LocalError::Refused("`execution_subdir` is no name of a directory".into()));
        }
        let now = now_text();
        let end = |row: &mut Row| {
            if !row.open {
                let same = entries(&row.record).iter().any(|entry| text(entry, "status") == Some(status));
                return if same { Ok(()) } else { Err(format!("job {id} is over, and not {status}")) };
            }
            change_entries(row, |entry| {
                entry.insert("status".into(), status.into());
                entry.insert("active".into(), false.into());
                entry.insert("complete".into(), true.into());
                entry.insert("finished_on".into(), now.as_str().into());
                if let Some(subdir) = subdir {
                    entry.insert("execution_subdir".into(), subdir.into());
                }
            });
            row.report = true;
            Ok(())
        };
        // First in memory and in the journal, then in the file: a finished job is never lost with the file.
        let Some(mut row) = self.with(|tx| read(tx, id))? else { return Err(LocalError::Unknown("job", id)) };
        if row.open {
            end(&mut row).map_err(LocalError::Refused)?;
            if cfg!(not(seeded_bug = "journal_skipped")) {
                self.journal.keep(id, &row.record)?;
            }
        }
        self.change(id, end)
    }

    /// A program says how a host is.
    ///
    /// # Errors
    /// [`LocalError`]: a host that is not here, or a status that is none.
    pub fn host_status(&self, id: i64, status: &str) -> Result<(), LocalError> {
        if status.is_empty() || status.len() > LONGEST || status.chars().any(char::is_control) {
            return Err(LocalError::Refused("`status` is no status of a host".into()));
        }
        let changed = self.with(|tx| {
            let update = "UPDATE hosts SET status = ?2 WHERE id = ?1 AND invalid = 0";
            tx.prepare_cached(update)?.execute(rusqlite::params![id, status])
        })?;
        if changed == 0 { Err(LocalError::Unknown("host", id)) } else { Ok(()) }
    }

    /// When this job was completed here, if it was; by its directory's name.
    ///
    /// # Errors
    /// The file's.
    pub fn completed(&self) -> Result<Vec<(String, SystemTime)>, LedgerError> {
        self.with(|tx| {
            let select = "SELECT id, created_on, open, report, version, record FROM jobs WHERE open = 0";
            let mut select = tx.prepare_cached(select)?;
            let rows = select.query_map([], row_of)?.collect::<Result<Vec<_>, _>>()?;
            Ok(rows.iter().map(|row| (dir(row.id, &row.record), ended(&row.record))).collect())
        })
    }

    fn change(
        &self,
        id: i64,
        change: impl Fn(&mut Row) -> Result<(), String>,
    ) -> Result<JobView, LocalError> {
        let changed = self.with(|tx| {
            let Some(mut row) = read(tx, id).optional().map(Option::flatten)? else { return Ok(None) };
            if let Err(why) = change(&mut row) {
                return Ok(Some(Err(why)));
            }
            row.open = is_open(&row.record);
            row.version += 1;
            write(tx, &row)?;
            Ok(Some(Ok(JobView::of(&row))))
        })?;
        match changed {
            None => Err(LocalError::Unknown("job", id)),
            Some(done) => done.map_err(LocalError::Refused),
        }
    }
}

/// Changes the entries that are not over.
fn change_entries(row: &mut Row, change: impl Fn(&mut Record)) {
    let all = entries(&row.record).into_iter().map(|mut entry| {
        if !truth(&entry, "complete") {
            change(&mut entry);
        }
        Value::Object(entry)
    });
    let all = all.collect();
    row.record.insert("hostqueueentry_set".into(), Value::Array(all));
}

fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// When the last of its entries ended.
fn ended(record: &Record) -> SystemTime {
    let last = entries(record).iter().filter_map(|entry| text(entry, "finished_on").map(str::to_owned)).max();
    let seconds = last.and_then(|at| at.replace(' ', "T").parse::<jiff::civil::DateTime>().ok());
    let at =
        seconds.and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok()).map(|at| at.timestamp().as_second());
    let at = at.and_then(|at| u64::try_from(at).ok());
    at.map_or_else(SystemTime::now, |at| UNIX_EPOCH + std::time::Duration::from_secs(at))
}
