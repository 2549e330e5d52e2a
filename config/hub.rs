//! `[hub]`: the central server that knows the jobs, an Autotest AFE or `dronekeeper hub`.

use crate::report::Complaint;
use crate::units::{self, Secret};
use crate::{Completion, Config};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Where the hub is, and how it is asked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hub {
    /// Its RPC address, or several of which the first that answers is asked; empty: there is no hub.
    #[serde(deserialize_with = "units::one_or_more")]
    pub url: Vec<String>,
    /// Time between two heartbeats; zero: none are sent.
    #[serde(deserialize_with = "units::duration")]
    pub heartbeat: Duration,
    /// One request.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Goes into the `Authorization` header as a bearer token.
    pub token: Option<Secret>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
    /// A file of PEM certificates to trust beside the usual ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for Hub {
    fn default() -> Self {
        Hub {
            url: Vec::new(),
            heartbeat: Duration::from_secs(60),
            timeout: Duration::from_secs(1800),
            token: None,
            token_file: None,
            ca_file: None,
        }
    }
}

impl Hub {
    /// Reads the token from its file.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Complaint> {
        if let Some(path) = &self.token_file {
            self.token = Some(units::secret_file("hub.token_file", path)?);
        }
        Ok(())
    }
}

/// Every address must be one that can be asked, and somebody must be asked when a lane depends on it.
pub(crate) fn judge(config: &Config, complaints: &mut Vec<Complaint>) {
    let example = "write for example \"http://cautotest/afe/server/noauth/rpc/\"";
    for url in &config.hub.url {
        match Url::parse(url) {
            Ok(parsed) if !["http", "https"].contains(&parsed.scheme()) => {
                complaints.push(Complaint::key("hub.url", "is neither http:// nor https://", example));
            }
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
                let help = "put a token into the file that `hub.token_file` names";
                complaints.push(Complaint::key("hub.url", "holds credentials, which would be logged", help));
            }
            Ok(_) => {}
            Err(_) => complaints.push(Complaint::key("hub.url", "is not a URL", example)),
        }
    }
    let asks = config.lanes.iter().find(|lane| lane.completion == Completion::Hub);
    if let (Some(lane), true) = (asks, config.hub.url.is_empty()) {
        let text = format!("is empty, and lane `{}` has completion = \"hub\"", lane.name);
        complaints.push(Complaint::key("hub.url", &text, example));
    }
    if config.hub.timeout.is_zero() {
        complaints.push(Complaint::key("hub.timeout", "is zero", "write for example \"30min\""));
    }
    if config.limits.hub_requests_per_second == 0 {
        let help = "20 is usual";
        complaints.push(Complaint::key("limits.hub_requests_per_second", "is zero", help));
    }
}
