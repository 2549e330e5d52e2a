//! Takes in what the hub answered: one transaction for each record, so that one that is nonsense costs itself only.

use super::{Aside, Roster, Row, entries, is_open, read, set_aside, write};
use crate::hub::records::{Record, moment, number, text, truth};
use crate::ledger::LedgerError;
use crate::shown::Shown;
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;
use std::collections::HashMap;

/// What came of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Jobs that are new here.
    pub jobs: usize,
    /// Hosts that are new here.
    pub hosts: usize,
    /// Finished jobs that the hub sent again, and that it gets again.
    pub again: usize,
    /// Records that could not be taken.
    pub aside: Vec<Aside>,
}

/// The longest owner of a job, which is part of a directory's name, in bytes.
const LONGEST_OWNER: usize = 100;

impl Roster {
    /// Takes in an answer: hosts, then jobs, then keyvals, then the hosts that are not this drone's.
    ///
    /// # Errors
    /// The file's; what was taken until then stays.
    pub fn apply(&self, answer: &Record) -> Result<Taken, LedgerError> {
        let mut taken = Taken::default();
        let list = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        for host in list("hosts") {
            match self.with(|tx| take_host(tx, &host))? {
                Ok(new) => taken.hosts += usize::from(new),
                Err((id, why)) => taken.aside.push(Aside { kind: "host".into(), id, why }),
            }
        }
        for job in list("jobs") {
            match self.with(|tx| take_job(tx, &job))? {
                Ok(Came::New) => taken.jobs += 1,
                Ok(Came::Again) => taken.again += 1,
                Ok(Came::Known) => {}
                Err((id, why)) => taken.aside.push(Aside { kind: "job".into(), id, why }),
            }
        }
        for keyval in list("suite_keyvals") {
            self.with(|tx| take_keyval(tx, &keyval))?;
        }
        for host in list("incorrect_host_ids").iter().filter_map(number) {
            self.with(|tx| give_host_up(tx, host))?;
        }
        for aside in &taken.aside {
            self.with(|tx| set_aside(tx, &aside.kind, aside.id, &aside.why))?;
        }
        Ok(taken)
    }
}

/// What became of a record, or its number and why it cannot be taken.
type Judged<T> = Result<T, (i64, String)>;

enum Came {
    New,
    Known,
    Again,
}

fn take_host(tx: &Transaction<'_>, host: &Value) -> rusqlite::Result<Judged<bool>> {
    let Some(host) = host.as_object() else { return Ok(Err((0, "it is no object".into()))) };
    let Some(id) = host.get("id").and_then(number).filter(|id| *id > 0) else {
        return Ok(Err((0, "it has no number".into())));
    };
    let Some(hostname) = text(host, "hostname").filter(|name| !name.is_empty() && name.len() <= 255) else {
        return Ok(Err((id, "it has no hostname".into())));
    };
    let select = "SELECT record FROM hosts WHERE id = ?1";
    let known: Option<String> = tx.prepare_cached(select)?.query_row([id], |row| row.get(0)).optional()?;
    let new = known.is_none();
    let mut record = known.map_or_else(|| host.clone(), |known| crate::hub::records::parsed(&known));
    // What is the hub's to say of a host that is here (reference B2.9).
    for field in ["invalid", "labels", "aclgroup_set", "hostattribute_set", "shard"] {
        if let Some(value) = host.get(field) {
            record.insert(field.into(), value.clone());
        }
    }
    let status = text(host, "status").unwrap_or("Ready");
    let insert = "INSERT INTO hosts (id, hostname, status, invalid, record) VALUES (?1, ?2, ?3, ?4, ?5)
                  ON CONFLICT (id) DO UPDATE SET invalid = ?4, record = ?5";
    let record = Value::Object(record).to_string();
    tx.prepare_cached(insert)?.execute(params![id, hostname, status, truth(host, "invalid"), record])?;
    Ok(Ok(new))
}

fn take_job(tx: &Transaction<'_>, job: &Value) -> rusqlite::Result<Judged<Came>> {
    let Some(job) = job.as_object() else { return Ok(Err((0, "it is no object".into()))) };
    let Some(id) = job.get("id").and_then(number).filter(|id| *id > 0) else {
        return Ok(Err((0, "it has no number".into())));
    };
    if let Err(why) = sound(job) {
        return Ok(Err((id, why)));
    }
    let created_on = text(job, "created_on").unwrap_or_default().to_owned();
    let Some(known) = read(tx, id)? else {
        write(
            tx,
            &Row { id, created_on, open: is_open(job), report: false, version: 1, record: job.clone() },
        )?;
        return Ok(Ok(Came::New));
    };
    if moment(&known.created_on) != moment(&created_on) {
        if known.open || known.report {
            let (there, here) = (Shown::text(&created_on), Shown::text(&known.created_on));
            let why = format!("the hub gave its number out again: created {there}, and the one here {here}");
            return Ok(Err((id, why)));
        }
        // The old one is done with, and acknowledged.
        write(
            tx,
            &Row { id, created_on, open: is_open(job), report: false, version: 1, record: job.clone() },
        )?;
        return Ok(Ok(Came::New));
    }
    let mut record = merged(&known.record, job);
    let open = is_open(&record);
    if open
        && !known.report
        && entries(&record).iter().all(|entry| truth(entry, "complete") || is_aborted_before_start(entry))
    {
        end_as_aborted(&mut record);
    }
    let now_open = is_open(&record);
    // It is over here, and the hub does not know: an answer of ours, or its memory, was lost (reference B2.12).
    let again = !now_open;
    let version = known.version + 1;
    write(tx, &Row { id, created_on, open: now_open, report: known.report || again, version, record })?;
    Ok(Ok(if again { Came::Again } else { Came::Known }))
}

/// A job whose name could lead a directory astray, or that has nothing to do, is none.
fn sound(job: &Record) -> Result<(), String> {
    let owner = text(job, "owner").unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    if owner.is_empty()
        || owner.len() > LONGEST_OWNER
        || !owner.chars().all(is_plain)
        || owner.starts_with('.')
    {
        return Err(format!("its owner `{}` is no name", Shown::text(owner)));
    }
    if text(job, "created_on").is_none_or(|at| at.len() < 10) {
        return Err("it does not say when it was created".into());
    }
    let mut numbers: Vec<i64> =
        entries(job).iter().filter_map(|entry| entry.get("id").and_then(number)).collect();
    if numbers.is_empty() || numbers.len() != entries(job).len() {
        return Err("it has no entries, or entries without a number".into());
    }
    numbers.sort_unstable();
    numbers.dedup();
    match numbers.len() == entries(job).len() {
        true => Ok(()),
        false => Err("two of its entries have the same number".into()),
    }
}

/// What is here, with what is the hub's to say: relations, and that an entry was aborted (reference B2.9).
fn merged(known: &Record, job: &Record) -> Record {
    let mut record = known.clone();
    for field in ["dependency_labels", "jobkeyval_set", "shard"] {
        if let Some(value) = job.get(field) {
            record.insert(field.into(), value.clone());
        }
    }
    let theirs: HashMap<i64, Record> = entries(job)
        .into_iter()
        .filter_map(|entry| Some((entry.get("id").and_then(number)?, entry)))
        .collect();
    let mut all: Vec<Value> = Vec::new();
    let mut here = Vec::new();
    for mut entry in entries(known) {
        let id = entry.get("id").and_then(number).unwrap_or_default();
        if let Some(other) = theirs.get(&id)
            && truth(other, "aborted")
        {
            entry.insert("aborted".into(), true.into());
        }
        here.push(id);
        all.push(Value::Object(entry));
    }
    let new = entries(job)
        .into_iter()
        .filter(|entry| entry.get("id").and_then(number).is_some_and(|id| !here.contains(&id)));
    all.extend(new.map(Value::Object));
    record.insert("hostqueueentry_set".into(), Value::Array(all));
    record
}

fn is_aborted_before_start(entry: &Record) -> bool {
    truth(entry, "aborted") && !truth(entry, "active")
}

/// What was aborted before anybody began it is over.
fn end_as_aborted(record: &mut Record) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let ended = entries(record).into_iter().map(|mut entry| {
        if !truth(&entry, "complete") {
            entry.insert("status".into(), "Aborted".into());
            entry.insert("complete".into(), true.into());
            entry.insert("finished_on".into(), now.as_str().into());
        }
        Value::Object(entry)
    });
    let ended = ended.collect();
    record.insert("hostqueueentry_set".into(), Value::Array(ended));
}

fn take_keyval(tx: &Transaction<'_>, keyval: &Value) -> rusqlite::Result<()> {
    let Some(keyval) = keyval.as_object() else { return Ok(()) };
    let job = keyval.get("job_id").and_then(number);
    let (Some(job), Some(key), Some(value)) = (job, text(keyval, "key"), text(keyval, "value")) else {
        return Ok(());
    };
    let insert = "INSERT OR REPLACE INTO keyvals (job_id, name, value) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(insert)?.execute(params![job, key, value]).map(drop)
}

/// A host that is another drone's now: it is used no more, and what would run on it is aborted (reference B2.13).
fn give_host_up(tx: &Transaction<'_>, host: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE hosts SET invalid = 1 WHERE id = ?1")?.execute([host])?;
    let select = "SELECT id, created_on, open, report, version, record FROM jobs WHERE open = 1";
    let rows: Vec<Row> =
        tx.prepare_cached(select)?.query_map([], super::row_of)?.collect::<Result<_, _>>()?;
    for mut row in rows {
        let mut hit = false;
        let all = entries(&row.record).into_iter().map(|mut entry| {
            if entry.get("host_id").and_then(number) == Some(host) && !truth(&entry, "complete") {
                entry.insert("aborted".into(), true.into());
                hit = true;
            }
            Value::Object(entry)
        });
        let all = all.collect();
        if hit {
            row.record.insert("hostqueueentry_set".into(), Value::Array(all));
            row.version += 1;
            write(tx, &row)?;
        }
    }
    Ok(())
}
