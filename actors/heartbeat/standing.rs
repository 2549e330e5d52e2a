//! How the drone stands with its hub: what the heartbeat tells the console.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// A hub that was not heard for so many periods is a problem.
const PERIODS: u32 = 3;

/// How it stands. One per process.
#[derive(Debug, Default)]
pub struct Standing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_success: Option<SystemTime>,
    trouble: Option<(SystemTime, String)>,
}

impl Standing {
    /// A beat was answered.
    pub fn beaten(&self) {
        let mut state = self.state();
        state.last_success = Some(SystemTime::now());
        if state.trouble.take().is_some() {
            info!("heartbeat works again");
        }
    }

    /// A beat failed; said once.
    pub fn failed(&self, error: &str) {
        let mut state = self.state();
        if state.trouble.is_none() {
            warn!(error, "heartbeat fails; work goes on, what is finished is reported later");
        }
        let since = state.trouble.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
        state.trouble = Some((since, error.to_owned()));
    }

    /// Another hub is told from now on: nothing is known of it.
    pub fn forget(&self) {
        *self.state() = State::default();
    }

    /// When the last beat was answered, and the error of the last one that was not.
    pub fn now(&self) -> (Option<SystemTime>, Option<String>) {
        let state = self.state();
        (state.last_success, state.trouble.as_ref().map(|(_, error)| error.clone()))
    }

    /// Since when and why, if beats have failed for some periods.
    pub fn problem(&self, period: Duration) -> Option<(SystemTime, String)> {
        let state = self.state();
        let lasts = |since: &SystemTime| since.elapsed().is_ok_and(|age| age >= period * PERIODS);
        state.trouble.clone().filter(|(since, _)| lasts(since))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
