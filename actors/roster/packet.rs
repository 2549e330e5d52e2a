//! What a heartbeat says, and what its acknowledgement changes.

use super::{Roster, entries, row_of};
use crate::hub::records::{Record, digest, number, object};
use crate::ledger::LedgerError;
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

/// So many jobs go with one beat (reference B2.4).
pub const MOST: usize = 1000;

/// How a hub is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As the old shard client did.
    Afe,
    /// As a hub of ours, with whole lists.
    Lists,
    /// As a hub of ours that has the same lists, as far as is known: a digest stands for them.
    Digest,
}

/// A heartbeat's arguments, and what an acknowledgement of it means.
#[derive(Debug, Default)]
pub struct Packet {
    /// The named arguments.
    pub arguments: Record,
    /// Of each job that goes with it: number, and the version that goes.
    pub sent: Vec<(i64, i64)>,
    /// More are waiting than went.
    pub more: bool,
}

impl Roster {
    /// What the next beat says.
    ///
    /// # Errors
    /// The file's.
    pub fn packet(&self, drone: &str, manner: Manner) -> Result<Packet, LedgerError> {
        self.with(|tx| {
            let mut select = tx.prepare_cached("SELECT id FROM jobs WHERE open = 1 ORDER BY id")?;
            let known_jobs = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            let mut select =
                tx.prepare_cached("SELECT id, status FROM hosts WHERE invalid = 0 ORDER BY id")?;
            let hosts = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let hosts = hosts.collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
            let (known_hosts, statuses): (Vec<i64>, Vec<String>) = hosts.into_iter().unzip();
            let select = "SELECT id, created_on, open, report, version, record FROM jobs WHERE report = 1
                          ORDER BY id LIMIT ?1";
            let mut select = tx.prepare_cached(select)?;
            let rows = select.query_map([MOST as i64 + 1], row_of)?.collect::<Result<Vec<_>, _>>()?;
            let more = rows.len() > MOST;
            let (mut jobs, mut hqes, mut of_job, mut sent) =
                (Vec::new(), Vec::new(), Record::new(), Vec::new());
            for row in rows.into_iter().take(MOST) {
                for entry in entries(&row.record) {
                    if let Some(id) = entry.get("id").and_then(number) {
                        of_job.insert(id.to_string(), row.id.into());
                    }
                    hqes.push(local(&entry));
                }
                jobs.push(local(&row.record));
                sent.push((row.id, row.version));
            }
            let mut arguments = object(json!({
                "shard_hostname": drone, "known_job_ids": known_jobs, "known_host_ids": known_hosts,
                "known_host_statuses": statuses, "jobs": jobs, "hqes": hqes,
            }));
            let mut own = object(json!({ "hqe_jobs": of_job }));
            if manner == Manner::Digest {
                let jobs = digest(known_jobs.iter().map(i64::to_string));
                let hosts = digest(
                    std::iter::zip(&known_hosts, &statuses).map(|(id, status)| format!("{id} {status}")),
                );
                own.insert("known".into(), json!({ "jobs": jobs, "hosts": hosts }));
                for list in ["known_job_ids", "known_host_ids", "known_host_statuses"] {
                    arguments.insert(list.into(), json!([]));
                }
            }
            if manner != Manner::Afe {
                arguments.insert("dronekeeper".into(), Value::Object(own));
            }
            Ok(Packet { arguments, sent, more })
        })
    }

    /// The hub has what went, but for what it set aside. A change since then goes with the next beat.
    ///
    /// # Errors
    /// The file's; it goes once more.
    pub fn acknowledged(&self, sent: &[(i64, i64)], refused: &[(i64, String)]) -> Result<(), LedgerError> {
        let taken = |id: &i64| !refused.iter().any(|(other, _)| other == id);
        let done = self.with(|tx| {
            let mut done = Vec::new();
            let mut update =
                tx.prepare_cached("UPDATE jobs SET report = 0 WHERE id = ?1 AND version = ?2")?;
            for (id, version) in sent {
                let changed = update.execute(params![id, version])?;
                if changed > 0 && taken(id) {
                    done.push(*id);
                }
            }
            for (id, why) in refused {
                super::set_aside(tx, "report", *id, why)?;
            }
            Ok(done)
        })?;
        for id in done {
            if let Err(error) = self.journal.acknowledged(id) {
                tracing::warn!(id, %error, "an acknowledged job stays in the journal, and is reported once more");
            }
        }
        Ok(())
    }

    /// The hub forgot these: they go with the next beat, whole.
    ///
    /// # Errors
    /// The file's.
    pub fn tell_again(&self, ids: &[i64]) -> Result<(), LedgerError> {
        self.with(|tx| {
            let mut update =
                tx.prepare_cached("UPDATE jobs SET report = 1, version = version + 1 WHERE id = ?1")?;
            ids.iter().try_for_each(|id| update.execute([id]).map(drop))
        })
    }
}

/// Finished jobs that the hub has acknowledged are remembered for so long, in seconds.
const REMEMBERED: i64 = 30 * 24 * 3600;

impl Roster {
    /// The hub says which base it has. One that has another than before forgot what it was told: it is told again of
    /// every job that is remembered. Answers with how many.
    ///
    /// # Errors
    /// The file's.
    pub fn base(&self, identity: &str) -> Result<usize, LedgerError> {
        self.with(|tx| {
            let old = "DELETE FROM jobs WHERE open = 0 AND report = 0 AND finished_at < unixepoch() - ?1";
            tx.prepare_cached(old)?.execute([REMEMBERED])?;
            let select = "SELECT value FROM meta WHERE name = 'base'";
            let known: Option<String> =
                tx.prepare_cached(select)?.query_row([], |row| row.get(0)).optional()?;
            if known.as_deref() == Some(identity) {
                return Ok(0);
            }
            let insert = "INSERT OR REPLACE INTO meta (name, value) VALUES ('base', ?1)";
            tx.prepare_cached(insert)?.execute([identity])?;
            match known {
                None => Ok(0),
                Some(_) => tx.execute("UPDATE jobs SET report = 1, version = version + 1", []),
            }
        })
    }
}

/// A record without its relations, which are the hub's to say (reference B1, B3.5).
fn local(record: &Record) -> Value {
    let own = record.iter().filter(|(_, value)| !value.is_array() && !value.is_object());
    let own = own.filter(|(name, _)| !["meta_host", "shard"].contains(&name.as_str()));
    Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect())
}
