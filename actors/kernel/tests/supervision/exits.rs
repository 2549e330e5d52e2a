//! Every way of dying has a reason, which is kept and shown.

use crate::stage::{Book, Do, Family, Kid, made, policy, settle};
use actix::prelude::*;
use kernel::{ChildRef, ChildSpec, Exit, State, Strategy, Tree};

async fn family() -> Family {
    Family::new(policy(Strategy::OneForOne, 5), |spec| spec).await
}

/// 49, 50: with message and place.
#[actix_rt::test]
async fn a_panic_in_a_handler_is_an_exit_with_its_message_and_place() {
    tokio::time::pause();
    kernel::record_panics();
    let family = family().await;
    family.tell(0, Do::Panic).await;
    let Exit::Panicked { message, location } = family.exit("a") else { panic!("{:?}", family.exit("a")) };
    assert_eq!(message, "a met a bad job");
    assert!(location.contains("stage.rs:"), "{location}");
    assert_eq!(family.exit("a").to_string(), format!("panicked at {location}: a met a bad job"));
}

/// 8, 10, 51
#[actix_rt::test]
async fn an_error_that_an_actor_leaves_is_its_exit() {
    tokio::time::pause();
    let family = family().await;
    family.tell(0, Do::Fail("the file is no longer the one that was opened")).await;
    assert_eq!(family.exit("a").to_string(), "failed: the file is no longer the one that was opened");
}

/// 43
#[actix_rt::test]
async fn a_stop_is_a_normal_exit() {
    tokio::time::pause();
    let family = family().await;
    family.tell(0, Do::Stop).await;
    assert_eq!(family.exit("a"), Exit::Normal);
}

/// 9: in the function that makes the child.
#[actix_rt::test]
async fn a_panic_while_a_child_is_made_is_an_exit() {
    tokio::time::pause();
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 0), || {
        vec![made("a", &ChildRef::vacant(), &Book::default(), |_| panic!("no such directory"))]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    tree.ended().await;
    let exit = tree.census().child("root/a").unwrap().last_exit.unwrap().1;
    assert!(matches!(&exit, Exit::Panicked { message, .. } if message == "no such directory"), "{exit}");
}

/// Ours: a panic in `stopped` neither aborts the process nor hides.
#[actix_rt::test]
async fn a_panic_in_stopped_is_contained() {
    tokio::time::pause();
    let (address, book) = (ChildRef::vacant(), Book::default());
    let (given, noted) = (address.clone(), book.clone());
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 5), move || {
        vec![made("a", &given, &noted, |kid| Kid { panics_when_stopped: true, ..kid })]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    settle().await;
    address.tell(Do::Stop).unwrap();
    settle().await;
    let child = tree.census().child("root/a").unwrap();
    assert!(matches!(&child.last_exit.unwrap().1, Exit::Panicked { message, .. } if message == "in stopped"));
    assert_eq!((child.state, child.generation), (State::Running, 2));
}

struct Timer;

impl Actor for Timer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(std::time::Duration::from_millis(50), |_, _| panic!("in a timer"));
    }
}

/// Ours: timers and spawned futures are part of the child.
#[actix_rt::test]
async fn a_panic_in_a_timer_is_an_exit() {
    tokio::time::pause();
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 0), || {
        vec![ChildSpec::worker("timer", &ChildRef::vacant(), |_| Timer).own_thread(false)]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    tree.ended().await;
    let exit = tree.census().child("root/timer").unwrap().last_exit.unwrap().1;
    assert!(matches!(&exit, Exit::Panicked { message, .. } if message == "in a timer"), "{exit}");
}
