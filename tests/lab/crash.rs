//! The drone is killed at random instants, again and again: nothing is lost, nothing pruned too early.
//!
//! `LAB_CRASH_ROUNDS` sets the number of rounds, `LAB_CRASH_SEED` repeats a run.

use crate::bench::{Bench, hashes, s3};
use stage::{Fault, Flavour, Server, What};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A small generator: the same seed makes the same jobs and the same pauses.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

type Expected = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A job as a device under test might leave it: odd names, links, an empty directory, sometimes a dump.
fn make_job(bench: &Bench, name: &str, dice: &mut Dice) {
    let dir = bench.job(name);
    fs::create_dir(dir.join("empty dir")).unwrap();
    symlink("/etc/passwd", dir.join("link out")).unwrap();
    symlink("nowhere", dir.join("broken")).unwrap();
    for odd in [&b"new\nline"[..], b"\xff\xfe", b"a#", b"a%23", b".GS_UPLOADED", b"esc\x1b[2J"] {
        let path = dir.join(std::ffi::OsString::from_vec(odd.to_vec()));
        fs::write(path, format!("{name} {}", dice.roll(1 << 40))).unwrap();
    }
    for file in 0..dice.roll(30) {
        fs::write(dir.join(format!("file {file}")), vec![dice.roll(256) as u8; dice.roll(20_000) as usize])
            .unwrap();
    }
    if dice.roll(4) == 0 {
        let dump: Vec<u8> = (0..9_000_000 + dice.roll(12_000_000)).map(|n| (n ^ (n >> 9)) as u8).collect();
        fs::write(dir.join("dump"), dump).unwrap();
    }
    bench.finish(name);
}

fn latest(bench: &Bench, name: &str, expected: &mut Expected) {
    expected.insert(name.to_owned(), hashes(&bench.results().join(name)));
}

/// Asks the independent witness.
fn witness(bench: &Bench, server: &Server, expected: &Expected) {
    let store = bench.path("witnessed");
    if store.exists() {
        fs::remove_dir_all(&store).unwrap();
    }
    for (key, bytes) in server.objects() {
        let path = store.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir_all(&store).unwrap();
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let jobs: BTreeMap<&String, BTreeMap<String, String>> = expected
        .iter()
        .map(|(job, files)| (job, files.iter().map(|(path, sum)| (hex(path), hex(sum))).collect()))
        .collect();
    fs::write(bench.path("expect.json"), serde_json::to_vec(&jobs).unwrap()).unwrap();
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checker.py");
    let seen = Command::new("python3")
        .arg(checker)
        .arg(bench.path("expect.json"))
        .arg(bench.results())
        .arg(store)
        .output();
    let seen = seen.unwrap();
    assert!(
        seen.status.success(),
        "{}{}",
        String::from_utf8_lossy(&seen.stdout),
        String::from_utf8_lossy(&seen.stderr)
    );
}

#[test]
fn a_drone_that_is_killed_at_any_instant_loses_nothing() {
    kills(number("LAB_CRASH_ROUNDS", 100), "");
}

#[test]
fn a_drone_that_packs_and_is_killed_at_any_instant_loses_nothing() {
    kills(number("LAB_CRASH_ROUNDS", 60), "layout = \"packed\"\ncompress = \"gzip\"");
}

fn kills(rounds: u64, layout: &str) {
    let seed = number("LAB_CRASH_SEED", 0x5eed_1234_abcd);
    let (mut dice, server) = (Dice(seed), Server::start(Flavour::S3));
    let mut bench = Bench::with_store(&format!("{}\n{layout}", s3(&server.url()))).lane("workers = 3");
    let mut expected = Expected::new();
    let (mut in_the_middle, mut ledgers_lost) = (0, 0);
    for round in 0..rounds {
        let name = format!("{}-r", 1000 + round);
        make_job(&bench, &name, &mut dice);
        latest(&bench, &name, &mut expected);
        // While the drone is dead, somebody writes into a job that it may have begun.
        if let Some(job) = bench.left().first().filter(|_| dice.roll(3) == 0) {
            fs::write(bench.results().join(job).join("late"), format!("round {round}")).unwrap();
            latest(&bench, job, &mut expected);
        }
        if dice.roll(8) == 0 {
            ledgers_lost += 1;
            let _ = fs::remove_file(bench.path("state/ledger.sqlite"));
        }
        if dice.roll(4) == 0 {
            let what = [What::CutAfter, What::CutBefore, What::Damage, What::Lose, What::Status(500, None)]
                [dice.roll(5) as usize]
                .clone();
            // A manifest that the store damaged stands for ever beside the good one, and the witness believes none.
            let place = if what == What::Damage { "-r/d" } else { "-r/" };
            server.misbehave(Fault::new("PUT", place, what).after(dice.roll(20)).times(1 + dice.roll(3)));
        }
        let before = server.log().len();
        bench.start();
        std::thread::sleep(Duration::from_millis(250 + dice.roll(500)));
        bench.kill();
        let asked = server.log();
        in_the_middle +=
            u64::from(asked[before..].iter().any(|asked| asked.method == "PUT") && !bench.left().is_empty());
        if round % 10 == 9 {
            witness(&bench, &server, &expected);
        }
    }
    server.behave();
    bench.start();
    bench.wait("every job offloaded", || bench.left().is_empty());
    let trash = bench.results().join(".dronekeeper-trash");
    bench.wait("the trash is empty", || fs::read_dir(&trash).unwrap().count() == 0);
    bench.stop();
    witness(&bench, &server, &expected);
    println!(
        "seed {seed}: {rounds} kills, {in_the_middle} in the middle of work, {ledgers_lost} ledgers removed"
    );
    assert!(in_the_middle * 4 >= rounds, "only {in_the_middle} of {rounds} kills met work");
}
