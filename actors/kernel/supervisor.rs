//! A group of children: started in order, restarted by policy, stopped in reverse.

use crate::census::{Census, State, after};
use crate::child::{ChildSpec, Incarnation};
use crate::policy::{Window, jittered};
use crate::{Exit, OnExhaustion, Policy, Restart, Strategy, Verdict};
use actix::prelude::*;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

/// The supervising actor. Made by [`ChildSpec::supervisor`].
pub struct Supervisor {
    policy: Policy,
    growth: Option<Growth>,
    verdict: Verdict,
    census: Census,
    place: Vec<usize>,
    path: String,
    seats: Vec<Seat>,
    window: Window,
    /// Children that are still to be started, in order; one at a time.
    queue: VecDeque<usize>,
    coming_up: bool,
    pending: Vec<(Range<usize>, SpawnHandle)>,
    next_seat: usize,
    /// Children that are stopped to be replaced, or dropped, by number: then nothing of them counts any more.
    renewed: Vec<usize>,
    busy: bool,
    closing: bool,
}

/// How a pool learns its size, and makes its children.
#[derive(Clone)]
pub(crate) struct Growth {
    pub size: watch::Receiver<usize>,
    pub make: Arc<dyn Fn(usize) -> ChildSpec + Send + Sync>,
}

/// A child's place, taken or not.
struct Seat {
    /// Its number in the census; positions move when a child is deleted, numbers do not.
    number: usize,
    spec: ChildSpec,
    life: Option<Incarnation>,
    generation: u64,
    in_a_row: u32,
    /// It was told to stay down.
    held: bool,
}

impl Seat {
    /// Whoever has it leaves it, to be stopped.
    fn leave(&mut self) -> Option<Leaving> {
        let life = self.life.take()?;
        let (number, id, allowance) = (self.number, self.spec.id.clone(), self.spec.stop_within);
        Some(Leaving { number, id, allowance, life })
    }
}

/// A child that is being stopped.
struct Leaving {
    number: usize,
    id: String,
    allowance: Duration,
    life: Incarnation,
}

impl Supervisor {
    pub(crate) fn new(
        policy: Policy,
        specs: Vec<ChildSpec>,
        growth: Option<Growth>,
        verdict: Verdict,
        census: Census,
        place: Vec<usize>,
        path: String,
    ) -> Self {
        let mut supervisor = Supervisor {
            policy,
            growth,
            verdict,
            census,
            place,
            path,
            seats: Vec::new(),
            window: Window::default(),
            queue: VecDeque::new(),
            coming_up: false,
            pending: Vec::new(),
            next_seat: 0,
            renewed: Vec::new(),
            busy: false,
            closing: false,
        };
        specs.into_iter().for_each(|spec| supervisor.seat(spec));
        supervisor
    }

    fn seat(&mut self, spec: ChildSpec) {
        let seat = self.vacant(spec);
        self.seats.push(seat);
    }

    /// A place for a child that was not there before.
    fn vacant(&mut self, spec: ChildSpec) -> Seat {
        let number = self.next_seat;
        self.next_seat += 1;
        self.register(number, &spec);
        Seat { number, spec, life: None, generation: 0, in_a_row: 0, held: false }
    }

    fn register(&self, number: usize, spec: &ChildSpec) {
        let supervisor = spec.children.is_some();
        self.census
            .update(&self.place_of(number), &self.path_of(spec), |child| child.supervisor = supervisor);
    }

    fn place_of(&self, number: usize) -> Vec<usize> {
        [self.place.as_slice(), &[number]].concat()
    }

    fn path_of(&self, spec: &ChildSpec) -> String {
        if self.path.is_empty() { spec.id.clone() } else { format!("{}/{}", self.path, spec.id) }
    }

    fn note(&self, index: usize, state: State) {
        if let Some(seat) = self.seats.get(index) {
            self.census
                .update(&self.place_of(seat.number), &self.path_of(&seat.spec), |child| child.state = state);
        }
    }

    fn index_of(&self, number: usize) -> Option<usize> {
        self.seats.iter().position(|seat| seat.number == number)
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.seats.iter().position(|seat| seat.spec.id == id)
    }

    /// Starts what is vacant in the range, in order, each when the one before has come up.
    fn start_vacant(&mut self, range: Range<usize>, ctx: &mut Context<Self>) {
        for index in range {
            let vacant = self.seats.get(index).is_some_and(|seat| seat.life.is_none() && !seat.held);
            if vacant && !self.queue.contains(&index) {
                self.queue.push_back(index);
            }
        }
        self.queue.make_contiguous().sort_unstable();
        self.start_next(ctx);
    }

    fn start_next(&mut self, ctx: &mut Context<Self>) {
        while !self.coming_up && !self.busy && !self.closing {
            let Some(index) = self.queue.pop_front() else { return };
            self.start(index, ctx);
        }
    }

    fn start(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(seat) = self.seats.get_mut(index) else { return };
        if seat.life.is_some() || seat.held {
            return;
        }
        seat.generation += 1;
        let (number, generation, spec) = (seat.number, seat.generation, seat.spec.clone());
        let (place, path) = (self.place_of(number), self.path_of(&spec));
        let life = match spec.begin(&self.census, place.clone(), path.clone(), generation) {
            Ok(life) => life,
            Err(exit) => return self.child_down(index, exit, ctx),
        };
        self.census
            .update(&place, &path, |child| (child.state, child.generation) = (State::Starting, generation));
        debug!(child = %path, generation, "start");
        ctx.spawn(life.exit().into_actor(self).map(move |exit, act, ctx| {
            // A child that we stopped, or abandoned, has lost its seat to another generation.
            if let Some(index) = act.index_of(number)
                && act
                    .seats
                    .get(index)
                    .and_then(|seat| seat.life.as_ref())
                    .is_some_and(|life| life.generation == generation)
            {
                act.child_down(index, exit, ctx);
            }
        }));
        self.coming_up = true;
        ctx.spawn(life.up().into_actor(self).map(move |up, act, ctx| {
            if up {
                act.census.update(&place, &path, |child| {
                    if child.state == State::Starting && child.generation == generation {
                        child.state = State::Running;
                    }
                });
            }
            act.coming_up = false;
            act.start_next(ctx);
        }));
        if let Some(seat) = self.seats.get_mut(index) {
            seat.life = Some(life);
        }
    }

    /// A child is down: restart whom the strategy says, or give up.
    fn child_down(&mut self, index: usize, exit: Exit, ctx: &mut Context<Self>) {
        let Some(seat) = self.seats.get_mut(index) else { return };
        let lived = seat.life.take().map(|life| life.born.elapsed());
        let (number, spec, generation) = (seat.number, seat.spec.clone(), seat.generation);
        let path = self.path_of(&spec);
        self.census.update(&self.place_of(number), &path, |child| {
            (child.state, child.last_exit) = (State::Stopped, Some((SystemTime::now(), exit.clone())));
        });
        if self.closing {
            return;
        }
        match spec.restart {
            Restart::Temporary => {
                info!(child = %path, generation, exit = %exit, "exit, not started again");
                return self.remove(index);
            }
            Restart::Transient if exit.is_normal() => {
                return info!(child = %path, generation, exit = %exit, "exit, not started again");
            }
            Restart::Permanent | Restart::Transient => {}
        }
        if let Some(seat) = self.seats.get_mut(index) {
            let quiet = lived.is_some_and(|lived| lived >= spec.backoff.quiet);
            seat.in_a_row = if quiet { 1 } else { seat.in_a_row.saturating_add(1) };
        }
        let nth = self.seats.get(index).map_or(1, |seat| seat.in_a_row);
        let mut pause = jittered(spec.backoff.pause(nth));
        let mut state = State::BackingOff(after(pause));
        if self.window.exceeded(Instant::now(), &self.policy) {
            match self.policy.on_exhaustion {
                OnExhaustion::Escalate => {
                    error!(supervisor = %self.path, child = %path, exit = %exit, "too many restarts, giving up");
                    self.verdict.leave(Exit::Escalated(path));
                    return ctx.stop(); // `stopping` stops the children first
                }
                OnExhaustion::Rest(rest) => {
                    error!(child = %path, exit = %exit, again_in = ?rest, "too many restarts, the branch rests");
                    self.window.clear();
                    (pause, state) = (rest, State::Resting(after(rest)));
                }
            }
        } else {
            warn!(child = %path, generation, exit = %exit, again_in = ?pause, "restart");
        }
        self.census.update(&self.place_of(number), &path, |child| child.restarts += 1);
        let range = match self.policy.strategy {
            Strategy::OneForOne => index..index + 1,
            Strategy::OneForAll => 0..self.seats.len(),
            Strategy::RestForOne => index..self.seats.len(),
        };
        let range = self.absorb(range, ctx);
        self.queue.retain(|index| !range.contains(index));
        let rest = self.take(range.clone());
        let temporary = rest.iter().filter_map(|leaving| self.index_of(leaving.number));
        let temporary: Vec<usize> = temporary
            .filter(|index| {
                self.seats.get(*index).is_some_and(|seat| seat.spec.restart == Restart::Temporary)
            })
            .collect();
        let first = self.seats.get(range.start).map(|seat| seat.number);
        let last = self.seats.get(range.end - 1).map(|seat| seat.number);
        for index in temporary.into_iter().rev() {
            self.remove(index); // killed by a sibling's restart, it is not started again
        }
        let start =
            first.and_then(|number| self.index_of(number)).unwrap_or(range.start.min(self.seats.len()));
        let end = last.and_then(|number| self.index_of(number)).map_or(self.seats.len(), |index| index + 1);
        if !rest.is_empty() {
            self.stop_all(rest, ctx);
        }
        self.note(self.index_of(number).unwrap_or(usize::MAX), state);
        self.restart_after(start..end.max(start), pause, ctx);
    }

    /// Joins a range with the restarts that are pending and overlap it, so that children start in order.
    fn absorb(&mut self, mut range: Range<usize>, ctx: &mut Context<Self>) -> Range<usize> {
        self.pending.retain(|(other, timer)| {
            let apart = other.end <= range.start || range.end <= other.start;
            if !apart {
                range = other.start.min(range.start)..other.end.max(range.end);
                ctx.cancel_future(*timer);
            }
            apart
        });
        range
    }

    fn restart_after(&mut self, range: Range<usize>, pause: Duration, ctx: &mut Context<Self>) {
        let again = range.clone();
        let timer = ctx.run_later(pause, move |act, ctx| {
            act.pending.retain(|(range, _)| *range != again);
            act.start_vacant(again, ctx);
        });
        self.pending.push((range, timer));
    }

    fn take(&mut self, range: Range<usize>) -> Vec<Leaving> {
        let seats = self.seats.get_mut(range).unwrap_or_default();
        seats.iter_mut().filter_map(Seat::leave).collect()
    }

    /// Forgets a child that is down; positions after it move, so pending work on positions is redone.
    fn remove(&mut self, index: usize) {
        if index < self.seats.len() {
            let seat = self.seats.remove(index);
            self.census.forget(&self.place_of(seat.number));
            let moved = |at: usize| if at > index { at - 1 } else { at };
            self.queue = self.queue.iter().filter(|at| **at != index).map(|at| moved(*at)).collect();
            for (range, _) in &mut self.pending {
                *range = moved(range.start)..moved(range.end);
            }
        }
    }

    /// Stops children, last first, each within its own allowance; nothing else is done meanwhile.
    fn stop_all(&mut self, leaving: Vec<Leaving>, ctx: &mut Context<Self>) {
        self.busy = true;
        let stopped = async move {
            let mut fates = Vec::new();
            for Leaving { number, id, allowance, mut life } in leaving.into_iter().rev() {
                life.ask_to_stop();
                let exit = match tokio::time::timeout(allowance, life.exit()).await {
                    Ok(exit) => exit,
                    Err(_) => {
                        life.abandon();
                        Exit::Abandoned(allowance)
                    }
                };
                fates.push((number, id, exit));
            }
            fates
        };
        ctx.wait(stopped.into_actor(self).map(|fates, act, ctx| {
            for (number, id, exit) in fates {
                let path = if act.path.is_empty() { id } else { format!("{}/{id}", act.path) };
                match &exit {
                    Exit::Abandoned(_) => warn!(child = %path, exit = %exit, "left to itself"),
                    _ => debug!(child = %path, exit = %exit, "stopped"),
                }
                if act.index_of(number).is_some() {
                    act.census.update(&act.place_of(number), &path, |child| {
                        if !matches!(child.state, State::BackingOff(_) | State::Resting(_)) {
                            child.state = State::Stopped;
                        }
                        child.last_exit = Some((SystemTime::now(), exit));
                    });
                }
            }
            for number in std::mem::take(&mut act.renewed) {
                act.census.forget(&act.place_of(number));
                if let Some(seat) = act.seats.iter().find(|seat| seat.number == number) {
                    act.register(number, &seat.spec);
                }
            }
            act.busy = false;
            if act.closing {
                ctx.stop();
            } else {
                act.start_next(ctx);
            }
        }));
    }

    /// Replaces children whose poll takes longer than their limit; their threads are left to themselves.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        for index in (0..self.seats.len()).rev() {
            let Some(seat) = self.seats.get_mut(index) else { continue };
            let (Some(limit), Some(life)) = (seat.spec.hang_after, &seat.life) else { continue };
            let busy = life.busy();
            if busy > limit
                && let Some(life) = seat.life.take()
            {
                life.abandon();
                self.child_down(index, Exit::Hung(busy), ctx);
            }
        }
    }

    /// A pool grows or shrinks to the wanted number of children, at its end, whenever that changes.
    fn follow(&mut self, ctx: &mut Context<Self>) {
        let Some(growth) = &mut self.growth else { return };
        let (wanted, make) = (*growth.size.borrow_and_update(), growth.make.clone());
        let mut size = growth.size.clone();
        let changed = async move { size.changed().await.is_ok() };
        ctx.spawn(changed.into_actor(self).map(|changed, act, ctx| {
            if changed {
                act.follow(ctx);
            }
        }));
        while self.seats.len() < wanted {
            self.seat(make(self.seats.len()));
        }
        let surplus = self.take(wanted..self.seats.len().max(wanted));
        while self.seats.len() > wanted {
            self.remove(self.seats.len() - 1);
        }
        if !surplus.is_empty() {
            self.stop_all(surplus, ctx);
        }
        self.start_vacant(0..self.seats.len(), ctx);
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.start_vacant(0..self.seats.len(), ctx);
        let limits = self.seats.iter().filter_map(|seat| seat.spec.hang_after);
        let look = limits.min().map_or(Duration::from_secs(5), |limit| limit / 4);
        ctx.run_interval(look.clamp(Duration::from_millis(10), Duration::from_secs(5)), Self::watch);
        self.follow(ctx);
    }

    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        self.closing = true;
        self.queue.clear();
        for (_, timer) in self.pending.drain(..) {
            ctx.cancel_future(timer);
        }
        if self.busy {
            return Running::Continue;
        }
        let all = self.take(0..self.seats.len());
        if all.is_empty() {
            return Running::Stop;
        }
        self.stop_all(all, ctx);
        Running::Continue
    }
}

/// Why a supervisor did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No child has that id.
    #[error("there is no such child")]
    NotFound,
    /// A child of that id runs already.
    #[error("the child is running")]
    Running,
    /// A child of that id is there, and is down.
    #[error("the child is already there, and down")]
    AlreadyPresent,
    /// The child is down and will be started again by itself.
    #[error("the child is being restarted")]
    Restarting,
}

/// Adds a child at the end, and starts it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct StartChild(pub ChildSpec);

/// Stops a child and keeps it down; its spec stays, unless it is temporary. Twice is as once.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct TerminateChild(pub String);

/// Starts a child that is down and stays down.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct RestartChild(pub String);

/// Forgets the spec of a child that is down and stays down.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct DeleteChild(pub String);

/// Makes the group another one, in this order. The children to keep go on as they are, and are made by their new spec
/// when they are started again; all others are stopped, last first, before the new ones are started. The next message
/// is handled when they have stopped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Renew {
    /// The whole group, in its order of start.
    pub children: Vec<ChildSpec>,
    /// The ids of those that go on; of the others that run, none does.
    pub keep: Vec<String>,
}

/// Counts the children: specs, and those that run.
#[derive(Debug, Message)]
#[rtype(result = "(usize, usize)")]
pub struct Count;

impl Supervisor {
    /// The child that is down for good, by position.
    fn down(&self, id: &str) -> Result<usize, Refusal> {
        let index = self.find(id).ok_or(Refusal::NotFound)?;
        let waiting =
            self.queue.contains(&index) || self.pending.iter().any(|(range, _)| range.contains(&index));
        match self.seats.get(index) {
            Some(seat) if seat.life.is_some() => Err(Refusal::Running),
            Some(seat) if waiting && !seat.held => Err(Refusal::Restarting),
            _ => Ok(index),
        }
    }
}

impl Handler<StartChild> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, StartChild(spec): StartChild, ctx: &mut Context<Self>) -> Self::Result {
        if let Some(seat) = self.find(&spec.id).and_then(|index| self.seats.get(index)) {
            return Err(if seat.life.is_some() { Refusal::Running } else { Refusal::AlreadyPresent });
        }
        self.seat(spec);
        self.start_vacant(self.seats.len() - 1..self.seats.len(), ctx);
        Ok(())
    }
}

impl Handler<TerminateChild> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, TerminateChild(id): TerminateChild, ctx: &mut Context<Self>) -> Self::Result {
        let index = self.find(&id).ok_or(Refusal::NotFound)?;
        let leaving = self.take(index..index + 1);
        match self.seats.get_mut(index) {
            Some(seat) if seat.spec.restart == Restart::Temporary => self.remove(index),
            Some(seat) => {
                seat.held = true;
                self.note(index, State::Stopped);
            }
            None => {}
        }
        if !leaving.is_empty() {
            self.stop_all(leaving, ctx);
        }
        Ok(())
    }
}

impl Handler<RestartChild> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, RestartChild(id): RestartChild, ctx: &mut Context<Self>) -> Self::Result {
        let index = self.down(&id)?;
        if let Some(seat) = self.seats.get_mut(index) {
            seat.held = false;
        }
        self.start_vacant(index..index + 1, ctx);
        Ok(())
    }
}

impl Handler<DeleteChild> for Supervisor {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, DeleteChild(id): DeleteChild, _: &mut Context<Self>) -> Self::Result {
        let index = self.down(&id)?;
        self.remove(index);
        Ok(())
    }
}

impl Handler<Renew> for Supervisor {
    type Result = ();

    fn handle(&mut self, Renew { children, keep }: Renew, ctx: &mut Context<Self>) {
        // What waits for its next start is started now: the change may be what it waited for.
        self.queue.clear();
        for (_, timer) in self.pending.drain(..) {
            ctx.cancel_future(timer);
        }
        let mut before = std::mem::take(&mut self.seats);
        let mut leaving = Vec::new();
        for seat in &mut before {
            let stays = children.iter().any(|spec| spec.id == seat.spec.id);
            if !stays || !keep.contains(&seat.spec.id) {
                self.renewed.push(seat.number);
                leaving.extend(seat.leave());
            }
        }
        for spec in children {
            let known = before.iter().position(|seat| seat.spec.id == spec.id);
            let seat = match known {
                Some(index) => Seat { spec, in_a_row: 0, ..before.swap_remove(index) },
                None => self.vacant(spec),
            };
            self.seats.push(seat);
        }
        self.stop_all(leaving, ctx);
        self.start_vacant(0..self.seats.len(), ctx);
    }
}

impl Handler<Count> for Supervisor {
    type Result = MessageResult<Count>;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> Self::Result {
        MessageResult((self.seats.len(), self.seats.iter().filter(|seat| seat.life.is_some()).count()))
    }
}
