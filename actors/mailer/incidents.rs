//! Turns the problems of the moment into incidents, and says when on-call is told.
//!
//! An incident is the trouble of one kind, open or over. The rules are here, all of them, and time comes in as
//! an argument.

use crate::console::status::Problem;
use crate::ledger::Incident;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// Trouble that does not change is called to mind so often.
const REMINDER: Duration = Duration::from_secs(24 * 3600);

/// How patient the rules are.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// At most one mail per kind in this time, the all-clear apart.
    pub digest: Duration,
    /// A problem that was not seen for so long is over.
    pub calm: Duration,
}

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// On-call has not heard of it.
    Began,
    /// On-call has heard of it, and it is not over.
    Lasts,
    /// On-call has heard of it, and it is over.
    Over,
}

/// Something that on-call is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// What happened.
    pub event: Event,
    /// The incident, this mail counted in; `counted` is what happened since the mail before.
    pub incident: Incident,
    /// What can be done about it, each hint once.
    pub hints: Vec<String>,
}

/// The incidents by kind, and what is known of them only while the process runs.
#[derive(Debug, Default)]
pub struct Incidents {
    known: BTreeMap<String, Incident>,
    /// Kinds that the last round saw.
    seen: BTreeSet<String>,
    /// Open ones that are not seen any more, and since when.
    absent: BTreeMap<String, SystemTime>,
}

impl Incidents {
    /// Takes over what was kept, unless more is known already. No time of the past lies in the future,
    /// whatever was done to the machine's clock.
    pub fn remember(&mut self, kept: Vec<Incident>, now: SystemTime) {
        for mut incident in kept {
            incident.since = incident.since.min(now);
            incident.over = incident.over.map(|at| at.min(now));
            incident.mailed = incident.mailed.map(|at| at.min(now));
            self.known.entry(incident.kind.clone()).or_insert(incident);
        }
    }

    /// The incidents, by kind.
    pub fn all(&self) -> Vec<Incident> {
        self.known.values().cloned().collect()
    }

    /// What this look at the problems has to tell. While a mail of a kind is `waiting` to be sent, no other is
    /// written but the all-clear.
    pub fn look(
        &mut self,
        problems: &[Problem],
        waiting: &BTreeSet<String>,
        rules: &Rules,
        now: SystemTime,
    ) -> Vec<News> {
        let mut kinds: BTreeMap<&str, (Vec<&str>, Vec<String>)> = BTreeMap::new();
        for problem in problems {
            let (texts, hints) = kinds.entry(&problem.id).or_default();
            texts.push(&problem.text);
            if !hints.contains(&problem.hint) {
                hints.push(problem.hint.clone());
            }
        }
        let mut news = Vec::new();
        for (kind, (texts, hints)) in &kinds {
            // Once is not enough: a part that is being restarted is down for a moment.
            if !self.open(kind) && !self.seen.contains(*kind) {
                continue;
            }
            let incident = self.present(kind, &texts.join("\n"), now);
            if let Some(event) = due(incident, rules, now).filter(|_| !waiting.contains(*kind)) {
                incident.mails += 1;
                incident.mailed = Some(now);
                news.push(News { event, incident: incident.clone(), hints: hints.clone() });
                incident.counted = 0;
            }
        }
        self.seen = kinds.keys().map(|kind| (*kind).to_owned()).collect();
        for incident in self.known.values_mut().filter(|incident| incident.over.is_none()) {
            if self.seen.contains(&incident.kind) {
                self.absent.remove(&incident.kind);
                continue;
            }
            let since = *self.absent.entry(incident.kind.clone()).or_insert(now);
            if age(since, now) < rules.calm {
                continue;
            }
            self.absent.remove(&incident.kind);
            incident.over = Some(since);
            if incident.mails > 0 {
                let mut told = incident.clone();
                told.mails += 1;
                incident.counted = 0;
                news.push(News { event: Event::Over, incident: told, hints: Vec::new() });
            }
        }
        news
    }

    fn open(&self, kind: &str) -> bool {
        self.known.get(kind).is_some_and(|incident| incident.over.is_none())
    }

    /// Opens the incident of this kind, or writes down what has changed.
    fn present(&mut self, kind: &str, text: &str, now: SystemTime) -> &mut Incident {
        let fresh = |mailed, counted| Incident {
            kind: kind.to_owned(),
            id: Uuid::now_v7(),
            since: now,
            over: None,
            text: text.to_owned(),
            mails: 0,
            mailed,
            counted,
        };
        let incident = self.known.entry(kind.to_owned()).or_insert_with(|| fresh(None, 0));
        if incident.over.is_some() {
            *incident = fresh(incident.mailed, incident.counted.saturating_add(1));
        } else if incident.text != text {
            incident.text = text.to_owned();
            incident.counted = incident.counted.saturating_add(1);
        }
        incident
    }
}

/// Is there something to tell of an incident that is present?
fn due(incident: &Incident, rules: &Rules, now: SystemTime) -> Option<Event> {
    let changed = incident.mails == 0 || incident.counted > 0;
    let pause = if changed { rules.digest } else { rules.digest.max(REMINDER) };
    let due = incident.mailed.is_none_or(|at| age(at, now) >= pause);
    let event = if incident.mails == 0 { Event::Began } else { Event::Lasts };
    due.then_some(event)
}

fn age(of: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Event::{Began, Lasts, Over};

    const MINUTE: u64 = 60;
    const HOUR: u64 = 3600;

    /// A drone whose problems are looked at, at times that are told in seconds.
    #[derive(Default)]
    struct Scene {
        incidents: Incidents,
        waiting: BTreeSet<String>,
    }

    impl Scene {
        /// Looks at problems that are given as `kind` or `kind: text`; answers with what is told.
        fn at(&mut self, seconds: u64, problems: &[&str]) -> Vec<(Event, u64)> {
            self.news(seconds, problems).iter().map(|news| (news.event, news.incident.counted)).collect()
        }

        fn news(&mut self, seconds: u64, problems: &[&str]) -> Vec<News> {
            let problem = |problem: &&str| {
                let id = problem.split(':').next().unwrap().to_owned();
                Problem { id, text: (*problem).to_owned(), hint: "dronekeeper status".into() }
            };
            let problems: Vec<Problem> = problems.iter().map(problem).collect();
            let rules = Rules { digest: Duration::from_secs(HOUR), calm: Duration::from_secs(MINUTE) };
            self.incidents.look(&problems, &self.waiting, &rules, time(seconds))
        }

        /// Trouble that is told at 10 s.
        fn in_trouble() -> Self {
            let mut scene = Scene::default();
            assert_eq!(scene.at(0, &["store"]), []);
            assert_eq!(scene.at(10, &["store"]), [(Began, 0)]);
            scene
        }
    }

    fn time(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn what_is_seen_once_is_told_to_nobody() {
        let mut scene = Scene::default();
        for second in (0..HOUR).step_by(20) {
            assert_eq!(scene.at(second, &["actor"]), []);
            assert_eq!(scene.at(second + 10, &[]), []);
        }
        assert_eq!(scene.incidents.all(), []);
    }

    #[test]
    fn trouble_is_told_when_it_begins_and_when_it_is_over() {
        let mut scene = Scene::in_trouble();
        for second in (20..600).step_by(10) {
            assert_eq!(scene.at(second, &["store"]), []);
        }
        assert_eq!(scene.at(600, &[]), []);
        assert_eq!(scene.at(650, &[]), []);
        let over = scene.news(660, &[]);
        assert_eq!((over.len(), over[0].event, over[0].incident.mails), (1, Over, 2));
        assert_eq!(over[0].incident.over, Some(time(600)), "it was over when it was no longer seen");
        assert_eq!(scene.at(700, &[]), []);
    }

    #[test]
    fn a_gap_is_not_the_end() {
        let mut scene = Scene::in_trouble();
        for second in (20..600).step_by(50) {
            assert_eq!(scene.at(second, &[]), []);
            assert_eq!(scene.at(second + 30, &["store"]), []);
        }
    }

    #[test]
    fn changes_are_counted_and_told_once_in_a_digest() {
        let mut scene = Scene::in_trouble();
        let mut told = Vec::new();
        for minute in 1..=180 {
            let text = format!("store: {minute} attempts failed");
            told.extend(scene.at(minute * MINUTE, &[&text]).into_iter().map(|news| (minute, news)));
        }
        assert_eq!(told, [(61, (Lasts, 61)), (121, (Lasts, 60))]);
    }

    #[test]
    fn trouble_that_does_not_change_is_called_to_mind_once_a_day() {
        let mut scene = Scene::in_trouble();
        let told: Vec<u64> = (1..=50).filter(|hour| !scene.at(hour * HOUR, &["store"]).is_empty()).collect();
        assert_eq!(told, [25, 49]);
    }

    #[test]
    fn trouble_that_comes_and_goes_is_counted_and_told_after_the_digest() {
        let mut scene = Scene::in_trouble();
        let mut told = Vec::new();
        for second in (20..2 * HOUR).step_by(10) {
            let there = second / 300 % 2 == 0;
            let problems: &[&str] = if there { &["store"] } else { &[] };
            told.extend(scene.at(second, problems).into_iter().map(|news| (second, news)));
        }
        let ends = [(360, (Over, 0)), (3610, (Began, 6)), (3960, (Over, 0))];
        assert_eq!(told, ends);
    }

    #[test]
    fn kinds_do_not_wait_for_each_other() {
        let mut scene = Scene::in_trouble();
        assert_eq!(scene.at(20, &["store", "disk"]), []);
        let news = scene.news(30, &["store", "disk: one", "disk: two"]);
        assert_eq!((news.len(), news[0].incident.kind.as_str()), (1, "disk"));
        assert_eq!(news[0].incident.text, "disk: one\ndisk: two");
        assert_eq!(news[0].hints, ["dronekeeper status"]);
    }

    #[test]
    fn while_a_mail_waits_only_the_all_clear_is_written() {
        let mut scene = Scene::in_trouble();
        scene.waiting.insert("store".into());
        for hour in 1..48 {
            assert_eq!(scene.at(hour * HOUR, &[&format!("store: {hour}")]), []);
        }
        assert_eq!(scene.at(48 * HOUR, &[]), []);
        assert_eq!(scene.at(48 * HOUR + MINUTE, &[]), [(Over, 47)]);
        assert_eq!(scene.at(49 * HOUR, &["store"]), []);
        assert_eq!(scene.at(50 * HOUR, &["store"]), []);
        scene.waiting.clear();
        assert_eq!(scene.at(51 * HOUR, &["store"]), [(Began, 1)]);
    }

    #[test]
    fn a_restart_tells_nothing_twice() {
        let kept = Scene::in_trouble().incidents.all();
        let mut scene = Scene::default();
        scene.incidents.remember(kept, time(20));
        for second in [20, 30, 40] {
            assert_eq!(scene.at(second, &["store"]), []);
        }
        assert_eq!(scene.at(50, &[]), []);
        assert_eq!(scene.at(50 + MINUTE, &[]), [(Over, 0)]);
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nobody() {
        let mut kept = Scene::in_trouble().incidents.all();
        kept[0].mailed = Some(time(1_000_000_000));
        let mut scene = Scene::default();
        scene.incidents.remember(kept, time(20));
        assert_eq!(scene.at(HOUR, &["store: still"]), []);
        assert_eq!(scene.at(HOUR + 20, &["store: still"]), [(Lasts, 1)]);
    }
}
