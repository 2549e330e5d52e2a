//! `status` and `jobs`: what a running drone says of itself, for people.

use super::client::{Client, NoAnswer};
use super::job_of;
use crate::say;
use crate::status::Status as Exit;
use actors::console::status::{JobHistory, JobStatus, Status};
use actors::lab::{RelPath, hex, unhex};
use actors::queue::item::ItemView;
use actors::shown::Shown;
use config::{ByteCount, Config};
use jiff::Timestamp;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Shows the state of the drone; degraded is an exit status of its own.
pub fn status(client: &Client, json: bool) -> Exit {
    let status: Status = match client.get("status", &[]) {
        Ok(status) => status,
        Err(NoAnswer(exit)) => return exit,
    };
    match serde_json::to_string_pretty(&status) {
        Ok(text) if json => say::line(text),
        _ => say::text(render(&status)),
    }
    if status.healthy { Exit::Ok } else { Exit::Failed }
}

/// Lists jobs.
pub fn jobs(client: &Client, state: Option<&str>, lane: Option<&str>, json: bool) -> Exit {
    let which = [("state", state), ("lane", lane)];
    let which: Vec<(&str, &str)> = which.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let jobs: Vec<JobStatus> = match client.get("jobs", &which) {
        Ok(jobs) => jobs,
        Err(NoAnswer(exit)) => return exit,
    };
    match serde_json::to_string_pretty(&jobs) {
        Ok(text) if json => say::line(text),
        _ => say::text(table(&jobs)),
    }
    Exit::Ok
}

/// Lists the containers.
pub fn containers(client: &Client) -> Exit {
    let status: Status = match client.get("status", &[]) {
        Ok(status) => status,
        Err(NoAnswer(exit)) => return exit,
    };
    for container in &status.containers {
        let age = Duration::from_secs(
            u64::try_from(status.now).unwrap_or_default().saturating_sub(container.created),
        );
        let ending = container
            .ending
            .as_deref()
            .map_or(String::new(), |why| format!("  to end: {}", Shown::text(why)));
        let (name, id, state) = (&container.name, &container.id, &container.state);
        say::line(format_args!("{name:<6} {id}  {state:<8} {}{ending}", time(age)));
    }
    if let Some(why) = &status.containers_stopped {
        say::line(format_args!("drained: {}", Shown::text(why)));
    }
    if let Some(what) = &status.reboot_waits {
        say::line(format_args!("a reboot waits: {}", Shown::text(what)));
    }
    if status.containers.is_empty() {
        say::line("no containers");
    }
    if !status.containers_gone.is_empty() {
        say::line("ended lately:");
    }
    for gone in &status.containers_gone {
        let ago = u64::try_from(status.now).unwrap_or_default().saturating_sub(gone.when);
        let code = gone.code.map_or("?".to_owned(), |code| code.to_string());
        let (why, last) = (Shown::text(&gone.why), Shown::text(&gone.last));
        let ago = time(Duration::from_secs(ago));
        say::line(format_args!("{:<6} {ago} ago  exit {code}  {why}: {last}", gone.name));
    }
    Exit::Ok
}

/// Lists the items of the queues; with `job`, the hex of a path, only that one's, whole.
pub fn queue(client: &Client, state: Option<&str>, job: Option<&str>, json: bool) -> Exit {
    let which: Vec<(&str, &str)> = state.map(|state| ("state", state)).into_iter().collect();
    let mut items: Vec<ItemView> = match client.get("queue", &which) {
        Ok(items) => items,
        Err(NoAnswer(exit)) => return exit,
    };
    if let Some(job) = job.and_then(unhex).and_then(|job| RelPath::new(job).ok()) {
        items.retain(|item| item.job == job.to_string());
    }
    if json {
        say::line(serde_json::to_string_pretty(&items).unwrap_or_default());
        return Exit::Ok;
    }
    for item in &items {
        let error = item.error.as_deref().map_or(String::new(), |error| format!("  {}", Shown::text(error)));
        let (queue, job) = (Shown::text(&item.queue), &item.job);
        let task = if item.part > 0 { format!(" (task {})", item.part) } else { String::new() };
        let (state, class, attempts) = (&item.state, &item.class, item.attempts);
        say::line(format_args!("{queue:<14} {state:<8} {class:<5} {attempts:>2} failed  {job}{task}{error}"));
    }
    if items.is_empty() {
        say::line("no items");
    }
    Exit::Ok
}

/// Shows one job with its attempts.
pub fn job(client: &Client, config: &Config, dir: &Path) -> Exit {
    let Some(job) = job_of(config, dir) else {
        say::error(format_args!("{} is not below {}", dir.display(), config.results.dir.display()));
        return Exit::UnknownJob;
    };
    match client.get::<JobHistory>(&format!("jobs/{}", hex(job.as_bytes())), &[]) {
        Ok(history) => {
            say::text(tale(&history));
            Exit::Ok
        }
        Err(NoAnswer(exit)) => exit,
    }
}

fn render(status: &Status) -> String {
    let mut out = String::new();
    let health = if status.healthy { "HEALTHY" } else { "DEGRADED" };
    let up = since(status.started_at, status.now);
    let _ = writeln!(out, "dronekeeper {} on {}   {health}   up {up}", status.version, status.drone);
    if let Some(age) = status.oldest_unsafe {
        let _ = writeln!(
            out,
            "  unsafe the oldest result that is not in the store: {}",
            time(Duration::from_secs(age))
        );
    }
    let store = &status.store;
    let proves = match (store.list_proves, store.answers_checksum) {
        (true, _) => "proves by checksum and listing",
        (false, true) => "proves by checksum",
        (false, false) => "proven by reading back",
    };
    let last = store.last_success.map_or("never".to_owned(), |at| format!("{} ago", since(at, status.now)));
    let _ = writeln!(out, "  store  {} ({proves})", store.url);
    let _ = writeln!(
        out,
        "         {} requests, {} sent, last success {last}",
        store.requests,
        ByteCount(store.bytes_sent)
    );
    if let Some(disk) = &status.disk {
        let pressing = if disk.pressing { ", PRESSURE" } else { "" };
        let full = disk.full_in.map(|left| format!(", full in {}", time(Duration::from_secs(left))));
        let _ = writeln!(
            out,
            "  disk   {}: {} free of {}, {} % used{}{pressing}",
            disk.path,
            ByteCount(disk.free),
            ByteCount(disk.total),
            disk.used_percent,
            full.unwrap_or_default()
        );
    }
    if let Some(config) = &status.config {
        let since = since(config.since, status.now);
        let _ = writeln!(out, "  config {} ({}), in force for {since}", config.file, config.checksum);
    }
    if let Some(engine) = &status.engine {
        let last = engine
            .last_success
            .map_or("never".to_owned(), |at| format!("{} s ago", (status.now - at).max(0)));
        let error =
            engine.last_error.as_ref().map_or(String::new(), |error| format!(", last error: {error}"));
        let _ = writeln!(out, "  docker {}, last answer {last}{error}", engine.url);
    }
    if let Some(hub) = &status.hub {
        let last =
            hub.last_success.map_or("never".to_owned(), |at| format!("{} s ago", (status.now - at).max(0)));
        let error = hub.last_error.as_ref().map_or(String::new(), |error| format!(", last error: {error}"));
        let _ = writeln!(out, "  hub    {}, last heartbeat {last}{error}", hub.url);
    }
    for (name, outlet) in [("mail", &status.mail), ("notify", &status.notify)] {
        let Some(outlet) = outlet else { continue };
        let last =
            outlet.last_success.map_or("never".to_owned(), |at| format!("{} ago", since(at, status.now)));
        let error =
            outlet.last_error.as_ref().map_or(String::new(), |error| format!(", last error: {error}"));
        let _ = writeln!(out, "  {name:<6} {} waiting, last sent {last}{error}", outlet.waiting);
    }
    let _ = writeln!(
        out,
        "\n  {:<12} {:>7} {:>8} {:>8} {:>10} {:>7} {:>12}",
        "LANE", "found", "backlog", "in hand", "published", "failed", "quarantined"
    );
    for lane in &status.lanes {
        let _ = writeln!(
            out,
            "  {:<12} {:>7} {:>8} {:>8} {:>10} {:>7} {:>12}",
            lane.name,
            lane.found,
            lane.backlog,
            lane.under_way.len(),
            lane.published,
            lane.failed,
            lane.quarantined
        );
        for special in &lane.special {
            let _ = writeln!(out, "               {special}");
        }
        if let Some(reason) = &lane.paused {
            let _ = writeln!(out, "               paused: {reason}");
        }
        for job in &lane.under_way {
            let since = since(job.since, status.now);
            let _ = writeln!(out, "               {} {} for {since}", job.doing, job.job);
        }
    }
    let _ = writeln!(out, "\n  {:<44} {:<12} {:>8}   last exit", "ACTOR", "state", "restarts");
    for actor in &status.actors {
        let exit = actor.last_exit.as_deref().unwrap_or("-");
        let _ = writeln!(out, "  {:<44} {:<12} {:>8}   {exit}", actor.path, actor.state, actor.restarts);
    }
    if !status.problems.is_empty() {
        let _ = writeln!(out, "\nPROBLEMS");
        for (index, problem) in status.problems.iter().enumerate() {
            let _ =
                writeln!(out, "  {} [{}] {}\n        {}", index + 1, problem.id, problem.text, problem.hint);
        }
    }
    out
}

fn table(jobs: &[JobStatus]) -> String {
    let mut out = String::new();
    let width = jobs.iter().map(|job| job.job.chars().count()).max().unwrap_or(3).clamp(3, 60);
    let _ = writeln!(out, "{:<width$}  {:<10} {:<12} {:>8}  next", "JOB", "LANE", "STATE", "ATTEMPTS");
    for job in jobs {
        let _ = writeln!(
            out,
            "{:<width$}  {:<10} {:<12} {:>8}  {}",
            job.job, job.lane, job.state, job.attempts, job.next
        );
        if let Some(error) = job.last_error.as_ref().filter(|_| job.state == "failed") {
            let _ = writeln!(out, "{:<width$}  {error}", "");
        }
    }
    let _ = writeln!(out, "{} jobs", jobs.len());
    out
}

fn tale(history: &JobHistory) -> String {
    let mut out = String::new();
    let job = &history.job;
    let _ =
        writeln!(out, "{}\n  lane   {}\n  state  {}\n  next   {}", job.job, job.lane, job.state, job.next);
    if let Some(prefix) = &job.prefix {
        let _ = writeln!(out, "  store  {}", actors::shown::Shown::text(prefix));
    }
    for attempt in &history.attempts {
        let outcome = attempt.outcome.as_deref().unwrap_or("under way");
        let _ = writeln!(out, "  attempt {:<3} {}  {outcome}", attempt.number, date(attempt.started));
        if let Some(error) = &attempt.error {
            let _ = writeln!(out, "              {error}");
        }
    }
    out
}

fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "unknown".into(), |time| time.to_string())
}

/// How long ago that was, for people; both in seconds since 1970.
pub fn since(at: i64, now: i64) -> String {
    time(Duration::from_secs((now - at).max(0).unsigned_abs()))
}

/// A time for people, to the second.
fn time(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use actors::console::status::{
        ActorStatus, AttemptStatus, DiskStatus, LaneStatus, Problem, StoreStatus, UnderWay,
    };

    pub(in crate::cli) fn sample() -> Status {
        let store = StoreStatus {
            url: "s3://lab".into(),
            creates: true,
            answers_checksum: true,
            list_proves: true,
            requests: 12,
            bytes_sent: 3 << 20,
            last_success: Some(90),
            last_error: None,
        };
        let under_way = vec![UnderWay { job: "7-a".into(), doing: "uploading".into(), since: 40 }];
        let lane = LaneStatus {
            name: "jobs".into(),
            workers: 1,
            special: vec!["shadow mode: deletes nothing".into()],
            found: 3,
            backlog: 1,
            backlog_bytes: 9,
            published: 0,
            failed: 1,
            quarantined: 0,
            paused: Some("bucket move".into()),
            under_way,
        };
        let actor = ActorStatus {
            path: "root/offload/ledger".into(),
            state: "running".into(),
            generation: 2,
            restarts: 1,
            last_exit: Some("panicked at x.rs:1:2: boom".into()),
        };
        let problem = Problem {
            id: "failed".into(),
            text: "1 directories failed".into(),
            hint: "dronekeeper jobs".into(),
        };
        Status {
            schema: 1,
            drone: "drone7".into(),
            version: "0.1.0".into(),
            pid: 1,
            started_at: 0,
            now: 100,
            healthy: false,
            oldest_unsafe: Some(3700),
            store,
            lanes: vec![lane],
            actors: vec![actor],
            abandoned_threads: 0,
            disk: Some(DiskStatus {
                path: "/r".into(),
                total: 100 << 20,
                free: 20 << 20,
                inodes: 0,
                inodes_free: 0,
                used_percent: 80,
                pressing: true,
                full_in: Some(3600),
            }),
            hub: None,
            engine: None,
            config: None,
            containers: Vec::new(),
            containers_gone: Vec::new(),
            containers_stopped: None,
            reboot_waits: None,
            mail: None,
            notify: None,
            problems: vec![problem],
        }
    }

    #[test]
    fn one_screen_tells_health_lanes_actors_and_the_way_out() {
        let screen = render(&sample());
        for part in [
            "drone7   DEGRADED   up 1m 40s",
            "not in the store: 1h 1m 40s",
            "paused: bucket move",
            "shadow mode: deletes nothing",
            "/r: 20MiB free of 100MiB, 80 % used, full in 1h, PRESSURE",
            "uploading 7-a for 1m",
            "last success 10s ago",
            "panicked at x.rs:1:2: boom",
            "[failed] 1 directories failed",
            "proves by checksum and listing",
        ] {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
    }

    #[test]
    fn a_jobs_tale_names_each_attempt_with_its_error() {
        let job = JobStatus {
            job: "7-a".into(),
            job_hex: "37".into(),
            lane: "jobs".into(),
            state: "failed".into(),
            attempts: 2,
            last_error: None,
            next: "tried again".into(),
            prefix: None,
        };
        let error = Some("no room".to_owned());
        let attempts = vec![AttemptStatus {
            number: 1,
            started: 0,
            ended: Some(5),
            outcome: Some("disk_full".into()),
            error,
        }];
        let tale = tale(&JobHistory { job, attempts });
        assert!(
            tale.contains("attempt 1   1970-01-01T00:00:00Z  disk_full\n              no room"),
            "{tale}"
        );
    }
}
