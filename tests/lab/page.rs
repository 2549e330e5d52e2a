//! The status page, in a real browser; and the same in a terminal.

use crate::bench::Bench;
use std::fs;
use std::process::Command;

#[test]
fn the_page_shows_what_comes_fails_and_goes_and_no_name_can_run_a_script() {
    let mut bench = Bench::new().lane("directories = [\"[0-9]*-*\"]");
    // The plots of an earlier run.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let minute =
        |age: u64| format!("{{\"at\":{},\"used_percent\":40,\"bytes_per_second\":{}}}", now - age * 60, age);
    let minutes: Vec<String> = (1..100).rev().map(minute).collect();
    fs::create_dir_all(bench.path("state")).unwrap();
    fs::write(bench.path("state/history.json"), format!("[{}]", minutes.join(","))).unwrap();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    bench.start_with(&[("DRONEKEEPER__ADMIN__LISTEN", &format!("127.0.0.1:{port}"))]);
    bench.wait_until_said("console listens");
    let looked = Command::new("python3")
        .args(["tests/page.py", &format!("http://127.0.0.1:{port}")])
        .arg(bench.dir.path())
        .output()
        .unwrap();
    let (said, faults) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    assert!(looked.status.success(), "{said}{faults}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 3, "{said}");
}
