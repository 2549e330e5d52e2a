//! The store against its manifests: `verify` looks, `restore` brings back. Neither changes the store.

use crate::lab::{Digest, Kind, RelPath};
use crate::manifest::{BadManifest, LARGEST, Manifest, Object, Part};
use crate::packing;
use crate::planner::names::{OWN, manifest_key};
use crate::pruner::again::objects;
use crate::shown::{Shown, chain};
use crate::store::{Store, StoreError};
use crate::verifier::check::{check, read_back};
use bytes::Bytes;
use flate2::write::GzDecoder;
use globset::GlobMatcher;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Why a job in the store could not be audited or restored.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AuditError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no manifest at {0}: the job is not there, or was not offloaded whole")]
    NoManifest(String),
    #[error("the manifest at {0} cannot be trusted")]
    Manifest(String, #[source] BadManifest),
    #[error("{0} exists and is not an empty directory")]
    Occupied(PathBuf),
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error("{0} differs from its manifest: it was not restored")]
    Differs(String),
    #[error("no entry of the job matches")]
    NoMatch,
}

/// The prefixes of every job under a store's prefix, by their manifests.
///
/// # Errors
/// The store's.
pub async fn jobs(store: &Store, prefix: &str) -> Result<Vec<String>, AuditError> {
    let ending = format!("/{OWN}/manifest.json");
    let keys = store.list(prefix).await?.into_keys();
    Ok(keys.filter_map(|key| key.strip_suffix(&ending).map(str::to_owned)).collect())
}

/// Reads the manifest of one job.
///
/// # Errors
/// [`AuditError`].
pub async fn manifest(store: &Store, prefix: &str) -> Result<Manifest, AuditError> {
    let key = manifest_key(prefix);
    let shown = || Shown::text(&key).to_string();
    let (bytes, _) = store.get(&key, LARGEST).await?.ok_or_else(|| AuditError::NoManifest(shown()))?;
    Manifest::from_bytes(&bytes).map_err(|error| AuditError::Manifest(shown(), error))
}

/// What of a job is in the store otherwise than its manifest says; empty when all is well.
///
/// # Errors
/// [`AuditError`] when it could not be found out.
pub async fn differences(
    store: &Store,
    manifest: &Manifest,
    hash_all: bool,
) -> Result<Vec<String>, AuditError> {
    let mut found = Vec::new();
    for sent in objects(manifest) {
        let checked = match hash_all {
            true => read_back(store, &sent.object, sent.size).await,
            false => check(store, &manifest.prefix, std::slice::from_ref(&sent)).await,
        };
        match checked {
            Ok(()) => {}
            Err(crate::verifier::check::CheckError::Store(error)) => return Err(error.into()),
            Err(difference) => found.push(chain(&difference)),
        }
    }
    Ok(found)
}

/// Brings a job back into `to`, an empty or absent directory; with `only`, the entries whose path matches.
/// Answers with the number of entries.
///
/// # Errors
/// [`AuditError`]; what was written until then stays.
pub async fn restore(
    store: &Store,
    manifest: &Manifest,
    to: &Path,
    only: Option<&GlobMatcher>,
) -> Result<u64, AuditError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| AuditError::Write(path, error)
    };
    if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) || to.is_file() {
        return Err(AuditError::Occupied(to.to_owned()));
    }
    std::fs::create_dir_all(to).map_err(failed(to))?;
    let (mut count, mut last) = (0, Vec::new());
    let mut packs = Packs { store, manifest, ranges: only.is_some(), whole: None };
    for entry in &manifest.entries {
        let path = entry.path().map_err(|error| AuditError::Manifest(manifest.prefix.clone(), error))?;
        if only.is_some_and(|only| !only.is_match(std::ffi::OsStr::from_bytes(path.as_bytes()))) {
            continue;
        }
        let target = place(to, &path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        match (entry.kind, &entry.object, &entry.part) {
            (Kind::Dir, ..) => std::fs::create_dir_all(&target).map_err(failed(&target))?,
            (Kind::File, Some(object), _) => fetch(store, object, entry.size, &target).await?,
            (Kind::File, None, Some(part)) => packs.fetch(part, entry.size, &target).await?,
            // Links come last: no later file can be written through one.
            (Kind::Symlink, ..) => last.push((entry, target.clone())),
            _ => continue,
        }
        if matches!(entry.kind, Kind::File) {
            let mode = std::fs::Permissions::from_mode(entry.mode & 0o777);
            std::fs::set_permissions(&target, mode).map_err(failed(&target))?;
        }
        count += 1;
    }
    for (entry, target) in last {
        let link =
            entry.entry().map_err(|error| AuditError::Manifest(manifest.prefix.clone(), error))?.target;
        let link = link.unwrap_or_default();
        symlink(std::ffi::OsStr::from_bytes(&link), &target).map_err(failed(&target))?;
    }
    if count == 0 && only.is_some() { Err(AuditError::NoMatch) } else { Ok(count) }
}

fn place(to: &Path, path: &RelPath) -> PathBuf {
    to.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

/// Writes one object to a new file, and compares it with the manifest.
async fn fetch(
    store: &Store,
    object: &crate::manifest::Object,
    size: u64,
    target: &Path,
) -> Result<(), AuditError> {
    let failed = |error| AuditError::Write(target.to_owned(), error);
    let file = File::create_new(target).map_err(failed)?;
    let mut sha256 = Sha256::new();
    let mut out = Unpacked::new(file, size, object.plain.is_some());
    let mut trouble = None;
    let read = store
        .read(&object.key, |chunk| {
            sha256.update(chunk);
            trouble = out.write(chunk).err();
            trouble.is_none()
        })
        .await;
    // What is no gzip, or more than it should be, is another object.
    let broken = trouble.as_ref().is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData);
    match trouble {
        Some(error) if !broken => return Err(failed(error)),
        _ => {}
    }
    let there = if broken { false } else { read?.is_some() };
    let whole = out.end();
    let wanted = object.plain.as_ref().unwrap_or(&object.sha256);
    let same = whole.is_ok_and(|(plain, written)| plain == *wanted && written == size);
    if !there || !same || crate::lab::hex(&sha256.finalize()) != object.sha256 {
        std::fs::remove_file(target).map_err(failed)?;
        return Err(AuditError::Differs(Shown::text(&object.key).to_string()));
    }
    Ok(())
}

/// A file as it comes out of its object, hashed.
struct Hashed {
    file: File,
    sha256: Sha256,
    written: u64,
    most: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written += bytes.len() as u64;
        if self.written > self.most {
            // A bomb is not unpacked.
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        self.sha256.update(bytes);
        self.file.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes an object's bytes to its file, or what they are the gzip of.
enum Unpacked {
    Plain(Hashed),
    Gzip(Box<GzDecoder<Hashed>>),
}

impl Unpacked {
    fn new(file: File, size: u64, gzip: bool) -> Self {
        let hashed = Hashed { file, sha256: Sha256::new(), written: 0, most: size };
        if gzip { Unpacked::Gzip(Box::new(GzDecoder::new(hashed))) } else { Unpacked::Plain(hashed) }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Unpacked::Plain(hashed) => hashed.write_all(bytes),
            Unpacked::Gzip(decoder) => decoder.write_all(bytes).map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::WriteZero => {
                    std::io::ErrorKind::InvalidData.into()
                }
                _ => error,
            }),
        }
    }

    /// SHA-256 in hex, and size, of what was written.
    fn end(self) -> std::io::Result<(String, u64)> {
        let hashed = match self {
            Unpacked::Plain(hashed) => hashed,
            Unpacked::Gzip(decoder) => decoder.finish()?,
        };
        Ok((crate::lab::hex(&hashed.sha256.finalize()), hashed.written))
    }
}

/// The packs of a job that is being restored.
struct Packs<'a> {
    store: &'a Store,
    manifest: &'a Manifest,
    /// Ask for pieces: few files are wanted.
    ranges: bool,
    /// The pack that was read last: files that follow one another are in the same.
    whole: Option<(usize, Bytes)>,
}

impl Packs<'_> {
    /// Writes one file of a pack to a new file, and compares it with the manifest.
    async fn fetch(&mut self, part: &Part, size: u64, target: &Path) -> Result<(), AuditError> {
        let failed = |error| AuditError::Write(target.to_owned(), error);
        let differs = || AuditError::Differs(Shown::text(&target.to_string_lossy()).to_string());
        let pack = self.manifest.packs.get(part.pack).ok_or_else(differs)?;
        let record = self.record(part, &pack.object).await?.ok_or_else(differs)?;
        let content = packing::content(&record, pack.encoding, size).map_err(|_| differs())?;
        if Digest::of(&content).to_string() != part.sha256 {
            return Err(differs());
        }
        File::create_new(target).and_then(|mut file| file.write_all(&content)).map_err(failed)
    }

    async fn record(&mut self, part: &Part, object: &Object) -> Result<Option<Bytes>, AuditError> {
        let end = part.offset.saturating_add(part.length);
        if self.ranges {
            return Ok(self.store.read_range(&object.key, part.offset..end).await?);
        }
        if self.whole.as_ref().is_none_or(|(number, _)| *number != part.pack) {
            let read = self.store.get(&object.key, object.size.unwrap_or_default()).await?;
            self.whole = read.map(|(bytes, _)| (part.pack, bytes));
        }
        let range = usize::try_from(part.offset).ok().zip(usize::try_from(end).ok());
        let whole = self.whole.as_ref().zip(range);
        Ok(whole.and_then(|((_, bytes), (from, to))| bytes.get(from..to).map(|piece| bytes.slice_ref(piece))))
    }
}
