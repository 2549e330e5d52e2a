//! Finished when the hub says so: the rule of `completion = "hub"`.
//!
//! The hub is not asked here. The job is put down as one to be asked about; the inquirer asks for many at once, and
//! what it learnt is found at a later look. Swarming runs are known to no hub, and have their marker.

use super::identity::JobId;
use super::marker::Marker;
use super::{Rule, Verdict};
use crate::lane::Lane;
use crate::tree::{JobDir, TreeError};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The rule of `completion = "hub"`.
pub struct ByHub {
    lane: Arc<Lane>,
    marker: Marker,
}

impl ByHub {
    /// Looks up what is known of the lane's jobs.
    pub fn new(lane: &Arc<Lane>) -> Self {
        ByHub { lane: lane.clone(), marker: Marker::new(&lane.settings) }
    }

    fn known(&self, dir: &JobDir) -> Option<SystemTime> {
        let inquiries = &self.lane.site.inquiries;
        inquiries.finished(
            &self.lane.settings.name,
            dir.path(),
            dir.incarnation(),
            self.lane.site.clock.now(),
        )
    }
}

impl Rule for ByHub {
    fn worth_a_look(&self, dir: &JobDir) -> Result<bool, TreeError> {
        match JobId::of(dir.path()) {
            Some(JobId::Run(_)) => self.marker.worth_a_look(dir),
            _ => Ok(self.known(dir).is_some()),
        }
    }

    fn judge(&self, dir: &JobDir, still: Duration, now: SystemTime) -> Result<Verdict, TreeError> {
        if let Some(JobId::Run(_)) = JobId::of(dir.path()) {
            return self.marker.judge(dir, still, now);
        }
        Ok(match self.known(dir) {
            Some(at) if still >= self.lane.settings.settle => Verdict::Finished(at),
            _ => Verdict::NotYet,
        })
    }
}
