//! Post-processing runs to its end on every job, whatever is killed or shut down in between.

use crate::bench::{Bench, hashes};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Makes a command of these lines of shell.
pub fn command(bench: &Bench, name: &str, lines: &str) -> PathBuf {
    let path = bench.path(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A `[[queue]]` that runs this.
pub fn queue(name: &str, command: &std::path::Path, more: &str) -> String {
    format!("[[queue]]\nname = {name:?}\ncommand = [{command:?}, \"{{job_dir}}\", \"{{key}}\"]\n{more}\n")
}

pub fn list(bench: &Bench, state: &str) -> Vec<serde_json::Value> {
    let listed = bench.tell(&["queue", "list", "--json", "--state", state]);
    serde_json::from_slice(&listed.stdout).unwrap_or_default()
}

#[test]
fn a_job_is_processed_before_it_is_offloaded_and_what_was_said_goes_with_it() {
    let mut bench = Bench::new();
    let parse = command(
        &bench,
        "parse",
        "echo parsed $(basename \"$1\"); echo complaint >&2; echo result > \"$1/parsed\"",
    );
    bench = bench.extra(&queue("parse", &parse, ""));
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    for job in ["101-a", "102-b"] {
        bench.wait_until_gone(job);
        let stored = bench.path(&format!("offloaded/{job}"));
        assert_eq!(fs::read_to_string(stored.join("parsed")).unwrap(), "result\n");
        let said = fs::read_to_string(stored.join(".dronekeeper-parse.1.log")).unwrap();
        assert!(said.contains(&format!("parsed {job}")) && said.contains("complaint"), "{said}");
    }
    assert_eq!(bench.said("post-processing done"), 2);
    assert_eq!(list(&bench, "done").len(), 2);
}

#[test]
fn an_offloaded_job_is_processed_before_it_is_deleted() {
    let mut bench = Bench::new();
    let go = bench.path("go");
    let report = command(&bench, "report", &format!("[ -e {} ] && echo told $1", go.display()));
    bench = bench.extra(&queue("report", &report, "on = \"offloaded\"\nattempts = \"unlimited\""));
    let files = bench.finished(&["101-a"]).remove("101-a").unwrap();
    bench.start();
    bench.wait("it failed twice", || bench.said("post-processing failed") >= 2);
    assert!(bench.path("offloaded/101-a/.dronekeeper/manifest.json").exists());
    assert_eq!(hashes(&bench.results().join("101-a")), files, "the stored directory was changed");
    fs::write(&go, "").unwrap();
    bench.wait_until_gone("101-a");
    let outputs: Vec<_> = fs::read_dir(bench.path("state/queue-output/report")).unwrap().collect();
    assert_eq!(outputs.len(), 1);
}

#[test]
fn what_gives_up_is_stored_kept_and_shown_until_a_person_decides() {
    let mut bench = Bench::new();
    let mended = bench.path("mended");
    let parse =
        command(&bench, "parse", &format!("[ -e {} ] || {{ echo no database; exit 7; }}", mended.display()));
    bench = bench.extra(&queue("parse", &parse, "attempts = 2"));
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    bench.wait("both gave up", || list(&bench, "dead").len() == 2);
    let manifest = |job: &str| bench.path(&format!("offloaded/{job}/.dronekeeper/manifest.json")).exists();
    bench.wait("both are stored", || manifest("101-a") && manifest("102-b"));
    assert_eq!(bench.left(), ["101-a", "102-b"], "a job was deleted although its processing gave up");
    let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(status.contains("[queue] post-processing gave up"), "{status}");
    let shown = String::from_utf8_lossy(&bench.tell(&["queue", "show", "101-a"]).stdout).into_owned();
    assert!(shown.contains("ended with status 7: no database"), "{shown}");
    fs::write(&mended, "").unwrap();
    assert!(bench.tell(&["queue", "retry", "101-a"]).status.success());
    bench.wait_until_gone("101-a");
    assert!(bench.results().join("102-b").exists());
    assert!(bench.tell(&["queue", "drop", "102-b"]).status.success());
    bench.wait_until_gone("102-b");
    assert!(!bench.tell(&["queue", "retry", "--all"]).status.success(), "there is nothing left to retry");
}

#[test]
fn kills_lose_nothing_and_leave_nothing_in_progress() {
    let mut bench = Bench::new();
    // An effect once by its key, a line for each run, and a grandchild that would outlive a careless drone.
    let (effects, runs) = (bench.path("effects"), bench.path("runs"));
    fs::create_dir(&effects).unwrap();
    let work = format!(
        "echo $2 >> {}\nsleep 0.$(( $(printf %d \"0x$(echo $2 | cut -c1-2)\") % 5 ))\n( set -C; > {}/$2 ) 2>/dev/null || true",
        runs.display(),
        effects.display()
    );
    let work = command(&bench, "work", &work);
    bench = bench.lane("workers = 4").extra(&queue("work", &work, "workers = 4\non = \"offloaded\""));
    let names: Vec<String> = (0..60).map(|number| format!("{}-a", 100 + number)).collect();
    bench.finished(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let begun = Instant::now();
    let mut kills = 0;
    while !bench.left().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?} are left", bench.left());
        bench.start();
        std::thread::sleep(Duration::from_millis(if kills < 8 { 700 } else { 5000 }));
        bench.kill();
        kills += 1;
    }
    assert!(kills >= 5, "it was killed {kills} times only");
    assert_eq!(fs::read_dir(&effects).unwrap().count(), names.len());
    let runs = fs::read_to_string(&runs).unwrap();
    let mut of: BTreeMap<&str, u32> = BTreeMap::new();
    runs.lines().for_each(|key| *of.entry(key).or_default() += 1);
    assert_eq!(of.len(), names.len());
    assert!(runs.lines().count() < names.len() + 4 * kills + 1, "more ran again than was cut off");
    bench.start();
    bench.wait("nothing is in progress", || list(&bench, "done").len() == names.len());
    assert!(list(&bench, "running").is_empty() && list(&bench, "queued").is_empty());
}

#[test]
fn a_stop_waits_for_what_runs_and_gives_back_what_takes_too_long() {
    let mut bench = Bench::new();
    let runs = bench.path("runs");
    let work = command(
        &bench,
        "work",
        &format!("echo begun >> {0}; sleep ${{SECONDS_:-2}}; echo ended >> {0}", runs.display()),
    );
    let said = || fs::read_to_string(&runs).unwrap_or_default();
    bench = bench.extra(&format!("{}[shutdown]\ndeadline = \"4s\"", queue("work", &work, "")));
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait("it runs", || said().contains("begun"));
    bench.finished(&["102-b"]);
    assert_eq!(bench.stop(), Some(0));
    assert_eq!(said(), "begun\nended\n", "what ran was cut off, or more was begun");
    bench.start_with(&[("SECONDS_", "60")]);
    bench.wait("the next runs", || said().matches("begun").count() == 2);
    let begun = Instant::now();
    bench.stop();
    assert!(begun.elapsed() < Duration::from_secs(30), "the stop took {:?}", begun.elapsed());
    assert_eq!(said().matches("ended").count(), 1);
    assert_eq!(bench.said("cut off, and returned to the queue"), 1);
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_gone("102-b");
    assert_eq!(said().matches("ended").count(), 2);
    assert_eq!(bench.said("post-processing failed"), 0, "a stop counted as a failure");
}

#[test]
fn a_command_that_hangs_is_ended_with_all_that_it_started_and_holds_up_no_other_queue() {
    let mut bench = Bench::new();
    let pids = bench.path("pids");
    let hang = command(
        &bench,
        "hang",
        &format!("sleep 300 & echo $! >> {}; trap '' TERM; sleep 300", pids.display()),
    );
    let light = command(&bench, "light", "echo light");
    bench = bench.extra(&format!(
        "{}{}",
        queue("heavy", &hang, "timeout = \"1s\"\nattempts = 1\non = \"offloaded\""),
        queue("light", &light, "")
    ));
    bench.finished(&["101-a", "102-b", "103-c"]);
    bench.start();
    bench.wait("the light work is done", || bench.said("post-processing done queue=light") == 3);
    bench.wait_until_said("did not end within 1s");
    let alive = || {
        let pids = fs::read_to_string(&pids).unwrap_or_default();
        pids.lines().any(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
        })
    };
    bench.wait("nothing that it started is left", || !alive());
    bench.signal(Signal::TERM);
}

#[test]
fn a_journal_that_is_lost_is_rebuilt_and_every_job_is_processed() {
    let mut bench = Bench::new();
    let hold = bench.path("hold");
    let work =
        command(&bench, "work", &format!("[ ! -e {} ] && echo done > \"$1/processed\"", hold.display()));
    bench = bench.extra(&queue("work", &work, "attempts = \"unlimited\""));
    fs::write(&hold, "").unwrap();
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    bench.wait("both failed", || bench.said("post-processing failed") >= 2);
    fs::write(bench.path("state/queue.sqlite"), b"").unwrap();
    fs::remove_file(&hold).unwrap();
    for job in ["101-a", "102-b"] {
        bench.wait_until_gone(job);
        assert!(bench.path(&format!("offloaded/{job}/processed")).exists());
    }
    assert!(bench.said("queue journal damaged") > 0);
}

#[test]
fn the_last_command_runs_when_every_task_has_succeeded_whatever_is_killed() {
    let mut bench = Bench::new();
    let (runs, mended) = (bench.path("runs"), bench.path("mended"));
    let task = format!("sleep 0.3; [ $2 = ok ] || [ -e {} ] || exit 3; echo $2 > $1/$2", mended.display());
    let task = command(&bench, "task", &task);
    let join = command(&bench, "join", &format!("echo $(ls $1) >> {}", runs.display()));
    let tasks = format!(
        "tasks = [[{task:?}, \"{{job_dir}}\", \"ok\"], [{task:?}, \"{{job_dir}}\", \"late\"]]\nattempts = 2\nworkers = 4"
    );
    bench = bench.extra(&queue("parse", &join, &tasks));
    bench.finished(&["101-a", "102-b"]);
    bench.start();
    std::thread::sleep(Duration::from_millis(600));
    bench.kill();
    bench.start();
    bench.wait("a task of each gave up", || list(&bench, "dead").len() == 2);
    assert!(!runs.exists(), "the last command ran although a task had failed");
    assert!(list(&bench, "dead").iter().all(|item| item["part"] == 2));
    fs::write(&mended, "").unwrap();
    assert!(bench.tell(&["queue", "retry", "--all"]).status.success());
    for job in ["101-a", "102-b"] {
        bench.wait_until_gone(job);
        // Results are safe first: it was stored before, and is again with what was added.
        let stored = [job.to_owned(), format!("{job}~2")];
        assert!(stored.iter().any(|name| bench.path(&format!("offloaded/{name}/late")).exists()));
    }
    let runs = fs::read_to_string(&runs).unwrap();
    assert!(
        runs.lines().count() == 2 && runs.lines().all(|line| line.contains("late") && line.contains("ok")),
        "{runs}"
    );
}

#[test]
fn light_items_never_wait_for_a_heavy_one() {
    let mut bench = Bench::new();
    let go = bench.path("go");
    let work =
        format!("case $1 in *-heavy|*-slow) while [ ! -e {} ]; do sleep 0.1; done;; esac", go.display());
    let work = command(&bench, "work", &work);
    let classes =
        "workers = 1\nheavy_workers = 1\nheavy_above = \"100KiB\"\nheavy_after = \"1s\"\non = \"offloaded\"";
    bench = bench.extra(&queue("work", &work, classes));
    fs::write(bench.job("100-heavy").join("large"), vec![1; 200 << 10]).unwrap();
    bench.finish("100-heavy");
    bench.start();
    bench.wait("the heavy one runs", || list(&bench, "running").iter().any(|item| item["class"] == "heavy"));
    // This one looks light, and shows to be heavy: it gives the only light worker back.
    bench.finished(&["101-slow"]);
    bench.wait_until_said("shows to be heavy");
    bench.finished(&["102-a", "103-b", "104-c"]);
    for job in ["102-a", "103-b", "104-c"] {
        bench.wait_until_gone(job);
    }
    assert_eq!(list(&bench, "running").len(), 2);
    // What was learnt holds over a restart.
    bench.kill();
    bench.start();
    bench.wait("one of them runs, with the heavy ones", || {
        list(&bench, "running").len() == 1
            && list(&bench, "queued").iter().all(|item| item["class"] == "heavy")
    });
    fs::write(&go, "").unwrap();
    bench.wait("all is done", || list(&bench, "done").len() == 5);
}

#[test]
fn a_command_has_the_bounds_that_the_queue_sets() {
    let mut bench = Bench::new();
    let greedy =
        command(&bench, "greedy", "head -c 300000000 /dev/zero | tail -c 300000000 | wc -c; nice; ulimit -v");
    let busy = command(&bench, "busy", "while :; do :; done");
    let extra = format!(
        "{}{}",
        queue("greedy", &greedy, "memory = \"64MiB\"\nnice = 7\non = \"offloaded\""),
        queue("busy", &busy, "cpu_time = \"1s\"\nattempts = 1\non = \"offloaded\"")
    );
    bench = bench.extra(&extra);
    let output = bench.path("state/queue-output");
    let said = |name: &str| {
        let dir = fs::read_dir(output.join(name)).into_iter().flatten().flatten();
        dir.map(|file| fs::read_to_string(file.path()).unwrap()).collect::<String>()
    };
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait("it ran", || bench.said("post-processing done queue=greedy") == 1);
    let heard = said("greedy");
    assert!(heard.contains("exhausted") && heard.contains("\n7\n") && heard.contains("65536"), "{heard}");
    bench.wait_until_said("used more processor time than 1s");
}

/// A worker of its own, killed when dropped.
struct Worker(Child);

impl Worker {
    fn of(bench: &Bench, arguments: &[&str]) -> Self {
        let log = fs::File::options().create(true).append(true).open(bench.path("worker.log")).unwrap();
        let mut command = bench.command(&[&["worker", "--queue", "work"], arguments].concat());
        Worker(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn worker_said(bench: &Bench, text: &str) -> usize {
    fs::read_to_string(bench.path("worker.log")).unwrap_or_default().matches(text).count()
}

#[test]
fn workers_of_their_own_do_the_drones_work_and_may_be_killed() {
    let mut bench = Bench::new();
    let go = bench.path("go");
    let work = command(
        &bench,
        "work",
        &format!("while [ ! -e {} ]; do sleep 0.1; done; touch $1/done", go.display()),
    );
    bench = bench.extra(&queue("work", &work, "workers = 0\nlease = \"6s\""));
    bench.finished(&["101-a"]);
    bench.start();
    let unknown = bench.tell(&["worker", "--queue", "nosuch"]);
    let why = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && why.contains("the queues are: work"), "{why}");
    let first = Worker::of(&bench, &["--workers", "2"]);
    bench.wait("it runs", || list(&bench, "running").len() == 1);
    drop(first);
    let second = Worker::of(&bench, &["--workers", "2"]);
    bench.wait("another takes it over", || worker_said(&bench, "post-processing begins") == 2);
    // Told to go, it gives back what it has, and nobody waits for the lease.
    let began = Instant::now();
    second.signal(Signal::TERM);
    bench.wait("it waits for what runs", || worker_said(&bench, "waits for what runs") == 1);
    second.signal(Signal::TERM);
    bench.wait("it is given back", || list(&bench, "queued").len() == 1);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    let _third = Worker::of(&bench, &["--workers", "2"]);
    fs::write(&go, "").unwrap();
    bench.wait_until_gone("101-a");
    assert!(bench.path("offloaded/101-a/done").exists());
}

#[test]
fn hosts_share_a_queue_on_postgresql_and_one_that_is_cut_off_ends_its_work() {
    let base = crate::fleet::postgres_base();
    let address: std::net::SocketAddr = base
        .split(['@', '/'])
        .find(|part| part.contains(':') && part.starts_with("127"))
        .unwrap()
        .parse()
        .unwrap();
    let wire = stage::Wire::to(address);
    let (mut drone, mut away) = (Bench::new().named("shared"), Bench::new().named("shared"));
    let (effects, alive) = (drone.path("effects"), drone.path("alive"));
    fs::create_dir(&effects).unwrap();
    let work = format!(
        "while [ -e {1}.$DRONEKEEPER_HOST ]; do date +%s%N > {1}.new; mv {1}.new {1}; sleep 0.1; done; echo x >> {0}/$2",
        effects.display(),
        alive.display()
    );
    let work = command(&drone, "work", &work);
    let settings = "on = \"offloaded\"\nworkers = 0\nlease = \"6s\"";
    let settings = queue("work", &work, settings).replace("{job_dir}", "{job}");
    let database = |base: &str| format!("queue_database = {base:?}");
    let cut = base.replace(&address.to_string(), &wire.address().to_string());
    drone = drone.drone(&database(&base)).extra(&settings);
    away = away.drone(&database(&cut)).extra(&settings);
    fs::write(format!("{}.away", alive.display()), "").unwrap();
    drone.finished(&["101-a"]);
    drone.start();
    let mut command = away.command(&["worker", "--queue", "work", "--workers", "1"]);
    let log = fs::File::create(away.path("worker.log")).unwrap();
    command.env("DRONEKEEPER_HOST", "away").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let _away = Worker(command.spawn().unwrap());
    drone.wait("the other host is at it", || alive.exists());
    wire.cut();
    let _here = Worker::of(&drone, &["--workers", "1"]);
    drone.wait("this host does it", || fs::read_dir(&effects).unwrap().count() == 1);
    let last: u128 = fs::read_to_string(&alive).unwrap().trim().parse().unwrap();
    drone.wait("the other host says that it ended its work", || worker_said(&away, "the lease is lost") == 1);
    let now: u128 = fs::read_to_string(&alive).unwrap().trim().parse().unwrap();
    assert_eq!(now, last, "the host that was cut off went on beside the other");
    drone.wait_until_gone("101-a");
    let effect = fs::read_dir(&effects).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read_to_string(effect.path()).unwrap(), "x\n");
    // The wire is mended, and the host works again.
    wire.mend();
    fs::remove_file(format!("{}.away", alive.display())).unwrap();
    drone.finished(&["102-b", "103-c", "104-d"]);
    for job in ["102-b", "103-c", "104-d"] {
        drone.wait_until_gone(job);
    }
    assert_eq!(fs::read_dir(&effects).unwrap().count(), 4);
    drone.wait("both hosts had work", || {
        worker_said(&away, "post-processing done") + worker_said(&drone, "post-processing done") == 4
    });
}

#[test]
fn systemd_is_told_how_long_a_stop_may_take() {
    let mut bench = Bench::new().extra("[shutdown]\ndeadline = \"40s\"");
    let place = bench.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&place).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    bench.start_with(&[("NOTIFY_SOCKET", place.to_str().unwrap())]);
    let heard = |what: &str| {
        let mut word = [0; 200];
        loop {
            let length = socket.recv(&mut word).expect("systemd is told nothing");
            let word = String::from_utf8_lossy(&word[..length]).into_owned();
            if word.contains(what) {
                return word;
            }
        }
    };
    heard("READY=1");
    bench.signal(Signal::TERM);
    assert_eq!(heard("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=55000000");
}

#[test]
fn while_the_queues_are_away_jobs_wait_and_that_is_shown() {
    let base = crate::fleet::postgres_base();
    let address = base.split(['@', '/']).find(|part| part.starts_with("127")).unwrap().to_owned();
    let wire = stage::Wire::to(address.parse().unwrap());
    let mut bench = Bench::new();
    let work = command(&bench, "work", "true");
    let away = base.replace(&address, "127.0.0.1:1");
    bench = bench.drone(&format!("queue_database = {away:?}")).extra(&queue("work", &work, ""));
    let files = bench.finished(&["101-a"]);
    bench.start();
    bench.wait("it is shown", || {
        let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
        status.contains("[queue] the queues cannot be used")
    });
    assert_eq!(hashes(&bench.results().join("101-a")), files["101-a"]);
    assert!(!bench.path("offloaded/101-a/.dronekeeper").exists(), "it went before it was processed");
    // It moves to where it answers.
    bench =
        bench.drone(&format!("queue_database = {:?}", base.replace(&address, &wire.address().to_string())));
    bench.write_config();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.said("post-processing done"), 1);
}
