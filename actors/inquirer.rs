//! Asks the hub which jobs have finished, for all lanes at once.
//!
//! ```text
//! completion --(inquiries)--> inquirer --JSON-RPC--> hub
//!                                      --(news)--> scanner
//! ```
//!
//! The hub's word is taken for what it says and nothing else: an empty answer, an error, a silence or half an answer
//! concludes nothing, and is asked again with growing pauses. What has finished is written down and never asked
//! about again.

pub mod answers;
pub mod inquiries;

use crate::completion::identity::JobId;
use crate::lab::RelPath;
use crate::ledger::{Finished, ForgetFinished, RecordFinished};
use crate::link::{HubError, Link};
use crate::shown::chain;
use crate::site::Site;
use actix::prelude::*;
use answers::{created, entries_finished, finished_tasks, known};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, info, warn};

/// So many jobs are asked about in one question.
const BATCH: usize = 200;
/// So many are looked up in one round: a hundred thousand directories take a few rounds.
const ROUND: usize = 4000;
/// Time between two rounds while there is nothing to wait for.
const TICK: Duration = Duration::from_millis(500);
/// The longest pause after a hub that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// One question.
const PATIENCE: Duration = Duration::from_secs(60);
/// Directories that are gone are looked for so often.
const TIDY: Duration = Duration::from_secs(60);

/// The actor: one per drone with a hub.
pub struct Inquirer {
    site: Arc<Site>,
    hub: Arc<Link>,
    batch: usize,
    failures: u32,
    tidied: Instant,
}

impl Inquirer {
    /// Asks `hub` about the site's jobs.
    pub fn new(site: Arc<Site>, hub: Arc<Link>) -> Self {
        Inquirer { site, hub, batch: BATCH, failures: 0, tidied: Instant::now() }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        let due = self.site.inquiries.due(Instant::now(), ROUND);
        let tidy = self.tidied.elapsed() >= TIDY;
        if tidy {
            self.tidied = Instant::now();
        }
        let (site, hub, batch) = (self.site.clone(), self.hub.clone(), self.batch);
        let work = self.site.spawn(async move {
            if tidy {
                forget_what_is_gone(&site).await;
            }
            ask(&site, &hub, &due, batch).await
        });
        ctx.wait(work.into_actor(self).map(|asked, act, ctx| {
            let pause = act.judge(asked);
            ctx.run_later(pause, Self::round);
        }));
    }

    /// Says what came of a round, and how long to wait for the next.
    fn judge(&mut self, asked: Result<usize, HubError>) -> Duration {
        match asked {
            Ok(0) => TICK,
            Ok(_) => {
                self.batch = (self.batch * 2).min(BATCH);
                if std::mem::take(&mut self.failures) > 0 {
                    self.site.hub_trouble.over();
                }
                TICK
            }
            Err(error) => {
                if matches!(error, HubError::Refused { .. }) {
                    // One job that the hub cannot bear must not keep the others from being asked about.
                    self.batch = (self.batch / 2).max(1);
                }
                self.site.hub_trouble.begin(&chain(&error));
                self.failures += 1;
                kernel::jittered(TICK.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE))
            }
        }
    }
}

impl Actor for Inquirer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let site = self.site.clone();
        let known = async move { site.ledger(Finished).await };
        ctx.wait(known.into_actor(self).map(|known, act, ctx| {
            for row in known.unwrap_or_default() {
                act.site.inquiries.remember(&row.lane, row.job, row.incarnation, row.at);
            }
            act.round(ctx);
        }));
    }
}

/// Asks about these jobs, batch by batch; answers with how many were asked about.
async fn ask(site: &Site, hub: &Link, due: &[(RelPath, JobId)], batch: usize) -> Result<usize, HubError> {
    let of = |want: fn(&JobId) -> Option<&String>| -> Vec<(&RelPath, &String)> {
        due.iter().filter_map(|(job, id)| Some((job, want(id)?))).collect()
    };
    let jobs = of(|id| match id {
        JobId::Job(id) => Some(id),
        _ => None,
    });
    let tasks = of(|id| match id {
        JobId::Task(id) => Some(id),
        _ => None,
    });
    for batch in jobs.chunks(batch) {
        let ids: Vec<&String> = batch.iter().map(|(_, id)| *id).collect();
        let finished = finished_jobs(hub, &ids).await?;
        let open: Vec<&String> = ids.into_iter().filter(|id| !finished.contains_key(*id)).collect();
        let known = match open.is_empty() {
            true => Vec::new(),
            false => known(&records(hub, "get_jobs", json!({ "id__in": open })).await?),
        };
        learn(site, batch, &finished, &known).await;
    }
    for batch in tasks.chunks(batch) {
        let ids: Vec<&String> = batch.iter().map(|(_, id)| *id).collect();
        let complete = json!({ "id__in": ids, "is_complete": true });
        let finished = finished_tasks(&records(hub, "get_special_tasks", complete).await?);
        let open: Vec<&String> = ids.into_iter().filter(|id| !finished.contains_key(*id)).collect();
        let known = match open.is_empty() {
            true => Vec::new(),
            false => known(&records(hub, "get_special_tasks", json!({ "id__in": open })).await?),
        };
        learn(site, batch, &finished, &known).await;
    }
    Ok(due.len())
}

/// When each of these jobs finished: the newest of its entries, or else when it was created.
async fn finished_jobs(hub: &Link, ids: &[&String]) -> Result<HashMap<String, SystemTime>, HubError> {
    let jobs = records(hub, "get_jobs", json!({ "id__in": ids, "finished": true })).await?;
    let mut finished = created(&jobs);
    finished.retain(|id, _| ids.contains(&id));
    if finished.is_empty() {
        return Ok(finished);
    }
    let done: Vec<&String> = finished.keys().collect();
    let which = json!({ "job_id__in": done, "finished_on__isnull": false });
    let entries = records(hub, "get_host_queue_entries", which).await?;
    for (id, at) in entries_finished(&entries) {
        if let Some(time) = finished.get_mut(&id) {
            *time = at;
        }
    }
    Ok(finished)
}

async fn records(hub: &Link, method: &str, arguments: Value) -> Result<Vec<Value>, HubError> {
    hub.call(method, &arguments, PATIENCE).await
}

async fn learn(
    site: &Site,
    batch: &[(&RelPath, &String)],
    finished: &HashMap<String, SystemTime>,
    known: &[String],
) {
    for (job, id) in batch {
        let Some(at) = finished.get(*id) else {
            site.inquiries.not_yet(job, known.contains(id), Instant::now(), site.first_pause);
            continue;
        };
        let Some((lane, incarnation)) = site.inquiries.has_finished(job, *at) else { continue };
        debug!(%job, lane, "the hub says that it has finished");
        let row = RecordFinished { job: (*job).clone(), incarnation, lane, at: *at };
        if let Err(error) = site.ledger(row).await {
            debug!(%job, error = %chain(&error), "not written down; asked again after a restart");
        }
    }
}

/// A directory that is gone, or another in its place, is asked about no more.
async fn forget_what_is_gone(site: &Arc<Site>) {
    let asked = site.clone();
    let look = move || {
        if !asked.root.still_there() {
            return Vec::new();
        }
        asked.inquiries.forget(|job, incarnation| match asked.root.job(job) {
            Ok(dir) => dir.incarnation() != incarnation,
            Err(crate::tree::TreeError::Gone(_)) => true,
            Err(_) => false,
        })
    };
    let Ok(gone) = site.io.spawn_blocking(look).await else { return };
    for job in gone {
        let _ = site.ledger(ForgetFinished(job)).await;
    }
}

/// The hub's trouble, said once.
#[derive(Debug, Default)]
pub struct HubTrouble(std::sync::Mutex<Option<(SystemTime, String)>>);

impl HubTrouble {
    fn begin(&self, error: &str) {
        let mut present = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if present.is_none() {
            warn!(error, "hub in trouble; nothing is concluded, jobs wait");
        }
        let since = present.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
        *present = Some((since, error.to_owned()));
    }

    /// It works, or another hub is asked from now on.
    pub fn over(&self) {
        let mut present = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if present.take().is_some() {
            info!("hub works again");
        }
    }

    /// Since when, and with what error, if it is in trouble now.
    pub fn now(&self) -> Option<(SystemTime, String)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
