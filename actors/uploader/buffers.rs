//! Part-sized buffers that are used again: fresh pages cost more than the copy into them.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// A few buffers kept warm. Clones share them.
#[derive(Clone, Default, Debug)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// So many buffers are kept for the next file.
const KEPT: usize = 3;

impl Buffers {
    /// An empty buffer, with the room that its last use gave it.
    pub fn take(&self) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = kept.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// The content of a buffer, which comes back here when nobody reads it any more.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_reader_is_done() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"part");
        let lent = buffers.lend(buffer);
        let reader = lent.slice(1..3);
        drop(lent);
        assert_eq!((&reader[..], buffers.take().capacity()), (&b"ar"[..], 0));
        drop(reader);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= 4);
    }
}
