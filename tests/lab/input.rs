//! Bad input gets a clear error and the right exit status, and costs nothing.

use crate::bench::{Bench, s3};
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::process::{Command, Output};

fn with_config(text: &str, arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("drone.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dronekeeper"));
    command.arg("-c").arg(&file).args(arguments).current_dir(dir.path()).output().unwrap()
}

#[test]
fn a_bad_configuration_ends_with_78_and_says_where() {
    for (text, said) in [
        ("[results]\ndirr = \"x\"\n", "did you mean `dir`?"),
        ("[[lane]]\nworkers = \"five\"\n", "drone.toml:2:11"),
        ("[results]\nrescan = \"soon\"\n", "`soon` is not a duration"),
        ("[results\n", "drone.toml:1"),
    ] {
        for command in ["run", "check"] {
            let done = with_config(text, &[command]);
            let error = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(78), "{command}: {error}");
            assert!(error.contains(said), "{error}");
        }
    }
}

const MISSING: &str = "[results]\ndir = \"/nonexistent/results\"\n[store]\nurl = \"memory:///\"\n";

#[test]
fn a_missing_results_directory_is_named() {
    let done = with_config(MISSING, &["run"]);
    let log = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(78), "{log}");
    assert!(log.contains("/nonexistent/results") && log.contains("No such file"), "{log}");
    let done = with_config(MISSING, &["check"]);
    assert_eq!(done.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&done.stdout).contains("set results.dir"));
}

#[test]
fn a_results_directory_that_is_a_file_is_refused() {
    let bench = Bench::new();
    fs::remove_dir(bench.results()).unwrap();
    fs::write(bench.results(), "no directory").unwrap();
    assert_eq!(bench.tell(&["run"]).status.code(), Some(78));
}

#[test]
fn a_bucket_that_does_not_exist_is_said_and_deletes_nothing() {
    let server = Server::start(Flavour::S3);
    let gone = server.misbehave(Fault::new("PUT", "/lab/", What::Status(404, None)));
    let bench = Bench::with_store(&s3(&server.url()));
    bench.finished(&["101-a"]);
    let done = bench.tell(&["run"]);
    assert!(gone.fired() > 0);
    let log = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(78), "{log}");
    assert!(log.contains("no such bucket"), "{log}");
    assert_eq!(bench.left(), ["101-a"]);
    let done = bench.tell(&["check", "--connect"]);
    assert_eq!(done.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&done.stdout).contains("store        FAILED"));
}

#[test]
fn a_store_without_credentials_is_refused_and_no_metadata_server_is_asked() {
    for store in [
        "url = \"s3://lab\"",
        "url = \"gs://lab\"",
        "url = \"az://lab\"\noptions = { azure_storage_account_name = \"x\" }",
    ] {
        let bench = Bench::with_store(store);
        let mut command = bench.command(&["run"]);
        for (name, _) in std::env::vars().filter(|(name, _)| {
            name.starts_with("AWS_") || name.starts_with("GOOGLE_") || name.starts_with("AZURE_")
        }) {
            command.env_remove(name);
        }
        let done = command.output().unwrap();
        let log = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.status.code(), Some(78), "{log}");
        assert!(log.contains("no credentials: set option"), "{log}");
    }
}

#[test]
fn the_second_drone_of_a_directory_ends_with_75() {
    let mut bench = Bench::new();
    bench.start();
    bench.wait_until_said("drone runs");
    let second = bench.tell(&["run"]);
    assert_eq!(second.status.code(), Some(75), "{}", String::from_utf8_lossy(&second.stdout));
    // Another state directory does not help: the results directory itself is held.
    let mut other = bench.command(&["run"]);
    let other = other.env("DRONEKEEPER__DRONE__STATE_DIR", bench.path("other-state")).output().unwrap();
    let log = String::from_utf8_lossy(&other.stdout).into_owned();
    assert_eq!(other.status.code(), Some(75), "{log}");
    assert!(log.contains("holds the results directory"), "{log}");
    assert!(bench.runs());
}

#[test]
fn a_results_directory_that_vanishes_is_not_an_empty_one() {
    let mut bench = Bench::new();
    bench.job("101-a");
    bench.start();
    bench.wait_until_said("drone runs");
    fs::rename(bench.results(), bench.path("elsewhere")).unwrap();
    bench.wait_until_said("results directory cannot be read");
    fs::rename(bench.path("elsewhere"), bench.results()).unwrap();
    bench.wait_until_said("results directory is readable again");
    bench.finish("101-a");
    bench.wait_until_gone("101-a");
    assert_eq!(bench.said("results directory cannot be read"), 1);
}

#[test]
fn the_log_goes_to_a_file_that_can_be_followed() {
    let place = Bench::new();
    let log = place.path("logs/drone.log");
    let mut bench = Bench::new().extra(&format!("[log]\nfile = {log:?}\nkeep = 3"));
    bench.start();
    bench.wait("the log says that it runs", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("drone runs"))
    });
    assert!(std::fs::symlink_metadata(&log).unwrap().is_symlink());
    assert_eq!(std::fs::read_dir(place.path("logs")).unwrap().count(), 2);
    assert_eq!(bench.said("drone runs"), 0, "it went to standard output too");
    bench.stop();
    std::fs::remove_file(&log).unwrap();
    std::fs::write(&log, "somebody's file").unwrap();
    let run = bench.tell(&["run"]);
    assert_eq!(run.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&run.stderr).contains("move it away"));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "somebody's file");
}
