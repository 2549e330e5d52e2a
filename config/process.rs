//! `[drone]`, `[log]`, `[admin]`, `[supervision]`, `[shutdown]`: the process itself.

use crate::report::Complaint;
use crate::units::{self, ByteCount, Pauses, Secret};
use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Who this machine is, and where it keeps its own files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drone {
    /// The drone's name in claims, manifests and reports. Default: the host's name.
    pub name: String,
    /// Where the ledger, the control socket and the deletion log are.
    pub state_dir: PathBuf,
    /// `offload`, or `shadow`: do everything but delete.
    pub mode: Mode,
    /// Where the queues are, if they are not in `state_dir`: `postgres://…`.
    pub queue_database: Option<Secret>,
    /// A file that holds it instead.
    pub queue_database_file: Option<PathBuf>,
}

/// What a drone does with jobs that are proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Deletes them here, after `delete_after`.
    Offload,
    /// Keeps them: for a run beside the system that it is to replace.
    Shadow,
}

impl Default for Drone {
    fn default() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Drone {
            name: host,
            state_dir: "./state".into(),
            mode: Mode::Offload,
            queue_database: None,
            queue_database_file: None,
        }
    }
}

impl Drone {
    /// Reads the address of the queues from its file.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Complaint> {
        if let Some(path) = &self.queue_database_file {
            self.queue_database = Some(units::secret_file("drone.queue_database_file", path)?);
        }
        Ok(())
    }

    /// Where the queues are: a file below `state_dir`, or `postgres://…`.
    pub fn queues(&self) -> &str {
        self.queue_database.as_ref().map_or("queue.sqlite", Secret::expose)
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line of text per event.
    Text,
    /// One JSON object per line.
    Json,
    /// systemd's journal, with fields.
    Journald,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text`, `json` or `journald`.
    pub format: LogFormat,
    /// A level, or levels per target: `"info,actors::uploader=debug"`.
    pub level: String,
    /// A file instead of standard output; it leads to the newest of those that are kept.
    pub file: Option<PathBuf>,
    /// When the next file is begun.
    pub rotate: Rotate,
    /// So many files are kept.
    pub keep: usize,
}

/// When the next log file is begun, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rotate {
    Daily,
    Hourly,
    /// When it holds so much.
    Size(ByteCount),
}

impl<'de> Deserialize<'de> for Rotate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let size = || text.parse::<ByteCount>().ok().filter(|size| size.0 >= SMALLEST);
        match text.as_str() {
            "daily" => Ok(Rotate::Daily),
            "hourly" => Ok(Rotate::Hourly),
            _ => size().map(Rotate::Size).ok_or_else(|| {
                serde::de::Error::custom("write \"daily\", \"hourly\", or a size of at least \"64KiB\"")
            }),
        }
    }
}

/// The smallest log file that is worth a rotation, in bytes.
const SMALLEST: u64 = 64 << 10;

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, level: "info".into(), file: None, rotate: Rotate::Daily, keep: 14 }
    }
}

/// Where the process can be asked and told.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Read-only HTTP.
    pub listen: SocketAddr,
    /// The control socket, relative to `drone.state_dir`.
    pub socket: PathBuf,
    /// With it the programs that run the jobs may come in at `listen` too.
    pub token: Option<Secret>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
}

impl Admin {
    /// Reads the token from its file.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Complaint> {
        if let Some(path) = &self.token_file {
            self.token = Some(units::secret_file("admin.token_file", path)?);
        }
        Ok(())
    }
}

impl Default for Admin {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 9470));
        Admin { listen, socket: "dronekeeper.sock".into(), token: None, token_file: None }
    }
}

/// How crashed parts are restarted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supervision {
    /// So many restarts within `window`, then the parent takes over.
    pub max_restarts: usize,
    /// See `max_restarts`.
    #[serde(deserialize_with = "units::duration")]
    pub window: Duration,
    /// Pauses before a restart: the first, doubled up to the last.
    pub backoff: Pauses,
    /// A part that does not answer for so long is replaced.
    #[serde(deserialize_with = "units::duration")]
    pub hang_after: Duration,
}

impl Default for Supervision {
    fn default() -> Self {
        Supervision {
            max_restarts: 5,
            window: Duration::from_secs(60),
            backoff: Pauses { first: Duration::from_millis(100), most: Duration::from_secs(30) },
            hang_after: Duration::from_secs(120),
        }
    }
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// What is not finished then is left for the next start.
    #[serde(deserialize_with = "units::duration")]
    pub deadline: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { deadline: Duration::from_secs(25) }
    }
}
