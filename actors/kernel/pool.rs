//! A number of equal children that grows and shrinks while they run.

use crate::supervisor::Growth;
use crate::{ChildRef, ChildSpec, Next, Policy, Verdict};
use actix::dev::ToEnvelope;
use actix::{Actor, Context, Handler, Message};
use std::fmt::{self, Debug, Formatter};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The stable address of a pool: a message goes to the next member that takes it.
pub struct PoolRef<A: Actor<Context = Context<A>>>(Arc<Members<A>>);

struct Members<A: Actor<Context = Context<A>>> {
    members: Mutex<Vec<ChildRef<A>>>,
    turn: AtomicUsize,
}

impl<A: Actor<Context = Context<A>>> PoolRef<A> {
    /// The address of a pool that has no members yet.
    pub fn vacant() -> Self {
        PoolRef(Arc::new(Members { members: Mutex::default(), turn: AtomicUsize::new(0) }))
    }

    /// The address of one member, from 0.
    pub fn member(&self, index: usize) -> ChildRef<A> {
        let mut members = self.members();
        while members.len() <= index {
            members.push(ChildRef::vacant());
        }
        members.get(index).cloned().unwrap_or_else(ChildRef::vacant)
    }

    /// Offers a message to each member in turn, beginning after the one that took the last.
    ///
    /// # Errors
    /// The message itself, when no member takes it.
    pub fn tell<M>(&self, message: M) -> Result<(), M>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
        Context<A>: ToEnvelope<A, M>,
    {
        let members = self.members().clone();
        let first = self.0.turn.fetch_add(1, Relaxed);
        let mut message = message;
        for offset in 0..members.len() {
            let Some(member) = members.get((first + offset) % members.len()) else { continue };
            match member.tell(message) {
                Ok(()) => return Ok(()),
                Err(refused) => message = refused,
            }
        }
        Err(message)
    }

    /// The same address, for one kind of message, with the actor's type forgotten.
    pub fn next<M>(&self) -> Next<M>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
    {
        let pool = self.clone();
        Next::from_fn(move |message| pool.tell(message))
    }

    fn members(&self) -> MutexGuard<'_, Vec<ChildRef<A>>> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Actor<Context = Context<A>>> Clone for PoolRef<A> {
    fn clone(&self) -> Self {
        PoolRef(self.0.clone())
    }
}

impl<A: Actor<Context = Context<A>>> Debug for PoolRef<A> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "PoolRef({})", std::any::type_name::<A>())
    }
}

impl ChildSpec {
    /// A pool of equal workers, `id/1` and up, as many as `size` says at any time. `treat` adds to each
    /// worker's spec what all of them share.
    pub fn pool<A>(
        id: impl Into<String>,
        pool: &PoolRef<A>,
        policy: Policy,
        size: watch::Receiver<usize>,
        treat: impl Fn(ChildSpec) -> ChildSpec + Send + Sync + 'static,
        make: impl Fn(usize, Verdict) -> A + Send + Sync + 'static,
    ) -> Self
    where
        A: Actor<Context = Context<A>>,
    {
        let (pool, make) = (pool.clone(), Arc::new(make));
        let member = move |index: usize| {
            let make = make.clone();
            let spec = ChildSpec::worker((index + 1).to_string(), &pool.member(index), move |verdict| {
                make(index, verdict)
            });
            treat(spec)
        };
        let member: Arc<dyn Fn(usize) -> ChildSpec + Send + Sync> = Arc::new(member);
        let growth = Growth { size: size.clone(), make: member.clone() };
        let children = move || (0..*size.borrow()).map(|index| member(index)).collect();
        ChildSpec::supervisor_of(id, &ChildRef::vacant(), policy, Arc::new(children), Some(growth))
    }
}
