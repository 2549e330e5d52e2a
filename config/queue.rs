//! `[[queue]]`: commands that run on each job, from a queue that no shutdown can cut off.

use crate::report::Complaint;
use crate::results::Attempts;
use crate::units::{self, ByteCount};
use serde::Deserialize;
use std::collections::HashSet;
use std::time::Duration;

/// When a job goes into a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// When it is complete; it is offloaded after its command has ended.
    #[default]
    Completed,
    /// When it is proven to be in the store.
    Offloaded,
}

/// One queue, with workers of its own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Its name in logs, status and commands.
    pub name: String,
    /// So many commands run at once.
    pub workers: usize,
    /// One run of the command.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// The command and its arguments, with `{job_dir}`, `{job}`, `{lane}`, `{key}`; through no shell.
    pub command: Vec<String>,
    /// Commands that run first, side by side, each an item of its own; `command` runs when all of them have succeeded.
    pub tasks: Vec<Vec<String>>,
    /// So many heavy items run at once, beside the others; 0: nothing is heavy.
    pub heavy_workers: usize,
    /// A job that holds so much is heavy; zero: none for that.
    pub heavy_above: ByteCount,
    /// What has run for so long is heavy from then on; zero: nothing for that.
    #[serde(deserialize_with = "units::duration")]
    pub heavy_after: Duration,
    /// Memory that one process may map; zero: no bound.
    pub memory: ByteCount,
    /// Processor time of one process; zero: no bound.
    #[serde(deserialize_with = "units::duration")]
    pub cpu_time: Duration,
    /// Niceness, 0 to 19.
    pub nice: u8,
    /// An item whose worker has not been heard of for so long is another's.
    #[serde(deserialize_with = "units::duration")]
    pub lease: Duration,
    /// `completed` or `offloaded`.
    pub on: On,
    /// A job is not deleted before its command has succeeded, or a person has dropped the item.
    pub must_precede_prune: bool,
    /// So often the command is tried; then a person decides.
    pub attempts: Attempts,
    /// The lanes whose jobs go in; empty: all.
    pub lanes: Vec<String>,
    /// The last of the command's output that is kept.
    pub output: ByteCount,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            name: String::new(),
            workers: 1,
            timeout: Duration::from_secs(6 * 3600),
            command: Vec::new(),
            tasks: Vec::new(),
            heavy_workers: 0,
            heavy_above: ByteCount(0),
            heavy_after: Duration::ZERO,
            memory: ByteCount(0),
            cpu_time: Duration::ZERO,
            nice: 0,
            lease: Duration::from_secs(60),
            on: On::Completed,
            must_precede_prune: true,
            attempts: Attempts::Limited(5),
            lanes: Vec::new(),
            output: ByteCount(1 << 20),
        }
    }
}

/// What was started has two seconds to end before a lease is over, of which a third is left when it cannot be renewed.
const LEASE: Duration = Duration::from_secs(6);
/// What may stand in a command.
const PLACES: [&str; 4] = ["{job_dir}", "{job}", "{lane}", "{key}"];

/// A queue has a name of its own, a command, and lanes that there are.
pub(crate) fn judge(queues: &[Queue], lanes: &[&str], complaints: &mut Vec<Complaint>) {
    let mut names = HashSet::new();
    for queue in queues {
        let key = |key: &str| format!("queue.{key} of `{}`", queue.name);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if queue.name.is_empty() || queue.name.len() > 40 || !queue.name.chars().all(plain) {
            let help = "write for example \"postprocess\": letters, digits, `-`, `_`";
            complaints.push(Complaint::key(&key("name"), "is no name", help));
        }
        if !names.insert(&queue.name) {
            complaints.push(Complaint::key(&key("name"), "is that of another queue too", "rename one"));
        }
        if queue.workers > 256 || queue.heavy_workers > 256 {
            let help = "1 is usual; 0 leaves the work to `dronekeeper worker`";
            complaints.push(Complaint::key(&key("workers"), "is above 256", help));
        }
        if queue.heavy_workers > 0 && queue.heavy_above.0 == 0 && queue.heavy_after.is_zero() {
            let help = "say what is heavy: `heavy_above = \"1GiB\"`, or `heavy_after = \"10m\"`";
            complaints.push(Complaint::key(&key("heavy_workers"), "has nothing to do", help));
        }
        if queue.nice > 19 {
            complaints.push(Complaint::key(&key("nice"), "is above 19", "write 0 to 19"));
        }
        if queue.lease < LEASE {
            complaints.push(Complaint::key(&key("lease"), "is below 6 s", "\"60s\" is usual"));
        }
        if queue.timeout.is_zero() {
            complaints.push(Complaint::key(&key("timeout"), "is zero", "write for example \"6h\""));
        }
        if queue.command.first().is_none_or(String::is_empty) {
            let help = "write for example [\"tko/parse\", \"-l\", \"2\", \"-r\", \"-o\", \"{job_dir}\"]";
            complaints.push(Complaint::key(&key("command"), "is empty", help));
        }
        if queue.tasks.iter().any(|task| task.first().is_none_or(String::is_empty)) {
            complaints.push(Complaint::key(
                &key("tasks"),
                "has an empty command",
                "write [[\"plugin\", \"{job_dir}\"]]",
            ));
        }
        for argument in queue.tasks.iter().chain([&queue.command]).flatten() {
            let left = PLACES.iter().fold(argument.clone(), |left, place| left.replace(place, ""));
            if left.contains('{') || left.contains('}') {
                let text = format!("has `{argument}`, in which something is not known");
                complaints.push(Complaint::key(
                    &key("command"),
                    &text,
                    "known are {job_dir}, {job}, {lane}, {key}",
                ));
            }
        }
        for lane in queue.lanes.iter().filter(|lane| !lanes.contains(&lane.as_str())) {
            let text = format!("has `{lane}`, and there is no such lane");
            complaints.push(Complaint::key(
                &key("lanes"),
                &text,
                &format!("the lanes are {}", lanes.join(", ")),
            ));
        }
    }
}
