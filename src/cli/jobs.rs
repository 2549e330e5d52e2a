//! `retry`, `pause`, `resume`, `quarantine`: what a running drone is told.

use super::client::{Client, NoAnswer};
use super::job_of;
use crate::say;
use crate::status::Status;
use actors::lab::hex;
use config::Config;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The jobs that directories on the command line name, as the hex of their paths.
///
/// # Errors
/// When one of them names none, after saying so: then nothing is done with the others either.
pub fn named(config: &Config, dirs: &[PathBuf]) -> Result<Vec<String>, Status> {
    let job = |dir: &PathBuf| {
        let Some(job) = job_of(config, dir) else {
            say::error(format_args!("{} is not below {}", dir.display(), config.results.dir.display()));
            return Err(Status::Failed);
        };
        Ok(hex(job.as_bytes()))
    };
    dirs.iter().map(job).collect()
}

/// Makes jobs due now; `None` all that failed.
pub fn retry(client: &Client, jobs: Option<Vec<String>>, quarantined: bool) -> Status {
    answered(client.post("retry", json!({ "jobs": jobs, "quarantined": quarantined })), |done| {
        format!("{done} directories are tried again now")
    })
}

/// Holds a lane, or all.
pub fn pause(
    client: &Client,
    lane: Option<String>,
    time: Option<Duration>,
    reason: Option<String>,
) -> Status {
    let what = lane.clone().map_or("all lanes".to_owned(), |lane| format!("lane {lane}"));
    let body = json!({ "lane": lane, "seconds": time.map(|time| time.as_secs()), "reason": reason });
    answered(client.post("pause", body), |_| format!("{what}: nothing new is begun"))
}

/// Lets a lane, or all, go on.
pub fn resume(client: &Client, lane: Option<String>) -> Status {
    answered(client.post("resume", json!({ "lane": lane })), |done| match done {
        Value::Bool(true) => "resumed".to_owned(),
        _ => "nothing was held".to_owned(),
    })
}

/// Forgets rows of the ledger.
pub fn forget(client: &Client, jobs: Vec<String>) -> Status {
    answered(client.post("quarantine/drop", json!({ "jobs": jobs })), |_| {
        "forgotten; the directory stays, and is found again by the next sweep".to_owned()
    })
}

/// Has the configuration read again, and prints the verdict.
pub fn reload(client: &Client) -> Status {
    answered(client.post("reload", json!({})), |done| match done.as_array().map(Vec::as_slice) {
        Some([]) | None => {
            "nothing is different, in the file or in the files of secrets that it names".to_owned()
        }
        Some(lines) => lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
    })
}

/// Lets a container, or all, end and not come back, or come back.
pub fn containers(client: &Client, name: Option<String>, drain: bool) -> Status {
    let what = name.clone().map_or("all containers".to_owned(), |name| format!("container {name}"));
    let (order, words) = match drain {
        true => ("containers/drain", "end when their tests have, and none take their place"),
        false => ("containers/resume", "are started again"),
    };
    answered(client.post(order, json!({ "name": name })), |_| format!("{what}: {words}"))
}

/// Has the host rebooted once nothing of worth runs.
pub fn reboot(client: &Client) -> Status {
    answered(client.post("reboot", json!({})), |_| "the host is drained, and then rebooted".to_owned())
}

/// Makes items of the queues due again, or drops them; `None` all that gave up.
pub fn queue(client: &Client, what: &str, jobs: Option<Vec<String>>) -> Status {
    answered(client.post(what, json!({ "jobs": jobs })), |done| format!("{done} items"))
}

fn answered(answer: Result<Value, NoAnswer>, words: impl Fn(&Value) -> String) -> Status {
    match answer {
        Ok(answer) => {
            say::line(words(answer.get("done").unwrap_or(&Value::Null)));
            Status::Ok
        }
        Err(NoAnswer(status)) => status,
    }
}
