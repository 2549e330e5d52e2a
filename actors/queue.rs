//! Runs heavy post-processing on each job from durable queues: what was taken in is run to its end, whatever is
//! shut down in between.
//!
//! ```text
//! completion --(a complete job)--> journal --(lease)--> queue --(child process)--> command
//! verifier  --(an offloaded job)-->         <--(outcome)--
//! ```
//!
//! One actor per queue, with workers of its own, so that heavy work holds up no other queue. An item is run at least
//! once; the command makes that once by its key. When the drone stops, nothing new begins, and what runs has the time
//! that is left; what does not end in it is ended, and runs again after the next start.

pub mod journal;
pub mod run;

use crate::shown::chain;
use crate::site::Site;
use actix::prelude::*;
use config::Queue as Settings;
use journal::{Item, Outcome};
use run::Ran;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Time between two looks into the journal.
const TICK: Duration = Duration::from_millis(250);
/// The pause after the first failure, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The actor: one per `[[queue]]`.
pub struct Queue {
    site: Arc<Site>,
    settings: Arc<Settings>,
    running: usize,
    closing: bool,
}

impl Queue {
    /// Works on one queue of the site's journal.
    pub fn new(site: Arc<Site>, settings: Settings) -> Self {
        Queue { site, settings: Arc::new(settings), running: 0, closing: false }
    }

    /// Begins as much as there are workers for.
    fn fill(&mut self, ctx: &mut Context<Self>) {
        while !self.closing && self.running < self.settings.workers {
            match self.site.queues.lease(&self.settings.name) {
                Ok(Some(item)) => self.begin(item, ctx),
                Ok(None) => break,
                Err(error) => {
                    debug!(queue = %self.settings.name, error = %chain(&error), "the journal cannot be used now");
                    break;
                }
            }
        }
    }

    fn begin(&mut self, item: Item, ctx: &mut Context<Self>) {
        self.running += 1;
        info!(queue = %self.settings.name, job = %item.job, attempt = item.attempts + 1, "post-processing begins");
        let (site, settings, work) = (self.site.clone(), self.settings.clone(), item.clone());
        let running = self.site.spawn(async move { run::run(&site, &settings, &work).await });
        ctx.spawn(running.into_actor(self).map(move |ran, act, ctx| {
            act.running -= 1;
            act.settle(&item, &ran);
            match act.closing && act.running == 0 {
                true => ctx.stop(),
                false => act.fill(ctx),
            }
        }));
    }

    /// Writes down what came of a run.
    fn settle(&self, item: &Item, ran: &Ran) {
        let attempts = item.attempts + 1;
        let (name, job) = (&self.settings.name, &item.job);
        let outcome = match ran {
            Ran::Done => {
                info!(queue = %name, %job, attempt = attempts, "post-processing done");
                Outcome::Done
            }
            // The directory is gone, or another: nothing is left to do.
            Ran::Gone => Outcome::Done,
            Ran::Failed(why) => {
                let most = match self.settings.attempts {
                    config::Attempts::Limited(most) => most,
                    config::Attempts::Unlimited => u32::MAX,
                };
                let dead = attempts >= most;
                warn!(queue = %name, %job, attempt = attempts, error = %why, last = dead, "post-processing failed");
                let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE);
                match dead {
                    true => Outcome::Dead(why.clone()),
                    false => Outcome::Again(why.clone(), kernel::jittered(doubled)),
                }
            }
        };
        if let Err(error) = self.site.queues.settle(item, &outcome) {
            warn!(queue = %name, %job, error = %chain(&error), "the outcome is not written down: it runs once more");
        }
    }
}

impl Actor for Queue {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TICK, Self::fill);
    }

    /// What runs is waited for; the supervisor says how long.
    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        self.closing = true;
        if self.running > 0 {
            info!(queue = %self.settings.name, running = self.running, "waits for what runs");
            return Running::Continue;
        }
        Running::Stop
    }
}
