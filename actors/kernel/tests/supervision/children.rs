//! Children that are added, stopped, started and forgotten while the supervisor runs.

use crate::stage::{Book, Do, SECOND, kid, policy, settle};
use kernel::{
    Backoff, ChildRef, ChildSpec, Count, DeleteChild, Refusal, Renew, Restart, RestartChild, StartChild,
    Strategy, Supervisor, TerminateChild, Tree,
};

struct Home {
    tree: Tree,
    door: ChildRef<Supervisor>,
    book: Book,
}

impl Home {
    async fn new(strategy: Strategy) -> Self {
        let (door, book) = (ChildRef::vacant(), Book::default());
        let noted = book.clone();
        let spec = ChildSpec::supervisor_at("root", &door, policy(strategy, 9), move || {
            vec![kid("a", &ChildRef::vacant(), &noted)]
        });
        let tree = Tree::start(&spec, 4).unwrap();
        settle().await;
        Home { tree, door, book }
    }

    async fn start(&self, spec: ChildSpec) -> Result<(), Refusal> {
        let done = self.door.ask(StartChild(spec)).await.unwrap();
        settle().await;
        done
    }

    async fn terminate(&self, id: &str) -> Result<(), Refusal> {
        self.door.ask(TerminateChild(id.into())).await.unwrap()
    }

    async fn restart(&self, id: &str) -> Result<(), Refusal> {
        let done = self.door.ask(RestartChild(id.into())).await.unwrap();
        settle().await;
        done
    }

    async fn delete(&self, id: &str) -> Result<(), Refusal> {
        self.door.ask(DeleteChild(id.into())).await.unwrap()
    }

    async fn count(&self) -> (usize, usize) {
        self.door.ask(Count).await.unwrap()
    }
}

/// 23: running, present, not found; a second stop is as the first.
#[actix_rt::test]
async fn children_are_administered_by_name() {
    tokio::time::pause();
    let home = Home::new(Strategy::OneForOne).await;
    let spec = || kid("b", &ChildRef::vacant(), &home.book);
    assert_eq!(home.start(spec()).await, Ok(()));
    assert_eq!(home.start(spec()).await, Err(Refusal::Running));
    assert_eq!(
        (home.restart("b").await, home.delete("b").await),
        (Err(Refusal::Running), Err(Refusal::Running))
    );
    assert_eq!((home.terminate("b").await, home.terminate("b").await), (Ok(()), Ok(())));
    assert_eq!(home.start(spec()).await, Err(Refusal::AlreadyPresent));
    assert_eq!(home.count().await, (2, 1));
    assert_eq!(home.restart("b").await, Ok(()));
    assert_eq!((home.terminate("b").await, home.delete("b").await), (Ok(()), Ok(())));
    assert_eq!(home.count().await, (1, 1));
    for refused in [home.terminate("x").await, home.restart("x").await, home.delete("x").await] {
        assert_eq!(refused, Err(Refusal::NotFound));
    }
    assert_eq!(home.book.count("start b"), 2);
}

/// 78: while a restart waits.
#[actix_rt::test]
async fn a_child_that_is_being_restarted_is_neither_down_nor_up() {
    tokio::time::pause();
    let home = Home::new(Strategy::OneForOne).await;
    let address = ChildRef::vacant();
    let long = Backoff { first: SECOND * 100, most: SECOND * 100, quiet: SECOND };
    home.start(kid("b", &address, &home.book).backoff(long)).await.unwrap();
    address.tell(Do::Panic).unwrap();
    settle().await;
    assert_eq!(
        (home.restart("b").await, home.delete("b").await),
        (Err(Refusal::Restarting), Err(Refusal::Restarting))
    );
    assert_eq!(home.start(kid("b", &address, &home.book)).await, Err(Refusal::AlreadyPresent));
    assert_eq!(home.terminate("b").await, Ok(()));
    tokio::time::sleep(SECOND * 200).await;
    assert!(address.is_vacant(), "it was started again although it was told to stay down");
}

/// 71: a spec is counted, a child that is down is not.
#[actix_rt::test]
async fn a_restarting_child_counts_as_a_spec_only() {
    tokio::time::pause();
    let home = Home::new(Strategy::OneForOne).await;
    let address = ChildRef::vacant();
    let long = Backoff { first: SECOND * 100, most: SECOND * 100, quiet: SECOND };
    home.start(kid("b", &address, &home.book).backoff(long)).await.unwrap();
    assert_eq!(home.count().await, (2, 2));
    address.tell(Do::Panic).unwrap();
    settle().await;
    assert_eq!(home.count().await, (2, 1));
}

/// 48, 74: a temporary child leaves nothing behind, and its name is free.
#[actix_rt::test]
async fn a_temporary_child_can_be_started_anew() {
    tokio::time::pause();
    let home = Home::new(Strategy::OneForOne).await;
    let address = ChildRef::vacant();
    let spec = || kid("b", &address, &home.book).restart(Restart::Temporary);
    for _ in 0..3 {
        assert_eq!(home.start(spec()).await, Ok(()));
        address.tell(Do::Stop).unwrap();
        settle().await;
        assert_eq!(home.count().await, (1, 1));
    }
}

/// 86, 75: starting and stopping many costs in proportion.
#[actix_rt::test]
async fn ten_thousand_children_start_and_stop() {
    tokio::time::pause();
    let time = async |children: usize| {
        let begun = std::time::Instant::now();
        let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 1), move || {
            (0..children).map(|n| kid(&n.to_string(), &ChildRef::vacant(), &Book::default())).collect()
        });
        let tree = Tree::start(&spec, 4).unwrap();
        while tree.census().children().last().is_none_or(|last| last.state != kernel::State::Running) {
            tokio::time::sleep(SECOND).await;
        }
        assert!(tree.stop(SECOND * 100_000).await.is_some());
        begun.elapsed()
    };
    let (few, many) = (time(500).await, time(5_000).await);
    assert!(many < few.max(std::time::Duration::from_millis(20)) * 100, "500: {few:?}, 5,000: {many:?}");
}

/// 81: those that stay are not disturbed, the others change places in order.
#[actix_rt::test]
async fn a_group_is_renewed_around_the_children_that_stay() {
    tokio::time::pause();
    let home = Home::new(Strategy::OneForOne).await;
    let (stays, goes) = (ChildRef::vacant(), ChildRef::vacant());
    home.start(kid("b", &stays, &home.book)).await.unwrap();
    home.start(kid("c", &goes, &home.book)).await.unwrap();
    let inner = home.book.clone();
    let branch = ChildSpec::supervisor("branch", policy(Strategy::OneForOne, 9), move || {
        vec![kid("leaf", &ChildRef::vacant(), &inner)]
    });
    home.start(branch).await.unwrap();
    home.book.read();
    let second = Book::default();
    let spec = |id| kid(id, &ChildRef::vacant(), &second);
    let children = vec![spec("d"), kid("b", &stays, &second), spec("a")];
    home.door.ask(Renew { children, keep: vec!["b".into()] }).await.unwrap();
    assert_eq!(home.count().await.0, 3);
    settle().await;
    assert_eq!(home.book.read(), ["stop leaf", "stop c", "stop a"], "b is not among them");
    assert_eq!(second.read(), ["start d", "start a"]);
    assert!(goes.is_vacant());
    let census = home.tree.census();
    let known: Vec<String> = census.children().into_iter().map(|child| child.path).collect();
    assert_eq!(known, ["root/a", "root/b", "root/d"], "what is gone is not in the register");
    // Who stayed is made by its new spec when it dies, and the order of the stop is the new one.
    stays.tell(Do::Panic).unwrap();
    settle().await;
    assert_eq!(second.read(), ["start b"]);
    assert_eq!(census.child("root/b").unwrap().restarts, 1);
    drop(home);
    settle().await;
    assert_eq!(second.read(), ["stop a", "stop b", "stop d"]);
}

/// 82: what waited for its next start is started with what is new; what was told to stay down stays down.
#[actix_rt::test]
async fn a_child_that_is_down_comes_up_with_the_new_group() {
    tokio::time::pause();
    let home = Home::new(Strategy::OneForOne).await;
    let (long, address) =
        (Backoff { first: SECOND * 100, most: SECOND * 100, quiet: SECOND }, ChildRef::vacant());
    home.start(kid("b", &address, &home.book).backoff(long)).await.unwrap();
    home.start(kid("c", &ChildRef::vacant(), &home.book)).await.unwrap();
    home.terminate("c").await.unwrap();
    address.tell(Do::Panic).unwrap();
    settle().await;
    let second = Book::default();
    let children = ["a", "b", "c"].map(|id| kid(id, &ChildRef::vacant(), &second)).into();
    home.door.ask(Renew { children, keep: ["a", "b", "c"].map(String::from).into() }).await.unwrap();
    settle().await;
    assert_eq!(second.read(), ["start b"]);
    assert_eq!(home.count().await, (3, 2));
}
