//! Jobs, hosts, entries and labels as they go over the wire (reference B1), and as they are kept.
//!
//! A record is a JSON object. What is decided by it stands in columns too; everything else, also fields that this
//! version does not know, goes through as it came.

use super::Refusal;
use crate::base::{BaseError, Row, Tx};
use crate::lab::hex;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// A JSON object.
pub type Record = Map<String, Value>;

/// The statuses of an entry that is being worked on, and of one that is over (reference, section H).
pub const ACTIVE: [&str; 8] =
    ["Starting", "Resetting", "Verifying", "Provisioning", "Pending", "Running", "Gathering", "Cleaning"];
/// See [`ACTIVE`].
pub const OVER: [&str; 5] = ["Aborted", "Completed", "Failed", "Stopped", "Template"];
/// Neither the one nor the other.
pub const BETWEEN: [&str; 2] = ["Queued", "Parsing"];

/// Is it a status that an entry can have?
pub fn is_status(status: &str) -> bool {
    [&ACTIVE[..], &OVER, &BETWEEN].iter().any(|some| some.contains(&status))
}

/// The local fields of a job, with their defaults: what goes to a drone and comes back from it.
pub fn job_defaults() -> Record {
    object(json!({
        "owner": "autotest_system", "name": "", "priority": 40, "control_file": "", "control_type": 2,
        "created_on": null, "synch_count": 0, "timeout": 24, "timeout_mins": 1440, "max_runtime_hrs": 72,
        "max_runtime_mins": 1440, "run_verify": false, "run_reset": true, "email_list": "", "reboot_before": 1,
        "reboot_after": 0, "parse_failed_repair": true, "test_retry": 0, "require_ssp": null,
    }))
}

/// The same of a host.
pub fn host_defaults() -> Record {
    object(json!({
        "status": "Ready", "invalid": false, "locked": false, "leased": false, "dirty": true, "protection": 0,
        "lock_time": null, "lock_reason": "", "synch_id": null, "hostattribute_set": [],
        "aclgroup_set": [{ "id": 1, "name": "Everyone", "description": "", "users": [
            { "id": 1, "login": "autotest_system", "access_level": 100, "reboot_before": 1, "reboot_after": 0,
              "show_experimental": false }] }],
    }))
}

/// The same of an entry.
pub fn hqe_defaults() -> Record {
    object(json!({
        "status": "Queued", "active": false, "complete": false, "aborted": false, "deleted": false,
        "execution_subdir": "", "started_on": null, "finished_on": null,
    }))
}

/// The same of a label.
pub fn label_defaults() -> Record {
    object(json!({ "platform": false, "invalid": false, "kernel_config": "", "only_if_needed": false }))
}

/// The object of a value; empty for any other.
pub fn object(value: Value) -> Record {
    match value {
        Value::Object(object) => object,
        _ => Record::new(),
    }
}

/// A kept record.
pub fn parsed(text: &str) -> Record {
    serde_json::from_str(text).unwrap_or_default()
}

/// A record to be kept.
pub fn kept(record: &Record) -> String {
    Value::Object(record.clone()).to_string()
}

/// A whole number, also as text, as an AFE takes both.
pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A record's own number.
///
/// # Errors
/// [`Refusal`] for a record without one.
pub fn id(record: &Record, kind: &str) -> Result<i64, Refusal> {
    let id = record.get("id").and_then(number).filter(|id| *id > 0);
    id.ok_or_else(|| Refusal::invalid(format!("a record of {kind} has no `id` above 0")))
}

/// A text, if the record has one of that name.
pub fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}

/// A truth value; 0 and 1 count too.
pub fn truth(record: &Record, name: &str) -> bool {
    record.get(name).is_some_and(|value| value.as_bool() == Some(true) || value.as_i64() == Some(1))
}

/// A time without what differs between servers: `T` or a space, a fraction, a zone.
pub fn moment(text: &str) -> String {
    text.replace('T', " ").chars().take(19).collect()
}

/// A label as it goes over the wire.
///
/// # Errors
/// The base's.
pub fn label(tx: &Tx<'_>, id: i64) -> Result<Option<Value>, BaseError> {
    let row = tx.row("SELECT id, name, record FROM labels WHERE id = ?1", &[id.into()])?;
    Ok(row.map(|row| label_of(&row)))
}

fn label_of(row: &Row) -> Value {
    let mut label = parsed(row.text(2));
    label.insert("id".into(), row.int(0).into());
    label.insert("name".into(), row.text(1).into());
    Value::Object(label)
}

/// A host with everything that belongs to it.
///
/// # Errors
/// The base's.
pub fn host(tx: &Tx<'_>, id: i64) -> Result<Option<Value>, BaseError> {
    let select = "SELECT h.id, h.hostname, h.status, h.leased, h.invalid, h.record, s.id, s.hostname
                  FROM hosts h LEFT JOIN shards s ON s.id = h.shard_id WHERE h.id = ?1";
    let Some(row) = tx.row(select, &[id.into()])? else { return Ok(None) };
    let mut host = parsed(row.text(5));
    host.insert("id".into(), row.int(0).into());
    host.insert("hostname".into(), row.text(1).into());
    host.insert("status".into(), row.text(2).into());
    host.insert("leased".into(), row.truth(3).into());
    host.insert("invalid".into(), row.truth(4).into());
    host.insert("shard".into(), shard_of(&row, 6));
    let select = "SELECT l.id, l.name, l.record FROM host_labels h JOIN labels l ON l.id = h.label_id
                  WHERE h.host_id = ?1 ORDER BY l.id";
    let labels = tx.rows(select, &[id.into()])?.iter().map(label_of).collect();
    host.insert("labels".into(), Value::Array(labels));
    Ok(Some(Value::Object(host)))
}

fn shard_of(row: &Row, column: usize) -> Value {
    match row.maybe(column) {
        Some(id) => json!({ "id": id, "hostname": row.text(column + 1) }),
        None => Value::Null,
    }
}

/// A job with everything that belongs to it.
///
/// # Errors
/// The base's.
pub fn job(tx: &Tx<'_>, id: i64) -> Result<Option<Value>, BaseError> {
    let select = "SELECT j.id, j.created_on, j.record, s.id, s.hostname
                  FROM jobs j LEFT JOIN shards s ON s.id = j.shard_id WHERE j.id = ?1";
    let Some(row) = tx.row(select, &[id.into()])? else { return Ok(None) };
    let mut job = parsed(row.text(2));
    job.insert("id".into(), row.int(0).into());
    job.insert("created_on".into(), row.text(1).into());
    job.insert("shard".into(), shard_of(&row, 3));
    let select = "SELECT l.id, l.name, l.record FROM job_labels j JOIN labels l ON l.id = j.label_id
                  WHERE j.job_id = ?1 ORDER BY l.id";
    let labels = tx.rows(select, &[id.into()])?.iter().map(label_of).collect();
    job.insert("dependency_labels".into(), Value::Array(labels));
    job.insert("hostqueueentry_set".into(), Value::Array(hqes(tx, id)?));
    job.insert("jobkeyval_set".into(), Value::Array(keyvals(tx, id)?));
    Ok(Some(Value::Object(job)))
}

/// The entries of a job.
///
/// # Errors
/// The base's.
pub fn hqes(tx: &Tx<'_>, job: i64) -> Result<Vec<Value>, BaseError> {
    let rows = tx.rows(
        "SELECT id, host_id, meta_host, record FROM hqes WHERE job_id = ?1 ORDER BY id",
        &[job.into()],
    )?;
    let mut hqes = Vec::with_capacity(rows.len());
    for row in rows {
        let mut hqe = parsed(row.text(3));
        hqe.insert("id".into(), row.int(0).into());
        hqe.insert("host_id".into(), json!(row.maybe(1)));
        let meta_host = match row.maybe(2) {
            Some(id) => label(tx, id)?,
            None => None,
        };
        hqe.insert("meta_host".into(), meta_host.unwrap_or_default());
        hqes.push(Value::Object(hqe));
    }
    Ok(hqes)
}

/// The keyvals of a job.
///
/// # Errors
/// The base's.
pub fn keyvals(tx: &Tx<'_>, job: i64) -> Result<Vec<Value>, BaseError> {
    let rows =
        tx.rows("SELECT id, name, value FROM keyvals WHERE job_id = ?1 ORDER BY name", &[job.into()])?;
    let keyval =
        |row: &Row| json!({ "id": row.int(0), "job_id": job, "key": row.text(1), "value": row.text(2) });
    Ok(rows.iter().map(keyval).collect())
}

/// What stands for a list of what is known, where both sides know it: SHA-256 of its lines, in hex.
pub fn digest(lines: impl Iterator<Item = String>) -> String {
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    hex(&hash.finalize())
}

/// Writes an entry down, new or over what is there.
///
/// # Errors
/// The base's.
pub fn write_hqe(
    tx: &Tx<'_>,
    id: i64,
    job: i64,
    record: &Record,
    host: Option<i64>,
    meta_host: Option<i64>,
) -> Result<(), BaseError> {
    let insert =
        "INSERT INTO hqes (id, job_id, host_id, meta_host, status, active, complete, aborted, finished_on,
                  record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                  ON CONFLICT (id) DO UPDATE SET host_id = ?3, meta_host = ?4, status = ?5, active = ?6,
                  complete = ?7, aborted = ?8, finished_on = ?9, record = ?10";
    let values = [
        id.into(),
        job.into(),
        host.into(),
        meta_host.into(),
        text(record, "status").unwrap_or("Queued").into(),
        truth(record, "active").into(),
        truth(record, "complete").into(),
        truth(record, "aborted").into(),
        text(record, "finished_on").into(),
        kept(record).into(),
    ];
    tx.run(insert, &values).map(drop)
}

/// Brings the columns of a job up to date with its entries: is any open, is any of the open ones aborted?
///
/// # Errors
/// The base's.
pub fn settle(tx: &Tx<'_>, job: i64) -> Result<(), BaseError> {
    let update = "UPDATE jobs SET
        open = (SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END FROM hqes WHERE job_id = ?1 AND complete = 0),
        aborted = (SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END FROM hqes
                   WHERE job_id = ?1 AND complete = 0 AND aborted = 1)
        WHERE id = ?1";
    tx.run(update, &[job.into()]).map(drop)
}
