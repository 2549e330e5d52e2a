//! Why a child is no longer running.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

/// Why a child is no longer running. `Display` says it in words.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    /// It stopped by itself.
    Normal,
    /// It was asked to stop, or its supervisor is gone.
    Shutdown,
    /// It left this reason in its [`Verdict`] and stopped.
    Failed(String),
    /// It panicked: with this message, at this place in the source.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`, or empty when [`record_panics`] was not called.
        location: String,
    },
    /// One poll took longer than its limit; its thread was left to itself.
    Hung(Duration),
    /// It was asked to stop and had not after so long; its thread was left to itself.
    Abandoned(Duration),
    /// A supervisor gave up: its children needed more restarts than its policy allows.
    Escalated(String),
}

impl Exit {
    /// Is this an end that a transient child may have without being restarted?
    pub fn is_normal(&self) -> bool {
        matches!(self, Exit::Normal | Exit::Shutdown)
    }

    /// The exit that a caught panic is.
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "a panic without text".into());
        let location = LAST_PANIC.take();
        // The payload may be of a type whose own Drop panics.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload)));
        Exit::Panicked { message, location }
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Normal => f.write_str("stopped by itself"),
            Exit::Shutdown => f.write_str("was asked to stop"),
            Exit::Failed(why) => write!(f, "failed: {why}"),
            Exit::Panicked { message, location } if location.is_empty() => write!(f, "panicked: {message}"),
            Exit::Panicked { message, location } => write!(f, "panicked at {location}: {message}"),
            Exit::Hung(time) => write!(f, "hung for {time:.1?}"),
            Exit::Abandoned(time) => write!(f, "did not stop within {time:?}"),
            Exit::Escalated(who) => write!(f, "gave up: {who} needed too many restarts"),
        }
    }
}

/// Where an actor may leave the reason of its exit before it calls `ctx.stop()`.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<Mutex<Option<Exit>>>);

impl Verdict {
    /// Leaves a reason; the last one counts.
    pub fn leave(&self, exit: Exit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
    }

    pub(crate) fn take(&self) -> Option<Exit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes panics known with their place in the source; the hook that was there is called after.
pub fn record_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            LAST_PANIC.with(|last| {
                if let Ok(mut last) = last.try_borrow_mut() {
                    *last = place;
                }
            });
            before(info);
        }));
    });
}
