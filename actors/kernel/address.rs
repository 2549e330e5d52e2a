//! Stable addresses: a child's incarnations come and go, its address stays.
//!
//! The rule for messages: while a child is down, or its mailbox is full, [`ChildRef::tell`] hands the
//! message back to the sender. What was accepted and not handled when the child ends dies with its
//! mailbox. So delivery is at most once, and nothing waits in a queue that nobody bounds.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A stable address of one child. Clones share it; it may be used from any thread.
pub struct ChildRef<A: Actor<Context = Context<A>>>(Arc<Mutex<Seat<A>>>);

struct Seat<A: Actor<Context = Context<A>>> {
    addr: Option<Addr<A>>,
    generation: u64,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody has the address now: the child is down, and the question was not delivered.
    #[error("the actor is down")]
    Vacant,
    /// The child ended before it answered; whether it had read the question is unknown.
    #[error("the actor ended before it answered")]
    Lost,
}

impl<A: Actor<Context = Context<A>>> ChildRef<A> {
    /// An address that nobody has yet.
    pub fn vacant() -> Self {
        ChildRef(Arc::new(Mutex::new(Seat { addr: None, generation: 0 })))
    }

    /// Is there somebody at the address now?
    pub fn is_vacant(&self) -> bool {
        self.seat().addr.is_none()
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// The message itself, while the child is down or its mailbox is full.
    pub fn tell<M>(&self, message: M) -> Result<(), M>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
        Context<A>: ToEnvelope<A, M>,
    {
        match &self.seat().addr {
            Some(addr) => addr.try_send(message).map_err(|refused| refused.into_inner()),
            None => Err(message),
        }
    }

    /// Sends, waiting for room in the mailbox, and waits for the answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, Unanswered>
    where
        M: Message<Result: Send> + Send + 'static,
        A: Handler<M>,
        Context<A>: ToEnvelope<A, M>,
    {
        let addr = self.seat().addr.clone().ok_or(Unanswered::Vacant)?;
        addr.send(message).await.map_err(|error| match error {
            MailboxError::Closed | MailboxError::Timeout => Unanswered::Lost,
        })
    }

    /// The same address, for one kind of message, with the actor's type forgotten.
    pub fn next<M>(&self) -> Next<M>
    where
        M: Message<Result = ()> + Send + 'static,
        A: Handler<M>,
    {
        let child = self.clone();
        Next::from_fn(move |message| child.tell(message))
    }

    pub(crate) fn occupy(&self, addr: Addr<A>, generation: u64) {
        *self.seat() = Seat { addr: Some(addr), generation };
    }

    /// Leaves the seat, unless a later generation has it.
    pub(crate) fn leave(&self, generation: u64) {
        let mut seat = self.seat();
        if seat.generation == generation {
            seat.addr = None;
        }
    }

    fn seat(&self) -> MutexGuard<'_, Seat<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Actor<Context = Context<A>>> Clone for ChildRef<A> {
    fn clone(&self) -> Self {
        ChildRef(self.0.clone())
    }
}

impl<A: Actor<Context = Context<A>>> Debug for ChildRef<A> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "ChildRef({})", std::any::type_name::<A>())
    }
}

/// What a [`Next`] does with a message: take it, or hand it back.
type Take<M> = dyn Fn(M) -> Result<(), M> + Send + Sync;

/// Where one kind of message goes next.
pub struct Next<M>(Arc<Take<M>>);

impl<M: 'static> Next<M> {
    /// Sends to whatever `take` says.
    pub fn from_fn(take: impl Fn(M) -> Result<(), M> + Send + Sync + 'static) -> Self {
        Next(Arc::new(take))
    }

    /// Hands every message back.
    pub fn nowhere() -> Self {
        Next::from_fn(Err)
    }

    /// As [`ChildRef::tell`].
    ///
    /// # Errors
    /// The message itself, when it was not taken.
    pub fn tell(&self, message: M) -> Result<(), M> {
        (self.0)(message)
    }
}

impl<M> Clone for Next<M> {
    fn clone(&self) -> Self {
        Next(self.0.clone())
    }
}

impl<M> Debug for Next<M> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Next({})", std::any::type_name::<M>())
    }
}
