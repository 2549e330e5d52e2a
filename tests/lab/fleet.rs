//! A hub and its drones: jobs are fetched, run, reported and offloaded, whatever is killed, moved or truncated.

use crate::bench::{Bench, certificate};
use crate::reload::IN_FORCE;
use serde_json::{Value, json};
use stage::{Flavour, Server};
use std::collections::BTreeSet;
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
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err()
            || !self.path("state/admin.token").exists()
        {
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
        curl.args(["--silent", "--write-out", "\n%{http_code}", "--data-binary"])
            .arg(format!("@{}", file.path().display()));
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

/// A drone of a hub whose store is a directory.
fn drone(hub: &Hub, name: &str, board: &str) -> Bench {
    drone_on(Bench::new(), hub, name, board)
}

/// A drone of a hub: its name, its token in a file, a lane that asks the hub.
fn drone_on(bench: Bench, hub: &Hub, name: &str, board: &str) -> Bench {
    let token = hub.told(&["add-shard", name, "--label", board]);
    fs::write(bench.path("hub.token"), token).unwrap();
    drone_at(bench, hub, name)
}

fn drone_at(bench: Bench, hub: &Hub, name: &str) -> Bench {
    let token = bench.path("hub.token");
    bench.named(name).lane("completion = \"hub\"\nworkers = 2").extra(&format!(
        "[hub]\nurl = \"{}\"\nheartbeat = \"300ms\"\ntimeout = \"5s\"\ntoken_file = {token:?}",
        hub.url()
    ))
}

/// Asks a drone as the programs do that run its jobs.
pub fn lab(dir: &Path, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--max-time",
        "10",
        "--write-out",
        "\n%{http_code}",
        "-X",
        method,
        "--unix-socket",
    ]);
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
        if job["state"] == "queued"
            && lab(dir, "POST", &format!("/jobs/{id}/start"), Some(&json!({}))).0 != 200
        {
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
struct Runner {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Runner {
    fn of(bench: &Bench) -> Self {
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

/// The jobs that are in the store, by the name of their place there.
fn stored(store: &Server) -> BTreeSet<String> {
    let manifest = |key: &String| key.strip_suffix("/.dronekeeper/manifest.json").map(str::to_owned);
    store.objects().keys().filter_map(manifest).collect()
}

#[test]
fn jobs_go_round_the_whole_lab() {
    let (hub, store) = (Hub::started(""), Server::start(Flavour::S3));
    let on = |name: &str, board: &str| drone_on(Bench::on(&store), &hub, name, board);
    let mut drones = [on("drone1", "board:eve"), on("drone2", "board:link")];
    for (host, board) in [("h1", "board:eve"), ("h2", "board:eve"), ("h3", "board:link")] {
        hub.told(&["add-host", host, "--label", board]);
    }
    let mut jobs = created(&hub.told(&[
        "create-job",
        "dummy",
        "--board",
        "board:eve",
        "--count",
        "120",
        "--owner",
        "debug",
    ]));
    jobs.extend(created(&hub.told(&[
        "create-job",
        "dummy",
        "--board",
        "board:link",
        "--count",
        "80",
        "--owner",
        "debug",
    ])));
    drones.iter_mut().for_each(Bench::start);
    let _runners: Vec<Runner> = drones.iter().map(Runner::of).collect();
    let all: BTreeSet<i64> = jobs.iter().copied().collect();
    drones[0].wait("all jobs are reported", || finished(&hub) == all);
    drones[0].wait("all results are stored", || stored(&store).len() == 200);
    drones.iter().for_each(|drone| drone.wait("the disk is free", || drone.left().is_empty()));
    // Each job was one drone's.
    let of: Vec<usize> = drones.iter().map(|drone| drone.said("verified job=")).collect();
    assert_eq!(of, [120, 80]);
    let shards = hub.result("get_shards", &json!({}));
    assert_eq!(shards[0]["report"]["version"], env!("CARGO_PKG_VERSION"));
    let status = String::from_utf8_lossy(&drones[0].tell(&["status"]).stdout).into_owned();
    assert!(status.contains("last heartbeat"), "{status}");
    let check = |bench: &Bench| {
        let done = bench.tell(&["check", "--connect"]);
        String::from_utf8_lossy(&done.stdout).lines().find(|line| line.starts_with("hub")).unwrap().to_owned()
    };
    assert!(check(&drones[0]).contains("ok"), "{}", check(&drones[0]));
    fs::write(drones[0].path("hub.token"), "wrong").unwrap();
    assert!(check(&drones[0]).contains("this token is not known"), "{}", check(&drones[0]));
}

#[test]
fn whatever_is_killed_moved_or_truncated_every_job_ends_once_and_every_result_is_stored() {
    let (mut hub, store) = (Hub::started(""), Server::start(Flavour::S3));
    let on = |name: &str, board: &str| drone_on(Bench::on(&store), &hub, name, board);
    let mut drones = [on("drone1", "board:eve"), on("drone2", "board:link")];
    let order = |hub: &Hub, count: &str| -> BTreeSet<i64> {
        ["board:eve", "board:link"]
            .iter()
            .flat_map(|board| {
                created(&hub.told(&[
                    "create-job",
                    "dummy",
                    "--board",
                    board,
                    "--count",
                    count,
                    "--owner",
                    "debug",
                ]))
            })
            .collect()
    };
    let mut all = order(&hub, "50");
    drones.iter_mut().for_each(Bench::start);
    let runners: Vec<Runner> = drones.iter().map(Runner::of).collect();
    drones[0].wait("some jobs are stored", || stored(&store).len() >= 20);
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
    drones[0].wait("what was given and what was ordered again is finished", || {
        finished(&hub).is_superset(&expected)
    });
    // A job that was reported just before the base was lost is told again, and no other than these.
    assert!(finished(&hub).iter().all(|id| all.contains(id) || lost.contains(id) || again.contains(id)));
    // The hub moves to another address.
    hub.move_away();
    hub.start();
    drop(runners);
    let mut moved: Vec<Bench> = Vec::new();
    for (drone, name) in drones.into_iter().zip(["drone1", "drone2"]) {
        // The file is saved; the process reads it again, and its next beat goes there.
        let drone = drone_at(drone, &hub, name);
        drone.write_config();
        drone.wait("the new address is in force", || drone.said(IN_FORCE) >= 1);
        moved.push(drone);
    }
    let _runners: Vec<Runner> = moved.iter().map(Runner::of).collect();
    let last = order(&hub, "10");
    moved[0].wait("the last are finished", || finished(&hub).is_superset(&last));
    all.extend(given.iter().chain(&again).chain(&last));
    moved[0].wait("every result is stored", || stored(&store).len() >= all.len());
    let names = stored(&store);
    for id in &all {
        assert!(names.contains(&format!("{id}-debug")), "the results of {id} are not stored");
    }
    assert!(names.iter().all(|name| !name.contains('~')), "results were stored twice: {names:?}");
}

/// A hub's setting for a new base on PostgreSQL.
fn on_postgres() -> String {
    format!("database = {:?}", postgres_base())
}

/// The address of a new base on the PostgreSQL that the test script started.
pub fn postgres_base() -> String {
    let server =
        std::env::var("LAB_POSTGRES").expect("LAB_POSTGRES is not set: run these tests with tests/run");
    let name = format!("lab{}", free_port());
    psql(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}"));
    format!("{server}/{name}")
}

fn speaks_as_documented(hub: &Hub) {
    let client =
        Command::new("python3").arg("tests/wire.py").args([hub.url(), hub.admin_token()]).output().unwrap();
    let (said, faults) = (String::from_utf8_lossy(&client.stdout), String::from_utf8_lossy(&client.stderr));
    assert!(client.status.success(), "{said}{faults}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 18, "{said}");
}

#[test]
fn a_client_written_from_the_documents_is_answered_as_documented() {
    speaks_as_documented(&Hub::started(""));
}

#[test]
fn the_same_on_postgresql() {
    speaks_as_documented(&Hub::started(&on_postgres()));
}

/// What psql says.
fn psql(address: &str, statement: &str) -> String {
    let psql = std::env::var("LAB_PSQL").expect("LAB_PSQL is not set: run these tests with tests/run");
    let said = Command::new(psql).arg(address).args(["-qAt", "-c", statement]).output().unwrap();
    assert!(said.status.success(), "{statement}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_way_to_postgresql_is_encrypted_and_the_server_proves_who_it_is() {
    let base = postgres_base();
    let (server, name) = base.rsplit_once('/').unwrap();
    let cert = std::env::var("LAB_POSTGRES_CERT")
        .expect("LAB_POSTGRES_CERT is not set: run these tests with tests/run");
    // A role that the server lets in over TLS only, with a password that is bound to the server's certificate.
    psql(&base, "DO $$ BEGIN CREATE ROLE careful LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    psql(&base, "ALTER ROLE careful PASSWORD 'hunter2'");
    psql(&base, &format!("ALTER DATABASE {name} OWNER TO careful"));
    let host = server.replace("hub@127.0.0.1", "careful:hunter2@localhost");
    let address = |query: &str| format!("database = \"{host}/{name}{query}\"");
    let hub =
        Hub::started(&address(&format!("?sslmode=verify-full&sslrootcert={cert}&channel_binding=require")));
    speaks_as_documented(&hub);
    let ways =
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'careful'";
    assert_eq!(psql(&base, ways), "t");
    drop(hub);
    // Another authority, another name, no encryption: nobody is told the password.
    let place = tempfile::tempdir().unwrap();
    certificate(place.path(), &[]);
    let strange = place.path().join("cert.pem");
    let strange = format!("?sslmode=verify-full&sslrootcert={}", strange.display());
    let other_name = format!("?sslmode=verify-full&sslrootcert={cert}&hostaddr=127.0.0.1");
    for (from, query, why) in [
        ("localhost", strange.as_str(), "certificate"),
        ("db.example.com", other_name.as_str(), "certificate"),
        ("localhost", "?sslmode=disable", "no encryption"),
    ] {
        let address = format!("{}/{name}{query}", host.replace("localhost", from));
        let hub = Hub::started(&format!("database = \"{address}\""));
        let (status, answer) = hub.ask(Some(&hub.admin_token()), "get_shards", &json!({}));
        let said = format!("{answer} {}", hub.log());
        assert!(status != 200 || !answer["error"].is_null(), "{query}: {answer}");
        assert!(said.contains(why) && !said.contains("hunter2"), "{query}: {said}");
    }
}

#[test]
fn several_hubs_on_one_postgresql_give_each_job_to_one_drone_only() {
    let base = on_postgres();
    let hubs = [Hub::started(&base), Hub::started(&base), Hub::started(&base)];
    // One board cannot be two drones'; jobs for hosts with both labels can.
    for (drone, board) in [("drone1", "board:a"), ("drone2", "board:b"), ("drone3", "board:c")] {
        hubs[0].told(&["add-shard", drone, "--label", board]);
    }
    hubs[0].told(&["add-host", "shared", "--label", "board:a", "--label", "board:b", "--label", "board:c"]);
    let made = created(&hubs[1].told(&["create-job", "dummy", "--host", "shared", "--count", "300"]));
    let beats: Vec<_> = hubs
        .into_iter()
        .enumerate()
        .map(|(index, hub)| {
            std::thread::spawn(move || {
                let name = format!("drone{}", index + 1);
                let mut given: BTreeSet<i64> = BTreeSet::new();
                for _ in 0..10 {
                    let known: Vec<i64> = given.iter().copied().collect();
                    let arguments = json!({ "shard_hostname": name, "known_job_ids": known });
                    let answer = hub.result("shard_heartbeat", &arguments);
                    given.extend(
                        answer["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()),
                    );
                }
                (given, hub)
            })
        })
        .collect();
    let given: Vec<(BTreeSet<i64>, Hub)> = beats.into_iter().map(|beat| beat.join().unwrap()).collect();
    let mut all: Vec<i64> = given.iter().flat_map(|(given, _)| given.iter().copied()).collect();
    all.sort_unstable();
    assert_eq!(all, made, "a job was given twice, or to nobody");
}

/// The Python AFE, its directory, and a drone that beats to it.
struct OldAfe {
    dir: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl OldAfe {
    fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let process = Command::new("python3")
            .arg("tests/afe.py")
            .arg(port.to_string())
            .arg(dir.path())
            .spawn()
            .unwrap();
        let afe = OldAfe { dir, process, port };
        afe.answers(&json!({}));
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        afe
    }

    /// From now on a beat is answered with this.
    fn answers(&self, more: &Value) {
        let mut answer = json!({ "hosts": [], "jobs": [], "suite_keyvals": [], "incorrect_host_ids": [] });
        answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fs::write(self.dir.path().join("answer.new"), answer.to_string()).unwrap();
        fs::rename(self.dir.path().join("answer.new"), self.dir.path().join("answer.json")).unwrap();
    }

    fn beats(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("requests")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn faults(&self) -> String {
        fs::read_to_string(self.dir.path().join("faults")).unwrap_or_default()
    }
}

impl Drop for OldAfe {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wire_job(id: i64, more: &Value) -> Value {
    let mut job = json!({
        "id": id, "owner": "debug", "name": "dummy", "priority": 40, "control_file": "foo", "control_type": 2,
        "created_on": "2014-09-23T15:56:10", "synch_count": 0, "timeout": 24, "timeout_mins": 1440, "max_runtime_hrs": 72,
        "max_runtime_mins": 1440, "run_verify": false, "run_reset": true, "email_list": "", "reboot_before": 1,
        "reboot_after": 0, "parse_failed_repair": true, "test_retry": 0, "require_ssp": null, "new_field": "kept",
        "dependency_labels": [{ "id": 14, "name": "board:daisy", "platform": true }],
        "hostqueueentry_set": [{ "id": id * 10, "host_id": null, "meta_host": { "id": 14, "name": "board:daisy" },
            "status": "Queued", "active": false, "complete": false, "aborted": false, "deleted": false,
            "execution_subdir": "", "started_on": null, "finished_on": null, "new_entry_field": 1 }],
        "jobkeyval_set": [{ "id": 10, "job_id": id, "key": "suite", "value": "dummy" }],
        "shard": { "id": 1, "hostname": "bench" },
    });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

fn wire_host(id: i64) -> Value {
    json!({ "id": id, "hostname": format!("host{id}"), "status": "Ready", "invalid": false, "locked": false,
        "leased": false, "labels": [], "aclgroup_set": [], "hostattribute_set": [], "shard": { "id": 1 } })
}

#[test]
fn a_drone_beats_to_an_autotest_afe_as_the_old_shard_client_did() {
    let afe = OldAfe::start();
    let url = format!("http://127.0.0.1:{}/afe/server/noauth/rpc/", afe.port);
    let mut bench =
        Bench::new().extra(&format!("[hub]\nurl = \"{url}\"\nheartbeat = \"200ms\"\ntimeout = \"5s\""));
    let dir = bench.dir.path().to_owned();
    afe.answers(&json!({
        "hosts": [wire_host(2), wire_host(3), { "id": "nonsense" }],
        "jobs": [wire_job(5, &json!({})), { "id": 6, "owner": "../../etc" }, 7, wire_job(8, &json!({})), wire_job(9, &json!({}))],
        "suite_keyvals": [{ "id": 1, "job_id": 0, "key": "suite_min_duts", "value": "2" }, "nonsense"],
        "incorrect_host_ids": [42],
    }));
    bench.start();
    let last = |field: &str| afe.beats().last().map(|beat| beat[field].clone()).unwrap_or_default();
    bench.wait("the good records are known", || last("known_job_ids") == json!([5, 8, 9]));
    assert_eq!(
        (last("known_host_ids"), last("known_host_statuses")),
        (json!([2, 3]), json!(["Ready", "Ready"]))
    );
    let first = &afe.beats()[0];
    assert_eq!(
        first,
        &json!({ "shard_hostname": "bench", "known_job_ids": [], "known_host_ids": [],
        "known_host_statuses": [], "jobs": [], "hqes": [] })
    );
    let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(status.contains("[roster]") && bench.said("is no name") > 0, "{status}");
    // The programs on the drone do their work, and one host is moved by them.
    assert_eq!(lab(&dir, "POST", "/hosts/3", None).0, 403);
    assert_eq!(lab(&dir, "POST", "/hosts/3/status", Some(&json!({ "status": "Running" }))).0, 200);
    assert_eq!(lab(&dir, "POST", "/jobs/5/start", Some(&json!({ "host_id": 2 }))).0, 200);
    let (status, again) = lab(&dir, "POST", "/jobs/5/start", Some(&json!({})));
    assert_eq!((status, again["error"].as_str()), (409, Some("job 5 is running")));
    bench.wait("the status goes there", || last("known_host_statuses") == json!(["Ready", "Running"]));
    // The acknowledgement is lost: it goes once more.
    afe.answers(&json!({ "hosts": [wire_host(2)] }));
    fs::write(afe.dir.path().join("lose"), "").unwrap();
    bench.wait("an answer was lost", || !afe.dir.path().join("lose").exists());
    let word = json!({ "status": "Completed", "execution_subdir": "host2" });
    assert_eq!(lab(&dir, "POST", "/jobs/5/complete", Some(&word)).0, 200);
    let reports = |id: i64| {
        afe.beats()
            .iter()
            .filter(|beat| beat["jobs"].as_array().unwrap().iter().any(|job| job["id"] == id))
            .count()
    };
    bench.wait("it is reported", || reports(5) >= 1 && last("jobs") == json!([]));
    let beat = afe.beats().into_iter().find(|beat| beat["jobs"] != json!([])).unwrap();
    let entry = &beat["hqes"][0];
    assert_eq!(
        (&entry["id"], &entry["status"], &entry["complete"], &entry["host_id"]),
        (&json!(50), &json!("Completed"), &json!(true), &json!(2))
    );
    assert_eq!((&beat["jobs"][0]["new_field"], &entry["new_entry_field"]), (&json!("kept"), &json!(1)));
    assert_eq!(beat["known_job_ids"], json!([8, 9]));
    // It is given again, as after a lost acknowledgement: it goes back again.
    let before = reports(5);
    afe.answers(&json!({ "jobs": [wire_job(5, &json!({}))] }));
    bench.wait("it goes back", || reports(5) > before);
    // Its number is given out again: the old one is not mixed with the new one.
    afe.answers(&json!({ "jobs": [wire_job(8, &json!({ "created_on": "2020-01-01T00:00:00" }))] }));
    bench.wait_until_said("the hub gave its number out again");
    // What was aborted before it began is over, and reported; local fields stay as they are.
    let aborted =
        json!([{ "id": 90, "status": "Queued", "active": false, "complete": false, "aborted": true }]);
    afe.answers(
        &json!({ "jobs": [wire_job(9, &json!({ "hostqueueentry_set": aborted, "name": "renamed" }))] }),
    );
    bench.wait("the aborted one is reported", || reports(9) >= 1);
    let (_, jobs) = lab(&dir, "GET", "/jobs?state=complete", None);
    let nine = jobs.as_array().unwrap().iter().find(|job| job["id"] == 9).unwrap();
    assert_eq!(
        (&nine["record"]["name"], &nine["record"]["hostqueueentry_set"][0]["status"]),
        (&json!("dummy"), &json!("Aborted"))
    );
    // A host that is another drone's goes, and what ran on it is to end.
    assert_eq!(lab(&dir, "POST", "/jobs/8/start", Some(&json!({ "host_id": 2 }))).0, 200);
    afe.answers(&json!({ "incorrect_host_ids": [2, 42] }));
    bench.wait("the host is gone", || last("known_host_ids") == json!([3]));
    let (_, jobs) = lab(&dir, "GET", "/jobs?state=running", None);
    assert_eq!((&jobs[0]["id"], &jobs[0]["aborted"]), (&json!(8), &json!(true)));
    assert_eq!(afe.faults(), "", "the AFE found fault");
}

#[test]
fn a_finished_job_outlives_the_roster_and_a_hub_that_is_down() {
    let mut hub = Hub::started("");
    let mut bench = drone(&hub, "drone1", "board:eve");
    let job = created(&hub.told(&["create-job", "dummy", "--board", "board:eve", "--owner", "debug"]))[0];
    bench.start();
    let dir = bench.dir.path().to_owned();
    bench.wait("the job is here", || {
        lab(&dir, "GET", "/jobs?state=queued", None).1.as_array().is_some_and(|jobs| jobs.len() == 1)
    });
    hub.kill();
    assert_eq!(run_jobs(&dir), 1);
    bench.wait_until_gone(&format!("{job}-debug"));
    // Roster and process die before the hub hears of it.
    bench.kill();
    fs::remove_file(bench.path("state/roster.sqlite")).unwrap();
    bench.start();
    hub.start();
    bench.wait("the hub hears of it", || finished(&hub).contains(&job));
    bench.wait("the journal is empty", || fs::read_dir(bench.path("state/reports")).unwrap().count() == 0);
}

#[test]
fn a_drained_or_full_drone_says_so_and_gets_nothing_new() {
    let hub = Hub::started("");
    let mut bench = drone(&hub, "drone1", "board:eve");
    bench.start();
    let report = |field: &str| hub.result("get_shards", &json!({}))[0]["report"][field].clone();
    bench.wait("it is heard", || report("draining") == json!(false));
    assert!(bench.tell(&["drain"]).status.success());
    bench.wait("the hub knows", || report("draining") == json!(true));
    let job = created(&hub.told(&["create-job", "dummy", "--board", "board:eve"]))[0];
    let before = hub.result("get_shards", &json!({}))[0]["last_beat"].as_i64().unwrap();
    bench.wait("more beats", || {
        hub.result("get_shards", &json!({}))[0]["last_beat"].as_i64().unwrap() > before + 1
    });
    assert_eq!(hub.result("get_jobs", &json!({ "id": job }))[0]["shard"], Value::Null);
    let dir = bench.dir.path().to_owned();
    assert!(bench.tell(&["resume"]).status.success());
    bench.wait("it is given", || {
        lab(&dir, "GET", "/jobs", None).1.as_array().is_some_and(|jobs| jobs.len() == 1)
    });
    assert!(bench.tell(&["drain"]).status.success());
    let (status, why) = lab(&dir, "POST", &format!("/jobs/{job}/start"), Some(&json!({})));
    assert_eq!(status, 409, "{why}");
    assert!(why["error"].as_str().unwrap().contains("drained"), "{why}");
}

#[test]
fn what_a_program_says_wrongly_is_refused_and_changes_nothing() {
    let hub = Hub::started("");
    let mut bench = drone(&hub, "drone1", "board:eve");
    let job = created(&hub.told(&["create-job", "dummy", "--board", "board:eve"]))[0];
    bench.start();
    let dir = bench.dir.path().to_owned();
    bench.wait("the job is here", || {
        lab(&dir, "GET", "/jobs", None).1.as_array().is_some_and(|jobs| jobs.len() == 1)
    });
    let complete = format!("/jobs/{job}/complete");
    for (path, word, expected) in [
        (complete.as_str(), json!({ "status": "Great" }), 409),
        (&complete, json!({ "execution_subdir": "../../etc" }), 409),
        (&complete, json!({ "unknown": 1 }), 400),
        (&complete, json!("x"), 400),
        ("/jobs/1/complete", json!({}), 404),
        ("/jobs/x/complete", json!({}), 409),
        ("/hosts/1/status", json!({ "status": "Ready" }), 404),
        ("/hosts/1/status", json!({}), 409),
    ] {
        let (status, answer) = lab(&dir, "POST", path, Some(&word));
        assert_eq!(status, expected, "{path} {word}: {answer}");
    }
    assert_eq!(lab(&dir, "GET", "/jobs?state=dancing", None).0, 409);
    assert_eq!(lab(&dir, "GET", "/jobs", None).1[0]["state"], "queued");
    // Said twice is said once; said otherwise is refused.
    assert_eq!(lab(&dir, "POST", &complete, Some(&json!({ "status": "Failed" }))).0, 200);
    assert_eq!(lab(&dir, "POST", &complete, Some(&json!({ "status": "Failed" }))).0, 200);
    assert_eq!(lab(&dir, "POST", &complete, Some(&json!({ "status": "Completed" }))).0, 409);
    bench.wait("the hub hears of it", || finished(&hub).contains(&job));
}

#[test]
fn a_hub_with_a_certificate_is_spoken_to_by_those_who_trust_it() {
    let mut hub = Hub::new("");
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    certificate(hub.dir.path(), &["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"]);
    hub.extra = format!("tls_cert = {:?}\ntls_key = {:?}", hub.path("cert.pem"), hub.path("key.pem"));
    hub.write_config();
    hub.start();
    let bench = drone(&hub, "drone1", "board:eve");
    let job = created(&hub.told(&["create-job", "dummy", "--board", "board:eve"]))[0];
    let url = format!("https://localhost:{}/rpc/", hub.port);
    let with = |bench: Bench, ca: &str| {
        let token = bench.path("hub.token");
        bench.extra(&format!(
            "[hub]\nurl = \"{url}\"\nheartbeat = \"200ms\"\ntimeout = \"5s\"\ntoken_file = {token:?}\n{ca}"
        ))
    };
    let mut bench = with(bench, "");
    bench.start();
    bench.wait_until_said("heartbeat fails");
    assert_eq!(lab(bench.dir.path(), "GET", "/jobs", None).1, json!([]));
    bench.kill();
    let mut bench = with(bench, &format!("ca_file = {:?}", hub.path("cert.pem")));
    bench.start();
    let dir = bench.dir.path().to_owned();
    bench.wait("the job is here", || lab(&dir, "GET", "/jobs", None).1[0]["id"] == json!(job));
}

#[test]
fn a_caller_who_asks_too_often_is_told_so_and_others_are_answered() {
    let hub = Hub::started("requests_per_minute = 20");
    let token = hub.told(&["add-shard", "drone1"]);
    let beat = json!({ "shard_hostname": "drone1" });
    let answers: Vec<u16> = (0..25).map(|_| hub.ask(Some(&token), "shard_heartbeat", &beat).0).collect();
    assert_eq!((&answers[..20], &answers[20..]), (&[200; 20][..], &[429; 5][..]));
    let guesses: Vec<u16> = (0..25).map(|_| hub.ask(Some("guess"), "get_jobs", &json!({})).0).collect();
    assert_eq!((&guesses[..20], &guesses[20..]), (&[401; 20][..], &[429; 5][..]));
    assert_eq!(hub.result("get_shards", &json!({}))[0]["hostname"], "drone1");
}

#[test]
fn the_fleet_shows_who_is_heard_and_who_is_not() {
    let hub = Hub::started("silent_after = \"1s\"");
    let mut bench = drone(&hub, "drone1", "board:eve");
    hub.told(&["add-shard", "quiet<b>", "--label", "board:link"]);
    bench.start();
    let get = |path: &str| {
        let url = hub.url().replace("/afe/server/noauth/rpc/", path);
        String::from_utf8(Command::new("curl").args(["--silent", &url]).output().unwrap().stdout).unwrap()
    };
    let fleet = || serde_json::from_str::<Value>(&get("/api/v1/fleet")).unwrap();
    bench.wait("it is heard", || {
        fleet()["drones"][0]["state"] == "ok" && fleet()["drones"][0]["report"]["disk_percent"].is_u64()
    });
    assert_eq!(fleet()["drones"][1]["state"], "never heard");
    let page = get("/");
    assert!(page.contains("quiet&lt;b&gt;") && !page.contains("quiet<b>"), "{page}");
    assert!(get("/metrics").contains("dronekeeper_hub_drone_up{drone=\"drone1\"} 1\n"));
    // With something to unfold: a report that the hub does not take.
    let strange = json!({ "id": 7, "created_on": "2020-01-01T00:00:00", "owner": "x" });
    let job = created(&hub.told(&["create-job", "dummy", "--board", "board:eve"]))[0];
    let theirs =
        json!({ "shard_hostname": "quiet<b>", "jobs": [strange, { "id": job, "created_on": "2020-01-01" }] });
    hub.result("shard_heartbeat", &theirs);
    let url = hub.url().replace("/afe/server/noauth/rpc/", "/");
    let texts = ["drone1", "quiet<b>", "Fleet", "of quiet<b>"];
    let look = Command::new("python3").args(["tests/browser.py", &url]).args(texts).output().unwrap();
    let (said, faults) = (String::from_utf8_lossy(&look.stdout), String::from_utf8_lossy(&look.stderr));
    assert!(look.status.success() && said.lines().count() == 2, "{said}{faults}");
    bench.kill();
    bench.wait("it is missed", || fleet()["drones"][0]["state"] == "silent");
    assert!(get("/metrics").contains("dronekeeper_hub_drone_up{drone=\"drone1\"} 0\n"));
    assert_eq!(get("/healthz"), "alive\n");
}

#[test]
fn a_hub_that_cannot_begin_says_why() {
    for (extra, status, said) in [
        ("tls_cert = \"/nowhere\"", 78, "belong together"),
        ("tls_cert = \"/nowhere\"\ntls_key = \"/nowhere\"", 78, "`hub.tls_cert` /nowhere"),
        ("database = \"mysql://x\"", 78, "neither a file nor postgres"),
        ("database = \"postgres://h/d?nonsense=1\"", 78, "`hub.database`"),
        ("no_such_key = 1", 78, "unknown key `no_such_key`"),
    ] {
        let hub = Hub::new(extra);
        let done = hub.command().output().unwrap();
        let output = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(
            done.status.code() == Some(status) && output.contains(said),
            "{extra}: {:?} {output}",
            done.status
        );
    }
    let hub = Hub::started("");
    let second = hub.command().output().unwrap();
    assert_eq!(second.status.code(), Some(75), "{}", String::from_utf8_lossy(&second.stdout));
    // Without a hub there is nobody to tell.
    let nobody = Hub::new("");
    assert_eq!(nobody.ctl(&["shards"]).status.code(), Some(69));
}

#[test]
fn the_admin_address_is_open_to_programs_that_show_the_token() {
    let hub = Hub::started("");
    let mut bench = drone(&hub, "drone1", "board:eve");
    let address = format!("127.0.0.1:{}", free_port());
    bench.start_with(&[("DRONEKEEPER__ADMIN__LISTEN", &address), ("DRONEKEEPER__ADMIN__TOKEN", "s3cret")]);
    bench.wait_until_said("console listens");
    let ask = |token: Option<&str>| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        if let Some(token) = token {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let done = curl.arg(format!("http://{address}/api/v1/lab/jobs")).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(
        (ask(None), ask(Some("guess")), ask(Some("s3cret"))),
        ("403".into(), "403".into(), "200".into())
    );
}
