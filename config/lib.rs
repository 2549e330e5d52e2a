//! What the operator says: one struct per section, whose `Default` is the shipped default.
//!
//! - `process` who the machine is, its log, how it is asked, how it restarts and ends
//! - `results` what is offloaded, in which lanes, within which limits
//! - `store` where it goes
//! - `containers` the test containers
//! - `routes` what goes elsewhere too; `queue` what is run on each job
//! - `central` the hub's own settings
//! - `hub` who knows the jobs; `mail` who is told of trouble; `notify` what is told of offloaded jobs
//! - `units` durations, sizes, rates, secrets
//! - `load` where the file is found, how the environment changes it
//! - `rules` what no type can say
//! - `difference` what changed between two files
//! - `report` complaints with their place
//! - `import` an Autotest site's ini files

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod central;
mod containers;
mod difference;
mod hub;
mod import;
mod load;
mod mail;
mod notify;
mod process;
mod queue;
mod report;
mod results;
mod routes;
mod rules;
mod store;
#[cfg(test)]
mod tests;
mod units;

pub use central::{Central, HubConfig};
pub use containers::Containers;
pub use difference::{differences, files, redacted};
pub use hub::Hub;
pub use import::{Fate, Imported, IniError, Left, import};
pub use load::{Loaded, VARIABLE, environment, load, load_hub, parse, parse_hub};
pub use mail::Mail;
pub use notify::{Notify, NotifyKind};
pub use process::{Admin, Drone, Log, LogFormat, Mode, Rotate, Shutdown, Supervision};
pub use queue::{On, Queue};
pub use report::ConfigError;
pub use results::{Attempts, Completion, DELETE_ONLY, Disk, Lane, Limits, Order, Results};
pub use routes::{Key, Patterns, Piece, Route, RouteCompress};
pub use store::{Compress, Layout, Store};
pub use units::{BadUnit, ByteCount, ByteRate, Pauses, Percent, Secret};

use serde::Deserialize;

/// The file that shows every key of a hub with its default.
pub const SHIPPED_HUB: &str = include_str!("hub.toml");
/// The file that shows every key with its default: what `init` writes.
pub const SHIPPED: &str = include_str!("drone.toml");

/// The whole configuration of a drone.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    pub drone: Drone,
    pub log: Log,
    pub admin: Admin,
    pub supervision: Supervision,
    pub results: Results,
    pub store: Store,
    #[serde(rename = "lane")]
    pub lanes: Vec<Lane>,
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    #[serde(rename = "queue")]
    pub queues: Vec<Queue>,
    pub containers: Containers,
    pub disk: Disk,
    pub limits: Limits,
    pub hub: Hub,
    pub mail: Mail,
    pub notify: Vec<Notify>,
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            drone: Drone::default(),
            log: Log::default(),
            admin: Admin::default(),
            supervision: Supervision::default(),
            results: Results::default(),
            store: Store::default(),
            lanes: Lane::usual(),
            routes: Vec::new(),
            queues: Vec::new(),
            containers: Containers::default(),
            disk: Disk::default(),
            limits: Limits::default(),
            hub: Hub::default(),
            mail: Mail::default(),
            notify: Vec::new(),
            shutdown: Shutdown::default(),
        }
    }
}

impl Config {
    /// Every section and its keys; a test holds this list to the types.
    pub const KEYS: &[(&str, &[&str])] = &[
        ("drone", &["name", "state_dir", "mode", "queue_database", "queue_database_file"]),
        ("log", &["format", "level", "file", "rotate", "keep"]),
        ("admin", &["listen", "socket", "token", "token_file"]),
        ("supervision", &["max_restarts", "window", "backoff", "hang_after"]),
        ("results", &["dir", "rescan"]),
        (
            "store",
            &[
                "url",
                "prefix",
                "options",
                "layout",
                "compress",
                "stall",
                "min_rate",
                "connections",
                "bandwidth",
            ],
        ),
        (
            "lane",
            &[
                "name",
                "directories",
                "completion",
                "marker",
                "settle",
                "quiet_for",
                "workers",
                "timeout",
                "attempts",
                "upload_after",
                "delete_after",
                "order",
                "honour_instructions",
                "delete_only",
            ],
        ),
        ("route", &["match", "url", "key", "compress", "options", "when"]),
        (
            "queue",
            &[
                "name",
                "workers",
                "timeout",
                "command",
                "on",
                "must_precede_prune",
                "attempts",
                "lanes",
                "output",
                "tasks",
                "heavy_workers",
                "heavy_above",
                "heavy_after",
                "memory",
                "cpu_time",
                "nice",
                "lease",
            ],
        ),
        (
            "containers",
            &[
                "engine",
                "image",
                "canary_image",
                "canary_share",
                "count",
                "name_prefix",
                "max_uptime",
                "host_max_uptime",
                "stop_file",
                "container_stop_file",
                "reboot_file",
                "pid_lock",
                "stop_timeout",
                "reboot_command",
                "reboot_grace",
                "reboot_interval",
                "reboot_budget",
                "reboot_when_frozen",
                "frozen_after",
                "volumes",
                "env",
                "command",
                "devices",
                "cpus",
                "memory",
                "pids",
                "lock",
                "registry_auth_file",
            ],
        ),
        ("disk", &["high", "low", "pressure_workers"]),
        ("limits", &["deletions_per_hour", "hub_requests_per_second"]),
        ("hub", &["url", "heartbeat", "timeout", "token", "token_file", "ca_file"]),
        ("mail", &["smtp", "from", "to", "digest", "user", "password", "password_file", "ca_file"]),
        ("notify", &["url", "kind", "token", "token_file", "account_file", "attributes", "ca_file"]),
        ("shutdown", &["deadline"]),
    ];
}
