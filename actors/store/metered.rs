//! Counts what is asked of a store that is a directory, and keeps it within the bandwidth: what the tap does for
//! requests over HTTP.

use super::tap::Meter;
use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// A directory, counted.
#[derive(Debug)]
pub(super) struct Metered {
    pub store: LocalFileSystem,
    pub meter: Arc<Meter>,
}

impl Metered {
    /// What came of a request; that something is not there is an answer too.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if matches!(result, Ok(_) | Err(object_store::Error::NotFound { .. })) {
            self.meter.succeeded();
        }
        result
    }
}

impl Display for Metered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.store, f)
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.meter.pass(payload.content_length() as u64).await;
        self.noted(self.store.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.noted(self.store.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(Parts { upload, meter: self.meter.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.meter.pass(0).await;
        self.noted(self.store.get_opts(location, options).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let meter = self.meter.clone();
        self.store.delete_stream(locations).inspect(move |_| meter.count(0)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.meter.count(0);
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.meter.count(0);
        self.noted(self.store.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.meter.count(0);
        self.noted(self.store.copy_opts(from, to, options).await)
    }
}

/// An upload in parts, counted.
#[derive(Debug)]
struct Parts {
    upload: Box<dyn MultipartUpload>,
    meter: Arc<Meter>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (meter, bytes) = (self.meter.clone(), data.content_length() as u64);
        // Parts have their order from this call, not from when they are waited for.
        let put = self.upload.put_part(data);
        Box::pin(async move {
            meter.pass(bytes).await;
            put.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.upload.complete().await;
        if done.is_ok() {
            self.meter.succeeded();
        }
        done
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn what_goes_into_a_directory_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (meter, key) = (Arc::new(Meter::new(None)), Path::from("a/b"));
        let store =
            Metered { store: LocalFileSystem::new_with_prefix(dir.path()).unwrap(), meter: meter.clone() };
        assert!(store.get(&key).await.is_err());
        assert!(meter.last_success().is_some(), "that nothing is there is an answer");
        store.put(&key, PutPayload::from_static(b"12345")).await.unwrap();
        let mut parts = store.put_multipart(&key).await.unwrap();
        let both =
            (parts.put_part(PutPayload::from_static(b"678")), parts.put_part(PutPayload::from_static(b"9")));
        both.1.await.unwrap();
        both.0.await.unwrap();
        parts.complete().await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "6789");
        assert_eq!((meter.requests(), meter.bytes_sent()), (5, 9));
    }
}
