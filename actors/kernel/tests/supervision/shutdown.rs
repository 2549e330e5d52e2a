//! A stop goes through the tree in reverse, and always ends.

use crate::stage::{Book, Do, Family, Kid, SECOND, kid, lines, made, policy, settle};
use kernel::{Backoff, ChildRef, ChildSpec, Exit, Restart, Strategy, Tree};

/// 1, 16, 85
#[actix_rt::test]
async fn children_stop_in_reverse_order() {
    tokio::time::pause();
    let family = Family::new(policy(Strategy::OneForOne, 1), |spec| spec).await;
    family.book.read();
    let census = family.census().clone();
    assert_eq!(family.tree.stop(SECOND * 60).await, Some(Exit::Shutdown));
    assert_eq!(family.book.read(), lines("stop c, stop b, stop a"));
    assert!(census.children().iter().all(|child| child.last_exit.as_ref().unwrap().1 == Exit::Shutdown));
}

/// 17, 18
#[actix_rt::test]
async fn a_child_that_does_not_stop_has_its_own_time_and_no_more() {
    tokio::time::pause();
    let book = Book::default();
    let noted = book.clone();
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 1), move || {
        let slow = made("slow", &ChildRef::vacant(), &noted, |kid| Kid { slow_to_stop: true, ..kid });
        vec![kid("a", &ChildRef::vacant(), &noted), slow.stop_within(SECOND * 7)]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    settle().await;
    let (begun, census) = (tokio::time::Instant::now(), tree.census().clone());
    assert_eq!(tree.stop(SECOND * 60).await, Some(Exit::Shutdown));
    assert!((SECOND * 7..SECOND * 8).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(census.child("root/slow").unwrap().last_exit.unwrap().1, Exit::Abandoned(SECOND * 7));
    assert_eq!(book.count("stop a"), 1);
}

/// 16: supervisors have all the time that their children need.
#[actix_rt::test]
async fn a_supervisor_waits_for_its_children() {
    tokio::time::pause();
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 1), || {
        vec![ChildSpec::supervisor("branch", policy(Strategy::OneForOne, 1), || {
            let slow = |name| {
                made(name, &ChildRef::vacant(), &Book::default(), |kid| Kid { slow_to_stop: true, ..kid })
            };
            vec![slow("x").stop_within(SECOND * 100), slow("y").stop_within(SECOND * 100)]
        })]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    settle().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(tree.stop(SECOND * 1000).await, Some(Exit::Shutdown));
    assert!(begun.elapsed() >= SECOND * 200);
}

/// Ours: the process has a deadline of its own.
#[actix_rt::test]
async fn a_stop_ends_with_its_deadline() {
    tokio::time::pause();
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 1), || {
        vec![
            made("x", &ChildRef::vacant(), &Book::default(), |kid| Kid { slow_to_stop: true, ..kid })
                .stop_within(SECOND * 100),
        ]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    settle().await;
    assert_eq!(tree.stop(SECOND * 5).await, None);
}

/// 21: children that end by themselves meanwhile, in every way, under every restart rule.
#[actix_rt::test]
async fn a_child_that_dies_during_the_stop_is_not_restarted() {
    tokio::time::pause();
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for what in [Do::Stop, Do::Fail("late"), Do::Panic] {
            let family = Family::new(policy(Strategy::OneForOne, 9), move |spec| spec.restart(restart)).await;
            family.book.read();
            family.kids[0].tell(what).unwrap();
            assert_eq!(family.tree.stop(SECOND * 60).await, Some(Exit::Shutdown));
            assert_eq!(family.book.read().iter().filter(|line| line.starts_with("start")).count(), 0);
        }
    }
}

/// 78, 79: a restart that waits does not hold the stop.
#[actix_rt::test]
async fn a_stop_during_a_restart_loop_ends() {
    tokio::time::pause();
    let long = Backoff { first: SECOND * 1000, most: SECOND * 1000, quiet: SECOND };
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let family = Family::new(policy(strategy, 5), move |spec| spec.backoff(long)).await;
        family.tell(1, Do::Panic).await;
        family.book.read();
        let begun = tokio::time::Instant::now();
        assert_eq!(family.tree.stop(SECOND * 60).await, Some(Exit::Shutdown));
        assert!(begun.elapsed() < SECOND * 2);
        assert_eq!(family.book.count("start b"), 0);
    }
}

/// Ours: a tree that is dropped leaves nobody running.
#[actix_rt::test]
async fn a_dropped_tree_stops() {
    tokio::time::pause();
    let family = Family::new(policy(Strategy::OneForOne, 1), |spec| spec).await;
    let Family { tree, kids, book } = family;
    drop(tree);
    settle().await;
    assert!(kids.iter().all(ChildRef::is_vacant));
    assert_eq!((book.count("stop a"), book.count("stop b"), book.count("stop c")), (1, 1, 1));
}
