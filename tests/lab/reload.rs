//! The configuration is read again while the process runs; nothing is lost, and a broken one changes nothing.

use crate::bench::{Bench, hashes};
use rustix::process::Signal;
use stage::{Fault, Flavour, Server, What};
use std::fs;

/// Writes the bench's configuration with some text replaced by another.
fn save(bench: &Bench, from: &str, to: &str) {
    let file = bench.path("dronekeeper.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(&file, text.replace(from, to)).unwrap();
}

/// Runs a command without writing the configuration anew.
fn tell(bench: &Bench, arguments: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dronekeeper"));
    let done = command.arg("-c").arg(bench.path("dronekeeper.toml")).args(arguments).output().unwrap();
    (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

#[test]
fn a_new_configuration_comes_into_force_by_command_by_signal_and_when_it_is_saved() {
    let mut bench = Bench::new().lane("workers = 1");
    bench.start();
    bench.wait_until_said("console listens");
    bench.job("201-b");
    let other = bench.path("elsewhere");
    // By command: another store; the verdict is printed.
    save(
        &bench,
        &format!("file://{}", bench.path("offloaded").display()),
        &format!("file://{}", other.display()),
    );
    let (done, verdict) = tell(&bench, &["reload"]);
    assert!(done && verdict.contains("store.url: ") && verdict.contains("elsewhere"), "{verdict}");
    bench.wait("it runs again", || bench.said("drone runs") == 2);
    bench.finish("201-b");
    bench.wait_until_gone("201-b");
    assert!(other.join("201-b/.dronekeeper/manifest.json").exists());
    // By signal.
    save(&bench, "workers = 1", "workers = 3");
    bench.signal(Signal::HUP);
    bench.wait("it runs again", || bench.said("drone runs") == 3);
    assert!(bench.said("lane.0.workers: 1 -> 3") >= 1, "the difference is not in the log");
    bench.signal(Signal::USR1);
    bench.wait_until_said("status healthy=");
    // By being saved; a lane more.
    let file = bench.path("dronekeeper.toml");
    let text = fs::read_to_string(&file).unwrap();
    let lane = "[[lane]]\nname = \"more\"\nsettle = \"150ms\"\ndirectories = [\"more-*\"]\n";
    fs::write(&file, format!("{text}\n{lane}")).unwrap();
    bench.wait("it runs again", || bench.said("drone runs") == 4);
    bench.job("more-1");
    bench.finish("more-1");
    bench.wait_until_gone("more-1");
    assert!(bench.runs(), "it is another process");
    assert_eq!(bench.stop(), Some(0));
}

#[test]
fn a_broken_file_changes_nothing_and_is_shown_until_it_is_mended() {
    let mut bench = Bench::new();
    bench.start();
    bench.wait_until_said("console listens");
    save(&bench, "rescan = \"100ms\"", "rescan = \"soon\"");
    let (done, verdict) = tell(&bench, &["reload"]);
    assert!(!done && verdict.contains("`soon` is not a duration"), "{verdict}");
    bench.finished(&["101-a"]);
    bench.wait_until_gone("101-a");
    let good = fs::read_to_string(bench.path("dronekeeper.toml")).unwrap().replace("soon", "100ms");
    let status = || {
        let mut client = std::process::Command::new("curl");
        client.args(["--silent", "--unix-socket"]).arg(bench.path("state/dronekeeper.sock"));
        String::from_utf8(client.arg("http://drone/api/v1/status").output().unwrap().stdout).unwrap()
    };
    bench.wait("it is shown", || status().contains("the file on disk is not the one in force"));
    // One that is valid, and cannot be opened: the one before stays in force.
    fs::write(bench.path("dronekeeper.toml"), good.replace("/results\"", "/nowhere\"")).unwrap();
    bench.wait_until_said("the one before is in force again");
    bench.finished(&["102-b"]);
    bench.wait_until_gone("102-b");
    fs::write(bench.path("dronekeeper.toml"), good).unwrap();
    bench.wait("all is well", || {
        !status().contains("not the one in force") && status().contains("\"healthy\":true")
    });
}

#[test]
fn an_upload_goes_on_through_reloads() {
    let server = Server::start(Flavour::S3);
    let slow =
        server.misbehave(Fault::new("PUT", "partNumber", What::Delay(std::time::Duration::from_millis(150))));
    let mut bench = Bench::on(&server);
    let dir = bench.job("101-a");
    fs::write(dir.join("large"), vec![7; 120 << 20]).unwrap();
    bench.finish("101-a");
    let files = hashes(&dir);
    bench.start();
    for round in 1..=3 {
        bench.wait("some parts are sent", || slow.fired() >= round * 3);
        bench.signal(Signal::HUP);
        bench.wait("it runs again", || bench.said("drone runs") as u64 == round + 1);
    }
    slow.over();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
}
