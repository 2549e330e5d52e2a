//! Lets the lane's finished jobs go, in the lane's order, as workers become free.
//!
//! ```text
//! completion --PlanJob--> planner --UploadJob(Plan)--> uploaders
//! ```
//!
//! A job leaves the backlog when a seat is free: as many jobs are under way as the lane has workers, and
//! none waits behind a slow one. The backlog is memory only; the directory and the store are the truth,
//! and a plan that is refused is offered again.

pub mod adopt;
pub mod attempt;
pub mod backlog;
pub mod claim;
pub mod instructions;
pub mod names;
pub mod plan;
pub mod stored;

use crate::completion::CompleteJob;
use crate::lane::Lane;
use crate::uploader::UploadJob;
use actix::prelude::*;
use backlog::Backlog;
use config::Order;
use kernel::Next;
use plan::Plan;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// While jobs wait, free seats are looked for so often.
const TICK: Duration = Duration::from_millis(50);

/// Asks that a finished job be uploaded when its turn comes. Sent by completion.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PlanJob(pub CompleteJob);

/// The actor: one per lane.
pub struct Planner {
    lane: Arc<Lane>,
    backlog: Backlog,
    ready: VecDeque<Plan>,
    ticking: bool,
    uploaders: Next<UploadJob>,
}

impl Planner {
    /// Keeps as many jobs under way as the lane has seats, and hands them to `uploaders`.
    pub fn new(lane: Arc<Lane>, uploaders: Next<UploadJob>) -> Self {
        let backlog = Backlog::new(lane.settings.order);
        Planner { lane, backlog, ready: VecDeque::new(), ticking: false, uploaders }
    }

    fn pump(&mut self, ctx: &mut Context<Self>) {
        while let Some(plan) = self.ready.pop_front() {
            if let Err(UploadJob(plan)) = self.uploaders.tell(UploadJob(plan)) {
                self.ready.push_front(plan); // all busy: offered again at the next tick
                break;
            }
        }
        let pressing = self.lane.site.disk.pressing();
        self.backlog.order_by(if pressing { Order::Largest } else { self.lane.settings.order });
        while !self.lane.gauge.paused.load(Relaxed) && !self.backlog.is_empty() {
            let Some(seat) = self.lane.seats.take() else { break };
            let Some(job) = self.backlog.pop() else { break };
            let lane = self.lane.clone();
            let planning = self.lane.site.spawn(async move {
                let _doing = lane.gauge.doing(&lane, job.job(), "planning");
                plan::plan(&lane, job, Some(seat)).await
            });
            ctx.spawn(planning.into_actor(self).map(|plan, act, ctx| {
                act.ready.extend(plan);
                act.pump(ctx);
            }));
        }
        self.lane.gauge.backlog.store(self.backlog.len(), Relaxed);
        self.lane.gauge.backlog_bytes.store(self.backlog.bytes(), Relaxed);
        let waiting = !self.backlog.is_empty() || !self.ready.is_empty();
        if waiting && !self.ticking {
            self.ticking = true;
            ctx.run_later(TICK, |act, ctx| {
                act.ticking = false;
                act.pump(ctx);
            });
        }
    }
}

impl Actor for Planner {
    type Context = Context<Self>;
}

impl Handler<PlanJob> for Planner {
    type Result = ();

    fn handle(&mut self, PlanJob(job): PlanJob, ctx: &mut Context<Self>) {
        self.backlog.push(job);
        self.pump(ctx);
    }
}
