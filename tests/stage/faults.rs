//! How the store misbehaves: which requests, how often, in what way; and how often it really did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// What is done wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Stores damaged bytes, and answers with their checksum.
    Damage,
    /// Stores damaged bytes, and answers as if they were whole.
    DamageSilently,
    /// Stores nothing, and answers as if it had.
    Lose,
    /// Stores half of the bytes, and answers as if it were all.
    Truncate,
    /// Answers late.
    Delay(Duration),
    /// Answers with this status, and with `Retry-After` in seconds; does nothing.
    Status(u16, Option<u64>),
    /// Cuts the connection before anything is done.
    CutBefore,
    /// Does it, and cuts the connection before the answer.
    CutAfter,
    /// Takes the request and never answers.
    Hang,
    /// Does it twice.
    Twice,
}

/// A fault: which requests it is for, and how often it fires.
#[derive(Clone, Debug)]
pub struct Fault {
    method: &'static str,
    key_contains: String,
    skip: Arc<AtomicU64>,
    left: Arc<AtomicU64>,
    fired: Arc<AtomicU64>,
    /// What is done wrong.
    pub what: What,
}

impl Fault {
    /// For every request of a method whose path and query contain some text.
    pub fn new(method: &'static str, key_contains: &str, what: What) -> Self {
        let (skip, left, fired) = (AtomicU64::new(0), AtomicU64::new(u64::MAX), AtomicU64::new(0));
        let key_contains = key_contains.to_owned();
        Fault { method, key_contains, skip: skip.into(), left: left.into(), fired: fired.into(), what }
    }

    /// Only so many times.
    pub fn times(self, times: u64) -> Self {
        self.left.store(times, SeqCst);
        self
    }

    /// Not the first so many.
    pub fn after(self, skip: u64) -> Self {
        self.skip.store(skip, SeqCst);
        self
    }

    /// How often it fired.
    pub fn fired(&self) -> u64 {
        self.fired.load(SeqCst)
    }

    /// Never fires again.
    pub fn over(&self) {
        self.left.store(0, SeqCst);
    }

    /// Does it fire for this request?
    pub(crate) fn takes(&self, method: &str, target: &str) -> bool {
        if self.method != method || !target.contains(&self.key_contains) {
            return false;
        }
        if self.skip.fetch_update(SeqCst, SeqCst, |skip| skip.checked_sub(1)).is_ok() {
            return false;
        }
        let fires = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if fires {
            self.fired.fetch_add(1, SeqCst);
        }
        fires
    }
}
