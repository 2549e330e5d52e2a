//! How many sessions a host is asked for at once: fewer when it refuses, slowly more when it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// sshd takes ten sessions over one connection, as shipped (`MaxSessions`).
const MOST: usize = 8;
/// After so many sessions in a row that the host took, one more is tried at once.
const AGAIN: usize = 100;

/// How many sessions the host takes at once, as far as it has shown.
#[derive(Debug)]
pub(super) struct Sessions {
    free: Arc<Semaphore>,
    size: AtomicUsize,
    taken_well: AtomicUsize,
}

impl Default for Sessions {
    fn default() -> Self {
        let (free, size) = (Arc::new(Semaphore::new(MOST)), AtomicUsize::new(MOST));
        Sessions { free, size, taken_well: AtomicUsize::new(0) }
    }
}

impl Sessions {
    /// Waits for one; `None` never comes, for nobody closes the door.
    pub async fn one(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// The host refused one: fewer from now on.
    pub fn refused(&self, held: OwnedSemaphorePermit) {
        self.taken_well.store(0, Relaxed);
        let fewer = |size: usize| (size > 1).then(|| size - 1);
        if self.size.fetch_update(Relaxed, Relaxed, fewer).is_ok() {
            held.forget();
        }
    }

    /// The host took one.
    pub fn went_well(&self) {
        if self.taken_well.fetch_add(1, Relaxed) + 1 < AGAIN {
            return;
        }
        self.taken_well.store(0, Relaxed);
        let more = |size: usize| (size < MOST).then_some(size + 1);
        if self.size.fetch_update(Relaxed, Relaxed, more).is_ok() {
            self.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_refuses_is_asked_for_less_and_later_for_more() {
        let sessions = Sessions::default();
        for _ in 0..20 {
            let held = sessions.one().await.unwrap();
            sessions.refused(held);
        }
        assert_eq!((sessions.size.load(Relaxed), sessions.free.available_permits()), (1, 1));
        (0..AGAIN * 20).for_each(|_| sessions.went_well());
        assert_eq!((sessions.size.load(Relaxed), sessions.free.available_permits()), (MOST, MOST));
    }
}
