//! How the sending of mail, or of notifications, goes: what the sender tells the console.

use crate::console::status::{OutletStatus, Problem};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// What has waited for so long is a problem of its own.
const LONG: Duration = Duration::from_secs(15 * 60);
/// The kind of problem that is not mailed: that no mail can be sent.
pub const MAIL: &str = "mail";

/// How the sending of one sort of thing goes.
#[derive(Debug)]
pub struct Outlet {
    kind: &'static str,
    what: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    oldest: Option<SystemTime>,
    last_success: Option<SystemTime>,
    last_error: Option<String>,
}

impl Outlet {
    /// Of mail.
    pub fn of_mail() -> Self {
        Outlet { kind: MAIL, what: "mail", state: Mutex::default() }
    }

    /// Of notifications.
    pub fn of_notifications() -> Self {
        Outlet { kind: "notify", what: "a notification", state: Mutex::default() }
    }

    /// So many wait, the oldest since then.
    pub fn waiting(&self, waiting: usize, oldest: Option<SystemTime>) {
        let mut state = self.state();
        (state.waiting, state.oldest) = (waiting, oldest);
        if waiting == 0 && state.last_error.take().is_some() {
            info!("{} can be sent again", self.what);
        }
    }

    /// One was sent.
    pub fn sent(&self, now: SystemTime) {
        self.state().last_success = Some(now);
    }

    /// One could not be sent; said once.
    pub fn failed(&self, error: &str) {
        let before = self.state().last_error.replace(error.to_owned());
        if before.is_none() {
            warn!(error, "{} cannot be sent; it is kept and tried again", self.what);
        }
    }

    /// For people.
    pub fn status(&self) -> OutletStatus {
        let state = self.state();
        let seconds =
            |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        OutletStatus {
            waiting: state.waiting,
            last_success: state.last_success.map(seconds),
            last_error: state.last_error.clone(),
        }
    }

    /// The problem that it is, if it is one.
    pub fn problem(&self, now: SystemTime) -> Option<Problem> {
        let state = self.state();
        let oldest = state.oldest?;
        if now.duration_since(oldest).unwrap_or_default() < LONG {
            return None;
        }
        let why = state.last_error.as_deref().unwrap_or("not tried yet");
        let text = format!("{} cannot be sent: {why}", state.waiting);
        Some(Problem { id: self.kind.into(), text, hint: "dronekeeper check --connect".into() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_that_waits_long_is_a_problem_until_it_is_sent() {
        let (outlet, now) = (Outlet::of_mail(), SystemTime::now());
        outlet.waiting(2, Some(now));
        outlet.failed("nobody listens");
        assert_eq!(outlet.problem(now + LONG / 2), None);
        let problem = outlet.problem(now + LONG).unwrap();
        assert_eq!((problem.id.as_str(), problem.text.as_str()), (MAIL, "2 cannot be sent: nobody listens"));
        outlet.sent(now + LONG);
        outlet.waiting(0, None);
        assert_eq!(outlet.problem(now + LONG * 9), None);
        assert_eq!(outlet.status().last_error, None);
    }
}
