//! The bench: one drone on a temporary lab machine, driven as its operator would.

use sha2::{Digest, Sha256};
use stage::Server;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Everything here ends within this time on a machine that is ten times slower than ours. A search for
/// seeded bugs, which make tests wait in vain, sets less.
fn patience() -> Duration {
    let seconds = std::env::var("LAB_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(90))
}

pub struct Bench {
    pub dir: tempfile::TempDir,
    name: String,
    /// More of `[drone]`.
    own: String,
    store: String,
    lane: String,
    extra: String,
    drone: Option<Child>,
}

/// The SHA-256 of every file below a directory, by its path.
pub type Files = BTreeMap<Vec<u8>, Vec<u8>>;

impl Bench {
    /// A lab machine whose store is a directory.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("results")).unwrap();
        let store = format!("url = \"file://{}\"", dir.path().join("offloaded").display());
        Bench {
            dir,
            name: "bench".into(),
            own: String::new(),
            store,
            lane: String::new(),
            extra: String::new(),
            drone: None,
        }
    }

    /// A lab machine whose store is a server of the stage.
    pub fn on(server: &Server) -> Self {
        Self::with_store(&s3(&server.url()))
    }

    pub fn with_store(store: &str) -> Self {
        let mut bench = Bench::new();
        bench.store = store.to_owned();
        bench
    }

    /// The same lab machine, with another store.
    pub fn storing(mut self, server: &Server) -> Self {
        self.store = s3(&server.url());
        self
    }

    /// Another name than `bench`.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// More of `[drone]`.
    pub fn drone(mut self, lines: &str) -> Self {
        self.own = lines.to_owned();
        self
    }

    pub fn lane(mut self, lines: &str) -> Self {
        self.lane = lines.to_owned();
        self
    }

    /// Lines for other sections.
    pub fn extra(mut self, lines: &str) -> Self {
        self.extra = lines.to_owned();
        self
    }

    /// The same lab machine, with one text in its configuration replaced by another.
    pub fn replaced(mut self, from: &str, to: &str) -> Self {
        assert!(self.extra.contains(from), "{from} is not in the configuration");
        self.extra = self.extra.replace(from, to);
        self
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn results(&self) -> PathBuf {
        self.path("results")
    }

    /// Makes a job of a few files, not finished yet.
    pub fn job(&self, name: &str) -> PathBuf {
        let dir = self.results().join(name);
        fs::create_dir_all(dir.join("debug")).unwrap();
        fs::write(dir.join("status.log"), format!("START {name}\nEND GOOD\n")).unwrap();
        fs::write(dir.join("debug/autoserv.DEBUG"), format!("{name} line\n").repeat(500)).unwrap();
        fs::write(dir.join("empty"), "").unwrap();
        dir
    }

    pub fn finish(&self, name: &str) {
        fs::write(self.results().join(name).join(".ready_for_offload"), "1700000000\n").unwrap();
    }

    /// Makes finished jobs; answers with what is in them.
    pub fn finished(&self, names: &[&str]) -> BTreeMap<String, Files> {
        let jobs = names.iter().map(|name| {
            let dir = self.job(name);
            self.finish(name);
            ((*name).to_owned(), hashes(&dir))
        });
        jobs.collect()
    }

    pub fn write_config(&self) -> PathBuf {
        let lane = if self.lane.contains("directories") { "" } else { "directories = [\"[0-9]*-*\"]\n" };
        let settle = if self.lane.contains("settle") { "" } else { "settle = \"150ms\"\n" };
        let mut text = String::new();
        writeln!(text, "[drone]\nname = {:?}\nstate_dir = {:?}", self.name, self.path("state")).unwrap();
        writeln!(text, "{}", self.own).unwrap();
        writeln!(text, "[admin]\nlisten = \"127.0.0.1:0\"").unwrap();
        writeln!(text, "[results]\ndir = {:?}\nrescan = \"100ms\"", self.results()).unwrap();
        writeln!(text, "[store]\nstall = \"3s\"\n{}", self.store).unwrap();
        writeln!(text, "[[lane]]\nname = \"jobs\"\n{settle}{lane}{}", self.lane).unwrap();
        if !self.extra.contains("[disk]") {
            // However full the machine is that runs the tests.
            writeln!(text, "[disk]\nhigh = \"100%\"").unwrap();
        }
        writeln!(text, "{}", self.extra).unwrap();
        let file = self.path("dronekeeper.toml");
        if fs::read_to_string(&file).is_ok_and(|written| written == text) {
            return file; // somebody may be reading it
        }
        fs::write(&file, text).unwrap();
        file
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.write_config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dronekeeper"));
        command.arg("-c").arg(config).args(arguments).current_dir(self.dir.path());
        command
    }

    /// Runs a command to its end.
    pub fn tell(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the drone; its log is kept over restarts.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// With some environment.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut drone = self.command(&["run"]);
        drone.envs(environment.iter().copied());
        drone.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        self.drone = Some(drone.spawn().unwrap());
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    /// So many lines of the log hold this text.
    pub fn said(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    pub fn kill(&mut self) {
        if let Some(mut drone) = self.drone.take() {
            drone.kill().unwrap();
            drone.wait().unwrap();
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let drone =
            self.drone.as_ref().map(|drone| rustix::process::Pid::from_raw(drone.id() as i32).unwrap());
        rustix::process::kill_process(drone.unwrap(), signal).unwrap();
    }

    /// SIGTERM, and the exit status.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        let mut drone = self.drone.take()?;
        drone.wait().unwrap().code()
    }

    pub fn runs(&mut self) -> bool {
        self.drone.as_mut().is_some_and(|drone| drone.try_wait().unwrap().is_none())
    }

    /// Waits for something that must come true.
    pub fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(
                begun.elapsed() < patience(),
                "{what}: not within {:?}; log:\n{}",
                patience(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_until_gone(&self, name: &str) {
        self.wait(&format!("{name} pruned"), || !self.results().join(name).exists());
    }

    pub fn wait_until_said(&self, text: &str) {
        self.wait(text, || self.said(text) > 0);
    }

    /// The jobs that are still on the disk.
    pub fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.results()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with(".dronekeeper") && !name.contains("FAILED_OFFLOADS"));
        names.sort();
        names
    }

    /// Brings a job back with the product's own command and hashes what came.
    pub fn restored(&self, name: &str) -> Files {
        let to = self.path(&format!("restored-{}", name.replace('/', "_")));
        let done = self.tell(&["restore", name, "--to", to.to_str().unwrap()]);
        assert!(done.status.success(), "restore {name}: {}", String::from_utf8_lossy(&done.stderr));
        hashes(&to)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the drone's log\n{}", self.log());
        }
    }
}

/// The `[store]` of an S3 server on loopback.
pub fn s3(url: &str) -> String {
    format!(
        "url = \"s3://lab\"\noptions = {{ aws_endpoint = \"{url}\", aws_access_key_id = \"K\", \
         aws_secret_access_key = \"S\", aws_region = \"us-east-1\" }}"
    )
}

/// The `[store]` of a GCS server on loopback.
pub fn gcs(url: &str) -> String {
    format!(
        "url = \"gs://lab\"\noptions = {{ google_base_url = \"{url}\", google_skip_signature = \"true\" }}"
    )
}

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// The files below a directory; links and special files are not files.
pub fn hashes(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path().strip_prefix(dir).unwrap().as_os_str().as_bytes().to_vec();
                files.insert(path, sha256(&fs::read(entry.path()).unwrap()));
            }
        }
    }
    files
}

/// Bytes that no compressor makes smaller.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Text with half a byte of news in each byte: gzip leaves a little more than half.
pub fn digits(count: usize) -> Vec<u8> {
    noise(count).iter().map(|byte| b"0123456789abcdef"[usize::from(byte & 15)]).collect()
}

/// Makes `cert.pem` and `key.pem` there, of an authority that nobody knows; `more` for openssl.
pub fn certificate(dir: &Path, more: &[&str]) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .args(more)
        .current_dir(dir)
        .output()
        .expect("openssl is missing: run these tests with tests/run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
