//! `[store]`: where results go.

use crate::report::Complaint;
use crate::units::{self, ByteRate, Secret};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Which objects a job becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Each file is an object of its own.
    Files,
    /// Files of up to 1 MiB go into tar archives of up to 8 MiB; larger ones are objects of their own.
    Packed,
    /// The old offloader's rule: only a job of 3000 files or more is packed, and what people read is not.
    GsOffloader,
}

/// How packs, or single text files, are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Compress {
    None,
    Gzip,
    Zstd,
}

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
    /// `files`, `packed` or `gs_offloader`.
    pub layout: Layout,
    /// `none`, `gzip` or `zstd`: how packs are compressed; with `layout = "files"`, gzip for single text files.
    pub compress: Compress,
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
            layout: Layout::Files,
            compress: Compress::None,
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
        units::secret_files("store.options", &mut self.options)
    }
}
