//! `[containers]`: the test containers that a drone keeps running.

use crate::report::Complaint;
use crate::units::{self, ByteCount};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How many containers, of what, and when they are replaced.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containers {
    /// The engine's socket, `unix:///var/run/docker.sock`.
    pub engine: String,
    /// The image, `registry/name:tag` or `registry/name@sha256:…`; empty: no containers are kept.
    pub image: String,
    /// Another image, tried by a share of the containers first; empty: none.
    pub canary_image: String,
    /// That share, from 0 to 1; rounded up to whole containers, always the same.
    pub canary_share: f64,
    /// So many containers, named `000`, `001`, …
    pub count: u32,
    /// Goes before these names in the engine.
    pub name_prefix: String,
    /// A container is replaced when it has run for so long, plus up to a tenth; zero: never.
    #[serde(deserialize_with = "units::duration")]
    pub max_uptime: Duration,
    /// The host is drained and rebooted when it has been up for so long, plus up to a fifth; zero: never.
    #[serde(deserialize_with = "units::duration")]
    pub host_max_uptime: Duration,
    /// While this file is there the host is drained: nothing is started.
    pub stop_file: PathBuf,
    /// While this file is there one container is drained; `{name}` is its name.
    pub container_stop_file: String,
    /// When this file appears the host is drained, and then rebooted; it is removed when the reboot is accepted.
    pub reboot_file: PathBuf,
    /// The process that holds this file locked, inside the container, is told to end.
    pub pid_lock: PathBuf,
    /// A container that was told to end has so long; then it is stopped the hard way.
    #[serde(deserialize_with = "units::duration")]
    pub stop_timeout: Duration,
    /// What reboots the host; empty: nothing does.
    pub reboot_command: Vec<String>,
    /// The host is rebooted though something still runs, after so long.
    #[serde(deserialize_with = "units::duration")]
    pub reboot_grace: Duration,
    /// Between two reboots there is at least so long.
    #[serde(deserialize_with = "units::duration")]
    pub reboot_interval: Duration,
    /// In seven days there are at most so many.
    pub reboot_budget: u32,
    /// The host is rebooted when all containers are frozen, or the engine is.
    pub reboot_when_frozen: bool,
    /// An engine that is reached and does not answer counts as frozen after so long.
    #[serde(deserialize_with = "units::duration")]
    pub frozen_after: Duration,
    /// `HOST:CONTAINER[:ro]`; `{name}` is the container's name.
    pub volumes: Vec<String>,
    /// The environment; `{name}`, `{host}` and `{count}` may stand in values.
    pub env: BTreeMap<String, String>,
    /// The command; empty: the image's own.
    pub command: Vec<String>,
    /// Devices that are given to a container when the host has them.
    pub devices: Vec<PathBuf>,
    /// Processors, as `2` or `1.5`; zero: no bound.
    pub cpus: f64,
    /// Memory; zero: no bound.
    pub memory: ByteCount,
    /// Processes and threads; zero: no bound.
    pub pids: u32,
    /// One lock for each container's name; `{name}` stands for it.
    pub lock: String,
    /// A Docker config file, or `user:password`, for the registry.
    pub registry_auth_file: Option<PathBuf>,
}

impl Default for Containers {
    fn default() -> Self {
        Containers {
            engine: "unix:///var/run/docker.sock".into(),
            image: String::new(),
            canary_image: String::new(),
            canary_share: 0.1,
            count: 4,
            name_prefix: String::new(),
            max_uptime: Duration::from_secs(4 * 3600),
            host_max_uptime: Duration::from_secs(24 * 3600),
            stop_file: "/b/shutdown.stamp".into(),
            container_stop_file: "/b/{name}.shutdown.stamp".into(),
            reboot_file: "/b/reboot.stamp".into(),
            pid_lock: "/b/swarming/swarming.lck".into(),
            stop_timeout: Duration::from_secs(4 * 3600),
            reboot_command: Vec::new(),
            reboot_grace: Duration::from_secs(4 * 3600),
            reboot_interval: Duration::from_secs(6 * 3600),
            reboot_budget: 14,
            reboot_when_frozen: false,
            frozen_after: Duration::from_secs(600),
            volumes: vec!["/b/{name}:/b".into()],
            env: BTreeMap::new(),
            command: Vec::new(),
            devices: vec!["/dev/kvm".into()],
            cpus: 0.0,
            memory: ByteCount(0),
            pids: 0,
            lock: "/var/lock/swarm_docker.{name}.lock".into(),
            registry_auth_file: None,
        }
    }
}

/// What cannot work whatever the engine says.
pub(crate) fn judge(containers: &Containers, complaints: &mut Vec<Complaint>) {
    if containers.image.is_empty() {
        return;
    }
    let mut complain = |key: &str, text: &str, help: &str| {
        complaints.push(Complaint::key(&format!("containers.{key}"), text, help));
    };
    if !containers.engine.starts_with("unix:///") {
        complain("engine", "is no socket", "write for example \"unix:///var/run/docker.sock\"");
    }
    if containers.count > 999 {
        complain("count", "is above 999", "names have three digits");
    }
    if !containers.lock.contains("{name}") || !containers.container_stop_file.contains("{name}") {
        complain("lock", "or `container_stop_file` has no `{name}`", "each container has its own");
    }
    for volume in &containers.volumes {
        let parts: Vec<&str> = volume.split(':').collect();
        let absolute = |at: usize| parts.get(at).is_some_and(|path| path.starts_with('/'));
        if !(2..=3).contains(&parts.len()) || !absolute(0) || !absolute(1) {
            complain("volumes", &format!("has `{volume}`"), "write for example \"/b/{name}:/b\"");
        }
    }
    if !containers.cpus.is_finite() || containers.cpus < 0.0 {
        complain("cpus", "is no number of processors", "write for example 2");
    }
    if !(0.0..=1.0).contains(&containers.canary_share) {
        complain("canary_share", "is no share", "write for example 0.1 for a tenth of the containers");
    }
    if containers.reboot_when_frozen && containers.reboot_command.is_empty() {
        complain("reboot_when_frozen", "needs a `reboot_command`", "write for example [\"/sbin/reboot\"]");
    }
    let host = containers.host_max_uptime;
    if !host.is_zero() && host < Duration::from_secs(3600) {
        complain("host_max_uptime", "is below an hour", "write \"0s\" for never, or an hour or more");
    }
}
