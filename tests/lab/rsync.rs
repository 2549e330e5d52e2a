//! A results host takes the results: a real sshd and a real rsync, with what goes wrong between two machines.

use crate::bench::{Bench, hashes};
use rustix::process::{Pid, Signal};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A results host on loopback. It ends with this value.
struct Host {
    dir: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

impl Host {
    fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let host = Host { dir, port, server: None };
        for key in ["host", "client", "stranger"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(host.path(key));
            let made = make.status().expect("ssh-keygen is missing: run these tests with tests/run");
            assert!(made.success());
        }
        fs::copy(host.path("client.pub"), host.path("authorized")).unwrap();
        host.know("host");
        fs::create_dir_all("/run/sshd").unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\nSetEnv HOME={}\n{settings}\n",
            host.path("host").display(),
            host.path("authorized").display(),
            // Not the start-up files of whoever runs the tests.
            host.dir.path().display()
        );
        fs::write(host.path("config"), config).unwrap();
        host
    }

    fn started(settings: &str) -> Self {
        let mut host = Host::new(settings);
        host.start();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes that key down as the host's.
    fn know(&self, key: &str) {
        let public = fs::read_to_string(self.path(&format!("{key}.pub"))).unwrap();
        fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
    }

    fn start(&mut self) {
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.path("config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.path("log")).unwrap())
            .spawn()
            .expect("sshd is missing: run these tests with tests/run");
        self.server = Some(server);
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("sshd does not answer: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    /// Ends sshd and every session, as a power cut does.
    fn cut(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        for session in self.sessions(server.id()) {
            let _ = rustix::process::kill_process(session, Signal::KILL);
        }
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// sshd's descendants.
    fn sessions(&self, parent: u32) -> Vec<Pid> {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let mut all = Vec::new();
        for child in children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()) {
            all.extend(self.sessions(child));
            all.extend(Pid::from_raw(child as i32));
        }
        all
    }

    fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().unwrap().id();
        let mut all = self.sessions(server);
        all.extend(Pid::from_raw(server as i32));
        for pid in all {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn results(&self) -> PathBuf {
        self.path("results")
    }

    /// The `[store]` of a drone.
    fn store(&self, more: &str) -> String {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        format!(
            "url = \"rsync://{}@127.0.0.1:{}{}\"\noptions = {{ ssh_key = {:?}, ssh_known_hosts = {:?} }}\n{more}",
            user.trim(),
            self.port,
            self.results().display(),
            self.path("client"),
            self.path("known_hosts")
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.cut();
    }
}

#[test]
fn jobs_go_to_a_results_host_with_every_name_and_come_back() {
    every_name_goes_there_and_comes_back(&Host::started(""));
}

#[test]
fn a_host_that_has_no_openssl_proves_what_it_holds_too() {
    let tools = tempfile::tempdir().unwrap();
    let all = ["/usr/bin", "/bin"].into_iter().flat_map(|dir| fs::read_dir(dir).unwrap());
    for tool in all.map(|tool| tool.unwrap().path()).filter(|tool| !tool.ends_with("openssl")) {
        let _ = std::os::unix::fs::symlink(&tool, tools.path().join(tool.file_name().unwrap()));
    }
    let mut host = Host::new("");
    let config = fs::read_to_string(host.path("config")).unwrap();
    let config = config.replace("SetEnv ", &format!("SetEnv PATH={} ", tools.path().display()));
    fs::write(host.path("config"), config).unwrap();
    host.start();
    every_name_goes_there_and_comes_back(&host);
}

fn every_name_goes_there_and_comes_back(host: &Host) {
    let mut bench = Bench::with_store(&host.store(""));
    let job = bench.job("101-a");
    for name in [
        "-n",
        "it's $(touch x)",
        "new\nline",
        "trailing ",
        "a;b&c",
        "[1]*?",
        "über",
        "%41",
        "~",
        "back\\nslash",
    ] {
        fs::write(job.join(name), format!("of {name:?}")).unwrap();
    }
    fs::write(job.join("large"), vec![5; 20 << 20]).unwrap();
    // Its key is not its name: it goes alone, in parts.
    let parts: Vec<u8> = (0..70_u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(job.join("large #1?"), parts).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", job.join("out")).unwrap();
    bench.finish("101-a");
    fs::create_dir(bench.results().join("102-empty")).unwrap();
    bench.finish("102-empty");
    let files = hashes(&job);
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_gone("102-empty");
    assert_eq!(bench.restored("101-a"), files);
    assert_eq!(fs::read(host.results().join("101-a/-n")).unwrap(), b"of \"-n\"");
    assert_eq!(fs::read_to_string(host.results().join("101-a/out")).unwrap(), "<symlink to /etc/passwd>");
    assert!(!bench.results().join("x").exists() && !host.results().join("x").exists());
    let left = fs::read_dir(host.results().join("101-a")).unwrap().flatten();
    let left: Vec<_> =
        left.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".dk.")).collect();
    assert!(left.is_empty(), "{left:?}");
    let verified = bench.tell(&["verify", "--all", "--read-back"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let one = bench.tell(&["restore", "101-a", "--path", "status.log", "--to", "one"]);
    assert!(one.status.success() && bench.path("one/status.log").exists());
    let checked = String::from_utf8_lossy(&bench.tell(&["check", "--connect"]).stdout).into_owned();
    assert!(checked.contains("store        ok"), "{checked}");
    // One damaged byte, and the audit sees it.
    fs::write(host.results().join("101-a/status.log"), "other").unwrap();
    assert!(!bench.tell(&["verify", "101-a"]).status.success());
}

#[test]
fn a_packed_job_goes_to_a_results_host_too() {
    let host = Host::started("");
    let mut bench = Bench::with_store(&host.store("layout = \"packed\""));
    let files = bench.finished(&["101-a"]).remove("101-a").unwrap();
    bench.start();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
    assert!(host.results().join("101-a/.dronekeeper/packs").exists());
}

#[test]
fn a_host_that_is_another_or_knows_us_not_gets_nothing() {
    let host = Host::started("");
    host.know("stranger");
    let mut bench = Bench::with_store(&host.store(""));
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("Host key verification failed");
    assert!(!host.results().exists() && bench.left() == ["101-a"]);
    // Known again, but our key is not.
    host.know("host");
    fs::write(host.path("authorized"), "").unwrap();
    bench.kill();
    bench.start();
    bench.wait("refused", || bench.said("Permission denied") > 0);
    fs::copy(host.path("client.pub"), host.path("authorized")).unwrap();
    bench.tell(&["retry", "--all"]);
    bench.wait_until_gone("101-a");
}

#[test]
fn a_host_that_takes_few_connections_at_once_gets_everything() {
    let host = Host::started("MaxStartups 2:100:2\nMaxSessions 3");
    let mut bench = Bench::with_store(&host.store("")).lane("workers = 20");
    let names: Vec<String> = (100..120).map(|number| format!("{number}-a")).collect();
    let files = bench.finished(&names.iter().map(String::as_str).collect::<Vec<_>>());
    bench.start();
    names.iter().for_each(|name| bench.wait_until_gone(name));
    assert_eq!(bench.restored("119-a"), files["119-a"]);
}

#[test]
fn a_connection_that_is_cut_in_the_middle_of_a_file_is_gone_on_with() {
    let mut host = Host::started("");
    let mut bench = Bench::with_store(&host.store("bandwidth = \"4MiB/s\""));
    let job = bench.job("101-a");
    let data: Vec<u8> =
        (0..24u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(job.join("large"), &data).unwrap();
    bench.finish("101-a");
    bench.start();
    let partial = |dir: &Path| {
        let there = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap());
        there
            .filter(|entry| entry.file_name().to_string_lossy().contains("large"))
            .any(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 2 << 20))
    };
    bench.wait("a part of the file", || partial(&host.results().join("101-a")));
    host.cut();
    bench.wait_until_said("store in trouble");
    assert_eq!(bench.left(), ["101-a"]);
    host.start();
    bench.wait_until_gone("101-a");
    assert!(fs::read(host.results().join("101-a/large")).unwrap() == data);
    assert!(!host.results().join("101-a/.dronekeeper-partial").exists());
}

#[test]
fn a_large_file_that_goes_alone_begins_anew_after_a_cut() {
    let mut host = Host::started("");
    let mut bench = Bench::with_store(&host.store("bandwidth = \"8MiB/s\""));
    let job = bench.job("101-a");
    fs::write(job.join("lar#ge"), (0..7_u32 << 20).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    bench.finish("101-a");
    let files = hashes(&job);
    bench.start();
    let growing = |dir: &Path| {
        let there = fs::read_dir(dir).into_iter().flatten().flatten();
        there
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".dk."))
            .any(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() >= 8 << 20))
    };
    bench.wait("a part is there", || growing(&host.results().join("101-a")));
    host.cut();
    bench.wait_until_said("store in trouble");
    assert_eq!(bench.left(), ["101-a"]);
    host.start();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
    assert!(!growing(&host.results().join("101-a")), "what was cut off lies there still");
}

#[test]
fn a_host_that_hangs_holds_its_jobs_and_lets_them_go_when_it_wakes() {
    let host = Host::started("");
    let mut bench = Bench::with_store(&host.store(""));
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_gone("101-a");
    host.signal(Signal::STOP);
    bench.finished(&["102-b"]);
    bench.wait_until_said("store in trouble");
    assert_eq!(bench.left(), ["102-b"]);
    host.signal(Signal::CONT);
    bench.wait_until_gone("102-b");
}

#[test]
fn what_changes_on_the_host_after_its_proof_stops_the_deletion() {
    let host = Host::started("");
    let mut bench = Bench::with_store(&host.store("")).lane("delete_after = \"2s\"");
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("verified job=101-a");
    // As large and as old as before.
    let file = host.results().join("101-a/status.log");
    let (before, bytes) = (fs::metadata(&file).unwrap().modified().unwrap(), fs::read(&file).unwrap());
    fs::write(&file, vec![b'x'; bytes.len()]).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
    bench.wait("noticed", || bench.log().contains("101-a/status.log is in the store with other bytes"));
    assert_eq!(bench.left(), ["101-a"]);
}

#[test]
fn nothing_is_written_or_proven_beside_a_transfer_that_is_still_alive_on_the_host() {
    let host = Host::started("");
    let mut bench = Bench::with_store(&host.store(""));
    let files = bench.finished(&["101-a"]).remove("101-a").unwrap();
    let place = host.results().join("101-a");
    fs::create_dir_all(&place).unwrap();
    // What a killed drone's rsync left on the host: it has the place locked.
    let mut old = Command::new("flock")
        .arg("-x")
        .arg(&place)
        .args(["sleep", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    bench.start();
    bench.wait_until_said("an earlier transfer to this place is still alive there");
    assert!(bench.results().join("101-a/status.log").exists());
    assert!(!place.join("status.log").exists(), "it was written all the same");
    let sleeping = Command::new("pkill").args(["-P", &old.id().to_string()]).status().unwrap();
    assert!(sleeping.success());
    old.wait().unwrap();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
}
