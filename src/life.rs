//! The life of a drone's process: start the tree, heed signals, stop in order, end with a status.

use crate::drone;
use crate::house::{House, HouseError};
use crate::notify::notify;
use crate::status::Status;
use actors::progress::{Silent, Watch};
use actors::shown::chain;
use actors::store::StoreError;
use config::Config;
use kernel::{Ended, Tree};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// So many hanging threads are borne; each holds a job and some memory.
const MOST_ABANDONED: usize = 8;

/// Runs a drone until it is told to stop.
pub fn run(config: &Config) -> Status {
    match House::open(config, &config.results.dir, Arc::new(Silent) as Arc<dyn Watch>) {
        Ok(house) => actix_rt::System::new().block_on(live(&house)),
        Err(error) => refused(&error),
    }
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

async fn live(house: &Arc<House>) -> Status {
    let Some(signals) = Signals::listen() else { return Status::GaveUp };
    if let Err(status) = first_look(house).await {
        return status;
    }
    let tree = match Tree::start(&drone::tree(house), MOST_ABANDONED) {
        Ok(tree) => tree,
        Err(exit) => {
            error!(exit = %exit, "cannot start");
            return Status::GaveUp;
        }
    };
    let _ = house.desk.census.set(tree.census().clone());
    info!(drone = %house.site.drone, store = house.site.store.name(), results = %house.site.root.path().display(), "drone runs");
    until_told(tree, signals, house.config.shutdown.deadline, async || say(house).await).await
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

/// Lets a tree run until a signal, or its own end, and stops it in order.
pub async fn until_told(
    tree: Tree,
    mut signals: Signals,
    deadline: Duration,
    asked: impl AsyncFn(),
) -> Status {
    notify("READY=1");
    let mut watchdog = tokio::time::interval(Duration::from_secs(5));
    let ended = tree.ended();
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Status::Ok,
            _ = signals.interrupt.recv() => break Status::Ok,
            _ = signals.ask.recv() => asked().await,
            _ = signals.reload.recv() => warn!("this version does not reload its configuration: restart it"),
            _ = watchdog.tick() => notify("WATCHDOG=1"),
            how = &mut ended => {
                match how {
                    Ended::Root(exit) => error!(exit = %exit, "the root supervisor gave up"),
                    Ended::TooManyAbandoned(threads) => error!(threads, "too many threads hang"),
                }
                break Status::GaveUp;
            }
        }
    };
    notify("STOPPING=1");
    info!(?deadline, "stopping; what is not finished is left for the next start");
    tokio::select! {
        stopped = tree.stop(deadline) => match stopped {
            Some(_) => info!("stopped"),
            None => warn!(?deadline, "stopped without waiting any longer"),
        },
        () = again(&mut signals.terminate, &mut signals.interrupt) => warn!("stopped at once"),
    }
    status
}

/// Asks the store what it can do. A store that is down may come back; one that cannot exist does not.
async fn first_look(house: &House) -> Result<(), Status> {
    let (store, prefix) = (house.site.store.clone(), house.site.prefix.clone());
    let look = house.site.spawn(async move { store.probe(&prefix).await });
    match tokio::time::timeout(Duration::from_secs(20), look).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(
            error @ (StoreError::Settings { .. } | StoreError::NotFound { .. } | StoreError::Key { .. }),
        )) => {
            error!(error = %chain(&error), "the store cannot be used: check [store] in the configuration");
            Err(Status::Config)
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
