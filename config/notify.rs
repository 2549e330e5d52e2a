//! `[[notify]]`: programs that are told of each offloaded job.

use crate::report::Complaint;
use crate::units::{self, Secret};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use url::Url;

/// What is spoken at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyKind {
    /// One JSON object for each job.
    #[default]
    Webhook,
    /// Google Pub/Sub's REST publish, with the payload of the old offloader.
    Pubsub,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Where to; for Pub/Sub `https://pubsub.googleapis.com/v1/projects/P/topics/T:publish`.
    pub url: String,
    /// `webhook` or `pubsub`.
    #[serde(default)]
    pub kind: NotifyKind,
    /// A bearer token.
    pub token: Option<Secret>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
    /// A Google service account's JSON key, of which tokens are made.
    pub account_file: Option<PathBuf>,
    /// Said with each job, e.g. `moblab_id`.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// A file of PEM certificates to trust beside the usual ones.
    pub ca_file: Option<PathBuf>,
}

impl Notify {
    /// Reads the token from its file.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Complaint> {
        if let Some(path) = &self.token_file {
            self.token = Some(units::secret_file("notify.token_file", path)?);
        }
        Ok(())
    }
}

/// An address must be one that can be told, and two must not be the same.
pub(crate) fn judge(all: &[Notify], complaints: &mut Vec<Complaint>) {
    let example = "write for example \"https://hooks.example.com/offloaded\"";
    for (index, notify) in all.iter().enumerate() {
        let key = |name: &str| format!("notify.{index}.{name}");
        match Url::parse(&notify.url) {
            Ok(url) if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() => {
                complaints.push(Complaint::key(&key("url"), "is neither http:// nor https://", example));
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                let help = "put a token into the file that `token_file` names";
                complaints.push(Complaint::key(
                    &key("url"),
                    "holds credentials, which would be logged",
                    help,
                ));
            }
            Ok(_) => {}
            Err(_) => complaints.push(Complaint::key(&key("url"), "is not a URL", example)),
        }
        if all.iter().take(index).any(|other| other.url == notify.url) {
            complaints.push(Complaint::key(&key("url"), "is told twice", "remove one"));
        }
        let has_token = notify.token.is_some() || notify.token_file.is_some();
        if notify.account_file.is_some() && has_token {
            let help = "tokens are made of the account: remove `token_file`";
            complaints.push(Complaint::key(&key("account_file"), "and a token exclude each other", help));
        }
    }
}
