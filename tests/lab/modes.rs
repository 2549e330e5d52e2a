//! What an operator can ask for that is not the usual way: shadow mode, lanes without an archive, a full disk.

use crate::bench::Bench;
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn status(bench: &Bench) -> serde_json::Value {
    serde_json::from_slice(&bench.tell(&["status", "--json"]).stdout).unwrap_or_default()
}

#[test]
fn in_shadow_mode_everything_is_done_but_the_deleting() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let files = bench.finished(&["101-a", "102-b"]);
    bench.start_with(&[("DRONEKEEPER__DRONE__MODE", "shadow")]);
    bench.wait_until_said("verified job=101-a");
    bench.wait_until_said("verified job=102-b");
    let screen = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(screen.contains("shadow mode: deletes nothing"), "{screen}");
    let next = String::from_utf8_lossy(&bench.tell(&["jobs"]).stdout).into_owned();
    assert!(next.contains("proven; kept: shadow mode"), "{next}");
    // A job that is proven is left in peace: sweeps go on, requests do not.
    let asked = server.log().len();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.log().len(), asked, "{:?}", server.log().get(asked..));
    assert_eq!(bench.left(), ["101-a", "102-b"]);
    assert_eq!(bench.restored("101-a"), files["101-a"]);
    // The day that the old system is switched off.
    bench.kill();
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_gone("102-b");
    assert_eq!(bench.said("uploaded job="), 2, "something was sent twice");
}

#[test]
fn a_lane_without_an_archive_deletes_what_has_finished_and_says_so() {
    let words = "delete_only = \"delete finished results without storing them\"";
    let mut bench = Bench::new().lane(&format!("directories = [\"[0-9]*-*\"]\n{words}\n[[lane]]\nname = \"kept\"\nsettle = \"150ms\"\n{words}\ndirectories = [\"kept-*\"]\ndelete_after = \"1h\"\n"));
    bench.finished(&["101-a", "kept-1"]);
    bench.job("102-running");
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_said("deleted without storing it, as the lane says job=101-a");
    assert!(!bench.path("offloaded/101-a").exists(), "it was stored all the same");
    let deletions = fs::read_to_string(bench.path("state/deletions.log")).unwrap();
    assert!(
        deletions.contains("\"job\":\"101-a\"") && deletions.contains("\"manifest_sha256\":\"\""),
        "{deletions}"
    );
    let screen = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(screen.contains("deletes finished results without storing them"), "{screen}");
    assert_eq!(bench.left(), ["102-running", "kept-1"]);
}

#[test]
fn in_shadow_mode_a_lane_without_an_archive_deletes_nothing() {
    let words = "delete_only = \"delete finished results without storing them\"";
    let mut bench = Bench::new().lane(&format!(
        "directories = [\"[0-9]*-*\"]\n{words}\n[[lane]]\nname = \"stored\"\nsettle = \"150ms\"\ndirectories = [\"stored-*\"]\n"
    ));
    bench.finished(&["101-a", "stored-1"]);
    bench.start_with(&[("DRONEKEEPER__DRONE__MODE", "shadow")]);
    bench.wait_until_said("verified job=stored-1");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(bench.left(), ["101-a", "stored-1"]);
}

/// A small file system in the place of the results directory, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(bench: &Bench, options: &str) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(bench.results()).status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        Small(bench.results())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_gets_more_workers_and_the_largest_first_until_there_is_room() {
    let server = Server::start(Flavour::S3);
    let hang = server.misbehave(Fault::new("PUT", "/status.log", What::Hang));
    let mut bench = Bench::on(&server)
        .lane("workers = 1\ntimeout = \"10min\"")
        .extra("[disk]\nhigh = \"85%\"\nlow = \"50%\"\npressure_workers = 3");
    let small = Small::mount(&bench, "size=20m");
    bench.start();
    let job = |name: &str, size: usize| {
        fs::write(bench.job(name).join("data"), vec![1; size << 10]).unwrap();
        bench.finish(name);
    };
    job("101-a", 10);
    let under_way = || {
        let status = status(&bench);
        let jobs = status["lanes"][0]["under_way"].as_array().cloned().unwrap_or_default();
        let mut jobs: Vec<String> = jobs.iter().map(|job| job["job"].as_str().unwrap().to_owned()).collect();
        jobs.sort();
        jobs
    };
    bench.wait("one at once", || under_way() == ["101-a"]);
    [("102-b", 700), ("103-c", 900), ("104-d", 800), ("105-e", 20)]
        .iter()
        .for_each(|(name, size)| job(name, *size));
    bench.wait("a backlog", || status(&bench)["lanes"][0]["backlog"] == 4);
    fs::write(bench.results().join("filler"), vec![0; 15 << 20]).unwrap();
    bench.wait_until_said("disk fills: more workers, largest jobs first");
    bench.wait("three at once", || under_way().len() == 3);
    assert_eq!(under_way(), ["101-a", "103-c", "104-d"], "not the largest");
    let told = status(&bench);
    assert_eq!(
        (&told["disk"]["pressing"], &told["lanes"][0]["workers"]),
        (&true.into(), &3.into()),
        "{told}"
    );
    assert!(told["problems"].to_string().contains("% full"), "{told}");
    fs::remove_file(bench.results().join("filler")).unwrap();
    bench.wait_until_said("disk has room again");
    bench.wait("one worker", || status(&bench)["lanes"][0]["workers"] == 1);
    // Nobody was cut off: what was under way goes on.
    assert_eq!(under_way().len(), 3);
    hang.over();
    ["101-a", "102-b", "103-c", "104-d", "105-e"].iter().for_each(|job| bench.wait_until_gone(job));
    bench.kill();
    drop(small);
}

#[test]
fn a_disk_without_inodes_is_a_full_disk() {
    let mut bench = Bench::new().extra("[disk]\nhigh = \"80%\"\nlow = \"50%\"");
    let small = Small::mount(&bench, "size=20m,nr_inodes=100");
    (0..85).for_each(|number| fs::write(bench.results().join(format!("file{number}")), "").unwrap());
    bench.start();
    bench.wait_until_said("disk fills");
    assert_eq!(status(&bench)["disk"]["pressing"], true);
    bench.kill();
    drop(small);
}
