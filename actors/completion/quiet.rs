//! Finished when nothing below the directory has changed for long enough.

use super::{Rule, Verdict};
use crate::tree::{JobDir, TreeError};
use std::time::{Duration, SystemTime};

/// The rule of `completion = "quiet"`.
pub struct Quiet {
    quiet_for: Duration,
}

impl Quiet {
    /// Waits as long as the lane's `quiet_for`.
    pub fn new(lane: &config::Lane) -> Self {
        Quiet { quiet_for: lane.quiet_for }
    }
}

impl Rule for Quiet {
    fn worth_a_look(&self, _: &JobDir) -> Result<bool, TreeError> {
        Ok(true)
    }

    fn judge(&self, _: &JobDir, still: Duration, now: SystemTime) -> Result<Verdict, TreeError> {
        Ok(match still >= self.quiet_for {
            true => Verdict::Finished(now - still),
            false => Verdict::NotYet,
        })
    }
}
