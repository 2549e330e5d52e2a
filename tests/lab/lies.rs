//! A store that lies, breaks or stops answering never costs a result.

use crate::bench::{Bench, gcs, s3};
use stage::{Fault, Flavour, Server, What};
use std::time::Duration;

/// Two jobs, a fault that fires, and at the end everything in the store as it was.
fn survives(flavour: Flavour, faults: impl Fn() -> Vec<Fault>) {
    let server = Server::start(flavour);
    let store = if flavour == Flavour::S3 { s3(&server.url()) } else { gcs(&server.url()) };
    let mut bench = Bench::with_store(&store);
    let jobs = bench.finished(&["101-a", "102-b"]);
    let faults: Vec<Fault> = faults().into_iter().map(|fault| server.misbehave(fault)).collect();
    bench.start();
    jobs.keys().for_each(|name| bench.wait_until_gone(name));
    faults.iter().for_each(|fault| assert!(fault.fired() > 0, "{:?} never fired", fault.what));
    for (name, files) in &jobs {
        assert_eq!(bench.restored(name), *files, "{name} after {:?}", faults[0].what);
    }
    assert!(bench.runs(), "the drone ended");
}

fn both(faults: impl Fn() -> Vec<Fault>) {
    survives(Flavour::S3, &faults);
    survives(Flavour::Gcs, &faults);
}

#[test]
fn damaged_objects_are_noticed_and_sent_again() {
    both(|| vec![Fault::new("PUT", "101-a/debug", What::Damage).times(2)]);
}

#[test]
fn silently_damaged_objects_are_noticed_and_sent_again() {
    both(|| vec![Fault::new("PUT", "101-a/debug", What::DamageSilently).times(2)]);
}

#[test]
fn lost_objects_are_noticed_and_sent_again() {
    both(|| vec![Fault::new("PUT", "101-a/status", What::Lose).times(2)]);
}

#[test]
fn truncated_objects_are_noticed_and_sent_again() {
    both(|| vec![Fault::new("PUT", "102-b/status", What::Truncate).times(2)]);
}

#[test]
fn a_damaged_or_lost_manifest_is_noticed() {
    both(|| vec![Fault::new("PUT", "101-a/.dronekeeper/manifest", What::Lose).times(1)]);
    // A damaged manifest stands for ever, and is never believed: its job goes beside it.
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let files = bench.finished(&["101-a"]).remove("101-a").unwrap();
    server.misbehave(Fault::new("PUT", "101-a/.dronekeeper/manifest", What::DamageSilently).times(1));
    bench.start();
    bench.wait_until_said("attempt failed");
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a~2"), files);
}

#[test]
fn a_lost_answer_is_settled_by_looking() {
    for key in ["101-a/status", "101-a/.dronekeeper/claim", "101-a/.dronekeeper/manifest"] {
        both(|| vec![Fault::new("PUT", key, What::CutAfter).times(1)]);
    }
}

#[test]
fn a_request_that_never_arrives_is_sent_again() {
    for key in ["101-a/status", "101-a/.dronekeeper/claim", "101-a/.dronekeeper/manifest"] {
        both(|| vec![Fault::new("PUT", key, What::CutBefore).times(1)]);
    }
}

#[test]
fn a_request_that_is_done_twice_is_done_once() {
    both(|| vec![Fault::new("PUT", "101-a", What::Twice)]);
}

#[test]
fn server_errors_are_waited_out() {
    for status in [500, 503, 429] {
        both(|| vec![Fault::new("PUT", "101-a", What::Status(status, Some(1))).times(3)]);
    }
}

#[test]
fn a_listing_or_a_read_that_fails_proves_nothing() {
    both(|| vec![Fault::new("GET", "list-type=2&prefix=101-a", What::Status(500, None)).times(8)]);
    both(|| vec![Fault::new("GET", "101-a/.dronekeeper/manifest", What::CutAfter).times(8)]);
}

#[test]
fn a_store_that_hangs_is_given_up_and_tried_again() {
    survives(Flavour::S3, || vec![Fault::new("PUT", "101-a/status", What::Hang).times(2)]);
}

#[test]
fn a_store_that_is_down_is_said_once_and_recovers_by_itself() {
    for what in [What::Status(500, None), What::Status(403, None), What::CutBefore] {
        let server = Server::start(Flavour::S3);
        let mut bench = Bench::on(&server).lane("workers = 8");
        let names: Vec<String> = (100..120).map(|number| format!("{number}-x")).collect();
        let jobs = bench.finished(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let down = server.misbehave(Fault::new("PUT", "-x/", what.clone()));
        bench.start();
        bench.wait(&format!("{what:?} met"), || down.fired() > 40);
        assert_eq!(bench.left().len(), 20, "something was deleted while the store was down");
        down.over();
        names.iter().for_each(|name| bench.wait_until_gone(name));
        assert_eq!(bench.said("store in trouble"), 1, "{what:?}");
        assert_eq!(bench.said("store works again"), 1, "{what:?}");
        assert_eq!(bench.restored("100-x"), jobs["100-x"]);
    }
}

#[test]
fn a_full_store_keeps_everything_on_the_drone() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let jobs = bench.finished(&["101-a", "102-b"]);
    server.room(Some(9000));
    bench.start();
    bench.wait_until_said("store in trouble");
    assert!(!bench.left().is_empty());
    server.room(None);
    jobs.keys().for_each(|name| bench.wait_until_gone(name));
    assert_eq!(bench.restored("102-b"), jobs["102-b"]);
}

#[test]
fn an_object_that_changes_after_its_proof_stops_the_deletion() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server).lane("delete_after = \"3s\"");
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("verified job=101-a");
    server.mutate("101-a/status.log", Some(b"somebody else wrote this"));
    bench.wait_until_said("attempt failed");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(bench.left(), ["101-a"], "deleted, though the store no longer holds it");
}

#[test]
fn a_store_that_was_emptied_stops_the_deletion() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server).lane("delete_after = \"2s\"");
    let jobs = bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("verified job=101-a");
    server.objects().keys().for_each(|key| server.mutate(key, None));
    bench.wait("uploaded again", || bench.said("uploaded job=101-a") == 2);
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), jobs["101-a"]);
}

#[test]
fn an_attempt_that_takes_longer_than_the_lane_allows_ends_and_the_next_one_goes_on() {
    let server = Server::start(Flavour::S3);
    let fault = server.misbehave(Fault::new("PUT", "101-a/status", What::Hang).times(1));
    let mut bench =
        Bench::with_store(&format!("{}\nconnections = 8", s3(&server.url()))).lane("timeout = \"1s\"");
    let jobs = bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_gone("101-a");
    assert!(fault.fired() > 0);
    assert_eq!(bench.said("no end after 1s"), 1);
    assert_eq!(bench.restored("101-a"), jobs["101-a"]);
}
