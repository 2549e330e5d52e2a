//! What there is to tell of an offloaded job, and how it is written for each kind of listener.

use crate::lab::Digest;
use crate::ledger::Notice;
use crate::manifest::Manifest;
use crate::site::Site;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is told of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// SHA-256 of its manifest: the same when it is told again.
    pub id: String,
    /// The job's directory.
    pub job: String,
    /// Its lane.
    pub lane: String,
    /// Who offloaded it.
    pub drone: String,
    /// Where it is: the store's address and the job's prefix.
    pub uri: String,
    /// Number of its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it finished.
    pub finished_at: String,
    /// When its manifest was written.
    pub published_at: String,
}

/// The notices of one proven job, one for each address.
pub fn notices(site: &Site, manifest: &Manifest, bytes: &[u8]) -> Vec<Notice> {
    if site.notified.is_empty() {
        return Vec::new();
    }
    let id = Digest::of(bytes).to_string();
    let facts = Facts {
        id: id.clone(),
        job: manifest.job.clone(),
        lane: manifest.lane.clone(),
        drone: manifest.drone.clone(),
        uri: format!("{}/{}", site.store.url().trim_end_matches('/'), manifest.prefix),
        files: manifest.files,
        bytes: manifest.bytes,
        finished_at: manifest.finished_at.clone(),
        published_at: manifest.published_at.clone(),
    };
    let text = serde_json::to_string(&facts).unwrap_or_default();
    let notice =
        |url: &String| Notice { id: id.clone(), url: url.clone(), at: site.clock.now(), text: text.clone() };
    site.notified.iter().map(notice).collect()
}

/// A webhook's body.
pub fn of_webhook(facts: &Facts, attributes: &BTreeMap<String, String>) -> Value {
    #[derive(Serialize)]
    struct Body<'a> {
        event: &'a str,
        attributes: &'a BTreeMap<String, String>,
        #[serde(flatten)]
        facts: &'a Facts,
    }
    json!(Body { event: "offloaded", attributes, facts })
}

/// The body of Pub/Sub's publish, as the old offloader's subscribers know it (reference A6.8).
pub fn of_pubsub(facts: &Facts, attributes: &BTreeMap<String, String>) -> Value {
    let mut all = attributes.clone();
    all.insert("version".into(), "1".into());
    all.insert("gcs_uri".into(), facts.uri.clone());
    json!({ "messages": [{ "data": STANDARD.encode("NEW_TEST_RESULT"), "attributes": all }] })
}
