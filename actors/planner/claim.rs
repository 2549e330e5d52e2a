//! Finds the place in the store that is this job's own, and what already stands there.
//!
//! A name may be taken: by a job whose number was given out again, by another drone, by a program that
//! knows no claims. Nothing of theirs is overwritten; the job goes to `NAME~2`, `NAME~3`, … instead.

use super::adopt;
use super::instructions::Withheld;
use super::names::{claim_key, job_prefix, manifest_key};
use crate::lab::RelPath;
use crate::lane::Lane;
use crate::manifest::{self, BadManifest, Claim, LARGEST, Manifest, Object};
use crate::store::{Created, Held, StoreError};
use crate::tree::{JobDir, Snapshot};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tracing::{error, info};

/// So many jobs of one name are believed; beyond, something else is wrong.
const MOST: u32 = 99;

/// So many readings that all give the same show that an object is damaged.
const READINGS: u32 = 3;

/// A manifest that stands in the store, with its very bytes.
#[derive(Clone, Debug)]
pub struct Published {
    /// What it says.
    pub manifest: Arc<Manifest>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The job's place.
#[derive(Debug)]
pub struct Claimed {
    /// Key prefix of the job's objects.
    pub prefix: String,
    /// What already stands there, of an earlier attempt of ours.
    pub standing: BTreeMap<String, Held>,
    /// The manifest that stands there and says exactly what the disk says.
    pub published: Option<Published>,
    /// Files that an earlier manifest of ours already proves, unchanged since.
    pub inherited: HashMap<RelPath, Object>,
}

/// Why no place was found.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ClaimError {
    #[error("cannot claim a place in the store")]
    Store(#[from] StoreError),
    #[error("cannot read the manifest {0}")]
    Manifest(String, #[source] BadManifest),
    #[error("cannot write a claim")]
    Write(#[from] serde_json::Error),
    #[error("{0} and {MOST} places after it are taken by other jobs")]
    Crowded(String),
}

/// A job's directory as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// It.
    pub dir: &'a Arc<JobDir>,
    /// What is in it.
    pub snapshot: &'a Snapshot,
    /// What of that is not to be stored.
    pub withheld: &'a Withheld,
}

/// Claims a place for the directory that `claim` names and `seen` describes.
///
/// # Errors
/// [`ClaimError`]; nothing was overwritten.
pub async fn claim(lane: &Lane, claim: &Claim, seen: Seen<'_>) -> Result<Claimed, ClaimError> {
    let (store, job) = (&lane.site.store, seen.dir.path());
    let bytes = Bytes::from(serde_json::to_vec(claim)?);
    let mut inherited = HashMap::new();
    for generation in 1..=MOST {
        let prefix = job_prefix(&lane.site.prefix, job, generation);
        let key = claim_key(&prefix);
        let standing = store.list(&prefix).await?;
        if !standing.is_empty() && !standing.contains_key(&key) {
            match adopted(lane, &seen, &prefix, &standing).await? {
                Some(adopted) => inherited.extend(adopted),
                None => {
                    taken(lane, job, &prefix, "it holds objects of a program that makes no claims");
                    continue;
                }
            }
        }
        let ours = match store.create(&key, bytes.clone()).await? {
            Created::Made(_) => true,
            Created::Exists(theirs, _) => {
                serde_json::from_slice::<Claim>(&theirs).is_ok_and(|it| it == *claim)
            }
        };
        if !ours {
            taken(lane, job, &prefix, "another job of that name, or another drone, was first");
            continue;
        }
        let published = match published(lane, &prefix).await {
            Ok(Some(published)) => published,
            Ok(None) => return Ok(Claimed { prefix, standing, published: None, inherited }),
            Err(ClaimError::Manifest(..)) if is_damaged(lane, &prefix).await? => {
                taken(lane, job, &prefix, "our own manifest there is damaged, whoever did that");
                continue;
            }
            Err(error) => return Err(error),
        };
        if published.manifest.incarnation != claim.incarnation || published.manifest.drone != claim.drone {
            taken(lane, job, &prefix, "the manifest there is of another job");
            continue;
        }
        if describes(&published.manifest, seen.snapshot, seen.withheld) {
            return Ok(Claimed { prefix, standing, published: Some(published), inherited });
        }
        // Our own earlier result, and the job has changed since: what did not change is already safe.
        unchanged(&published.manifest, seen.snapshot, &mut inherited);
    }
    Err(ClaimError::Crowded(job_prefix(&lane.site.prefix, job, 1)))
}

/// The objects that the old offloader stored, if the job says that it did, and they are what it has.
async fn adopted(
    lane: &Lane,
    seen: &Seen<'_>,
    prefix: &str,
    standing: &BTreeMap<String, Held>,
) -> Result<Option<HashMap<RelPath, Object>>, ClaimError> {
    if !adopt::is_marked(seen.snapshot) {
        return Ok(None);
    }
    let adopted =
        adopt::adopt(&lane.site.store, &lane.site.io, seen.dir, seen.snapshot, prefix, standing).await?;
    if let Some(adopted) = &adopted {
        info!(job = %seen.dir.path(), objects = adopted.len(), "objects of the old offloader taken over");
    }
    Ok(adopted)
}

/// Reads the manifest under a prefix, if one stands there.
///
/// # Errors
/// The store's, or a manifest that cannot be understood.
pub async fn published(lane: &Lane, prefix: &str) -> Result<Option<Published>, ClaimError> {
    let key = manifest_key(prefix);
    let Some((bytes, _)) = lane.site.store.get(&key, LARGEST).await? else { return Ok(None) };
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| ClaimError::Manifest(key, error))?;
    Ok(Some(Published { manifest: Arc::new(manifest), bytes }))
}

/// Is what stands there no manifest however often it is read? A single damaged reading says nothing of the object.
async fn is_damaged(lane: &Lane, prefix: &str) -> Result<bool, ClaimError> {
    let key = manifest_key(prefix);
    let mut first = None;
    for _ in 0..READINGS {
        let Some((bytes, _)) = lane.site.store.get(&key, LARGEST).await? else { return Ok(false) };
        if Manifest::from_bytes(&bytes).is_ok() || first.get_or_insert_with(|| bytes.clone()) != &bytes {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Does the manifest list exactly what the snapshot saw, and lack no more than what is withheld?
fn describes(manifest: &Manifest, snapshot: &Snapshot, withheld: &Withheld) -> bool {
    manifest.entries.len() == snapshot.entries.len()
        && std::iter::zip(&manifest.entries, &snapshot.entries).all(|(stored, seen)| {
            stored.withheld == withheld.covers(&seen.path)
                && stored.entry().is_ok_and(|stored| stored.same(seen))
        })
}

fn unchanged(manifest: &Manifest, snapshot: &Snapshot, inherited: &mut HashMap<RelPath, Object>) {
    let stored: HashMap<RelPath, &manifest::ManifestEntry> =
        manifest.entries.iter().filter_map(|entry| Some((entry.path().ok()?, entry))).collect();
    for seen in &snapshot.entries {
        let Some(stored) = stored.get(&seen.path) else { continue };
        let same = stored.entry().is_ok_and(|stored| stored.same(seen) && stored.ctime_ns == seen.ctime_ns);
        if let (true, Some(object)) = (same, &stored.object) {
            inherited.insert(seen.path.clone(), object.clone());
        }
    }
}

fn taken(lane: &Lane, job: &RelPath, prefix: &str, why: &str) {
    lane.site.collisions.note(job, prefix);
    let prefix = crate::shown::Shown::text(prefix);
    error!(%job, lane = %lane.settings.name, %prefix, why, "name taken in the store, going beside it");
}
