//! Which directories are jobs: a lane's patterns, part by part, against the results directory.
//!
//! Only what a pattern asks for is looked at, and none of the jobs is opened. A directory that has not changed is
//! not listed again, and a job that has long been still is looked at less often: a hundred thousand jobs at rest
//! cost next to nothing.

use super::{Root, TreeError, stat, trash};
use crate::lab::{Incarnation, RelPath};
use globset::{GlobBuilder, GlobMatcher};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags, RawDir, Statx};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant, SystemTime};

/// Bytes of directory entries that one system call brings.
const LISTING: usize = 256 << 10;
/// With so few jobs each is looked at in every sweep.
const FEW: usize = 2_000;
/// With more, a job is looked at again after a quarter of the time for which it has been still, and at least so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// A directory is listed again at least so often, whatever its times say.
const RESYNC: Duration = Duration::from_secs(60);
/// A change within so short a time before a listing may not show in the directory's times.
const GRAIN: Duration = Duration::from_secs(2);

/// A directory that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its path below the results root.
    pub path: RelPath,
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

    /// Of the patterns in `open`, all parts of which match before `depth`: does one end with this name, and which go on?
    fn part(&self, open: &[usize], depth: usize, name: &[u8]) -> (bool, Vec<usize>) {
        let (mut whole, mut partly) = (false, Vec::new());
        for index in open {
            let Some(pattern) = self.0.get(*index) else { continue };
            if pattern.get(depth).is_some_and(|glob| glob.is_match(OsStr::from_bytes(name))) {
                match pattern.len() == depth + 1 {
                    true => whole = true,
                    false => partly.push(*index),
                }
            }
        }
        (whole, partly)
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

/// What one sweep brought.
#[derive(Debug, Default)]
pub struct Swept {
    /// The jobs that were looked at.
    pub seen: Vec<Found>,
    /// The jobs that are no longer there.
    pub gone: Vec<RelPath>,
}

/// The sweeps of one lane, each of which knows what the one before saw.
#[derive(Debug)]
pub struct Sweep {
    patterns: Patterns,
    top: Level,
    jobs: usize,
}

/// One directory between the root and the jobs, the root itself included.
#[derive(Debug, Default)]
struct Level {
    /// Inode, mtime and ctime at the last listing, if nothing can have escaped it.
    stamp: Option<(u64, i64, i64)>,
    listed: Option<Instant>,
    jobs: Vec<Job>,
    deeper: HashMap<RelPath, (Vec<usize>, Level)>,
}

#[derive(Debug)]
struct Job {
    path: RelPath,
    looked: Option<Instant>,
    changed_ns: i64,
}

/// The time of one sweep, by both clocks.
#[derive(Clone, Copy)]
struct Now {
    steady: Instant,
    wall_ns: i64,
    all: bool,
}

impl Sweep {
    /// Nothing is known yet: the first sweep looks at everything.
    pub fn new(patterns: Patterns) -> Self {
        Sweep { patterns, top: Level::default(), jobs: 0 }
    }

    /// Compares the results directory with what the sweep before saw.
    ///
    /// # Errors
    /// When the root itself cannot be listed; a directory below it that cannot be is passed over.
    pub fn round(&mut self, root: &Root, steady: Instant, wall: SystemTime) -> Result<Swept, TreeError> {
        let mut swept = Swept::default();
        let wall_ns = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let wall_ns = i64::try_from(wall_ns).unwrap_or(i64::MAX);
        let now = Now { steady, wall_ns, all: self.jobs <= FEW };
        let open: Vec<usize> = (0..self.patterns.0.len()).collect();
        self.top.round(&self.patterns, &open, root.as_fd(), None, now, &mut swept)?;
        self.jobs = self.top.count();
        Ok(swept)
    }
}

impl Level {
    fn round(
        &mut self,
        patterns: &Patterns,
        open: &[usize],
        dir: BorrowedFd<'_>,
        at: Option<&RelPath>,
        now: Now,
        swept: &mut Swept,
    ) -> Result<(), TreeError> {
        let here = || at.map_or_else(|| "the results directory".to_owned(), ToString::to_string);
        let own = stat::stat(dir, b"").map_err(|error| TreeError::Open(here(), error))?;
        let stamp = (own.stx_ino, stat::nanoseconds(own.stx_mtime), stat::nanoseconds(own.stx_ctime));
        let fresh = self.listed.is_some_and(|listed| now.steady.duration_since(listed) < RESYNC);
        if self.stamp != Some(stamp) || !fresh {
            self.list(patterns, open, dir, at, swept)?;
            let settled = now.wall_ns.saturating_sub(stamp.1.max(stamp.2)) > GRAIN.as_nanos() as i64;
            (self.stamp, self.listed) = (settled.then_some(stamp), Some(now.steady));
        }
        for job in &mut self.jobs {
            if job.due(now) {
                job.look(dir, now, swept);
            }
        }
        for (path, (open, level)) in &mut self.deeper {
            match stat::open_dir(dir, path.name()) {
                // A directory that may not be read now hides its news, and nobody else's.
                Ok(below) => {
                    if let Err(error) = level.round(patterns, open, below.as_fd(), Some(path), now, swept) {
                        tracing::debug!(dir = %path, error = %crate::shown::chain(&error), "passed over");
                    }
                }
                Err(error) => tracing::debug!(dir = %path, error = %error, "passed over"),
            }
        }
        Ok(())
    }

    /// Reads the names anew; what is known of those that stay is kept.
    fn list(
        &mut self,
        patterns: &Patterns,
        open: &[usize],
        dir: BorrowedFd<'_>,
        at: Option<&RelPath>,
        swept: &mut Swept,
    ) -> Result<(), TreeError> {
        let here = || at.map_or_else(|| "the results directory".to_owned(), ToString::to_string);
        let depth = at.map_or(0, |at| at.parts().count());
        let listing: OwnedFd = stat::open(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| TreeError::Open(here(), error))?;
        let mut known: HashMap<RelPath, Job> =
            self.jobs.drain(..).map(|job| (job.path.clone(), job)).collect();
        let mut levels = std::mem::take(&mut self.deeper);
        let mut buffer = Vec::with_capacity(LISTING);
        let mut names = RawDir::new(&listing, buffer.spare_capacity_mut());
        while let Some(name) = names.next() {
            let name = name.map_err(|error| TreeError::List(here(), error.into()))?;
            let bytes = name.file_name().to_bytes();
            let directory = matches!(name.file_type(), FileType::Directory | FileType::Unknown);
            if !directory || bytes == b"." || bytes == b".." || (at.is_none() && bytes == trash::NAME) {
                continue;
            }
            let (whole, partly) = patterns.part(open, depth, bytes);
            if !whole && partly.is_empty() {
                continue;
            }
            let path = match at {
                Some(at) => at.join(bytes)?,
                None => RelPath::new(bytes)?,
            };
            if whole {
                let fresh = |path| Job { path, looked: None, changed_ns: 0 };
                self.jobs.push(known.remove(&path).unwrap_or_else(|| fresh(path)));
            } else {
                let level = levels.remove(&path).map(|(_, level)| level).unwrap_or_default();
                self.deeper.insert(path, (partly, level));
            }
        }
        swept.gone.extend(known.into_keys());
        levels.into_values().for_each(|(_, level)| level.gone(swept));
        Ok(())
    }

    fn gone(self, swept: &mut Swept) {
        swept.gone.extend(self.jobs.into_iter().map(|job| job.path));
        self.deeper.into_values().for_each(|(_, level)| level.gone(swept));
    }

    fn count(&self) -> usize {
        self.jobs.len() + self.deeper.values().map(|(_, level)| level.count()).sum::<usize>()
    }
}

impl Job {
    fn due(&self, now: Now) -> bool {
        let Some(looked) = self.looked else { return true };
        let still = now.wall_ns.saturating_sub(self.changed_ns).max(0).unsigned_abs();
        now.all || now.steady.duration_since(looked) >= Duration::from_nanos(still / 4).min(LONGEST_PAUSE)
    }

    fn look(&mut self, dir: BorrowedFd<'_>, now: Now, swept: &mut Swept) {
        self.looked = Some(now.steady);
        match look(dir, &self.path) {
            Some(found) => {
                self.changed_ns = found.mtime_ns.max(found.ctime_ns);
                swept.seen.push(found);
            }
            None => swept.gone.push(self.path.clone()),
        }
    }
}

/// Looks at one name: a job if it is a directory, now.
fn look(dir: impl AsFd, path: &RelPath) -> Option<Found> {
    let stat: Statx = stat::stat(dir, path.name()).ok()?;
    let directory = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
    directory.then(|| Found {
        path: path.clone(),
        incarnation: stat::incarnation(&stat),
        mtime_ns: stat::nanoseconds(stat.stx_mtime),
        ctime_ns: stat::nanoseconds(stat.stx_ctime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(mut paths: Vec<RelPath>) -> Vec<String> {
        paths.sort();
        paths.iter().map(ToString::to_string).collect()
    }

    struct Lab {
        dir: tempfile::TempDir,
        root: Root,
        sweep: Sweep,
        begun: Instant,
    }

    impl Lab {
        fn new(patterns: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::open(dir.path()).unwrap();
            let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            let sweep = Sweep::new(Patterns::new(&patterns).unwrap());
            Lab { dir, root, sweep, begun: Instant::now() }
        }

        fn make(&self, name: &str) {
            fs::create_dir_all(self.dir.path().join(name)).unwrap();
        }

        /// A sweep so many seconds after the first; what it saw, and what is gone.
        fn after(&mut self, seconds: u64) -> (Vec<String>, Vec<String>) {
            let passed = Duration::from_secs(seconds);
            let (steady, wall) = (self.begun + passed, SystemTime::now() + passed);
            let swept = self.sweep.round(&self.root, steady, wall).unwrap();
            (names(swept.seen.into_iter().map(|found| found.path).collect()), names(swept.gone))
        }
    }

    #[test]
    fn jobs_are_found_level_by_level_and_missed_when_they_go() {
        let mut lab = Lab::new(&["[0-9]*-*", "hosts/*/[0-9]*-*"]);
        ["1-a", "hosts/h1/2-reset", "not-a-job", "hosts/h1/deeper/3-x"]
            .iter()
            .for_each(|name| lab.make(name));
        fs::write(lab.dir.path().join("4-file"), "").unwrap();
        assert_eq!(lab.after(0).0, ["1-a", "hosts/h1/2-reset"]);
        lab.make("hosts/h2/5-verify");
        fs::remove_dir(lab.dir.path().join("1-a")).unwrap();
        let (seen, gone) = lab.after(1);
        assert_eq!(
            (seen, gone),
            (vec!["hosts/h1/2-reset".into(), "hosts/h2/5-verify".into()], vec!["1-a".into()])
        );
        fs::remove_dir_all(lab.dir.path().join("hosts")).unwrap();
        assert_eq!(lab.after(2).1, ["hosts/h1/2-reset", "hosts/h2/5-verify"]);
    }

    #[test]
    fn many_jobs_at_rest_are_looked_at_seldom_and_a_new_one_at_once() {
        let mut lab = Lab::new(&["[0-9]*-*"]);
        (0..=FEW).for_each(|job| lab.make(&format!("{job}-a")));
        assert_eq!(lab.after(0).0.len(), FEW + 1);
        assert_eq!(lab.after(400).0.len(), FEW + 1);
        // Still for 400 s: the next look is 100 s away.
        assert_eq!(lab.after(450).0.len(), 0);
        lab.make("new-b");
        lab.make("99999-b");
        assert_eq!(lab.after(451).0, ["99999-b"]);
        assert_eq!(lab.after(530).0.len(), FEW + 1);
    }
}
