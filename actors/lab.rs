//! The nouns that every room of this crate shares: paths, kinds, digests, identities.

use crate::shown::Shown;
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// A path below a known directory, as raw bytes: relative, `/`-separated, without empty, `.` or `..` parts.
///
/// Names come from outside and need not be UTF-8; `Display` escapes them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Box<[u8]>);

/// A path that is not a [`RelPath`]: empty, absolute, or with a part that is empty, `.`, `..` or holds a NUL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path below a directory: {0}")]
pub struct BadPath(String);

impl RelPath {
    /// Takes raw bytes.
    ///
    /// # Errors
    /// [`BadPath`] when a part could lead out of the directory that the path is relative to.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, BadPath> {
        let bytes = bytes.into();
        let sound = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
        if bytes.split(|byte| *byte == b'/').all(sound) {
            Ok(RelPath(bytes))
        } else {
            Err(BadPath(Shown(&bytes).to_string()))
        }
    }

    /// The path of `name` below this one.
    ///
    /// # Errors
    /// [`BadPath`] when `name` is not one sound part or more.
    pub fn join(&self, name: &[u8]) -> Result<Self, BadPath> {
        Self::new([&self.0, b"/".as_slice(), name].concat())
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The parts, outermost first; never empty.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The last part.
    pub fn name(&self) -> &[u8] {
        self.parts().next_back().unwrap_or_default()
    }

    /// The path without its last part, or `None` for a single part.
    pub fn parent(&self) -> Option<RelPath> {
        let cut = self.0.iter().rposition(|byte| *byte == b'/')?;
        self.0.get(..cut).map(|head| RelPath(head.into()))
    }
}

impl Display for RelPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// What a directory entry is; only a file's bytes are ever opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    /// A directory on another file system: recorded, never entered.
    MountPoint,
}

/// A SHA-256, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }
}

impl Display for Digest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Text that is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 in hex")]
pub struct BadDigest;

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let bytes = unhex(text).ok_or(BadDigest)?;
        bytes.try_into().map(Digest).map_err(|_| BadDigest)
    }
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of an even number of hex digits, or `None`.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| value.try_into().ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Which directory a name stood for: a re-used job number or a restored copy is another incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Incarnation {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode of the directory.
    pub ino: u64,
    /// Birth time in ns since 1970, where the file system keeps one; else 0.
    pub born_ns: i64,
}

/// One entry of a job's directory, as it was when the snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where, below the job's directory.
    pub path: RelPath,
    /// What it is.
    pub kind: Kind,
    /// Inode; the device is the job's own for everything but a [`Kind::MountPoint`].
    pub ino: u64,
    /// Logical size in bytes; 0 for what is not a file.
    pub size: u64,
    /// Last change of content, ns since 1970.
    pub mtime_ns: i64,
    /// Last change of inode, ns since 1970; cannot be set by a program.
    pub ctime_ns: i64,
    /// `st_mode`, with the type bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u64,
    /// Where a symbolic link points, raw; `None` for everything else.
    pub target: Option<Box<[u8]>>,
}

impl Entry {
    /// The same entry, with unchanged content? Compares what a writer cannot avoid changing.
    ///
    /// For directories only the kind and inode count: their content is entries of its own.
    pub fn same(&self, other: &Entry) -> bool {
        let identity = self.path == other.path && self.kind == other.kind && self.ino == other.ino;
        match self.kind {
            Kind::Dir | Kind::MountPoint => identity,
            _ => {
                identity
                    && self.size == other.size
                    && self.mtime_ns == other.mtime_ns
                    && self.target == other.target
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_lead_out() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "../a", "a/..", "a\0b"] {
            assert!(RelPath::new(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
        for good in ["a", "a/b", "...", "a/..b", ".hidden"] {
            assert!(RelPath::new(good.as_bytes()).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest::of(b"results");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("zz".parse::<Digest>(), Err(BadDigest));
        assert_eq!(unhex("00ff1"), None);
    }
}
