//! Finished is what the hub says: jobs leave when it does, and nothing is concluded from anything else.

use crate::bench::Bench;
use stage::afe::{Afe, Mood};
use std::fs;
use std::time::{Duration, Instant};

const LANES: &str = "completion = \"hub\"\ndirectories = [\"[0-9]*-*\"]\nworkers = 4\n[[lane]]\nname = \"special\"\n\
    settle = \"150ms\"\ndirectories = [\"hosts/*/[0-9]*-*\"]\ncompletion = \"hub\"\nworkers = 2";

fn bench(afe: &[&Afe]) -> Bench {
    let urls: Vec<String> = afe.iter().map(|afe| afe.url()).collect();
    Bench::new().lane(LANES).extra(&format!("[hub]\nheartbeat = \"0s\"\nurl = {urls:?}\ntimeout = \"2s\""))
}

#[test]
fn jobs_and_special_tasks_leave_when_the_hub_says_that_they_have_finished() {
    let afe = Afe::start();
    let mut bench = bench(&[&afe]);
    for job in ["101-debug", "102-debug", "103-debug", "hosts/h1/7-reset", "hosts/h1/8-verify"] {
        bench.job(job);
    }
    [101, 102, 103].iter().for_each(|id| afe.job(*id));
    [7, 8].iter().for_each(|id| afe.task(*id, None));
    bench.start();
    bench.wait("both questions", || afe.calls().iter().any(|call| call.method == "get_special_tasks"));
    afe.finish(101, &["2014-09-04 13:00:00", "2014-09-04 12:30:00"]);
    afe.finish(103, &[]);
    afe.task(7, Some("2014-09-04 13:00:00"));
    ["101-debug", "103-debug", "hosts/h1/7-reset"].iter().for_each(|job| bench.wait_until_gone(job));
    assert!(bench.results().join("102-debug").exists() && bench.results().join("hosts/h1/8-verify").exists());
    // The newest entry's finish, or else the creation, as the manifest tells.
    let manifest = |job: &str| {
        let file = bench.path(&format!("offloaded/{job}/.dronekeeper/manifest.json"));
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        manifest["finished_at"].as_str().unwrap().to_owned()
    };
    assert_eq!(manifest("101-debug"), "2014-09-04T13:00:00Z");
    assert_eq!(manifest("103-debug"), "2014-09-04T12:00:00Z");
    // The drone's name, and no secret.
    assert!(afe.calls().iter().all(|call| call.authorization == "bench"));
}

#[test]
fn nothing_is_concluded_from_a_hub_that_is_empty_broken_or_silent() {
    let trial = |mood: Mood| {
        let afe = Afe::start();
        let mut bench = bench(&[&afe]);
        bench.job("101-debug");
        afe.finish(101, &["2014-09-04 13:00:00"]);
        afe.mood(mood.clone());
        bench.start();
        bench.wait("three questions", || afe.calls().len() >= 3);
        assert!(bench.results().join("101-debug").exists(), "gone although the hub was {mood:?}");
        assert!(!bench.path("offloaded/101-debug").exists(), "sent although the hub was {mood:?}");
        if mood == Mood::Empty {
            // What no database knows is shown, and stays.
            bench.wait("an orphan", || {
                let status = bench.tell(&["status"]);
                String::from_utf8_lossy(&status.stdout).contains("[orphans] 1 directories")
            });
            let orphans = bench.tell(&["jobs", "--state", "orphan"]);
            let orphans = String::from_utf8_lossy(&orphans.stdout).into_owned();
            assert!(orphans.contains("101-debug") && orphans.contains("no database knows it"), "{orphans}");
        } else {
            assert_eq!(bench.said("hub in trouble"), 1, "said more than once");
        }
        afe.mood(Mood::Well);
        bench.wait_until_gone("101-debug");
    };
    std::thread::scope(|scope| {
        for mood in [Mood::Empty, Mood::Broken, Mood::Refusing, Mood::Half, Mood::Silent] {
            scope.spawn(move || trial(mood));
        }
    });
}

#[test]
fn a_hub_that_moved_is_found_at_its_other_address_and_an_answer_outlives_the_process() {
    let (first, second) = (Afe::start(), Afe::start());
    let lanes = "directories = [\"none-*\"]\n[[lane]]\nname = \"slow\"\nsettle = \"4s\"\n\
        directories = [\"[0-9]*-*\"]\ncompletion = \"hub\"";
    let mut bench = bench(&[&first, &second]).lane(lanes);
    bench.job("101-debug");
    second.finish(101, &["2014-09-04 13:00:00"]);
    drop(first);
    bench.start();
    bench.wait("the answer in the ledger", || remembered(&bench.path("state/ledger.sqlite")) == Some(1));
    bench.kill();
    assert!(bench.results().join("101-debug").exists(), "gone before it was still for 4 s");
    drop(second);
    bench.start();
    bench.wait_until_gone("101-debug");
}

/// How many finished jobs the ledger remembers, by its own schema.
fn remembered(ledger: &std::path::Path) -> Option<i64> {
    let ask = "import sqlite3, sys; print(sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)\
               .execute('SELECT count(*) FROM finished').fetchone()[0])";
    let done = std::process::Command::new("python3").arg("-c").arg(ask).arg(ledger).output().unwrap();
    String::from_utf8_lossy(&done.stdout).trim().parse().ok()
}

#[test]
fn many_directories_cost_few_requests_at_the_pace_that_is_set() {
    let afe = Afe::start();
    let jobs = std::env::var("LAB_HUB_JOBS").map_or(3000, |jobs| jobs.parse().unwrap());
    let mut bench = Bench::new().lane(LANES).extra(&format!(
        "[hub]\nheartbeat = \"0s\"\nurl = {:?}\n[limits]\nhub_requests_per_second = 5",
        afe.url()
    ));
    for id in 0..jobs {
        let dir = bench.results().join(format!("{id}-debug"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("status.log"), "END GOOD\n").unwrap();
        if id % 10 == 0 { afe.finish(id, &["2014-09-04 13:00:00"]) } else { afe.job(id) }
    }
    bench.start();
    bench.wait("every tenth gone", || bench.left().len() == jobs as usize * 9 / 10);
    let calls = afe.calls();
    let ids =
        |call: &stage::afe::Call| call.arguments.get("id__in").map_or(0, |ids| ids.as_array().unwrap().len());
    let most = calls.iter().map(ids).max().unwrap();
    assert!(most > 100, "asked about {most} at the most at once");
    // No second has more than the pace allows; a wide margin for a shared machine.
    let begun = calls[0].at;
    let seconds = calls.iter().map(|call| call.at.duration_since(begun).as_secs());
    let mut per_second = std::collections::BTreeMap::<u64, usize>::new();
    seconds.for_each(|second| *per_second.entry(second).or_default() += 1);
    assert!(per_second.values().all(|count| *count <= 8), "{per_second:?}");
    // A finished job is never asked about again.
    let after = Instant::now() + Duration::from_secs(2);
    bench.wait("later questions", || Instant::now() > after);
    let later = afe.calls().split_off(calls.len());
    let again =
        later.iter().flat_map(|call| call.arguments["id__in"].as_array().cloned().unwrap_or_default());
    let again: Vec<u64> = again.map(|id| id.as_str().unwrap().parse().unwrap()).collect();
    assert!(again.iter().all(|id| id % 10 != 0), "asked again about a finished job");
}
