//! When a mail that was not sent is tried again: growing pauses, for the server and for single mails.
//!
//! Pauses are not kept over a restart: whoever mended the settings wants to see mail now.

use crate::ledger::Letter;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The longest pause, its jitter apart.
const LONGEST: Duration = Duration::from_secs(3600);

/// The pauses that are being made.
#[derive(Debug)]
pub struct Pauses {
    first: Duration,
    server: Pause,
    mails: HashMap<(String, String), Pause>,
}

#[derive(Debug, Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pauses {
    /// Begins with pauses of `first`.
    pub fn new(first: Duration) -> Self {
        Pauses { first, server: Pause::default(), mails: HashMap::new() }
    }

    /// May this mail be tried now?
    pub fn is_due(&self, letter: &Letter, now: Instant) -> bool {
        let over = |pause: &Pause| pause.until.is_none_or(|until| until <= now);
        over(&self.server) && self.mails.get(&key(letter)).is_none_or(over)
    }

    /// A mail was sent, or is tried no more.
    pub fn worked(&mut self, letter: &Letter) {
        self.server = Pause::default();
        self.mails.remove(&key(letter));
    }

    /// A mail was not sent, by its own fault or by the server's; a `last` word of the server is not asked for
    /// again soon.
    pub fn failed(&mut self, letter: &Letter, own_fault: bool, last: bool, now: Instant) {
        let pause = match own_fault {
            true => self.mails.entry(key(letter)).or_default(),
            false => &mut self.server,
        };
        pause.failures += 1;
        let time = match own_fault && last {
            true => LONGEST,
            false => self.first.saturating_mul(1 << pause.failures.min(20)).min(LONGEST),
        };
        pause.until = Some(now + kernel::jittered(time));
    }
}

fn key(letter: &Letter) -> (String, String) {
    (letter.id.clone(), letter.recipient.clone())
}
