//! Who is running: what supervisors write down, and everybody may read.

use crate::Exit;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was made and has not come up yet.
    Starting,
    /// It runs.
    Running,
    /// It is down, and is started again at that time.
    BackingOff(SystemTime),
    /// Its branch gave up, and is started again at that time.
    Resting(SystemTime),
    /// It is down and stays down.
    Stopped,
}

/// One child, as its supervisor last saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildReport {
    /// Its place in the tree by name: `root/offload/ledger`.
    pub path: String,
    /// Its place in the tree by number, for sorting.
    pub place: Vec<usize>,
    /// Is it a supervisor?
    pub supervisor: bool,
    /// What it is doing.
    pub state: State,
    /// How often it was started.
    pub generation: u64,
    /// How often it was started again after an exit of its own.
    pub restarts: u64,
    /// Its last exit, and when.
    pub last_exit: Option<(SystemTime, Exit)>,
    /// When `state` began.
    pub since: SystemTime,
}

/// The whole tree's register. Clones share it; any thread may read it.
#[derive(Clone, Debug)]
pub struct Census(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    children: Mutex<BTreeMap<Vec<usize>, ChildReport>>,
    abandoned: AtomicUsize,
    most_abandoned: usize,
    too_many: watch::Sender<bool>,
}

impl Census {
    /// An empty register of a tree that bears so many abandoned threads.
    pub fn new(most_abandoned: usize) -> Self {
        let (abandoned, children) = (AtomicUsize::new(0), Mutex::default());
        Census(Arc::new(Inner { children, abandoned, most_abandoned, too_many: watch::Sender::new(false) }))
    }

    /// Every child, in the order of the tree.
    pub fn children(&self) -> Vec<ChildReport> {
        self.lock().values().cloned().collect()
    }

    /// The child of that path.
    pub fn child(&self, path: &str) -> Option<ChildReport> {
        self.lock().values().find(|child| child.path == path).cloned()
    }

    /// Threads that were left to themselves and have not ended.
    pub fn abandoned(&self) -> usize {
        self.0.abandoned.load(SeqCst)
    }

    /// Becomes true when more threads are abandoned than the tree bears.
    pub(crate) fn too_many_abandoned(&self) -> watch::Receiver<bool> {
        self.0.too_many.subscribe()
    }

    pub(crate) fn abandon(&self) {
        let abandoned = self.0.abandoned.fetch_add(1, SeqCst) + 1;
        if abandoned > self.0.most_abandoned {
            self.0.too_many.send_replace(true);
        }
    }

    pub(crate) fn returned(&self) {
        self.0.abandoned.fetch_sub(1, SeqCst);
    }

    pub(crate) fn update(&self, place: &[usize], path: &str, change: impl FnOnce(&mut ChildReport)) {
        let mut children = self.lock();
        let child = children.entry(place.to_vec()).or_insert_with(|| ChildReport {
            path: path.to_owned(),
            place: place.to_vec(),
            supervisor: false,
            state: State::Stopped,
            generation: 0,
            restarts: 0,
            last_exit: None,
            since: SystemTime::now(),
        });
        let before = child.state;
        change(child);
        if before != child.state {
            child.since = SystemTime::now();
        }
    }

    /// Forgets a child and everything below it.
    pub(crate) fn forget(&self, place: &[usize]) {
        self.lock().retain(|other, _| !other.starts_with(place));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<usize>, ChildReport>> {
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall's time after a pause, for reports.
pub(crate) fn after(pause: Duration) -> SystemTime {
    SystemTime::now() + pause
}
