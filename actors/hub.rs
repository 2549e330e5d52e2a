//! The central server that knows the lab: which jobs there are, which hosts, and which drone has them.
//!
//! - `door` HTTP: who may come in, with how much, how often
//! - `methods` what can be asked, by name, as an Autotest AFE answers it
//! - `beat` a drone's periodic request: what it finished, what it gets
//! - `orders` what an administrator says
//! - `records` jobs, hosts and entries as they go over the wire
//! - `schema` its tables, in a `base`: SQLite, or PostgreSQL for several hubs behind one name
//! - `tokens` who is who
//! - `page` the fleet, for people and for Prometheus
//!
//! The base is the truth of what was ordered; what drones report is the truth of what became of it.

pub mod beat;
pub mod door;
pub mod methods;
pub mod orders;
pub mod page;
pub mod records;
pub mod schema;
pub mod tokens;

use crate::base::{BaseError, Failure, Row};
use std::time::{SystemTime, UNIX_EPOCH};

/// Why a request is refused. The name is what an AFE's clients know (reference B1).
#[derive(Debug, thiserror::Error)]
#[error("{name}: {message}")]
pub struct Refusal {
    /// An exception's name.
    pub name: &'static str,
    /// What, where and why.
    pub message: String,
    /// HTTP status; an AFE answers 200 to whatever it understood.
    pub status: u16,
}

impl Refusal {
    /// The request is not one.
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal { name: "BadServiceRequest", message: message.into(), status: 200 }
    }

    /// A value is not what it should be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Refusal { name: "ValidationError", message: message.into(), status: 200 }
    }

    /// What is asked for is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Refusal { name: "DoesNotExist", message: message.into(), status: 200 }
    }

    /// Whoever asks may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Refusal { name: "PermissionDenied", message: message.into(), status: 401 }
    }
}

impl From<BaseError> for Refusal {
    fn from(error: BaseError) -> Self {
        let (name, status) = if error.is_busy() { ("OperationalError", 503) } else { ("DatabaseError", 500) };
        Refusal { name, message: crate::shown::chain(&error), status }
    }
}

impl Failure for Refusal {
    fn is_busy(&self) -> bool {
        self.status == 503
    }

    fn is_of_base(&self) -> bool {
        self.name == "DatabaseError"
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
