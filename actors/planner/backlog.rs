//! The finished jobs of a lane that wait for a worker, in the lane's order.

use crate::completion::CompleteJob;
use config::Order;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// So many jobs wait in memory; a sweep finds the others again.
const MOST: usize = 10_000;

/// A bounded queue of jobs, ordered as the lane says.
#[derive(Debug)]
pub struct Backlog {
    order: Order,
    jobs: BTreeMap<(u64, SystemTime, Box<[u8]>), CompleteJob>,
    bytes: u64,
}

impl Backlog {
    /// An empty one.
    pub fn new(order: Order) -> Self {
        Backlog { order, jobs: BTreeMap::new(), bytes: 0 }
    }

    /// From now on jobs leave in this order.
    pub fn order_by(&mut self, order: Order) {
        if self.order != order {
            let Backlog { jobs, .. } = std::mem::replace(self, Backlog::new(order));
            jobs.into_values().for_each(|job| self.push(job));
        }
    }

    /// Takes a job in; the last in order is let go when there are too many.
    pub fn push(&mut self, job: CompleteJob) {
        let weight = match self.order {
            Order::Oldest => 0,
            Order::Smallest => job.bytes(),
            Order::Largest => u64::MAX - job.bytes(),
        };
        self.bytes += job.bytes();
        let key = (weight, job.finished_at(), job.job().as_bytes().into());
        if let Some(twin) = self.jobs.insert(key, job) {
            self.bytes -= twin.bytes();
        }
        if self.jobs.len() > MOST
            && let Some((_, last)) = self.jobs.pop_last()
        {
            self.bytes -= last.bytes();
        }
    }

    /// The next job in order.
    pub fn pop(&mut self) -> Option<CompleteJob> {
        let (_, job) = self.jobs.pop_first()?;
        self.bytes -= job.bytes();
        Some(job)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Is nobody waiting?
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holds::Holds;
    use crate::lab::RelPath;
    use std::time::{Duration, UNIX_EPOCH};

    fn order_of(order: Order) -> Vec<String> {
        let holds = Holds::default();
        let mut backlog = Backlog::new(order);
        for (name, age, bytes) in [("1-a", 2, 50), ("2-b", 1, 10), ("3-c", 3, 90)] {
            let hold = holds.take(&RelPath::new(name.as_bytes()).unwrap()).unwrap();
            backlog.push(CompleteJob::sample(hold, UNIX_EPOCH + Duration::from_secs(age), bytes));
        }
        assert_eq!((backlog.len(), backlog.bytes()), (3, 150));
        let names = std::iter::from_fn(|| backlog.pop()).map(|job| job.job().to_string()).collect();
        assert_eq!(backlog.bytes(), 0);
        names
    }

    #[test]
    fn the_order_changes_with_jobs_waiting() {
        let holds = Holds::default();
        let mut backlog = Backlog::new(Order::Oldest);
        for (name, age, bytes) in [("1-a", 2, 50), ("2-b", 1, 10)] {
            let hold = holds.take(&RelPath::new(name.as_bytes()).unwrap()).unwrap();
            backlog.push(CompleteJob::sample(hold, UNIX_EPOCH + Duration::from_secs(age), bytes));
        }
        backlog.order_by(Order::Largest);
        assert_eq!((backlog.len(), backlog.bytes()), (2, 60));
        assert_eq!(backlog.pop().unwrap().job().to_string(), "1-a");
    }

    #[test]
    fn jobs_leave_in_the_order_that_the_lane_says() {
        assert_eq!(order_of(Order::Oldest), ["2-b", "1-a", "3-c"]);
        assert_eq!(order_of(Order::Smallest), ["2-b", "1-a", "3-c"]);
        assert_eq!(order_of(Order::Largest), ["3-c", "1-a", "2-b"]);
    }
}
