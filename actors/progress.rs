//! Who is told how far an offload has come.

use crate::lab::RelPath;

/// Is told of progress, from any thread, without waiting.
pub trait Watch: Send + Sync {
    /// A job is going to be sent: so many files, so many bytes.
    fn planned(&self, job: &RelPath, files: u64, bytes: u64);
    /// So many bytes are in the store.
    fn sent(&self, bytes: u64);
    /// One more file is in the store.
    fn stored(&self);
    /// A job ended: it is proven, or it failed.
    fn done(&self, job: &RelPath, proven: bool);
}

/// Nobody is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {
    fn planned(&self, _: &RelPath, _: u64, _: u64) {}
    fn sent(&self, _: u64) {}
    fn stored(&self) {}
    fn done(&self, _: &RelPath, _: bool) {}
}
