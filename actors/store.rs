//! The object stores behind one face, and what each can prove.
//!
//! A write is proven when the store answers with a checksum that it computed over its own bytes, and it is
//! ours. Where a store answers none, [`Store::read_back`] is the proof. Every request takes one of the
//! process's connections; every answer that could mean two things is settled by asking what is there.

pub mod abilities;
pub mod backend;
pub mod checksum;
pub mod error;
pub mod host;
pub mod large;
mod metered;
pub mod ssh;
pub mod tap;

pub use abilities::Abilities;
pub use checksum::{Checker, Checksum};
pub use error::StoreError;
pub use large::Part;

use crate::lab::Digest;
use backend::{Backend, Kind};
use bytes::Bytes;
use futures_util::TryStreamExt;
use host::Host;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, PutResult,
};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tap::{Answered, Meter};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a store is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub url: String,
    /// The store's own options.
    pub options: Vec<(String, config::Secret)>,
    /// Requests in flight.
    pub connections: usize,
    /// A request without progress for so long is given up.
    pub stall: Duration,
    /// Bytes per second below which a request is given up.
    pub min_rate: u64,
    /// Bytes per second of all uploads together.
    pub bandwidth: Option<u64>,
}

impl Settings {
    /// As the operator says; a relative directory counts from the working directory.
    pub fn of(store: &config::Store) -> Self {
        let url = match store.directory() {
            Some(dir) => format!("file://{}", std::path::absolute(&dir).unwrap_or(dir).display()),
            None => store.url.clone(),
        };
        Settings {
            url,
            options: store.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            connections: store.connections,
            stall: store.stall,
            min_rate: store.min_rate.0,
            bandwidth: store.bandwidth.map(|rate| rate.0),
        }
    }
}

/// One object as the store describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Its size in bytes.
    pub size: u64,
    /// The store's name for this content, or for this write.
    pub etag: Option<String>,
    /// The store's version or generation.
    pub version: Option<String>,
    /// A checksum that the store computed over its own bytes.
    pub checksum: Option<Checksum>,
}

/// What became of a conditional create.
#[derive(Clone, Debug)]
pub enum Created {
    /// The object is there, with our bytes.
    Made(Held),
    /// Another object is there; these are its bytes.
    Exists(Bytes, Held),
}

/// An object store. Clones share connections, limits and counters.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) backend: Backend,
    pub(crate) settings: Settings,
    name: String,
    pub(crate) meter: Arc<Meter>,
    connections: Semaphore,
    abilities: OnceLock<Abilities>,
}

/// The largest object that is written by one request; above, it goes in parts.
const SINGLE: u64 = 8 << 20;
/// The same for WebDAV, which knows no parts: what may be held in memory.
const SINGLE_ONLY: u64 = 64 << 20;
/// The largest claim or foreign object that a conditional create looks at.
const LARGEST_RIVAL: u64 = 1 << 30;

impl Store {
    /// Prepares a store; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`StoreError`] `Settings` for a URL, an option or credentials that cannot work.
    pub fn open(settings: &Settings) -> Result<Self, StoreError> {
        let meter = Arc::new(Meter::new(settings.bandwidth));
        let backend = Backend::open(settings, &meter)?;
        let connections = Semaphore::new(settings.connections.max(1));
        let (settings, abilities, name) = (settings.clone(), OnceLock::new(), name(settings));
        Ok(Store(Arc::new(Inner { backend, settings, name, meter, connections, abilities })))
    }

    /// Its URL, and the server where it is not the usual one; without secrets.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its URL alone, as people copy it.
    pub fn url(&self) -> &str {
        &self.0.settings.url
    }

    /// What it was found to be able to do; before [`Store::probe`], nothing.
    pub fn abilities(&self) -> Abilities {
        self.0.abilities.get().copied().unwrap_or_default()
    }

    /// Finds out, with small objects of its own under `prefix`, what the store can do. Once is enough.
    ///
    /// # Errors
    /// When it cannot be written, read or cleaned.
    pub async fn probe(&self, prefix: &str) -> Result<Abilities, StoreError> {
        let found = abilities::probe(self, prefix).await?;
        Ok(*self.0.abilities.get_or_init(|| found))
    }

    /// Probes unless that was done: a store that was down at the start is asked when it is needed.
    ///
    /// # Errors
    /// As [`Store::probe`].
    pub async fn ready(&self, prefix: &str) -> Result<Abilities, StoreError> {
        match self.0.abilities.get() {
            Some(abilities) => Ok(*abilities),
            None => self.probe(prefix).await,
        }
    }

    /// Counters of what was asked of it.
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// The largest object that one request writes, in bytes.
    pub fn single_put(&self) -> u64 {
        if self.0.backend.kind == Kind::Http { SINGLE_ONLY } else { SINGLE }
    }

    /// The checksum that the store's answer to a write of these bytes must show, if it shows any.
    pub fn checksum_of(&self, body: &[u8]) -> Option<String> {
        checksum::of(self.0.backend.kind, body).map(|checksum| checksum.to_string())
    }

    /// The same for bytes that come in pieces.
    pub fn checker(&self) -> Checker {
        Checker::new(self.0.backend.kind)
    }

    /// Writes an object, over whatever is there.
    ///
    /// # Errors
    /// [`StoreError`]; the object may be there all the same.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<Held, StoreError> {
        let (path, size) = (path(key)?, body.len() as u64);
        let _turn = self.turn().await;
        let put = self.0.backend.store.put_opts(&path, PutPayload::from(body), PutOptions::default());
        let result = put.await.map_err(|error| StoreError::new(self, key, error))?;
        Ok(held(size, result))
    }

    /// Writes the gzip of a text, which readers see as the text.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn put_text(&self, key: &str, gzip: Bytes) -> Result<Held, StoreError> {
        let (path, size) = (path(key)?, gzip.len() as u64);
        let options = PutOptions { attributes: gzip_of_text(), ..PutOptions::default() };
        let _turn = self.turn().await;
        let put = self.0.backend.store.put_opts(&path, PutPayload::from(gzip), options).await;
        Ok(held(size, put.map_err(|error| StoreError::new(self, key, error))?))
    }

    /// Writes an object unless one is there. A lost or odd answer is settled by looking what is there:
    /// our bytes are ours.
    ///
    /// # Errors
    /// [`StoreError`] when even that could not be found out.
    pub async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let creates = self.0.abilities.get().is_none_or(|abilities| abilities.creates);
        if !creates && let Some((there, held)) = self.get(key, LARGEST_RIVAL).await? {
            return Ok(rival(&body, there, held));
        }
        let (path, size) = (path(key)?, body.len() as u64);
        let mode = if creates { PutMode::Create } else { PutMode::Overwrite };
        let options = PutOptions { mode, ..PutOptions::default() };
        let turn = self.turn().await;
        let put = self.0.backend.store.put_opts(&path, PutPayload::from(body.clone()), options).await;
        drop(turn);
        let error = match put {
            Ok(result) if creates => return Ok(Created::Made(held(size, result))),
            Ok(_) => None,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
                if cfg!(seeded_bug = "exists_is_done") =>
            {
                return Ok(Created::Made(Held { size, etag: None, version: None, checksum: None }));
            }
            Err(error) => Some(StoreError::new(self, key, error)),
        };
        match (self.get(key, LARGEST_RIVAL).await?, error) {
            (Some((there, held)), _) => Ok(rival(&body, there, held)),
            (None, Some(error)) => Err(error),
            (None, None) => Err(StoreError::NotFound { store: self.name().into(), key: error::shown(key) }),
        }
    }

    /// Asks for one object; `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self, key: &str) -> Result<Option<Held>, StoreError> {
        let path = path(key)?;
        let _turn = self.turn().await;
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.0.backend.store.get_opts(&path, options).await {
            Ok(got) => {
                let checksum = got.extensions.get::<Answered>().and_then(Answered::checksum);
                Ok(Some(Held { checksum, ..listed(got.meta) }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::new(self, key, error)),
        }
    }

    /// Reads one object whole; `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError`], also for an object of more than `at_most` bytes.
    pub async fn get(&self, key: &str, at_most: u64) -> Result<Option<(Bytes, Held)>, StoreError> {
        let mut whole = Vec::new();
        let held = self
            .read(key, |chunk| {
                whole.extend_from_slice(chunk);
                whole.len() as u64 <= at_most
            })
            .await?;
        Ok(held.map(|held| (Bytes::from(whole), held)))
    }

    /// Reads one object and hashes it; `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_back(&self, key: &str) -> Result<Option<(Digest, u64)>, StoreError> {
        let (mut sha256, mut size) = (Sha256::new(), 0);
        let held = self
            .read(key, |chunk| {
                sha256.update(chunk);
                size += chunk.len() as u64;
                true
            })
            .await?;
        Ok(held.map(|_| (Digest(sha256.finalize().into()), size)))
    }

    /// Reads one object piece by piece, until `take` has had enough, which is an error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(
        &self,
        key: &str,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Held>, StoreError> {
        let path = path(key)?;
        let _turn = self.turn().await;
        let got =
            match self.patiently(self.0.backend.patient.get_opts(&path, GetOptions::default()), key).await? {
                Ok(got) => got,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(StoreError::new(self, key, error)),
            };
        let held = listed(got.meta.clone());
        let mut pieces = got.into_stream();
        while let Some(piece) = self
            .patiently(pieces.try_next(), key)
            .await?
            .map_err(|error| StoreError::new(self, key, error))?
        {
            if !take(&piece) {
                return Err(StoreError::TooLarge { store: self.name().into(), key: error::shown(key) });
            }
        }
        Ok(Some(held))
    }

    /// Reads a piece of one object; `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let path = path(key)?;
        let _turn = self.turn().await;
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        match self.patiently(self.0.backend.patient.get_opts(&path, options), key).await? {
            Ok(got) => {
                let piece = self.patiently(got.bytes(), key).await?;
                piece.map(Some).map_err(|error| StoreError::new(self, key, error))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::new(self, key, error)),
        }
    }

    /// Every object under a prefix, which is a directory: `a` lists `a/b` and not `ab`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self, prefix: &str) -> Result<BTreeMap<String, Held>, StoreError> {
        let path = path(prefix)?;
        let _turn = self.turn().await;
        let objects = self.0.backend.store.list(Some(&path));
        let objects = objects.map_ok(|meta| (meta.location.as_ref().to_owned(), listed(meta)));
        match objects.try_collect().await {
            Ok(objects) => Ok(objects),
            Err(object_store::Error::NotFound { .. }) if self.0.backend.kind == Kind::Http => {
                Ok(BTreeMap::new())
            }
            Err(error) => Err(StoreError::new(self, prefix, error)),
        }
    }

    /// The results host that it is, if it is one.
    pub fn host(&self) -> Option<&Host> {
        self.0.backend.host.as_ref()
    }

    /// SHA-256, in hex, of each of these objects that is there, by key, as the store itself computes it now from
    /// its bytes; `None` for a store that answers no such question.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sums(&self, keys: &[(&str, u64)]) -> Result<Option<HashMap<String, String>>, StoreError> {
        let Some(host) = self.host() else { return Ok(None) };
        let _turn = self.turn().await;
        host.sums(keys).await.map(Some).map_err(|error| StoreError::new(self, "objects", error))
    }

    /// Clears away what a crash left half written in a local directory, as `NAME#N`: no key of ours holds a `#`.
    pub async fn tidy(&self, prefix: &str) {
        if let Some(dir) = self.0.settings.url.strip_prefix("file://") {
            let dir = std::path::Path::new(dir).join(prefix);
            let _ = tokio::task::spawn_blocking(move || backend::tidy(&dir)).await;
        }
    }

    /// Deletes an object of our own making. Results are never deleted from a store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = path(key)?;
        let _turn = self.turn().await;
        self.0.backend.store.delete(&path).await.map_err(|error| StoreError::new(self, key, error))
    }

    /// Waits for one of the process's connections. Who waits longest is next.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.connections.acquire().await.ok()
    }

    /// Gives something as long as a stalled request may take.
    async fn patiently<T>(&self, work: impl Future<Output = T>, key: &str) -> Result<T, StoreError> {
        let stall = self.0.settings.stall;
        let late = |_| StoreError::Stalled { store: self.name().into(), key: error::shown(key), time: stall };
        tokio::time::timeout(stall, work).await.map_err(late)
    }
}

/// What tells a reader that an object is the gzip of a text.
fn gzip_of_text() -> Attributes {
    Attributes::from_iter([
        (Attribute::ContentEncoding, "gzip"),
        (Attribute::ContentType, "text/plain; charset=utf-8"),
    ])
}

/// Two buckets of one name on two servers are two stores.
fn name(settings: &Settings) -> String {
    let server =
        settings.options.iter().find(|(key, _)| key.ends_with("endpoint") || key.ends_with("base_url"));
    match server.map(|(_, value)| url::Url::parse(value.expose())) {
        Some(Ok(server)) => format!("{} at {}", settings.url, server.origin().ascii_serialization()),
        _ => settings.url.clone(),
    }
}

fn rival(ours: &Bytes, there: Bytes, held: Held) -> Created {
    if there == *ours { Created::Made(held) } else { Created::Exists(there, held) }
}

pub(crate) fn path(key: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|error| StoreError::Key { key: error::shown(key), why: error.to_string() })
}

pub(crate) fn held(size: u64, result: PutResult) -> Held {
    let checksum = result.extensions.get::<Answered>().and_then(Answered::checksum);
    Held { size, etag: result.e_tag, version: result.version, checksum }
}

fn listed(meta: ObjectMeta) -> Held {
    Held { size: meta.size, etag: meta.e_tag, version: meta.version, checksum: None }
}
