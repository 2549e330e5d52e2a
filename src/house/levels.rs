//! How many restarts each level of the tree bears, and how fast they follow each other.

use kernel::{Backoff, OnExhaustion, Policy, Strategy};
use std::time::Duration;

/// A branch that gave up is tried again after so long (DESIGN.md, the tree).
const REST: Duration = Duration::from_secs(600);

/// The policies of the tree, level by level from the workers up. Each has a period that is long enough to see
/// the level below give up as often as it takes (`kernel::escalates_in_time`).
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    /// Of a lane's uploaders.
    pub pool: Policy,
    /// Of a lane's stages.
    pub lane: Policy,
    /// Of all lanes.
    pub lanes: Policy,
    /// Of the ledger and what depends on it.
    pub offload: Policy,
    /// Of the whole.
    pub root: Policy,
}

impl Levels {
    /// Workers bear what the operator says; what is above bears two, more seldom.
    pub fn of(supervision: &config::Supervision) -> Self {
        let own = supervision.max_restarts;
        let mut below = Duration::ZERO;
        let mut level = |strategy, intensity: usize| {
            let period =
                supervision.window.max(Self::to_escalate(supervision, intensity, below).mul_f64(1.5));
            below = Self::to_escalate(supervision, intensity, below);
            Policy { strategy, intensity, period, on_exhaustion: OnExhaustion::Escalate }
        };
        let pool = level(Strategy::OneForOne, own);
        let lane = level(Strategy::OneForOne, own);
        let lanes = level(Strategy::OneForOne, 2);
        let offload = level(Strategy::RestForOne, own);
        let root = level(Strategy::OneForOne, 2);
        Levels {
            pool,
            lane,
            lanes,
            offload,
            root: Policy { on_exhaustion: OnExhaustion::Rest(REST), ..root },
        }
    }

    /// The time in which a supervisor gives up, at the most, whose child gives up in `below` each time it is started.
    fn to_escalate(supervision: &config::Supervision, intensity: usize, below: Duration) -> Duration {
        let restarts = u32::try_from(intensity).unwrap_or(u32::MAX);
        // Pauses have a jitter of a fifth.
        let pauses: Duration =
            (1..=restarts.min(64)).map(|nth| backoff(supervision).pause(nth).mul_f64(1.2)).sum();
        below.saturating_mul(restarts.saturating_add(1)).saturating_add(pauses)
    }
}

/// The pauses before restarts, as the operator set them.
pub fn backoff(supervision: &config::Supervision) -> Backoff {
    let (first, most) = (supervision.backoff.first, supervision.backoff.most);
    Backoff { first, most, quiet: supervision.window }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::escalates_in_time;

    #[test]
    fn every_level_can_see_the_one_below_give_up() {
        let supervision = config::Supervision::default();
        let levels = Levels::of(&supervision);
        let (mut below, ladder) =
            (Duration::ZERO, [levels.pool, levels.lane, levels.lanes, levels.offload, levels.root]);
        for policy in ladder {
            assert!(escalates_in_time(&policy, below), "{policy:?} never sees {below:?}");
            below = Levels::to_escalate(&supervision, policy.intensity, below);
        }
        assert_eq!((levels.lane.intensity, levels.lane.period), (5, supervision.window));
    }
}
