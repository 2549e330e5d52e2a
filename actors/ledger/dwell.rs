//! How long each proven job has stood in the store, by a clock that nobody sets.
//!
//! The machine's clock may jump, also while no process runs. So the ledger counts time itself: what
//! `CLOCK_BOOTTIME` says has passed within one boot of the machine. Between two boots nothing is counted, and
//! up to a minute before a power cut is lost: a job stays longer for it, never shorter.

use super::{Books, LedgerError, Work};
use crate::lab::{Digest, RelPath};
use actix::Message;
use rusqlite::{OptionalExtension, params};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::time::Duration;

/// The clock as it was last written down.
struct Clock {
    /// Of which boot `seen` tells.
    boot: String,
    /// `CLOCK_BOOTTIME` at that moment, in ns.
    seen: i64,
    /// What has passed since the ledger was begun, in ns.
    passed: i64,
}

impl Clock {
    /// The clock as it stands now; `None` before it was ever started, or when what was written is damaged.
    fn read(books: &Books<'_>) -> rusqlite::Result<Option<Clock>> {
        let row = books.open.query_row("SELECT boot, seen, passed, sum FROM clock", [], |row| {
            let clock = Clock { boot: row.get(0)?, seen: row.get(1)?, passed: row.get(2)? };
            Ok((row.get::<_, i64>(3)? == clock.sum()).then_some(clock))
        });
        let Some(mut clock) = row.optional()?.flatten() else { return Ok(None) };
        let (boot, now) = (boot(books), boottime());
        let since = if clock.boot == boot { now.saturating_sub(clock.seen).max(0) } else { 0 };
        clock.passed = clock.passed.saturating_add(since);
        (clock.boot, clock.seen) = (boot, now);
        Ok(Some(clock))
    }

    fn write(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO clock (id, boot, seen, passed, sum) VALUES (0, ?1, ?2, ?3, ?4)";
        let values = params![self.boot, self.seen, self.passed, self.sum()];
        books.open.prepare_cached(insert)?.execute(values).map(drop)
    }

    fn sum(&self) -> i64 {
        sum(self.boot.as_bytes(), &[], [self.seen, self.passed])
    }
}

/// Which boot of the machine this is; where it cannot be told, which run of the process.
fn boot(books: &Books<'_>) -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| books.boot.to_string(), |id| id.trim().to_owned())
}

fn boottime() -> i64 {
    if cfg!(seeded_bug = "wall_clock_ages") {
        return super::rows::nanoseconds(std::time::SystemTime::now());
    }
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

fn sum(first: &[u8], second: &[u8], numbers: [i64; 2]) -> i64 {
    let mut sum = crc32c::crc32c(&(first.len() as u64).to_le_bytes());
    sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, first), second);
    i64::from(numbers.iter().fold(sum, |sum, number| crc32c::crc32c_append(sum, &number.to_le_bytes())))
}

/// Asks for how long a job has been there that is stored nowhere; `of` says which directory it is.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration, LedgerError>")]
#[allow(missing_docs)]
pub struct Dwelt {
    pub job: RelPath,
    pub of: Digest,
}

impl Work for Dwelt {
    type Output = Duration;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Duration> {
        dwell(books, &self.job, &self.of)
    }
}

/// Writes down that a job that was stored nowhere is gone.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
pub struct RecordDiscarded(pub RelPath);

impl Work for RecordDiscarded {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        forget(books, &self.0)
    }
}

/// How long this job has stood in the store with this manifest; the count begins when it is first asked for.
pub(super) fn dwell(books: &Books<'_>, job: &RelPath, manifest: &Digest) -> rusqlite::Result<Duration> {
    let clock = match Clock::read(books)? {
        Some(clock) => clock,
        None => {
            // Another clock than the one that the jobs were measured by.
            books.open.execute("DELETE FROM dwells", [])?;
            Clock { boot: boot(books), seen: boottime(), passed: 0 }
        }
    };
    clock.write(books)?;
    if let Some(since) = begun(books, job, manifest)? {
        return Ok(between(since, clock.passed));
    }
    let insert = "INSERT OR REPLACE INTO dwells (job, manifest, since, sum) VALUES (?1, ?2, ?3, ?4)";
    let sum = sum(job.as_bytes(), &manifest.0, [clock.passed, 0]);
    books.open.execute(insert, params![job.as_bytes(), manifest.0, clock.passed, sum])?;
    Ok(Duration::ZERO)
}

/// When that count began, if it did.
pub(super) fn begun(books: &Books<'_>, job: &RelPath, manifest: &Digest) -> rusqlite::Result<Option<i64>> {
    let select = "SELECT since, sum FROM dwells WHERE job = ?1 AND manifest = ?2";
    let row = books.open.query_row(select, params![job.as_bytes(), manifest.0], |row| {
        let since: i64 = row.get(0)?;
        Ok((row.get::<_, i64>(1)? == sum(job.as_bytes(), &manifest.0, [since, 0])).then_some(since))
    });
    Ok(row.optional()?.flatten())
}

/// How long each of these jobs has stood there.
pub(super) fn dwells<'a>(
    books: &Books<'_>,
    jobs: impl Iterator<Item = (&'a RelPath, &'a Digest)>,
) -> rusqlite::Result<HashMap<RelPath, Duration>> {
    let Some(clock) = Clock::read(books)? else { return Ok(HashMap::new()) };
    let mut dwells = HashMap::new();
    for (job, manifest) in jobs {
        if let Some(since) = begun(books, job, manifest)? {
            dwells.insert(job.clone(), between(since, clock.passed));
        }
    }
    Ok(dwells)
}

fn between(since: i64, passed: i64) -> Duration {
    Duration::from_nanos(passed.saturating_sub(since).max(0).unsigned_abs())
}

/// Writes down how the clock stands, while there is a job that it measures.
pub(super) fn tick(books: &Books<'_>) -> rusqlite::Result<()> {
    let kept: bool = books.open.query_row("SELECT EXISTS (SELECT 1 FROM dwells)", [], |row| row.get(0))?;
    match Clock::read(books)? {
        Some(clock) if kept => clock.write(books),
        _ => Ok(()),
    }
}

/// The job is gone.
pub(super) fn forget(books: &Books<'_>, job: &RelPath) -> rusqlite::Result<()> {
    books.open.execute("DELETE FROM dwells WHERE job = ?1", [job.as_bytes()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::jobs::{RecordPruned, RecordPublished};
    use std::time::SystemTime;
    use uuid::Uuid;

    fn publish(ledger: &mut Ledger, content: &[u8]) -> Duration {
        let published = RecordPublished {
            job: RelPath::new(&b"1-a"[..]).unwrap(),
            incarnation: crate::lab::Incarnation { dev: 1, ino: 2, born_ns: 3 },
            lane: "jobs".into(),
            attempt: Uuid::now_v7(),
            prefix: "1-a".into(),
            manifest_sha256: Digest::of(content),
            published_at: SystemTime::now(),
            notices: Vec::new(),
        };
        ledger.work(&published).unwrap()
    }

    #[test]
    fn a_dwell_goes_on_over_restarts_and_begins_anew_with_another_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Ledger::new(dir.path().join("ledger.sqlite"), Uuid::now_v7());
        assert_eq!(publish(&mut open(), b"one"), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(20));
        let mut ledger = open();
        let dwell = publish(&mut ledger, b"one");
        assert!(dwell >= Duration::from_millis(20), "{dwell:?}");
        assert_eq!(publish(&mut ledger, b"two"), Duration::ZERO);
        let gone = RecordPruned { job: RelPath::new(&b"1-a"[..]).unwrap(), prefix: "1-a".into() };
        ledger.work(&gone).unwrap();
        assert_eq!(publish(&mut ledger, b"two"), Duration::ZERO);
    }

    #[test]
    fn another_boot_and_a_damaged_clock_make_no_job_older() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.sqlite");
        let tamper = |sql: &str| {
            let db = rusqlite::Connection::open(&path).unwrap();
            assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
        };
        let mut ledger = Ledger::new(path.clone(), Uuid::now_v7());
        publish(&mut ledger, b"one");
        for damage in [
            "UPDATE clock SET boot = 'another'",
            "UPDATE clock SET passed = passed + 3600000000000",
            "UPDATE clock SET seen = seen - 3600000000000",
            "UPDATE dwells SET since = since - 3600000000000",
        ] {
            tamper(damage);
            let dwell = publish(&mut ledger, b"one");
            assert!(dwell < Duration::from_secs(60), "{damage}: {dwell:?}");
        }
    }
}
