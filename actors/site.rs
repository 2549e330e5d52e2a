//! What all stages of a drone work on: its results directory, its store, its ledger, its clock.

use crate::disk::Disk;
use crate::heartbeat::standing::Standing;
use crate::holds::Holds;
use crate::inquirer::HubTrouble;
use crate::inquirer::inquiries::Inquiries;
use crate::ledger::{Ledger, LedgerError};
use crate::packing::Packing;
use crate::progress::Watch;
use crate::queue::journal::Queues;
use crate::roster::Roster;
use crate::routes::Routes;
use crate::store::Store;
use crate::tree::{Root, Trash};
use crate::trouble::{Collisions, Restless, Trouble};
use crate::uploader::buffers::Buffers;
use actix::{Handler, Message};
use kernel::ChildRef;
use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Bytes of file content that may be in memory at once, over all uploads of the process.
const MEMORY: u32 = 28 << 20;

/// One drone's results and where they go. Clones share what is known; other settings make another site.
#[derive(Clone)]
pub struct Site {
    /// The drone's name, as claims and manifests give it.
    pub drone: String,
    /// The results directory, held by this process alone.
    pub root: Arc<Root>,
    /// Where proven jobs wait to be deleted, on the same file system.
    pub trash: Arc<Trash>,
    /// Where results go.
    pub store: Store,
    /// The key prefix of everything, without slashes at its ends; may be empty.
    pub prefix: String,
    /// What was tried, and what came of it.
    pub ledger: ChildRef<Ledger>,
    /// Which jobs are in hand.
    pub holds: Holds,
    /// The runtime that transfers run on.
    pub io: Handle,
    /// Who is told of progress.
    pub watch: Arc<dyn Watch>,
    /// The time, which a set clock does not move.
    pub clock: Clock,
    /// Deletions that one hour may see; beyond, pruning waits for a person.
    pub deletions_per_hour: u32,
    /// Pruning was stopped, and only a person lets it go on: a second memory, for when the ledger is lost.
    pub pruning_held: Arc<AtomicBool>,
    /// One line for each deletion, kept apart from everything that is rotated.
    pub deletion_log: std::path::PathBuf,
    /// Part buffers that are used again.
    pub buffers: Buffers,
    /// Room for file content in memory.
    pub memory: Memory,
    /// The shortest pause before a failed job is tried again.
    pub first_pause: Duration,
    /// What is wrong with the store, if anything is.
    pub trouble: Arc<Trouble>,
    /// Names in the store that were taken.
    pub collisions: Arc<Collisions>,
    /// Jobs that do not come to rest.
    pub restless: Arc<Restless>,
    /// What is wrong with the hub, if anything is.
    pub hub_trouble: Arc<HubTrouble>,
    /// How the heartbeats go.
    pub standing: Arc<Standing>,
    /// The jobs and hosts that the hub gave.
    pub roster: Arc<Roster>,
    /// How the test containers stand.
    pub containers: Arc<crate::launcher::standing::Standing>,
    /// The jobs that wait for post-processing.
    pub queues: Arc<Queues>,
    /// The jobs that the hub is asked about.
    pub inquiries: Arc<Inquiries>,
    /// What goes into packs.
    pub packing: Packing,
    /// How full the disk is.
    pub disk: Arc<Disk>,
    /// What also goes elsewhere.
    pub routes: Arc<Routes>,
    /// The addresses that are told of each offloaded job.
    pub notified: Vec<String>,
    /// Everything is done but the deleting.
    pub shadow: bool,
}

impl Site {
    /// Asks the ledger; a ledger that is being restarted is a ledger that is busy.
    pub async fn ledger<M, T>(&self, message: M) -> Result<T, LedgerError>
    where
        M: Message<Result = Result<T, LedgerError>> + Send + 'static,
        Ledger: Handler<M>,
        T: Send + 'static,
    {
        self.ledger.ask(message).await.unwrap_or(Err(LedgerError::Busy))
    }
}

impl Site {
    /// Works on the transfer runtime, where all connections live: an actor's thread may end before they do.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task::on(&self.io, work)
    }
}

/// Work on the transfer runtime that ends when its actor does, and whose panic is its actor's.
pub struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    /// Work on this runtime.
    pub fn on(io: &Handle, work: impl Future<Output = T> + Send + 'static) -> Self {
        Task(io.spawn(work))
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|done| match done {
            Ok(done) => done,
            Err(died) => match died.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => std::panic::panic_any(cancelled.to_string()),
            },
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Debug for Site {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("drone", &self.drone).field("store", &self.store.name()).finish()
    }
}

/// A clock that starts at the wall's time and then only ticks: setting the machine's clock, or a change
/// to summer time, can make no job older than it is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: SystemTime,
    since: Instant,
}

impl Clock {
    /// Reads the wall clock, for the last time.
    pub fn start() -> Self {
        Clock { wall: SystemTime::now(), since: Instant::now() }
    }

    /// The time by this clock.
    pub fn now(&self) -> SystemTime {
        if cfg!(seeded_bug = "wall_clock_ages") {
            return SystemTime::now();
        }
        self.wall + self.since.elapsed()
    }

    /// How old something of that time is; what lies in the future is new.
    pub fn age(&self, of: SystemTime) -> Duration {
        self.now().duration_since(of).unwrap_or_default()
    }
}

/// Room for file content, handed out in order, so that memory does not grow with files or connections.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Semaphore>);

impl Default for Memory {
    fn default() -> Self {
        Memory(Arc::new(Semaphore::new(MEMORY as usize)))
    }
}

/// Room taken for some bytes, until dropped.
pub type Room = tokio::sync::OwnedSemaphorePermit;

impl Memory {
    /// Waits for room for so many bytes; a single request for more than there is gets all there is.
    pub async fn room(&self, bytes: usize) -> Option<Room> {
        let bytes = u32::try_from(bytes).unwrap_or(MEMORY).clamp(1, MEMORY);
        self.0.clone().acquire_many_owned(bytes).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_future_is_new() {
        let clock = Clock::start();
        assert_eq!(clock.age(clock.now() + Duration::from_secs(3600)), Duration::ZERO);
        assert!(clock.age(SystemTime::UNIX_EPOCH) > Duration::from_secs(1));
    }

    #[tokio::test]
    async fn room_is_given_back() {
        let memory = Memory::default();
        let all = memory.room(usize::MAX).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(20), memory.room(1)).await;
        assert!(waiting.is_err(), "there was room beyond the limit");
        drop(all);
        assert!(memory.room(1).await.is_some());
    }
}
