//! The pauses before restarts, on a paused clock.

use crate::stage::{Do, Family, SECOND, policy};
use kernel::{Backoff, OnExhaustion, Policy, State, Strategy};
use tokio::time::Instant;

const MANY: Policy = Policy {
    strategy: Strategy::OneForOne,
    intensity: 1000,
    period: std::time::Duration::from_secs(1),
    on_exhaustion: OnExhaustion::Escalate,
};

async fn pause_of_next_restart(family: &Family) -> f64 {
    let generation = family.generation("a");
    family.kids[0].tell(Do::Panic).unwrap();
    let begun = Instant::now();
    while family.generation("a") == generation {
        tokio::time::sleep(SECOND / 100).await;
    }
    begun.elapsed().as_secs_f64()
}

#[actix_rt::test]
async fn pauses_double_and_stop_growing() {
    tokio::time::pause();
    let backoff = Backoff { first: SECOND, most: SECOND * 8, quiet: SECOND * 3600 };
    let family = Family::new(MANY, move |spec| spec.backoff(backoff)).await;
    for expected in [1.0, 2.0, 4.0, 8.0, 8.0] {
        let pause = pause_of_next_restart(&family).await;
        assert!(
            (expected * 0.79..=expected * 1.22).contains(&pause),
            "{pause} s instead of about {expected} s"
        );
        tokio::time::sleep(SECOND / 10).await;
    }
}

#[actix_rt::test]
async fn a_child_that_lived_long_enough_begins_with_the_first_pause() {
    tokio::time::pause();
    let backoff = Backoff { first: SECOND, most: SECOND * 60, quiet: SECOND * 100 };
    let family = Family::new(MANY, move |spec| spec.backoff(backoff)).await;
    for _ in 0..4 {
        pause_of_next_restart(&family).await;
        tokio::time::sleep(SECOND / 10).await;
    }
    tokio::time::sleep(SECOND * 101).await;
    let pause = pause_of_next_restart(&family).await;
    assert!(pause <= 1.22, "{pause} s after a quiet time");
}

#[actix_rt::test]
async fn a_child_that_waits_says_until_when() {
    tokio::time::pause();
    let backoff = Backoff { first: SECOND * 30, most: SECOND * 30, quiet: SECOND * 100 };
    let family = Family::new(policy(Strategy::OneForOne, 5), move |spec| spec.backoff(backoff)).await;
    family.tell(0, Do::Panic).await;
    assert!(matches!(family.state("a"), Some(State::BackingOff(_))), "{:?}", family.state("a"));
    assert_eq!(family.state("b"), Some(State::Running));
}
