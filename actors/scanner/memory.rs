//! What a scanner remembers of each directory: what it looked like, and until when it may rest.

use super::FoundJob;
use crate::lab::{Incarnation, RelPath};
use crate::ledger::{Changed, JobState};
use crate::tree::Found;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

/// The longest pause between two looks at a job that has not changed and is not finished.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Every directory of a lane. A hundred thousand of them take about 20 MB.
#[derive(Debug)]
pub struct Memory {
    first_pause: Duration,
    keep: Option<Duration>,
    known: HashMap<RelPath, Known>,
    /// Which ledger was last heard, and up to which of its versions.
    heard: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Known {
    incarnation: Incarnation,
    stamp: (i64, i64),
    /// The stamp when it was last offered: what changed later may be missing from what was stored.
    offered: Option<(i64, i64)>,
    wait: Wait,
}

/// Why a directory is not offered now.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// Not finished when last offered: again after a pause that grows while nothing changes.
    Look { again: Instant, pause: Duration },
    /// The ledger gives the time of a retry.
    Until(SystemTime),
    /// Stored, and kept until the end of `delete_after`, or for ever, unless it changes.
    Kept { until: Option<Instant> },
    /// In quarantine: a person decides.
    Person,
}

impl Memory {
    /// Knows nothing yet. `first_pause` is the shortest time between two looks at the same job; `keep` how long a
    /// stored one is kept, `None` for ever.
    pub fn new(first_pause: Duration, keep: Option<Duration>) -> Self {
        Memory { first_pause, keep, known: HashMap::new(), heard: None }
    }

    /// How many directories there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Is there no directory at all?
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The version up to which the ledger was heard; 0 asks for everything.
    pub fn ledger_version(&self) -> u64 {
        self.heard.map_or(0, |(_, version)| version)
    }

    /// A sweep saw this directory.
    pub fn see(&mut self, found: Found, now: Instant) {
        let stamp = (found.mtime_ns, found.ctime_ns);
        let fresh = Wait::Look { again: now, pause: self.first_pause };
        match self.known.get_mut(&found.path) {
            Some(known) if known.incarnation == found.incarnation => {
                if known.stamp != stamp {
                    known.stamp = stamp;
                    if matches!(known.wait, Wait::Look { .. } | Wait::Kept { .. }) {
                        known.wait = fresh;
                    }
                }
            }
            _ => {
                let known = Known { incarnation: found.incarnation, stamp, offered: None, wait: fresh };
                self.known.insert(found.path, known);
            }
        }
    }

    /// A sweep found this directory gone.
    pub fn forget(&mut self, job: &RelPath) {
        self.known.remove(job);
    }

    /// Takes in what the ledger says has changed. A ledger of another epoch makes everything due.
    pub fn learn(&mut self, changed: Changed) {
        let same = self.heard.is_some_and(|(epoch, _)| epoch == changed.epoch);
        if !same && self.heard.is_some() {
            let wait = Wait::Look { again: Instant::now(), pause: self.first_pause };
            self.known.values_mut().for_each(|known| known.wait = wait);
            // Its versions are its own: ask it for everything.
            self.heard = None;
            return;
        }
        self.heard = Some((changed.epoch, changed.version));
        for row in changed.rows {
            let Some(known) = self.known.get_mut(&row.job) else { continue };
            if known.incarnation != row.incarnation {
                continue;
            }
            known.wait = match row.state {
                JobState::Failed { retry_at } => Wait::Until(retry_at),
                JobState::Published { .. } if known.offered.is_some_and(|stamp| stamp != known.stamp) => {
                    Wait::Look { again: Instant::now(), pause: self.first_pause }
                }
                JobState::Published { .. } => {
                    let dwell = changed.dwells.get(&row.job).copied().unwrap_or_default();
                    let left = self.keep.map(|keep| keep.saturating_sub(dwell));
                    Wait::Kept { until: left.and_then(|left| Instant::now().checked_add(left)) }
                }
                JobState::Quarantined { .. } => Wait::Person,
                JobState::Attempting => continue,
                JobState::Pruned { .. } => Wait::Look { again: Instant::now(), pause: self.first_pause },
            };
        }
    }

    /// The directories to offer now, least recently changed first; those in somebody's hand are not.
    pub fn due(&self, now: Instant, wall: SystemTime, held: impl Fn(&RelPath) -> bool) -> Vec<FoundJob> {
        let due = |known: &Known| match known.wait {
            Wait::Look { again, .. } => again <= now,
            Wait::Until(time) => time <= wall,
            Wait::Kept { until } => until.is_some_and(|until| until <= now),
            Wait::Person => false,
        };
        let mut jobs: Vec<(&RelPath, &Known)> =
            self.known.iter().filter(|(job, known)| due(known) && !held(job)).collect();
        jobs.sort_by_key(|(job, known)| (known.stamp.0, *job));
        let found = |(job, known): (&RelPath, &Known)| FoundJob {
            job: job.clone(),
            incarnation: known.incarnation.clone(),
        };
        jobs.into_iter().map(found).collect()
    }

    /// There is news of a job: it is due at once, unless the ledger holds it.
    pub fn look_now(&mut self, job: &RelPath, now: Instant) {
        if let Some(known) = self.known.get_mut(job)
            && matches!(known.wait, Wait::Look { .. })
        {
            known.wait = Wait::Look { again: now, pause: self.first_pause };
        }
    }

    /// A directory was offered: the next look is a pause away, longer each time.
    pub fn offered(&mut self, job: &RelPath, now: Instant) {
        let Some(known) = self.known.get_mut(job) else { return };
        let pause = match known.wait {
            Wait::Look { pause, .. } => pause,
            _ => self.first_pause,
        };
        let next = (pause * 2).min(LONGEST_PAUSE.max(self.first_pause));
        known.wait = Wait::Look { again: now + pause, pause: next };
        known.offered = Some(known.stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::JobRow;

    const SECOND: Duration = Duration::from_secs(1);

    fn found(name: &str, ino: u64, mtime_ns: i64) -> Found {
        let path = RelPath::new(name.as_bytes()).unwrap();
        let incarnation = Incarnation { dev: 1, ino, born_ns: 0 };
        Found { path, incarnation, mtime_ns, ctime_ns: mtime_ns }
    }

    fn swept(memory: &mut Memory, jobs: &[(&str, u64, i64)], now: Instant) -> Vec<String> {
        for (name, ino, mtime) in jobs {
            memory.see(found(name, *ino, *mtime), now);
        }
        let due = memory.due(now, SystemTime::now(), |_| false);
        due.iter().for_each(|found| memory.offered(&found.job, now));
        due.iter().map(|found| found.job.to_string()).collect()
    }

    fn row(name: &str, state: JobState) -> JobRow {
        let job = RelPath::new(name.as_bytes()).unwrap();
        JobRow { state, ..JobRow::new(job, Incarnation { dev: 1, ino: 1, born_ns: 0 }, "jobs") }
    }

    #[test]
    fn an_unchanged_job_is_looked_at_less_and_less() {
        let (mut memory, start) = (Memory::new(SECOND, Some(SECOND)), Instant::now());
        let looks: Vec<u64> = (0..40)
            .filter(|second| !swept(&mut memory, &[("1-a", 1, 0)], start + SECOND * *second).is_empty())
            .map(u64::from)
            .collect();
        assert_eq!(looks, [0, 1, 3, 7, 15, 31]);
    }

    #[test]
    fn a_changed_or_replaced_job_is_looked_at_at_once() {
        let (mut memory, start) = (Memory::new(SECOND, Some(SECOND)), Instant::now());
        swept(&mut memory, &[("1-a", 1, 0)], start);
        assert!(swept(&mut memory, &[("1-a", 1, 0)], start).is_empty());
        assert_eq!(swept(&mut memory, &[("1-a", 1, 5)], start), ["1-a"]);
        assert_eq!(swept(&mut memory, &[("1-a", 2, 5)], start), ["1-a"]);
    }

    #[test]
    fn the_ledger_decides_when_a_failed_or_quarantined_job_is_due() {
        let (mut memory, start) = (Memory::new(SECOND, Some(SECOND)), Instant::now());
        let jobs = [("1-a", 1, 0), ("2-b", 1, 0), ("3-c", 1, 0)];
        swept(&mut memory, &jobs, start);
        let later = SystemTime::now() + SECOND * 3600;
        let rows = vec![
            row("1-a", JobState::Failed { retry_at: later }),
            row("2-b", JobState::Quarantined { reason: "no room".into() }),
        ];
        memory.learn(Changed { epoch: 7, version: 2, rows, dwells: HashMap::new() });
        assert_eq!(swept(&mut memory, &jobs, start + SECOND * 60), ["3-c"]);
        // Another epoch: nothing that the old ledger said counts any more.
        memory.learn(Changed { epoch: 8, version: 1, rows: vec![], dwells: HashMap::new() });
        assert_eq!(memory.ledger_version(), 0);
        assert_eq!(swept(&mut memory, &jobs, Instant::now() + SECOND), ["1-a", "2-b", "3-c"]);
    }

    #[test]
    fn a_stored_job_rests_until_its_time_unless_it_changes() {
        let (mut memory, start) = (Memory::new(SECOND, Some(SECOND * 3600)), Instant::now());
        let digest = crate::lab::Digest::of(b"manifest");
        let state =
            JobState::Published { at: SystemTime::now(), prefix: "1-a".into(), manifest_sha256: digest };
        let learn = |memory: &mut Memory, version, dwell: Duration| {
            let dwells = HashMap::from([(RelPath::new(&b"1-a"[..]).unwrap(), dwell)]);
            memory.learn(Changed { epoch: 7, version, rows: vec![row("1-a", state.clone())], dwells });
        };
        swept(&mut memory, &[("1-a", 1, 0)], start);
        learn(&mut memory, 1, SECOND * 600);
        assert!(swept(&mut memory, &[("1-a", 1, 0)], start + SECOND * 2900).is_empty());
        assert_eq!(swept(&mut memory, &[("1-a", 1, 1)], start + SECOND * 2900), ["1-a"]);
        learn(&mut memory, 2, SECOND * 600);
        assert_eq!(swept(&mut memory, &[("1-a", 1, 1)], start + SECOND * 3100), ["1-a"]);
        // What changes while the proof is on its way is not in it.
        memory.see(found("1-a", 1, 2), start + SECOND * 3100);
        learn(&mut memory, 3, SECOND * 600);
        assert_eq!(swept(&mut memory, &[("1-a", 1, 2)], Instant::now()), ["1-a"]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (mut memory, start) = (Memory::new(SECOND, Some(SECOND)), Instant::now());
        swept(&mut memory, &[("1-a", 1, 0), ("2-b", 1, 0)], start);
        memory.forget(&RelPath::new(&b"1-a"[..]).unwrap());
        assert_eq!(memory.len(), 1);
    }
}
