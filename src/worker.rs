//! `worker`: runs the work of some queues in a process of its own, beside the drone or on another host.
//!
//! ```text
//! root          one_for_one    rests a queue that gives up
//! `- <queue>    worker         leases items, runs their commands
//! ```
//!
//! It may be killed at any moment: what it had goes to another when its leases are over.

use crate::house::ground::runtime;
use crate::house::levels::backoff;
use crate::life::serve;
use crate::say;
use crate::status::Status;
use actors::queue::Queue;
use actors::queue::journal::{Holder, Queues};
use actors::queue::yard::Yard;
use actors::shown::chain;
use actors::tree::Root;
use config::Config;
use kernel::{ChildRef, ChildSpec, OnExhaustion, Policy};
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info};
use uuid::Uuid;

/// A queue that cannot be worked on is tried again after so long.
const REST: Duration = Duration::from_secs(60);
/// So many hanging threads are borne.
const MOST_ABANDONED: usize = 4;

/// Works on these queues until told to stop; `workers` and `heavy_workers` stand in for the configuration's.
pub fn run(
    config: &Config,
    names: &[String],
    workers: Option<usize>,
    heavy_workers: Option<usize>,
) -> Status {
    let mut queues = Vec::new();
    for name in names {
        let Some(queue) = config.queues.iter().find(|queue| queue.name == *name) else {
            let known: Vec<&str> = config.queues.iter().map(|queue| queue.name.as_str()).collect();
            say::error(format_args!("there is no queue `{name}`; the queues are: {}", known.join(", ")));
            return Status::Config;
        };
        let mut queue = queue.clone();
        queue.workers = workers.unwrap_or(queue.workers);
        queue.heavy_workers = heavy_workers.unwrap_or(queue.heavy_workers);
        queues.push(queue);
    }
    let io = match runtime() {
        Ok(io) => io,
        Err(error) => {
            say::error(format_args!("cannot start threads: {error}"));
            return Status::GaveUp;
        }
    };
    let yard = match yard(config, io.handle()) {
        Ok(yard) => Arc::new(yard),
        Err(why) => {
            error!(why, "cannot start");
            return Status::Config;
        }
    };
    info!(queues = names.join(","), workers, "worker runs");
    let asked = async || info!(queues = names.join(","), "status");
    let tree = tree(&yard, &queues, config);
    let serving = serve(&tree, MOST_ABANDONED, config.shutdown.deadline, asked);
    let status = actix_rt::System::new().block_on(serving);
    yard.queues.release();
    io.shutdown_background();
    status
}

/// The journal that the drone has too. The results are the drone's if the journal is on this host.
fn yard(config: &Config, io: &tokio::runtime::Handle) -> Result<Yard, String> {
    let boot = Uuid::new_v4();
    let holder = Holder { home: format!("worker {boot}"), boot };
    let (state_dir, drone) = (&config.drone.state_dir, &config.drone);
    let queues = Queues::new(drone.queues(), state_dir, config.queues.clone(), &drone.name, holder);
    let queues = Arc::new(queues.map_err(|error| chain(&error))?);
    let output_dir = state_dir.join("queue-output");
    if queues.is_shared() {
        return Ok(Yard::anywhere(queues, &config.results.dir, output_dir, io.clone()));
    }
    let root = Root::beside(&config.results.dir).map_err(|error| chain(&error))?;
    Ok(Yard::here(queues, Arc::new(root), output_dir, io.clone()))
}

fn tree(yard: &Arc<Yard>, queues: &[config::Queue], config: &Config) -> ChildSpec {
    let (supervision, deadline) = (config.supervision.clone(), config.shutdown.deadline);
    let policy = Policy {
        on_exhaustion: OnExhaustion::Rest(REST),
        intensity: supervision.max_restarts,
        period: supervision.window,
        ..Policy::default()
    };
    let (yard, queues) = (yard.clone(), queues.to_vec());
    ChildSpec::supervisor("root", policy, move || {
        let worker = |settings: &config::Queue| {
            let (yard, own) = (yard.clone(), settings.clone());
            let make = move |_| Queue::new(yard.clone(), own.clone());
            let spec = ChildSpec::worker(settings.name.clone(), &ChildRef::vacant(), make);
            spec.hang_after(supervision.hang_after).backoff(backoff(&supervision)).stop_within(deadline)
        };
        queues.iter().map(worker).collect()
    })
}
