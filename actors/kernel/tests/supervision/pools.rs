//! A pool grows and shrinks while it runs, and shares the work.

use crate::stage::{Book, Do, Kid, SECOND, policy, settle, steady};
use kernel::{ChildSpec, PoolRef, Strategy, Tree};
use tokio::sync::watch;

fn pool(size: watch::Receiver<usize>, pool: &PoolRef<Kid>, book: &Book) -> ChildSpec {
    let book = book.clone();
    let treat = |spec: ChildSpec| spec.own_thread(false).backoff(steady(SECOND / 10)).stop_within(SECOND);
    ChildSpec::pool("pool", pool, policy(Strategy::OneForOne, 5), size, treat, move |index, verdict| Kid {
        name: (index + 1).to_string(),
        book: book.clone(),
        verdict,
        slow_to_stop: false,
        dies_at_birth: false,
        panics_when_stopped: false,
    })
}

#[actix_rt::test]
async fn a_pool_follows_its_size() {
    tokio::time::pause();
    let (size, wanted) = watch::channel(2);
    let (members, book) = (PoolRef::vacant(), Book::default());
    let tree = Tree::start(&pool(wanted, &members, &book), 4).unwrap();
    settle().await;
    assert_eq!(book.read(), ["start 1", "start 2"]);
    size.send(4).unwrap();
    settle().await;
    assert_eq!(book.read(), ["start 3", "start 4"]);
    size.send(1).unwrap();
    settle().await;
    assert_eq!(book.read(), ["stop 4", "stop 3", "stop 2"]);
    assert_eq!(tree.census().children().len(), 1);
}

#[actix_rt::test]
async fn work_goes_round_and_past_a_member_that_is_down() {
    tokio::time::pause();
    let (_size, wanted) = watch::channel(3);
    let (members, book) = (PoolRef::vacant(), Book::default());
    let tree = Tree::start(&pool(wanted, &members, &book), 4).unwrap();
    settle().await;
    members.member(0).tell(Do::Panic).unwrap();
    while !members.member(0).is_vacant() {
        tokio::task::yield_now().await;
    }
    (0..6).for_each(|number| members.tell(Do::Note(number)).unwrap());
    settle().await;
    assert_eq!(book.read().iter().filter(|line| line.starts_with("note")).count(), 6);
    assert!(tree.stop(SECOND * 10).await.is_some());
    assert_eq!(members.tell(Do::Note(1)), Err(Do::Note(1)));
}
