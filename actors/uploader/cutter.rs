//! Cuts what is written into pieces of one size, hashes them, and hands them over: the end of a compressor whose output
//! has no size yet.

use crate::lab::hex;
use crate::store::Checker;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use tokio::sync::mpsc;

/// What is known of an object when all of it was written.
#[derive(Debug)]
pub struct Whole {
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256, in hex.
    pub sha256: String,
    /// The store's own checksum, as `name=value`, if it has one.
    pub checksum: Option<String>,
}

/// See the module.
pub struct Cutter {
    size: usize,
    buffer: Vec<u8>,
    hash: Sha256,
    checker: Checker,
    total: u64,
    give: mpsc::Sender<Bytes>,
}

impl Cutter {
    /// Hands over pieces of `size` bytes, the last one smaller. Whoever writes waits until they are taken.
    pub fn new(size: usize, checker: Checker, give: mpsc::Sender<Bytes>) -> Self {
        Cutter { size, buffer: Vec::new(), hash: Sha256::new(), checker, total: 0, give }
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.total + self.buffer.len() as u64
    }

    /// Hands over what is left.
    ///
    /// # Errors
    /// `BrokenPipe`, when nobody takes pieces any more.
    pub fn end(mut self) -> io::Result<Whole> {
        if !self.buffer.is_empty() {
            self.hand_over()?;
        }
        let sha256 = hex(&self.hash.finalize());
        Ok(Whole { size: self.total, sha256, checksum: self.checker.finish() })
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.buffer);
        self.hash.update(&piece);
        self.checker.update(&piece);
        self.total += piece.len() as u64;
        self.give.blocking_send(Bytes::from(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.size.saturating_sub(self.buffer.len()).max(1);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= self.size {
            self.hand_over()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
