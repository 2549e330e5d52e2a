//! Unlinks a tree from its leaves up: only names that are listed, only while they are what was listed.
//!
//! `std::fs::remove_dir_all` takes a descriptor per level and gives up where a hostile tree is deep.

use super::{TreeError, stat};
use crate::lab::{Entry, Kind, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::io::Errno;

/// What was unlinked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Removed {
    /// Files, links and special files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Unlinks the entries beneath `top`, last path first, so that a directory comes after what is in it.
///
/// What is already gone is passed over. What is not what the entry says stays, and so do the
/// directories above it.
///
/// # Errors
/// `Delete`, naming the first entry that could not be unlinked or is not what it was.
pub fn unlink(top: BorrowedFd<'_>, entries: &[Entry]) -> Result<Removed, TreeError> {
    let mut removed = Removed::default();
    let mut parent: Option<(Option<RelPath>, OwnedFd)> = None;
    for entry in entries.iter().rev() {
        let failed = |error: std::io::Error| TreeError::Delete(entry.path.to_string(), error);
        let above = entry.path.parent();
        if parent.as_ref().is_none_or(|(path, _)| *path != above) {
            let opened = stat::open_dir(top, above.as_ref().map_or(b".", RelPath::as_bytes));
            match opened {
                Ok(fd) => parent = Some((above, fd)),
                Err(error) if gone(&error) => continue,
                Err(error) => return Err(failed(error)),
            }
        }
        let Some((_, dir)) = &parent else { continue };
        let now = match stat::stat(dir, entry.path.name()) {
            Ok(stat) => stat,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        let home = stat::device(&now);
        let target = entry.target.clone();
        if !stat::entry(entry.path.clone(), &now, home, target).same(entry) {
            return Err(failed(std::io::Error::other("it is not what was proven")));
        }
        let flags = if entry.kind == Kind::Dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(dir, entry.path.name(), flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error.into())),
        }
        match entry.kind {
            Kind::Dir => removed.dirs += 1,
            _ => (removed.files, removed.bytes) = (removed.files + 1, removed.bytes + entry.size),
        }
    }
    Ok(removed)
}

/// Nothing has that name, or nothing can have it any more.
pub fn gone(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR))
}

/// Removes one empty directory by name.
pub fn rmdir(dir: impl AsFd, name: &[u8]) -> std::io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}
