//! Post-processing runs to its end on every job, whatever is killed or shut down in between.

use crate::bench::{Bench, hashes};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Makes a command of these lines of shell.
fn command(bench: &Bench, name: &str, lines: &str) -> PathBuf {
    let path = bench.path(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A `[[queue]]` that runs this.
fn queue(name: &str, command: &std::path::Path, more: &str) -> String {
    format!("[[queue]]\nname = {name:?}\ncommand = [{command:?}, \"{{job_dir}}\", \"{{key}}\"]\n{more}\n")
}

fn list(bench: &Bench, state: &str) -> Vec<serde_json::Value> {
    let listed = bench.tell(&["queue", "list", "--json", "--state", state]);
    serde_json::from_slice(&listed.stdout).unwrap_or_default()
}

#[test]
fn a_job_is_processed_before_it_is_offloaded_and_what_was_said_goes_with_it() {
    let mut bench = Bench::new();
    let parse = command(
        &bench,
        "parse",
        "echo parsed $(basename \"$1\"); echo complaint >&2; echo result > \"$1/parsed\"",
    );
    bench = bench.extra(&queue("parse", &parse, ""));
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    for job in ["101-a", "102-b"] {
        bench.wait_until_gone(job);
        let stored = bench.path(&format!("offloaded/{job}"));
        assert_eq!(fs::read_to_string(stored.join("parsed")).unwrap(), "result\n");
        let said = fs::read_to_string(stored.join(".dronekeeper-parse.1.log")).unwrap();
        assert!(said.contains(&format!("parsed {job}")) && said.contains("complaint"), "{said}");
    }
    assert_eq!(bench.said("post-processing done"), 2);
    assert_eq!(list(&bench, "done").len(), 2);
}

#[test]
fn an_offloaded_job_is_processed_before_it_is_deleted() {
    let mut bench = Bench::new();
    let go = bench.path("go");
    let report = command(&bench, "report", &format!("[ -e {} ] && echo told $1", go.display()));
    bench = bench.extra(&queue("report", &report, "on = \"offloaded\"\nattempts = \"unlimited\""));
    let files = bench.finished(&["101-a"]).remove("101-a").unwrap();
    bench.start();
    bench.wait("it failed twice", || bench.said("post-processing failed") >= 2);
    assert!(bench.path("offloaded/101-a/.dronekeeper/manifest.json").exists());
    assert_eq!(hashes(&bench.results().join("101-a")), files, "the stored directory was changed");
    fs::write(&go, "").unwrap();
    bench.wait_until_gone("101-a");
    let outputs: Vec<_> = fs::read_dir(bench.path("state/queue-output/report")).unwrap().collect();
    assert_eq!(outputs.len(), 1);
}

#[test]
fn what_gives_up_is_stored_kept_and_shown_until_a_person_decides() {
    let mut bench = Bench::new();
    let mended = bench.path("mended");
    let parse =
        command(&bench, "parse", &format!("[ -e {} ] || {{ echo no database; exit 7; }}", mended.display()));
    bench = bench.extra(&queue("parse", &parse, "attempts = 2"));
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    bench.wait("both gave up", || list(&bench, "dead").len() == 2);
    let manifest = |job: &str| bench.path(&format!("offloaded/{job}/.dronekeeper/manifest.json")).exists();
    bench.wait("both are stored", || manifest("101-a") && manifest("102-b"));
    assert_eq!(bench.left(), ["101-a", "102-b"], "a job was deleted although its processing gave up");
    let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(status.contains("[queue] post-processing gave up"), "{status}");
    let shown = String::from_utf8_lossy(&bench.tell(&["queue", "show", "101-a"]).stdout).into_owned();
    assert!(shown.contains("ended with status 7: no database"), "{shown}");
    fs::write(&mended, "").unwrap();
    assert!(bench.tell(&["queue", "retry", "101-a"]).status.success());
    bench.wait_until_gone("101-a");
    assert!(bench.results().join("102-b").exists());
    assert!(bench.tell(&["queue", "drop", "102-b"]).status.success());
    bench.wait_until_gone("102-b");
    assert!(!bench.tell(&["queue", "retry", "--all"]).status.success(), "there is nothing left to retry");
}

#[test]
fn kills_lose_nothing_and_leave_nothing_in_progress() {
    let mut bench = Bench::new();
    // An effect once by its key, a line for each run, and a grandchild that would outlive a careless drone.
    let (effects, runs) = (bench.path("effects"), bench.path("runs"));
    fs::create_dir(&effects).unwrap();
    let work = format!(
        "echo $2 >> {}\nsleep 0.$(( $(printf %d \"0x$(echo $2 | cut -c1-2)\") % 5 ))\n( set -C; > {}/$2 ) 2>/dev/null || true",
        runs.display(),
        effects.display()
    );
    let work = command(&bench, "work", &work);
    bench = bench.lane("workers = 4").extra(&queue("work", &work, "workers = 4\non = \"offloaded\""));
    let names: Vec<String> = (0..60).map(|number| format!("{}-a", 100 + number)).collect();
    bench.finished(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let begun = Instant::now();
    let mut kills = 0;
    while !bench.left().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?} are left", bench.left());
        bench.start();
        std::thread::sleep(Duration::from_millis(if kills < 8 { 700 } else { 5000 }));
        bench.kill();
        kills += 1;
    }
    assert!(kills >= 5, "it was killed {kills} times only");
    assert_eq!(fs::read_dir(&effects).unwrap().count(), names.len());
    let runs = fs::read_to_string(&runs).unwrap();
    let mut of: BTreeMap<&str, u32> = BTreeMap::new();
    runs.lines().for_each(|key| *of.entry(key).or_default() += 1);
    assert_eq!(of.len(), names.len());
    assert!(runs.lines().count() < names.len() + 4 * kills + 1, "more ran again than was cut off");
    bench.start();
    bench.wait("nothing is in progress", || list(&bench, "done").len() == names.len());
    assert!(list(&bench, "running").is_empty() && list(&bench, "queued").is_empty());
}

#[test]
fn a_stop_waits_for_what_runs_and_gives_back_what_takes_too_long() {
    let mut bench = Bench::new();
    let runs = bench.path("runs");
    let work = command(
        &bench,
        "work",
        &format!("echo begun >> {0}; sleep ${{SECONDS_:-2}}; echo ended >> {0}", runs.display()),
    );
    let said = || fs::read_to_string(&runs).unwrap_or_default();
    bench = bench.extra(&format!("{}[shutdown]\ndeadline = \"4s\"", queue("work", &work, "")));
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait("it runs", || said().contains("begun"));
    bench.finished(&["102-b"]);
    assert_eq!(bench.stop(), Some(0));
    assert_eq!(said(), "begun\nended\n", "what ran was cut off, or more was begun");
    bench.start_with(&[("SECONDS_", "60")]);
    bench.wait("the next runs", || said().matches("begun").count() == 2);
    let begun = Instant::now();
    bench.stop();
    assert!(begun.elapsed() < Duration::from_secs(30), "the stop took {:?}", begun.elapsed());
    assert_eq!(said().matches("ended").count(), 1);
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_gone("102-b");
    assert_eq!(said().matches("ended").count(), 2);
    assert_eq!(bench.said("post-processing failed"), 0, "a stop counted as a failure");
}

#[test]
fn a_command_that_hangs_is_ended_with_all_that_it_started_and_holds_up_no_other_queue() {
    let mut bench = Bench::new();
    let pids = bench.path("pids");
    let hang = command(
        &bench,
        "hang",
        &format!("sleep 300 & echo $! >> {}; trap '' TERM; sleep 300", pids.display()),
    );
    let light = command(&bench, "light", "echo light");
    bench = bench.extra(&format!(
        "{}{}",
        queue("heavy", &hang, "timeout = \"1s\"\nattempts = 1\non = \"offloaded\""),
        queue("light", &light, "")
    ));
    bench.finished(&["101-a", "102-b", "103-c"]);
    bench.start();
    bench.wait("the light work is done", || bench.said("post-processing done queue=light") == 3);
    bench.wait_until_said("did not end within 1s");
    let alive = || {
        let pids = fs::read_to_string(&pids).unwrap_or_default();
        pids.lines().any(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
        })
    };
    bench.wait("nothing that it started is left", || !alive());
    bench.signal(Signal::TERM);
}

#[test]
fn a_journal_that_is_lost_is_rebuilt_and_every_job_is_processed() {
    let mut bench = Bench::new();
    let hold = bench.path("hold");
    let work =
        command(&bench, "work", &format!("[ ! -e {} ] && echo done > \"$1/processed\"", hold.display()));
    bench = bench.extra(&queue("work", &work, "attempts = \"unlimited\""));
    fs::write(&hold, "").unwrap();
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    bench.wait("both failed", || bench.said("post-processing failed") >= 2);
    fs::write(bench.path("state/queue.sqlite"), b"").unwrap();
    fs::remove_file(&hold).unwrap();
    for job in ["101-a", "102-b"] {
        bench.wait_until_gone(job);
        assert!(bench.path(&format!("offloaded/{job}/processed")).exists());
    }
    assert!(bench.said("queue journal damaged") > 0);
}
