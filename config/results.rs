//! `[results]`, `[[lane]]`, `[disk]`, `[limits]`: what there is to offload, and in what manner.

use crate::units::{self, Percent};
use serde::{Deserialize, Deserializer, de};
use std::path::PathBuf;
use std::time::Duration;

/// Where results are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Results {
    /// The results directory.
    pub dir: PathBuf,
    /// Time between two sweeps, and the shortest pause before a failed job is tried again.
    #[serde(deserialize_with = "units::duration")]
    pub rescan: Duration,
}

impl Default for Results {
    fn default() -> Self {
        Results { dir: "./results".into(), rescan: Duration::from_secs(5) }
    }
}

/// How a lane knows that a job has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// A marker file in the job's directory holds the finish time.
    Marker,
    /// Nothing below the directory has changed for `quiet_for`.
    Quiet,
    /// The hub says that the job, or special task, of the directory's id has finished.
    Hub,
}

/// Which job of a lane goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The one that finished first.
    Oldest,
    /// The one with the fewest bytes.
    Smallest,
    /// The one with the most bytes.
    Largest,
}

/// How often a job is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempts {
    /// For ever, with growing pauses.
    Unlimited,
    /// So often; then it is quarantined, and kept.
    Limited(u32),
}

impl<'de> Deserialize<'de> for Attempts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Number(u32),
            Text(String),
        }
        match Value::deserialize(from) {
            Ok(Value::Number(most)) if most > 0 => Ok(Attempts::Limited(most)),
            Ok(Value::Text(text)) if text == "unlimited" => Ok(Attempts::Unlimited),
            _ => Err(de::Error::custom("`attempts` is \"unlimited\" or a number from 1")),
        }
    }
}

/// One lane: which directories, when they are finished, who works on them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lane {
    /// Its name in logs, status and commands.
    pub name: String,
    /// Patterns below `results.dir`; `*`, `?` and `[…]` do not match a `/`.
    pub directories: Vec<String>,
    /// `hub`, `marker` or `quiet`.
    pub completion: Completion,
    /// The marker's file name, for `completion = "marker"`. It holds Unix seconds.
    pub marker: String,
    /// How long a job with a marker must also have been still.
    #[serde(deserialize_with = "units::duration")]
    pub settle: Duration,
    /// How long nothing may have changed, for `completion = "quiet"`.
    #[serde(deserialize_with = "units::duration")]
    pub quiet_for: Duration,
    /// So many directories are under way at once.
    pub workers: usize,
    /// One attempt at one directory.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// `"unlimited"`, or a number; a directory that ran out is quarantined, reported and kept.
    pub attempts: Attempts,
    /// A job is not uploaded before it is so old.
    #[serde(deserialize_with = "units::duration")]
    pub upload_after: Duration,
    /// A proven job is kept on the drone for so long.
    #[serde(deserialize_with = "units::duration")]
    pub delete_after: Duration,
    /// `oldest`, `smallest` or `largest` first.
    pub order: Order,
    /// Obey `.GS_OFFLOADER_INSTRUCTIONS`, which a device under test could forge.
    pub honour_instructions: bool,
    /// [`DELETE_ONLY`], word for word: finished jobs of this lane are deleted, and stored nowhere.
    #[serde(deserialize_with = "plain_words")]
    pub delete_only: bool,
}

/// What an operator must write to have results deleted that are stored nowhere.
pub const DELETE_ONLY: &str = "delete finished results without storing them";

/// Reads `delete_only`: absent or `""` is no, the sentence is yes, and everything else is an error.
fn plain_words<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match String::deserialize(from)?.as_str() {
        "" => Ok(false),
        DELETE_ONLY => Ok(true),
        _ => Err(de::Error::custom(format!("`delete_only` must say exactly \"{DELETE_ONLY}\""))),
    }
}

impl Default for Lane {
    fn default() -> Self {
        Lane {
            name: String::new(),
            directories: Vec::new(),
            completion: Completion::Marker,
            marker: ".ready_for_offload".into(),
            settle: Duration::from_secs(2),
            quiet_for: Duration::from_secs(600),
            workers: 1,
            timeout: Duration::from_secs(3 * 3600),
            attempts: Attempts::Unlimited,
            upload_after: Duration::ZERO,
            delete_after: Duration::ZERO,
            order: Order::Oldest,
            honour_instructions: false,
            delete_only: false,
        }
    }
}

impl Lane {
    /// The lanes of a lab that configures none: what the old offloader's three kinds of directory were.
    pub fn usual() -> Vec<Lane> {
        let lane = |name: &str, directories: &[&str], workers| Lane {
            name: name.into(),
            directories: directories.iter().map(ToString::to_string).collect(),
            workers,
            ..Lane::default()
        };
        vec![
            lane("jobs", &["[0-9]*-*"], 1),
            lane("special", &["hosts/*/[0-9]*-*"], 2),
            lane("swarming", &["swarming-*[1-9a-f]", "swarming-*0/[1-9a-f]*"], 1),
        ]
    }
}

/// When the disk is full, and when it is not any more.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disk {
    /// Above this share in use the disk counts as full: status is degraded.
    pub high: Percent,
    /// Below this share it is not full any more.
    pub low: Percent,
    /// While the disk is full, a lane has at least so many workers, and the largest job goes first.
    pub pressure_workers: usize,
}

impl Default for Disk {
    fn default() -> Self {
        Disk { high: Percent(85), low: Percent(70), pressure_workers: 5 }
    }
}

/// What no fault and no mistake may exceed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Jobs deleted within an hour; beyond, pruning stops until a person says `resume`.
    pub deletions_per_hour: u32,
    /// Requests to the hub, of the whole process.
    pub hub_requests_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { deletions_per_hour: 10_000, hub_requests_per_second: 20 }
    }
}
