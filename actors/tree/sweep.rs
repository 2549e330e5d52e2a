//! Which directories are jobs: a lane's patterns, part by part, against the results directory.
//!
//! Only what a pattern asks for is looked at: a hundred thousand job directories cost one listing and one
//! `statx` each, and none of them is opened.

use super::{Root, TreeError, stat, trash};
use crate::lab::{Incarnation, RelPath};
use globset::{GlobBuilder, GlobMatcher};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags, RawDir};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Bytes of directory entries that one system call brings.
const LISTING: usize = 256 << 10;

/// A directory that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its path below the results root.
    pub path: RelPath,
    /// Position of the lane whose pattern matched.
    pub lane: usize,
    /// Which directory of that name.
    pub incarnation: Incarnation,
    /// Last change of its list of entries, ns since 1970.
    pub mtime_ns: i64,
    /// Last change of its inode, ns since 1970.
    pub ctime_ns: i64,
}

/// The patterns of one lane; each is a list of parts, one per level.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Vec<GlobMatcher>>);

impl Patterns {
    /// Reads patterns such as `hosts/*/[0-9]*-*`: `*`, `?` and `[…]` never match a `/`.
    ///
    /// # Errors
    /// `Pattern` for one that cannot be read.
    pub fn new(patterns: &[String]) -> Result<Self, TreeError> {
        let part = |part: &str| {
            let glob = GlobBuilder::new(part).literal_separator(true).build();
            glob.map(|glob| glob.compile_matcher())
                .map_err(|error| TreeError::Pattern(part.to_owned(), error))
        };
        let parts = |pattern: &String| pattern.split('/').map(part).collect();
        patterns.iter().map(parts).collect::<Result<_, _>>().map(Patterns)
    }

    /// Is there no pattern?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does one of the patterns match this path?
    pub fn matches(&self, path: &RelPath) -> bool {
        let fits = |pattern: &Vec<GlobMatcher>| {
            pattern.len() == path.parts().count()
                && std::iter::zip(pattern, path.parts())
                    .all(|(glob, part)| glob.is_match(OsStr::from_bytes(part)))
        };
        self.0.iter().any(fits)
    }
}

/// A pattern that matched so far: its lane, and the parts that are left.
type Open<'a> = (usize, &'a [GlobMatcher]);

/// See [`Root::sweep`].
pub fn sweep(root: &Root, lanes: &[Patterns]) -> Result<Vec<Found>, TreeError> {
    let open: Vec<Open<'_>> = lanes
        .iter()
        .enumerate()
        .flat_map(|(lane, patterns)| patterns.0.iter().map(move |pattern| (lane, pattern.as_slice())))
        .collect();
    let mut found = Vec::new();
    level(root.as_fd(), None, &open, &mut found)?;
    Ok(found)
}

fn level(
    dir: BorrowedFd<'_>,
    at: Option<&RelPath>,
    open: &[Open<'_>],
    found: &mut Vec<Found>,
) -> Result<(), TreeError> {
    let here = || at.map_or_else(|| "the results directory".to_owned(), ToString::to_string);
    let listing = stat::open(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY);
    let listing = listing.map_err(|error| TreeError::Open(here(), error))?;
    let mut deeper: Vec<(RelPath, Vec<Open<'_>>)> = Vec::new();
    let mut buffer = Vec::with_capacity(LISTING);
    let mut names = RawDir::new(&listing, buffer.spare_capacity_mut());
    while let Some(name) = names.next() {
        let name = name.map_err(|error| TreeError::List(here(), error.into()))?;
        let bytes = name.file_name().to_bytes();
        let directory = matches!(name.file_type(), FileType::Directory | FileType::Unknown);
        if !directory || bytes == b"." || bytes == b".." || (at.is_none() && bytes == trash::NAME) {
            continue;
        }
        let text = OsStr::from_bytes(bytes);
        let matched = open.iter().filter_map(|(lane, parts)| {
            let (first, rest) = parts.split_first()?;
            first.is_match(text).then_some((*lane, rest))
        });
        let (done, going): (Vec<Open<'_>>, Vec<Open<'_>>) = matched.partition(|(_, rest)| rest.is_empty());
        if done.is_empty() && going.is_empty() {
            continue;
        }
        let path = match at {
            Some(at) => at.join(bytes)?,
            None => RelPath::new(bytes)?,
        };
        if let Some((lane, _)) = done.first() {
            found.extend(look(&listing, bytes, path, *lane));
        } else {
            deeper.push((path, going));
        }
    }
    drop(listing);
    for (path, going) in deeper {
        // A directory that went away, or that may not be read, hides its jobs and nobody else's.
        if let Ok(below) = stat::open_dir(dir, path.name())
            && let Err(error) = level(below.as_fd(), Some(&path), &going, found)
        {
            tracing::debug!(dir = %path, error = %crate::shown::chain(&error), "passed over");
        }
    }
    Ok(())
}

/// Looks at one name: a job if it is a directory of this file system, now.
fn look(dir: impl AsFd, name: &[u8], path: RelPath, lane: usize) -> Option<Found> {
    let stat = stat::stat(dir, name).ok()?;
    let directory = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
    directory.then(|| Found {
        path,
        lane,
        incarnation: stat::incarnation(&stat),
        mtime_ns: stat::nanoseconds(stat.stx_mtime),
        ctime_ns: stat::nanoseconds(stat.stx_ctime),
    })
}
