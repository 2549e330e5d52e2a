//! A large object that goes to the host alone, part after part, because its key is not its file's name.
//!
//! The parts grow a temporary file beside the object's place, whose name is the key's: what an attempt that was cut off
//! leaves there, the next one begins anew.

use super::{Host, checked, quoted};
use crate::lab::Digest;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Extensions, MultipartUpload, PutPayload, PutResult, Result, UploadPart};

/// An upload that is under way.
#[derive(Debug)]
pub(super) struct Parts {
    host: Host,
    key: String,
    /// The temporary file, quoted.
    growing: String,
    /// It has so many bytes when all parts so far are there.
    size: u64,
}

impl Parts {
    /// Begins.
    ///
    /// # Errors
    /// The connection's, or the host's.
    pub async fn begin(host: &Host, location: &Path) -> Result<Self> {
        let key = location.as_ref().to_owned();
        let dir = key.rsplit_once('/').map_or(".", |(dir, _)| dir);
        let name: String = Digest::of(key.as_bytes()).to_string().chars().take(16).collect();
        let growing = quoted(&format!("./{dir}/.dk.{name}"));
        let script = format!("mkdir -p -- {} && : >{growing}", quoted(&format!("./{dir}")));
        let done = host.script(&script, b"", 0).await?;
        checked(&done, &key)?;
        Ok(Parts { host: host.clone(), key, growing, size: 0 })
    }

    async fn run(&self, script: &str) -> Result<()> {
        let done = self.host.script(script, b"", self.size).await?;
        checked(&done, &self.key)
    }
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (body, before) = (Bytes::from(data), self.size);
        self.size += body.len() as u64;
        let (host, key, growing, after) = (self.host.clone(), self.key.clone(), &self.growing, self.size);
        // A part that comes when the one before is not there, or that is cut off, makes no object.
        let script = format!(
            "[ \"$(stat -c %s -- {growing})\" -eq {before} ] && cat >>{growing} && \
             [ \"$(stat -c %s -- {growing})\" -eq {after} ]"
        );
        Box::pin(async move {
            let done = host.script(&script, &body, body.len() as u64).await?;
            checked(&done, &key)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (growing, size) = (&self.growing, self.size);
        let at = quoted(&format!("./{}", self.key));
        self.run(&format!(
            "[ \"$(stat -c %s -- {growing})\" -eq {size} ] && chmod 644 {growing} && sync -- {growing} && \
             mv -fT -- {growing} {at} && sync -- \"$(dirname -- {at})\""
        ))
        .await?;
        Ok(PutResult { e_tag: None, version: None, extensions: Extensions::new() })
    }

    async fn abort(&mut self) -> Result<()> {
        self.run(&format!("rm -f -- {}", self.growing)).await
    }
}
