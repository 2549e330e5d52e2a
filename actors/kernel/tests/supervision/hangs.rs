//! A child that no longer comes back from a poll is replaced; its thread is left to itself, and counted.

use crate::stage::{Book, Do, kid, policy};
use kernel::{ChildRef, ChildSpec, Ended, Exit, State, Strategy, Tree};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(100);

fn blocking(address: &ChildRef<crate::stage::Kid>, book: &Book) -> ChildSpec {
    let (address, book) = (address.clone(), book.clone());
    ChildSpec::supervisor("root", policy(Strategy::OneForOne, 9), move || {
        vec![
            kid("a", &address, &book).own_thread(true).hang_after(LIMIT),
            kid("b", &ChildRef::vacant(), &book),
        ]
    })
}

/// Waits in real time: a hung thread knows no paused clock.
async fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix_rt::test]
async fn a_hung_child_is_replaced_and_its_neighbour_does_not_notice() {
    let (address, book) = (ChildRef::vacant(), Book::default());
    let tree = Tree::start(&blocking(&address, &book), 4).unwrap();
    until(|| book.count("start b") == 1).await;
    address.tell(Do::Block(Duration::from_secs(2))).unwrap();
    until(|| book.count("start a") == 2).await;
    let child = tree.census().child("root/a").unwrap();
    assert!(matches!(child.last_exit.unwrap().1, Exit::Hung(time) if time >= LIMIT));
    assert_eq!(tree.census().abandoned(), 1);
    address.tell(Do::Note(7)).unwrap();
    until(|| book.count("note 7") == 1).await;
    assert_eq!(book.count("start b"), 1);
}

#[actix_rt::test]
async fn an_abandoned_thread_that_comes_back_ends_and_is_no_longer_counted() {
    let (address, book) = (ChildRef::vacant(), Book::default());
    let tree = Tree::start(&blocking(&address, &book), 4).unwrap();
    until(|| !address.is_vacant()).await;
    address.tell(Do::Block(Duration::from_millis(600))).unwrap();
    until(|| tree.census().abandoned() == 1).await;
    until(|| tree.census().abandoned() == 0).await;
    until(|| tree.census().child("root/a").unwrap().state == State::Running).await;
    assert_eq!(tree.census().child("root/a").unwrap().generation, 2, "its late exit counted");
}

#[actix_rt::test]
async fn too_many_abandoned_threads_end_the_tree() {
    let (address, book) = (ChildRef::vacant(), Book::default());
    let tree = Tree::start(&blocking(&address, &book), 1).unwrap();
    let ended = tree.ended();
    for generation in 1..=2 {
        until(|| book.count("start a") == generation && !address.is_vacant()).await;
        address.tell(Do::Block(Duration::from_secs(3))).unwrap();
        until(|| tree.census().abandoned() >= generation).await;
    }
    assert_eq!(ended.await, Ended::TooManyAbandoned(2));
}

/// 17, 19: there is no kill in Rust; what does not stop in its time is left to itself.
#[actix_rt::test]
async fn a_child_that_blocks_during_the_stop_is_abandoned_after_its_time() {
    let (address, book) = (ChildRef::vacant(), Book::default());
    let (given, noted) = (address.clone(), book.clone());
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 1), move || {
        vec![kid("a", &given, &noted).own_thread(true).stop_within(LIMIT)]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    until(|| !address.is_vacant() && book.count("start a") == 1).await;
    address.tell(Do::Block(Duration::from_secs(2))).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let census = tree.census().clone();
    assert_eq!(tree.stop(Duration::from_secs(20)).await, Some(Exit::Shutdown));
    assert_eq!(census.child("root/a").unwrap().last_exit.unwrap().1, Exit::Abandoned(LIMIT));
    assert_eq!(census.abandoned(), 1);
}
