//! What becomes of a message: handled, handed back, or dead with the mailbox; nothing else.

use crate::stage::{Do, Double, Family, policy, settle};
use kernel::{ChildRef, Next, Strategy, Unanswered};

async fn family() -> Family {
    Family::new(policy(Strategy::OneForOne, 5), |spec| spec).await
}

#[actix_rt::test]
async fn an_address_stays_over_restarts() {
    tokio::time::pause();
    let family = family().await;
    family.tell(0, Do::Panic).await;
    family.tell(0, Do::Note(1)).await;
    assert_eq!(family.book.count("note 1"), 1);
}

#[actix_rt::test]
async fn while_the_child_is_down_a_message_is_handed_back() {
    tokio::time::pause();
    let family = family().await;
    family.kids[0].tell(Do::Panic).unwrap();
    while !family.kids[0].is_vacant() {
        tokio::task::yield_now().await;
    }
    assert_eq!(family.kids[0].tell(Do::Note(2)), Err(Do::Note(2)));
    assert_eq!(family.kids[0].ask(Double(4)).await, Err(Unanswered::Vacant));
    settle().await;
    assert_eq!(family.kids[0].ask(Double(4)).await, Ok(8));
}

#[actix_rt::test]
async fn a_full_mailbox_hands_back_and_never_grows() {
    tokio::time::pause();
    let family = family().await;
    let taken = (0..1000).filter(|number| family.kids[0].tell(Do::Note(*number)).is_ok()).count();
    assert!((16..=18).contains(&taken), "{taken} messages were taken into a mailbox of 16");
    settle().await;
    assert_eq!(family.book.read().iter().filter(|line| line.starts_with("note")).count(), taken);
}

#[actix_rt::test]
async fn what_was_accepted_behind_a_panic_dies_with_the_mailbox() {
    tokio::time::pause();
    let family = family().await;
    for what in [Do::Note(1), Do::Panic, Do::Note(2), Do::Note(3)] {
        family.kids[0].tell(what).unwrap();
    }
    settle().await;
    assert_eq!(
        (family.book.count("note 1"), family.book.count("note 2"), family.book.count("note 3")),
        (1, 0, 0)
    );
}

#[actix_rt::test]
async fn a_question_to_a_child_that_dies_is_answered_with_lost() {
    tokio::time::pause();
    let family = family().await;
    family.kids[0].tell(Do::Panic).unwrap();
    assert_eq!(family.kids[0].ask(Double(4)).await, Err(Unanswered::Lost));
}

#[actix_rt::test]
async fn a_next_forgets_the_actor_and_keeps_the_rule() {
    tokio::time::pause();
    let family = family().await;
    let next: Next<Do> = family.kids[1].next();
    assert_eq!(next.tell(Do::Note(9)), Ok(()));
    settle().await;
    assert_eq!(family.book.count("note 9"), 1);
    assert_eq!(Next::nowhere().tell(Do::Note(1)), Err(Do::Note(1)));
    assert_eq!(ChildRef::<crate::stage::Kid>::vacant().next().tell(Do::Note(1)), Err(Do::Note(1)));
}
