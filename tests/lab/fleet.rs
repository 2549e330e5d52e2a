//! A hub and its drones: jobs are fetched, run, reported and offloaded, whatever is killed, moved or truncated.

use crate::bench::Bench;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A hub of ours, as a process.
pub struct Hub {
    dir: tempfile::TempDir,
    port: u16,
    extra: String,
    process: Option<Child>,
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Hub {
    pub fn new(extra: &str) -> Self {
        let hub = Hub {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
            extra: extra.to_owned(),
            process: None,
        };
        hub.write_config();
        hub
    }

    pub fn started(extra: &str) -> Self {
        let mut hub = Hub::new(extra);
        hub.start();
        hub
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/afe/server/noauth/rpc/", self.port)
    }

    fn write_config(&self) {
        let text = format!(
            "[hub]\nlisten = \"127.0.0.1:{}\"\nstate_dir = {:?}\n{}\n",
            self.port,
            self.path("state"),
            self.extra
        );
        fs::write(self.path("hub.toml"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dronekeeper"));
        command.arg("-c").arg(self.path("hub.toml")).arg("hub");
        command
    }

    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() || !self.path("state/admin.token").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the hub does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// To another port, as a server that moves; the drones are told by their configuration.
    pub fn move_away(&mut self) {
        self.kill();
        self.port = free_port();
        self.write_config();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn ctl(&self, arguments: &[&str]) -> Output {
        self.command().arg("ctl").args(arguments).output().unwrap()
    }

    /// What a command prints; it must succeed.
    pub fn told(&self, arguments: &[&str]) -> String {
        let done = self.ctl(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    pub fn admin_token(&self) -> String {
        fs::read_to_string(self.path("state/admin.token")).unwrap().trim().to_owned()
    }

    /// One request: HTTP status and answer.
    pub fn ask(&self, token: Option<&str>, method: &str, arguments: &Value) -> (u16, Value) {
        let body = json!({ "method": method, "params": [arguments], "id": "jsonrpc" });
        self.post(token, &format!("?method={method}"), &body.to_string())
    }

    pub fn post(&self, token: Option<&str>, query: &str, body: &str) -> (u16, Value) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--write-out", "\n%{http_code}", "--data-binary"]).arg(format!("@{}", file.path().display()));
        if let Some(token) = token {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let output = curl.arg(format!("{}{query}", self.url())).output().unwrap().stdout;
        let text = String::from_utf8(output).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
    }

    /// What an administrator's question is answered with.
    pub fn result(&self, method: &str, arguments: &Value) -> Value {
        let (status, answer) = self.ask(Some(&self.admin_token()), method, arguments);
        assert_eq!((status, &answer["error"]), (200, &Value::Null), "{method}: {answer}");
        answer["result"].clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the hub's log\n{}", self.log());
        }
    }
}

/// A drone of a hub: its name, its token in a file, a lane that asks the hub.
pub fn drone(hub: &Hub, name: &str, board: &str) -> Bench {
    let bench = Bench::new();
    let token = hub.told(&["add-shard", name, "--label", board]);
    fs::write(bench.path("hub.token"), token).unwrap();
    drone_at(bench, hub, name)
}

pub fn drone_at(bench: Bench, hub: &Hub, name: &str) -> Bench {
    let token = bench.path("hub.token");
    bench
        .named(name)
        .lane("completion = \"hub\"\nworkers = 2")
        .extra(&format!("[hub]\nurl = \"{}\"\nheartbeat = \"300ms\"\ntimeout = \"5s\"\ntoken_file = {token:?}", hub.url()))
}

/// Asks a drone as the programs do that run its jobs.
pub fn lab(dir: &Path, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "10", "--write-out", "\n%{http_code}", "-X", method, "--unix-socket"]);
    curl.arg(dir.join("state/dronekeeper.sock"));
    if let Some(body) = body {
        curl.args(["-H", "Content-Type: application/json", "--data-binary", &body.to_string()]);
    }
    let output = curl.arg(format!("http://drone/api/v1/lab{path}")).output().unwrap().stdout;
    let text = String::from_utf8(output).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

/// Runs every job of a drone that is queued: makes results, and says that it is complete.
pub fn run_jobs(dir: &Path) -> usize {
    let (status, jobs) = lab(dir, "GET", "/jobs", None);
    if status != 200 {
        return 0;
    }
    let mut ran = 0;
    for job in jobs.as_array().unwrap().iter().filter(|job| job["state"] != "complete") {
        let (id, name) = (job["id"].as_i64().unwrap(), job["dir"].as_str().unwrap());
        if job["state"] == "queued" && lab(dir, "POST", &format!("/jobs/{id}/start"), Some(&json!({}))).0 != 200 {
            continue;
        }
        let results = dir.join("results").join(name);
        fs::create_dir_all(results.join("debug")).unwrap();
        let created = job["record"]["created_on"].as_str().unwrap();
        fs::write(results.join("status.log"), format!("job {id} created {created}\nEND GOOD\n")).unwrap();
        fs::write(results.join("debug/autoserv.DEBUG"), format!("{name}\n").repeat(100)).unwrap();
        let word = json!({ "status": "Completed", "execution_subdir": "host1" });
        if lab(dir, "POST", &format!("/jobs/{id}/complete"), Some(&word)).0 == 200 {
            ran += 1;
        }
    }
    ran
}

/// A program that runs the jobs of a drone, until dropped.
pub struct Runner {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Runner {
    pub fn of(bench: &Bench) -> Self {
        let (dir, stop) = (bench.dir.path().to_owned(), Arc::new(AtomicBool::new(false)));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(SeqCst) {
                if run_jobs(&dir) == 0 {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        Runner { stop, thread: Some(thread) }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The jobs that the hub calls finished, by number.
fn finished(hub: &Hub) -> BTreeSet<i64> {
    let jobs = hub.result("get_jobs", &json!({ "finished": true }));
    jobs.as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
}

fn created(text: &str) -> Vec<i64> {
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// When each stored job of a drone says that it was created, by its directory in the store.
fn stored(bench: &Bench) -> BTreeMap<String, String> {
    let Ok(listing) = fs::read_dir(bench.path("offloaded")) else { return BTreeMap::new() };
    let jobs = listing.map(|job| job.unwrap()).filter(|job| job.path().join(".dronekeeper/manifest.json").exists());
    jobs.map(|job| {
        let status = fs::read_to_string(job.path().join("status.log")).unwrap();
        (job.file_name().into_string().unwrap(), status.lines().next().unwrap().to_owned())
    })
    .collect()
}

#[test]
fn jobs_go_round_the_whole_lab() {
    let hub = Hub::started("");
    let mut drones = [drone(&hub, "drone1", "board:eve"), drone(&hub, "drone2", "board:link")];
    for (host, board) in [("h1", "board:eve"), ("h2", "board:eve"), ("h3", "board:link")] {
        hub.told(&["add-host", host, "--label", board]);
    }
    let mut jobs = created(&hub.told(&["create-job", "dummy", "--board", "board:eve", "--count", "120", "--owner", "debug"]));
    jobs.extend(created(&hub.told(&["create-job", "dummy", "--board", "board:link", "--count", "80", "--owner", "debug"])));
    drones.iter_mut().for_each(Bench::start);
    let _runners: Vec<Runner> = drones.iter().map(Runner::of).collect();
    let all: BTreeSet<i64> = jobs.iter().copied().collect();
    drones[0].wait("all jobs are reported", || finished(&hub) == all);
    drones[0].wait("all results are stored", || drones.iter().map(|drone| stored(drone).len()).sum::<usize>() == 200);
    drones.iter().for_each(|drone| drone.wait("the disk is free", || drone.left().is_empty()));
    // Each job was one drone's.
    let of: Vec<usize> = drones.iter().map(|drone| stored(drone).len()).collect();
    assert_eq!(of, [120, 80]);
    let shards = hub.result("get_shards", &json!({}));
    assert_eq!(shards[0]["report"]["version"], env!("CARGO_PKG_VERSION"));
    let status = String::from_utf8_lossy(&drones[0].tell(&["status"]).stdout).into_owned();
    assert!(status.contains("last heartbeat"), "{status}");
}

#[test]
fn whatever_is_killed_moved_or_truncated_every_job_ends_once_and_every_result_is_stored() {
    let mut hub = Hub::started("");
    let mut drones = [drone(&hub, "drone1", "board:eve"), drone(&hub, "drone2", "board:link")];
    let order = |hub: &Hub, count: &str| -> BTreeSet<i64> {
        ["board:eve", "board:link"]
            .iter()
            .flat_map(|board| created(&hub.told(&["create-job", "dummy", "--board", board, "--count", count, "--owner", "debug"])))
            .collect()
    };
    let mut all = order(&hub, "50");
    drones.iter_mut().for_each(Bench::start);
    let runners: Vec<Runner> = drones.iter().map(Runner::of).collect();
    let stored_jobs = |drones: &[Bench]| drones.iter().map(|drone| stored(drone).len()).sum::<usize>();
    drones[0].wait("some jobs are stored", || stored_jobs(&drones) >= 20);
    // The hub dies and comes back.
    hub.kill();
    std::thread::sleep(Duration::from_millis(500));
    hub.start();
    // A roster is lost on each drone, under the running process.
    for drone in &drones {
        fs::write(drone.path("state/roster.sqlite"), b"").unwrap();
    }
    drones[0].wait("all of them are reported", || finished(&hub) == all);
    // The hub's own memory is lost while its drones have work.
    let tokens: Vec<PathBuf> = drones.iter().map(|drone| drone.path("hub.token")).collect();
    let lost = order(&hub, "30");
    std::thread::sleep(Duration::from_millis(400));
    fs::write(hub.path("state/hub.sqlite"), b"").unwrap();
    for (name, board, token) in [("drone1", "board:eve", &tokens[0]), ("drone2", "board:link", &tokens[1])] {
        hub.told(&["add-shard", name, "--label", board, "--keep-token", token.to_str().unwrap()]);
    }
    let given: BTreeSet<i64> = {
        let known = |drone: &Bench| {
            let (_, jobs) = lab(drone.dir.path(), "GET", "/jobs", None);
            jobs.as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        drones.iter().flat_map(known).filter(|id| lost.contains(id)).collect()
    };
    // What a drone had been given comes back with its report; what only the hub knew is missing, and ordered again.
    let again = order(&hub, "10");
    assert!(again.is_disjoint(&all) && again.is_disjoint(&lost), "numbers were given out twice");
    let expected: BTreeSet<i64> = again.union(&given).copied().collect();
    drones[0].wait("what was given and what was ordered again is finished", || finished(&hub).is_superset(&expected));
    assert!(finished(&hub).is_subset(&expected.union(&all).copied().collect()));
    // The hub moves to another address.
    hub.move_away();
    hub.start();
    drop(runners);
    let mut moved: Vec<Bench> = Vec::new();
    for (drone, name) in drones.into_iter().zip(["drone1", "drone2"]) {
        let mut drone = drone_at(drone, &hub, name);
        drone.kill();
        drone.start();
        moved.push(drone);
    }
    let _runners: Vec<Runner> = moved.iter().map(Runner::of).collect();
    let last = order(&hub, "10");
    moved[0].wait("the last are finished", || finished(&hub).is_superset(&last));
    all.extend(given.iter().chain(&again).chain(&last));
    moved[0].wait("every result is stored", || stored_jobs(&moved) >= all.len());
    let names: BTreeSet<String> = moved.iter().flat_map(|drone| stored(drone).into_keys()).collect();
    for id in &all {
        assert!(names.contains(&format!("{id}-debug")), "the results of {id} are not stored");
    }
    assert!(names.iter().all(|name| !name.contains('~')), "results were stored twice: {names:?}");
}
