//! The hub's tables. The record columns hold what goes over the wire, also what this version does not know.

use crate::base::{BaseError, Purpose, Tx};

/// What a hub's base is for.
pub const PURPOSE: Purpose = Purpose {
    name: "the hub's base",
    source: "what the drones say that they have",
    setting: "hub.database",
    prepare,
};

/// The tables and their indices, each made once.
const TABLES: [&str; 21] = [
    "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, next BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS shards (id BIGINT PRIMARY KEY, hostname TEXT NOT NULL UNIQUE, last_beat BIGINT,
     beats BIGINT NOT NULL, report TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS tokens (hash TEXT PRIMARY KEY, shard_id BIGINT NOT NULL, number BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS tokens_by_shard ON tokens (shard_id)",
    "CREATE TABLE IF NOT EXISTS labels (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, shard_id BIGINT,
     record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS labels_by_shard ON labels (shard_id)",
    "CREATE TABLE IF NOT EXISTS hosts (id BIGINT PRIMARY KEY, hostname TEXT NOT NULL UNIQUE, shard_id BIGINT,
     status TEXT NOT NULL, leased BIGINT NOT NULL, invalid BIGINT NOT NULL, record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS hosts_by_shard ON hosts (shard_id)",
    "CREATE TABLE IF NOT EXISTS host_labels (host_id BIGINT NOT NULL, label_id BIGINT NOT NULL,
     PRIMARY KEY (host_id, label_id))",
    "CREATE INDEX IF NOT EXISTS hosts_by_label ON host_labels (label_id)",
    "CREATE TABLE IF NOT EXISTS jobs (id BIGINT PRIMARY KEY, created_on TEXT NOT NULL, shard_id BIGINT,
     open BIGINT NOT NULL, aborted BIGINT NOT NULL, parent_id BIGINT, record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS jobs_of_nobody ON jobs (id) WHERE shard_id IS NULL AND open = 1",
    "CREATE INDEX IF NOT EXISTS jobs_by_shard ON jobs (shard_id, id) WHERE open = 1",
    "CREATE TABLE IF NOT EXISTS job_labels (job_id BIGINT NOT NULL, label_id BIGINT NOT NULL,
     PRIMARY KEY (job_id, label_id))",
    "CREATE TABLE IF NOT EXISTS hqes (id BIGINT PRIMARY KEY, job_id BIGINT NOT NULL, host_id BIGINT,
     meta_host BIGINT, status TEXT NOT NULL, active BIGINT NOT NULL, complete BIGINT NOT NULL,
     aborted BIGINT NOT NULL, finished_on TEXT, record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS hqes_by_job ON hqes (job_id)",
    "CREATE TABLE IF NOT EXISTS keyvals (id BIGINT NOT NULL, job_id BIGINT NOT NULL, name TEXT NOT NULL,
     value TEXT NOT NULL, PRIMARY KEY (job_id, name))",
    "CREATE TABLE IF NOT EXISTS tasks (id BIGINT PRIMARY KEY, host_id BIGINT, task TEXT NOT NULL,
     is_active BIGINT NOT NULL, is_complete BIGINT NOT NULL, time_finished TEXT, record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS tasks_by_host ON tasks (host_id)",
    "CREATE TABLE IF NOT EXISTS refused (shard_id BIGINT NOT NULL, kind TEXT NOT NULL, id BIGINT NOT NULL,
     at BIGINT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (shard_id, kind, id))",
    "CREATE INDEX IF NOT EXISTS jobs_by_parent ON jobs (parent_id)",
];

/// What is counted.
pub const COUNTED: [&str; 8] = ["shards", "labels", "hosts", "jobs", "hqes", "keyvals", "tasks", "tokens"];

/// Makes what is missing. A new base counts from `first`.
///
/// # Errors
/// [`BaseError`].
pub fn prepare(tx: &Tx<'_>, first: i64) -> Result<(), BaseError> {
    for table in TABLES {
        tx.run(table, &[])?;
    }
    for counted in COUNTED {
        let insert = "INSERT INTO counters (name, next) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
        tx.run(insert, &[counted.into(), first.into()])?;
    }
    let identity = uuid::Uuid::new_v4().as_u128() as i64 & i64::MAX;
    let insert = "INSERT INTO counters (name, next) VALUES ('base', ?1) ON CONFLICT (name) DO NOTHING";
    tx.run(insert, &[identity.into()]).map(drop)
}

/// Which base this is: another one than before has forgotten what it was told.
///
/// # Errors
/// [`BaseError`].
pub fn identity(tx: &Tx<'_>) -> Result<String, BaseError> {
    let row = tx.row("SELECT next FROM counters WHERE name = 'base'", &[])?;
    Ok(row.map_or(0, |row| row.int(0)).to_string())
}

/// A number that was not given out before.
///
/// # Errors
/// [`BaseError`].
pub fn number(tx: &Tx<'_>, of: &str) -> Result<i64, BaseError> {
    let update = "UPDATE counters SET next = next + 1 WHERE name = ?1 RETURNING next - 1";
    let number = tx.row(update, &[of.into()])?.map_or(0, |row| row.int(0));
    tx.counted(number);
    Ok(number)
}

/// A drone has this number already: none up to it is given out again.
///
/// # Errors
/// [`BaseError`].
pub fn taken(tx: &Tx<'_>, of: &str, number: i64) -> Result<(), BaseError> {
    tx.counted(number);
    let update = "UPDATE counters SET next = ?2 WHERE name = ?1 AND next < ?2";
    tx.run(update, &[of.into(), number.saturating_add(1).into()]).map(drop)
}
