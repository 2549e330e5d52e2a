//! What one run of a drone's process keeps under every configuration: its lock, its identity, its threads for transfers,
//! the addresses of its supervisors. And the site that stands on it.

use super::{HouseError, store};
use actors::disk::Disk;
use actors::packing::Packing;
use actors::progress::Watch;
use actors::queue::journal::{Holder, Queues};
use actors::roster::Roster;
use actors::routes::Routes;
use actors::shown::chain;
use actors::site::{Clock, Site};
use actors::tree::{Root, Trash};
use config::Config;
use kernel::{ChildRef, Supervisor};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// What is kept under every configuration.
pub struct Ground {
    /// The process's own files.
    pub state_dir: PathBuf,
    /// This run of the process.
    pub boot: Uuid,
    /// Where the supervisors are asked for another group of children.
    pub doors: Doors,
    _state_lock: rustix::fd::OwnedFd,
    io: Option<Runtime>,
}

/// The supervisors whose groups follow the configuration.
pub struct Doors {
    /// Of everything.
    pub root: ChildRef<Supervisor>,
    /// Of the queues.
    pub postprocess: ChildRef<Supervisor>,
    /// Of the ledger and what depends on it.
    pub offload: ChildRef<Supervisor>,
    /// Of the lanes.
    pub lanes: ChildRef<Supervisor>,
}

impl Ground {
    /// Takes the state directory.
    ///
    /// # Errors
    /// When another process has it, or it cannot be used.
    pub fn open(state_dir: &Path) -> Result<Self, HouseError> {
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let lock = lock(&state_dir)?;
        let io = runtime().map_err(|error| HouseError::Settings(format!("cannot start threads: {error}")))?;
        let doors = Doors {
            root: ChildRef::vacant(),
            postprocess: ChildRef::vacant(),
            offload: ChildRef::vacant(),
            lanes: ChildRef::vacant(),
        };
        Ok(Ground { state_dir, boot: Uuid::new_v4(), doors, _state_lock: lock, io: Some(io) })
    }

    /// The first site of this run.
    pub(super) fn site(
        &self,
        config: &Config,
        root: &Path,
        watch: Arc<dyn Watch>,
    ) -> Result<Site, HouseError> {
        let root = Arc::new(Root::open(root)?);
        let trash = Arc::new(Trash::open(&root)?);
        let io = self.io.as_ref().map(|io| io.handle().clone());
        let containers = actors::launcher::standing::Standing::open(&self.state_dir.join("drained.json"));
        Ok(Site {
            drone: config.drone.name.clone(),
            root,
            trash,
            store: store(config)?,
            prefix: prefix(config),
            ledger: ChildRef::vacant(),
            holds: Default::default(),
            io: io.ok_or_else(|| HouseError::Settings("the threads have ended".into()))?,
            watch,
            clock: Clock::start(),
            deletions_per_hour: config.limits.deletions_per_hour,
            pruning_held: Arc::default(),
            deletion_log: self.state_dir.join("deletions.log"),
            buffers: Default::default(),
            memory: Default::default(),
            first_pause: config.results.rescan,
            trouble: Arc::default(),
            collisions: Arc::default(),
            restless: Arc::default(),
            hub_trouble: Arc::default(),
            standing: Arc::default(),
            roster: Arc::new(Roster::new(&self.state_dir)),
            containers: Arc::new(containers),
            queues: queues(config, &self.state_dir, self.boot)?,
            inquiries: Arc::default(),
            packing: Packing::of(&config.store),
            disk: Arc::new(Disk::default()),
            routes: Arc::new(Routes::open(config)?),
            notified: notified(config),
            shadow: config.drone.mode == config::Mode::Shadow,
        })
    }
}

/// The same drone's site with other settings: a store of which nothing bad is known yet.
pub(super) fn altered(before: &Site, config: &Config) -> Result<Site, HouseError> {
    Ok(Site {
        store: store(config)?,
        prefix: prefix(config),
        deletions_per_hour: config.limits.deletions_per_hour,
        trouble: Arc::default(),
        collisions: Arc::default(),
        restless: Arc::default(),
        packing: Packing::of(&config.store),
        routes: Arc::new(Routes::open(config)?),
        notified: notified(config),
        ..before.clone()
    })
}

fn prefix(config: &Config) -> String {
    config.store.prefix.trim_matches('/').to_owned()
}

fn notified(config: &Config) -> Vec<String> {
    config.notify.iter().map(|notify| notify.url.clone()).collect()
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A thread that hangs in a system call must not hold up the next one.
        if let Some(io) = self.io.take() {
            io.shutdown_background();
        }
    }
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
