//! `[store]`: where results go.

use crate::report::Complaint;
use crate::units::{self, ByteRate, Secret};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Object storage, or another directory.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `gs://bucket`, `s3://bucket`, `az://container`, `http(s)://server/path` (WebDAV), `file:///path`, `memory://`.
    pub url: String,
    /// Goes before every key.
    pub prefix: String,
    /// Handed to the object store under its own key names; `x_file` reads the value of `x` from a file.
    pub options: BTreeMap<String, Secret>,
    /// A request without progress for so long is given up.
    #[serde(deserialize_with = "units::duration")]
    pub stall: Duration,
    /// A request slower than this is given up.
    pub min_rate: ByteRate,
    /// Requests in flight, per process.
    pub connections: usize,
    /// `"unlimited"`, or a rate that all uploads together keep to.
    #[serde(deserialize_with = "units::limit")]
    pub bandwidth: Option<ByteRate>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            url: "file://./offloaded".into(),
            prefix: String::new(),
            options: BTreeMap::new(),
            stall: Duration::from_secs(60),
            min_rate: ByteRate(64 << 10),
            connections: 32,
            bandwidth: None,
        }
    }
}

impl Store {
    /// The directory of a `file://` store; a relative one counts from the working directory.
    pub fn directory(&self) -> Option<PathBuf> {
        let path = self.url.strip_prefix("file://")?;
        Some(PathBuf::from(path))
    }

    /// Replaces each option `x_file` by `x` with the file's content, without the newline at its end.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Complaint> {
        let files: Vec<String> = self.options.keys().filter(|key| key.ends_with("_file")).cloned().collect();
        for key in files {
            let Some(path) = self.options.remove(&key) else { continue };
            let secret = units::secret_file(&format!("store.options.{key}"), Path::new(path.expose()))?;
            self.options.insert(key.trim_end_matches("_file").to_owned(), secret);
        }
        Ok(())
    }
}
