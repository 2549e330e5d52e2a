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
pub mod graceful;
pub mod holder;
pub mod locks;
pub mod plan;
pub mod reboot;
pub mod standing;

use crate::shown::{Shown, chain};
use crate::site::Site;
use actix::prelude::*;
use config::Containers;
use engine::{Engine, EngineError};
use graceful::Told;
use locks::Locks;
use plan::{Action, Stops, Wanted, plan};
use reboot::Reboots;
use standing::ContainerView;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, error, info, warn};

/// Time between two rounds while the engine says nothing.
const TICK: Duration = Duration::from_secs(5);
/// After an event, more are waited for so long.
const TOGETHER: Duration = Duration::from_millis(50);
/// The longest pause after an engine that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a creation that failed, a name rests so long.
const FAILED: Duration = Duration::from_secs(10);

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
    /// When a name may be created again.
    rests: BTreeMap<String, Instant>,
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
            rests: BTreeMap::new(),
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
        self.round(ctx);
    }
}

impl Mind {
    /// Looks, plans, acts, and shows what it saw.
    async fn round(&mut self, site: &Arc<Site>, settings: &Containers) -> Result<(), EngineError> {
        let seen = self.engine.look().await?;
        self.told.forget_all_but(&seen);
        let image = self.image(settings).await?;
        let stops = Stops::look(settings, &site.containers, self.reboots.is_wanted(settings));
        let wanted = Wanted::of(settings, &image, &site.drone);
        let actions = plan(&wanted, &seen, &stops, &self.told, SystemTime::now());
        let (creations, others): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(|action| matches!(action, Action::Create { .. }));
        for action in others {
            if let Err(error) = self.act(&action, settings).await {
                if error.is_down() {
                    return Err(error);
                }
                warn!(container = %action.name(), error = %chain(&error), "{} failed", action.verb());
            }
        }
        self.create(creations, settings, &wanted).await?;
        if stops.host.is_none() {
            self.engine.remove_old_images(&settings.image, &image).await;
        }
        let busy = !seen.is_empty();
        self.reboots.round(site, settings, busy).await;
        site.containers
            .saw(seen.iter().map(|seen| ContainerView::of(seen, &self.told)).collect(), stops.words());
        Ok(())
    }

    /// The image that is wanted, pulled when it is missing.
    async fn image(&mut self, settings: &Containers) -> Result<String, EngineError> {
        if let Some(id) = self.engine.image_id(&settings.image).await? {
            return Ok(id);
        }
        info!(image = %settings.image, "pulling the image");
        let begun = Instant::now();
        self.engine.pull(settings).await?;
        info!(image = %settings.image, took = ?begun.elapsed(), "image pulled");
        let id = self.engine.image_id(&settings.image).await?;
        id.ok_or_else(|| EngineError::NoImage(settings.image.clone()))
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
            let (engine, spec) = (self.engine.clone(), wanted.spec(&name, settings));
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

    async fn act(&mut self, action: &Action, settings: &Containers) -> Result<(), EngineError> {
        match action {
            Action::Create { .. } => Ok(()),
            Action::Start { id, .. } => self.engine.start(id).await,
            Action::Unpause { id, name } => {
                warn!(container = %name, "paused by somebody: resumed");
                self.engine.unpause(id).await
            }
            Action::Remove { id, name, why } => {
                let (code, words) = self.engine.last_words(id).await;
                info!(container = %name, code, why, last = %Shown::text(&words), "container removed");
                self.engine.remove(id).await
            }
            Action::Tell { id, name, why } => {
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
            Action::Stop { id, name, why } => {
                warn!(container = %name, why, "did not end by itself: stopped the hard way");
                self.engine.stop(id).await
            }
        }
    }
}
