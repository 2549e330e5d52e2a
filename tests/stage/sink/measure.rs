//! What a sink knows of bytes that it does not keep.

use crc_fast::CrcAlgorithm::Crc64Nvme;

/// The largest object that is kept for reading back.
const KEPT: usize = 16 << 20;

/// Measures bytes as they pass, and keeps them if it was told to.
pub(super) struct Measure {
    crc64: crc_fast::Digest,
    size: u64,
    kept: Option<Vec<u8>>,
}

/// Bytes that passed.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub crc64: u64,
    pub size: u64,
    pub kept: Option<Vec<u8>>,
}

impl Measure {
    pub fn new(keeps: bool) -> Self {
        Measure { crc64: crc_fast::Digest::new(Crc64Nvme), size: 0, kept: keeps.then(Vec::new) }
    }

    pub fn take(&mut self, bytes: &[u8]) {
        self.crc64.update(bytes);
        self.size += bytes.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        self.kept.take_if(|kept| kept.len() > KEPT);
    }

    pub fn done(self) -> Measured {
        Measured { crc64: self.crc64.finalize(), size: self.size, kept: self.kept }
    }
}

impl Measured {
    /// These bytes and then others, of which neither are kept.
    pub fn then(&self, next: &Measured) -> Measured {
        let crc64 = match self.size {
            0 => next.crc64,
            _ => crc_fast::checksum_combine(Crc64Nvme, self.crc64, next.crc64, next.size),
        };
        Measured { crc64, size: self.size + next.size, kept: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_measure_like_the_whole() {
        let measure = |bytes: &[u8]| {
            let mut measure = Measure::new(true);
            bytes.chunks(7).for_each(|piece| measure.take(piece));
            measure.done()
        };
        let (whole, none) = (measure(b"123456789"), measure(b""));
        assert_eq!(whole.crc64, 0xae8b_1486_0a79_9888, "the check value of CRC64NVME");
        let joined = none.then(&measure(b"1234")).then(&measure(b"56789"));
        assert_eq!((joined.crc64, joined.size), (whole.crc64, 9));
        assert_eq!(whole.kept.as_deref(), Some(&b"123456789"[..]));
    }
}
