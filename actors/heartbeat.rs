//! Keeps the drone in step with its hub: fetches jobs and hosts, reports finished ones, in one periodic request.
//!
//! ```text
//! heartbeat --shard_heartbeat--> hub, or an Autotest AFE
//!           <--(jobs, hosts)-- --> roster
//! ```
//!
//! The first beat comes at a random moment, later ones ±10 % around the period (reference B0.3). A hub that cannot be
//! reached is tried again with doubled pauses until `hub.timeout` is used up, then with the next period (B2.5). What
//! went with a beat is sent again until it is acknowledged.

pub mod report;
pub mod standing;

use crate::console::desk::Desk;
use crate::hub::records::{Record, number, object, truth};
use crate::link::{HubError, Link};
use crate::roster::Roster;
use crate::roster::apply::Taken;
use crate::roster::packet::{Manner, Packet};
use crate::shown::{Shown, chain};
use crate::site::Site;
use actix::prelude::*;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// The first pause after a hub that could not be reached (reference B2.5).
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// After a digest that was not the hub's, so many beats have whole lists.
const LISTS: u32 = 10;
/// The pause before a beat that brings what did not fit into the last one.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The actor: one per drone with a hub.
pub struct Heartbeat {
    site: Arc<Site>,
    desk: Arc<Desk>,
    link: Arc<Link>,
    settings: config::Hub,
    /// How the hub is spoken to.
    manner: Manner,
    /// Beats with whole lists that are still to come, after a digest that was not the hub's.
    lists: u32,
    serial: u64,
    failures: u32,
    tried_for: Duration,
}

/// What came of a beat.
struct Beaten {
    /// It is a hub of ours.
    ours: bool,
    /// It believes something else than we do, and asks for whole lists.
    list: bool,
    more: bool,
    taken: Taken,
}

/// Why a beat failed.
#[derive(Debug, thiserror::Error)]
enum BeatError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Roster(#[from] crate::ledger::LedgerError),
    #[error("the roster's worker died")]
    Died(#[from] tokio::task::JoinError),
    #[error("the hub's answer is no object")]
    Answer,
}

impl Heartbeat {
    /// Beats for the drone of `desk`.
    pub fn new(desk: Arc<Desk>, link: Arc<Link>, settings: config::Hub) -> Self {
        let (site, tried_for) = (desk.site.clone(), Duration::ZERO);
        Heartbeat {
            site,
            desk,
            link,
            settings,
            manner: Manner::Afe,
            lists: 0,
            serial: 0,
            failures: 0,
            tried_for,
        }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        self.serial += 1;
        let (site, desk, link) = (self.site.clone(), self.desk.clone(), self.link.clone());
        let (manner, serial, time) = (self.manner, self.serial, self.settings.timeout);
        let work = self.site.spawn(async move { beat(&site, &desk, &link, manner, serial, time).await });
        ctx.wait(work.into_actor(self).map(|done, act, ctx| {
            let pause = act.judge(done);
            ctx.run_later(pause, Self::round);
        }));
    }

    /// Says what came of a beat, and when the next is due.
    fn judge(&mut self, done: Result<Beaten, BeatError>) -> Duration {
        let period = around(self.settings.heartbeat);
        match done {
            Ok(Beaten { ours, list, more, taken }) => {
                (self.failures, self.tried_for) = (0, Duration::ZERO);
                self.lists = if list { LISTS } else { self.lists.saturating_sub(1) };
                self.manner = match (ours, self.lists) {
                    (false, _) => Manner::Afe,
                    (true, 0) if self.manner != Manner::Afe => Manner::Digest,
                    (true, _) => Manner::Lists,
                };
                self.site.standing.beaten();
                let Taken { jobs, hosts, again, aside } = &taken;
                if jobs + hosts + again > 0 {
                    info!(jobs, hosts, again, "heartbeat: the hub gave work");
                }
                for aside in aside {
                    warn!(kind = %aside.kind, id = aside.id, why = %Shown::text(&aside.why), "set aside, the rest was taken");
                }
                if more { AT_ONCE } else { period }
            }
            Err(error) => {
                self.site.standing.failed(&chain(&error));
                if let BeatError::Hub(HubError::Refused { .. } | HubError::Status { .. }) = &error {
                    // Whatever it was: it is asked as one asks an AFE.
                    self.manner = Manner::Afe;
                }
                let reachable =
                    !matches!(&error, BeatError::Hub(HubError::Unreachable { .. } | HubError::Status { .. }));
                let first = FIRST_PAUSE.min(self.settings.heartbeat);
                let pause = first.saturating_mul(1 << self.failures.min(16));
                self.failures += 1;
                if reachable || self.tried_for + pause > self.settings.timeout {
                    (self.failures, self.tried_for) = (0, Duration::ZERO);
                    return period;
                }
                self.tried_for += pause;
                kernel::jittered(pause)
            }
        }
    }
}

impl Actor for Heartbeat {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let site = self.site.clone();
        let known = self.site.io.spawn_blocking(move || recall(&site));
        let known = known.into_actor(self).map(|known, act, ctx| {
            if let Ok(Err(error)) = known {
                debug!(error = %chain(&error), "what was completed here is not known yet");
            }
            let random = f64::from(u16::from_le_bytes(
                *uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap_or(&[0; 2]),
            ));
            let spread = act.settings.heartbeat.mul_f64(random / f64::from(u16::MAX));
            ctx.run_later(spread, Self::round);
        });
        ctx.wait(known);
    }
}

/// Jobs that were completed here are complete for the offloader, without a round trip.
fn recall(site: &Site) -> Result<(), crate::ledger::LedgerError> {
    for (dir, at) in site.roster.completed()? {
        site.inquiries.completed_here(&dir, at);
    }
    Ok(())
}

/// A time within 10 % of another.
fn around(time: Duration) -> Duration {
    // The jitter of 20 %, halved.
    (time + kernel::jittered(time)) / 2
}

async fn beat(
    site: &Arc<Site>,
    desk: &Desk,
    link: &Link,
    manner: Manner,
    serial: u64,
    time: Duration,
) -> Result<Beaten, BeatError> {
    let drone = site.drone.clone();
    let mut packet: Packet = blocking(site, move |roster| roster.packet(&drone, manner)).await?;
    if let Some(own) = packet.arguments.get_mut("dronekeeper").and_then(Value::as_object_mut) {
        let report = report::report(desk).await;
        own.insert("full".into(), (report.full || report.draining).into());
        own.insert("report".into(), serde_json::to_value(&report).unwrap_or_default());
        own.insert("serial".into(), serial.into());
    }
    let answer: Value = link
        .call_packed("shard_heartbeat", &Value::Object(packet.arguments), manner != Manner::Afe, time)
        .await?;
    let answer = answer.as_object().cloned().ok_or(BeatError::Answer)?;
    let own = answer.get("dronekeeper").cloned().map(object);
    let refused = refused(own.as_ref());
    for (id, why) in &refused {
        warn!(job = id, why = %Shown::text(why), "the hub does not take a finished job");
    }
    let sent = packet.sent;
    blocking(site, move |roster| roster.acknowledged(&sent, &refused)).await?;
    let forgotten: Vec<i64> = own
        .iter()
        .flat_map(|own| own.get("unknown_jobs"))
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(number)
        .collect();
    let base = own.as_ref().and_then(|own| own.get("base")).and_then(Value::as_str).map(str::to_owned);
    let renewed = match base {
        Some(base) => blocking(site, move |roster| roster.base(&base)).await?,
        None => 0,
    };
    if renewed > 0 {
        warn!(
            jobs = renewed,
            "the hub has another base than before; it is told again of every job that is remembered"
        );
    }
    let has_forgotten = !forgotten.is_empty() || renewed > 0;
    if !forgotten.is_empty() {
        warn!(jobs = forgotten.len(), "the hub forgot jobs that it gave; it is told of them again");
        blocking(site, move |roster| roster.tell_again(&forgotten)).await?;
    }
    let taken = blocking(site, move |roster| roster.apply(&answer)).await?;
    let list = own.as_ref().is_some_and(|own| truth(own, "list"));
    let more = packet.more
        || has_forgotten
        || list
        || taken.again > 0
        || own.as_ref().is_some_and(|own| truth(own, "more"));
    Ok(Beaten { ours: own.is_some(), list, more, taken })
}

/// The finished jobs that a hub of ours did not take.
fn refused(own: Option<&Record>) -> Vec<(i64, String)> {
    let aside = own.and_then(|own| own.get("aside")).and_then(Value::as_array);
    let of_jobs =
        aside.into_iter().flatten().filter(|aside| aside.get("kind").is_some_and(|kind| kind == "job"));
    let refused = of_jobs.filter_map(|aside| {
        let why = aside.get("why").and_then(Value::as_str).unwrap_or("no reason").to_owned();
        Some((number(aside.get("id")?)?, why))
    });
    refused.collect()
}

/// Works on the roster, on a thread that may block.
async fn blocking<T: Send + 'static>(
    site: &Arc<Site>,
    work: impl FnOnce(&Roster) -> Result<T, crate::ledger::LedgerError> + Send + 'static,
) -> Result<T, BeatError> {
    let site = site.clone();
    Ok(tokio::task::spawn_blocking(move || work(&site.roster)).await??)
}
