//! Objects that are written in parts.
//!
//! S3, GCS and Azure know an upload by an id, so that another process can go on with it. A local directory and a results
//! host take parts in order, within one process. WebDAV takes none.

use super::backend::Kind;
use super::{Checksum, Held, Store, StoreError, error, gzip_of_text, held, path};
use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::{MultipartUpload, ObjectStoreExt, PutMultipartOptions, PutPayload};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// Size of a part, unless the object would need too many: what four of, in flight, keep a fast line busy.
const PART: u64 = 8 << 20;
/// Most parts of an object; the stores allow 10,000.
const MOST_PARTS: u64 = 9_000;
/// The largest object of the stores, in bytes (S3 and GCS: 5 TiB).
const LARGEST: u64 = 5 << 40;
/// A completion may take minutes (Google's documentation), and must not be repeated while it runs.
const COMPLETION: Duration = Duration::from_secs(15 * 60);

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the store calls it.
    pub token: String,
}

/// An upload that only this process can go on with, by the id that we gave it: into a local directory, to a results
/// host, of the gzip of a text.
type Stream = Arc<tokio::sync::Mutex<Box<dyn MultipartUpload>>>;
static STREAMS: LazyLock<std::sync::Mutex<HashMap<String, Stream>>> = LazyLock::new(Default::default);

impl Store {
    /// Can another process go on with an upload?
    pub fn can_resume(&self) -> bool {
        self.0.backend.parts.is_some() && self.0.backend.kind != Kind::Memory
    }

    /// How many parts of one object may be in flight; elsewhere they come in order.
    pub fn parts_at_once(&self) -> usize {
        if self.0.backend.parts.is_some() { 4 } else { 1 }
    }

    /// The size of each part but the last; `None` for an object that no store takes.
    pub fn part_size_for(&self, size: u64) -> Option<u64> {
        let most = if self.0.backend.kind == Kind::Http { 0 } else { LARGEST };
        let part = size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART);
        (size <= most).then_some(part)
    }

    /// Begins an object in parts; the answer is its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn multipart(&self, key: &str) -> Result<String, StoreError> {
        let at = path(key)?;
        let _turn = self.turn().await;
        let failed = |error| StoreError::new(self, key, error);
        if let Some((parts, _)) = &self.0.backend.parts {
            return parts.create_multipart(&at).await.map_err(failed);
        }
        self.0.backend.store.put_multipart(&at).await.map(known).map_err(failed)
    }

    /// Begins the gzip of a text, which readers see as the text; nobody else can go on with it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn multipart_text(&self, key: &str) -> Result<String, StoreError> {
        let at = path(key)?;
        let options = PutMultipartOptions { attributes: gzip_of_text(), ..PutMultipartOptions::default() };
        let _turn = self.turn().await;
        let begun = self.0.backend.store.put_multipart_opts(&at, options).await;
        begun.map(known).map_err(|error| StoreError::new(self, key, error))
    }

    /// Sends one part; `number` counts from 0.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_part(&self, key: &str, id: &str, number: u32, body: Bytes) -> Result<Part, StoreError> {
        let at = path(key)?;
        let _turn = self.turn().await;
        let failed = |error| StoreError::new(self, key, error);
        let stream = stream(id);
        if let (None, Some((parts, _))) = (&stream, &self.0.backend.parts) {
            let id = id.to_owned();
            let put = parts.put_part(&at, &id, number as usize, PutPayload::from(body));
            return put.await.map(|part| Part { token: part.content_id }).map_err(failed);
        }
        let stream = stream.ok_or_else(|| self.unknown(key))?;
        let part = stream.lock().await.put_part(PutPayload::from(body));
        part.await.map_err(failed)?;
        Ok(Part { token: number.to_string() })
    }

    /// Makes the object out of its parts, in order. A lost answer is settled by looking what is there:
    /// an object of this size and checksum is ours.
    ///
    /// # Errors
    /// [`StoreError`]; `NotFound` when the store no longer knows the upload.
    pub async fn complete(
        &self,
        key: &str,
        id: &str,
        tokens: &[String],
        size: u64,
        checksum: Option<&str>,
    ) -> Result<Held, StoreError> {
        let at = path(key)?;
        let done = {
            let _turn = self.turn().await;
            match (stream(id), &self.0.backend.parts) {
                (None, Some((_, patient))) => {
                    let parts = tokens.iter().map(|token| PartId { content_id: token.clone() }).collect();
                    let id = id.to_owned();
                    let completing = patient.complete_multipart(&at, &id, parts);
                    tokio::time::timeout(COMPLETION, completing).await
                }
                (stream, _) => {
                    let stream = stream.ok_or_else(|| self.unknown(key))?;
                    let mut stream = stream.lock_owned().await;
                    let done = tokio::time::timeout(COMPLETION, stream.complete()).await;
                    STREAMS.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                    done
                }
            }
        };
        let late =
            || StoreError::Stalled { store: self.name().into(), key: error::shown(key), time: COMPLETION };
        let done =
            done.map_err(|_| late()).and_then(|done| done.map_err(|error| StoreError::new(self, key, error)));
        match done {
            Ok(result) => self.looked_up(key, held(size, result)).await,
            Err(error) => match self.head(key).await? {
                Some(there) if there.size == size && is(&there.checksum, checksum) => Ok(there),
                _ => Err(error),
            },
        }
    }

    /// Gives an upload up, so that its parts cost nothing.
    ///
    /// # Errors
    /// [`StoreError`]; an upload that is not known is given up already.
    pub async fn abort(&self, key: &str, id: &str) -> Result<(), StoreError> {
        let at = path(key)?;
        let _turn = self.turn().await;
        let stream = STREAMS.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let aborted = match (stream, &self.0.backend.parts) {
            (Some(stream), _) => stream.lock().await.abort().await,
            (None, Some((parts, _))) => parts.abort_multipart(&at, &id.to_owned()).await,
            (None, None) => Ok(()),
        };
        match aborted {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(StoreError::new(self, key, error)),
        }
    }

    /// The answer to a completion carries no checksum of the whole; the object itself does.
    async fn looked_up(&self, key: &str, completed: Held) -> Result<Held, StoreError> {
        if !self.abilities().answers_checksum || self.0.backend.kind == Kind::Azure {
            return Ok(Held { checksum: None, ..completed });
        }
        match self.head(key).await? {
            Some(there) if there.etag == completed.etag => Ok(there),
            _ => Ok(Held { checksum: None, ..completed }),
        }
    }

    fn unknown(&self, key: &str) -> StoreError {
        StoreError::NotFound { store: self.name().into(), key: error::shown(key) }
    }
}

/// Keeps an upload, by an id that it is given.
fn known(upload: Box<dyn MultipartUpload>) -> String {
    let id = Uuid::new_v4().to_string();
    let mut streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
    streams.insert(id.clone(), Arc::new(tokio::sync::Mutex::new(upload)));
    id
}

/// The upload of that id, if it is one of this process alone.
fn stream(id: &str) -> Option<Stream> {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
}

/// Is this the checksum that was expected? Where the store computes none, the object is read back later.
fn is(there: &Option<Checksum>, expected: Option<&str>) -> bool {
    expected.is_none_or(|expected| there.as_ref().is_some_and(|there| there.to_string() == expected))
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn open(url: &str) -> Store {
        let (connections, stall) = (4, Duration::from_secs(5));
        let settings =
            Settings { url: url.into(), options: vec![], connections, stall, min_rate: 1, bandwidth: None };
        Store::open(&settings).unwrap()
    }

    #[tokio::test]
    async fn parts_make_the_object_that_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        for url in [format!("file://{}", dir.path().display()), "memory://parts".into()] {
            let store = open(&url);
            let id = store.multipart("1-a/big").await.unwrap();
            let mut tokens = Vec::new();
            for (number, piece) in [b"one ".as_slice(), b"two ", b"three"].into_iter().enumerate() {
                let part =
                    store.put_part("1-a/big", &id, number as u32, Bytes::from_static(piece)).await.unwrap();
                tokens.push(part.token);
            }
            let held = store.complete("1-a/big", &id, &tokens, 13, None).await.unwrap();
            assert_eq!(held.size, 13, "{url}");
            assert_eq!(store.get("1-a/big", 100).await.unwrap().unwrap().0, "one two three", "{url}");
        }
    }

    #[tokio::test]
    async fn an_upload_that_nobody_knows_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("file://{}", dir.path().display()));
        let error = store.put_part("1-a/big", "no such id", 0, Bytes::new()).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        store.abort("1-a/big", "no such id").await.unwrap();
    }

    #[test]
    fn parts_grow_with_the_object_and_never_exceed_what_stores_allow() {
        let store = open("memory://sizes");
        assert_eq!(store.part_size_for(2 << 30), Some(8 << 20));
        let (size, part) = (LARGEST, store.part_size_for(LARGEST).unwrap());
        assert!(size.div_ceil(part) <= 10_000 && part <= 5 << 30);
        assert_eq!(store.part_size_for(LARGEST + 1), None);
    }
}
