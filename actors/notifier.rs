//! Tells other programs of each offloaded job: a webhook, Google Pub/Sub.
//!
//! ```text
//! verifier --(RecordPublished, one transaction)--> ledger --(KeepNotices)--> notifier --HTTP--> who wants to know
//! ```
//!
//! At least once: a notice leaves the ledger after the other end has taken it. Whether anybody listens changes
//! nothing for the job. One that is refused lets the others pass; an end that does not answer gets growing pauses.

pub mod google;
pub mod notice;
pub mod sink;

pub use sink::Sink;

use crate::ledger::{KeepNotices, Notice};
use crate::outlet::Outlet;
use crate::shown::chain;
use crate::site::Site;
use actix::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, error, info};

/// Time between two looks into the ledger.
const ROUND: Duration = Duration::from_secs(1);
/// The longest pause after a failure, its jitter apart.
const LONGEST: Duration = Duration::from_secs(600);
/// A notice that nobody took for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(7 * 24 * 3600);

/// The actor: one per drone with `[[notify]]`.
pub struct Notifier {
    site: Arc<Site>,
    outlet: Arc<Outlet>,
    lines: BTreeMap<String, Line>,
    told: Vec<Notice>,
}

/// What waits for one address.
struct Line {
    sink: Arc<Sink>,
    waiting: VecDeque<Notice>,
    sending: bool,
    failures: u32,
    rests: Option<Instant>,
}

impl Notifier {
    /// Tells `sinks` what the ledger says.
    pub fn new(site: Arc<Site>, sinks: Vec<Arc<Sink>>, outlet: Arc<Outlet>) -> Self {
        let line = |sink: Arc<Sink>| Line {
            sink,
            waiting: VecDeque::new(),
            sending: false,
            failures: 0,
            rests: None,
        };
        let lines = sinks.into_iter().map(|sink| (sink.url().to_owned(), line(sink))).collect();
        Notifier { site, outlet, lines, told: Vec::new() }
    }

    /// Looks into the ledger, and comes again.
    fn round(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(ROUND, Self::round);
        self.keep(ctx);
    }

    /// Brings the ledger up to date, takes in what is new, and sends what is due.
    fn keep(&mut self, ctx: &mut Context<Self>) {
        let site = self.site.clone();
        let waiting = self.lines.values().flat_map(|line| line.waiting.iter().cloned()).collect();
        let told = std::mem::take(&mut self.told);
        let kept = async move {
            let kept = site.ledger(KeepNotices { told: told.clone(), waiting }).await;
            (kept, told)
        };
        ctx.wait(kept.into_actor(self).map(|(kept, told), act, ctx| {
            match kept {
                Ok(notices) => act.take_in(notices),
                Err(error) => {
                    debug!(error = %chain(&error), "notices are kept in memory only");
                    act.told = told;
                }
            }
            let all = || act.lines.values().flat_map(|line| &line.waiting);
            act.outlet.waiting(all().count(), all().map(|notice| notice.at).min());
            let urls: Vec<String> = act.lines.keys().cloned().collect();
            urls.iter().for_each(|url| act.send(url, ctx));
        }));
    }

    fn take_in(&mut self, notices: Vec<Notice>) {
        let now = self.site.clock.now();
        for notice in notices {
            let old = now.duration_since(notice.at).unwrap_or_default() >= GIVE_UP;
            match self.lines.get_mut(&notice.url) {
                Some(line) if !old => {
                    if !line.waiting.contains(&notice) {
                        line.waiting.push_back(notice);
                    }
                }
                // An address that is no longer configured, or never answers.
                _ => {
                    error!(notice = %notice.id, url = %notice.url, "notice given up");
                    self.told.push(notice);
                }
            }
        }
    }

    /// Sends the first that waits for this address, and then the next.
    fn send(&mut self, url: &str, ctx: &mut Context<Self>) {
        let Some(line) = self.lines.get_mut(url) else { return };
        let rests = line.rests.is_some_and(|until| until > Instant::now());
        let Some(notice) = line.waiting.front().filter(|_| !line.sending && !rests).cloned() else { return };
        line.sending = true;
        let (sink, sent) = (line.sink.clone(), notice.clone());
        let work = self.site.spawn(async move { sink.tell(&sent).await });
        ctx.spawn(work.into_actor(self).map(move |done, act, ctx| {
            let Some(line) = act.lines.get_mut(&notice.url) else { return };
            line.sending = false;
            let first = line.waiting.iter().position(|other| *other == notice);
            let told = first.and_then(|position| line.waiting.remove(position));
            match done {
                Ok(()) => {
                    info!(notice = %notice.id, url = %notice.url, "told");
                    (line.failures, line.rests) = (0, None);
                    act.outlet.sent(act.site.clock.now());
                    act.told.extend(told);
                }
                Err(error) => {
                    line.failures += 1;
                    let pause = ROUND.saturating_mul(1 << line.failures.min(12)).min(LONGEST);
                    line.rests = Some(Instant::now() + kernel::jittered(pause));
                    // The others are not to wait for one that is refused.
                    line.waiting.extend(told);
                    act.outlet.failed(&chain(&error));
                }
            }
            act.keep(ctx);
        }));
    }
}

impl Actor for Notifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.round(ctx);
    }
}
