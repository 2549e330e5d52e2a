//! Tells on-call of trouble by e-mail: when it begins, now and then while it lasts, and when it is over.
//!
//! ```text
//! desk --(problems)--> mailer --(incidents, mails)--> ledger
//!                             --SMTP--> on-call
//! ```
//!
//! What the mailer has in memory is written to the ledger each time it changes, incidents and mails in one
//! transaction, and read back at the start. A ledger that cannot be used costs that memory at a restart, and
//! nothing else: a mail is sent from memory.

pub mod incidents;
pub mod letter;
pub mod pauses;
pub mod post;

use crate::console::desk::Desk;
use crate::console::status::Problem;
use crate::ledger::{KeepMail, Letter, ListJobs, MailBook, ReadMail};
use crate::outlet::{self, Outlet};
use crate::shown::chain;
use crate::site::Site;
use actix::prelude::*;
use incidents::{Incidents, News, Rules};
use letter::Affected;
use pauses::Pauses;
use post::PostError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, error, info};

/// A mail that could not be sent for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(7 * 24 * 3600);
/// So many rounds without a problem, and it is over; so many without a ledger, and it is gone on without.
const CALM: u32 = 6;
/// A round rests at least so many times as long as its look at the drone took.
const REST: u32 = 50;

/// The actor: one per drone with `[mail]`.
pub struct Mailer {
    site: Arc<Site>,
    desk: Arc<Desk>,
    settings: Arc<config::Mail>,
    outlet: Arc<Outlet>,
    /// Time between two looks at the drone.
    round: Duration,
    incidents: Incidents,
    letters: Vec<Letter>,
    pauses: Pauses,
    /// The ledger has been read.
    informed: bool,
    blind_rounds: u32,
    sending: bool,
}

impl Mailer {
    /// Mails what `desk` finds wrong. `rescan` is the time between two sweeps: problems do not change faster.
    pub fn new(desk: Arc<Desk>, outlet: Arc<Outlet>, settings: config::Mail, rescan: Duration) -> Self {
        let round = (rescan * 2).clamp(Duration::from_millis(200), Duration::from_secs(60));
        Mailer {
            site: desk.site.clone(),
            desk,
            settings: Arc::new(settings),
            outlet,
            round,
            incidents: Incidents::default(),
            letters: Vec::new(),
            pauses: Pauses::new(round),
            informed: false,
            blind_rounds: 0,
            sending: false,
        }
    }

    /// Looks at the drone, writes what is to be told, sends what is due, and comes again.
    fn round(&mut self, ctx: &mut Context<Self>) {
        let (site, desk, informed) = (self.site.clone(), self.desk.clone(), self.informed);
        let look = async move {
            let kept = if informed { None } else { site.ledger(ReadMail).await.ok() };
            let begun = Instant::now();
            let mut problems = desk.status().await.problems;
            problems.retain(|problem| problem.id != outlet::MAIL);
            (kept, problems, begun.elapsed())
        };
        ctx.wait(look.into_actor(self).then(|(kept, problems, took), act, ctx| {
            let pause = act.round.max(took * REST);
            ctx.run_later(pause, Self::round);
            let news = match act.ready(kept) {
                true => act.news(&problems),
                false => Vec::new(),
            };
            let (site, wanted) = (act.site.clone(), !news.is_empty());
            let jobs = async move {
                if wanted { site.ledger(ListJobs).await.unwrap_or_default() } else { Vec::new() }
            };
            jobs.into_actor(act).map(move |jobs, act, ctx| {
                for news in &news {
                    act.write(news, &Affected::of(&news.incident.kind, &jobs));
                }
                act.keep(ctx);
                act.send(ctx);
            })
        }));
    }

    /// Takes in what the ledger kept. Is enough known to tell anything? Without the ledger, after a while: who
    /// does not know what was told would tell it again at each start.
    fn ready(&mut self, kept: Option<MailBook>) -> bool {
        if let Some(MailBook { incidents, letters }) = kept {
            self.informed = true;
            self.incidents.remember(incidents, self.site.clock.now());
            let new = |letter: &Letter| !self.letters.iter().any(|known| same(known, letter));
            let letters: Vec<Letter> = letters.into_iter().filter(new).collect();
            self.letters.extend(letters);
        }
        self.blind_rounds += u32::from(!self.informed);
        self.informed || self.blind_rounds > CALM
    }

    fn news(&mut self, problems: &[Problem]) -> Vec<News> {
        let waiting: BTreeSet<String> = self.letters.iter().map(|letter| letter.kind.clone()).collect();
        let rules = Rules { digest: self.settings.digest, calm: self.round * CALM };
        self.incidents.look(problems, &waiting, &rules, self.site.clock.now())
    }

    /// One mail for each recipient: a recipient that the server refuses keeps nobody else's from being sent.
    fn write(&mut self, news: &News, affected: &[Affected]) {
        let (incident, drone) = (&news.incident, &self.site.drone);
        let id = |ordinal: u32| format!("{}.{ordinal}", incident.id);
        let subject = letter::subject(news, drone);
        info!(kind = %incident.kind, mail = %id(incident.mails), %subject, "on-call is told");
        for recipient in self.settings.to.iter().collect::<BTreeSet<_>>() {
            self.letters.push(Letter {
                id: id(incident.mails),
                recipient: recipient.clone(),
                thread: (incident.mails > 1).then(|| id(1)),
                kind: incident.kind.clone(),
                at: self.site.clock.now(),
                subject: subject.clone(),
                body: letter::body(news, drone, affected, self.settings.digest),
            });
        }
    }

    /// Writes everything down, as far as it has changed.
    fn keep(&mut self, ctx: &mut Context<Self>) {
        self.letters.sort_by(|one, other| (&one.id, &one.recipient).cmp(&(&other.id, &other.recipient)));
        let oldest = self.letters.iter().map(|letter| letter.at).min();
        self.outlet.waiting(self.letters.len(), oldest);
        if !self.informed {
            return;
        }
        let book = MailBook { incidents: self.incidents.all(), letters: self.letters.clone() };
        let site = self.site.clone();
        let kept = async move { site.ledger(KeepMail(book)).await };
        ctx.wait(kept.into_actor(self).map(|kept, _, _| {
            if let Err(error) = kept {
                debug!(error = %chain(&error), "mail is kept in memory only");
            }
        }));
    }

    /// Sends the first mail that is due, and then the next, one at a time.
    fn send(&mut self, ctx: &mut Context<Self>) {
        self.give_up();
        let now = Instant::now();
        let due = self.letters.iter().filter(|letter| self.pauses.is_due(letter, now));
        let Some(letter) = due.min_by_key(|letter| letter.at).filter(|_| !self.sending).cloned() else {
            return;
        };
        self.sending = true;
        let (settings, drone, sent) = (self.settings.clone(), self.site.drone.clone(), letter.clone());
        let work = self.site.spawn(async move { post::send(&settings, &drone, &letter).await });
        ctx.spawn(work.into_actor(self).map(move |done, act, ctx| {
            act.sending = false;
            act.judge(&sent, done);
            act.keep(ctx);
            act.send(ctx);
        }));
    }

    fn judge(&mut self, letter: &Letter, done: Result<(), PostError>) {
        match done {
            Ok(()) => {
                info!(mail = %letter.id, to = %letter.recipient, "mail sent");
                self.outlet.sent(self.site.clock.now());
                self.pauses.worked(letter);
                self.letters.retain(|other| !same(other, letter));
            }
            Err(error) => {
                let why = post::told(&error);
                debug!(mail = %letter.id, to = %letter.recipient, error = %why, "mail not sent");
                self.outlet.failed(&why);
                self.pauses.failed(letter, error.is_of_mail(), error.is_final(), Instant::now());
            }
        }
    }

    fn give_up(&mut self) {
        let now = self.site.clock.now();
        let (old, waiting) =
            std::mem::take(&mut self.letters).into_iter().partition(|letter| too_old(letter, now));
        self.letters = waiting;
        let old: Vec<Letter> = old;
        for letter in old {
            error!(mail = %letter.id, to = %letter.recipient, subject = %letter.subject, "mail given up after a week");
            self.pauses.worked(&letter);
        }
    }
}

impl Actor for Mailer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.round(ctx);
    }
}

fn same(one: &Letter, other: &Letter) -> bool {
    one.id == other.id && one.recipient == other.recipient
}

fn too_old(letter: &Letter, now: SystemTime) -> bool {
    now.duration_since(letter.at).unwrap_or_default() >= GIVE_UP
}
