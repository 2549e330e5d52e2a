//! The hub's process: its supervision tree, and its life.
//!
//! ```text
//! root          one_for_one    rests a branch that gives up
//! `- door       worker         HTTP; the base is asked from its threads
//! ```

use crate::life::serve;
use crate::status::Status;
use actors::hub::door::{Door, House};
use config::HubConfig;
use kernel::{Backoff, ChildRef, ChildSpec, OnExhaustion, Policy};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info};

/// A door that cannot be opened is tried again after so long.
const REST: Duration = Duration::from_secs(60);
/// What is being answered gets so long to end.
const DEADLINE: Duration = Duration::from_secs(10);
/// So many hanging threads are borne.
const MOST_ABANDONED: usize = 4;

/// Runs a hub until it is told to stop.
pub fn run(config: &HubConfig) -> Status {
    let house = match House::open(&config.hub) {
        Ok(house) => Arc::new(house),
        Err(why) => {
            error!(why, "cannot start");
            return Status::Config;
        }
    };
    let _lock = match lock(config) {
        Ok(lock) => lock,
        Err(why) => {
            error!(why, "cannot start");
            return Status::Held;
        }
    };
    let asked =
        async || info!(answered = house.meter.answered.load(std::sync::atomic::Ordering::Relaxed), "status");
    actix_rt::System::new().block_on(serve(&tree(&house, config), MOST_ABANDONED, DEADLINE, asked))
}

/// Two hubs may share PostgreSQL, never a state directory.
fn lock(config: &HubConfig) -> Result<rustix::fd::OwnedFd, String> {
    let path = config.hub.state_dir.join("hub.lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|_| format!("another hub holds {}", config.hub.state_dir.display()))?;
    Ok(file)
}

/// The tree of a hub.
pub fn tree(house: &Arc<House>, config: &HubConfig) -> ChildSpec {
    let supervision = config.supervision.clone();
    let policy = Policy {
        on_exhaustion: OnExhaustion::Rest(REST),
        intensity: supervision.max_restarts,
        ..Policy::default()
    };
    let house = house.clone();
    ChildSpec::supervisor("root", policy, move || {
        let (house, pauses) = (house.clone(), supervision.backoff);
        let make = move |verdict| Door::new(house.clone(), verdict);
        let door = ChildSpec::worker("door", &ChildRef::vacant(), make);
        let backoff = Backoff { first: pauses.first, most: pauses.most, ..Backoff::default() };
        vec![door.hang_after(supervision.hang_after).backoff(backoff).stop_within(DEADLINE)]
    })
}
