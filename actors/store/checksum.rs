//! The checksums that stores compute themselves: CRC64NVME (S3), CRC32C (GCS), MD5 (Azure's single puts).

use super::backend::Kind;
use crate::lab::hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use std::fmt::{self, Display, Formatter};

/// A checksum by name, in the base64 that stores write. `Display` is `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// `crc64nvme`, `crc32c`, `md5` or `sha256`.
    pub name: &'static str,
    /// Base64 of its bytes, highest first; of a SHA-256 its hex digits.
    pub value: String,
}

impl Display for Checksum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// Computes a store's checksum over bytes that come in pieces.
pub enum Checker {
    /// Of S3.
    Crc64(Box<crc_fast::Digest>),
    /// Of GCS.
    Crc32c(u32),
    /// Of a results host.
    Sha256(Box<Sha256>),
    /// Of a store that computes none over an object written in parts.
    Nothing,
}

impl Checker {
    /// For an object that is written in parts.
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::S3 => Checker::Crc64(Box::new(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme))),
            Kind::Gcs => Checker::Crc32c(0),
            Kind::Rsync => Checker::Sha256(Box::default()),
            Kind::Azure | Kind::File | Kind::Http | Kind::Memory => Checker::Nothing,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Checker::Crc64(digest) => digest.update(bytes),
            Checker::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
            Checker::Sha256(digest) => digest.update(bytes),
            Checker::Nothing => {}
        }
    }

    /// The checksum as `name=value`.
    pub fn finish(self) -> Option<String> {
        let checksum = match self {
            Checker::Crc64(digest) => crc64nvme(digest.finalize()),
            Checker::Crc32c(sum) => crc32c(sum),
            Checker::Sha256(digest) => Checksum { name: "sha256", value: hex(&digest.finalize()) },
            Checker::Nothing => return None,
        };
        Some(checksum.to_string())
    }
}

/// The checksum of an object that is written by one request.
pub(super) fn of(kind: Kind, body: &[u8]) -> Option<Checksum> {
    match kind {
        Kind::S3 => Some(crc64nvme(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, body))),
        Kind::Gcs => Some(crc32c(crc32c::crc32c(body))),
        Kind::Rsync => Some(Checksum { name: "sha256", value: hex(&Sha256::digest(body)) }),
        Kind::Azure => Some(Checksum { name: "md5", value: STANDARD.encode(Md5::digest(body)) }),
        Kind::File | Kind::Http | Kind::Memory => None,
    }
}

fn crc64nvme(sum: u64) -> Checksum {
    Checksum { name: "crc64nvme", value: STANDARD.encode(sum.to_be_bytes()) }
}

fn crc32c(sum: u32) -> Checksum {
    Checksum { name: "crc32c", value: STANDARD.encode(sum.to_be_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_that_the_stores_publish() {
        // Check values of the CRC catalogue over "123456789": CRC-64/NVME ae8b14860a799888, CRC-32/ISCSI e3069283.
        let of = |kind| super::of(kind, b"123456789").map(|checksum| checksum.to_string());
        assert_eq!(
            of(Kind::S3).unwrap(),
            format!("crc64nvme={}", STANDARD.encode(0xae8b_1486_0a79_9888u64.to_be_bytes()))
        );
        assert_eq!(
            of(Kind::Gcs).unwrap(),
            format!("crc32c={}", STANDARD.encode(0xe306_9283u32.to_be_bytes()))
        );
        assert_eq!(of(Kind::Azure).unwrap(), "md5=JfnnlDI7RTiF9RgfG2JNCw==");
        assert_eq!(of(Kind::File), None);
    }

    #[test]
    fn pieces_sum_to_the_whole() {
        for kind in [Kind::S3, Kind::Gcs] {
            let mut checker = Checker::new(kind);
            b"123456789".chunks(4).for_each(|piece| checker.update(piece));
            assert_eq!(checker.finish(), of(kind, b"123456789").map(|checksum| checksum.to_string()));
        }
    }
}
