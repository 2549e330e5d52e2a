//! The life of a drone's process: start the tree, heed signals, stop in order, end with a status.

use crate::drone;
use crate::house::changes::Changes;
use crate::house::{House, HouseError};
use crate::logging;
use crate::notify::notify;
use crate::reload::{Next, Reloader};
use crate::status::Status;
use actors::progress::{Silent, Watch};
use actors::shown::chain;
use actors::store::StoreError;
use config::{Config, Loaded};
use kernel::{ChildSpec, Ended, Tree};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// So many hanging threads are borne; each holds a job and some memory.
const MOST_ABANDONED: usize = 8;

/// The locks of the house before are gone within so long.
const HANDOVER: Duration = Duration::from_secs(10);

/// The store has so long to answer before the drone begins without.
const AT_START: Duration = Duration::from_secs(20);

/// The same while it runs: signals wait as long.
const WHILE_RUNNING: Duration = Duration::from_secs(5);

/// After the deadline of a stop, the process has so long to end.
const GRACE: Duration = Duration::from_secs(15);

/// Runs a drone until it is told to stop; in a new house, each time that it becomes another drone.
pub fn run(loaded: Loaded) -> Status {
    let reloader = Arc::new(Reloader::new(&loaded));
    let (mut current, mut before, mut again) = (loaded, None::<Loaded>, false);
    loop {
        let end = match open(&current, std::mem::replace(&mut again, true)) {
            Ok(house) => {
                reloader.applied(&current);
                logging::apply(&current.config.log);
                let _ = house.desk.reload.set(reloader.clone());
                let queues = house.site.queues.clone();
                let end = actix_rt::System::new().block_on(live(house, &mut current, &reloader));
                queues.release();
                end
            }
            Err(error) => End::Unusable(refused(&error), chain(&error)),
        };
        match end {
            End::Stop(status) => return status,
            End::Reload(next) => before = Some(std::mem::replace(&mut current, next.loaded)),
            End::Unusable(status, why) => {
                let Some(old) = before.take() else { return status };
                error!("the new configuration cannot be used; the one before is in force again");
                reloader.refused(why);
                current = old;
            }
        }
    }
}

/// Opens a house; after another one in this process, whose last threads may still hold its locks.
fn open(loaded: &Loaded, again: bool) -> Result<Arc<House>, HouseError> {
    let config = &loaded.config;
    let begun = Instant::now();
    loop {
        let house = House::open(config, &config.results.dir, Arc::new(Silent) as Arc<dyn Watch>);
        match house {
            Err(HouseError::Held(_)) if again && begun.elapsed() < HANDOVER => {
                std::thread::sleep(Duration::from_millis(50));
            }
            house => return house,
        }
    }
}

/// How the life of a tree ended.
pub enum End {
    /// The process ends with it.
    Stop(Status),
    /// Another configuration is to come into force.
    Reload(Box<Next>),
    /// This configuration cannot work here, and why.
    Unusable(Status, String),
}

/// Says why a drone cannot begin.
pub fn refused(error: &HouseError) -> Status {
    error!(error = %chain(error), "cannot start");
    match error {
        HouseError::Held(_) => Status::Held,
        HouseError::Settings(_)
        | HouseError::Tree(_)
        | HouseError::Store(_)
        | HouseError::Route(_)
        | HouseError::Hub(_) => Status::Config,
    }
}

async fn live(mut house: Arc<House>, current: &mut Loaded, reloader: &Arc<Reloader>) -> End {
    let Some(mut signals) = Signals::listen() else { return End::Stop(Status::GaveUp) };
    if let Err(why) = first_look(&house, AT_START).await {
        return End::Unusable(Status::Config, why);
    }
    let tree = match Tree::start(&drone::tree(&house), MOST_ABANDONED) {
        Ok(tree) => tree,
        Err(exit) => {
            error!(exit = %exit, "cannot start");
            return End::Stop(Status::GaveUp);
        }
    };
    let _ = house.desk.census.set(tree.census().clone());
    info!(drone = %house.site.drone, store = house.site.store.name(), results = %house.site.root.path().display(), "drone runs");
    loop {
        let told = Told { asked: async || say(&house).await, reloader: Some(reloader) };
        let end = until_told(&tree, &mut signals, &told).await;
        let deadline = house.config.shutdown.deadline;
        let End::Reload(next) = end else { return stop(tree, signals, deadline, end).await };
        let Some(changes) = Changes::between(&current.config, &next.loaded.config, next.files) else {
            return stop(tree, signals, deadline, End::Reload(next)).await;
        };
        notify("RELOADING=1");
        match renewed(&house, &next.loaded.config, &changes).await {
            Ok(renewed) => {
                renewed.enter(&changes);
                house = renewed;
                let Some(begun) = drone::renew(&house, changes.kept()) else {
                    return stop(tree, signals, deadline, End::Reload(next)).await;
                };
                *current = next.loaded;
                reloader.applied(current);
                logging::apply(&current.config.log);
                info!(begun_anew = begun.join(", "), "the new configuration is in force");
            }
            Err(why) => {
                error!(error = %why, "the new configuration cannot be used; the one before stays in force");
                reloader.refused(why);
            }
        }
    }
}

/// The house of another configuration of the same drone, whose store is there. What cannot work stops nobody.
async fn renewed(house: &House, config: &Config, changes: &Changes) -> Result<Arc<House>, String> {
    let renewed = house.renewed(config, changes).map_err(|error| chain(&error))?;
    if changes.site {
        first_look(&renewed, WHILE_RUNNING).await?;
    }
    Ok(renewed)
}

/// What the process is told from outside.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    ask: Signal,
    reload: Signal,
}

impl Signals {
    /// Listens; without, nothing could be stopped in order.
    pub fn listen() -> Option<Self> {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::user_defined1(),
            SignalKind::hangup(),
        ];
        let [Ok(terminate), Ok(interrupt), Ok(ask), Ok(reload)] = kinds.map(signal) else {
            error!("cannot listen for signals");
            return None;
        };
        Some(Signals { terminate, interrupt, ask, reload })
    }
}

/// What is done when the process is told something.
struct Told<'a, A> {
    /// SIGUSR1.
    asked: A,
    /// SIGHUP, and a file that was saved; without, there is nothing to reload.
    reloader: Option<&'a Reloader>,
}

/// The next configuration; never, without a reloader.
async fn next(reloader: Option<&Reloader>) -> Next {
    match reloader {
        Some(reloader) => reloader.next().await,
        None => std::future::pending().await,
    }
}

/// Lets a tree run until a signal, a new configuration, or its own end.
async fn until_told<A: AsyncFn()>(tree: &Tree, signals: &mut Signals, told: &Told<'_, A>) -> End {
    let Told { asked, reloader } = told;
    let mut look = tokio::time::interval(Duration::from_secs(1));
    notify("READY=1");
    let mut watchdog = tokio::time::interval(Duration::from_secs(5));
    let ended = tree.ended();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return End::Stop(Status::Ok),
            _ = signals.interrupt.recv() => return End::Stop(Status::Ok),
            _ = signals.ask.recv() => asked().await,
            _ = signals.reload.recv() => match reloader {
                Some(reloader) => drop(reloader.look()),
                None => warn!("this process does not reload its configuration: restart it"),
            },
            _ = look.tick() => if let Some(reloader) = reloader { reloader.poll() },
            loaded = next(*reloader) => return End::Reload(Box::new(loaded)),
            _ = watchdog.tick() => notify("WATCHDOG=1"),
            how = &mut ended => {
                match how {
                    Ended::Root(exit) => error!(exit = %exit, "the root supervisor gave up"),
                    Ended::TooManyAbandoned(threads) => error!(threads, "too many threads hang"),
                }
                return End::Stop(Status::GaveUp);
            }
        }
    }
}

/// Stops a tree in order; a second signal is the fast path, and the end of the process.
async fn stop(tree: Tree, mut signals: Signals, deadline: Duration, end: End) -> End {
    if let End::Reload(_) = end {
        notify("RELOADING=1");
        info!("the drone becomes another: its tree begins anew");
    } else {
        // What runs may take as long as the deadline; systemd is not to kill it before that.
        let wait = deadline.saturating_add(GRACE).as_micros();
        notify(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={wait}"));
        info!(?deadline, "stopping; what is not finished is left for the next start");
    }
    tokio::select! {
        stopped = tree.stop(deadline) => match stopped {
            Some(_) => info!("stopped"),
            None => warn!(?deadline, "stopped without waiting any longer"),
        },
        () = again(&mut signals.terminate, &mut signals.interrupt) => {
            warn!("stopped at once");
            if let End::Reload(_) = end {
                return End::Stop(Status::Ok);
            }
        }
    }
    end
}

/// Lets a tree run that reloads nothing, until a signal or its own end; what a hub and a worker do.
pub async fn serve(
    tree: &ChildSpec,
    most_abandoned: usize,
    deadline: Duration,
    asked: impl AsyncFn(),
) -> Status {
    let Some(mut signals) = Signals::listen() else { return Status::GaveUp };
    let tree = match Tree::start(tree, most_abandoned) {
        Ok(tree) => tree,
        Err(exit) => {
            error!(exit = %exit, "cannot start");
            return Status::GaveUp;
        }
    };
    let end = until_told(&tree, &mut signals, &Told { asked, reloader: None }).await;
    match stop(tree, signals, deadline, end).await {
        End::Stop(status) | End::Unusable(status, _) => status,
        // Nobody can ask for it.
        End::Reload(_) => Status::Ok,
    }
}

/// Asks the store what it can do. A store that is down may come back; one that cannot exist does not.
async fn first_look(house: &House, patience: Duration) -> Result<(), String> {
    let (store, prefix) = (house.site.store.clone(), house.site.prefix.clone());
    let look = house.site.spawn(async move { store.probe(&prefix).await });
    match tokio::time::timeout(patience, look).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(
            error @ (StoreError::Settings { .. } | StoreError::NotFound { .. } | StoreError::Key { .. }),
        )) => {
            let error = chain(&error);
            error!(error, "the store cannot be used: check [store] in the configuration");
            Err(error)
        }
        Ok(Err(error)) => {
            house.site.trouble.begin(error.class(), &chain(&error), None);
            Ok(())
        }
        Err(_) => {
            warn!("the store does not answer; jobs are kept and tried again");
            Ok(())
        }
    }
}

async fn again(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Writes the status to the log.
async fn say(house: &House) {
    let status = house.desk.status().await;
    info!(
        healthy = status.healthy,
        requests = status.store.requests,
        bytes_sent = status.store.bytes_sent,
        "status"
    );
    for lane in &status.lanes {
        let (found, backlog, in_hand) = (lane.found, lane.backlog, lane.under_way.len());
        info!(lane = %lane.name, found, backlog, in_hand, failed = lane.failed, quarantined = lane.quarantined, "status");
    }
    for problem in &status.problems {
        info!(problem = %problem.id, text = %problem.text, hint = %problem.hint, "status");
    }
}
