//! What the kernel says of one name, and how a directory below another is opened.

use crate::lab::{Entry, Incarnation, Kind, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use std::io;

/// The most bytes of a path that one system call is given: the kernel's limit, less room for its end.
const STRETCH: usize = 4000;

/// Asks for everything that identifies an entry; the name itself is looked at, never what it points to.
pub fn stat(dir: impl AsFd, name: &[u8]) -> io::Result<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let follow = cfg!(seeded_bug = "links_followed");
    let links = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let flags = links | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    Ok(rustix::fs::statx(dir, name, flags, mask)?)
}

/// Nanoseconds since 1970; times that no clock shows are moved to the nearest that can be told.
pub fn nanoseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
}

/// Which directory this is.
pub fn incarnation(stat: &Statx) -> Incarnation {
    let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Incarnation {
        dev: device(stat),
        ino: stat.stx_ino,
        born_ns: if born { nanoseconds(stat.stx_btime) } else { 0 },
    }
}

/// The file system that an entry is on.
pub fn device(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

/// What the entry is; `home` is the file system that its job is on.
pub fn kind(stat: &Statx, home: u64) -> Kind {
    use rustix::fs::FileType;
    let mounted = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) || device(stat) != home;
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory if mounted => Kind::MountPoint,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        // A file that something is mounted on is not the job's file.
        _ if mounted => Kind::MountPoint,
        _ => Kind::File,
    }
}

/// One entry as the kernel describes it.
pub fn entry(path: RelPath, stat: &Statx, home: u64, target: Option<Box<[u8]>>) -> Entry {
    let kind = kind(stat, home);
    Entry {
        path,
        kind,
        ino: stat.stx_ino,
        size: if kind == Kind::File { stat.stx_size } else { 0 },
        mtime_ns: nanoseconds(stat.stx_mtime),
        ctime_ns: nanoseconds(stat.stx_ctime),
        mode: stat.stx_mode.into(),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        nlink: stat.stx_nlink.into(),
        target,
    }
}

/// Opens what lies beneath `dir`: through no link, on the same file system, without waiting for a fifo.
pub fn open(dir: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    if cfg!(seeded_bug = "links_followed") {
        return Ok(rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?);
    }
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(&dir, path, flags, Mode::empty(), resolve) {
            // A rename somewhere above raced with the look-up; the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return Ok(opened?),
        }
    }
}

/// Opens the directory at `path` beneath `dir`, however long the path is, holding two descriptors at most.
pub fn open_dir(dir: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let (mut at, mut rest): (Option<OwnedFd>, &[u8]) = (None, path);
    while rest.len() > STRETCH {
        let head = rest.get(..STRETCH).unwrap_or(rest);
        let cut = head.iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let (stretch, tail) = rest.split_at(cut);
        at = Some(match &at {
            Some(at) => open(at, stretch, flags)?,
            None => open(dir, stretch, flags)?,
        });
        rest = tail.get(1..).unwrap_or_default();
    }
    match &at {
        Some(at) => open(at, rest, flags),
        None => open(dir, rest, flags),
    }
}
