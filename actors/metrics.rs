//! Metrics in Prometheus' text format: base units, `_total` on counters, labels from small sets only.

use crate::console::status::{ActorStatus, LaneStatus, Status};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A text that grows by one metric after the other.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// A value with its labels.
pub type Sample<'a> = (Vec<(&'a str, String)>, f64);

impl Exposition {
    /// Adds a metric that may go up and down.
    pub fn gauge(&mut self, name: &str, help: &str, samples: &[Sample<'_>]) {
        self.add(name, "gauge", help, samples);
    }

    /// Adds a metric that only goes up while the process lives.
    pub fn counter(&mut self, name: &str, help: &str, samples: &[Sample<'_>]) {
        self.add(name, "counter", help, samples);
    }

    fn add(&mut self, name: &str, kind: &str, help: &str, samples: &[Sample<'_>]) {
        if samples.is_empty() {
            return;
        }
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }
}

/// One value without labels.
pub fn one(value: impl Into<f64>) -> Vec<Sample<'static>> {
    vec![(Vec::new(), value.into())]
}

/// A count; above 2^53 the last digits are lost, as in Prometheus itself.
pub fn count(value: u64) -> f64 {
    value as f64
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What a drone says of itself, as metrics.
pub fn of_drone(status: &Status) -> String {
    let mut all = Exposition::default();
    let info = vec![("version", status.version.clone()), ("drone", status.drone.clone())];
    all.gauge("dronekeeper_build_info", "The version that runs, and the drone's name.", &[(info, 1.0)]);
    let help = "When the process began, in seconds since 1970.";
    all.gauge("dronekeeper_start_timestamp_seconds", help, &one(status.started_at as f64));
    all.gauge("dronekeeper_healthy", "Whether nothing is wrong.", &one(f64::from(u8::from(status.healthy))));
    if let Some(age) = status.oldest_unsafe {
        let help = "For how long the oldest job has been known that is not in the store.";
        all.gauge("dronekeeper_oldest_unsafe_seconds", help, &one(count(age)));
    }
    let problems: Vec<Sample<'_>> =
        status.problems.iter().map(|problem| (vec![("kind", problem.id.clone())], 1.0)).collect();
    all.gauge("dronekeeper_problem", "What is wrong, by kind.", &problems);
    lanes(&mut all, status);
    let store = &status.store;
    all.counter("dronekeeper_store_requests_total", "Requests to the store.", &one(count(store.requests)));
    all.counter(
        "dronekeeper_store_sent_bytes_total",
        "Bytes sent to the store.",
        &one(count(store.bytes_sent)),
    );
    if let Some(at) = store.last_success {
        let help = "When the store last did what it was asked.";
        all.gauge("dronekeeper_store_last_success_timestamp_seconds", help, &one(at as f64));
    }
    if let Some(disk) = &status.disk {
        all.gauge(
            "dronekeeper_disk_size_bytes",
            "Size of the results' file system.",
            &one(count(disk.total)),
        );
        all.gauge("dronekeeper_disk_free_bytes", "What is left of it.", &one(count(disk.free)));
        all.gauge("dronekeeper_disk_inodes", "Its inodes; 0: no fixed number.", &one(count(disk.inodes)));
        all.gauge("dronekeeper_disk_inodes_free", "What is left of them.", &one(count(disk.inodes_free)));
        if let Some(left) = disk.full_in {
            all.gauge("dronekeeper_disk_full_in_seconds", "Time until it is full.", &one(count(left)));
        }
    }
    actors(&mut all, status);
    if let Some(at) = status.hub.as_ref().and_then(|hub| hub.last_success) {
        let help = "When the hub last answered a heartbeat.";
        all.gauge("dronekeeper_heartbeat_last_success_timestamp_seconds", help, &one(at as f64));
    }
    for (outlet, state) in [("mail", &status.mail), ("notify", &status.notify)] {
        let Some(state) = state else { continue };
        let name = format!("dronekeeper_{outlet}_waiting");
        all.gauge(&name, "What is written and not sent.", &one(count(state.waiting as u64)));
    }
    let mut containers: BTreeMap<&str, f64> = BTreeMap::new();
    status.containers.iter().for_each(|container| *containers.entry(&container.state).or_default() += 1.0);
    let containers: Vec<Sample<'_>> =
        containers.into_iter().map(|(state, count)| (vec![("state", state.to_owned())], count)).collect();
    all.gauge("dronekeeper_containers", "Test containers, by state.", &containers);
    all.text()
}

fn lanes(all: &mut Exposition, status: &Status) {
    let mut each = |name: &str, help: &str, value: fn(&LaneStatus) -> f64| {
        let samples: Vec<Sample<'_>> =
            status.lanes.iter().map(|lane| (vec![("lane", lane.name.clone())], value(lane))).collect();
        all.gauge(name, help, &samples);
    };
    each("dronekeeper_lane_workers", "Jobs that may be under way at once.", |lane| {
        count(lane.workers as u64)
    });
    each("dronekeeper_lane_directories", "Directories that the last sweep found.", |lane| {
        count(lane.found as u64)
    });
    each("dronekeeper_lane_backlog", "Finished jobs that wait.", |lane| count(lane.backlog as u64));
    each("dronekeeper_lane_backlog_bytes", "Their bytes.", |lane| count(lane.backlog_bytes));
    each("dronekeeper_lane_in_hand", "Jobs that are worked on.", |lane| count(lane.under_way.len() as u64));
    each("dronekeeper_lane_published", "Jobs that are proven, and still here.", |lane| {
        count(lane.published as u64)
    });
    each("dronekeeper_lane_failed", "Jobs whose last attempt failed.", |lane| count(lane.failed as u64));
    each("dronekeeper_lane_quarantined", "Jobs that wait for a person.", |lane| {
        count(lane.quarantined as u64)
    });
    each("dronekeeper_lane_paused", "Whether a person holds it.", |lane| {
        f64::from(u8::from(lane.paused.is_some()))
    });
}

fn actors(all: &mut Exposition, status: &Status) {
    let path = |actor: &ActorStatus| vec![("actor", actor.path.clone())];
    let restarts: Vec<Sample<'_>> =
        status.actors.iter().map(|actor| (path(actor), count(actor.restarts))).collect();
    all.counter("dronekeeper_actor_restarts_total", "Restarts of each part of the tree.", &restarts);
    let up = |state: &str| f64::from(u8::from(state == "running"));
    let running: Vec<Sample<'_>> =
        status.actors.iter().map(|actor| (path(actor), up(&actor.state))).collect();
    all.gauge("dronekeeper_actor_running", "Whether each part of the tree runs.", &running);
    let help = "Threads that hang and were left to themselves.";
    all.gauge("dronekeeper_abandoned_threads", help, &one(count(status.abandoned_threads as u64)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_from_outside_break_no_line() {
        let mut all = Exposition::default();
        all.gauge("x", "Help.", &[(vec![("a", "q\"\\\n".into())], 1.5)]);
        all.counter("none", "Not shown.", &[]);
        assert_eq!(all.text(), "# HELP x Help.\n# TYPE x gauge\nx{a=\"q\\\"\\\\\\n\"} 1.5\n");
    }
}
