//! Which jobs are being worked on: a job is in one hand at a time.
//!
//! A [`Hold`] travels with the evidence from stage to stage and is given back by being dropped, however
//! that happens: a refused message, a panic, a mailbox that died. A hung handler keeps its hold, so that
//! nobody works on the same directory beside it.

use crate::lab::RelPath;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The jobs of one drone that are in somebody's hand. Clones share the same set.
#[derive(Clone, Default, Debug)]
pub struct Holds(Arc<Mutex<HashSet<RelPath>>>);

impl Holds {
    /// Takes a job in hand, or `None` if another has it.
    pub fn take(&self, job: &RelPath) -> Option<Hold> {
        self.set().insert(job.clone()).then(|| Hold { job: job.clone(), holds: self.clone() })
    }

    /// How many jobs are in hand.
    pub fn count(&self) -> usize {
        self.set().len()
    }

    /// Is the job in anybody's hand?
    pub fn held(&self, job: &RelPath) -> bool {
        self.set().contains(job)
    }

    /// A set has no half-done state: it is sound even after a panic elsewhere.
    fn set(&self) -> MutexGuard<'_, HashSet<RelPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One job in hand, until dropped.
#[derive(Debug)]
pub struct Hold {
    job: RelPath,
    holds: Holds,
}

impl Hold {
    /// The job.
    pub fn job(&self) -> &RelPath {
        &self.job
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.set().remove(&self.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_in_one_hand_until_it_is_dropped() {
        let holds = Holds::default();
        let job = RelPath::new(&b"1-a"[..]).unwrap();
        let hold = holds.take(&job).unwrap();
        assert!(holds.take(&job).is_none() && holds.held(&job));
        let panicked = std::panic::catch_unwind(move || {
            let _hold = hold;
            panic!("in a handler");
        });
        assert!(panicked.is_err() && !holds.held(&job));
    }
}
