//! The queues' figures in docs/performance.md.
//!
//! ```text
//! cargo bench --bench queue -- enqueue                          durable enqueues beside plain SQLite, in one run
//! cargo bench --bench queue -- latency                          light items, with and without a heavy one
//! cargo bench --bench queue -- soak [--items 10000] [--database postgres://…]
//! ```
//!
//! The soak runs four workers, each a process, kills one of them every second, and counts effects.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

use actors::lab::{Incarnation, RelPath};
use actors::queue::item::Standing;
use actors::queue::journal::{Holder, Intake, Queues};
use actors::tree::Root;
use config::{On, Queue};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

type Job = (RelPath, Incarnation);

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
const BATCH: usize = 1000;
const WORKERS: usize = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|word| word == name)?;
        arguments.get(at + 1).cloned()
    };
    match arguments.first().map(String::as_str) {
        Some("enqueue") => enqueue(),
        Some("latency") => latency(),
        Some("soak") => {
            let items = option("--items").map_or(10_000, |items| items.parse().expect("a number of items"));
            soak(items, option("--database"));
        }
        _ => println!("say what: enqueue, latency, or soak [--items N] [--database postgres://…]"),
    }
}

fn journal(database: &str, dir: &Path, queue: Queue) -> Queues {
    let boot = Uuid::new_v4();
    let holder = Holder { home: format!("bench {boot}"), boot };
    Queues::new(database, dir, vec![queue], "bench", holder).unwrap()
}

fn work() -> Queue {
    Queue { name: "work".into(), on: On::Offloaded, command: vec!["true".into()], ..Queue::default() }
}

/// So many numbered jobs that there need not be.
fn jobs(first: usize, count: usize) -> Vec<Job> {
    let job = |number: usize| {
        let incarnation = Incarnation { dev: 1, ino: number as u64, born_ns: 3 };
        (RelPath::new(format!("{number}-a/host1").into_bytes()).unwrap(), incarnation)
    };
    (first..first + count).map(job).collect()
}

fn admit(queues: &Queues, jobs: &[Job]) {
    let intake: Vec<Intake<'_>> =
        jobs.iter().map(|(job, incarnation)| Intake { lane: "jobs", job, incarnation, bytes: 1 }).collect();
    let taken = queues.admit(On::Offloaded, &intake).unwrap();
    assert!(taken.iter().all(|standing| *standing == Standing::Waiting));
}

/// The same table, durability and rows, without anything of ours around them.
struct Plain(rusqlite::Connection);

impl Plain {
    fn open(path: &Path) -> Self {
        let db = rusqlite::Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", "DELETE").unwrap();
        db.pragma_update(None, "synchronous", "EXTRA").unwrap();
        db.execute_batch(
            "CREATE TABLE items (queue TEXT NOT NULL, key TEXT NOT NULL, part BIGINT NOT NULL, job TEXT NOT NULL,
             dev BIGINT NOT NULL, ino BIGINT NOT NULL, born BIGINT NOT NULL, lane TEXT NOT NULL, class TEXT NOT NULL,
             state TEXT NOT NULL, attempts BIGINT NOT NULL, due BIGINT NOT NULL, home TEXT, boot TEXT,
             lease BIGINT NOT NULL, error TEXT, taken_in BIGINT NOT NULL, settled BIGINT, PRIMARY KEY (queue, key, part));
             CREATE INDEX items_due ON items (queue, state, class, due); CREATE INDEX items_by_job ON items (job)",
        )
        .unwrap();
        Plain(db)
    }

    fn add(&mut self, jobs: &[Job]) {
        let tx = self.0.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        {
            let insert = "INSERT INTO items (queue, key, part, job, dev, ino, born, lane, class, state, attempts, due,
                 lease, taken_in) VALUES ('work', ?1, 0, ?2, ?3, ?4, ?5, 'jobs', 'light', 'queued', 0, 0, 0, ?6)";
            let mut insert = tx.prepare_cached(insert).unwrap();
            for (job, incarnation) in jobs {
                let key = actors::queue::item::key("bench", "work", job, incarnation);
                let (dev, ino) = (incarnation.dev as i64, incarnation.ino as i64);
                let values =
                    rusqlite::params![key, job.to_string(), dev, ino, incarnation.born_ns, 1_700_000_000];
                insert.execute(values).unwrap();
            }
        }
        tx.commit().unwrap();
    }
}

/// Rows a second, ours and plain, in turns within one run.
fn enqueue() {
    println!("{:<10} {:>12} {:>12} {:>7}", "batch", "ours/s", "plain/s", "ratio");
    for batch in [1, BATCH] {
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        let dir = tempfile::tempdir_in(".").unwrap();
        let queues = journal("queue.sqlite", dir.path(), work());
        let mut bare = Plain::open(&dir.path().join("plain.sqlite"));
        let mut next = [0, 0];
        for _ in 0..ROUNDS {
            let mut timed = |which: usize, add: &mut dyn FnMut(&[Job])| {
                let (begun, mut rows) = (Instant::now(), 0);
                while begun.elapsed() < ROUND {
                    add(&jobs(next[which], batch));
                    next[which] += batch;
                    rows += batch;
                }
                rows as f64 / begun.elapsed().as_secs_f64()
            };
            ours.push(timed(0, &mut |jobs| admit(&queues, jobs)));
            plain.push(timed(1, &mut |jobs| bare.add(jobs)));
        }
        let (ours, plain) = (median(ours), median(plain));
        println!("{batch:<10} {ours:>12.0} {plain:>12.0} {:>7.2}", ours / plain);
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A results tree, a configuration and the worker processes of one host.
struct Site {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Site {
    fn new(database: &str, script: &str, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["results", "effects", "runs", "state"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("work"), script.replace("DIR", &dir.path().display().to_string())).unwrap();
        fs::set_permissions(at("work"), fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!(
            "[drone]\nname = \"bench\"\nstate_dir = {:?}\nqueue_database = {database:?}\n[results]\ndir = {:?}\n[store]\nurl = \"file://{}\"\n\
             [[queue]]\nname = \"work\"\ncommand = [{:?}, \"{{job_dir}}\", \"{{key}}\"]\non = \"offloaded\"\nattempts = \"unlimited\"\n\
             lease = \"6s\"\n{settings}\n[shutdown]\ndeadline = \"2s\"\n",
            at("state"),
            at("results"),
            at("store").display(),
            at("work")
        );
        let config = at("dronekeeper.toml");
        fs::write(&config, text).unwrap();
        Site { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn worker(&self, workers: usize) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dronekeeper"));
        command.arg("-c").arg(&self.config).args(["worker", "--queue", "work", "--workers"]);
        command.arg(workers.to_string()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn make(&self, names: &[String]) -> Vec<Job> {
        let results = self.path("results");
        names.iter().for_each(|name| fs::create_dir(results.join(name)).unwrap());
        let root = Root::beside(&results).unwrap();
        let job = |name: &String| {
            let job = RelPath::new(name.clone().into_bytes()).unwrap();
            let incarnation = root.job(&job).unwrap().incarnation().clone();
            (job, incarnation)
        };
        names.iter().map(job).collect()
    }

    fn effects(&self) -> usize {
        fs::read_dir(self.path("effects")).unwrap().count()
    }
}

/// When a light item is begun after it was taken in, with and without a heavy one at work.
fn latency() {
    let script = "#!/bin/sh\ncase $1 in *-heavy) while :; do :; done;; esac\ndate +%s%N > DIR/effects/$2\n";
    for heavy in [false, true] {
        let settings = "workers = 2\nheavy_workers = 1\nheavy_above = \"1GiB\"";
        let site = Site::new("queue.sqlite", script, settings);
        let queue = Queue { heavy_workers: 1, heavy_above: config::ByteCount(1 << 30), ..work() };
        let queues = journal("queue.sqlite", &site.path("state"), queue);
        let mut worker = site.worker(2);
        if heavy {
            let job = site.make(&["1-heavy".to_owned()]);
            let intake = Intake { lane: "jobs", job: &job[0].0, incarnation: &job[0].1, bytes: 1 << 30 };
            queues.admit(On::Offloaded, &[intake]).unwrap();
        }
        std::thread::sleep(Duration::from_secs(2));
        let names: Vec<String> = (0..300).map(|number| format!("{number}-light")).collect();
        let mut taken = BTreeMap::new();
        for job in site.make(&names) {
            admit(&queues, std::slice::from_ref(&job));
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            taken.insert(actors::queue::item::key("bench", "work", &job.0, &job.1), now.as_nanos());
            std::thread::sleep(Duration::from_millis(53));
        }
        while site.effects() < names.len() {
            std::thread::sleep(Duration::from_millis(50));
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        let mut waited: Vec<f64> = taken
            .iter()
            .map(|(key, taken)| {
                let begun = fs::read_to_string(site.path("effects").join(key)).unwrap();
                begun.trim().parse::<u128>().unwrap().saturating_sub(*taken) as f64 / 1e6
            })
            .collect();
        waited.sort_by(f64::total_cmp);
        let at = |share: usize| waited[waited.len() * share / 100];
        let with = if heavy { "with a heavy item" } else { "without" };
        println!("light items {with}: p50 {:.0} ms, p99 {:.0} ms", at(50), at(99));
    }
}

/// Mixed items on four workers, one of which is killed every second.
fn soak(items: usize, database: Option<String>) {
    let script = "#!/bin/sh\necho $2 >> DIR/runs/$$\ncase $1 in *7-a) sleep 0.2;; *99-a) sleep 2;; esac\n\
                  ( set -C; : > DIR/effects/$2 ) 2>/dev/null || true\n";
    let database = database.unwrap_or_else(|| "queue.sqlite".into());
    let site = Site::new(&database, script, "workers = 1");
    let queues = journal(&database, &site.path("state"), work());
    let names: Vec<String> = (0..items).map(|number| format!("{number}-a")).collect();
    let jobs = site.make(&names);
    jobs.chunks(BATCH).for_each(|jobs| admit(&queues, jobs));
    let left = || {
        let all = queues.list(None, None).unwrap();
        all.iter().filter(|item| item.state != "done").count()
    };
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| site.worker(1)).collect();
    let (begun, mut kills, mut cut) = (Instant::now(), 0, false);
    while left() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(3600), "{} items are left after an hour", left());
        std::thread::sleep(Duration::from_secs(1));
        let victim = kills % WORKERS;
        // Once, one of them is only held still, as a host that is cut off: its leases end meanwhile.
        if kills == 20 && !cut {
            cut = true;
            let pid = rustix::process::Pid::from_child(&workers[victim]);
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            std::thread::sleep(Duration::from_secs(10));
            rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
            std::thread::sleep(Duration::from_secs(1));
        }
        workers[victim].kill().unwrap();
        workers[victim].wait().unwrap();
        workers[victim] = site.worker(1);
        kills += 1;
    }
    let took = begun.elapsed();
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for file in fs::read_dir(site.path("runs")).unwrap().flatten() {
        let text = fs::read_to_string(file.path()).unwrap();
        text.lines().for_each(|key| *runs.entry(key.to_owned()).or_default() += 1);
    }
    let again: usize = runs.values().map(|runs| runs - 1).sum();
    assert_eq!((site.effects(), runs.len()), (items, items), "effects, and items that ran");
    println!(
        "{items} items, {WORKERS} workers, {kills} kills, {took:.0?}: {} effects, {again} ran again, none left",
        site.effects()
    );
}
