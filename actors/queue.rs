//! Runs heavy post-processing on each job from durable queues: what was taken in is run to its end, whatever is
//! shut down in between.
//!
//! ```text
//! completion --(a complete job)--> journal --(lease)--> queue --(child process)--> command
//! verifier  --(an offloaded job)-->         <--(outcome)--
//! ```
//!
//! One actor per queue, with workers of its own for each class of items, so that heavy work holds up nothing light. An
//! item is run at least once; the command makes that once by its key. Leases are renewed while work runs; whoever
//! cannot renew them ends its work before another may begin it. When the process stops, nothing new begins, and what
//! runs has the time that is left; what does not end in it is ended, and goes back to the queue.

pub mod item;
pub mod journal;
pub mod run;
pub mod yard;

use crate::shown::chain;
use crate::site::Task;
use actix::prelude::*;
use config::Queue as Settings;
use item::{Class, Item, Outcome};
use run::Ran;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use yard::Yard;

/// Time between two looks into the journal.
const TICK: Duration = Duration::from_millis(250);
/// The pause after the first failure, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// What was done long ago is forgotten so often.
const TIDY: Duration = Duration::from_secs(3600);

/// The actor: one per `[[queue]]`.
pub struct Queue {
    yard: Arc<Yard>,
    settings: Arc<Settings>,
    running: Vec<Running>,
    /// The leases were renewed then.
    renewed: Arc<Mutex<Instant>>,
    closing: bool,
}

/// An item at work. The run ends when this is dropped.
struct Running {
    item: Item,
    since: Instant,
    handle: SpawnHandle,
}

impl Queue {
    /// Works on one queue of the yard's journal.
    pub fn new(yard: Arc<Yard>, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Queue {
            yard,
            settings,
            running: Vec::new(),
            renewed: Arc::new(Mutex::new(Instant::now())),
            closing: false,
        }
    }

    /// Begins as much as there are workers for.
    fn fill(&mut self, ctx: &mut Context<Self>) {
        if self.closing {
            return;
        }
        self.learn();
        for class in Class::ALL {
            let busy = self.running.iter().filter(|running| running.item.class == class).count();
            let free = class.workers(&self.settings).saturating_sub(busy);
            if free == 0 {
                continue;
            }
            match self.yard.queues.lease(&self.settings, class, free) {
                Ok(items) => items.into_iter().for_each(|item| self.begin(item, ctx)),
                Err(error) => {
                    debug!(queue = %self.settings.name, error = %chain(&error), "the journal cannot be used now");
                }
            }
        }
    }

    /// What runs for so long is heavy: it gives its worker to light work, and stays heavy if it runs again.
    fn learn(&mut self) {
        let after = self.settings.heavy_after;
        if after.is_zero() || self.settings.heavy_workers == 0 {
            return;
        }
        for running in &mut self.running {
            if running.item.class == Class::Light && running.since.elapsed() >= after {
                info!(queue = %running.item.queue, job = %running.item.job, "shows to be heavy");
                if self.yard.queues.reclassify(&running.item).is_ok() {
                    running.item.class = Class::Heavy;
                }
            }
        }
    }

    fn begin(&mut self, item: Item, ctx: &mut Context<Self>) {
        let (queue, attempt) = (&self.settings.name, item.attempts + 1);
        info!(queue, job = %item.job, part = part(&item), attempt, "post-processing begins");
        let (yard, settings, work) = (self.yard.clone(), self.settings.clone(), item.clone());
        let over = over(self.renewed.clone(), self.yard.queues.is_shared().then_some(self.settings.lease));
        let task = Task::on(&self.yard.io, async move {
            tokio::select! {
                ran = run::run(&yard, &settings, &work) => Some(ran),
                () = over => {
                    lost(&work);
                    None
                }
            }
        });
        let own = item.clone();
        let handle = ctx.spawn(task.into_actor(self).map(move |ran, act, ctx| {
            act.running.retain(|running| running.item.row() != own.row());
            if let Some(ran) = ran {
                act.settle(&own, &ran);
            }
            match act.closing && act.running.is_empty() {
                true => ctx.stop(),
                false => act.fill(ctx),
            }
        }));
        self.running.push(Running { item, since: Instant::now(), handle });
    }

    /// Renews the leases, and ends what is another's by now.
    fn renew(&mut self, ctx: &mut Context<Self>) {
        if self.running.is_empty() {
            return;
        }
        let asked = Instant::now();
        let held = match self.yard.queues.renew(&self.settings) {
            Ok(held) => held,
            Err(error) => {
                warn!(queue = %self.settings.name, error = %chain(&error), "the leases cannot be renewed");
                return;
            }
        };
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        self.running.retain(|running| {
            let keep = held.iter().any(|(key, part)| (key, part) == (&running.item.key, &running.item.part));
            if !keep {
                lost(&running.item);
                ctx.cancel_future(running.handle);
            }
            keep
        });
        if self.closing && self.running.is_empty() {
            ctx.stop();
        }
    }

    /// Writes down what came of a run.
    fn settle(&self, item: &Item, ran: &Ran) {
        let attempts = item.attempts + 1;
        let (name, job, part) = (&self.settings.name, &item.job, part(item));
        let outcome = match ran {
            Ran::Done => {
                info!(queue = %name, %job, part, attempt = attempts, "post-processing done");
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
                warn!(queue = %name, %job, part, attempt = attempts, error = %why, last = dead, "post-processing failed");
                let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE);
                match dead {
                    true => Outcome::Dead(why.clone()),
                    false => Outcome::Again(why.clone(), kernel::jittered(doubled)),
                }
            }
        };
        if let Err(error) = self.yard.queues.settle(item, &outcome) {
            warn!(queue = %name, %job, error = %chain(&error), "the outcome is not written down: it runs once more");
        }
    }
}

/// Ends when the leases of a journal that others work on too could not be renewed for two thirds of their time: what
/// was started has to be gone before another may begin it. Asked on another thread than the one that renews.
async fn over(renewed: Arc<Mutex<Instant>>, lease: Option<Duration>) {
    let Some(lease) = lease else { return std::future::pending().await };
    let (begun, patience) = (Instant::now(), lease / 3 * 2);
    loop {
        let last = begun.max(*renewed.lock().unwrap_or_else(PoisonError::into_inner));
        match patience.checked_sub(last.elapsed()) {
            Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
            _ => return,
        }
    }
}

fn lost(item: &Item) {
    warn!(queue = %item.queue, job = %item.job, part = part(item), "the lease is lost: ended here");
}

/// The number of a task, for the log.
fn part(item: &Item) -> Option<i64> {
    (item.part > 0).then_some(item.part)
}

impl Actor for Queue {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TICK, Self::fill);
        ctx.run_interval(self.settings.lease / 6, Self::renew);
        ctx.run_interval(TIDY, |act, _| drop(act.yard.queues.tidy()));
    }

    /// What runs is waited for; the supervisor says how long.
    fn stopping(&mut self, _: &mut Context<Self>) -> actix::Running {
        self.closing = true;
        if !self.running.is_empty() {
            info!(queue = %self.settings.name, running = self.running.len(), "waits for what runs");
            return actix::Running::Continue;
        }
        actix::Running::Stop
    }
}

impl Drop for Queue {
    /// What an actor had that crashed goes back, and is no failure: nobody has to wait until its lease is over.
    fn drop(&mut self) {
        for Running { item, .. } in &self.running {
            let returned = self.yard.queues.settle(item, &Outcome::Back).is_ok();
            info!(queue = %item.queue, job = %item.job, returned, "its actor ended before it");
        }
    }
}
