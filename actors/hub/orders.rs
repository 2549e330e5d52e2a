//! What an administrator says: drones, boards, hosts, jobs, special tasks (reference B3.11).

use super::records::{self, Record, kept, number, object, settle, text, truth, write_hqe};
use super::{Refusal, schema, tokens};
use crate::base::{Tx, Value as Sql};
use crate::shown::Shown;
use serde_json::{Value, json};

/// What the labels of boards begin with; drones have these and no others.
const BOARD: &str = "board:";
/// The longest name, in bytes.
const LONGEST: usize = 200;
/// The most jobs that one order makes.
const MOST: i64 = 10_000;

/// A new drone. Answers with its token, which is shown this once.
///
/// # Errors
/// [`Refusal`] for a name that is taken, or a board that another drone has.
pub fn add_shard(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let hostname = name(arguments, "hostname")?;
    if tx.row("SELECT id FROM shards WHERE hostname = ?1", &[hostname.into()])?.is_some() {
        return Err(Refusal::invalid(format!("there is a drone {hostname} already")));
    }
    let id = schema::number(tx, "shards")?;
    let insert = "INSERT INTO shards (id, hostname, last_beat, beats, report) VALUES (?1, ?2, NULL, 0, '{}')";
    tx.run(insert, &[id.into(), hostname.into()])?;
    for label in names(arguments.get("labels"))? {
        give_board(tx, id, &label)?;
    }
    let token = match text(arguments, "token") {
        Some(token) if token.len() < 32 => return Err(Refusal::invalid("a token has 32 characters or more")),
        Some(token) => token.to_owned(),
        None => tokens::make().map_err(|error| Refusal::bad(format!("no random bytes: {error}")))?,
    };
    tokens::give(tx, id, &token)?;
    Ok(json!({ "id": id, "token": token }))
}

/// One more token for a drone; the one before the last is no longer good.
///
/// # Errors
/// [`Refusal`] for a drone that is not known.
pub fn rotate_token(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let shard = shard(tx, arguments)?;
    let token = tokens::make().map_err(|error| Refusal::bad(format!("no random bytes: {error}")))?;
    tokens::give(tx, shard, &token)?;
    Ok(json!({ "id": shard, "token": token }))
}

/// A board of a drone that is there.
///
/// # Errors
/// [`Refusal`].
pub fn add_board(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let (shard, label) = (shard(tx, arguments)?, name(arguments, "label")?);
    give_board(tx, shard, label)?;
    Ok(shard.into())
}

/// Takes a board and its hosts from a drone.
///
/// # Errors
/// [`Refusal`].
pub fn remove_board(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let (shard, label) = (shard(tx, arguments)?, name(arguments, "label")?);
    let free = "UPDATE hosts SET shard_id = NULL WHERE shard_id = ?1 AND id IN (SELECT hl.host_id FROM host_labels hl
                JOIN labels l ON l.id = hl.label_id WHERE l.name = ?2)";
    tx.run(free, &[shard.into(), label.into()])?;
    let update = "UPDATE labels SET shard_id = NULL WHERE shard_id = ?1 AND name = ?2";
    if tx.run(update, &[shard.into(), label.into()])? == 0 {
        return Err(Refusal::missing(format!("this drone has no board {label}")));
    }
    Ok(Value::Null)
}

/// A drone that is no longer there: its boards, hosts and open jobs are free for others.
///
/// # Errors
/// [`Refusal`].
pub fn delete_shard(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let shard = shard(tx, arguments)?;
    for statement in [
        "UPDATE hosts SET shard_id = NULL WHERE shard_id = ?1",
        "UPDATE jobs SET shard_id = NULL WHERE shard_id = ?1",
        "UPDATE labels SET shard_id = NULL WHERE shard_id = ?1",
        "DELETE FROM tokens WHERE shard_id = ?1",
        "DELETE FROM refused WHERE shard_id = ?1",
        "DELETE FROM shards WHERE id = ?1",
    ] {
        tx.run(statement, &[shard.into()])?;
    }
    Ok(Value::Null)
}

/// A label; one that is there is answered with.
///
/// # Errors
/// [`Refusal`].
pub fn add_label(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    Ok(label(tx, name(arguments, "name")?)?.into())
}

/// A host with its labels. One that is there gets the labels that it has not.
///
/// # Errors
/// [`Refusal`].
pub fn add_host(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let hostname = name(arguments, "hostname")?;
    let found = tx.row("SELECT id FROM hosts WHERE hostname = ?1", &[hostname.into()])?;
    let id = match found {
        Some(row) => row.int(0),
        None => {
            let id = schema::number(tx, "hosts")?;
            let mut record = records::host_defaults();
            record.extend(arguments.get("record").cloned().map(object).unwrap_or_default());
            let status = text(&record, "status").unwrap_or("Ready").to_owned();
            let insert = "INSERT INTO hosts (id, hostname, shard_id, status, leased, invalid, record)
                          VALUES (?1, ?2, NULL, ?3, ?4, 0, ?5)";
            let leased = truth(&record, "leased");
            let values = [id.into(), hostname.into(), status.into(), leased.into(), kept(&record).into()];
            tx.run(insert, &values)?;
            id
        }
    };
    for wanted in names(arguments.get("labels"))? {
        let insert = "INSERT INTO host_labels (host_id, label_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        tx.run(insert, &[id.into(), label(tx, &wanted)?.into()])?;
    }
    Ok(id.into())
}

/// Takes labels from a host.
///
/// # Errors
/// [`Refusal`].
pub fn remove_host_labels(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let host = host(tx, name(arguments, "hostname")?)?;
    for wanted in names(arguments.get("labels"))? {
        let delete = "DELETE FROM host_labels WHERE host_id = ?1 AND label_id IN (SELECT id FROM labels WHERE name = ?2)";
        tx.run(delete, &[host.into(), wanted.into()])?;
    }
    Ok(Value::Null)
}

/// A job: entries for so many hosts of a board (`meta_hosts`), or for named `hosts`. Answers with its number.
///
/// # Errors
/// [`Refusal`].
pub fn create_job(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let (boards, hosts) = (names(arguments.get("meta_hosts"))?, names(arguments.get("hosts"))?);
    if boards.is_empty() && hosts.is_empty() {
        return Err(Refusal::invalid("a job takes `meta_hosts` or `hosts`"));
    }
    let id = schema::number(tx, "jobs")?;
    let mut record = records::job_defaults();
    for (field, value) in
        arguments.iter().filter(|(field, _)| record.contains_key(*field)).collect::<Vec<_>>()
    {
        record.insert(field.clone(), value.clone());
    }
    record.insert("name".into(), name(arguments, "name")?.into());
    let owner = text(&record, "owner").unwrap_or_default().to_owned();
    if !is_name(&owner) || owner.contains('/') {
        return Err(Refusal::invalid("`owner` is no name"));
    }
    let created = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string();
    record.insert("created_on".into(), created.as_str().into());
    let parent = arguments.get("parent_job_id").and_then(number);
    let insert = "INSERT INTO jobs (id, created_on, shard_id, open, aborted, parent_id, record)
                  VALUES (?1, ?2, NULL, 1, 0, ?3, ?4)";
    tx.run(insert, &[id.into(), created.into(), parent.into(), kept(&record).into()])?;
    for wanted in names(arguments.get("dependencies"))? {
        let insert = "INSERT INTO job_labels (job_id, label_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        tx.run(insert, &[id.into(), label(tx, &wanted)?.into()])?;
    }
    for (name, value) in arguments.get("keyvals").cloned().map(object).unwrap_or_default() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let insert = "INSERT INTO keyvals (id, job_id, name, value) VALUES (?1, ?2, ?3, ?4)";
        let keyval = schema::number(tx, "keyvals")?;
        tx.run(insert, &[keyval.into(), id.into(), name.into(), value.into()])?;
    }
    let entry = |host: Option<i64>, board: Option<i64>| -> Result<(), Refusal> {
        let hqe = schema::number(tx, "hqes")?;
        Ok(write_hqe(tx, hqe, id, &records::hqe_defaults(), host, board)?)
    };
    for board in &boards {
        entry(None, Some(label(tx, board)?))?;
    }
    for hostname in &hosts {
        entry(Some(host(tx, hostname)?), None)?;
    }
    settle(tx, id)?;
    Ok(id.into())
}

/// Many jobs of one kind. Answers with their numbers.
///
/// # Errors
/// [`Refusal`].
pub fn create_jobs(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let count = arguments.get("count").and_then(number).filter(|count| (1..=MOST).contains(count));
    let count = count.ok_or_else(|| Refusal::invalid(format!("`count` is not between 1 and {MOST}")))?;
    (0..count).map(|_| create_job(tx, arguments)).collect()
}

/// Ends jobs that have not ended: the drone that has one is told with its next beat.
///
/// # Errors
/// [`Refusal`].
pub fn abort_jobs(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let ids: Vec<i64> = ids(arguments, "id__in")?;
    for id in &ids {
        let select = "SELECT id, host_id, meta_host, record FROM hqes WHERE job_id = ?1 AND complete = 0";
        for row in tx.rows(select, &[(*id).into()])? {
            let mut record = records::parsed(row.text(3));
            record.insert("aborted".into(), true.into());
            let taken = tx.row("SELECT shard_id FROM jobs WHERE id = ?1", &[(*id).into()])?;
            if taken.is_none_or(|row| row.maybe(0).is_none()) {
                record.insert("status".into(), "Aborted".into());
                record.insert("complete".into(), true.into());
            }
            write_hqe(tx, row.int(0), *id, &record, row.maybe(1), row.maybe(2))?;
        }
        settle(tx, *id)?;
    }
    Ok(ids.into())
}

/// A special task of a host.
///
/// # Errors
/// [`Refusal`].
pub fn create_special_task(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let host = host(tx, name(arguments, "hostname")?)?;
    let task = name(arguments, "task")?;
    if !["Verify", "Cleanup", "Repair", "Reset", "Provision"].contains(&task) {
        return Err(Refusal::invalid(format!("`{}` is no special task", Shown::text(task))));
    }
    let id = schema::number(tx, "tasks")?;
    let requested = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let record = object(json!({
        "task": task, "is_aborted": false, "success": false, "time_requested": requested, "time_started": null,
        "requested_by": "autotest_system", "queue_entry": null,
    }));
    let insert = "INSERT INTO tasks (id, host_id, task, is_active, is_complete, time_finished, record)
                  VALUES (?1, ?2, ?3, 0, 0, NULL, ?4)";
    tx.run(insert, &[id.into(), host.into(), task.into(), kept(&record).into()])?;
    Ok(id.into())
}

/// A special task is over.
///
/// # Errors
/// [`Refusal`].
pub fn finish_special_task(tx: &Tx<'_>, arguments: &Record) -> Result<Value, Refusal> {
    let id = arguments.get("id").and_then(number).ok_or_else(|| Refusal::invalid("`id` is no number"))?;
    let row = tx.row("SELECT record FROM tasks WHERE id = ?1", &[id.into()])?;
    let mut record =
        records::parsed(row.ok_or_else(|| Refusal::missing(format!("no special task {id}")))?.text(0));
    record.insert("success".into(), truth(arguments, "success").into());
    let finished = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let update =
        "UPDATE tasks SET is_active = 0, is_complete = 1, time_finished = ?2, record = ?3 WHERE id = ?1";
    tx.run(update, &[id.into(), finished.into(), kept(&record).into()])?;
    Ok(Value::Null)
}

/// Numbers in a list, or one by itself.
///
/// # Errors
/// [`Refusal`].
pub fn ids(arguments: &Record, field: &str) -> Result<Vec<i64>, Refusal> {
    let bad = || Refusal::invalid(format!("`{field}` is no list of numbers"));
    match arguments.get(field) {
        Some(Value::Array(list)) => list.iter().map(number).collect::<Option<_>>().ok_or_else(bad),
        Some(value) => number(value).map(|number| vec![number]).ok_or_else(bad),
        None => Err(bad()),
    }
}

fn give_board(tx: &Tx<'_>, shard: i64, board: &str) -> Result<(), Refusal> {
    if !board.starts_with(BOARD) {
        let board = Shown::text(board);
        return Err(Refusal::invalid(format!(
            "`{board}` is no board: a drone's labels begin with `{BOARD}`"
        )));
    }
    let id = label(tx, board)?;
    let owner = tx.row("SELECT shard_id FROM labels WHERE id = ?1", &[id.into()])?;
    match owner.and_then(|row| row.maybe(0)) {
        Some(other) if other != shard => Err(Refusal::invalid(format!("another drone has {board}"))),
        _ => {
            tx.run("UPDATE labels SET shard_id = ?2 WHERE id = ?1", &[id.into(), shard.into()])?;
            Ok(())
        }
    }
}

/// The number of a label, which is made if it is not there.
fn label(tx: &Tx<'_>, name: &str) -> Result<i64, Refusal> {
    if let Some(row) = tx.row("SELECT id FROM labels WHERE name = ?1", &[name.into()])? {
        return Ok(row.int(0));
    }
    let id = schema::number(tx, "labels")?;
    let mut record = records::label_defaults();
    record.insert("platform".into(), name.starts_with(BOARD).into());
    let insert = "INSERT INTO labels (id, name, shard_id, record) VALUES (?1, ?2, NULL, ?3)";
    tx.run(insert, &[id.into(), name.into(), kept(&record).into()])?;
    Ok(id)
}

fn host(tx: &Tx<'_>, hostname: &str) -> Result<i64, Refusal> {
    let row = tx.row("SELECT id FROM hosts WHERE hostname = ?1", &[hostname.into()])?;
    row.map(|row| row.int(0)).ok_or_else(|| Refusal::missing(format!("no host {}", Shown::text(hostname))))
}

fn shard(tx: &Tx<'_>, arguments: &Record) -> Result<i64, Refusal> {
    let hostname = name(arguments, "hostname")?;
    let row = tx.row("SELECT id FROM shards WHERE hostname = ?1", &[Sql::from(hostname)])?;
    row.map(|row| row.int(0)).ok_or_else(|| Refusal::missing(format!("no drone {}", Shown::text(hostname))))
}

fn name<'a>(arguments: &'a Record, field: &str) -> Result<&'a str, Refusal> {
    let name = text(arguments, field).filter(|name| is_name(name));
    name.ok_or_else(|| {
        Refusal::invalid(format!("`{field}` is no name of 1 to {LONGEST} bytes without control characters"))
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && !name.chars().any(char::is_control)
}

fn names(value: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![Value::from(one.as_str())],
        Some(Value::Array(list)) => list.clone(),
        Some(_) => return Err(Refusal::invalid("a list of names is no list")),
    };
    let names = list.iter().map(|name| name.as_str().filter(|name| is_name(name)).map(str::to_owned));
    names.collect::<Option<_>>().ok_or_else(|| Refusal::invalid("a list of names holds what is no name"))
}
