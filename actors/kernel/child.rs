//! One child: how it is made, driven, watched and stopped.
//!
//! actix's public API gives the actor's whole life as one future; we poll it ourselves, inside
//! `catch_unwind`. Sending on the stop channel asks the child to stop, dropping it does too. The exit is
//! announced from a drop guard, so that no way of dying goes unreported.

use crate::census::Census;
use crate::supervisor::{Growth, Supervisor};
use crate::{Backoff, ChildRef, Exit, Policy, Restart, Verdict};
use actix::dev::{ContextFut, channel};
use actix::{Actor, ActorContext, Addr, Context};
use actix_rt::{Arbiter, ArbiterHandle};
use std::fmt::{self, Debug, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Cx, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// When the poll in progress began, if one is: what the watchdog reads.
type Pulse = Arc<Mutex<Option<Instant>>>;
type Start = dyn Fn(&Birth) -> Result<Incarnation, Exit> + Send + Sync;
type Children = dyn Fn() -> Vec<ChildSpec> + Send + Sync;

/// How to make one child, and how to treat it. Clones describe the same child.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: String,
    pub(crate) restart: Restart,
    pub(crate) stop_within: Duration,
    pub(crate) hang_after: Option<Duration>,
    pub(crate) backoff: Backoff,
    own_thread: bool,
    mailbox: usize,
    pub(crate) start: Arc<Start>,
    pub(crate) children: Option<(Policy, Arc<Children>)>,
}

/// A tree as its specs describe it, for documents and tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// The child's name among its siblings.
    pub id: String,
    /// The policy and the children of a supervisor.
    pub children: Option<(Policy, Vec<Outline>)>,
}

/// What a child's start is told.
pub(crate) struct Birth {
    pub census: Census,
    pub place: Vec<usize>,
    pub path: String,
    pub generation: u64,
    pub own_thread: bool,
    pub mailbox: usize,
}

impl ChildSpec {
    /// A worker, on a thread of its own unless told otherwise. `make` builds each incarnation afresh, on
    /// the thread where it will run.
    pub fn worker<A>(
        id: impl Into<String>,
        address: &ChildRef<A>,
        make: impl Fn(Verdict) -> A + Send + Sync + 'static,
    ) -> Self
    where
        A: Actor<Context = Context<A>>,
    {
        let (address, make) = (address.clone(), Arc::new(make));
        let start = move |birth: &Birth| {
            let make = make.clone();
            start(birth, address.clone(), move |verdict| make(verdict))
        };
        ChildSpec {
            id: id.into(),
            restart: Restart::Permanent,
            stop_within: Duration::from_secs(5),
            hang_after: None,
            backoff: Backoff::default(),
            own_thread: true,
            mailbox: 16,
            start: Arc::new(start),
            children: None,
        }
    }

    /// A supervisor of the children that `children` lists, in their order of start.
    pub fn supervisor(
        id: impl Into<String>,
        policy: Policy,
        children: impl Fn() -> Vec<ChildSpec> + Send + Sync + 'static,
    ) -> Self {
        Self::supervisor_at(id, &ChildRef::vacant(), policy, children)
    }

    /// A supervisor that can be asked to start, stop and restart children, at this address.
    pub fn supervisor_at(
        id: impl Into<String>,
        address: &ChildRef<Supervisor>,
        policy: Policy,
        children: impl Fn() -> Vec<ChildSpec> + Send + Sync + 'static,
    ) -> Self {
        Self::supervisor_of(id, address, policy, Arc::new(children), None)
    }

    pub(crate) fn supervisor_of(
        id: impl Into<String>,
        address: &ChildRef<Supervisor>,
        policy: Policy,
        children: Arc<Children>,
        growth: Option<Growth>,
    ) -> Self {
        let (address, list) = (address.clone(), children.clone());
        let start = move |birth: &Birth| {
            let (list, growth) = (list.clone(), growth.clone());
            let (census, place, path) = (birth.census.clone(), birth.place.clone(), birth.path.clone());
            let make = move |verdict| Supervisor::new(policy, list(), growth, verdict, census, place, path);
            start(birth, address.clone(), make)
        };
        ChildSpec {
            id: id.into(),
            restart: Restart::Permanent,
            stop_within: Duration::MAX,
            hang_after: None,
            backoff: Backoff::default(),
            own_thread: false,
            mailbox: 16,
            start: Arc::new(start),
            children: Some((policy, children)),
        }
    }

    /// When it is started again.
    pub fn restart(self, restart: Restart) -> Self {
        ChildSpec { restart, ..self }
    }

    /// How long it may take to stop; then it is left to itself. A supervisor has all the time it needs.
    pub fn stop_within(self, stop_within: Duration) -> Self {
        ChildSpec { stop_within, ..self }
    }

    /// How long one poll of it may take; beyond, it is replaced. Needs a thread of its own.
    pub fn hang_after(self, limit: Duration) -> Self {
        ChildSpec { hang_after: Some(limit), ..self }
    }

    /// The pauses before its restarts.
    pub fn backoff(self, backoff: Backoff) -> Self {
        ChildSpec { backoff, ..self }
    }

    /// Whether it runs on a thread of its own, where it may block, or on its supervisor's.
    pub fn own_thread(self, own_thread: bool) -> Self {
        ChildSpec { own_thread, ..self }
    }

    /// How many messages wait for it at most.
    pub fn mailbox(self, mailbox: usize) -> Self {
        ChildSpec { mailbox, ..self }
    }

    /// Its name among its siblings.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The child and everything below it.
    pub fn outline(&self) -> Outline {
        let children = self
            .children
            .as_ref()
            .map(|(policy, children)| (*policy, children().iter().map(ChildSpec::outline).collect()));
        Outline { id: self.id.clone(), children }
    }

    /// Starts an incarnation.
    pub(crate) fn begin(
        &self,
        census: &Census,
        place: Vec<usize>,
        path: String,
        generation: u64,
    ) -> Result<Incarnation, Exit> {
        let (own_thread, mailbox) = (self.own_thread, self.mailbox);
        (self.start)(&Birth { census: census.clone(), place, path, generation, own_thread, mailbox })
    }
}

impl Debug for ChildSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// One life of a child, as its supervisor holds it. Dropping it asks the child to stop.
pub(crate) struct Incarnation {
    pub generation: u64,
    pub born: tokio::time::Instant,
    stop: Option<oneshot::Sender<()>>,
    done: watch::Receiver<Option<Exit>>,
    up: watch::Receiver<bool>,
    pulse: Pulse,
    thread: Option<ArbiterHandle>,
    task: Arc<Mutex<Option<tokio::task::AbortHandle>>>,
    abandoned: Arc<AtomicBool>,
    census: Census,
    vacate: Box<dyn Fn()>,
}

impl Incarnation {
    /// Asks it to stop. Its address is vacant from here on.
    pub fn ask_to_stop(&mut self) {
        (self.vacate)();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Becomes its exit.
    pub fn exit(&self) -> impl Future<Output = Exit> + 'static {
        let mut done = self.done.clone();
        async move {
            let exit = done.wait_for(Option::is_some).await.map(|exit| exit.clone());
            exit.ok().flatten().unwrap_or(Exit::Shutdown)
        }
    }

    /// Becomes true when it has come up, false when it ended before.
    pub fn up(&self) -> impl Future<Output = bool> + 'static {
        let (mut up, exit) = (self.up.clone(), self.exit());
        async move {
            tokio::select! {
                up = up.wait_for(|up| *up) => up.is_ok(),
                _ = exit => false,
            }
        }
    }

    /// How long the poll in progress has taken.
    pub fn busy(&self) -> Duration {
        let began = *self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Leaves it to itself: it is stopped as soon as its thread comes back from wherever it is.
    pub fn abandon(mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            self.abandoned.store(true, SeqCst);
            self.census.abandon();
            thread.stop();
        }
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        (self.vacate)();
    }
}

/// Drives one incarnation: a panic, a stop request and a normal end all become an [`Exit`].
struct ChildTask<A: Actor<Context = Context<A>>> {
    life: ContextFut<A, Context<A>>,
    stop: oneshot::Receiver<()>,
    told: bool,
    verdict: Verdict,
    pulse: Pulse,
    up: watch::Sender<bool>,
}

impl<A: Actor<Context = Context<A>>> Future for ChildTask<A> {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Exit> {
        let this = self.get_mut();
        if !this.told && Pin::new(&mut this.stop).poll(cx).is_ready() {
            this.told = true;
            this.life.ctx().stop();
        }
        set(&this.pulse, Some(Instant::now()));
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.life).poll(cx)));
        set(&this.pulse, None);
        let exit = match polled {
            Ok(Poll::Pending) => {
                if !*this.up.borrow() {
                    this.up.send_replace(true);
                }
                return Poll::Pending;
            }
            Ok(Poll::Ready(())) if this.told => Exit::Shutdown,
            Ok(Poll::Ready(())) => Exit::Normal,
            Err(payload) => return Poll::Ready(Exit::panicked(payload)),
        };
        Poll::Ready(this.verdict.take().unwrap_or(exit))
    }
}

impl<A: Actor<Context = Context<A>>> Drop for ChildTask<A> {
    /// Otherwise actix would poll the actor once more while it is dropped, panic or not.
    fn drop(&mut self) {
        self.life.ctx().terminate();
    }
}

fn set(pulse: &Pulse, to: Option<Instant>) {
    *pulse.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

/// Announces the exit, vacates the address and ends the thread, from its `Drop`.
struct LastWords {
    exit: Exit,
    done: watch::Sender<Option<Exit>>,
    thread: Option<ArbiterHandle>,
    abandoned: Arc<AtomicBool>,
    census: Census,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let dropped = Exit::Panicked { message: "while it was dropped".into(), location: String::new() };
        let exit = if std::thread::panicking() { dropped } else { self.exit.clone() };
        self.done.send_replace(Some(exit));
        if self.abandoned.load(SeqCst) {
            self.census.returned();
        }
        if let Some(thread) = self.thread.take() {
            thread.stop();
        }
    }
}

/// Starts one incarnation of an actor.
fn start<A>(
    birth: &Birth,
    address: ChildRef<A>,
    make: impl FnOnce(Verdict) -> A + Send + 'static,
) -> Result<Incarnation, Exit>
where
    A: Actor<Context = Context<A>>,
{
    let arbiter = birth.own_thread.then(Arbiter::try_new).transpose();
    let arbiter = arbiter.map_err(|error| Exit::Failed(format!("cannot start a thread: {error}")))?;
    let thread = arbiter.as_ref().map(Arbiter::handle);
    let (sender, receiver) = channel::channel::<A>(birth.mailbox);
    let (stop, stopped) = oneshot::channel();
    let (done_sender, done) = watch::channel(None);
    let (up_sender, up) = watch::channel(false);
    let (pulse, abandoned) = (Pulse::default(), Arc::new(AtomicBool::new(false)));
    let census = birth.census.clone();
    let mut words = LastWords {
        exit: Exit::Shutdown,
        done: done_sender,
        thread: thread.clone(),
        abandoned: abandoned.clone(),
        census: census.clone(),
    };
    let beat = pulse.clone();
    let life = move || async move {
        let verdict = Verdict::default();
        set(&beat, Some(Instant::now()));
        let born = catch_unwind(AssertUnwindSafe(|| {
            Context::with_receiver(receiver).into_future(make(verdict.clone()))
        }));
        set(&beat, None);
        let words = &mut words;
        words.exit = match born {
            Ok(life) => {
                let task =
                    ChildTask { life, stop: stopped, told: false, verdict, pulse: beat, up: up_sender };
                task.await
            }
            Err(payload) => Exit::panicked(payload),
        };
    };
    let task = Arc::new(Mutex::new(None));
    match &arbiter {
        Some(arbiter) => drop(arbiter.spawn_fn(move || drop(actix_rt::spawn(life())))),
        None => {
            let running = actix_rt::spawn(life());
            *task.lock().unwrap_or_else(PoisonError::into_inner) = Some(running.abort_handle());
        }
    }
    address.occupy(Addr::new(sender), birth.generation);
    let generation = birth.generation;
    let vacate = Box::new(move || address.leave(generation));
    let (born, stop) = (tokio::time::Instant::now(), Some(stop));
    Ok(Incarnation { generation, born, stop, done, up, pulse, thread, task, abandoned, census, vacate })
}
