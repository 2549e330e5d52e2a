//! `shard_heartbeat`: what a drone finished, and what it gets (reference B3).
//!
//! One beat is one transaction. A record that cannot be taken is set aside with its reason and never fails the
//! beat, where an AFE fails it; nothing of a request that is malformed as a whole is taken.
//!
//! With drones of ours more is said, in the argument `dronekeeper` and the answer of that name; an AFE's drones and
//! an AFE never see either.

use super::records::{self, Record, id, kept, moment, number, object, settle, text, truth, write_hqe};
use super::tokens::Caller;
use super::{Refusal, now, schema};
use crate::base::{Row, Tx, Value as Sql};
use crate::shown::Shown;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The most jobs that one answer brings; the next beat brings more.
const MOST: i64 = 1000;
/// What is kept of a drone's word on itself, in bytes.
const LARGEST_REPORT: usize = 16 << 10;

/// What a drone says.
struct Beat {
    hostname: String,
    known_jobs: HashSet<i64>,
    known_hosts: Vec<i64>,
    statuses: Vec<String>,
    jobs: Vec<Record>,
    hqes: Vec<Record>,
    own: Record,
}

/// What cannot be taken, and why.
#[derive(Default)]
struct Aside(Vec<(&'static str, i64, String)>);

impl Aside {
    fn put(&mut self, kind: &'static str, id: i64, why: impl Into<String>) {
        self.0.push((kind, id, why.into()));
    }
}

/// Takes a beat, and answers it.
///
/// # Errors
/// [`Refusal`] for a drone that is not known, or a request that is malformed as a whole.
pub fn beat(tx: &Tx<'_>, caller: &Caller, arguments: &Record) -> Result<Value, Refusal> {
    let mut beat = Beat::read(arguments)?;
    caller.speaks_for(&beat.hostname)?;
    let select = "SELECT id, hostname FROM shards WHERE hostname = ?1";
    let Some(shard) = tx.row(select, &[beat.hostname.as_str().into()])? else {
        let name = Shown::text(&beat.hostname);
        return Err(Refusal::missing(format!(
            "no drone {name} is known: `dronekeeper hub ctl add-shard {name}`"
        )));
    };
    let shard = shard.int(0);
    let mut aside = Aside::default();
    let taken = take_jobs(tx, shard, &beat, &mut aside)?;
    take_hqes(tx, &beat, &taken, &mut aside)?;
    take_statuses(tx, &beat, &mut aside)?;
    if let Some(highest) = beat.known_jobs.iter().chain(&taken).max() {
        schema::taken(tx, "jobs", *highest)?;
    }
    if !fill_in(tx, shard, &mut beat)? {
        // What both sides believe is not the same: only whole lists help.
        note(tx, shard, &beat, &aside)?;
        let own = own(tx, &beat, &aside, json!({ "list": true }))?;
        return Ok(
            json!({ "hosts": [], "jobs": [], "suite_keyvals": [], "incorrect_host_ids": [], "dronekeeper": own }),
        );
    }
    let forgotten = forgotten(tx, shard, &beat)?;
    let hosts = give_hosts(tx, shard, &beat)?;
    let incorrect = incorrect_hosts(tx, shard, &beat)?;
    let jobs = give_jobs(tx, shard, &beat)?;
    let keyvals = suite_keyvals(tx, &jobs)?;
    note(tx, shard, &beat, &aside)?;
    let more = jobs.len() as i64 >= MOST;
    let mut answer = json!({
        "hosts": hosts, "jobs": jobs, "suite_keyvals": keyvals, "incorrect_host_ids": incorrect,
    });
    if let Some(answer) = answer.as_object_mut() {
        // A drone of an AFE ignores what it does not know; and shows us by its silence that it is one.
        let own = own(tx, &beat, &aside, json!({ "more": more, "unknown_jobs": forgotten }))?;
        answer.insert("dronekeeper".into(), own);
    }
    Ok(answer)
}

/// What a drone of ours is told beside the answer of an AFE.
fn own(tx: &Tx<'_>, beat: &Beat, aside: &Aside, more: Value) -> Result<Value, Refusal> {
    let aside = aside.0.iter().map(|(kind, id, why)| json!({ "kind": kind, "id": id, "why": why }));
    let mut own = object(json!({
        "version": env!("CARGO_PKG_VERSION"), "features": ["report", "gzip", "adopt", "digest"],
        "aside": aside.collect::<Vec<_>>(), "serial": beat.own.get("serial"), "base": schema::identity(tx)?,
    }));
    own.extend(object(more));
    Ok(Value::Object(own))
}

/// A drone of ours may say by a digest that it knows exactly the jobs and hosts that it should: then these are filled
/// in. Is it so, or were they listed?
fn fill_in(tx: &Tx<'_>, shard: i64, beat: &mut Beat) -> Result<bool, Refusal> {
    let Some(known) = beat.own.get("known").cloned().map(object) else { return Ok(true) };
    let open =
        tx.rows("SELECT id FROM jobs WHERE shard_id = ?1 AND open = 1 ORDER BY id", &[shard.into()])?;
    let select =
        "SELECT id, status FROM hosts WHERE shard_id = ?1 AND invalid = 0 AND leased = 0 ORDER BY id";
    let hosts = tx.rows(select, &[shard.into()])?;
    let jobs = records::digest(open.iter().map(|row| row.int(0).to_string()));
    let here = records::digest(hosts.iter().map(|row| format!("{} {}", row.int(0), row.text(1))));
    beat.known_jobs = open.iter().map(|row| row.int(0)).collect();
    beat.known_hosts = hosts.iter().map(|row| row.int(0)).collect();
    Ok(text(&known, "jobs") == Some(&jobs) && text(&known, "hosts") == Some(&here))
}

impl Beat {
    /// Nothing of a request is taken whose shape is wrong.
    fn read(arguments: &Record) -> Result<Self, Refusal> {
        let hostname = text(arguments, "shard_hostname").filter(|name| !name.is_empty());
        let hostname = hostname.ok_or_else(|| Refusal::bad("shard_heartbeat takes `shard_hostname`"))?;
        let list = |name: &str| -> Result<Vec<Value>, Refusal> {
            match arguments.get(name) {
                None | Some(Value::Null) => Ok(Vec::new()),
                Some(Value::Array(list)) => Ok(list.clone()),
                Some(_) => Err(Refusal::invalid(format!("`{name}` is no list"))),
            }
        };
        let numbers = |name: &str| -> Result<Vec<i64>, Refusal> {
            let all = list(name)?;
            let numbers: Option<Vec<i64>> = all.iter().map(number).collect();
            numbers.ok_or_else(|| Refusal::invalid(format!("`{name}` holds what is no number")))
        };
        let objects = |name: &str| -> Result<Vec<Record>, Refusal> {
            let all: Option<Vec<Record>> =
                list(name)?.iter().map(|value| value.as_object().cloned()).collect();
            all.ok_or_else(|| Refusal::invalid(format!("`{name}` holds what is no object")))
        };
        let (jobs, hqes) = (objects("jobs")?, objects("hqes")?);
        for (kind, records) in [("jobs", &jobs), ("hqes", &hqes)] {
            let mut seen = HashSet::new();
            for record in records {
                if !seen.insert(id(record, kind)?) {
                    return Err(Refusal::invalid(format!("`{kind}` holds {} twice", id(record, kind)?)));
                }
                // Relations are ours to say (reference B3.5).
                if let Some((name, _)) =
                    record.iter().find(|(_, value)| value.is_array() || value.is_object())
                {
                    let name = Shown::text(name);
                    return Err(Refusal {
                        name: "ValueError",
                        ..Refusal::bad(format!("`{kind}` holds the relation `{name}`"))
                    });
                }
            }
        }
        let known_hosts = numbers("known_host_ids")?;
        let statuses: Option<Vec<String>> =
            list("known_host_statuses")?.iter().map(|status| status.as_str().map(str::to_owned)).collect();
        let statuses =
            statuses.ok_or_else(|| Refusal::invalid("`known_host_statuses` holds what is no text"))?;
        if !statuses.is_empty() && statuses.len() != known_hosts.len() {
            return Err(Refusal::invalid("`known_host_ids` and `known_host_statuses` are not of one length"));
        }
        Ok(Beat {
            hostname: hostname.to_owned(),
            known_jobs: numbers("known_job_ids")?.into_iter().collect(),
            known_hosts,
            statuses,
            jobs,
            hqes,
            own: arguments.get("dronekeeper").cloned().map(object).unwrap_or_default(),
        })
    }
}

/// The jobs that the drone finished; the numbers of those that were taken.
fn take_jobs(tx: &Tx<'_>, shard: i64, beat: &Beat, aside: &mut Aside) -> Result<BTreeSet<i64>, Refusal> {
    let mut taken = BTreeSet::new();
    for record in &beat.jobs {
        let id = id(record, "jobs")?;
        let row = tx.row("SELECT shard_id, created_on, record FROM jobs WHERE id = ?1", &[id.into()])?;
        let created = text(record, "created_on").unwrap_or_default();
        let Some(row) = row else {
            // Our base forgot it, and the drone has it.
            let insert = "INSERT INTO jobs (id, created_on, shard_id, open, aborted, record)
                          VALUES (?1, ?2, ?3, 1, 0, ?4)";
            tx.run(insert, &[id.into(), created.into(), shard.into(), kept(record).into()])?;
            taken.insert(id);
            continue;
        };
        match row.maybe(0) {
            Some(other) if other != shard => aside.put("job", id, "it is another drone's"),
            _ if !created.is_empty() && moment(created) != moment(row.text(1)) => {
                let why = format!("another job of that number was created on {}", row.text(1));
                aside.put("job", id, why);
            }
            _ => {
                let mut merged = records::parsed(row.text(2));
                merged.extend(record.clone());
                tx.run("UPDATE jobs SET record = ?2 WHERE id = ?1", &[id.into(), kept(&merged).into()])?;
                taken.insert(id);
            }
        }
    }
    Ok(taken)
}

/// The entries of those jobs.
fn take_hqes(tx: &Tx<'_>, beat: &Beat, jobs: &BTreeSet<i64>, aside: &mut Aside) -> Result<(), Refusal> {
    let of_job = beat.own.get("hqe_jobs").cloned().map(object).unwrap_or_default();
    for record in &beat.hqes {
        let id = id(record, "hqes")?;
        let row =
            tx.row("SELECT job_id, host_id, meta_host, record FROM hqes WHERE id = ?1", &[id.into()])?;
        let said = of_job.get(&id.to_string()).and_then(number);
        let (job, host, meta_host, mut merged) = match row {
            Some(row) => (row.int(0), row.maybe(1), row.maybe(2), records::parsed(row.text(3))),
            None => match said {
                Some(job) => (job, None, None, records::hqe_defaults()),
                None => {
                    aside.put("hqe", id, "it is not known, and of which job it is was not said");
                    continue;
                }
            },
        };
        if !jobs.contains(&job) {
            aside.put("hqe", id, "its job was not taken");
            continue;
        }
        if said.is_some_and(|said| said != job) {
            aside.put("hqe", id, format!("it is an entry of job {job}"));
            continue;
        }
        match text(record, "status") {
            Some(status) if !records::is_status(status) => {
                aside.put("hqe", id, format!("`{}` is no status", Shown::text(status)));
                continue;
            }
            _ => {}
        }
        merged.extend(record.clone());
        let host = record.get("host_id").and_then(number).or(host);
        write_hqe(tx, id, job, &merged, host, meta_host)?;
        schema::taken(tx, "hqes", id)?;
    }
    for job in jobs {
        settle(tx, *job)?;
    }
    Ok(())
}

fn take_statuses(tx: &Tx<'_>, beat: &Beat, aside: &mut Aside) -> Result<(), Refusal> {
    if beat.statuses.is_empty() {
        return Ok(());
    }
    let known = statuses(tx, &beat.known_hosts)?;
    for (id, status) in beat.known_hosts.iter().zip(&beat.statuses) {
        match known.get(id) {
            None => aside.put("host", *id, "it is not known"),
            Some(now) if now != status => {
                let update = "UPDATE hosts SET status = ?2 WHERE id = ?1";
                tx.run(update, &[(*id).into(), status.as_str().into()])?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn statuses(tx: &Tx<'_>, hosts: &[i64]) -> Result<HashMap<i64, String>, Refusal> {
    let rows = some(tx, "SELECT id, status FROM hosts WHERE id IN", hosts)?;
    Ok(rows.iter().map(|row| (row.int(0), row.text(1).to_owned())).collect())
}

/// Rows by number, a few hundred at a time.
fn some(tx: &Tx<'_>, select: &str, ids: &[i64]) -> Result<Vec<Row>, Refusal> {
    let mut all = Vec::new();
    // One shape of statement, so that it is prepared once.
    for chunk in ids.chunks(100) {
        let marks: Vec<String> = (1..=100).map(|number| format!("?{number}")).collect();
        let last = chunk.last().copied().unwrap_or_default();
        let values: Vec<Sql> = (0..100).map(|at| chunk.get(at).copied().unwrap_or(last).into()).collect();
        all.extend(tx.rows(&format!("{select} ({})", marks.join(", ")), &values)?);
    }
    Ok(all)
}

/// Jobs that the drone has, and that our base forgot: it is asked for them with its next beat.
fn forgotten(tx: &Tx<'_>, shard: i64, beat: &Beat) -> Result<Vec<i64>, Refusal> {
    if beat.own.is_empty() {
        return Ok(Vec::new());
    }
    let open = tx.rows("SELECT id FROM jobs WHERE shard_id = ?1 AND open = 1", &[shard.into()])?;
    let open: HashSet<i64> = open.iter().map(|row| row.int(0)).collect();
    let mut doubtful: Vec<i64> = beat.known_jobs.difference(&open).copied().collect();
    doubtful.sort_unstable();
    let known = some(tx, "SELECT id FROM jobs WHERE id IN", &doubtful)?;
    let known: HashSet<i64> = known.iter().map(|row| row.int(0)).collect();
    Ok(doubtful.into_iter().filter(|id| !known.contains(id)).take(MOST as usize).collect())
}

/// Hosts with a label of the drone's that nobody has, and those that it does not know yet.
fn give_hosts(tx: &Tx<'_>, shard: i64, beat: &Beat) -> Result<Vec<Value>, Refusal> {
    let update = format!(
        "UPDATE hosts SET shard_id = ?1 WHERE id IN (SELECT id FROM hosts WHERE shard_id IS NULL AND leased = 0
         AND invalid = 0 AND id IN (SELECT hl.host_id FROM host_labels hl JOIN labels l ON l.id = hl.label_id
         WHERE l.shard_id = ?1){})",
        tx.for_update()
    );
    tx.run(&update, &[shard.into()])?;
    let select = "SELECT id FROM hosts WHERE shard_id = ?1 AND leased = 0 AND invalid = 0 ORDER BY id";
    let known: HashSet<i64> = beat.known_hosts.iter().copied().collect();
    let rows = tx.rows(select, &[shard.into()])?;
    let new = rows.iter().map(|row| row.int(0)).filter(|id| !known.contains(id)).take(MOST as usize);
    new.filter_map(|id| records::host(tx, id).transpose()).collect::<Result<_, _>>().map_err(Refusal::from)
}

/// Hosts that the drone has and should not. One that our base does not know is none of them: a base that was lost
/// takes no host away.
fn incorrect_hosts(tx: &Tx<'_>, shard: i64, beat: &Beat) -> Result<Vec<i64>, Refusal> {
    let rows = some(tx, "SELECT id, shard_id, invalid FROM hosts WHERE id IN", &beat.known_hosts)?;
    let wrong = rows.iter().filter(|row| row.maybe(1) != Some(shard) || row.truth(2)).map(|row| row.int(0));
    Ok(wrong.collect::<BTreeSet<_>>().into_iter().collect())
}

/// Jobs for the drone's labels and hosts that nobody has; those that it has and does not know; those that it knows
/// and that were aborted.
fn give_jobs(tx: &Tx<'_>, shard: i64, beat: &Beat) -> Result<Vec<Value>, Refusal> {
    if !truth(&beat.own, "full") {
        let update = format!(
            "UPDATE jobs SET shard_id = ?1 WHERE id IN (SELECT id FROM jobs WHERE shard_id IS NULL AND open = 1
             AND id IN (
                SELECT jl.job_id FROM job_labels jl JOIN labels l ON l.id = jl.label_id WHERE l.shard_id = ?1
                UNION SELECT q.job_id FROM hqes q JOIN labels l ON l.id = q.meta_host WHERE l.shard_id = ?1
                UNION SELECT q.job_id FROM hqes q JOIN host_labels hl ON hl.host_id = q.host_id
                      JOIN labels l ON l.id = hl.label_id WHERE l.shard_id = ?1)
             AND id NOT IN (SELECT job_id FROM hqes WHERE active = 1 OR complete = 1)
             ORDER BY id LIMIT ?2{})",
            tx.for_update()
        );
        let free = "SELECT 1 FROM jobs WHERE shard_id IS NULL AND open = 1 LIMIT 1";
        if tx.row(free, &[])?.is_some() {
            tx.run(&update, &[shard.into(), MOST.into()])?;
        }
    }
    let select = "SELECT id, aborted FROM jobs WHERE shard_id = ?1 AND open = 1 ORDER BY id";
    let rows = tx.rows(select, &[shard.into()])?;
    let new = rows.iter().filter(|row| row.truth(1) || !beat.known_jobs.contains(&row.int(0)));
    let new = new.take(MOST as usize).map(|row| records::job(tx, row.int(0)));
    new.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(Refusal::from)
}

/// The keyvals of the suites that these jobs belong to.
fn suite_keyvals(tx: &Tx<'_>, jobs: &[Value]) -> Result<Vec<Value>, Refusal> {
    let ids: Vec<i64> = jobs.iter().filter_map(|job| job.get("id").and_then(number)).collect();
    let rows = some(tx, "SELECT DISTINCT parent_id FROM jobs WHERE parent_id IS NOT NULL AND id IN", &ids)?;
    let parents: BTreeSet<i64> = rows.iter().map(|row| row.int(0)).collect();
    let keyvals = parents.into_iter().map(|parent| records::keyvals(tx, parent));
    Ok(keyvals.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Notes that the drone was heard, what it says of itself, and what was not taken.
fn note(tx: &Tx<'_>, shard: i64, beat: &Beat, aside: &Aside) -> Result<(), Refusal> {
    let report = Value::Object(beat.own.get("report").cloned().map(object).unwrap_or_default()).to_string();
    let report = if report.len() > LARGEST_REPORT { "{}" } else { report.as_str() };
    let update = "UPDATE shards SET last_beat = ?2, beats = beats + 1, report = ?3 WHERE id = ?1";
    tx.run(update, &[shard.into(), now().into(), report.into()])?;
    for (kind, id, why) in &aside.0 {
        let insert = "INSERT INTO refused (shard_id, kind, id, at, why) VALUES (?1, ?2, ?3, ?4, ?5)
                      ON CONFLICT (shard_id, kind, id) DO UPDATE SET at = ?4, why = ?5";
        tx.run(insert, &[shard.into(), (*kind).into(), (*id).into(), now().into(), why.as_str().into()])?;
    }
    Ok(())
}
