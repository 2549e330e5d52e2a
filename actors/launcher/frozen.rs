//! Which containers do nothing that the engine tells them, and whether that is all of them.
//!
//! A container is frozen when it could neither be stopped nor killed nor removed while the engine answered; one that
//! is gone, or that obeyed after all, is not. An engine that is reached and does not answer for long is as good as
//! frozen; one that is away is not, since it may be restarting.

use super::plan::{Seen, State};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A frozen container is tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// What does not move.
#[derive(Debug, Default)]
pub struct Frozen {
    /// By the engine's name of the container: when it was last tried.
    containers: BTreeMap<String, Instant>,
    silent_since: Option<Instant>,
}

impl Frozen {
    /// The engine answered, and has these.
    pub fn saw(&mut self, seen: &[Seen]) {
        self.silent_since = None;
        self.containers
            .retain(|id, _| seen.iter().any(|seen| seen.id == *id && seen.state == State::Running));
    }

    /// The engine was reached, and did not answer.
    pub fn silent(&mut self) {
        self.silent_since.get_or_insert_with(Instant::now);
    }

    /// The engine is away, or answers with errors.
    pub fn away(&mut self) {
        self.silent_since = None;
    }

    /// What it came to when this container was stopped, killed and removed.
    pub fn stopped(&mut self, id: &str, obeyed: bool) {
        match obeyed {
            true => drop(self.containers.remove(id)),
            false => drop(self.containers.insert(id.to_owned(), Instant::now())),
        }
    }

    /// Is it to be tried (again)?
    pub fn is_due(&self, id: &str) -> bool {
        self.containers.get(id).is_none_or(|tried| tried.elapsed() >= AGAIN)
    }

    /// Is it frozen?
    pub fn is(&self, id: &str) -> bool {
        self.containers.contains_key(id)
    }

    /// Why nothing moves, if nothing does: all of these that run are frozen, or the engine is silent for so long.
    pub fn all(&self, seen: &[Seen], silent: Duration) -> Option<String> {
        if let Some(since) = self.silent_since.filter(|since| since.elapsed() >= silent) {
            return Some(format!("the Docker engine has not answered for {} s", since.elapsed().as_secs()));
        }
        let running = || seen.iter().filter(|seen| seen.state == State::Running);
        let all = running().count() > 0 && running().all(|seen| self.is(&seen.id));
        all.then(|| format!("all {} running containers are frozen", running().count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn seen(id: &str, state: State) -> Seen {
        let created = SystemTime::UNIX_EPOCH;
        Seen { id: id.into(), name: id.into(), state, created, spec: String::new() }
    }

    #[test]
    fn all_is_said_of_all_that_run_and_of_none_at_all_it_is_not() {
        let (mut frozen, long) = (Frozen::default(), Duration::from_secs(600));
        let two = [seen("a", State::Running), seen("b", State::Running), seen("c", State::Exited)];
        assert_eq!(frozen.all(&[], long), None);
        frozen.stopped("a", false);
        assert_eq!(frozen.all(&two, long), None);
        frozen.stopped("b", false);
        assert_eq!(frozen.all(&two, long).as_deref(), Some("all 2 running containers are frozen"));
        assert!(!frozen.is_due("a") && frozen.is_due("c"));
        frozen.stopped("b", true);
        assert_eq!(frozen.all(&two, long), None);
        frozen.saw(&two[1..]);
        assert!(!frozen.is("a"));
    }

    #[test]
    fn an_engine_that_is_silent_for_long_counts_and_one_that_is_away_does_not() {
        let mut frozen = Frozen::default();
        frozen.silent();
        assert_eq!(frozen.all(&[], Duration::from_secs(600)), None);
        assert!(frozen.all(&[], Duration::ZERO).is_some());
        frozen.away();
        assert_eq!(frozen.all(&[], Duration::ZERO), None);
    }
}
