//! What can go wrong with a store, by what one would do about it.

use super::Store;
use crate::ledger::FailureClass;
use crate::shown::{Shown, chain};
use std::time::Duration;

/// Why a store did not do what it was asked. Each names the store, and the key where there is one.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("store {store} cannot be used: {why}")]
    Settings { store: String, why: String },
    #[error("{key} is no key that a store can have: {why}")]
    Key { key: String, why: String },
    #[error("store {store} refuses {key}: {why}; check credentials and permissions")]
    Refused { store: String, key: String, why: String },
    #[error("store {store} has no {key}, or no such bucket")]
    NotFound { store: String, key: String },
    #[error("store {store}: {key} moved without progress for {time:?}")]
    Stalled { store: String, key: String, time: Duration },
    #[error("store {store}: {key} is larger than it may be")]
    TooLarge { store: String, key: String },
    #[error("store {store} has no room for {key}: {why}")]
    Full { store: String, key: String, why: String },
    #[error("store {store} failed at {key}: {why}")]
    Failed { store: String, key: String, why: String, class: FailureClass },
}

impl StoreError {
    /// What an error of the library means.
    pub(super) fn new(store: &Store, key: &str, error: object_store::Error) -> Self {
        let (store, key, why) = (store.name().to_owned(), shown(key), chain(&error));
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreError::Refused { store, key, why }
            }
            object_store::Error::NotFound { .. } => StoreError::NotFound { store, key },
            _ if why.contains("No space left") || why.contains("status code: 507") => {
                StoreError::Full { store, key, why }
            }
            _ => StoreError::Failed { class: class(&why), store, key, why },
        }
    }

    /// What a results host, ssh or rsync said.
    pub(crate) fn of_host(store: &Store, key: &str, why: String) -> Self {
        let (store, key) = (store.name().to_owned(), shown(key));
        match why {
            why if why.contains("refused: ") || why.contains("Permission denied") => {
                StoreError::Refused { store, key, why }
            }
            why if why.contains("No space left") => StoreError::Full { store, key, why },
            why => StoreError::Failed { class: class(&why), store, key, why },
        }
    }

    /// Does the store say that what was asked for is not there?
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound { .. })
    }

    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            StoreError::Settings { .. } | StoreError::Key { .. } | StoreError::TooLarge { .. } => {
                FailureClass::Io
            }
            StoreError::Refused { .. } => FailureClass::Auth,
            StoreError::NotFound { .. } => FailureClass::NotFound,
            StoreError::Stalled { .. } => FailureClass::Stalled,
            StoreError::Full { .. } => FailureClass::DiskFull,
            StoreError::Failed { class, .. } => *class,
        }
    }
}

/// The library hides the status of an answer in the text of its error.
fn class(why: &str) -> FailureClass {
    let status = why
        .split_once("status code: ")
        .and_then(|(_, rest)| rest.get(..3))
        .and_then(|code| code.parse().ok());
    match status {
        Some(429 | 503) => FailureClass::Throttled,
        Some(400..=499u16) => FailureClass::Http4xx,
        Some(_) => FailureClass::Http5xx,
        None if why.contains("ssh: ") || why.contains("rsync ended") => FailureClass::Transport,
        None if why.contains("timed out") || why.contains("timeout") => FailureClass::Timeout,
        None if why.contains("HTTP error") || why.contains("error sending request") => {
            FailureClass::Transport
        }
        None => FailureClass::Io,
    }
}

/// A key as it may be shown.
pub(super) fn shown(key: &str) -> String {
    Shown::text(key).to_string()
}
