//! The store's trouble, said once: when it begins and when it is over, not for every job that meets it.

use crate::ledger::FailureClass;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tracing::{info, warn};

/// Whether the store is in trouble, since when, and with what words.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<Present>>);

/// A trouble that is not over.
#[derive(Clone, Debug)]
pub struct Present {
    /// When the first job met it.
    pub since: SystemTime,
    /// What kind of trouble.
    pub class: FailureClass,
    /// The error that the first job met.
    pub error: String,
    /// How many attempts met it.
    pub attempts: u64,
}

impl Trouble {
    /// Does a failure of this class concern every job, not this one?
    pub fn is_of_store(&self, class: FailureClass) -> bool {
        use FailureClass::{Auth, DiskFull, Http5xx, Stalled, Throttled, Timeout, Transport};
        matches!(class, Auth | DiskFull | Http5xx | Stalled | Throttled | Timeout | Transport)
    }

    /// A job met trouble; the first one says so.
    pub fn begin(&self, class: FailureClass, error: &str) {
        let mut present = self.present();
        match &mut *present {
            Some(present) => present.attempts += 1,
            none => {
                warn!(class = class.as_str(), error, "store in trouble; jobs are kept and tried again");
                *none =
                    Some(Present { since: SystemTime::now(), class, error: error.to_owned(), attempts: 1 });
            }
        }
    }

    /// A job got through.
    pub fn over(&self) {
        if let Some(present) = self.present().take() {
            let lasted = present.since.elapsed().unwrap_or_default();
            info!(class = present.class.as_str(), attempts = present.attempts, ?lasted, "store works again");
        }
    }

    /// The trouble, if there is any now.
    pub fn now(&self) -> Option<Present> {
        self.present().clone()
    }

    fn present(&self) -> MutexGuard<'_, Option<Present>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
