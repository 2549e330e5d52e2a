//! How the sending of mail goes: what the mailer tells the console.

use crate::console::status::{MailStatus, Problem};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// A mail that has waited for so long is a problem of its own.
const LONG: Duration = Duration::from_secs(15 * 60);
/// The kind of that problem: the one that is not mailed.
pub const KIND: &str = "mail";

/// How the sending of mail goes.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    oldest: Option<SystemTime>,
    last_success: Option<SystemTime>,
    last_error: Option<String>,
}

impl Health {
    /// So many mails wait, the oldest since then.
    pub fn waiting(&self, waiting: usize, oldest: Option<SystemTime>) {
        let mut state = self.state();
        (state.waiting, state.oldest) = (waiting, oldest);
        if waiting == 0 && state.last_error.take().is_some() {
            info!("mail works again");
        }
    }

    /// A mail was sent.
    pub fn sent(&self, now: SystemTime) {
        self.state().last_success = Some(now);
    }

    /// A mail could not be sent; said once.
    pub fn failed(&self, error: &str) {
        let before = self.state().last_error.replace(error.to_owned());
        if before.is_none() {
            warn!(error, "mail cannot be sent; it is kept and tried again");
        }
    }

    /// For people.
    pub fn status(&self) -> MailStatus {
        let state = self.state();
        let seconds =
            |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        MailStatus {
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
        let text = format!("{} mails cannot be sent: {why}", state.waiting);
        Some(Problem { id: KIND.into(), text, hint: "dronekeeper check --connect".into() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_that_waits_long_is_a_problem_until_it_is_sent() {
        let (health, now) = (Health::default(), SystemTime::now());
        health.waiting(2, Some(now));
        health.failed("nobody listens");
        assert_eq!(health.problem(now + LONG / 2), None);
        let problem = health.problem(now + LONG).unwrap();
        assert_eq!(
            (problem.id.as_str(), problem.text.as_str()),
            (KIND, "2 mails cannot be sent: nobody listens")
        );
        health.sent(now + LONG);
        health.waiting(0, None);
        assert_eq!(health.problem(now + LONG * 9), None);
        assert_eq!(health.status().last_error, None);
    }
}
