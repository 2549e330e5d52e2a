//! Who is started again, after which exit.

use crate::stage::{Do, Family, SECOND, lines, policy, settle};
use kernel::{Exit, Restart, State, Strategy};

async fn family(strategy: Strategy, restart: Restart) -> Family {
    let family = Family::new(policy(strategy, 2), move |spec| spec.restart(restart)).await;
    assert_eq!(family.book.read(), lines("start a, start b, start c"));
    family
}

/// 30: the others never notice.
#[actix_rt::test]
async fn one_for_one_restarts_the_dead_child_only() {
    tokio::time::pause();
    let family = family(Strategy::OneForOne, Restart::Permanent).await;
    family.tell(1, Do::Panic).await;
    assert_eq!(family.book.read(), lines("stop b, start b").split_off(1));
    assert_eq!((family.generation("a"), family.generation("b"), family.generation("c")), (1, 2, 1));
}

/// 32: all stop in reverse and start in order.
#[actix_rt::test]
async fn one_for_all_restarts_everybody_in_order() {
    tokio::time::pause();
    let family = family(Strategy::OneForAll, Restart::Permanent).await;
    family.tell(1, Do::Panic).await;
    assert_eq!(family.book.read(), lines("stop c, stop a, start a, start b, start c"));
}

/// 40: the earlier one keeps running.
#[actix_rt::test]
async fn rest_for_one_restarts_the_later_ones_in_order() {
    tokio::time::pause();
    let family = family(Strategy::RestForOne, Restart::Permanent).await;
    family.tell(1, Do::Panic).await;
    assert_eq!(family.book.read(), lines("stop c, start b, start c"));
    assert_eq!(family.generation("a"), 1);
}

/// 43, 46, 50
#[actix_rt::test]
async fn a_permanent_child_is_restarted_after_every_exit() {
    tokio::time::pause();
    for what in [Do::Stop, Do::Fail("no disk"), Do::Panic] {
        let family = family(Strategy::OneForOne, Restart::Permanent).await;
        family.tell(0, what).await;
        assert_eq!((family.state("a"), family.generation("a")), (Some(State::Running), 2));
    }
}

/// 44, 47
#[actix_rt::test]
async fn a_transient_child_is_not_restarted_after_a_normal_exit_and_its_spec_stays() {
    tokio::time::pause();
    let family = family(Strategy::OneForOne, Restart::Transient).await;
    family.tell(0, Do::Stop).await;
    assert_eq!((family.state("a"), family.generation("a")), (Some(State::Stopped), 1));
    assert_eq!(family.exit("a"), Exit::Normal);
}

/// 51
#[actix_rt::test]
async fn a_transient_child_is_restarted_after_an_abnormal_exit() {
    tokio::time::pause();
    for what in [Do::Fail("no disk"), Do::Panic] {
        let family = family(Strategy::OneForOne, Restart::Transient).await;
        family.tell(0, what).await;
        assert_eq!((family.state("a"), family.generation("a")), (Some(State::Running), 2));
    }
}

/// 45, 48, 52, 73, 74: in every strategy, however it dies.
#[actix_rt::test]
async fn a_temporary_child_is_never_restarted_and_its_spec_is_gone() {
    tokio::time::pause();
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        for what in [Do::Stop, Do::Fail("no disk"), Do::Panic] {
            let family = family(strategy, Restart::Temporary).await;
            family.tell(1, what).await;
            assert_eq!((family.state("b"), family.census().children().len()), (None, 2));
            assert_eq!((family.state("a"), family.state("c")), (Some(State::Running), Some(State::Running)));
        }
    }
}

/// 76: killed by a sibling's restart, it stays away, and the supervisor lives.
#[actix_rt::test]
async fn a_temporary_bystander_is_not_restarted() {
    tokio::time::pause();
    for (strategy, expected) in
        [(Strategy::OneForAll, "stop c, stop a, start a, start b"), (Strategy::RestForOne, "stop c, start b")]
    {
        let treat =
            |spec: kernel::ChildSpec| if spec.id() == "c" { spec.restart(Restart::Temporary) } else { spec };
        let family = Family::new(policy(strategy, 2), treat).await;
        family.book.read();
        family.tell(1, Do::Panic).await;
        assert_eq!(family.book.read(), lines(expected));
        assert_eq!(family.state("c"), None);
    }
}

/// 29: spaced beyond the period, restarts never add up.
#[actix_rt::test]
async fn restarts_that_are_far_apart_never_exceed_the_intensity() {
    tokio::time::pause();
    let family = Family::new(policy(Strategy::OneForOne, 1), |spec| spec).await;
    for generation in 2..12 {
        family.tell(0, Do::Panic).await;
        tokio::time::sleep(SECOND * 6).await;
        assert_eq!(family.generation("a"), generation);
    }
    assert_eq!(family.state("b"), Some(State::Running));
}

/// 1, 85
#[actix_rt::test]
async fn children_start_in_order_each_after_the_one_before_is_up() {
    tokio::time::pause();
    let family = family(Strategy::OneForOne, Restart::Permanent).await;
    settle().await;
    let census = family.census().children();
    let paths: Vec<&str> = census.iter().map(|child| child.path.as_str()).collect();
    assert_eq!(paths, ["root/a", "root/b", "root/c"]);
    assert!(census.iter().all(|child| child.state == State::Running));
}
