//! How many jobs of a lane are under way at once; changed while they are.
//!
//! The number shrinks as jobs end: none is cut off. The pool of uploaders that serves the seats only grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::watch;

/// The workers of a lane.
#[derive(Debug)]
pub struct Seats {
    size: AtomicUsize,
    taken: AtomicUsize,
    most: watch::Sender<usize>,
}

impl Seats {
    /// So many.
    pub fn new(size: usize) -> Arc<Self> {
        let (most, _) = watch::channel(size);
        Arc::new(Seats { size: AtomicUsize::new(size), taken: AtomicUsize::new(0), most })
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size.load(Relaxed)
    }

    /// From now on there are so many.
    pub fn resize(&self, size: usize) {
        self.size.store(size, Relaxed);
        self.most.send_if_modified(|most| std::mem::replace(most, size.max(*most)) < size);
    }

    /// The most that there have been, now and whenever it changes.
    pub fn most(&self) -> watch::Receiver<usize> {
        self.most.subscribe()
    }

    /// Takes one, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let size = self.size();
        let more = |taken| (taken < size).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Seat(self.clone()))
    }
}

/// One worker's place, until dropped.
#[derive(Debug)]
pub struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_come_and_go_and_nobody_is_cut_off() {
        let seats = Seats::new(1);
        let first = seats.take().unwrap();
        assert!(seats.take().is_none());
        seats.resize(3);
        let others = [seats.take().unwrap(), seats.take().unwrap()];
        assert!(seats.take().is_none());
        seats.resize(1);
        drop(others);
        assert!(seats.take().is_none(), "one is still taken, and there is one");
        drop(first);
        assert!(seats.take().is_some());
        assert_eq!((seats.size(), *seats.most().borrow()), (1, 3));
    }
}
