//! Everything that one drone's process holds for life: its locks, its store, its threads for transfers.

use actors::console::Places;
use actors::console::chronicle::Chronicle;
use actors::console::desk::Desk;
use actors::disk::Disk;
use actors::heartbeat::standing::Standing;
use actors::holds::Holds;
use actors::inquirer::HubTrouble;
use actors::inquirer::inquiries::Inquiries;
use actors::lane::Lane;
use actors::launcher::locks::{Lock, Locks};
use actors::ledger::Ledger;
use actors::link::{HubError, Link};
use actors::notifier::Sink;
use actors::outlet::Outlet;
use actors::packing::Packing;
use actors::progress::Watch;
use actors::queue::journal::{Holder, Queues};
use actors::queue::yard::Yard;
use actors::roster::Roster;
use actors::routes::{RouteError, Routes};
use actors::shown::chain;
use actors::site::{Clock, Memory, Site};
use actors::store::{Settings, Store, StoreError};
use actors::tree::{Patterns, Root, Trash, TreeError};
use actors::trouble::{Collisions, Restless, Trouble};
use actors::uploader::buffers::Buffers;
use config::Config;
use kernel::{Backoff, ChildRef, ChildSpec, OnExhaustion, Policy, Strategy};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tracing::warn;
use uuid::Uuid;

/// A branch that gave up is tried again after so long (DESIGN.md, the tree).
const REST: Duration = Duration::from_secs(600);

/// Why a drone cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// Another process has the state directory or the results directory.
    #[error("{0}")]
    Held(String),
    /// The settings cannot work on this machine.
    #[error("{0}")]
    Settings(String),
    /// The results directory cannot be used.
    #[error(transparent)]
    Tree(TreeError),
    /// The store's settings cannot work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A route's settings cannot work.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The hub's settings cannot work.
    #[error(transparent)]
    Hub(#[from] HubError),
}

impl From<TreeError> for HouseError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Held { .. } => HouseError::Held(error.to_string()),
            error => HouseError::Tree(error),
        }
    }
}

/// What a process holds, and builds its tree from.
pub struct House {
    /// What the operator said.
    pub config: Config,
    /// What the stages work on.
    pub site: Arc<Site>,
    /// The lanes, in the order of the configuration.
    pub lanes: Vec<Arc<Lane>>,
    /// Their patterns.
    pub patterns: Vec<Patterns>,
    /// This run of the process.
    pub boot: Uuid,
    /// Who knows the jobs, if anybody does.
    pub hub: Option<Arc<Link>>,
    /// Who is told of offloaded jobs.
    pub sinks: Vec<Arc<Sink>>,
    /// Who answers for the drone.
    pub desk: Arc<Desk>,
    state_dir: PathBuf,
    _state_lock: rustix::fd::OwnedFd,
    _launcher_lock: Option<Lock>,
    io: Option<Runtime>,
}

impl House {
    /// Takes the locks and prepares everything; nothing runs yet, and the store is not asked.
    ///
    /// # Errors
    /// [`HouseError`].
    pub fn open(config: &Config, root: &Path, watch: Arc<dyn Watch>) -> Result<Arc<Self>, HouseError> {
        let state_dir =
            std::path::absolute(&config.drone.state_dir).unwrap_or_else(|_| config.drone.state_dir.clone());
        let (lock, boot) = (lock(&state_dir)?, Uuid::new_v4());
        let launcher = launcher(&config.containers)?;
        let root = Arc::new(Root::open(root)?);
        let trash = Arc::new(Trash::open(&root)?);
        let io = runtime().map_err(|error| HouseError::Settings(format!("cannot start threads: {error}")))?;
        let store = store(config)?;
        let site = Arc::new(Site {
            drone: config.drone.name.clone(),
            root,
            trash,
            store,
            prefix: config.store.prefix.trim_matches('/').to_owned(),
            ledger: ChildRef::<Ledger>::vacant(),
            holds: Holds::default(),
            io: io.handle().clone(),
            watch,
            clock: Clock::start(),
            deletions_per_hour: config.limits.deletions_per_hour,
            pruning_held: AtomicBool::new(false),
            deletion_log: state_dir.join("deletions.log"),
            buffers: Buffers::default(),
            memory: Memory::default(),
            first_pause: config.results.rescan,
            trouble: Trouble::default(),
            collisions: Collisions::default(),
            restless: Restless::default(),
            hub_trouble: HubTrouble::default(),
            standing: Standing::default(),
            roster: Roster::new(&state_dir),
            containers: actors::launcher::standing::Standing::open(&state_dir.join("drained.json")),
            queues: queues(config, &state_dir, boot)?,
            inquiries: Inquiries::default(),
            packing: Packing::of(&config.store),
            disk: Disk::default(),
            routes: Routes::open(config)?,
            notified: config.notify.iter().map(|notify| notify.url.clone()).collect(),
            shadow: config.drone.mode == config::Mode::Shadow,
        });
        let lanes: Vec<Arc<Lane>> =
            config.lanes.iter().map(|lane| Arc::new(Lane::new(site.clone(), lane.clone()))).collect();
        let patterns =
            config.lanes.iter().map(|lane| Patterns::new(&lane.directories)).collect::<Result<_, _>>()?;
        let requests = config.limits.hub_requests_per_second;
        let hub = Link::open(&config.hub, requests, &config.drone.name)?.map(Arc::new);
        let sinks = config.notify.iter().map(|notify| Sink::open(notify).map(Arc::new));
        let sinks = sinks.collect::<Result<_, _>>().map_err(|error| HouseError::Settings(chain(&error)))?;
        let desk = Arc::new(Desk {
            site: site.clone(),
            lanes: lanes.clone(),
            census: OnceLock::new(),
            reload: OnceLock::new(),
            started: SystemTime::now(),
            chronicle: Chronicle::open(&state_dir.join("history.json")),
            hub: hub.is_some().then(|| config.hub.clone()).filter(|hub| !hub.heartbeat.is_zero()),
            mail: (!config.mail.smtp.is_empty()).then(|| Arc::new(Outlet::of_mail())),
            notify: (!config.notify.is_empty()).then(|| Arc::new(Outlet::of_notifications())),
        });
        Ok(Arc::new(House {
            config: config.clone(),
            site,
            lanes,
            patterns,
            boot,
            hub,
            sinks,
            desk,
            state_dir,
            _state_lock: lock,
            _launcher_lock: launcher,
            io: Some(io),
        }))
    }

    /// Where the ledger is.
    pub fn ledger_path(&self) -> PathBuf {
        self.state_dir.join("ledger.sqlite")
    }

    /// Where the process keeps its own files.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Where the console listens.
    pub fn places(&self) -> Places {
        let admin = &self.config.admin;
        Places { socket: self.state_dir.join(&admin.socket), admin: admin.listen, token: admin.token.clone() }
    }

    /// Where the work of the queues is done.
    pub fn yard(&self) -> Arc<Yard> {
        let (site, output_dir) = (&self.site, self.state_dir.join("queue-output"));
        Arc::new(Yard::here(site.queues.clone(), site.root.clone(), output_dir, site.io.clone()))
    }

    /// The policies of the tree's levels.
    pub fn levels(&self) -> Levels {
        Levels::of(&self.config.supervision)
    }

    /// Treats a worker's spec as the operator set it.
    pub fn worker(&self, spec: ChildSpec) -> ChildSpec {
        let supervision = &self.config.supervision;
        let spec = spec.hang_after(supervision.hang_after).backoff(backoff(supervision));
        spec.stop_within(Duration::from_secs(5))
    }

    /// Treats a supervisor's spec as the operator set it.
    pub fn branch(&self, spec: ChildSpec) -> ChildSpec {
        spec.backoff(backoff(&self.config.supervision))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // A thread that hangs in a system call must not hold up the next house.
        if let Some(io) = self.io.take() {
            io.shutdown_background();
        }
    }
}

/// The policies of the tree, level by level from the workers up. Each has a period that is long enough to see
/// the level below give up as often as it takes (`kernel::escalates_in_time`).
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    /// Of a lane's uploaders.
    pub pool: Policy,
    /// Of a lane's stages.
    pub lane: Policy,
    /// Of all lanes.
    pub lanes: Policy,
    /// Of the ledger and what depends on it.
    pub offload: Policy,
    /// Of the whole.
    pub root: Policy,
}

impl Levels {
    /// Workers bear what the operator says; what is above bears two, more seldom.
    pub fn of(supervision: &config::Supervision) -> Self {
        let own = supervision.max_restarts;
        let mut below = Duration::ZERO;
        let mut level = |strategy, intensity: usize| {
            let period =
                supervision.window.max(Self::to_escalate(supervision, intensity, below).mul_f64(1.5));
            below = Self::to_escalate(supervision, intensity, below);
            Policy { strategy, intensity, period, on_exhaustion: OnExhaustion::Escalate }
        };
        let pool = level(Strategy::OneForOne, own);
        let lane = level(Strategy::OneForOne, own);
        let lanes = level(Strategy::OneForOne, 2);
        let offload = level(Strategy::RestForOne, own);
        let root = level(Strategy::OneForOne, 2);
        Levels {
            pool,
            lane,
            lanes,
            offload,
            root: Policy { on_exhaustion: OnExhaustion::Rest(REST), ..root },
        }
    }

    /// The time in which a supervisor gives up, at the most, whose child gives up in `below` each time it is started.
    fn to_escalate(supervision: &config::Supervision, intensity: usize, below: Duration) -> Duration {
        let restarts = u32::try_from(intensity).unwrap_or(u32::MAX);
        // Pauses have a jitter of a fifth.
        let pauses: Duration =
            (1..=restarts.min(64)).map(|nth| backoff(supervision).pause(nth).mul_f64(1.2)).sum();
        below.saturating_mul(restarts.saturating_add(1)).saturating_add(pauses)
    }
}

/// The pauses before restarts, as the operator set them.
pub fn backoff(supervision: &config::Supervision) -> Backoff {
    let (first, most) = (supervision.backoff.first, supervision.backoff.most);
    Backoff { first, most, quiet: supervision.window }
}

/// The store that the configuration names.
///
/// # Errors
/// [`StoreError`].
pub fn store(config: &Config) -> Result<Store, StoreError> {
    Store::open(&Settings::of(&config.store))
}

/// The threads that transfers run on.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).max_blocking_threads(16).thread_name("transfer").enable_all().build()
}

/// The queues of a drone, which are its own or on a server.
fn queues(config: &Config, state_dir: &Path, boot: Uuid) -> Result<Arc<Queues>, HouseError> {
    let holder = Holder { home: format!("drone {}", config.drone.name), boot };
    let queues =
        Queues::new(config.drone.queues(), state_dir, config.queues.clone(), &config.drone.name, holder);
    queues.map(Arc::new).map_err(|error| HouseError::Settings(chain(&error)))
}

/// One dronekeeper alone keeps the containers of a host: it holds the lock of a container that is never made, for life.
fn launcher(containers: &config::Containers) -> Result<Option<Lock>, HouseError> {
    if containers.image.is_empty() {
        return Ok(None);
    }
    let locks = Locks::new(&containers.lock);
    match locks.take("dronekeeper") {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => {
            let path = containers.lock.replace("{name}", "dronekeeper");
            Err(HouseError::Held(format!(
                "another dronekeeper keeps the containers of this host: it holds {path}"
            )))
        }
        // Results are offloaded all the same; each container says what is wrong with its own.
        Err(error) => {
            warn!(%error, "`containers.lock` cannot be taken");
            Ok(None)
        }
    }
}

/// Locks the state directory itself: a lock file could be unlinked.
fn lock(dir: &Path) -> Result<rustix::fd::OwnedFd, HouseError> {
    let failed = |error: std::io::Error| {
        HouseError::Settings(format!("cannot use state_dir {}: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(fd),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(HouseError::Held(format!("another dronekeeper holds the state directory {}", dir.display())))
        }
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::escalates_in_time;

    #[test]
    fn every_level_can_see_the_one_below_give_up() {
        let supervision = config::Supervision::default();
        let levels = Levels::of(&supervision);
        let (mut below, ladder) =
            (Duration::ZERO, [levels.pool, levels.lane, levels.lanes, levels.offload, levels.root]);
        for policy in ladder {
            assert!(escalates_in_time(&policy, below), "{policy:?} never sees {below:?}");
            below = Levels::to_escalate(&supervision, policy.intensity, below);
        }
        assert_eq!((levels.lane.intensity, levels.lane.period), (5, supervision.window));
    }
}
