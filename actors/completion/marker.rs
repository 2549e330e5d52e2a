//! Finished when a marker file says so: `.ready_for_offload`, holding the finish time as Unix seconds.

use super::{Rule, Verdict};
use crate::tree::{JobDir, TreeError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The rule of `completion = "marker"`.
pub struct Marker {
    name: String,
    settle: Duration,
}

impl Marker {
    /// Looks for the marker that the lane names, in a tree that has been still for `settle`.
    pub fn new(lane: &config::Lane) -> Self {
        Marker { name: lane.marker.clone(), settle: lane.settle }
    }
}

impl Rule for Marker {
    fn worth_a_look(&self, dir: &JobDir) -> Result<bool, TreeError> {
        Ok(dir.marker(self.name.as_bytes())?.is_some())
    }

    fn judge(&self, dir: &JobDir, still: Duration, _: SystemTime) -> Result<Verdict, TreeError> {
        let Some(finished_at) = dir.marker(self.name.as_bytes())?.and_then(|text| unix_time(&text)) else {
            return Ok(Verdict::NotYet);
        };
        Ok(match still < self.settle {
            true => Verdict::Restless,
            false => Verdict::Finished(finished_at),
        })
    }
}

/// Reads decimal seconds since 1970 with white space around; anything else is no time.
fn unix_time(text: &[u8]) -> Option<SystemTime> {
    let seconds: u32 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_number_of_seconds_is_a_time() {
        assert_eq!(unix_time(b" 1700000000\n"), Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        for bad in [&b""[..], b"yes", b"-1", b"1e9", b"99999999999999", b"1700000000.5", b"\xff"] {
            assert_eq!(unix_time(bad), None);
        }
    }
}
