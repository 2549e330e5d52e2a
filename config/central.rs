//! The settings of `dronekeeper hub`, in a file of their own.

use crate::process::{Log, Supervision};
use crate::report::Complaint;
use crate::units::{self, ByteCount};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration of a hub.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HubConfig {
    pub hub: Central,
    pub log: Log,
    pub supervision: Supervision,
}

/// Where the hub listens, and what it keeps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Central {
    /// Where drones, administrators and browsers come in.
    pub listen: SocketAddr,
    /// A file below `state_dir`, or `postgres://user@host/name?sslmode=verify-full`.
    pub database: String,
    /// Where the SQLite file and the administrator's token are.
    pub state_dir: PathBuf,
    /// A PEM file with the certificate and its chain; with `tls_key` the hub speaks HTTPS only.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Without: who shows no token may beat as any drone, as at an Autotest AFE.
    pub require_tokens: bool,
    /// The largest request, unpacked.
    pub largest_request: ByteCount,
    /// Requests of one caller, over a minute.
    pub requests_per_minute: u32,
    /// A drone that has not been heard for so long is shown as silent.
    #[serde(deserialize_with = "units::duration")]
    pub silent_after: Duration,
    /// The first number that an empty database gives out; 0: seconds since 2020, above all that a lost one gave.
    pub first_number: i64,
}

impl Default for Central {
    fn default() -> Self {
        Central {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9471)),
            database: "hub.sqlite".into(),
            state_dir: "./hub-state".into(),
            tls_cert: None,
            tls_key: None,
            require_tokens: true,
            largest_request: ByteCount(64 << 20),
            requests_per_minute: 1200,
            silent_after: Duration::from_secs(300),
            first_number: 0,
        }
    }
}

impl HubConfig {
    /// Every section and its keys; a test holds this list to the types.
    pub(crate) const KEYS: &[(&str, &[&str])] = &[
        (
            "hub",
            &[
                "listen",
                "database",
                "state_dir",
                "tls_cert",
                "tls_key",
                "require_tokens",
                "largest_request",
                "requests_per_minute",
                "silent_after",
                "first_number",
            ],
        ),
        ("log", &["format", "level", "file", "rotate", "keep"]),
        ("supervision", &["max_restarts", "window", "backoff", "hang_after"]),
    ];

    /// Everything that is wrong with settings that are each well-formed.
    pub(crate) fn judge(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut complain =
            |key: &str, text: &str, help: &str| complaints.push(Complaint::key(key, text, help));
        if self.hub.tls_cert.is_some() != self.hub.tls_key.is_some() {
            complain("hub.tls_cert", "and `hub.tls_key` belong together", "set both, or none");
        }
        if self.hub.database.is_empty()
            || self.hub.database.contains("://") && !self.hub.database.starts_with("postgres")
        {
            let help = "write for example \"hub.sqlite\" or \"postgres://hub@db.example.com/hub?sslmode=verify-full\"";
            complain("hub.database", "is neither a file nor postgres://", help);
        }
        if self.hub.largest_request.0 < 1 << 16 {
            complain("hub.largest_request", "is below 64KiB", "64MiB is usual");
        }
        if self.hub.requests_per_minute == 0 {
            complain("hub.requests_per_minute", "is zero", "1200 is usual");
        }
        if self.hub.first_number < 0 {
            complain("hub.first_number", "is below zero", "0 is usual");
        }
        complaints
    }
}
