//! The whole tree, from outside: start it, watch it, stop it.

use crate::child::Incarnation;
use crate::{Census, ChildSpec, Exit};
use std::time::Duration;

/// A running tree. Dropping it asks everything to stop.
pub struct Tree {
    root: Incarnation,
    census: Census,
}

/// How a tree ended by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// Its root is no longer running.
    Root(Exit),
    /// More threads hang than it bears; only a new process helps.
    TooManyAbandoned(usize),
}

impl Tree {
    /// Starts a tree on the current thread's runtime, which must be an actix one. It bears so many
    /// abandoned threads.
    ///
    /// # Errors
    /// The exit of a root that could not be started at all.
    pub fn start(spec: &ChildSpec, most_abandoned: usize) -> Result<Self, Exit> {
        let census = Census::new(most_abandoned);
        let root = spec.begin(&census, Vec::new(), spec.id.clone(), 1)?;
        Ok(Tree { root, census })
    }

    /// Who is running.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Waits until every child has been started once, or the root has ended.
    pub async fn up(&self) -> bool {
        self.root.up().await
    }

    /// Becomes the way in which it ended by itself.
    pub fn ended(&self) -> impl Future<Output = Ended> + 'static {
        let (exit, census) = (self.root.exit(), self.census.clone());
        async move {
            let mut too_many = census.too_many_abandoned();
            tokio::select! {
                exit = exit => Ended::Root(exit),
                _ = too_many.wait_for(|too_many| *too_many) => Ended::TooManyAbandoned(census.abandoned()),
            }
        }
    }

    /// Stops every child in reverse order of start, each within its own time and all within `deadline`.
    /// `None`: the deadline passed.
    pub async fn stop(mut self, deadline: Duration) -> Option<Exit> {
        self.root.ask_to_stop();
        let exit = tokio::time::timeout(deadline, self.root.exit()).await.ok();
        if exit.is_none() {
            self.root.abandon();
        }
        exit
    }
}
