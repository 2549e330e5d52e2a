//! What the stages of one lane share: the site, the lane's settings, and what is going on in it.

pub mod seats;

use crate::lab::RelPath;
use crate::site::Site;
use seats::Seats;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// One lane of a drone, as its stages see it.
#[derive(Debug)]
pub struct Lane {
    /// What all lanes work on.
    pub site: Arc<Site>,
    /// What the operator said of this lane.
    pub settings: config::Lane,
    /// Its workers.
    pub seats: Arc<Seats>,
    /// What is going on, for those who ask.
    pub gauge: Gauge,
}

impl Lane {
    /// A lane at rest.
    pub fn new(site: Arc<Site>, settings: config::Lane) -> Self {
        let seats = Seats::new(settings.workers);
        Lane { site, settings, seats, gauge: Gauge::default() }
    }
}

/// Counts of what is going on in a lane. A hint for people; nothing is decided by it but `paused`.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Directories that the last sweep found.
    pub found: AtomicUsize,
    /// Finished jobs that wait for a worker.
    pub backlog: AtomicUsize,
    /// Bytes that wait for a worker.
    pub backlog_bytes: std::sync::atomic::AtomicU64,
    /// A person, or a drain, holds the lane: nothing new is begun.
    pub paused: AtomicBool,
    under_way: Mutex<BTreeMap<RelPath, (&'static str, SystemTime)>>,
}

impl Gauge {
    /// Says what is being done with a job until the result is dropped.
    pub fn doing(self: &Gauge, lane: &Arc<Lane>, job: &RelPath, what: &'static str) -> Doing {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(job.clone(), (what, SystemTime::now()));
        Doing { lane: lane.clone(), job: job.clone() }
    }

    /// Every job in hand: what is done with it, and since when.
    pub fn under_way(&self) -> BTreeMap<RelPath, (&'static str, SystemTime)> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Something is being done with a job, until dropped.
#[derive(Debug)]
pub struct Doing {
    lane: Arc<Lane>,
    job: RelPath,
}

impl Drop for Doing {
    fn drop(&mut self) {
        let mut under_way = self.lane.gauge.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.job);
    }
}
