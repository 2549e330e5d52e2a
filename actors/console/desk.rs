//! Answers what people and scripts ask of a running drone, and does what they say.

use super::chronicle::Chronicle;
use super::status::{
    ActorStatus, AttemptStatus, ConfigStatus, DiskStatus, HubStatus, JobHistory, JobStatus, LaneStatus,
    Problem, Status, StoreStatus, UnderWay,
};
use crate::disk::used;
use crate::inquirer::inquiries::Asked;
use crate::lab::{RelPath, hex};
use crate::lane::Lane;
use crate::ledger::{
    Forget, History, JobRow, JobState, LedgerError, ListJobs, Pause, Pauses, PruningHeld, ReleasePruning,
    RetryNow, Unpause,
};
use crate::outlet::Outlet;
use crate::planner::attempt::rfc3339;
use crate::roster::{Aside, LocalError, Roster};
use crate::shown::{Shown, chain};
use crate::site::Site;
use kernel::{Census, State};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who reads the configuration again.
pub trait Reload: Send + Sync {
    /// Reads and judges the file; a good one comes into force. Answers with what is different.
    ///
    /// # Errors
    /// Why it is not taken.
    fn look(&self) -> Result<Vec<String>, String>;

    /// Why the file on disk is not the one in force, if it is not.
    fn broken(&self) -> Option<String>;

    /// Which file is in force, and since when; `None`: the embedded defaults.
    fn in_force(&self) -> Option<ConfigStatus>;
}

/// What a desk works with. Another with each change of what it tells of.
pub struct Desk {
    /// The drone's site.
    pub site: Arc<Site>,
    /// Its lanes, in order.
    pub lanes: Vec<Arc<Lane>>,
    /// The tree's register, once the tree stands.
    pub census: OnceLock<Census>,
    /// When the process began.
    pub started: SystemTime,
    /// Who reads the configuration again, in a drone that runs.
    pub reload: OnceLock<Arc<dyn Reload>>,
    /// The last day, minute by minute.
    pub chronicle: Arc<Chronicle>,
    /// The hub's settings, if heartbeats are sent.
    pub hub: Option<config::Hub>,
    /// How the sending of mail goes, if mail is sent.
    pub mail: Option<Arc<Outlet>>,
    /// How the sending of notifications goes, if any are sent.
    pub notify: Option<Arc<Outlet>>,
}

impl Desk {
    /// The state of the drone now. A ledger that cannot be read is a problem, not an error.
    pub async fn status(&self) -> Status {
        let site = &self.site;
        let (jobs, pauses) = (site.ledger(ListJobs).await, site.ledger(Pauses).await.unwrap_or_default());
        let mut problems = Vec::new();
        let mut problem = |id: &str, text: String, hint: &str| {
            problems.push(Problem { id: id.into(), text, hint: hint.into() });
        };
        if let Some(why) = self.reload.get().and_then(|reload| reload.broken()) {
            let text = format!("the file on disk is not the one in force: {}", Shown::text(&why));
            problem("config", text, "dronekeeper check; mend the file");
        }
        if let Err(error) = &jobs {
            problem("ledger", chain(error), "check state_dir: space, mode, other processes");
        }
        let trouble = site.trouble.now();
        if let Some(trouble) = trouble.as_ref().filter(|trouble| trouble.is_wide) {
            let text = format!(
                "{} attempts failed since {}: {}",
                trouble.attempts,
                rfc3339(trouble.since),
                trouble.error
            );
            problem("store", text, "dronekeeper check --connect");
        }
        if let Ok(Some(reason)) = site.ledger(PruningHeld).await {
            problem("pruning", format!("nothing is deleted: {reason}"), "dronekeeper resume");
        }
        let collisions = site.collisions.recent();
        if let Some((job, prefix)) = collisions.first() {
            let others = if collisions.len() > 1 {
                format!(", and {} more", collisions.len() - 1)
            } else {
                String::new()
            };
            let text = format!("{job} went beside {}, which is another job's{others}", Shown::text(prefix));
            problem("collision", text, "dronekeeper verify --all; were job numbers given out again?");
        }
        if let [first, others @ ..] = &site.restless.now()[..] {
            let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
            let text = format!("{first}{more}: said to be finished, and its files still change");
            problem("restless", text, "find who writes there: fuser, lsof");
        }
        if let Some((since, error)) = site.hub_trouble.now() {
            problem("hub", format!("since {}: {error}", rfc3339(since)), "is it up, and is hub.url right?");
        }
        if let Some(hub) = &self.hub {
            if let Some((since, error)) = site.standing.problem(hub.heartbeat) {
                let text = format!("no heartbeat answered since {}: {error}", rfc3339(since));
                problem("heartbeat", text, "is the hub up, are hub.url and hub.token_file right?");
            }
            let aside = self.aside().await;
            if let [first, others @ ..] = &aside[..] {
                let more =
                    if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
                let text = format!("{} {}{more}: {}", first.kind, first.id, Shown::text(&first.why));
                problem("roster", text, "what the hub sent, or refused, is set aside: mend it there");
            }
        }
        let containers = site.containers.now();
        if let Some((since, error)) = &containers.trouble {
            let text = format!("the engine cannot be used since {}: {error}", rfc3339(*since));
            problem("containers", text, "is dockerd up, is containers.engine right?");
        }
        if let Some(why) = &containers.frozen {
            problem(
                "containers",
                why.clone(),
                "look at dockerd and the kernel's log; a reboot may be needed",
            );
        }
        let queues = site.queues.clone();
        let listed = site.io.spawn_blocking(move || queues.list(Some("dead"), None)).await;
        let dead = match listed {
            Ok(Ok(dead)) => dead,
            Ok(Err(error)) => {
                let text = format!("the queues cannot be used, their jobs wait: {}", chain(&error));
                problem("queue", text, "check state_dir, or drone.queue_database: is PostgreSQL up?");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        if let [first, others @ ..] = &dead[..] {
            let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
            let why = Shown::text(first.error.as_deref().unwrap_or("no error was kept")).to_string();
            let text = format!("post-processing gave up: {} in {}{more}: {why}", first.job, first.queue);
            problem("queue", text, "dronekeeper queue list; then queue retry or queue drop");
        }
        let orphans: Vec<Asked> = site.inquiries.asked().into_iter().filter(|asked| asked.orphan).collect();
        if let Some(oldest) = orphans.first() {
            let (count, since) = (orphans.len(), rfc3339(oldest.since));
            let text = format!(
                "{count} directories are known to no database, the oldest {} since {since}",
                oldest.job
            );
            problem("orphans", text, "dronekeeper jobs --state orphan");
        }
        let jobs = jobs.unwrap_or_default();
        let lanes: Vec<LaneStatus> =
            self.lanes
                .iter()
                .map(|lane| {
                    let count = |state: &str| {
                        jobs.iter()
                            .filter(|row| row.lane == lane.settings.name && row.standing() == state)
                            .count()
                    };
                    let held = pauses
                        .iter()
                        .find(|pause| pause.lane.as_ref().is_none_or(|name| *name == lane.settings.name));
                    let under_way = lane.gauge.under_way().into_iter().map(|(job, (doing, since))| {
                        UnderWay { job: job.to_string(), doing: doing.into(), since: seconds(since) }
                    });
                    LaneStatus {
                        name: lane.settings.name.clone(),
                        workers: lane.seats.size(),
                        special: special(&lane.settings, site.shadow),
                        found: lane.gauge.found.load(Relaxed),
                        backlog: lane.gauge.backlog.load(Relaxed),
                        backlog_bytes: lane.gauge.backlog_bytes.load(Relaxed),
                        published: count("published"),
                        failed: count("failed"),
                        quarantined: count("quarantined"),
                        paused: held.map(|pause| Shown::text(&pause.reason).to_string()),
                        under_way: under_way.collect(),
                    }
                })
                .collect();
        if let Some(text) = oldest(&jobs, "failed") {
            problem("failed", format!("failed and tried again: {text}"), "dronekeeper jobs --state failed");
        }
        if let Some(text) = oldest(&jobs, "quarantined") {
            problem("quarantine", format!("a decision is needed: {text}"), "dronekeeper quarantine ls");
        }
        let disk = site.root.space().map(|space| DiskStatus {
            path: site.root.path().display().to_string(),
            total: space.bytes,
            free: space.bytes_free,
            inodes: space.inodes,
            inodes_free: space.inodes_free,
            used_percent: used(&space),
            pressing: site.disk.pressing(),
            full_in: site.disk.full_in().map(|left| left.as_secs()),
        });
        if let Some(disk) = disk.as_ref().filter(|disk| disk.pressing) {
            let text = format!("{} is {} % full", disk.path, disk.used_percent);
            problem("disk", text, "dronekeeper jobs; is something held?");
        }
        let children = self.census.get().map(Census::children).unwrap_or_default();
        let actors: Vec<ActorStatus> = children
            .iter()
            .map(|child| ActorStatus {
                path: child.path.clone(),
                state: word(child.state).into(),
                generation: child.generation,
                restarts: child.restarts,
                last_exit: child
                    .last_exit
                    .as_ref()
                    .map(|(_, exit)| Shown::text(&exit.to_string()).to_string()),
            })
            .collect();
        for actor in actors.iter().filter(|actor| !["running", "starting"].contains(&actor.state.as_str())) {
            let why = actor.last_exit.as_deref().unwrap_or("unknown");
            problem(
                "actor",
                format!("{} is {}: {why}", actor.path, actor.state),
                "dronekeeper status --json",
            );
        }
        for outlet in [&self.mail, &self.notify].into_iter().flatten() {
            if let Some(stuck) = outlet.problem(site.clock.now()) {
                problem(&stuck.id, stuck.text, &stuck.hint);
            }
        }
        let meter = site.store.meter();
        let store = StoreStatus {
            url: site.store.name().to_owned(),
            creates: false,
            answers_checksum: false,
            list_proves: false,
            requests: meter.requests(),
            bytes_sent: meter.bytes_sent(),
            last_success: meter.last_success(),
            last_error: trouble.map(|trouble| trouble.error),
        };
        Status {
            schema: 1,
            drone: site.drone.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at: seconds(self.started),
            now: seconds(SystemTime::now()),
            healthy: problems.is_empty(),
            oldest_unsafe: oldest_unsafe(&jobs).map(|age| age.as_secs()),
            store: store.with(site.store.abilities()),
            lanes,
            actors,
            abandoned_threads: self.census.get().map_or(0, Census::abandoned),
            disk,
            hub: self.hub.as_ref().map(|hub| {
                let (last_success, last_error) = site.standing.now();
                HubStatus { url: hub.url.join(", "), last_success: last_success.map(seconds), last_error }
            }),
            engine: containers.engine.map(|url| HubStatus {
                url,
                last_success: containers.last_success.map(seconds),
                last_error: containers.trouble.map(|(_, error)| error),
            }),
            config: self.reload.get().and_then(|reload| reload.in_force()),
            containers: containers.containers,
            containers_gone: containers.gone,
            containers_stopped: containers.stopped,
            reboot_waits: containers.reboot_waits,
            mail: self.mail.as_deref().map(Outlet::status),
            notify: self.notify.as_deref().map(Outlet::status),
            problems,
        }
    }

    /// Notes how disk and throughput are, for the plots.
    pub fn sample(&self) {
        let used = self.site.root.space().map_or(0, |space| used(&space));
        self.chronicle.note(seconds(SystemTime::now()), used, self.site.store.meter().bytes_sent());
    }

    /// Is everything held by a person?
    pub async fn draining(&self) -> bool {
        let pauses = self.site.ledger(Pauses).await.unwrap_or_default();
        pauses.iter().any(|pause| pause.lane.is_none())
    }

    /// How long the oldest job that is known and not in the store has been known.
    pub async fn oldest_unsafe(&self) -> Option<Duration> {
        oldest_unsafe(&self.site.ledger(ListJobs).await.unwrap_or_default())
    }

    /// Does the roster, on a thread that may block; for the programs that run the jobs.
    ///
    /// # Errors
    /// The roster's.
    pub async fn roster<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Roster) -> Result<T, LocalError> + Send + 'static,
    ) -> Result<T, LocalError> {
        let site = self.site.clone();
        let done = self.site.io.spawn_blocking(move || work(&site.roster)).await;
        done.unwrap_or_else(|_| Err(LocalError::Refused("the roster's worker died".into())))
    }

    /// Why no new job is to begin here, if it is not.
    pub async fn full(&self) -> Option<String> {
        if self.draining().await {
            return Some("the drone is drained: `dronekeeper resume`".into());
        }
        let disk = self.site.disk.pressing();
        disk.then(|| format!("the disk of {} is too full", self.site.root.path().display()))
    }

    async fn aside(&self) -> Vec<Aside> {
        let aside = self.roster(|roster| Ok(roster.aside()?)).await;
        aside.unwrap_or_default()
    }

    /// The jobs that the ledger knows, of one state and lane or all.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn jobs(&self, state: Option<&str>, lane: Option<&str>) -> Result<Vec<JobStatus>, LedgerError> {
        let rows = self.site.ledger(ListJobs).await?;
        let wanted = |row: &JobRow| {
            state.is_none_or(|state| row.standing() == state) && lane.is_none_or(|lane| row.lane == lane)
        };
        let mut jobs: Vec<JobStatus> = rows.into_iter().filter(wanted).map(|row| self.job(row)).collect();
        let asked = self.site.inquiries.asked().into_iter().map(unanswered);
        jobs.extend(asked.filter(|job| {
            state.is_none_or(|state| job.state == state) && lane.is_none_or(|lane| job.lane == lane)
        }));
        Ok(jobs)
    }

    /// One job with its attempts; `None` when the ledger does not know it.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn history(&self, job: RelPath) -> Result<Option<JobHistory>, LedgerError> {
        let Some((row, attempts)) = self.site.ledger(History(job.clone())).await? else {
            let asked = self.site.inquiries.asked().into_iter().find(|asked| asked.job == job);
            return Ok(asked.map(|asked| JobHistory { job: unanswered(asked), attempts: Vec::new() }));
        };
        let attempts = attempts.into_iter().map(|attempt| AttemptStatus {
            number: attempt.number,
            started: attempt.started,
            ended: attempt.ended,
            outcome: attempt.outcome,
            error: attempt.error.map(|error| Shown::text(&error).to_string()),
        });
        Ok(Some(JobHistory { job: self.job(row), attempts: attempts.collect() }))
    }

    /// Makes jobs due now; answers with how many.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn retry(&self, jobs: Option<Vec<RelPath>>, quarantined: bool) -> Result<usize, LedgerError> {
        self.site.ledger(RetryNow { jobs, quarantined }).await
    }

    /// Holds a lane, or all.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub async fn pause(
        &self,
        lane: Option<String>,
        time: Option<Duration>,
        reason: String,
    ) -> Result<(), String> {
        self.known(lane.as_deref())?;
        let until = time.map(|time| SystemTime::now() + time);
        let pause = Pause { lane: lane.clone(), until, reason };
        self.site.ledger(pause).await.map_err(|error| chain(&error))?;
        self.gates(lane.as_deref(), true);
        Ok(())
    }

    /// Lets a lane, or all and the pruning, go on. Answers whether anything was held.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub async fn resume(&self, lane: Option<String>) -> Result<bool, String> {
        self.known(lane.as_deref())?;
        let all = lane.is_none();
        let held = self.site.ledger(Unpause { lane: lane.clone() }).await.map_err(|error| chain(&error))?;
        let stopped = all && self.site.pruning_held.swap(false, Relaxed);
        let pruning = all && self.site.ledger(ReleasePruning).await.map_err(|error| chain(&error))?;
        self.gates(lane.as_deref(), false);
        Ok(held || pruning || stopped)
    }

    /// Forgets a quarantined job's row; its directory stays.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn forget(&self, job: RelPath) -> Result<bool, LedgerError> {
        self.site.ledger(Forget(job)).await
    }

    fn known(&self, lane: Option<&str>) -> Result<(), String> {
        let Some(name) = lane else { return Ok(()) };
        let names: Vec<&str> = self.lanes.iter().map(|lane| lane.settings.name.as_str()).collect();
        match names.contains(&name) {
            true => Ok(()),
            false => {
                Err(format!("there is no lane `{}`; the lanes are {}", Shown::text(name), names.join(", ")))
            }
        }
    }

    /// At once, not with the next sweep.
    fn gates(&self, name: Option<&str>, paused: bool) {
        for lane in self.lanes.iter().filter(|lane| name.is_none_or(|name| lane.settings.name == name)) {
            lane.gauge.paused.store(paused, Relaxed);
        }
    }

    fn job(&self, row: JobRow) -> JobStatus {
        let (next, prefix) = match &row.state {
            JobState::Attempting => ("is being worked on, or is found again by the next sweep".into(), None),
            JobState::Failed { retry_at } => (format!("tried again at {}", rfc3339(*retry_at)), None),
            JobState::Published { at, prefix, .. } => {
                let keep = self.lanes.iter().find(|lane| lane.settings.name == row.lane);
                let keep = keep.map_or(Duration::ZERO, |lane| lane.settings.delete_after);
                let next = match self.site.shadow {
                    true => "proven; kept: shadow mode".to_owned(),
                    false => format!("proven; deleted here after {}", rfc3339(*at + keep)),
                };
                (next, Some(prefix.clone()))
            }
            JobState::Quarantined { reason } => (format!("a person decides: {reason}"), None),
            JobState::Pruned { at, prefix } => {
                (format!("deleted here at {}", rfc3339(*at)), Some(prefix.clone()))
            }
        };
        let state = row.standing().into();
        JobStatus {
            job: row.job.to_string(),
            job_hex: hex(row.job.as_bytes()),
            lane: row.lane,
            state,
            attempts: row.attempts,
            last_error: row.last_error.map(|error| Shown::text(&error).to_string()),
            next: Shown::text(&next).to_string(),
            prefix,
        }
    }
}

/// How many jobs are in that state, and the first of them with its error.
fn oldest(jobs: &[JobRow], state: &str) -> Option<String> {
    let rows = || jobs.iter().filter(|row| row.standing() == state);
    let first = rows().min_by_key(|row| row.first_seen)?;
    let why = match (&first.state, &first.last_error) {
        (JobState::Quarantined { reason }, _) => reason,
        (_, Some(error)) => error,
        (_, None) => "no error was kept",
    };
    let others = match rows().count() - 1 {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    Some(format!("{}{others} ({})", first.job, Shown::text(why)))
}

/// A job that waits for the hub's word, or that no database knows.
fn unanswered(asked: Asked) -> JobStatus {
    let since = rfc3339(asked.since);
    let (state, next) = match (&asked.id, asked.orphan) {
        (None, _) => ("orphan", "stays: its name tells of no job".to_owned()),
        (Some(id), true) => ("orphan", format!("stays: no database knows it ({id}), here since {since}")),
        (Some(id), false) => ("waiting", format!("the hub has not said that {id} has finished")),
    };
    JobStatus {
        job: asked.job.to_string(),
        job_hex: hex(asked.job.as_bytes()),
        lane: asked.lane,
        state: state.into(),
        attempts: 0,
        last_error: None,
        next,
        prefix: None,
    }
}

/// For how long the oldest of these has been known that is not in the store.
fn oldest_unsafe(jobs: &[JobRow]) -> Option<Duration> {
    let is_unsafe =
        |row: &&JobRow| !matches!(row.state, JobState::Published { .. } | JobState::Pruned { .. });
    jobs.iter().filter(is_unsafe).map(|row| row.first_seen).min()?.elapsed().ok()
}

/// What the operator asked for that weakens the rule that everything is stored before it is deleted, and what
/// strengthens it.
fn special(lane: &config::Lane, shadow: bool) -> Vec<String> {
    let said = [
        (shadow, "shadow mode: deletes nothing"),
        (lane.delete_only, "deletes finished results without storing them"),
        (lane.honour_instructions, "honours instructions not to store results"),
    ];
    said.iter().filter(|(is, _)| *is).map(|(_, text)| (*text).to_owned()).collect()
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn word(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Running => "running",
        State::BackingOff(_) => "backing off",
        State::Resting(_) => "resting",
        State::Stopped => "stopped",
    }
}
