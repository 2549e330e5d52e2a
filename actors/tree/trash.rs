//! Where a proven job goes before it is unlinked: out of everybody's way, on the same file system.
//!
//! A job in the trash is `.dronekeeper-trash/<uuid>/tree`, with `origin` (its path) and `note` (why it may
//! be deleted) beside it, both on the disk before the job is moved. After a crash each is either finished
//! or put back.

use super::remove::{self, Removed};
use super::walk::{Difference, Limits, changes};
use super::{JobDir, Root, TreeError, stat};
use crate::lab::{Entry, RelPath};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use uuid::Uuid;

/// The trash's name in the results directory; no lane's pattern matches it.
pub const NAME: &[u8] = b".dronekeeper-trash";
const TREE: &[u8] = b"tree";
const ORIGIN: &[u8] = b"origin";
const NOTE: &[u8] = b"note";
/// The most that a note may hold, in bytes.
const LONGEST_NOTE: u64 = 64 << 10;

/// The trash of one results directory.
#[derive(Debug)]
pub struct Trash {
    fd: OwnedFd,
}

/// A job in the trash.
#[derive(Debug)]
pub struct Trashed {
    trash: OwnedFd,
    slot: OwnedFd,
    name: String,
    dir: JobDir,
    origin: RelPath,
    note: Vec<u8>,
}

impl Trash {
    /// Opens the trash, and makes it if there is none.
    ///
    /// # Errors
    /// `Trash` when something else has its name, or it belongs to somebody else.
    pub fn open(root: &Root) -> Result<Self, TreeError> {
        let path = || root.path().join(".dronekeeper-trash");
        let failed = |error: io::Error| TreeError::Root(path(), error);
        match rustix::fs::mkdirat(root, NAME, Mode::RWXU) {
            Ok(()) => sync(root).map_err(failed)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let opened = stat::open(root, NAME, OFlags::RDONLY | OFlags::DIRECTORY);
        let fd = opened.map_err(|_| TreeError::Trash(path()))?;
        let own = stat::stat(&fd, b"").map_err(failed)?;
        let ours = own.stx_uid == rustix::process::geteuid().as_raw();
        if ours { Ok(Trash { fd }) } else { Err(TreeError::Trash(path())) }
    }

    /// Moves a job in. What was moved is the directory that `dir` holds open, or it is moved back.
    ///
    /// # Errors
    /// `Move`; the job is in its place.
    pub fn take(&self, root: &Root, dir: &JobDir, note: &[u8]) -> Result<Trashed, TreeError> {
        let failed = |error: io::Error| TreeError::Move(dir.path().to_string(), error);
        let name = Uuid::new_v4().to_string();
        rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::RWXU).map_err(|error| failed(error.into()))?;
        let slot =
            stat::open(&self.fd, name.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        write(&slot, ORIGIN, dir.path().as_bytes()).map_err(failed)?;
        write(&slot, NOTE, note).map_err(failed)?;
        sync(&slot).and_then(|()| sync(&self.fd)).map_err(failed)?;
        let home = parent(root, dir.path()).map_err(failed)?;
        let moved = rustix::fs::renameat_with(&home, dir.path().name(), &slot, TREE, RenameFlags::NOREPLACE);
        if let Err(error) = moved {
            clear(&self.fd, &slot, &name).map_err(failed)?;
            return Err(failed(error.into()));
        }
        sync(&slot).and_then(|()| sync(&home)).map_err(failed)?;
        let trash = self.fd.try_clone().map_err(failed)?;
        let (origin, note) = (dir.path().clone(), note.to_vec());
        let tree = RelPath::new(TREE)?;
        let trashed = Trashed { trash, dir: JobDir::open(slot.as_fd(), &tree)?, slot, name, origin, note };
        if trashed.dir.incarnation() != dir.incarnation() {
            trashed.put_back(root)?;
            return Err(failed(io::Error::other("another directory took its place")));
        }
        Ok(trashed)
    }

    /// The jobs that a crash left here; what holds no job is cleared away.
    ///
    /// # Errors
    /// When the trash cannot be listed.
    pub fn leftovers(&self) -> Result<Vec<Trashed>, TreeError> {
        let failed = |error: io::Error| TreeError::List("the trash".into(), error);
        let listing = stat::open(&self.fd, b".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let (mut buffer, mut names) = (Vec::with_capacity(32 << 10), Vec::new());
        let mut listed = RawDir::new(&listing, buffer.spare_capacity_mut());
        while let Some(name) = listed.next() {
            let name = name.map_err(|error| failed(error.into()))?;
            names.extend(name.file_name().to_str().ok().map(str::to_owned));
        }
        names.retain(|name| Uuid::try_parse(name).is_ok());
        Ok(names.into_iter().filter_map(|name| self.leftover(name)).collect())
    }

    fn leftover(&self, name: String) -> Option<Trashed> {
        let slot = stat::open(&self.fd, name.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        let there = stat::stat(&slot, TREE);
        if there.as_ref().is_err_and(remove::gone) {
            let _ = clear(&self.fd, &slot, &name);
            return None;
        }
        let origin = RelPath::new(read(&slot, ORIGIN).ok()?).ok()?;
        let note = read(&slot, NOTE).ok()?;
        let dir = JobDir::open(slot.as_fd(), &RelPath::new(TREE).ok()?).ok()?;
        Some(Trashed { trash: self.fd.try_clone().ok()?, slot, name, dir, origin, note })
    }
}

impl Trashed {
    /// The path that the job had below the results root.
    pub fn origin(&self) -> &RelPath {
        &self.origin
    }

    /// What was written down when it was moved here.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// Looks once more, now that nobody finds it by its name: the first entry that is not as expected.
    /// `gone_is_fine` is for a job that was already being unlinked.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn last_look(&self, expected: &[Entry], gone_is_fine: bool) -> Result<Option<Difference>, TreeError> {
        let now = self.dir.snapshot(&Limits::default())?.entries;
        let there = |entry: &&Entry| now.binary_search_by(|now| now.path.cmp(&entry.path)).is_ok();
        match gone_is_fine {
            false => Ok(changes(expected, &now)),
            true => Ok(changes(&expected.iter().filter(there).cloned().collect::<Vec<_>>(), &now)),
        }
    }

    /// Puts the job back where it was; beside it, as `NAME.dronekeeper-leftover-N`, if the name is taken.
    ///
    /// # Errors
    /// `Move`; the job stays in the trash.
    pub fn put_back(self, root: &Root) -> Result<(), TreeError> {
        let failed = |error: io::Error| TreeError::Move(self.origin.to_string(), error);
        let home = parent(root, &self.origin).map_err(failed)?;
        let beside =
            (1..1000).map(|n| [self.origin.name(), format!(".dronekeeper-leftover-{n}").as_bytes()].concat());
        for name in std::iter::once(self.origin.name().to_vec()).chain(beside) {
            match rustix::fs::renameat_with(&self.slot, TREE, &home, &*name, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    sync(&home).and_then(|()| sync(&self.slot)).map_err(failed)?;
                    return clear(&self.trash, &self.slot, &self.name).map_err(failed);
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Err(failed(io::Error::from(Errno::EXIST)))
    }

    /// Unlinks exactly the expected entries, and then the empty directory.
    ///
    /// # Errors
    /// `Delete`; what is left stays in the trash.
    pub fn unlink(self, expected: &[Entry]) -> Result<Removed, TreeError> {
        let failed = |error: io::Error| TreeError::Delete(self.origin.to_string(), error);
        let removed = remove::unlink(self.dir.as_fd(), expected)?;
        remove::rmdir(&self.slot, TREE).map_err(failed)?;
        clear(&self.trash, &self.slot, &self.name).map_err(failed)?;
        Ok(removed)
    }
}

/// Opens the directory that a job is in.
fn parent(root: &Root, path: &RelPath) -> io::Result<OwnedFd> {
    stat::open_dir(root.as_fd(), path.parent().as_ref().map_or(b".", RelPath::as_bytes))
}

fn write(dir: &OwnedFd, name: &[u8], bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.sync_all()
}

fn read(dir: &OwnedFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(stat::open(dir, name, OFlags::RDONLY)?).take(LONGEST_NOTE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes a slot that holds no job.
fn clear(trash: &OwnedFd, slot: &OwnedFd, name: &str) -> io::Result<()> {
    for file in [NOTE, ORIGIN] {
        match rustix::fs::unlinkat(slot, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    remove::rmdir(trash, name.as_bytes())
}

fn sync(dir: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}
