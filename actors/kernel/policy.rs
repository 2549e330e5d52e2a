//! What a supervisor does about an exit: whom it restarts, how soon, and when it gives up.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::Instant;

/// Whom an exit concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The child alone.
    OneForOne,
    /// All its siblings: they stop, and all start again.
    OneForAll,
    /// The siblings that were started after it.
    RestForOne,
}

/// When a child is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// After every exit.
    Permanent,
    /// After an abnormal exit.
    Transient,
    /// Never, and its spec is forgotten.
    Temporary,
}

/// What happens when restarts exceed the intensity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhaustion {
    /// All children are stopped, and the supervisor exits with [`crate::Exit::Escalated`].
    Escalate,
    /// The child that exceeded it rests so long, and is then started again; its siblings go on.
    Rest(Duration),
}

/// How a supervisor treats its children.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Whom an exit concerns.
    pub strategy: Strategy,
    /// So many restarts within `period` are borne; one exit is one restart, however many siblings it moves.
    pub intensity: usize,
    /// See `intensity`.
    pub period: Duration,
    /// What happens beyond.
    pub on_exhaustion: OnExhaustion,
}

impl Default for Policy {
    /// One restart in five seconds, as OTP's.
    fn default() -> Self {
        Policy {
            strategy: Strategy::OneForOne,
            intensity: 1,
            period: Duration::from_secs(5),
            on_exhaustion: OnExhaustion::Escalate,
        }
    }
}

/// The pauses before a child's restarts: doubled from the first to the longest, ±20 %, and back to the
/// first once the child has lived for `quiet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first restart.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
    /// A child that lived so long begins anew.
    pub quiet: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
            quiet: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The pause before the `nth` restart in a row (from 1), without jitter.
    pub fn pause(&self, nth: u32) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(nth.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.most)
    }
}

/// A pause with a jitter of 20 % to either side, so that what failed together does not return together.
pub fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(pause) as f64 / u64::MAX as f64;
    pause.mul_f64(0.8 + 0.4 * random)
}

/// The restarts of the last period.
#[derive(Debug, Default)]
pub(crate) struct Window(VecDeque<Instant>);

impl Window {
    /// Counts one restart; `true` when there are more than the intensity allows.
    pub fn exceeded(&mut self, now: Instant, policy: &Policy) -> bool {
        self.0.push_back(now);
        self.0.retain(|restart| now.duration_since(*restart) <= policy.period);
        self.0.len() > policy.intensity
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Can a parent of this policy ever count enough restarts of a child that takes `child_escalates` to give up?
///
/// The parent's period must hold one escalation more than its intensity; otherwise a child that fails
/// for ever is restarted for ever.
pub fn escalates_in_time(parent: &Policy, child_escalates: Duration) -> bool {
    let restarts = u32::try_from(parent.intensity).unwrap_or(u32::MAX).saturating_add(1);
    parent.period > child_escalates.saturating_mul(restarts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { first: SECOND, most: SECOND * 30, quiet: SECOND };
        let pauses: Vec<u64> = (1..=7).map(|nth| backoff.pause(nth).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.pause(u32::MAX), SECOND * 30);
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_varies() {
        let backoff = Backoff { first: SECOND * 10, most: SECOND * 10, quiet: SECOND };
        let pauses: Vec<Duration> = (0..200).map(|_| jittered(backoff.pause(1))).collect();
        assert!(pauses.iter().all(|pause| (SECOND * 8..=SECOND * 12).contains(pause)));
        assert!(
            pauses.iter().any(|pause| *pause < SECOND * 9) && pauses.iter().any(|pause| *pause > SECOND * 11)
        );
    }

    #[test]
    fn a_window_forgets_what_is_older_than_its_period() {
        let policy = Policy { intensity: 1, period: SECOND, ..Policy::default() };
        let (mut window, start) = (Window::default(), Instant::now());
        assert!(!window.exceeded(start, &policy));
        assert!(!window.exceeded(start + SECOND * 2, &policy));
        assert!(window.exceeded(start + SECOND * 3, &policy));
    }

    #[test]
    fn a_parent_must_be_able_to_see_its_child_give_up() {
        let parent = Policy { intensity: 2, period: SECOND * 60, ..Policy::default() };
        assert!(escalates_in_time(&parent, SECOND * 19));
        assert!(!escalates_in_time(&parent, SECOND * 20));
    }
}
