//! The results directory itself, held by one process.

use super::{JobDir, TreeError, stat};
use crate::lab::RelPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The results directory; locked, if it was, for as long as this value lives.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    identity: (u64, u64),
}

impl Root {
    /// Opens and locks the results directory. The lock is on the directory itself: a lock file could be
    /// unlinked, and then two processes would hold it.
    ///
    /// # Errors
    /// `Root` when it cannot be opened, `Held` when another process has it.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let root = Root::beside(path)?;
        match rustix::fs::flock(&root.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(root),
            Err(Errno::WOULDBLOCK) => Err(TreeError::Held { path: path.to_owned(), pid: holder(&root.fd) }),
            Err(error) => Err(TreeError::Root(path.to_owned(), error.into())),
        }
    }

    /// Opens the results directory beside the process that holds it: for who deletes nothing.
    ///
    /// # Errors
    /// `Root` when it cannot be opened.
    pub fn beside(path: &Path) -> Result<Self, TreeError> {
        let failed = |error: Errno| TreeError::Root(path.to_owned(), error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
        let own = stat::stat(&fd, b"").map_err(|error| TreeError::Root(path.to_owned(), error))?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Root { fd, path, identity: (stat::device(&own), own.stx_ino) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does the path still lead to the directory that was opened?
    pub fn still_there(&self) -> bool {
        rustix::fs::openat(CWD, &self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .ok()
            .and_then(|now| stat::stat(&now, b"").ok())
            .is_some_and(|now| (stat::device(&now), now.stx_ino) == self.identity)
    }

    /// Opens a job's directory.
    ///
    /// # Errors
    /// `Gone` when nothing is there, `Open` when what is there is not a directory of this file system.
    pub fn job(&self, path: &RelPath) -> Result<JobDir, TreeError> {
        JobDir::open(self.fd.as_fd(), path)
    }

    /// Is there a file of that name directly below it?
    pub fn has_file(&self, name: &str) -> bool {
        stat::stat(&self.fd, name.as_bytes()).is_ok()
    }

    /// Writes a file of ours directly below it: whole, and put in place at once.
    ///
    /// # Errors
    /// `Write`; the file is as it was.
    pub fn replace_file(&self, name: &str, bytes: &[u8]) -> Result<(), TreeError> {
        let failed = |error| TreeError::Write(name.to_owned(), error);
        let fresh = format!(".{name}.new");
        // Nonblocking: a fifo of that name is an error and not a wait.
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = rustix::fs::openat(&self.fd, &fresh, flags, mode).map_err(|error| failed(error.into()))?;
        File::from(file).write_all(bytes).map_err(failed)?;
        rustix::fs::renameat(&self.fd, &fresh, &self.fd, name).map_err(|error| failed(error.into()))
    }

    /// What its file system has, and has left.
    pub fn space(&self) -> Option<Space> {
        let now = rustix::fs::fstatvfs(&self.fd).ok()?;
        Some(Space {
            bytes: now.f_blocks.saturating_mul(now.f_frsize),
            bytes_free: now.f_bavail.saturating_mul(now.f_frsize),
            inodes: now.f_files,
            inodes_free: now.f_favail,
        })
    }
}

/// What a file system has, and has left for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Space {
    pub bytes: u64,
    pub bytes_free: u64,
    /// 0 where the file system has no fixed number.
    pub inodes: u64,
    pub inodes_free: u64,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The process that holds the lock, as far as /proc tells.
fn holder(fd: &OwnedFd) -> Option<u32> {
    let inode = format!(":{}", stat::stat(fd, b"").ok()?.stx_ino);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let line = locks.lines().find(|line| line.contains("FLOCK") && line.contains(&inode))?;
    line.split_whitespace().nth(4)?.parse().ok()
}
