//! Cuts what is written into pieces of one size, hashes them, and hands them over: the end of a compressor whose output
//! has no size yet. And sends the pieces as the parts of an object.

use crate::lab::hex;
use crate::store::{Checker, Store, StoreError};
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

/// Sends the first pieces, and those that come, as parts of an upload. Answers with their tokens, in order.
///
/// # Errors
/// The first [`StoreError`].
pub async fn send_parts(
    store: &Store,
    (key, id): (&str, &str),
    begun: [Bytes; 2],
    pieces: &mut mpsc::Receiver<Bytes>,
) -> Result<Vec<String>, StoreError> {
    let (mut tokens, mut begun) = (Vec::new(), begun.into_iter());
    while let Some(piece) = match begun.next() {
        Some(piece) => Some(piece),
        None => pieces.recv().await,
    } {
        let number = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        tokens.push(store.put_part(key, id, number, piece).await?.token);
    }
    Ok(tokens)
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
