//! When a supervisor gives up, and what its parent does about it.

use crate::stage::{Book, Do, Family, SECOND, kid, made, policy, settle};
use kernel::{ChildRef, ChildSpec, Ended, Exit, OnExhaustion, Policy, Restart, State, Strategy, Tree};

/// 30, 32, 40: the third death within the period at an intensity of two.
#[actix_rt::test]
async fn one_death_too_many_ends_the_supervisor_and_all_its_children() {
    tokio::time::pause();
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let family = Family::new(policy(strategy, 2), |spec| spec).await;
        let ended = family.tree.ended();
        for _ in 0..3 {
            family.tell(0, Do::Panic).await;
        }
        assert_eq!(ended.await, Ended::Root(Exit::Escalated("root/a".into())));
        assert!(family.kids.iter().all(ChildRef::is_vacant), "{strategy:?}");
        assert!(family.book.count("stop b") > 0 && family.book.count("stop c") > 0);
    }
}

/// 31, 33, 41, 38, 9: a child that cannot start is an exit like any other.
#[actix_rt::test]
async fn a_child_that_dies_at_birth_escalates() {
    tokio::time::pause();
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let book = Book::default();
        let noted = book.clone();
        let spec = ChildSpec::supervisor("root", policy(strategy, 1), move || {
            let born_dead = made("dead", &ChildRef::vacant(), &noted, |kid| crate::stage::Kid {
                dies_at_birth: true,
                ..kid
            });
            vec![kid("well", &ChildRef::vacant(), &noted), born_dead]
        });
        let tree = Tree::start(&spec, 4).unwrap();
        assert_eq!(tree.ended().await, Ended::Root(Exit::Escalated("root/dead".into())));
        assert_eq!(book.count("start dead"), 2);
        assert_eq!(book.count("start well"), book.count("stop well"), "{strategy:?}");
    }
}

/// 34: a sibling that fails during the restart has all of it done again.
#[actix_rt::test]
async fn one_for_all_begins_again_when_a_sibling_fails_to_restart() {
    tokio::time::pause();
    let (book, kids) = (Book::default(), [ChildRef::vacant(), ChildRef::vacant()]);
    let (noted, addresses) = (book.clone(), kids.clone());
    let births = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForAll, 3), move || {
        let births = births.clone();
        let second = made("b", &addresses[1], &noted, move |kid| {
            let nth = births.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            crate::stage::Kid { dies_at_birth: nth == 1, ..kid }
        });
        vec![kid("a", &addresses[0], &noted), second]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    settle().await;
    kids[0].tell(Do::Panic).unwrap();
    settle().await;
    assert_eq!((book.count("start a"), book.count("start b")), (3, 3));
    assert!(tree.census().children().iter().all(|child| child.state == State::Running));
}

/// 54, 31: the product of the intensities, one more each.
#[actix_rt::test]
async fn the_restarts_of_a_tree_multiply() {
    tokio::time::pause();
    let book = Book::default();
    let noted = book.clone();
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 1), move || {
        let noted = noted.clone();
        vec![ChildSpec::supervisor("branch", policy(Strategy::OneForOne, 2), move || {
            vec![made("doomed", &ChildRef::vacant(), &noted, |kid| crate::stage::Kid {
                dies_at_birth: true,
                ..kid
            })]
        })]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    assert_eq!(tree.ended().await, Ended::Root(Exit::Escalated("root/branch".into())));
    assert_eq!(book.count("start doomed"), (2 + 1) * (1 + 1));
}

/// 54: what dies below is mended below.
#[actix_rt::test]
async fn a_local_death_is_a_local_restart() {
    tokio::time::pause();
    let (book, deep) = (Book::default(), ChildRef::vacant());
    let (noted, address) = (book.clone(), deep.clone());
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForAll, 1), move || {
        let (noted, address) = (noted.clone(), address.clone());
        let branch = {
            let noted = noted.clone();
            ChildSpec::supervisor("branch", policy(Strategy::OneForOne, 3), move || {
                vec![kid("leaf", &address, &noted)]
            })
        };
        vec![kid("trunk", &ChildRef::vacant(), &noted), branch]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    settle().await;
    deep.tell(Do::Panic).unwrap();
    settle().await;
    assert_eq!((book.count("start leaf"), book.count("start trunk")), (2, 1));
    assert_eq!(tree.census().child("root/branch/leaf").unwrap().restarts, 1);
}

/// Ours: a launcher with a bug must not cost its neighbour its third hour of work.
#[actix_rt::test]
async fn a_root_that_rests_a_branch_keeps_the_others_running() {
    tokio::time::pause();
    let resting =
        Policy { on_exhaustion: OnExhaustion::Rest(SECOND * 600), ..policy(Strategy::OneForOne, 2) };
    let family = Family::new(resting, |spec| spec).await;
    for _ in 0..3 {
        family.tell(0, Do::Panic).await;
    }
    assert!(matches!(family.state("a"), Some(State::Resting(_))), "{:?}", family.state("a"));
    assert_eq!((family.generation("b"), family.state("b")), (1, Some(State::Running)));
    tokio::time::sleep(SECOND * 601).await;
    assert_eq!(family.state("a"), Some(State::Running));
}

/// Ours, differing from OTP (docs/supervision.md): an escalation is abnormal, so a transient branch comes back.
#[actix_rt::test]
async fn an_escalation_is_an_abnormal_exit() {
    tokio::time::pause();
    let book = Book::default();
    let noted = book.clone();
    let spec = ChildSpec::supervisor("root", policy(Strategy::OneForOne, 1), move || {
        let noted = noted.clone();
        let branch = ChildSpec::supervisor("branch", policy(Strategy::OneForOne, 0), move || {
            vec![made("doomed", &ChildRef::vacant(), &noted, |kid| crate::stage::Kid {
                dies_at_birth: true,
                ..kid
            })]
        });
        vec![branch.restart(Restart::Transient)]
    });
    let tree = Tree::start(&spec, 4).unwrap();
    assert_eq!(tree.ended().await, Ended::Root(Exit::Escalated("root/branch".into())));
    assert_eq!(book.count("start doomed"), 2);
}
