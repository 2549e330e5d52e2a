//! Keeps the right number of healthy test containers running, and never disturbs a test.
//!
//! ```text
//! engine --(containers, events)--> launcher --(create, start, remove, …)--> engine
//!                                           --(SIGTERM)--> the process that holds the lock inside
//! ```
//!
//! Each round looks at what runs, plans what is to be done (`plan`, which knows no engine), and does it. The round is
//! driven by the engine's events and by a timer. Containers that run are adopted, whoever started them under our
//! label; only those with our label are ever touched. An engine that is down, slow or restarted is trouble of this
//! actor alone.

pub mod engine;
pub mod frozen;
pub mod graceful;
pub mod holder;
pub mod locks;
pub mod plan;
pub mod reboot;
pub mod standing;
pub mod wanted;

use crate::shown::{Shown, chain};
use crate::site::Site;
use actix::prelude::*;
use config::Containers;
use engine::{Engine, EngineError};
use frozen::Frozen;
use graceful::Told;
use locks::Locks;
use plan::{Action, Seen, Stops, plan};
use reboot::Reboots;
use standing::{ContainerView, Gone};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, error, info, warn};
use wanted::{Images, Wanted};

/// Time between two rounds while the engine says nothing.
const TICK: Duration = Duration::from_secs(5);
/// After an event, more are waited for so long.
const TOGETHER: Duration = Duration::from_millis(50);
/// The longest pause after an engine that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a creation that failed, a name rests so long.
const FAILED: Duration = Duration::from_secs(10);
/// A canary image that could not be had is asked for again after so long.
const CANARY: Duration = Duration::from_secs(60);

/// The actor: one per drone with `[containers]`.
pub struct Launcher {
    site: Arc<Site>,
    settings: Arc<Containers>,
    /// What is kept between rounds; a round has it while it works.
    mind: Option<Mind>,
    failures: u32,
    listening: bool,
}

/// What a launcher remembers.
struct Mind {
    engine: Engine,
    locks: Locks,
    told: Told,
    reboots: Reboots,
    frozen: Frozen,
    /// When a name may be created again.
    rests: BTreeMap<String, Instant>,
    /// When the canary image is asked for again.
    canary_rests: Option<Instant>,
}

impl Launcher {
    /// Keeps the containers of `settings`.
    pub fn new(site: Arc<Site>, settings: Containers, state_dir: &Path) -> Self {
        let settings = Arc::new(settings);
        let mind = Mind {
            engine: Engine::new(&settings, &site.drone),
            locks: Locks::new(&settings.lock),
            told: Told::open(&state_dir.join("containers.json")),
            reboots: Reboots::open(&settings, &state_dir.join("reboot.json")),
            frozen: Frozen::default(),
            rests: BTreeMap::new(),
            canary_rests: None,
        };
        Launcher { site, settings, mind: Some(mind), failures: 0, listening: false }
    }

    /// A round, and the next after a pause.
    fn round(&mut self, ctx: &mut Context<Self>) {
        self.work(ctx, |act, done, ctx| {
            let pause = match done {
                Ok(()) => {
                    act.failures = 0;
                    act.site.containers.works();
                    TICK
                }
                Err(error) => {
                    act.failures += 1;
                    act.site.containers.failed(&chain(&error));
                    kernel::jittered(Duration::from_secs(1 << act.failures.min(5)).min(LONGEST_PAUSE))
                }
            };
            ctx.run_later(pause, Self::round);
        });
    }

    /// Looks at the engine and does what is to be done; one at a time.
    fn work(
        &mut self,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<(), EngineError>, &mut Context<Self>) + 'static,
    ) {
        let Some(mind) = self.mind.take() else {
            // Another round works: whoever asked comes again soon.
            ctx.run_later(TOGETHER, |act, ctx| act.work(ctx, then));
            return;
        };
        self.listen(&mind.engine, ctx);
        let (site, settings) = (self.site.clone(), self.settings.clone());
        let work = self.site.spawn(async move {
            let mut mind = mind;
            let done = mind.round(&site, &settings).await;
            (mind, done)
        });
        ctx.spawn(work.into_actor(self).map(|(mind, done), act, ctx| {
            act.mind = Some(mind);
            then(act, done, ctx);
        }));
    }

    /// Hears of the next thing that happens in the engine, and looks again.
    fn listen(&mut self, engine: &Engine, ctx: &mut Context<Self>) {
        if self.listening {
            return;
        }
        let Ok(events) = engine.events() else { return };
        self.listening = true;
        let heard = self.site.spawn(events);
        ctx.spawn(heard.into_actor(self).map(|heard, act, ctx| {
            act.listening = false;
            if heard {
                ctx.run_later(TOGETHER, |act, ctx| {
                    act.work(ctx, |_, done, _| {
                        if let Err(error) = done {
                            debug!(error = %chain(&error), "the engine did not answer");
                        }
                    });
                });
            }
        }));
    }
}

impl Actor for Launcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.site.containers.on(&self.settings.engine);
        self.round(ctx);
    }
}

impl Mind {
    /// Looks, plans, acts, and shows what it saw.
    async fn round(&mut self, site: &Arc<Site>, settings: &Containers) -> Result<(), EngineError> {
        let looked = self.engine.look().await;
        match &looked {
            Ok(seen) => self.frozen.saw(seen),
            Err(error) if error.is_silent() => self.frozen.silent(),
            Err(_) => self.frozen.away(),
        }
        let done = match &looked {
            Ok(seen) => self.mend(seen, site, settings).await,
            Err(_) => Ok(()),
        };
        let seen = looked.as_deref().unwrap_or_default();
        let frozen = self.frozen.all(seen, settings.frozen_after);
        if let Some(why) = frozen.as_ref().filter(|_| settings.reboot_when_frozen) {
            self.reboots.frozen(why, settings);
        }
        let busy = match &looked {
            Ok(seen) => seen.iter().any(|seen| !self.frozen.is(&seen.id)),
            // Whatever runs, runs on without its engine.
            Err(_) => frozen.is_none() || !settings.reboot_when_frozen,
        };
        self.reboots.round(site, settings, busy).await;
        site.containers.frozen(frozen);
        looked.and(done)
    }

    /// Does what is to be done for these.
    async fn mend(
        &mut self,
        seen: &[Seen],
        site: &Arc<Site>,
        settings: &Containers,
    ) -> Result<(), EngineError> {
        self.told.forget_all_but(seen);
        let images = self.images(settings).await?;
        let stops = Stops::look(settings, &site.containers, self.reboots.is_wanted(settings));
        let wanted = Wanted::of(settings, &images, &site.drone);
        let actions = plan(&wanted, seen, &stops, &self.told, SystemTime::now());
        let (creations, others): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(|action| matches!(action, Action::Create { .. }));
        self.act(others, site, settings).await?;
        self.create(creations, settings, &wanted).await?;
        if stops.host.is_none() {
            self.engine.remove_old_images(&settings.image, &images).await;
        }
        let views = seen.iter().map(|seen| ContainerView::of(seen, &self.told, self.frozen.is(&seen.id)));
        site.containers.saw(views.collect(), stops.words());
        Ok(())
    }

    /// The images that are wanted, pulled when they are missing.
    async fn images(&mut self, settings: &Containers) -> Result<Images, EngineError> {
        let main = match self.engine.image_id(&settings.image).await? {
            Some(id) => id,
            None => self.pull(&settings.image, settings).await?,
        };
        let canary = match settings.canary_image.as_str() {
            "" => None,
            image => match self.engine.image_id(image).await? {
                Some(id) => Some(id),
                None => self.pull_canary(image, settings).await,
            },
        };
        Ok(Images { main, canary })
    }

    /// A canary that cannot be had is replaced by the image of all: the number of containers counts for more.
    async fn pull_canary(&mut self, image: &str, settings: &Containers) -> Option<String> {
        if self.canary_rests.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let pulled = self.pull(image, settings).await;
        if let Err(error) = &pulled {
            let error = chain(error);
            warn!(image, error, "no canary image: all containers get `containers.image`");
            self.canary_rests = Some(Instant::now() + CANARY);
        }
        pulled.ok()
    }

    async fn pull(&self, image: &str, settings: &Containers) -> Result<String, EngineError> {
        info!(image, "pulling the image");
        let begun = Instant::now();
        self.engine.pull(image, settings).await?;
        info!(image, took = ?begun.elapsed(), "image pulled");
        self.engine.image_id(image).await?.ok_or_else(|| EngineError::NoImage(image.to_owned()))
    }

    /// Creates what is missing, side by side, each under its name's lock.
    async fn create(
        &mut self,
        creations: Vec<Action>,
        settings: &Containers,
        wanted: &Wanted,
    ) -> Result<(), EngineError> {
        let now = Instant::now();
        self.rests.retain(|_, until| *until > now);
        let mut flights = tokio::task::JoinSet::new();
        for action in creations {
            let name = action.name().to_owned();
            if self.rests.contains_key(&name) {
                continue;
            }
            let lock = match self.locks.take(&name) {
                Ok(Some(lock)) => lock,
                Ok(None) => {
                    debug!(container = %name, "another hand has its lock");
                    continue;
                }
                Err(error) => {
                    warn!(container = %name, %error, "its lock cannot be taken");
                    continue;
                }
            };
            let Some(recipe) = wanted.recipe(&name) else { continue };
            let (engine, spec) = (self.engine.clone(), recipe.spec(&name, settings));
            flights.spawn(async move {
                let done = engine.create(&name, spec).await;
                drop(lock);
                (name, done)
            });
        }
        let mut down = None;
        while let Some(Ok((name, done))) = flights.join_next().await {
            match done {
                Ok(()) => info!(container = %name, "container started"),
                Err(error) if error.is_down() => down = Some(error),
                Err(error) => {
                    error!(container = %name, error = %chain(&error), "container cannot be started");
                    self.rests.insert(name, Instant::now() + FAILED);
                }
            }
        }
        down.map_or(Ok(()), Err)
    }

    /// Does the rest, side by side: one that hangs holds up none. An error is that container's own, unless the engine is
    /// away.
    async fn act(
        &mut self,
        actions: Vec<Action>,
        site: &Arc<Site>,
        settings: &Containers,
    ) -> Result<(), EngineError> {
        let mut flights = tokio::task::JoinSet::new();
        for action in actions {
            if let Action::Tell { id, name, why } = &action {
                let told = self.tell(id, name, why, settings).await;
                if let Err(error) = told {
                    warn!(container = %name, error = %chain(&error), "{} failed", action.verb());
                }
            } else if self.frozen.is_due(action.id()) {
                let (engine, site) = (self.engine.clone(), site.clone());
                flights.spawn(async move { (do_one(&engine, &site, &action).await, action) });
            }
        }
        let mut failed = None;
        while let Some(Ok((done, action))) = flights.join_next().await {
            if let Action::Stop { id, .. } = &action {
                self.frozen.stopped(id, done.is_ok());
            }
            if let Err(error) = done {
                warn!(container = %action.name(), error = %chain(&error), "{} failed", action.verb());
                failed = Some(error);
            }
        }
        match failed {
            Some(error) if error.is_down() => self.engine.look().await.map(drop),
            _ => Ok(()),
        }
    }

    /// Tells the process inside to end.
    async fn tell(
        &mut self,
        id: &str,
        name: &str,
        why: &str,
        settings: &Containers,
    ) -> Result<(), EngineError> {
        let main = self.engine.main_pid(id).await?;
        let lock = settings.pid_lock.clone();
        let holder = tokio::task::spawn_blocking(move || holder::of(main, &lock)).await;
        match holder.ok().flatten() {
            Some(pid) => {
                info!(container = %name, pid, why, "told to end; its test may finish");
                holder::tell(pid);
                self.told.note(id, why, true);
            }
            None => {
                debug!(container = %name, why, "nobody holds its lock: left alone for now");
                self.told.note(id, why, false);
            }
        }
        Ok(())
    }
}

/// What needs nothing but the engine.
async fn do_one(engine: &Engine, site: &Site, action: &Action) -> Result<(), EngineError> {
    match action {
        Action::Create { .. } | Action::Tell { .. } => Ok(()),
        Action::Start { id, .. } => engine.start(id).await,
        Action::Unpause { id, name } => {
            warn!(container = %name, "paused by somebody: resumed");
            engine.unpause(id).await
        }
        Action::Remove { id, name, why } => {
            let (code, words) = engine.last_words(id).await;
            let last = Shown::text(&words).to_string();
            info!(container = %name, code, why, last, "container removed");
            engine.remove(id).await?;
            site.containers.gone(Gone::now(name, code, why, last));
            Ok(())
        }
        Action::Stop { id, name, why } => {
            warn!(container = %name, why, "did not end by itself: stopped the hard way");
            engine.stop(id).await
        }
    }
}
