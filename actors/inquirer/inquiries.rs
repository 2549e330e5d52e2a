//! The directories that the hub is to be asked about, and what it said.

use crate::completion::identity::JobId;
use crate::lab::{Incarnation, RelPath};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest pause between two questions about the same job.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// One directory.
#[derive(Clone, Debug)]
struct Inquiry {
    lane: String,
    incarnation: Incarnation,
    id: Option<JobId>,
    since: SystemTime,
    said: Said,
}

/// What the hub said.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// Nothing yet, or that the job has not finished.
    Open { next: Instant, pause: Duration, known: Option<bool> },
    /// That it has finished, at that time.
    Finished(SystemTime),
}

/// A directory of which the hub has not said that it has finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The directory.
    pub job: RelPath,
    /// Its lane.
    pub lane: String,
    /// What its name tells of.
    pub id: Option<JobId>,
    /// Since when it is there.
    pub since: SystemTime,
    /// No database knows it.
    pub orphan: bool,
}

/// All directories of lanes with `completion = "hub"`. One per process.
#[derive(Debug, Default)]
pub struct Inquiries(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<RelPath, Inquiry>,
    /// By lane: jobs that have finished, and that its scanner is to offer again.
    news: HashMap<String, Vec<RelPath>>,
    /// By directory: jobs that programs on this drone have completed.
    here: HashMap<Vec<u8>, SystemTime>,
}

impl Inquiries {
    /// When the job finished, if that is known; else it is put down to be asked about.
    pub fn finished(
        &self,
        lane: &str,
        job: &RelPath,
        incarnation: &Incarnation,
        now: SystemTime,
    ) -> Option<SystemTime> {
        let mut state = self.state();
        let known = state.open.get(job).filter(|inquiry| inquiry.incarnation == *incarnation);
        if let Some(inquiry) = known {
            return match inquiry.said {
                Said::Finished(at) => Some(at),
                Said::Open { .. } => None,
            };
        }
        if let Some(at) = state.here.get(job.as_bytes()).copied() {
            state.open.remove(job);
            drop(state);
            self.remember(lane, job.clone(), incarnation.clone(), at);
            return Some(at);
        }
        let born = UNIX_EPOCH + Duration::from_nanos(incarnation.born_ns.max(0).unsigned_abs());
        let inquiry = Inquiry {
            lane: lane.to_owned(),
            incarnation: incarnation.clone(),
            id: JobId::of(job),
            since: if incarnation.born_ns > 0 { born.min(now) } else { now },
            said: Said::Open { next: Instant::now(), pause: Duration::ZERO, known: None },
        };
        state.open.insert(job.clone(), inquiry);
        None
    }

    /// A program on this drone has completed the job whose results are in this directory.
    pub fn completed_here(&self, dir: &str, at: SystemTime) {
        let mut state = self.state();
        state.here.insert(dir.as_bytes().to_vec(), at);
        let found = RelPath::new(dir.as_bytes()).ok().filter(|job| state.open.contains_key(job));
        drop(state);
        if let Some(job) = found {
            self.has_finished(&job, at);
        }
    }

    /// The hub gave this directory's number out anew: what was completed in it was another job.
    pub fn begun_here(&self, dir: &str) {
        self.state().here.remove(dir.as_bytes());
    }

    /// What an earlier run of the process was told.
    pub fn remember(&self, lane: &str, job: RelPath, incarnation: Incarnation, at: SystemTime) {
        let (id, said) = (JobId::of(&job), Said::Finished(at));
        let inquiry = Inquiry { lane: lane.to_owned(), incarnation, id, since: at, said };
        self.state().open.insert(job, inquiry);
    }

    /// The jobs to ask about now, those that wait longest first, at most so many.
    pub fn due(&self, now: Instant, most: usize) -> Vec<(RelPath, JobId)> {
        let state = self.state();
        let mut due: Vec<(Instant, &RelPath, &JobId)> = state
            .open
            .iter()
            .filter_map(|(job, inquiry)| match (inquiry.said, &inquiry.id) {
                (Said::Open { next, .. }, Some(id)) if next <= now => Some((next, job, id)),
                _ => None,
            })
            .collect();
        due.sort_unstable_by_key(|(next, job, _)| (*next, *job));
        due.into_iter().take(most).map(|(_, job, id)| (job.clone(), id.clone())).collect()
    }

    /// The hub says that a job has finished; answers with what is to be remembered.
    pub fn has_finished(&self, job: &RelPath, at: SystemTime) -> Option<(String, Incarnation)> {
        let mut state = self.state();
        let inquiry = state.open.get_mut(job)?;
        inquiry.said = Said::Finished(at);
        let (lane, incarnation) = (inquiry.lane.clone(), inquiry.incarnation.clone());
        state.news.entry(lane.clone()).or_default().push(job.clone());
        Some((lane, incarnation))
    }

    /// The hub was asked, and the job has not finished; `known` says whether any database knows it.
    pub fn not_yet(&self, job: &RelPath, known: bool, now: Instant, first: Duration) {
        if let Some(inquiry) = self.state().open.get_mut(job)
            && let Said::Open { pause, .. } = inquiry.said
        {
            let pause = (pause * 2).clamp(first, LONGEST_PAUSE.max(first));
            inquiry.said = Said::Open { next: now + pause, pause, known: Some(known) };
        }
    }

    /// Forgets the directories that are gone; answers with those that had finished.
    pub fn forget(&self, gone: impl Fn(&RelPath, &Incarnation) -> bool) -> Vec<RelPath> {
        let mut state = self.state();
        let lost: Vec<RelPath> = state
            .open
            .iter()
            .filter(|(job, inquiry)| gone(job, &inquiry.incarnation))
            .map(|(job, _)| job.clone())
            .collect();
        lost.iter().for_each(|job| drop(state.open.remove(job)));
        lost
    }

    /// The lane's jobs that have finished since this was last asked.
    pub fn news(&self, lane: &str) -> Vec<RelPath> {
        self.state().news.remove(lane).unwrap_or_default()
    }

    /// The directories that have not finished, as far as is known; the oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        let state = self.state();
        let one = |(job, inquiry): (&RelPath, &Inquiry)| {
            let Said::Open { known, .. } = inquiry.said else { return None };
            let orphan = inquiry.id.is_none() || known == Some(false);
            let (job, lane, id) = (job.clone(), inquiry.lane.clone(), inquiry.id.clone());
            Some(Asked { job, lane, id, since: inquiry.since, orphan })
        };
        let mut asked: Vec<Asked> = state.open.iter().filter_map(one).collect();
        asked.sort_by(|a, b| (a.since, &a.job).cmp(&(b.since, &b.job)));
        asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn job(name: &str) -> RelPath {
        RelPath::new(name.as_bytes()).unwrap()
    }

    fn incarnation(ino: u64) -> Incarnation {
        Incarnation { dev: 1, ino, born_ns: 0 }
    }

    #[test]
    fn an_unfinished_job_is_asked_about_less_and_less() {
        let (inquiries, start) = (Inquiries::default(), Instant::now());
        inquiries.finished("jobs", &job("1-a"), &incarnation(1), SystemTime::now());
        let asked: Vec<u32> = (0..1000)
            .filter(|second| {
                let now = start + SECOND + SECOND * *second;
                let due = inquiries.due(now, 10);
                due.iter().for_each(|(job, _)| inquiries.not_yet(job, true, now, SECOND * 5));
                !due.is_empty()
            })
            .collect();
        assert_eq!(asked, [0, 5, 15, 35, 75, 155, 315, 615, 915]);
    }

    #[test]
    fn a_finished_job_is_never_asked_about_again_and_makes_news() {
        let inquiries = Inquiries::default();
        let at = UNIX_EPOCH + SECOND;
        assert_eq!(inquiries.finished("jobs", &job("1-a"), &incarnation(1), at), None);
        assert!(inquiries.has_finished(&job("1-a"), at).is_some());
        assert_eq!(inquiries.due(Instant::now() + SECOND * 9999, 10), []);
        assert_eq!(inquiries.news("jobs"), [job("1-a")]);
        assert!(inquiries.news("jobs").is_empty());
        assert_eq!(inquiries.finished("jobs", &job("1-a"), &incarnation(1), at), Some(at));
        // Another directory of that name is another job.
        assert_eq!(inquiries.finished("jobs", &job("1-a"), &incarnation(2), at), None);
    }

    #[test]
    fn a_job_that_was_completed_here_needs_nobodys_word() {
        let (inquiries, at) = (Inquiries::default(), UNIX_EPOCH + SECOND);
        assert_eq!(inquiries.finished("jobs", &job("1-a"), &incarnation(1), at), None);
        inquiries.completed_here("1-a", at);
        inquiries.completed_here("2-b", at);
        assert_eq!(inquiries.news("jobs"), [job("1-a")]);
        assert_eq!(inquiries.finished("jobs", &job("2-b"), &incarnation(2), at), Some(at));
        inquiries.begun_here("2-b");
        assert_eq!(inquiries.finished("jobs", &job("2-b"), &incarnation(3), at), None);
    }

    #[test]
    fn what_no_database_knows_is_an_orphan_until_one_does() {
        let (inquiries, now) = (Inquiries::default(), Instant::now());
        for name in ["1-a", "2-b", "nothing"] {
            inquiries.finished("jobs", &job(name), &incarnation(1), SystemTime::now());
        }
        inquiries.not_yet(&job("1-a"), false, now, SECOND);
        inquiries.not_yet(&job("2-b"), true, now, SECOND);
        let names = || {
            let orphans = inquiries.asked().into_iter().filter(|asked| asked.orphan);
            orphans.map(|it| it.job.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["1-a", "nothing"]);
        inquiries.not_yet(&job("1-a"), true, now, SECOND);
        assert_eq!(names(), ["nothing"]);
    }
}
