//! A name that the store already holds is never overwritten.

use crate::bench::{Bench, hashes};
use stage::{Fault, Flavour, Server, What};
use std::fs;

#[test]
fn a_second_job_of_a_name_goes_beside_the_first() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let first = bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_gone("101-a");
    let dir = bench.job("101-a");
    fs::write(dir.join("status.log"), "numbers start again when a database was truncated").unwrap();
    bench.finish("101-a");
    let second = hashes(&dir);
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), first["101-a"]);
    assert_eq!(bench.restored("101-a~2"), second);
    assert!(bench.said("name taken in the store") >= 1, "on-call was not told");
}

#[test]
fn objects_of_a_program_without_claims_are_left_alone() {
    let server = Server::start(Flavour::S3);
    server.mutate("101-a/status.log", Some(b"offloaded by the old system"));
    let mut bench = Bench::on(&server);
    let jobs = bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_gone("101-a");
    assert_eq!(server.objects()["101-a/status.log"], "offloaded by the old system");
    assert_eq!(bench.restored("101-a~2"), jobs["101-a"]);
}

#[test]
fn a_claim_of_another_drone_is_respected_before_its_manifest_stands() {
    let server = Server::start(Flavour::S3);
    let claim = br#"{"format":1,"drone":"other","job":"101-a","incarnation":{"dev":1,"ino":2,"born_ns":3}}"#;
    server.mutate("101-a/.dronekeeper/claim.json", Some(claim));
    let mut bench = Bench::on(&server);
    let jobs = bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_gone("101-a");
    assert!(!server.objects().contains_key("101-a/status.log"), "written into another drone's place");
    assert_eq!(bench.restored("101-a~2"), jobs["101-a"]);
}

#[test]
fn two_drones_of_one_prefix_do_not_mix() {
    let server = Server::start(Flavour::S3);
    let (mut one, mut two) = (Bench::on(&server), Bench::on(&server));
    let (first, dir) = (one.finished(&["101-a"]), two.job("101-a"));
    fs::write(dir.join("status.log"), "of the other drone").unwrap();
    two.finish("101-a");
    let second = hashes(&dir);
    one.start();
    two.start();
    one.wait_until_gone("101-a");
    two.wait_until_gone("101-a");
    let came = [one.restored("101-a"), two.restored("101-a~2")];
    assert!(came == [first["101-a"].clone(), second.clone()] || came == [second, first["101-a"].clone()]);
}

#[test]
fn a_job_that_grows_after_its_proof_is_offloaded_again_without_what_is_safe() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server).lane("delete_after = \"2s\"");
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("verified job=101-a");
    fs::write(bench.results().join("101-a/late.log"), "written after the proof").unwrap();
    let files = hashes(&bench.results().join("101-a"));
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a~2"), files);
    let sent = server
        .log()
        .iter()
        .filter(|asked| asked.method == "PUT" && asked.target.ends_with("/status.log"))
        .count();
    assert_eq!(sent, 1, "what was proven was sent again");
}

#[test]
fn a_file_that_appears_between_proof_and_deletion_is_kept() {
    let server = Server::start(Flavour::S3);
    // The first read of the manifest follows its writing, the second precedes the deletion.
    let slow =
        Fault::new("GET", "101-a/.dronekeeper/manifest", What::Delay(std::time::Duration::from_secs(2)));
    let slow = server.misbehave(slow.after(1).times(1));
    let mut bench = Bench::on(&server);
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait("about to be deleted", || slow.fired() > 0);
    fs::write(bench.results().join("101-a/last.log"), "written at the last moment").unwrap();
    let files = hashes(&bench.results().join("101-a"));
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a~2"), files);
}

#[test]
fn a_file_that_changes_under_an_attempt_voids_it() {
    let server = Server::start(Flavour::S3);
    let slow = server.misbehave(
        Fault::new("PUT", "101-a/status", What::Delay(std::time::Duration::from_secs(1))).times(1),
    );
    let mut bench = Bench::on(&server);
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait("under way", || slow.fired() > 0);
    fs::write(bench.results().join("101-a/status.log"), "longer than before: the device wrote on").unwrap();
    let files = hashes(&bench.results().join("101-a"));
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
    assert_eq!(bench.said("changed during the attempt"), 1);
}
