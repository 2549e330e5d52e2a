//! A job's directory as it is now: every entry below it, followed nowhere, opened nowhere.

use super::{JobDir, TreeError, stat};
use crate::lab::{Entry, Kind, RelPath};
use rustix::fd::AsFd;
use rustix::fs::RawDir;
use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter};

/// What one walk may meet. Beyond, the job is kept and reported, and nobody else waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most entries.
    pub entries: usize,
    /// Most directories in one another.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // A million entries take about 200 MB; no lab's job has come near (reference/reliability.md, T9).
        Limits { entries: 1_000_000, depth: 4_000 }
    }
}

/// Every entry of a job, in byte order of their paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The entries; the directory itself is not one.
    pub entries: Vec<Entry>,
    /// Number of files.
    pub files: u64,
    /// Sum of the files' sizes, in bytes.
    pub bytes: u64,
    /// The latest change of content or inode of anything, the directory included, ns since 1970.
    pub youngest_ns: i64,
}

/// The first thing in which two looks at a directory differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where.
    pub path: RelPath,
    /// What: `appeared`, `vanished` or `changed`.
    pub what: &'static str,
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.what)
    }
}

/// The first difference between two lists of entries, both in path order.
pub fn changes(before: &[Entry], now: &[Entry]) -> Option<Difference> {
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    let difference = |entry: &Entry, what| Some(Difference { path: entry.path.clone(), what });
    loop {
        match (before.peek(), now.peek()) {
            (None, None) => return None,
            (Some(old), None) => return difference(old, "vanished"),
            (None, Some(new)) => return difference(new, "appeared"),
            (Some(old), Some(new)) => match old.path.cmp(&new.path) {
                Ordering::Less => return difference(old, "vanished"),
                Ordering::Greater => return difference(new, "appeared"),
                Ordering::Equal if !old.same(new) => return difference(new, "changed"),
                Ordering::Equal => {
                    before.next();
                    now.next();
                }
            },
        }
    }
}

/// See [`JobDir::snapshot`].
pub fn snapshot(dir: &JobDir, limits: &Limits) -> Result<Snapshot, TreeError> {
    let unreadable = |path: &str| {
        let path = path.to_owned();
        move |error| TreeError::List(path, error)
    };
    let own = stat::stat(dir, b"").map_err(unreadable(&dir.path().to_string()))?;
    let home = dir.incarnation().dev;
    let mut snapshot = Snapshot {
        youngest_ns: stat::nanoseconds(own.stx_mtime).max(stat::nanoseconds(own.stx_ctime)),
        ..Snapshot::default()
    };
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut waiting: Vec<Option<RelPath>> = vec![None];
    while let Some(at) = waiting.pop() {
        let shown = at.as_ref().map_or_else(|| dir.path().to_string(), |at| format!("{}/{at}", dir.path()));
        let open = stat::open_dir(dir.as_fd(), at.as_ref().map_or(b".", RelPath::as_bytes));
        let open = open.map_err(|error| TreeError::Open(shown.clone(), error))?;
        buffer.clear();
        let mut names = RawDir::new(&open, buffer.spare_capacity_mut());
        while let Some(name) = names.next() {
            let name = name.map_err(|error| TreeError::List(shown.clone(), error.into()))?;
            let name = name.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = match &at {
                Some(at) => at.join(name)?,
                None => RelPath::new(name)?,
            };
            // A name that goes while we look is not there; what depends on it is compared again later.
            let Ok(stat) = stat::stat(&open, name) else { continue };
            let target = match stat::kind(&stat, home) {
                Kind::Symlink => match rustix::fs::readlinkat(&open, name, Vec::new()) {
                    Ok(target) => Some(target.to_bytes().into()),
                    Err(_) => continue,
                },
                _ => None,
            };
            let entry = stat::entry(path, &stat, home, target);
            if entry.kind == Kind::Dir {
                if entry.path.parts().count() > limits.depth {
                    return Err(TreeError::TooDeep(entry.path, limits.depth));
                }
                waiting.push(Some(entry.path.clone()));
            }
            snapshot.files += u64::from(entry.kind == Kind::File);
            snapshot.bytes = snapshot.bytes.saturating_add(entry.size);
            snapshot.youngest_ns = snapshot.youngest_ns.max(entry.mtime_ns).max(entry.ctime_ns);
            snapshot.entries.push(entry);
            if snapshot.entries.len() > limits.entries {
                return Err(TreeError::TooMany(limits.entries));
            }
        }
    }
    snapshot.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(snapshot)
}
