//! What can be asked of a hub, by name, as an Autotest AFE answers it (reference B1, H).

use super::records::{self, Record, moment, parsed, truth};
use super::tokens::Caller;
use super::{Refusal, beat, orders};
use crate::base::{Tx, Value as Sql};
use serde_json::{Value, json};

/// The most records of one answer.
const MOST: i64 = 50_000;

/// Does what a request asks.
///
/// # Errors
/// [`Refusal`]; nothing was changed.
pub fn call(tx: &Tx<'_>, caller: &Caller, method: &str, arguments: &Record) -> Result<Value, Refusal> {
    type Order = fn(&Tx<'_>, &Record) -> Result<Value, Refusal>;
    let order: Order = match method {
        "shard_heartbeat" => return beat::beat(tx, caller, arguments),
        "get_jobs" => return jobs(tx, arguments),
        "get_host_queue_entries" => return entries(tx, arguments),
        "get_special_tasks" => return tasks(tx, arguments),
        "get_hosts" => return hosts(tx, arguments),
        "get_shards" => return shards(tx),
        "add_shard" => orders::add_shard,
        "rotate_token" => orders::rotate_token,
        "add_board_to_shard" => orders::add_board,
        "remove_board_from_shard" => orders::remove_board,
        "delete_shard" => orders::delete_shard,
        "add_label" => orders::add_label,
        "add_host" => orders::add_host,
        "remove_host_labels" => orders::remove_host_labels,
        "create_job" => orders::create_job,
        "create_jobs" => orders::create_jobs,
        "abort_jobs" => orders::abort_jobs,
        "create_special_task" => orders::create_special_task,
        "finish_special_task" => orders::finish_special_task,
        _ => return Err(Refusal::bad(format!("no method `{}`", crate::shown::Shown::text(method)))),
    };
    caller.administers(method)?;
    order(tx, arguments)
}

/// Conditions as SQL, and their values.
#[derive(Default)]
struct Which {
    conditions: Vec<String>,
    values: Vec<Sql>,
}

impl Which {
    fn and(&mut self, condition: &str) {
        self.conditions.push(condition.to_owned());
    }

    /// One of these numbers; they are numbers, and stand in the statement.
    fn among(&mut self, column: &str, ids: &[i64]) {
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        self.conditions.push(match ids.is_empty() {
            true => "1 = 0".into(),
            false => format!("{column} IN ({})", ids.join(", ")),
        });
    }

    fn equals(&mut self, column: &str, value: impl Into<Sql>) {
        self.values.push(value.into());
        self.conditions.push(format!("{column} = ?{}", self.values.len()));
    }

    fn clause(&self) -> String {
        match self.conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", self.conditions.join(" AND ")),
        }
    }
}

fn unknown(method: &str, field: &str) -> Refusal {
    Refusal::bad(format!("{method} knows no filter `{}`", crate::shown::Shown::text(field)))
}

fn is(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_i64() == Some(1)
}

fn jobs(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let mut which = Which::default();
    for (field, value) in arguments {
        match (field.as_str(), value) {
            ("id" | "id__in", _) => which.among("j.id", &orders::ids(arguments, field)?),
            ("id__gt", _) => {
                which.and(&format!("j.id > {}", orders::ids(arguments, field)?.first().unwrap_or(&0)))
            }
            ("finished", value) if is(value) => {
                which.and("j.open = 0 AND EXISTS (SELECT 1 FROM hqes q WHERE q.job_id = j.id)");
            }
            ("not_yet_run", value) if is(value) => {
                which.and("NOT EXISTS (SELECT 1 FROM hqes q WHERE q.job_id = j.id AND (q.active = 1 OR q.complete = 1))");
            }
            ("running", value) if is(value) => {
                which.and(
                    "j.open = 1 AND EXISTS (SELECT 1 FROM hqes q WHERE q.job_id = j.id AND q.active = 1)",
                );
            }
            ("finished" | "not_yet_run" | "running", _) => {}
            ("shard__hostname", value) => {
                which.equals("s.hostname", value.as_str().unwrap_or_default());
            }
            (field, _) => return Err(unknown("get_jobs", field)),
        }
    }
    let select = format!(
        "SELECT j.id, j.created_on, j.record, s.hostname FROM jobs j LEFT JOIN shards s ON s.id = j.shard_id {}
         ORDER BY j.id LIMIT {MOST}",
        which.clause()
    );
    let rows = tx.rows(&select, &which.values)?;
    let job = |row: &super::Row| {
        let mut job = parsed(row.text(2));
        job.insert("id".into(), row.int(0).into());
        job.insert("created_on".into(), moment(row.text(1)).into());
        job.insert("shard".into(), json!(row.maybe_text(3)));
        let keyvals = records::keyvals(tx, row.int(0))?;
        let pairs = keyvals
            .iter()
            .filter_map(|keyval| Some((keyval.get("key")?.as_str()?, keyval.get("value")?.clone())));
        job.insert(
            "keyvals".into(),
            Value::Object(pairs.map(|(key, value)| (key.to_owned(), value)).collect()),
        );
        Ok(Value::Object(job))
    };
    rows.iter().map(job).collect()
}

fn entries(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let mut which = Which::default();
    for (field, value) in arguments {
        match field.as_str() {
            "job" | "job_id" | "job__id" | "job_id__in" | "job__id__in" => {
                which.among("q.job_id", &orders::ids(arguments, field)?);
            }
            "id" | "id__in" => which.among("q.id", &orders::ids(arguments, field)?),
            "finished_on__isnull" if is(value) => which.and("q.finished_on IS NULL"),
            "finished_on__isnull" => which.and("q.finished_on IS NOT NULL"),
            "complete" => which.equals("q.complete", is(value)),
            "active" => which.equals("q.active", is(value)),
            field => return Err(unknown("get_host_queue_entries", field)),
        }
    }
    let select = format!(
        "SELECT q.id, q.job_id, q.host_id, q.finished_on, q.record, h.hostname FROM hqes q
         LEFT JOIN hosts h ON h.id = q.host_id {} ORDER BY q.id LIMIT {MOST}",
        which.clause()
    );
    let entry = |row: &super::Row| {
        let mut entry = parsed(row.text(4));
        entry.insert("id".into(), row.int(0).into());
        entry.insert("job".into(), json!({ "id": row.int(1) }));
        entry.insert(
            "host".into(),
            row.maybe(2).map_or(Value::Null, |id| json!({ "id": id, "hostname": row.text(5) })),
        );
        for at in ["started_on", "finished_on"] {
            if let Some(time) = entry.get(at).and_then(Value::as_str).map(moment) {
                entry.insert(at.into(), time.into());
            }
        }
        Value::Object(entry)
    };
    Ok(tx.rows(&select, &which.values)?.iter().map(entry).collect())
}

fn tasks(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let mut which = Which::default();
    for (field, value) in arguments {
        match field.as_str() {
            "id" | "id__in" => which.among("t.id", &orders::ids(arguments, field)?),
            "is_complete" => which.equals("t.is_complete", is(value)),
            "is_active" => which.equals("t.is_active", is(value)),
            "host_id__in" | "host_id" => which.among("t.host_id", &orders::ids(arguments, field)?),
            field => return Err(unknown("get_special_tasks", field)),
        }
    }
    let select = format!(
        "SELECT t.id, t.host_id, t.is_active, t.is_complete, t.time_finished, t.record, h.hostname FROM tasks t
         LEFT JOIN hosts h ON h.id = t.host_id {} ORDER BY t.id LIMIT {MOST}",
        which.clause()
    );
    let task = |row: &super::Row| {
        let mut task = parsed(row.text(5));
        task.insert("id".into(), row.int(0).into());
        task.insert(
            "host".into(),
            row.maybe(1).map_or(Value::Null, |id| json!({ "id": id, "hostname": row.text(6) })),
        );
        task.insert("is_active".into(), row.truth(2).into());
        task.insert("is_complete".into(), row.truth(3).into());
        task.insert("time_finished".into(), json!(row.maybe_text(4)));
        Value::Object(task)
    };
    Ok(tx.rows(&select, &which.values)?.iter().map(task).collect())
}

fn hosts(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let mut which = Which::default();
    for (field, value) in arguments {
        match field.as_str() {
            "id" | "id__in" => which.among("h.id", &orders::ids(arguments, field)?),
            "hostname" => which.equals("h.hostname", value.as_str().unwrap_or_default()),
            "status" => which.equals("h.status", value.as_str().unwrap_or_default()),
            "shard__hostname" => which.equals("s.hostname", value.as_str().unwrap_or_default()),
            field => return Err(unknown("get_hosts", field)),
        }
    }
    let select = format!(
        "SELECT h.id FROM hosts h LEFT JOIN shards s ON s.id = h.shard_id {} ORDER BY h.id LIMIT {MOST}",
        which.clause()
    );
    let rows = tx.rows(&select, &which.values)?;
    let hosts = rows.iter().map(|row| records::host(tx, row.int(0)));
    hosts.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(Refusal::from)
}

fn shards(tx: &Tx<'_>) -> Result<Value, Refusal> {
    let rows = tx.rows("SELECT id, hostname, last_beat, report FROM shards ORDER BY hostname", &[])?;
    let shard = |row: &super::Row| -> Result<Value, Refusal> {
        let select = "SELECT name FROM labels WHERE shard_id = ?1 ORDER BY name";
        let labels = tx.rows(select, &[row.int(0).into()])?;
        let labels: Vec<&str> = labels.iter().map(|label| label.text(0)).collect();
        let report = parsed(row.text(3));
        let is_draining = truth(&report, "draining");
        Ok(json!({
            "id": row.int(0), "hostname": row.text(1), "labels": labels, "last_beat": row.maybe(2),
            "draining": is_draining, "report": report,
        }))
    };
    rows.iter().map(shard).collect()
}
