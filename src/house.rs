//! What one drone's process holds under one configuration: its store, its lanes, the ways to hub and mail. With another
//! configuration comes another house, on the same ground, which has in common with it what does not change.

pub mod changes;
pub mod ground;
pub mod levels;

use actors::console::Places;
use actors::console::chronicle::Chronicle;
use actors::console::desk::Desk;
use actors::lane::Lane;
use actors::launcher::locks::{Lock, Locks};
use actors::link::{HubError, Link};
use actors::notifier::Sink;
use actors::outlet::Outlet;
use actors::progress::Watch;
use actors::queue::yard::Yard;
use actors::routes::RouteError;
use actors::shown::chain;
use actors::site::Site;
use actors::store::{Settings, Store, StoreError};
use actors::tree::{Patterns, TreeError};
use changes::Changes;
use config::Config;
use ground::Ground;
use kernel::ChildSpec;
use levels::{Levels, backoff};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use tracing::warn;

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
    /// What the process keeps under every configuration.
    pub ground: Arc<Ground>,
    /// What the stages work on.
    pub site: Arc<Site>,
    /// The lanes, in the order of the configuration.
    pub lanes: Vec<Arc<Lane>>,
    /// Their patterns.
    pub patterns: Vec<Patterns>,
    /// Who knows the jobs, if anybody does.
    pub hub: Option<Arc<Link>>,
    /// Who is told of offloaded jobs.
    pub sinks: Vec<Arc<Sink>>,
    /// Who answers for the drone.
    pub desk: Arc<Desk>,
    launcher_lock: Option<Arc<Lock>>,
}

impl House {
    /// Takes the locks and prepares everything; nothing runs yet, and the store is not asked.
    ///
    /// # Errors
    /// [`HouseError`].
    pub fn open(config: &Config, root: &Path, watch: Arc<dyn Watch>) -> Result<Arc<Self>, HouseError> {
        let ground = Arc::new(Ground::open(&config.drone.state_dir)?);
        let launcher_lock = launcher(&config.containers)?;
        let site = Arc::new(ground.site(config, root, watch)?);
        let lanes: Vec<Arc<Lane>> =
            config.lanes.iter().map(|lane| Arc::new(Lane::new(site.clone(), lane.clone()))).collect();
        let desk = Desk {
            site: site.clone(),
            lanes: lanes.clone(),
            census: OnceLock::new(),
            reload: OnceLock::new(),
            started: SystemTime::now(),
            chronicle: Arc::new(Chronicle::open(&ground.state_dir.join("history.json"))),
            hub: beats(config),
            mail: mail(config),
            notify: notify(config),
        };
        Ok(Arc::new(House {
            config: config.clone(),
            site,
            lanes,
            patterns: patterns(config)?,
            hub: link(config)?,
            sinks: sinks(config)?,
            desk: Arc::new(desk),
            launcher_lock,
            ground,
        }))
    }

    /// The house of another configuration on the same ground; what does not change is the same in both. Nothing of
    /// it is in force yet.
    ///
    /// # Errors
    /// [`HouseError`].
    pub fn renewed(&self, config: &Config, changes: &Changes) -> Result<Arc<Self>, HouseError> {
        let same_lock = config.containers.lock == self.config.containers.lock;
        let launcher_lock = match &self.launcher_lock {
            Some(lock) if same_lock && !config.containers.image.is_empty() => Some(lock.clone()),
            _ => launcher(&config.containers)?,
        };
        let site = match changes.site {
            false => self.site.clone(),
            true => Arc::new(ground::altered(&self.site, config)?),
        };
        let kept =
            |name: &str| self.lanes.iter().find(|lane| lane.settings.name == name && changes.keeps(name));
        let lane = |settings: &config::Lane| {
            let new = || Arc::new(Lane::new(site.clone(), settings.clone()));
            kept(&settings.name).cloned().unwrap_or_else(new)
        };
        let lanes: Vec<Arc<Lane>> = config.lanes.iter().map(lane).collect();
        let before = &self.desk;
        let desk = || Desk {
            site: site.clone(),
            lanes: lanes.clone(),
            census: before.census.clone(),
            reload: before.reload.clone(),
            started: before.started,
            chronicle: before.chronicle.clone(),
            hub: beats(config),
            mail: if changes.mail { mail(config) } else { before.mail.clone() },
            notify: if changes.notify { notify(config) } else { before.notify.clone() },
        };
        let desk = if changes.desk() { Arc::new(desk()) } else { before.clone() };
        Ok(Arc::new(House {
            config: config.clone(),
            ground: self.ground.clone(),
            site,
            lanes,
            patterns: patterns(config)?,
            hub: if changes.hub { link(config)? } else { self.hub.clone() },
            sinks: if changes.notify { sinks(config)? } else { self.sinks.clone() },
            desk,
            launcher_lock,
        }))
    }

    /// Lets what lives on under every configuration go by this one.
    pub fn enter(&self, changes: &Changes) {
        self.site.queues.change(self.config.queues.clone());
        if changes.hub {
            self.site.hub_trouble.over();
            self.site.standing.forget();
        }
        if self.config.containers.image.is_empty() {
            self.site.containers.off();
        }
    }

    /// Where the ledger is.
    pub fn ledger_path(&self) -> PathBuf {
        self.ground.state_dir.join("ledger.sqlite")
    }

    /// Where the process keeps its own files.
    pub fn state_dir(&self) -> &Path {
        &self.ground.state_dir
    }

    /// Where the console listens.
    pub fn places(&self) -> Places {
        let admin = &self.config.admin;
        let socket = self.state_dir().join(&admin.socket);
        Places { socket, admin: admin.listen, token: admin.token.clone() }
    }

    /// Where the work of the queues is done.
    pub fn yard(&self) -> Arc<Yard> {
        let (site, output_dir) = (&self.site, self.state_dir().join("queue-output"));
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

/// The store that the configuration names.
///
/// # Errors
/// [`StoreError`].
pub fn store(config: &Config) -> Result<Store, StoreError> {
    Store::open(&Settings::of(&config.store))
}

fn patterns(config: &Config) -> Result<Vec<Patterns>, HouseError> {
    Ok(config.lanes.iter().map(|lane| Patterns::new(&lane.directories)).collect::<Result<_, _>>()?)
}

fn link(config: &Config) -> Result<Option<Arc<Link>>, HouseError> {
    let requests = config.limits.hub_requests_per_second;
    Ok(Link::open(&config.hub, requests, &config.drone.name)?.map(Arc::new))
}

fn sinks(config: &Config) -> Result<Vec<Arc<Sink>>, HouseError> {
    let sinks = config.notify.iter().map(|notify| Sink::open(notify).map(Arc::new));
    sinks.collect::<Result<_, _>>().map_err(|error| HouseError::Settings(chain(&error)))
}

/// The hub's settings, if heartbeats are sent.
fn beats(config: &Config) -> Option<config::Hub> {
    let hub = Some(config.hub.clone()).filter(|hub| !hub.url.is_empty());
    hub.filter(|hub| !hub.heartbeat.is_zero())
}

fn mail(config: &Config) -> Option<Arc<Outlet>> {
    (!config.mail.smtp.is_empty()).then(|| Arc::new(Outlet::of_mail()))
}

fn notify(config: &Config) -> Option<Arc<Outlet>> {
    (!config.notify.is_empty()).then(|| Arc::new(Outlet::of_notifications()))
}

/// One dronekeeper alone keeps the containers of a host: it holds the lock of a container that is never made, for life.
fn launcher(containers: &config::Containers) -> Result<Option<Arc<Lock>>, HouseError> {
    if containers.image.is_empty() {
        return Ok(None);
    }
    let locks = Locks::new(&containers.lock);
    match locks.take("dronekeeper") {
        Ok(Some(lock)) => Ok(Some(Arc::new(lock))),
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
