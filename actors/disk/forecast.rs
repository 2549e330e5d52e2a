//! When the disk will be full, if it goes on filling as in the last hour.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Of so much time the change is taken.
const WINDOW: Duration = Duration::from_secs(3600);
/// From less nothing is concluded.
const LEAST: Duration = Duration::from_secs(60);
/// Time between two samples that are kept.
const APART: Duration = Duration::from_secs(20);
/// What lies further off is no news.
const FAR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Free space over time.
#[derive(Debug, Default)]
pub struct Forecast {
    samples: VecDeque<(Instant, u64)>,
}

impl Forecast {
    /// Takes in how many bytes are free now; answers with the time until none is, if they get fewer.
    pub fn note(&mut self, now: Instant, free: u64) -> Option<Duration> {
        while self.samples.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= APART) {
            self.samples.push_back((now, free));
        }
        let (begin, then) = self.samples.front()?;
        let (passed, lost) = (now.duration_since(*begin), then.checked_sub(free)?);
        if passed < LEAST || lost == 0 {
            return None;
        }
        let left = Duration::try_from_secs_f64(free as f64 / (lost as f64 / passed.as_secs_f64())).ok()?;
        Some(left).filter(|left| *left < FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_steadily_is_full_when_it_is() {
        let (mut forecast, start) = (Forecast::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(forecast.note(start, 10_000), None);
        assert_eq!(forecast.note(after(30), 9_700), None, "from half a minute");
        // Ten bytes a second.
        assert_eq!(forecast.note(after(100), 9_000), Some(Duration::from_secs(900)));
        // The first hour is forgotten, and so is what it lost.
        let left = (100..8000).step_by(20).map(|second| forecast.note(after(second), 9_000)).last().flatten();
        assert_eq!(left, None);
    }

    #[test]
    fn a_disk_that_empties_is_never_full() {
        let (mut forecast, start) = (Forecast::default(), Instant::now());
        forecast.note(start, 1_000);
        assert_eq!(forecast.note(start + Duration::from_secs(600), 5_000), None);
    }
}
