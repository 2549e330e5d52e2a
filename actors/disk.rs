//! Watches the disk that the results are on, and presses when it fills.
//!
//! ```text
//! file system --> disk watch --(more seats, largest first)--> lanes
//!                            --(pressure, forecast)--> desk
//! ```
//!
//! Bytes and inodes count alike: the one of which less is left decides. Pressure begins at `high` and ends below
//! `low`, so that it does not flutter.

pub mod forecast;

use crate::lane::Lane;
use crate::tree::Space;
use actix::prelude::*;
use forecast::Forecast;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Time between two looks; a look is one system call.
const LOOK: Duration = Duration::from_secs(2);

/// What is known of the disk. One per process.
#[derive(Debug, Default)]
pub struct Disk {
    pressing: AtomicBool,
    full_in: Mutex<Option<Duration>>,
}

impl Disk {
    /// Is the disk so full that everything must go faster?
    pub fn pressing(&self) -> bool {
        self.pressing.load(Relaxed)
    }

    /// The time until nothing is left, if things go on as they did in the last hour.
    pub fn full_in(&self) -> Option<Duration> {
        *self.full_in.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The share in use, in percent, of bytes or of inodes, whichever is higher.
pub fn used(space: &Space) -> u8 {
    let share = |total: u64, free: u64| match total {
        0 => 0,
        total => 100 - u8::try_from(u128::from(free.min(total)) * 100 / u128::from(total)).unwrap_or(100),
    };
    share(space.bytes, space.bytes_free).max(share(space.inodes, space.inodes_free))
}

/// The actor: one per drone.
pub struct DiskWatch {
    lanes: Vec<Arc<Lane>>,
    settings: config::Disk,
    forecast: Forecast,
}

impl DiskWatch {
    /// Watches for these lanes.
    pub fn new(lanes: Vec<Arc<Lane>>, settings: config::Disk) -> Self {
        DiskWatch { lanes, settings, forecast: Forecast::default() }
    }

    fn look(&mut self) {
        let Some(site) = self.lanes.first().map(|lane| lane.site.clone()) else { return };
        let Some(space) = site.root.space() else { return };
        let left = self.forecast.note(Instant::now(), space.bytes_free);
        *site.disk.full_in.lock().unwrap_or_else(PoisonError::into_inner) = left;
        let (used, before) = (used(&space), site.disk.pressing());
        let pressing = if before { used >= self.settings.low.0 } else { used >= self.settings.high.0 };
        site.disk.pressing.store(pressing, Relaxed);
        match (before, pressing) {
            (false, true) => warn!(
                used,
                workers = self.settings.pressure_workers,
                "disk fills: more workers, largest jobs first"
            ),
            (true, false) => info!(used, "disk has room again: workers and order as configured"),
            _ => {}
        }
        for lane in &self.lanes {
            let usual = lane.settings.workers;
            lane.seats.resize(if pressing { usual.max(self.settings.pressure_workers) } else { usual });
        }
    }
}

impl Actor for DiskWatch {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look();
        ctx.run_interval(LOOK, |act, _| act.look());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_of_bytes_and_inodes_counts() {
        let space = |bytes_free, inodes_free| Space { bytes: 1000, bytes_free, inodes: 200, inodes_free };
        assert_eq!(used(&space(900, 180)), 10);
        assert_eq!(used(&space(150, 180)), 85);
        assert_eq!(used(&space(900, 1)), 100);
        assert_eq!(used(&space(0, 200)), 100);
        // Some file systems have no number of inodes.
        assert_eq!(used(&Space { inodes: 0, inodes_free: 0, ..space(500, 0) }), 50);
    }
}
