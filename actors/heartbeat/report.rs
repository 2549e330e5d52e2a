//! What a drone says of itself to a hub of ours: what people look for on the fleet page.

use crate::console::desk::Desk;
use serde::Serialize;

/// The most problems that are told, and the longest of them, in characters.
const PROBLEMS: usize = 10;
const LONGEST: usize = 300;

/// A drone's word on itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Of dronekeeper.
    pub version: String,
    /// How full the disk is, in percent.
    pub disk_percent: Option<u8>,
    /// Seconds until it is full, if it fills.
    pub full_in: Option<u64>,
    /// Too full to take new jobs.
    pub full: bool,
    /// A person said that nothing new is to begin.
    pub draining: bool,
    /// Finished jobs that are not in the store.
    pub backlog: u64,
    /// How long the oldest of them has been known, in seconds.
    pub oldest_unsafe: Option<u64>,
    /// Jobs whose last attempt failed, or that wait for a person.
    pub failing: u64,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

/// Looks at the drone.
pub async fn report(desk: &Desk) -> Report {
    let status = desk.status().await;
    let lanes = || status.lanes.iter();
    let sentence = |problem: &crate::console::status::Problem| {
        format!("{}: {}", problem.id, problem.text).chars().take(LONGEST).collect()
    };
    let disk = status.disk.as_ref();
    Report {
        version: status.version.clone(),
        disk_percent: disk.map(|disk| disk.used_percent),
        full_in: disk.and_then(|disk| disk.full_in),
        full: disk.is_some_and(|disk| disk.pressing),
        draining: desk.draining().await,
        backlog: lanes().map(|lane| lane.backlog as u64 + lane.under_way.len() as u64).sum(),
        oldest_unsafe: desk.oldest_unsafe().await.map(|age| age.as_secs()),
        failing: lanes().map(|lane| (lane.failed + lane.quarantined) as u64).sum(),
        problems: status.problems.iter().take(PROBLEMS).map(sentence).collect(),
    }
}
