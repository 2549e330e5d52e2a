//! The configuration is read again while the process runs; nothing is lost, and a broken one changes nothing.

use crate::bench::{Bench, hashes};
use rustix::process::Signal;
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::time::Duration;

/// What the log says when a new configuration has come into force.
pub const IN_FORCE: &str = "the new configuration is in force";

/// Writes the bench's configuration with some text replaced by another.
pub fn save(bench: &Bench, from: &str, to: &str) {
    let file = bench.path("dronekeeper.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(&file, text.replace(from, to)).unwrap();
}

/// Runs a command without writing the configuration anew.
pub fn tell(bench: &Bench, arguments: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dronekeeper"));
    let done = command.arg("-c").arg(bench.path("dronekeeper.toml")).args(arguments).output().unwrap();
    (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

/// The verdict on the file; while the tree is between two configurations nobody answers.
pub fn reload(bench: &Bench) -> (bool, String) {
    let mut verdict = (false, String::new());
    bench.wait("a verdict", || {
        verdict = tell(bench, &["reload"]);
        !verdict.1.contains("no dronekeeper answers")
    });
    verdict
}

/// Was a difference with these words told: to who asked, or to the log, if the drone saw first that the file was saved?
pub fn told(bench: &Bench, verdict: &str, words: &[&str]) -> bool {
    let has = |line: &str| words.iter().all(|word| line.contains(word));
    let log = bench.log();
    verdict.lines().any(has)
        || verdict.contains("nothing is different")
            && log.lines().any(|line| line.contains("the configuration changes") && has(line))
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
    assert!(done && told(&bench, &verdict, &["store.url: ", "elsewhere"]), "{verdict}");
    bench.wait("it is in force", || bench.said(IN_FORCE) == 1);
    bench.finish("201-b");
    bench.wait_until_gone("201-b");
    assert!(other.join("201-b/.dronekeeper/manifest.json").exists());
    // By signal.
    save(&bench, "workers = 1", "workers = 3");
    bench.signal(Signal::HUP);
    bench.wait("it is in force", || bench.said(IN_FORCE) == 2);
    assert!(bench.said("lane.0.workers: 1 -> 3") >= 1, "the difference is not in the log");
    bench.signal(Signal::USR1);
    bench.wait_until_said("status healthy=");
    // By being saved; a lane more.
    let file = bench.path("dronekeeper.toml");
    let text = fs::read_to_string(&file).unwrap();
    let lane = "[[lane]]\nname = \"more\"\nsettle = \"150ms\"\ndirectories = [\"more-*\"]\n";
    fs::write(&file, format!("{text}\n{lane}")).unwrap();
    bench.wait("it is in force", || bench.said(IN_FORCE) == 3);
    assert_eq!(bench.said("begun_anew=\"console, disk, janitor, jobs\""), 2, "{}", bench.log());
    assert_eq!(bench.said("begun_anew=\"console, disk, janitor, more\""), 1, "{}", bench.log());
    bench.job("more-1");
    bench.finish("more-1");
    bench.wait_until_gone("more-1");
    assert!(bench.runs(), "it is another process");
    assert_eq!(bench.said("drone runs"), 1, "the whole tree began anew");
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
    // Ones that are valid, and cannot be opened: the one before stays in force.
    fs::write(bench.path("dronekeeper.toml"), good.replace("/offloaded\"", "/dronekeeper.toml/x\"")).unwrap();
    bench.wait_until_said("the one before stays in force");
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
    let slow = server.misbehave(Fault::new("PUT", "partNumber", What::Delay(Duration::from_millis(150))));
    let mut bench = Bench::on(&server).lane("workers = 1");
    let dir = bench.job("101-a");
    fs::write(dir.join("large"), vec![7; 120 << 20]).unwrap();
    bench.finish("101-a");
    let files = hashes(&dir);
    bench.start();
    for round in 1..=3 {
        bench.wait("some parts are sent", || slow.fired() >= round * 3);
        save(&bench, &format!("workers = {round}"), &format!("workers = {}", round + 1));
        bench.signal(Signal::HUP);
        bench.wait("it is in force", || bench.said(IN_FORCE) as u64 == round);
    }
    slow.over();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
}

#[test]
fn who_has_no_new_settings_goes_on_undisturbed() {
    let server = Server::start(Flavour::S3);
    let slow = server.misbehave(Fault::new("PUT", "201-a/large", What::Delay(Duration::from_secs(3))));
    let mut bench = Bench::on(&server).lane("directories = [\"[12]*-*\"]\nworkers = 1");
    let ran = bench.path("ran");
    let command = format!("echo begun >> {0}; sleep 3; echo done >> {0}", ran.display());
    // Both take longer than a stop would give them.
    bench = bench.extra(&format!(
        "[[lane]]\nname = \"more\"\nsettle = \"150ms\"\ndirectories = [\"more-*\"]\nworkers = 1\n\
         [[queue]]\nname = \"long\"\nlanes = [\"more\"]\ncommand = [\"sh\", \"-c\", {command:?}]\n\
         [[queue]]\nname = \"short\"\nlanes = [\"jobs\"]\ncommand = [\"true\"]\n\
         [shutdown]\ndeadline = \"500ms\"\n[disk]\nhigh = \"100%\"\nlow = \"0%\"\n"
    ));
    fs::write(bench.job("201-a").join("large"), vec![7; 1 << 20]).unwrap();
    bench.job("more-1");
    bench.start();
    bench.finish("201-a");
    bench.finish("more-1");
    bench.wait("both are at work", || slow.fired() == 1 && ran.exists());
    let edits = [
        ("pressure_workers = ", "[disk]\n", "[disk]\npressure_workers = 9\n"),
        (
            "mail.smtp",
            "[disk]\n",
            "[mail]\nsmtp = \"smtp://127.0.0.1:1\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n[disk]\n",
        ),
        ("queue.1.attempts", "lanes = [\"jobs\"]", "lanes = [\"jobs\"]\nattempts = 2"),
        ("lane.1.workers", "[\"more-*\"]\nworkers = 1", "[\"more-*\"]\nworkers = 2"),
        ("shutdown.deadline", "500ms", "400ms"),
    ];
    for (number, (what, from, to)) in edits.into_iter().enumerate() {
        save(&bench, from, to);
        assert!(reload(&bench).0, "{what}");
        bench.wait(what, || bench.said(IN_FORCE) == number + 1);
    }
    assert_eq!(fs::read_to_string(&ran).unwrap(), "begun\n", "it ended before everything was changed");
    bench.wait_until_gone("more-1");
    bench.wait_until_gone("201-a");
    assert_eq!(fs::read_to_string(&ran).unwrap(), "begun\ndone\n");
    assert_eq!(slow.fired(), 1, "the upload was begun anew");
    assert_eq!(bench.said("drone runs"), 1);
}

#[test]
fn what_a_changed_queue_runs_ends_first_and_nobody_waits_for_it() {
    let mut bench = Bench::new();
    let (ran, ready) = (bench.path("ran"), bench.path("ready"));
    let command = format!(
        "echo begun >> {0}; while [ ! -e {1} ]; do sleep 0.1; done; echo done >> {0}",
        ran.display(),
        ready.display()
    );
    bench = bench.extra(&format!(
        "[[queue]]\nname = \"long\"\ncommand = [\"sh\", \"-c\", {command:?}]\n[shutdown]\ndeadline = \"60s\"\n\
         [disk]\nhigh = \"100%\"\nlow = \"0%\"\n"
    ));
    bench.start();
    bench.finished(&["101-a"]);
    bench.wait("it runs", || ran.exists());
    for (number, (from, to)) in [
        ("name = \"long\"", "name = \"long\"\nattempts = 2"),
        ("low = \"0%\"", "low = \"1%\""),
        ("attempts = 2", "attempts = 3"),
    ]
    .into_iter()
    .enumerate()
    {
        save(&bench, from, to);
        assert!(reload(&bench).0);
        bench.wait("it is in force", || bench.said(IN_FORCE) == number + 1);
    }
    bench.wait("somebody answers", || tell(&bench, &["status"]).1.contains("root/postprocess/long"));
    assert_eq!(fs::read_to_string(&ran).unwrap(), "begun\n", "it was cut off, or waited for");
    fs::write(&ready, "").unwrap();
    bench.wait_until_gone("101-a");
    assert_eq!(fs::read_to_string(&ran).unwrap(), "begun\ndone\n");
    bench.finished(&["102-b"]);
    bench.wait_until_gone("102-b");
    assert_eq!(fs::read_to_string(&ran).unwrap(), "begun\ndone\nbegun\ndone\n");
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
    let difference = "log.level: (default) -> \"info,actors=debug\"";
    assert!(done && told(&bench, &verdict, &[difference]), "{verdict}");
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
fn the_log_moves_while_the_drone_runs() {
    let mut bench = Bench::new();
    let (place, moved) = (bench.path("journal"), bench.path("logs/moved.log"));
    let journal = std::os::unix::net::UnixDatagram::bind(&place).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    bench.start_with(&[("DRONEKEEPER_JOURNAL", place.to_str().unwrap())]);
    bench.wait_until_said("console listens");
    let file = bench.path("dronekeeper.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let change = |lines: &str| {
        fs::write(&file, format!("{plain}\n[log]\n{lines}\n")).unwrap();
        let (done, verdict) = tell(&bench, &["reload"]);
        assert!(done, "{verdict}");
    };
    let offload = |name: &str| {
        bench.finished(&[name]);
        bench.wait_until_gone(name);
    };
    let holds =
        |text: &str| bench.wait(text, || fs::read_to_string(&moved).is_ok_and(|log| log.contains(text)));
    change(&format!("file = {moved:?}"));
    offload("101-a");
    holds("pruned job=101-a");
    change(&format!("file = {moved:?}\nrotate = \"1MiB\"\nformat = \"json\""));
    offload("102-b");
    holds("\"job\":\"102-b\"");
    change("format = \"journald\"");
    offload("103-c");
    let mut entry = vec![0; 1 << 16];
    let told = (0..1000).any(|_| {
        let length = journal.recv(&mut entry).unwrap();
        String::from_utf8_lossy(&entry[..length]).contains("DRONEKEEPER_JOB=103-c")
    });
    assert!(told, "the journal was not told");
    // A place that cannot be used leaves it where it is.
    fs::write(bench.path("taken.log"), "somebody's").unwrap();
    change(&format!("file = {:?}", bench.path("taken.log")));
    let told = (0..1000).any(|_| {
        let length = journal.recv(&mut entry).unwrap();
        String::from_utf8_lossy(&entry[..length]).contains("the log stays where it was")
    });
    assert!(told, "it is not said");
    change("");
    offload("104-d");
    bench.wait_until_said("pruned job=104-d");
    assert_eq!(bench.said("101-a") + bench.said("102-b") + bench.said("103-c"), 0, "{}", bench.log());
    assert_eq!(fs::read_to_string(bench.path("taken.log")).unwrap(), "somebody's");
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
    journal.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
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
        // One in four changes the drone itself; the others a lane, a queue, mail, the store's patience.
        let mut sound = plain
            .replace("workers = 2", &format!("workers = {}", 1 + roll(4)))
            .replace("[disk]\nhigh = \"100%\"", &format!("[disk]\nhigh = \"{}%\"", 95 + roll(6)));
        if roll(4) == 0 {
            sound = sound.replace("rescan = \"100ms\"", &format!("rescan = \"{}ms\"", 100 + roll(200)));
        }
        if roll(3) == 0 {
            sound = sound.replace("stall = \"3s\"", &format!("stall = \"{}s\"", 3 + roll(5)));
        }
        for lane in 0..roll(3) {
            sound += &format!("\n[[lane]]\nname = \"more{lane}\"\ndirectories = [\"more{lane}-*\"]\n");
        }
        for queue in 0..roll(3) {
            sound += &format!(
                "\n[[queue]]\nname = \"queue{queue}\"\nworkers = {}\ncommand = [\"true\"]\n",
                1 + roll(2)
            );
        }
        sound += &format!("\n[mail]\ndigest = \"{}m\"\n", 1 + roll(60));
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
        std::thread::sleep(Duration::from_millis(roll(300)));
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

#[test]
fn a_secret_that_is_saved_comes_into_force() {
    let mut bench = Bench::new();
    let secret = bench.path("token");
    fs::write(&secret, "first").unwrap();
    bench = bench.extra(&format!("[hub]\ntoken_file = {secret:?}"));
    bench.start();
    bench.wait_until_said("console listens");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(bench.said(IN_FORCE), 0, "it was reloaded although nothing was saved");
    fs::write(&secret, "a second one").unwrap();
    bench.wait("it is in force", || bench.said(IN_FORCE) == 1);
    // A secret that is gone is a broken configuration: the one before stays in force.
    fs::remove_file(&secret).unwrap();
    bench.wait_until_said("the configuration on disk is broken");
    bench.finished(&["101-a"]);
    bench.wait_until_gone("101-a");
    assert_eq!(bench.said(IN_FORCE), 1);
}
