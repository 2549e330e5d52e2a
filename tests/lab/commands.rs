//! What an operator asks and says, on the command line.

use crate::bench::{Bench, hashes};
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::process::Output;

fn out(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn offload_works_without_a_daemon() {
    let server = Server::start(Flavour::S3);
    let bench = Bench::on(&server);
    let jobs = bench.finished(&["101-a", "102-b"]);
    let dirs = [bench.results().join("101-a"), bench.results().join("102-b")];
    let dirs: Vec<&str> = dirs.iter().map(|dir| dir.to_str().unwrap()).collect();
    let dry = bench.tell(&["offload", "--dry-run", dirs[0]]);
    assert!(out(&dry).contains("101-a: 4 files, "), "{}", out(&dry));
    assert!(server.objects().is_empty(), "a dry run wrote something");
    let kept = bench.tell(&["offload", "--keep", dirs[0], dirs[1]]);
    assert!(kept.status.success() && out(&kept).contains("2 of 2 directories"), "{}", out(&kept));
    assert_eq!(bench.left(), ["101-a", "102-b"]);
    let gone = bench.tell(&["offload", dirs[0], dirs[1]]);
    assert!(gone.status.success(), "{}", out(&gone));
    assert_eq!(bench.left(), [""; 0]);
    let sent = server
        .log()
        .iter()
        .filter(|asked| asked.method == "PUT" && asked.target.ends_with("101-a/status.log"))
        .count();
    assert_eq!(sent, 1, "what was proven was sent again");
    assert_eq!(bench.restored("102-b"), jobs["102-b"]);
}

#[test]
fn offload_says_what_failed_and_keeps_it() {
    let server = Server::start(Flavour::S3);
    server.misbehave(Fault::new("PUT", "101-a/status", What::Status(400, None)));
    let bench = Bench::on(&server);
    bench.finished(&["101-a", "102-b"]);
    let done = bench.tell(&["offload", "results/101-a", "results/102-b", "results/103-none"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(
        out(&done).contains("101-a: not offloaded") && out(&done).contains("1 of 3 directories"),
        "{}",
        out(&done)
    );
    assert_eq!(bench.left(), ["101-a"]);
}

#[test]
fn status_and_jobs_tell_what_is_wrong_and_why() {
    let server = Server::start(Flavour::S3);
    server.misbehave(Fault::new("PUT", "101-a/status", What::Status(400, None)));
    let mut bench = Bench::on(&server);
    assert_eq!(bench.tell(&["status"]).status.code(), Some(69), "nobody runs yet");
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    bench.wait_until_gone("102-b");
    bench.wait_until_said("attempt failed");
    let status = bench.tell(&["status"]);
    assert_eq!(status.status.code(), Some(1), "{}", out(&status));
    for part in [
        "DEGRADED",
        "root/offload/lanes/jobs/uploaders/1",
        "(proves by checksum and listing)",
        "s3://lab at http://127.0.0.1",
        "[failed]",
    ] {
        assert!(out(&status).contains(part), "{part} is missing in\n{}", out(&status));
    }
    let json: serde_json::Value = serde_json::from_slice(&bench.tell(&["status", "--json"]).stdout).unwrap();
    assert_eq!((&json["schema"], &json["lanes"][0]["failed"]), (&1.into(), &1.into()));
    // Also while it is tried again.
    for _ in 0..20 {
        assert!(out(&bench.tell(&["jobs", "--state", "failed"])).contains("101-a"), "it is not listed");
    }
    assert!(out(&bench.tell(&["jobs", "--state", "pruned"])).contains("102-b"));
    let tale = bench.tell(&["jobs", "show", "101-a"]);
    assert!(out(&tale).contains("attempt 1") && out(&tale).contains("status.log"), "{}", out(&tale));
    assert_eq!(bench.tell(&["jobs", "show", "999-none"]).status.code(), Some(66));
}

#[test]
fn a_job_that_ran_out_of_attempts_is_quarantined_until_a_person_releases_it() {
    let server = Server::start(Flavour::S3);
    let fault = server.misbehave(Fault::new("PUT", "101-a/status", What::Status(400, None)));
    let mut bench = Bench::on(&server).lane("attempts = 2");
    let jobs = bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("quarantined job=101-a");
    assert_eq!(bench.left(), ["101-a"]);
    assert!(out(&bench.tell(&["quarantine", "ls"])).contains("2 attempts failed"));
    fault.over();
    let released = bench.tell(&["quarantine", "release", "101-a"]);
    assert!(released.status.success(), "{}", String::from_utf8_lossy(&released.stderr));
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), jobs["101-a"]);
}

#[test]
fn a_pause_holds_and_survives_a_restart_until_resume() {
    let mut bench = Bench::new();
    bench.start();
    bench.wait_until_said("drone runs");
    bench.wait("the console answers", || bench.tell(&["pause", "--reason", "bucket move"]).status.success());
    bench.stop();
    bench.start();
    bench.finished(&["101-a"]);
    bench.wait("the pause is shown", || out(&bench.tell(&["status"])).contains("paused: bucket move"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(bench.left(), ["101-a"], "offloaded while paused");
    assert_eq!(bench.tell(&["pause", "no-such-lane"]).status.code(), Some(1));
    assert!(bench.tell(&["resume"]).status.success());
    bench.wait_until_gone("101-a");
}

#[test]
fn a_failed_job_is_retried_at_once_when_told() {
    let server = Server::start(Flavour::S3);
    let fault = server.misbehave(Fault::new("PUT", "101-a/status", What::Status(400, None)));
    let mut bench = Bench::on(&server);
    let jobs = bench.finished(&["101-a"]);
    bench.start();
    bench.wait("some attempts", || bench.said("attempt failed") >= 4);
    assert_eq!(bench.left(), ["101-a"], "given up, and deleted");
    fault.over();
    // It may be tried by itself just now.
    assert!(bench.tell(&["retry", "101-a"]).status.success() || bench.said("verified job=101-a") == 1);
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), jobs["101-a"]);
    assert_eq!(bench.tell(&["retry", "101-a"]).status.code(), Some(1), "there is nothing to retry");
}

#[test]
fn too_many_deletions_stop_pruning_until_resume() {
    let mut bench = Bench::new().extra("[limits]\ndeletions_per_hour = 2");
    bench.finished(&["101-a", "102-b", "103-c", "104-d"]);
    bench.start();
    bench.wait_until_said("pruning stops");
    bench.wait("all stored", || bench.said("verified job=") == 4);
    assert_eq!(bench.left().len(), 2);
    assert!(out(&bench.tell(&["status"])).contains("nothing is deleted"));
    assert!(bench.tell(&["resume"]).status.success());
    bench.wait("the rest pruned", || bench.left().is_empty());
}

#[test]
fn verify_names_each_difference() {
    let server = Server::start(Flavour::S3);
    let bench = Bench::on(&server);
    bench.finished(&["101-a"]);
    assert!(bench.tell(&["offload", "--keep", "results/101-a"]).status.success());
    assert!(bench.tell(&["verify", "101-a"]).status.success());
    server.mutate("101-a/status.log", Some(b"bit rot"));
    server.mutate("101-a/empty", None);
    for arguments in [&["verify", "101-a"][..], &["verify", "--all", "--read-back"]] {
        let done = bench.tell(arguments);
        assert_eq!(done.status.code(), Some(1));
        assert!(
            out(&done).contains("101-a/status.log") && out(&done).contains("101-a/empty"),
            "{}",
            out(&done)
        );
    }
    assert_eq!(bench.tell(&["verify", "999-none"]).status.code(), Some(1));
}

#[test]
fn restore_brings_back_one_file_and_refuses_to_overwrite() {
    let server = Server::start(Flavour::S3);
    let bench = Bench::on(&server);
    bench.finished(&["101-a"]);
    std::os::unix::fs::symlink("status.log", bench.results().join("101-a/link")).unwrap();
    assert!(bench.tell(&["offload", "results/101-a"]).status.success());
    let some = bench.tell(&["restore", "101-a", "--to", "some", "--path", "debug/*"]);
    assert!(some.status.success());
    assert_eq!(hashes(&bench.path("some")).len(), 1);
    let again = bench.tell(&["restore", "101-a", "--to", "some"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("not an empty directory"));
    assert!(bench.tell(&["restore", "101-a", "--to", "all"]).status.success());
    assert_eq!(fs::read_link(bench.path("all/link")).unwrap().to_str(), Some("status.log"));
    server.mutate("101-a/status.log", Some(b"bit rot"));
    let rotten = bench.tell(&["restore", "101-a", "--to", "rotten"]);
    assert_eq!(rotten.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&rotten.stderr).contains("differs from its manifest"));
}

#[test]
fn the_demo_ends_with_everything_offloaded() {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_dronekeeper"))
        .args(["demo", "--once"])
        .output()
        .unwrap();
    assert!(
        done.status.success()
            && out(&done).contains("All finished jobs are reported, offloaded, verified and pruned"),
        "{}",
        out(&done)
    );
}

#[test]
fn completions_and_a_man_page_can_be_had() {
    let bench = Bench::new();
    assert!(out(&bench.tell(&["completions", "bash"])).contains("dronekeeper"));
    assert!(out(&bench.tell(&["man"])).contains(".TH dronekeeper"));
}

#[test]
fn metrics_and_alerts_are_what_prometheus_takes() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.finished(&["101-a"]);
    bench.start_with(&[("DRONEKEEPER__ADMIN__LISTEN", &free.to_string())]);
    bench.wait_until_gone("101-a");
    let scrape = || {
        let done =
            std::process::Command::new("curl").args(["--silent", &format!("http://{free}/metrics")]).output();
        String::from_utf8(done.unwrap().stdout).unwrap()
    };
    bench.wait("the store was asked", || {
        scrape().contains("dronekeeper_store_last_success_timestamp_seconds")
    });
    let text = scrape();
    for line in
        ["dronekeeper_healthy 1\n", "dronekeeper_lane_directories{lane=\"jobs\"}", "version=\"0.1.0\""]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let file = bench.path("metrics");
    fs::write(&file, &text).unwrap();
    let promtool = |arguments: &[&str], input: Option<&std::path::Path>| {
        let mut command = std::process::Command::new("promtool");
        if let Some(input) = input {
            command.stdin(fs::File::open(input).unwrap());
        }
        let done =
            command.args(arguments).output().expect("promtool is missing: run these tests with tests/run");
        assert!(done.status.success(), "{}{}", out(&done), String::from_utf8_lossy(&done.stderr));
    };
    promtool(&["check", "metrics"], Some(&file));
    promtool(&["check", "rules", "config/alerts.yml"], None);
    // Every metric that an alert speaks of is there, or is the hub's.
    let rules = fs::read_to_string("config/alerts.yml").unwrap();
    let conditional = [
        "dronekeeper_hub_drone_up",
        "dronekeeper_disk_full_in_seconds",
        "dronekeeper_problem",
        "dronekeeper_containers",
        "dronekeeper_heartbeat_last_success_timestamp_seconds",
    ];
    // What the dashboard asks can be asked: as rules, which promtool reads.
    let dashboard: serde_json::Value =
        serde_json::from_slice(&fs::read("config/dashboard.json").unwrap()).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let asked: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().replace("$drone", ".*")).collect();
    assert!(asked.len() > 10);
    let recorded = asked
        .iter()
        .enumerate()
        .map(|(at, expr)| serde_json::json!({ "record": format!("dashboard:{at}"), "expr": expr }));
    let recorded =
        serde_json::json!({ "groups": [{ "name": "dashboard", "rules": recorded.collect::<Vec<_>>() }] });
    let file = bench.path("dashboard.yml");
    fs::write(&file, recorded.to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], None);
    let rules = format!("{rules} {}", asked.join(" "));
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for name in words.filter(|word| word.starts_with("dronekeeper_")) {
        assert!(conditional.contains(&name) || text.contains(name), "{name} is no metric");
    }
}

#[test]
fn the_admin_address_answers_its_own_machine_and_takes_no_orders() {
    use std::io::{Read, Write};
    let mut bench = Bench::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.start_with(&[("DRONEKEEPER__ADMIN__LISTEN", &free.to_string())]);
    bench.wait_until_said("console listens");
    let ask = |request: &str| {
        let mut stream = std::net::TcpStream::connect(free).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let get = |path: &str, headers: &str| {
        ask(&format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"))
    };
    assert!(get("/api/v1/status", "Host: localhost\r\n").contains("\"schema\":1"));
    assert!(get("/healthz", "Host: 127.0.0.1:9470\r\n").contains("alive"));
    // The console is up before the rest of the tree.
    bench.wait("ready", || get("/readyz", "Host: localhost\r\n").starts_with("HTTP/1.1 200"));
    assert!(get("/api/v1/status", "Host: evil.example\r\n").starts_with("HTTP/1.1 403"));
    assert!(
        get("/api/v1/status", "Host: localhost\r\nOrigin: http://evil.example\r\n")
            .starts_with("HTTP/1.1 403")
    );
    let order = "POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    assert!(!ask(order).starts_with("HTTP/1.1 200"));
    // A connection that is gone before it is served has no address; it may not pass for the socket.
    for _ in 0..200 {
        let mut stream = std::net::TcpStream::connect(free).unwrap();
        stream.write_all(order.as_bytes()).unwrap();
        drop(stream);
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(!out(&bench.tell(&["status"])).contains("paused"), "an order was taken over TCP");
}

#[test]
fn a_file_in_the_place_of_the_socket_is_not_deleted() {
    let mut bench = Bench::new();
    fs::create_dir(bench.path("state")).unwrap();
    fs::write(bench.path("state/dronekeeper.sock"), "somebody's").unwrap();
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("cannot listen on");
    bench.wait_until_gone("101-a");
    assert_eq!(fs::read_to_string(bench.path("state/dronekeeper.sock")).unwrap(), "somebody's");
}

#[test]
fn output_that_nobody_can_read_is_an_error_and_no_crash() {
    let mut bench = Bench::new();
    bench.start();
    bench.wait_until_said("console listens");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let done = bench.command(&["status"]).stdout(full).stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("error: cannot write to standard output") && !said.contains("panicked"), "{said}");
}

#[test]
fn an_order_that_names_one_wrong_directory_does_nothing_at_all() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server).lane("workers = 2");
    bench.finished(&["101-a"]);
    let fault = server.misbehave(Fault::new("PUT", "101-a/status", What::Status(400, None)));
    bench.start();
    bench.wait("a failure", || out(&bench.tell(&["jobs", "--state", "failed"])).contains("101-a"));
    let done = bench.tell(&["retry", bench.results().join("101-a").to_str().unwrap(), "/elsewhere/102-b"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("/elsewhere/102-b is not below"));
    // A lane's name is a value, whatever it looks like.
    assert!(out(&bench.tell(&["jobs", "--lane", "jobs&state=failed"])).contains("0 jobs"));
    // Only what is quarantined can be dropped.
    let done = bench.tell(&["quarantine", "drop", "101-a"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("not quarantined"));
    fault.over();
}

#[test]
fn a_support_bundle_has_what_a_report_needs_and_no_secret() {
    let mut bench = Bench::new().extra("[log]\nfile = \"drone.log\"\n[mail]\nsmtp = \"smtp://127.0.0.1:1\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nuser = \"u\"\npassword = \"hunter2\"");
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_gone("101-a");
    let made = bench.tell(&["support-bundle", "-o", "report.tar.gz"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let unpacked = std::process::Command::new("tar")
        .args(["-xzf", "report.tar.gz"])
        .current_dir(bench.dir.path())
        .status();
    assert!(unpacked.unwrap().success());
    let report = bench.path("dronekeeper");
    let read = |name: &str| String::from_utf8_lossy(&fs::read(report.join(name)).unwrap()).into_owned();
    assert!(
        read("status.json").contains("\"drone\":\"bench\"")
            && read("dronekeeper.log").contains("pruned job=101-a")
    );
    assert!(read("config.toml").contains("[redacted]") && read("deletions.log").contains("101-a"));
    assert!(read("ledger.sqlite").starts_with("SQLite format 3"));
    for file in fs::read_dir(&report).unwrap().flatten().filter(|file| file.path().is_file()) {
        assert!(!String::from_utf8_lossy(&fs::read(file.path()).unwrap()).contains("hunter2"), "{file:?}");
    }
    assert!(!bench.tell(&["support-bundle", "-o", "report.tar.gz"]).status.success(), "it was overwritten");
    bench.kill();
    let made = bench.tell(&["support-bundle", "-o", "dead.tar.gz"]);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() && said.contains("status.json: no drone answers"), "{said}");
}
