//! Where a queue's work is done: the journal, the results tree, the place for what commands say.
//!
//! A drone has its own tree. A worker on the same host has the same; one on another host may have the tree over a
//! network, where directories have other numbers, or not at all.

use super::item::Item;
use super::journal::Queues;
use super::run::Ran;
use crate::shown::chain;
use crate::tree::{JobDir, Root, TreeError};
use config::{On, Queue};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Where a queue's work is done.
#[derive(Debug)]
pub struct Yard {
    /// The items.
    pub queues: Arc<Queues>,
    tree: Tree,
    /// What commands say is kept below this.
    pub output_dir: PathBuf,
    /// Commands are waited for here.
    pub io: Handle,
}

/// The results tree, as this process has it.
#[derive(Debug)]
enum Tree {
    /// Its items were taken in on this host.
    Own(Arc<Root>),
    /// They were taken in anywhere; the tree may be there, at this path.
    Anywhere(PathBuf),
}

impl Yard {
    /// Of the host whose results these are.
    pub fn here(queues: Arc<Queues>, root: Arc<Root>, output_dir: PathBuf, io: Handle) -> Self {
        Yard { queues, tree: Tree::Own(root), output_dir, io }
    }

    /// Of any host.
    pub fn anywhere(queues: Arc<Queues>, results: &Path, output_dir: PathBuf, io: Handle) -> Self {
        Yard { queues, tree: Tree::Anywhere(results.to_owned()), output_dir, io }
    }

    /// Where an item's job is.
    pub fn path(&self, item: &Item) -> PathBuf {
        let results = match &self.tree {
            Tree::Own(root) => root.path(),
            Tree::Anywhere(results) => results,
        };
        results.join(OsStr::from_bytes(item.job.as_bytes()))
    }

    /// The item's directory, opened; `None` where the command needs none.
    ///
    /// # Errors
    /// What the run comes to without it.
    pub(super) fn dir(&self, queue: &Queue, item: &Item) -> Result<Option<JobDir>, Ran> {
        match &self.tree {
            Tree::Own(root) => match root.job(&item.job) {
                Ok(dir) if *dir.incarnation() == item.incarnation => Ok(Some(dir)),
                // The directory is gone, or another has its name: nothing is left to do.
                Ok(_) | Err(TreeError::Gone(_)) => Err(Ran::Gone),
                Err(error) => Err(Ran::Failed(chain(&error))),
            },
            // That it is not here does not say that it is gone.
            Tree::Anywhere(results) => match Root::beside(results).and_then(|root| root.job(&item.job)) {
                Ok(dir) => Ok(Some(dir)),
                Err(_) if queue.on == On::Offloaded && !needs_dir(queue) => Ok(None),
                Err(error) => Err(Ran::Failed(format!("not on this host: {}", chain(&error)))),
            },
        }
    }
}

/// Is a directory named in what is run?
fn needs_dir(queue: &Queue) -> bool {
    queue.tasks.iter().chain([&queue.command]).flatten().any(|word| word.contains("{job_dir}"))
}
