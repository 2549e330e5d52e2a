//! How the containers stand: what the launcher tells the console, and what people tell the launcher.
//!
//! What people drained is kept in a file of ours: it survives a restart of the process.

use super::graceful::Told;
use super::plan::{Seen, State};
use crate::kept;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::{error, info, warn};

/// One container, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ContainerView {
    pub name: String,
    pub id: String,
    pub state: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Why it is to end, if it is.
    pub ending: Option<String>,
}

impl ContainerView {
    /// Of a container that was seen.
    pub fn of(seen: &Seen, told: &Told, is_frozen: bool) -> Self {
        let state = match seen.state {
            State::Created => "created",
            State::Running if is_frozen => "frozen",
            State::Running => "running",
            State::Paused => "paused",
            State::Exited => "exited",
            State::Dead => "dead",
            State::Between => "changing",
        };
        ContainerView {
            name: seen.name.clone(),
            id: seen.id.chars().take(12).collect(),
            state: state.into(),
            created: seen.created.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            ending: told.why(&seen.id).map(str::to_owned),
        }
    }
}

/// One that ended, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Gone {
    pub name: String,
    /// Seconds since 1970.
    pub when: u64,
    /// Its exit status, if the engine knew it.
    pub code: Option<i64>,
    pub why: String,
    /// The last that it said.
    pub last: String,
}

impl Gone {
    /// One that was removed now.
    pub fn now(name: &str, code: Option<i64>, why: &str, last: String) -> Self {
        let when = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Gone { name: name.to_owned(), when, code, why: why.to_owned(), last }
    }
}

/// So many that ended are remembered.
const GONE: usize = 20;

/// What there is to show.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The containers.
    pub containers: Vec<ContainerView>,
    /// Those that ended lately, the newest first.
    pub gone: Vec<Gone>,
    /// Why nothing moves, if nothing does.
    pub frozen: Option<String>,
    /// Why the host is drained, if it is.
    pub stopped: Option<String>,
    /// Since when, and why, the engine cannot be used.
    pub trouble: Option<(SystemTime, String)>,
    /// What a reboot waits for, if one is wanted.
    pub reboot_waits: Option<String>,
    /// The engine's address, where containers are kept, and when it last answered.
    pub engine: Option<String>,
    /// See `engine`.
    pub last_success: Option<SystemTime>,
}

/// How they stand. One per process.
#[derive(Debug)]
pub struct Standing {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    containers: Vec<ContainerView>,
    gone: VecDeque<Gone>,
    frozen: Option<String>,
    stopped: Option<String>,
    trouble: Option<(SystemTime, String)>,
    engine: Option<String>,
    last_success: Option<SystemTime>,
    drained: BTreeSet<Option<String>>,
    reboot: bool,
    reboot_waits: Option<String>,
}

impl Standing {
    /// Reads what people drained before; a file that is none costs that memory, and nothing else.
    pub fn open(path: &Path) -> Self {
        let drained = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let inner = Inner { drained: drained.unwrap_or_default(), ..Inner::default() };
        Standing { path: path.to_owned(), inner: Mutex::new(inner) }
    }

    /// One ended and was removed.
    pub fn gone(&self, gone: Gone) {
        let mut inner = self.inner();
        inner.gone.push_front(gone);
        inner.gone.truncate(GONE);
    }

    /// Nothing moves, and why; said once.
    pub fn frozen(&self, why: Option<String>) {
        let mut inner = self.inner();
        if let Some(why) = why.as_ref().filter(|_| inner.frozen.is_none()) {
            error!(why, "the containers are frozen");
        }
        inner.frozen = why;
    }

    /// A round saw these; `stopped` says why the host is drained.
    pub fn saw(&self, mut containers: Vec<ContainerView>, stopped: Option<String>) {
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut inner = self.inner();
        (inner.containers, inner.stopped) = (containers, stopped);
    }

    /// Containers are kept on this engine.
    pub fn on(&self, engine: &str) {
        self.inner().engine = Some(engine.to_owned());
    }

    /// Containers are no longer kept; what people drained is remembered.
    pub fn off(&self) {
        let mut inner = self.inner();
        *inner = Inner { drained: std::mem::take(&mut inner.drained), ..Inner::default() };
    }

    /// The engine answered.
    pub fn works(&self) {
        let mut inner = self.inner();
        inner.last_success = Some(SystemTime::now());
        if inner.trouble.take().is_some() {
            info!("the Docker engine works again");
        }
    }

    /// It did not; said once.
    pub fn failed(&self, error: &str) {
        let mut inner = self.inner();
        if inner.trouble.is_none() {
            warn!(error, "the Docker engine cannot be used; what runs goes on");
        }
        let since = inner.trouble.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
        inner.trouble = Some((since, error.to_owned()));
    }

    /// What a person said of a container, or of all.
    ///
    /// # Errors
    /// When it cannot be written down; it is in force until the process ends.
    pub fn drain(&self, name: Option<String>, drain: bool) -> std::io::Result<()> {
        let mut inner = self.inner();
        match drain {
            true => drop(inner.drained.insert(name)),
            false if name.is_none() => inner.drained.clear(),
            false => drop(inner.drained.remove(&name)),
        }
        kept::replace(&self.path, &serde_json::to_vec(&inner.drained).unwrap_or_default())
    }

    /// Why it is drained, if a person said so.
    pub fn drained(&self, name: Option<&str>) -> Option<String> {
        let said = self.inner().drained.contains(&name.map(str::to_owned));
        said.then(|| "a person said `containers drain`".into())
    }

    /// A person asks for a reboot, once nothing of worth runs.
    pub fn ask_for_reboot(&self) {
        self.inner().reboot = true;
    }

    /// Was it asked for? The asking is taken.
    pub fn reboot_is_asked(&self) -> bool {
        std::mem::take(&mut self.inner().reboot)
    }

    /// What a reboot waits for.
    pub fn reboot_waits(&self, what: Option<String>) {
        self.inner().reboot_waits = what;
    }

    /// All of it.
    pub fn now(&self) -> Shown {
        let inner = self.inner();
        Shown {
            containers: inner.containers.clone(),
            gone: inner.gone.iter().cloned().collect(),
            frozen: inner.frozen.clone(),
            stopped: inner.stopped.clone(),
            trouble: inner.trouble.clone(),
            engine: inner.engine.clone(),
            last_success: inner.last_success,
            reboot_waits: inner.reboot_waits.clone(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
