//! What the drone says of itself: one snapshot, which every surface renders.

use crate::store::Abilities;
use serde::{Deserialize, Serialize};

/// The state of a drone at one moment. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Status {
    pub schema: u32,
    pub drone: String,
    pub version: String,
    pub pid: u32,
    pub started_at: i64,
    pub now: i64,
    pub healthy: bool,
    /// For so long the oldest job has been known that is not in the store, in seconds.
    #[serde(default)]
    pub oldest_unsafe: Option<u64>,
    pub store: StoreStatus,
    pub lanes: Vec<LaneStatus>,
    pub actors: Vec<ActorStatus>,
    pub abandoned_threads: usize,
    pub disk: Option<DiskStatus>,
    /// How the sending of mail goes, where on-call is told by mail.
    #[serde(default)]
    pub hub: Option<HubStatus>,
    /// The Docker engine, where containers are kept.
    #[serde(default)]
    pub engine: Option<HubStatus>,
    /// The configuration file that is in force; none: the embedded defaults.
    #[serde(default)]
    pub config: Option<ConfigStatus>,
    #[serde(default)]
    pub containers: Vec<crate::launcher::standing::ContainerView>,
    /// Those that ended lately, the newest first.
    #[serde(default)]
    pub containers_gone: Vec<crate::launcher::standing::Gone>,
    /// Why no containers are started, if none are.
    #[serde(default)]
    pub containers_stopped: Option<String>,
    /// What a reboot of the host waits for, if one is wanted.
    #[serde(default)]
    pub reboot_waits: Option<String>,
    pub mail: Option<OutletStatus>,
    #[serde(default)]
    pub notify: Option<OutletStatus>,
    pub problems: Vec<Problem>,
}

/// The store, as the drone meets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StoreStatus {
    pub url: String,
    pub creates: bool,
    pub answers_checksum: bool,
    pub list_proves: bool,
    pub requests: u64,
    pub bytes_sent: u64,
    pub last_success: Option<i64>,
    pub last_error: Option<String>,
}

impl StoreStatus {
    /// Fills in what the store was found to do.
    pub fn with(self, abilities: Abilities) -> Self {
        let Abilities { creates, answers_checksum, list_proves } = abilities;
        StoreStatus { creates, answers_checksum, list_proves, ..self }
    }
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LaneStatus {
    pub name: String,
    /// As many as there may be under way now.
    pub workers: usize,
    /// What is not as usual in this lane because the operator says so.
    pub special: Vec<String>,
    pub found: usize,
    pub backlog: usize,
    pub backlog_bytes: u64,
    pub published: usize,
    pub failed: usize,
    pub quarantined: usize,
    pub paused: Option<String>,
    pub under_way: Vec<UnderWay>,
}

/// One job in hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct UnderWay {
    pub job: String,
    pub doing: String,
    pub since: i64,
}

/// One child of the supervision tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ActorStatus {
    pub path: String,
    pub state: String,
    pub generation: u64,
    pub restarts: u64,
    pub last_exit: Option<String>,
}

/// The file system that the results are on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DiskStatus {
    pub path: String,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that are left.
    pub free: u64,
    /// 0 where the file system has no fixed number.
    pub inodes: u64,
    pub inodes_free: u64,
    /// Of bytes or inodes, whichever is higher.
    pub used_percent: u8,
    /// More workers, and the largest job first, until there is room again.
    pub pressing: bool,
    /// Seconds until it is full, if it goes on as in the last hour.
    pub full_in: Option<u64>,
}

/// The mail to on-call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OutletStatus {
    /// So many are not sent yet.
    pub waiting: usize,
    pub last_success: Option<i64>,
    pub last_error: Option<String>,
}

/// A configuration file, as it was when it came into force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConfigStatus {
    pub file: String,
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// CRC-32C of its text, in hex: the same text on two drones has the same.
    pub checksum: String,
}

/// The hub, as the heartbeats meet it; the Docker engine, likewise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HubStatus {
    pub url: String,
    pub last_success: Option<i64>,
    pub last_error: Option<String>,
}

/// Something that is not as it should be, and what one can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Problem {
    pub id: String,
    pub text: String,
    pub hint: String,
}

/// One job, for lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct JobStatus {
    pub job: String,
    /// The job's true bytes in hex.
    pub job_hex: String,
    pub lane: String,
    pub state: String,
    pub attempts: u32,
    pub last_error: Option<String>,
    /// What comes next, in words.
    pub next: String,
    pub prefix: Option<String>,
}

/// One job with its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct JobHistory {
    pub job: JobStatus,
    pub attempts: Vec<AttemptStatus>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AttemptStatus {
    pub number: u32,
    pub started: i64,
    pub ended: Option<i64>,
    pub outcome: Option<String>,
    pub error: Option<String>,
}
