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

/// The verdict on the file; while the tree is between two configurations nobody answers.
fn reload(bench: &Bench) -> (bool, String) {
    let mut verdict = (false, String::new());
    bench.wait("a verdict", || {
        verdict = tell(bench, &["reload"]);
        !verdict.1.contains("no dronekeeper answers")
    });
    verdict
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

#[test]
fn the_logs_level_and_format_change_without_a_restart_of_anything() {
    let mut bench = Bench::new();
    bench.start();
    bench.wait_until_said("console listens");
    let file = bench.path("dronekeeper.toml");
    let plain = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{plain}\n[log]\nlevel = \"info,actors=debug\"\n")).unwrap();
    let (done, verdict) = tell(&bench, &["reload"]);
    assert!(done && verdict.contains("log.level: (default) -> \"info,actors=debug\""), "{verdict}");
    bench.finished(&["101-a"]);
    bench.wait_until_gone("101-a");
    assert!(bench.said(" DEBUG ") > 0, "nothing is said at debug");
    fs::write(&file, format!("{plain}\n[log]\nformat = \"json\"\n")).unwrap();
    assert!(tell(&bench, &["reload"]).0);
    bench.finished(&["102-b"]);
    bench.wait_until_gone("102-b");
    bench.wait("it is said in JSON", || bench.said("\"message\":\"pruned\"") == 1);
    let later = bench.log();
    let later = later.split("102-b").last().unwrap();
    assert!(!later.contains("DEBUG"), "{later}");
    assert_eq!(bench.said("drone runs"), 1);
}

#[test]
fn the_journal_gets_what_is_said_with_its_fields() {
    let mut bench = Bench::new().extra("[log]\nformat = \"journald\"");
    let place = bench.path("journal");
    let refused = bench.command(&["run"]).env("DRONEKEEPER_JOURNAL", &place).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(78) && why.contains("without systemd"), "{why}");
    let journal = std::os::unix::net::UnixDatagram::bind(&place).unwrap();
    journal.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    bench.finished(&["101-a"]);
    bench.start_with(&[("DRONEKEEPER_JOURNAL", place.to_str().unwrap())]);
    let mut entry = vec![0; 64 << 10];
    loop {
        let length = journal.recv(&mut entry).expect("the journal gets nothing");
        let entry = String::from_utf8_lossy(&entry[..length]);
        if entry.contains("MESSAGE=pruned") {
            assert!(entry.contains("PRIORITY=6\n") && entry.contains("\nDRONEKEEPER_JOB=101-a\n"), "{entry}");
            break;
        }
    }
}

/// More of them: `LAB_RELOADS=1000 tests/run random_reloads`.
#[test]
fn random_reloads_half_of_them_broken_lose_no_upload() {
    let reloads: u64 = std::env::var("LAB_RELOADS").map_or(24, |count| count.parse().unwrap());
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server).lane("workers = 2");
    let plain = fs::read_to_string(bench.write_config()).unwrap();
    let (file, mut kept) = (bench.path("dronekeeper.toml"), std::collections::BTreeMap::new());
    bench.start();
    bench.wait_until_said("console listens");
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    let (mut good, mut broken) = (0, 0);
    for round in 0..reloads {
        if round % 3 == 0 {
            let name = format!("{}-a", 1000 + round);
            let dir = bench.job(&name);
            fs::write(dir.join("large"), vec![round as u8; (roll(12) << 20) as usize]).unwrap();
            bench.finish(&name);
            kept.insert(name, hashes(&dir));
        }
        let sound = format!(
            "{}\n[limits]\ndeletions_per_hour = {}\n[supervision]\nmax_restarts = {}\n[mail]\ndigest = \"{}m\"\n",
            plain
                .replace("workers = 2", &format!("workers = {}", 1 + roll(4)))
                .replace("rescan = \"100ms\"", &format!("rescan = \"{}ms\"", 100 + roll(200)))
                .replace("[disk]\nhigh = \"100%\"", &format!("[disk]\nhigh = \"{}%\"", 95 + roll(6)))
                .replace("stall = \"3s\"", &format!("stall = \"{}s\"", 3 + roll(5))),
            5000 + roll(5000),
            3 + roll(5),
            1 + roll(60),
        );
        let text = match roll(8) {
            0 => sound[..(roll(sound.len() as u64)) as usize].to_owned() + "\n[",
            1 => format!("{sound}\n[nosuch]\nkey = 1\n"),
            2 => sound.replace("workers = ", "workers = -"),
            3 => sound.replace("[results]", "[results]\nrescam = \"1s\""),
            _ => sound,
        };
        fs::write(&file, text).unwrap();
        match reload(&bench).0 {
            true => good += 1,
            false => broken += 1,
        }
        std::thread::sleep(std::time::Duration::from_millis(roll(300)));
        assert!(bench.runs(), "the process ended");
    }
    assert!(good > reloads / 5 && broken > reloads / 5, "{good} good, {broken} broken");
    fs::write(&file, &plain).unwrap();
    bench.wait("the last one is taken", || tell(&bench, &["reload"]).0);
    for (name, files) in &kept {
        bench.wait_until_gone(name);
        assert_eq!(&bench.restored(name), files);
    }
    println!("{good} good and {broken} broken reloads, {} jobs", kept.len());
}

/// What is visible of a configuration.
type Effect = fn(&serde_json::Value) -> bool;

/// Section, key, another value than the bench's, and what `status --json` then shows, where it shows it.
const EDITS: [(&str, &str, &str, Option<Effect>); 46] = [
    ("log", "level", "\"debug\"", None),
    ("log", "format", "\"json\"", None),
    ("supervision", "max_restarts", "7", None),
    ("supervision", "window", "\"90s\"", None),
    ("supervision", "backoff", "\"50ms..10s\"", None),
    ("supervision", "hang_after", "\"90s\"", None),
    ("results", "rescan", "\"150ms\"", None),
    ("store", "prefix", "\"below\"", None),
    ("store", "stall", "\"4s\"", None),
    ("store", "connections", "7", None),
    ("store", "layout", "\"packed\"", None),
    ("lane", "workers", "3", Some(|status| status["lanes"][0]["workers"] == 3)),
    ("lane", "settle", "\"250ms\"", None),
    ("lane", "timeout", "\"2h\"", None),
    ("lane", "attempts", "9", None),
    ("lane", "name", "\"renamed\"", Some(|status| status["lanes"][0]["name"] == "renamed")),
    ("lane", "order", "\"smallest\"", None),
    ("lane", "delete_after", "\"1s\"", None),
    ("disk", "high", "\"1%\"", Some(|status| status["disk"]["pressing"] == true)),
    ("disk", "low", "\"1%\"", None),
    ("disk", "pressure_workers", "4", None),
    ("limits", "deletions_per_hour", "9000", None),
    ("limits", "hub_requests_per_second", "5", None),
    (
        "hub",
        "url",
        "\"http://127.0.0.1:1/\"",
        Some(|status| status["hub"]["url"].as_str().is_some_and(|url| url.contains(":1/"))),
    ),
    ("hub", "heartbeat", "\"7s\"", None),
    ("hub", "timeout", "\"3s\"", None),
    ("hub", "token", "\"t\"", None),
    ("mail", "smtp", "\"smtp://127.0.0.1:1\"", None),
    ("mail", "digest", "\"2h\"", None),
    ("shutdown", "deadline", "\"5s\"", None),
    ("admin", "token", "\"secret\"", None),
    (
        "drone",
        "mode",
        "\"shadow\"",
        Some(|status| status["lanes"][0]["special"].to_string().contains("shadow")),
    ),
    ("drone", "name", "\"other\"", Some(|status| status["drone"] == "other")),
    ("containers", "count", "2", None),
    ("containers", "max_uptime", "\"2h\"", None),
    ("containers", "stop_timeout", "\"1h\"", None),
    ("containers", "env", "{ A = \"b\" }", None),
    ("containers", "volumes", "[]", None),
    ("queue", "workers", "2", None),
    ("queue", "timeout", "\"1m\"", None),
    ("queue", "on", "\"offloaded\"", None),
    ("queue", "command", "[\"true\", \"{job}\"]", None),
    ("queue", "must_precede_prune", "false", None),
    ("queue", "attempts", "2", None),
    ("queue", "output", "\"2KiB\"", None),
    ("queue", "nice", "3", None),
];

#[test]
fn every_kind_of_key_comes_into_force_under_load_and_no_upload_is_lost() {
    let server = Server::start(Flavour::S3);
    let queue = "[[queue]]\nname = \"work\"\ncommand = [\"true\"]\n";
    let rest = "[log]\n[supervision]\n[limits]\n[hub]\n[mail]\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n[shutdown]\n[containers]\n";
    let mut bench = Bench::on(&server)
        .lane("workers = 2")
        .extra(&format!("{queue}{rest}[disk]\nhigh = \"100%\"\nlow = \"0%\"\n"));
    let plain = fs::read_to_string(bench.write_config()).unwrap();
    let file = bench.path("dronekeeper.toml");
    bench.start();
    bench.wait_until_said("console listens");
    let mut kept = std::collections::BTreeMap::new();
    for (number, (section, key, value, effect)) in EDITS.into_iter().enumerate() {
        let name = format!("{}-a", 1000 + number);
        let dir = bench.job(&name);
        fs::write(dir.join("large"), vec![number as u8; 2 << 20]).unwrap();
        bench.finish(&name);
        kept.insert(name, hashes(&dir));
        let heads = [format!("[{section}]\n"), format!("[[{section}]]\n")];
        let head = heads.iter().find(|head| plain.contains(*head)).unwrap();
        let (before, after) = plain.split_once(head.as_str()).unwrap();
        let (own, others) = after.split_once("\n[").unwrap_or((after, ""));
        let own: String = own
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} =")))
            .map(|line| format!("{line}\n"))
            .collect();
        let others = if others.is_empty() { String::new() } else { format!("[{others}") };
        fs::write(&file, format!("{before}{head}{key} = {value}\n{own}{others}")).unwrap();
        let (done, verdict) = reload(&bench);
        assert!(done && verdict.contains(key), "{section}.{key}: {verdict}");
        if let Some(effect) = effect {
            bench.wait(&format!("{section}.{key} has its effect"), || {
                let (_, status) = tell(&bench, &["status", "--json"]);
                serde_json::from_str(&status).is_ok_and(|status| effect(&status))
            });
        }
        assert!(bench.runs(), "the process ended with {section}.{key}");
    }
    fs::write(&file, &plain).unwrap();
    bench.wait("the first one is in force again", || tell(&bench, &["reload"]).0);
    for (name, files) in &kept {
        bench.wait_until_gone(name);
        if server.objects().contains_key(&format!("{name}/.dronekeeper/manifest.json")) {
            assert_eq!(bench.restored(name), *files);
        } else {
            // It went while `store.prefix` was another.
            let below = format!("below/{name}/.dronekeeper/manifest.json");
            assert!(server.objects().contains_key(&below), "{name} is nowhere");
        }
    }
}
