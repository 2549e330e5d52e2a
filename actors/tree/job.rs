//! One job's directory, held open: what was opened is what is read, whatever its name leads to later.

use super::walk::{self, Limits, Snapshot};
use super::{TreeError, stat};
use crate::lab::{Entry, Incarnation, Kind, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};

/// The most that a marker file may hold, in bytes.
const MARKER: u64 = 4096;

/// A job's directory.
#[derive(Debug)]
pub struct JobDir {
    fd: OwnedFd,
    path: RelPath,
    incarnation: Incarnation,
}

/// Why a file could not be opened as the snapshot saw it.
#[derive(Debug)]
pub enum OpenError {
    /// Nothing has that name now.
    Gone,
    /// Something else has that name now, or the file was written to.
    Changed,
    /// It may not be read by this process.
    NotPermitted,
    /// It was no file in the first place.
    NotAFile,
    /// It cannot be read.
    Io(io::Error),
}

impl JobDir {
    /// Opens a directory beneath `root`.
    pub(super) fn open(root: BorrowedFd<'_>, path: &RelPath) -> Result<Self, TreeError> {
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(code) if code == Errno::NOENT.raw_os_error() => TreeError::Gone(path.clone()),
            _ => TreeError::Open(path.to_string(), error),
        };
        let fd = stat::open_dir(root, path.as_bytes()).map_err(failed)?;
        let incarnation = stat::incarnation(&stat::stat(&fd, b"").map_err(failed)?);
        Ok(JobDir { fd, path: path.clone(), incarnation })
    }

    /// Where it was, below the results root.
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// Which directory of that name it is.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Everything below it, as it is now. Nothing is opened but directories.
    ///
    /// # Errors
    /// When a directory cannot be listed, or the limits are exceeded.
    pub fn snapshot(&self, limits: &Limits) -> Result<Snapshot, TreeError> {
        walk::snapshot(self, limits)
    }

    /// Opens a file for reading, if it is still the one that the entry describes.
    ///
    /// # Errors
    /// [`OpenError`] otherwise.
    pub fn open_file(&self, entry: &Entry) -> Result<File, OpenError> {
        if entry.kind != Kind::File {
            return Err(OpenError::NotAFile);
        }
        let parent = entry.path.parent();
        let opened = match &parent {
            Some(parent) => stat::open_dir(self.fd.as_fd(), parent.as_bytes())
                .and_then(|parent| stat::open(&parent, entry.path.name(), OFlags::RDONLY)),
            None => stat::open(&self.fd, entry.path.name(), OFlags::RDONLY),
        };
        let file = File::from(opened.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => OpenError::Gone,
            // A link, a socket or a mount point stands where the file was.
            Some(Errno::LOOP | Errno::XDEV | Errno::NXIO) => OpenError::Changed,
            Some(Errno::ACCESS | Errno::PERM) => OpenError::NotPermitted,
            _ => OpenError::Io(error),
        })?);
        if self.unchanged(&file, entry) { Ok(file) } else { Err(OpenError::Changed) }
    }

    /// Is the open file still what the entry describes, to the last change of its inode?
    pub fn unchanged(&self, file: &File, entry: &Entry) -> bool {
        stat::stat(file, b"").is_ok_and(|stat| {
            let now = stat::entry(entry.path.clone(), &stat, self.incarnation.dev, None);
            now.same(entry) && now.ctime_ns == entry.ctime_ns
        })
    }

    /// The content of a marker of that name directly below, or `None` if there is no such file.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn marker(&self, name: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        self.small_file(name, MARKER)
    }

    /// The first bytes, up to `at_most`, of a file of that name directly below, or `None` if there is no such file.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn small_file(&self, name: &[u8], at_most: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let failed = |error| TreeError::Open(format!("{}/{}", self.path, crate::shown::Shown(name)), error);
        let file = match stat::open(&self.fd, name, OFlags::RDONLY) {
            Ok(fd) => File::from(fd),
            Err(error) => {
                return match Errno::from_io_error(&error) {
                    Some(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::XDEV) => Ok(None),
                    _ => Err(failed(error)),
                };
            }
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Ok(None);
        }
        let mut text = Vec::new();
        file.take(at_most).read_to_end(&mut text).map_err(failed)?;
        Ok(Some(text))
    }
}

impl JobDir {
    /// Adds a file of ours directly below, whole; one that is there already is left as it is.
    ///
    /// # Errors
    /// The disk's.
    pub fn add_file(&self, name: &[u8], bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        match rustix::fs::openat(&self.fd, name, flags, mode) {
            Ok(fd) => {
                let mut file = File::from(fd);
                file.write_all(bytes)?;
                file.sync_all()
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for JobDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
