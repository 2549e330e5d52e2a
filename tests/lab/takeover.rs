//! What a site of the old offloader finds again: its instructions, its markers, its small texts, its failure file.

use crate::bench::{Bench, hashes};
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::os::unix::fs::symlink;

const HONOUR: &str = "honour_instructions = true";
const README: &str = "These results have been deleted rather than offloaded.\n\
    This is the expected behavior for passing jobs from the Commit Queue.\n";

/// A finished job with two hosts' results, of which one has instructions.
fn job_with_instructions(bench: &Bench, name: &str, instructions: &[u8]) {
    let job = bench.job(name);
    for host in ["host1", "host2"] {
        fs::create_dir_all(job.join(host).join("deep")).unwrap();
        fs::write(job.join(host).join("deep/log"), format!("log of {host}\n")).unwrap();
    }
    fs::write(job.join("host1/.GS_OFFLOADER_INSTRUCTIONS"), instructions).unwrap();
    bench.finish(name);
}

#[test]
fn results_that_are_not_to_be_offloaded_are_deleted_and_a_readme_says_so() {
    let mut bench = Bench::new().lane(HONOUR);
    job_with_instructions(&bench, "101-a", br#"{"no_offload": true}"#);
    job_with_instructions(&bench, "102-b", br#"{"no_offload": false, "other": 1}"#);
    let whole = hashes(&bench.results().join("102-b"));
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_gone("102-b");
    let stored = bench.path("offloaded/101-a");
    assert_eq!(fs::read_to_string(stored.join("host1/logs-removed-readme.txt")).unwrap(), README);
    assert_eq!(fs::read_dir(stored.join("host1")).unwrap().count(), 1, "something was stored all the same");
    assert_eq!(fs::read_to_string(stored.join("host2/deep/log")).unwrap(), "log of host2\n");
    assert_eq!(bench.restored("102-b"), whole);
    let verified = bench.tell(&["verify", "--all", "--read-back"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let manifest = fs::read_to_string(stored.join(".dronekeeper/manifest.json")).unwrap();
    assert_eq!(manifest.matches("\"withheld\":true").count(), 4, "{manifest}");
    let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(status.contains("honours instructions"), "{status}");
}

#[test]
fn instructions_are_a_file_like_any_other_unless_the_lane_honours_them() {
    let mut bench = Bench::new();
    job_with_instructions(&bench, "101-a", br#"{"no_offload": true}"#);
    let whole = hashes(&bench.results().join("101-a"));
    bench.start();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), whole);
}

#[test]
fn instructions_that_are_not_understood_park_their_job_and_no_other() {
    let mut bench = Bench::new().lane(HONOUR);
    let bad: [&[u8]; 4] = [b"{\"no_offload\": tr", b"[true]", b"{\"no_offload\": \"yes\"}", b"\xff\xfe"];
    for (number, instructions) in bad.iter().enumerate() {
        job_with_instructions(&bench, &format!("10{number}-bad"), instructions);
    }
    bench.finished(&["201-good"]);
    bench.start();
    bench.wait_until_gone("201-good");
    for number in 0..bad.len() {
        bench.wait_until_said(&format!("quarantined job=10{number}-bad"));
        assert!(bench.results().join(format!("10{number}-bad/host1/deep/log")).exists());
    }
    let why = bench.tell(&["quarantine", "show", "100-bad"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("host1/.GS_OFFLOADER_INSTRUCTIONS is no JSON object"), "{why}");
    // A person mends it.
    fs::write(bench.results().join("100-bad/host1/.GS_OFFLOADER_INSTRUCTIONS"), "{}").unwrap();
    assert!(bench.tell(&["quarantine", "release", "100-bad"]).status.success());
    bench.wait_until_gone("100-bad");
}

#[test]
fn what_was_published_with_instructions_is_not_deleted_when_they_are_no_longer_honoured() {
    let mut bench = Bench::new().lane("honour_instructions = true\ndelete_after = \"1h\"");
    job_with_instructions(&bench, "101-a", br#"{"no_offload": true}"#);
    let whole = hashes(&bench.results().join("101-a"));
    bench.start();
    bench.wait_until_said("verified job=101-a");
    bench.kill();
    let mut bench = bench.lane("");
    bench.start();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a~2"), whole);
}

#[test]
fn links_and_fifos_are_small_texts_that_people_know() {
    let mut bench = Bench::new();
    let job = bench.job("101-a");
    symlink("debug", job.join("to-a-directory")).unwrap();
    symlink("no/where", job.join("broken")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(job.join("debug/pipe")).status().unwrap();
    assert!(fifo.success());
    bench.finish("101-a");
    bench.start();
    bench.wait_until_gone("101-a");
    let text = |name: &str| fs::read_to_string(bench.path("offloaded/101-a").join(name)).unwrap();
    assert_eq!(text("to-a-directory"), "<symlink to debug>");
    assert_eq!(text("broken"), "<symlink to no/where>");
    assert_eq!(text("debug/pipe"), "<FIFO>");
    let verified = bench.tell(&["verify", "101-a", "--read-back"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let restored = bench.tell(&["restore", "101-a", "--to", "back"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    // The truth, not the text.
    assert_eq!(fs::read_link(bench.path("back/broken")).unwrap().to_str(), Some("no/where"));
    // A text that was tampered with is noticed.
    fs::write(bench.path("offloaded/101-a/broken"), "<symlink to elsewhere>").unwrap();
    assert!(!bench.tell(&["verify", "101-a"]).status.success());
}

/// A job that the old offloader marked, and what it stored of it.
fn marked(bench: &Bench, server: &Server, stored: &[&str]) -> crate::bench::Files {
    let job = bench.job("101-a");
    fs::write(job.join(".GS_UPLOADED"), "").unwrap();
    for name in stored {
        server.mutate(&format!("101-a/{name}"), Some(&fs::read(job.join(name)).unwrap()));
    }
    bench.finish("101-a");
    hashes(&job)
}

#[test]
fn what_the_old_offloader_stored_is_compared_and_taken_over() {
    for flavour in [Flavour::S3, Flavour::Gcs] {
        let server = Server::start(flavour);
        let mut bench = match flavour {
            Flavour::S3 => Bench::on(&server),
            Flavour::Gcs => Bench::with_store(&crate::bench::gcs(&server.url())),
        };
        let files = marked(&bench, &server, &["status.log", "debug/autoserv.DEBUG"]);
        bench.start();
        bench.wait_until_gone("101-a");
        assert_eq!(bench.said("objects of the old offloader taken over job=101-a objects=2"), 1);
        assert_eq!(bench.restored("101-a"), files);
        let sent = |name: &str| {
            let written = |asked: &stage::server::Asked| asked.method == "PUT" && asked.target.contains(name);
            server.log().iter().filter(|asked| written(asked)).count()
        };
        assert_eq!((sent("status.log"), sent("autoserv.DEBUG"), sent("101-a/empty")), (0, 0, 1));
    }
}

#[test]
fn a_marker_over_other_bytes_is_a_lie_and_the_job_goes_beside() {
    for (name, bytes) in [("status.log", &b"of another job\n"[..]), ("not-of-this-job", b"?")] {
        let server = Server::start(Flavour::S3);
        let mut bench = Bench::on(&server);
        let files = marked(&bench, &server, &["debug/autoserv.DEBUG"]);
        server.mutate(&format!("101-a/{name}"), Some(bytes));
        bench.start();
        bench.wait_until_gone("101-a");
        assert_eq!(bench.restored("101-a~2"), files, "{name}");
        assert_eq!(server.objects()[&format!("101-a/{name}")], bytes, "overwritten");
        assert_eq!(bench.said("name taken in the store"), 1);
        let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
        assert!(status.contains("[collision] 101-a went beside 101-a"), "{status}");
    }
}

#[test]
fn scripts_find_the_list_of_failures_where_it_was() {
    let server = Server::start(Flavour::S3);
    let refused = server.misbehave(Fault::new("PUT", "102-bad/status.log", What::Status(403, None)));
    let mut bench = Bench::on(&server);
    bench.finished(&["101-a", "102-bad"]);
    bench.start();
    let list = || fs::read_to_string(bench.results().join("FAILED_OFFLOADS")).unwrap_or_default();
    bench.wait("the list", || list().contains("  102-bad\n"));
    assert!(
        list().starts_with("\nThis is the list of gs_offloader failed jobs.\nLast offloader attempt at ")
    );
    assert!(list().contains(" failed to offload 1 files.\n") && !list().contains("101-a"), "{}", list());
    refused.over();
    bench.tell(&["retry", "--all"]);
    bench.wait_until_gone("102-bad");
    bench.wait("an empty list", || list().contains(" failed to offload 0 files.\n"));
}
