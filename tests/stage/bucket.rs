//! What a store holds: objects, uploads under way, and the checksums that it computes itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use std::collections::BTreeMap;

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its size.
    pub size: u64,
    /// CRC64NVME of the bytes that are stored.
    pub crc64: u64,
    /// CRC32C of the bytes that are stored.
    pub crc32c: u32,
    /// Names the content.
    pub etag: String,
    /// Counts the writes of the store.
    pub generation: u64,
    /// `Content-Encoding` and `Content-Type` of the write.
    pub headers: Vec<(&'static str, String)>,
}

impl Object {
    /// Measures bytes. `gcs`: which of the two checksums is wanted; the other costs time.
    pub fn of(bytes: Bytes, gcs: bool, generation: u64) -> Self {
        let crc64 = crc_fast::checksum(Crc64Nvme, &bytes);
        let crc32c = if gcs { crc32c::crc32c(&bytes) } else { 0 };
        let etag = format!("\"{crc64:016x}{:016x}\"", bytes.len());
        Object { size: bytes.len() as u64, bytes, crc64, crc32c, etag, generation, headers: Vec::new() }
    }

    /// CRC64NVME as S3 writes it.
    pub fn crc64_text(&self) -> String {
        STANDARD.encode(self.crc64.to_be_bytes())
    }

    /// CRC32C as GCS writes it.
    pub fn crc32c_text(&self) -> String {
        STANDARD.encode(self.crc32c.to_be_bytes())
    }
}

/// A multipart upload under way.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// The key that it is for.
    pub key: String,
    /// Its parts by number.
    pub parts: BTreeMap<u32, Object>,
    /// As an object's.
    pub headers: Vec<(&'static str, String)>,
}

impl Upload {
    /// The object that its parts make, with an ETag that is not one of a single write.
    pub fn join(&self, gcs: bool, generation: u64) -> Object {
        let mut whole = Vec::new();
        let (mut crc64, mut size) = (0, 0);
        for part in self.parts.values() {
            crc64 = if size == 0 {
                part.crc64
            } else {
                crc_fast::checksum_combine(Crc64Nvme, crc64, part.crc64, part.size)
            };
            size += part.size;
            whole.extend_from_slice(&part.bytes);
        }
        let crc32c = if gcs { crc32c::crc32c(&whole) } else { 0 };
        let etag = format!("\"{crc64:016x}-{}\"", self.parts.len());
        let bytes = Bytes::from(whole);
        Object { bytes, size, crc64, crc32c, etag, generation, headers: Vec::new() }
    }
}
