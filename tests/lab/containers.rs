//! The right number of healthy containers, always, on a real Docker engine; and no test is disturbed.

use crate::bench::Bench;
use crate::fleet::free_port;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// What runs inside: holds the lock, and ends when it is told, after its test has.
pub const BOT: &str = r#"#!/bin/sh
mkdir -p /b/swarming
exec 9>/b/swarming/swarming.lck
flock -x 9
ended=
trap 'ended=1' TERM
echo begun >> /b/tests
while [ -z "$ended" ]; do sleep 0.1; done
while [ -e /b/busy ]; do sleep 0.1; done
echo ended >> /b/tests
"#;

pub fn socket() -> String {
    std::env::var("LAB_DOCKER").expect("LAB_DOCKER is not set: run these tests with tests/run")
}

pub fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").env("DOCKER_HOST", socket()).args(arguments).output().unwrap()
}

pub fn out(arguments: &[&str]) -> String {
    let done = docker(arguments);
    assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// A name in the test's own registry: whatever is asked for it stays on this machine.
fn named(name: &str) -> String {
    let registry =
        std::env::var("LAB_REGISTRY").expect("LAB_REGISTRY is not set: run these tests with tests/run");
    format!("{registry}/lab/{name}")
}

/// An image of busybox, flock and the bot, under a name of the test's own.
pub fn image(bench: &Bench, name: &str, bot: &str) -> String {
    let name = &named(name);
    let root = bench.path(&format!("rootfs-{}", name.replace([':', '/'], "-")));
    for dir in ["bin", "b", "tmp"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is missing: run tests/run");
    for applet in ["sh", "sleep", "mkdir", "echo", "cat", "rm"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
    }
    let libraries =
        String::from_utf8(Command::new("ldd").arg("/usr/bin/flock").output().unwrap().stdout).unwrap();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/usr/bin/flock"]) {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    let _ = std::os::unix::fs::symlink("/usr/bin/flock", root.join("bin/flock"));
    fs::write(root.join("bot"), bot).unwrap();
    let made = Command::new("sh")
        .env("DOCKER_HOST", socket())
        .args(["-c", &format!("chmod 755 {0}/bot && tar -C {0} -c . | docker import -c 'CMD [\"/bin/sh\", \"/bot\"]' - {name}", root.display())])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    name.to_owned()
}

/// A drone that keeps containers; its name is its own, so that tests share the engine.
pub fn drone(image: &str, name: &str, more: &str) -> Bench {
    let bench = Bench::new().named(name);
    let b = bench.path("b");
    fs::create_dir(&b).unwrap();
    let b = b.display().to_string();
    let text = format!(
        "[containers]\nengine = \"{}\"\nimage = \"{image}\"\nvolumes = [\"{b}/{{name}}:/b\"]\nstop_file = \"{b}/shutdown.stamp\"\n\
         container_stop_file = \"{b}/{{name}}.shutdown.stamp\"\nreboot_file = \"{b}/reboot.stamp\"\n\
         lock = \"{b}/{{name}}.lock\"\nname_prefix = \"{name}-\"\n{more}\n",
        socket()
    );
    bench.extra(&text)
}

/// Our containers of a drone, by name: engine's name and state.
pub fn containers(name: &str) -> BTreeMap<String, (String, String)> {
    let filter = format!("label=dronekeeper.drone={name}");
    let format = "{{.Label \"dronekeeper.name\"}} {{.ID}} {{.State}}";
    let listed = out(&["ps", "-a", "--filter", &filter, "--format", format]);
    let row = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0].to_owned(), (words[1].to_owned(), words[2].to_owned()))
    };
    listed.lines().map(row).collect()
}

pub fn running(name: &str) -> usize {
    containers(name).values().filter(|(_, state)| state == "running").count()
}

/// Removes what a test made, also when it fails.
pub struct Clean(pub String);

impl Drop for Clean {
    fn drop(&mut self) {
        for (id, _) in containers(&self.0).values() {
            docker(&["rm", "-f", id]);
        }
    }
}

/// Settings of a reboot: a command that leaves a line in `marks`, and then does what `more` says.
pub fn reboots(marks: &Path, more: &str) -> String {
    let command = marks.with_extension("sh");
    fs::write(&command, format!("#!/bin/sh\necho reboot >> {0}\n{more}\n", marks.display())).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    format!("reboot_command = [{command:?}]")
}

fn tests_of(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.path("b").join(name).join("tests")).unwrap_or_default()
}

fn touch(path: &Path) {
    fs::write(path, "").unwrap();
}

#[test]
fn whatever_is_done_to_containers_the_number_is_right_again() {
    let name = "keep";
    let image = image(&Bench::new(), "keep:1", BOT);
    let (_clean, mut bench) = (Clean(name.into()), drone(&image, name, "count = 4"));
    // Somebody else's, which nobody may touch.
    let strange = out(&["run", "-d", "--name", "strange", "--label", "other=1", &image]);
    bench.start();
    bench.wait("four run", || running(name) == 4);
    let begun = Instant::now();
    let blow = |what: &str, index: usize| {
        let id = containers(name).into_values().nth(index).map(|(id, _)| id).unwrap_or_default();
        match what {
            "kill" => docker(&["kill", &id]),
            "pause" => docker(&["pause", &id]),
            "stop" => docker(&["stop", "-t", "0", &id]),
            _ => docker(&["rm", "-f", &id]),
        };
    };
    let mut worst = Duration::ZERO;
    for round in 0..12 {
        blow(["kill", "pause", "remove", "stop"][round % 4], round % 4);
        let struck = Instant::now();
        bench.wait("four run again", || running(name) == 4);
        worst = worst.max(struck.elapsed());
    }
    assert!(worst < Duration::from_secs(20), "it took {worst:?}");
    println!("12 blows in {:?}, worst {worst:?}", begun.elapsed());
    // A restart of the drone adopts what runs.
    let before = containers(name);
    bench.kill();
    bench.start();
    bench.wait_until_said("console listens");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(containers(name), before, "containers were made anew by a restart");
    assert_eq!(
        out(&["inspect", "-f", "{{.State.Running}}", &strange]),
        "true",
        "somebody else's was touched"
    );
    out(&["rm", "-f", &strange]);
    let listed = String::from_utf8_lossy(&bench.tell(&["containers"]).stdout).into_owned();
    assert_eq!(listed.lines().filter(|line| line.contains("running")).count(), 4, "{listed}");
}

#[test]
fn a_test_that_runs_during_a_replacement_finishes() {
    let name = "replace";
    let first = image(&Bench::new(), "replace:1", BOT);
    // Images are told apart by the second in which they were made.
    std::thread::sleep(Duration::from_millis(1100));
    let second = image(&Bench::new(), "replace:2", &format!("{BOT}# newer\n"));
    let (_clean, mut bench) = (Clean(name.into()), drone(&first, name, "count = 2"));
    bench.start();
    bench.wait("both run", || ["000", "001"].iter().all(|bot| tests_of(&bench, bot).contains("begun")));
    touch(&bench.path("b/000/busy"));
    let before = containers(name);
    bench.kill();
    let mut bench = bench.replaced(&first, &second);
    bench.start();
    bench.wait("the idle one is replaced", || {
        containers(name).get("001").is_some_and(|(id, state)| *id != before["001"].0 && state == "running")
    });
    // The other was told once, and its test goes on.
    bench.wait("the busy one was told", || bench.said("container=000") > 0 && bench.said("told to end") >= 2);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(containers(name)["000"], before["000"], "a running test was cut off");
    assert_eq!(
        bench
            .log()
            .lines()
            .filter(|line| line.contains("told to end") && line.contains("container=000"))
            .count(),
        1
    );
    fs::remove_file(bench.path("b/000/busy")).unwrap();
    bench.wait("it is replaced too", || {
        containers(name).get("000").is_some_and(|(id, _)| *id != before["000"].0)
    });
    assert!(tests_of(&bench, "000").starts_with("begun\nended\n"), "{}", tests_of(&bench, "000"));
    bench.wait("the old image is gone", || docker(&["image", "inspect", &first]).status.code() == Some(1));
}

#[test]
fn stop_files_and_people_drain_the_host_or_one_container() {
    let name = "stop";
    let image = image(&Bench::new(), "stop:1", BOT);
    let (_clean, mut bench) = (Clean(name.into()), drone(&image, name, "count = 3"));
    bench.start();
    bench.wait("three run", || running(name) == 3);
    bench.wait("all hold their locks", || {
        ["000", "001", "002"].iter().all(|bot| tests_of(&bench, bot).contains("begun"))
    });
    touch(&bench.path("b/001.shutdown.stamp"));
    bench.wait("one is gone", || !containers(name).contains_key("001") && running(name) == 2);
    assert!(bench.tell(&["containers", "drain", "002"]).status.success());
    bench.wait("another is gone", || !containers(name).contains_key("002") && running(name) == 1);
    // What a person said holds over a restart.
    bench.kill();
    bench.start();
    bench.wait_until_said("console listens");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!containers(name).contains_key("002"), "a restart forgot the drain");
    assert!(bench.tell(&["containers", "resume", "002"]).status.success());
    fs::remove_file(bench.path("b/001.shutdown.stamp")).unwrap();
    bench.wait("all are back", || running(name) == 3);
    bench.wait("all hold their locks", || {
        ["001", "002"].iter().all(|bot| tests_of(&bench, bot).matches("begun").count() == 2)
    });
    touch(&bench.path("b/shutdown.stamp"));
    bench.wait("all are gone", || containers(name).is_empty());
    fs::remove_file(bench.path("b/shutdown.stamp")).unwrap();
    bench.wait("all are back", || running(name) == 3);
}

#[test]
fn a_host_that_was_up_for_too_long_is_drained_and_rebooted_once() {
    let name = "reboot";
    let image = image(&Bench::new(), "reboot:1", BOT);
    let reboots = Bench::new();
    let marks = reboots.path("marks");
    let command = self::reboots(&marks, &format!("[ $(wc -l < {}) -ge 2 ]", marks.display()));
    let (_clean, mut bench) = (Clean(name.into()), drone(&image, name, &format!("count = 1\n{command}")));
    bench.start();
    bench.wait("it runs", || tests_of(&bench, "000").contains("begun"));
    touch(&bench.path("b/000/busy"));
    touch(&bench.path("b/reboot.stamp"));
    bench.wait_until_said("the host is drained, and then rebooted");
    std::thread::sleep(Duration::from_secs(6));
    assert!(!marks.exists(), "it was rebooted while a test ran");
    fs::remove_file(bench.path("b/000/busy")).unwrap();
    bench.wait("the reboot is refused, and the wish stays", || bench.said("the reboot was refused") == 1);
    assert!(bench.path("b/reboot.stamp").exists());
    assert!(containers(name).is_empty(), "something was started before a reboot");
    // The wish survives the process.
    bench.kill();
    bench.start();
    bench.wait("it is accepted", || fs::read_to_string(&marks).is_ok_and(|text| text.lines().count() == 2));
    bench.wait("the stamp is gone", || !bench.path("b/reboot.stamp").exists());
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(fs::read_to_string(&marks).unwrap().lines().count(), 2, "it was rebooted again and again");
}

#[test]
fn a_container_that_cannot_start_or_hides_its_process_has_a_defined_end() {
    let name = "odd";
    // Holds no lock, and hears no SIGTERM.
    let deaf = image(&Bench::new(), "odd:1", "#!/bin/sh\ntrap '' TERM\nwhile true; do sleep 0.1; done\n");
    let (_clean, mut bench) = (Clean(name.into()), drone(&deaf, name, "count = 1\nstop_timeout = \"2s\""));
    bench.start();
    bench.wait("it runs", || running(name) == 1);
    let before = containers(name);
    touch(&bench.path("b/shutdown.stamp"));
    bench.wait("it is stopped the hard way", || containers(name).is_empty());
    assert_eq!(bench.said("stopped the hard way"), 1);
    assert!(bench.said("container removed") >= 1, "{before:?}");
    bench.kill();
    // Another's container has the name.
    let taken = out(&["run", "-d", "--name", "odd-000", &deaf]);
    fs::remove_file(bench.path("b/shutdown.stamp")).unwrap();
    bench.start();
    bench.wait_until_said("container cannot be started");
    assert_eq!(out(&["inspect", "-f", "{{.State.Running}}", &taken]), "true");
    out(&["rm", "-f", &taken]);
    bench.wait("it runs when the name is free", || running(name) == 1);
}

#[test]
fn an_engine_that_is_away_is_trouble_of_the_containers_alone() {
    let name = "away";
    let place = Bench::new();
    let gone = place.path("docker.sock");
    let image = image(&place, "away:1", BOT);
    let engine = format!("unix://{}", gone.display());
    let mut bench = drone(&image, name, "count = 1").replaced(&socket(), &engine);
    let _clean = Clean(name.into());
    bench.finished(&["101-a"]);
    bench.start();
    bench.wait_until_said("the Docker engine cannot be used");
    bench.wait_until_gone("101-a");
    let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(status.contains("[containers]"), "{status}");
    let checked = bench.tell(&["check", "--connect"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.code() == Some(78) && said.contains("is dockerd up?"), "{said}");
    // The socket appears, as after a restart of the engine.
    std::os::unix::fs::symlink(socket().trim_start_matches("unix://"), &gone).unwrap();
    bench.wait("it runs", || running(name) == 1);
    bench.wait_until_said("the Docker engine works again");
}

#[test]
fn an_image_that_is_missing_is_pulled_from_its_registry() {
    let name = "pull";
    let made = image(&Bench::new(), "pull:1", BOT);
    out(&["push", &made]);
    out(&["rmi", &made]);
    let (_clean, mut bench) = (Clean(name.into()), drone(&made, name, "count = 1"));
    bench.start();
    bench.wait("it runs", || running(name) == 1);
    assert_eq!(bench.said("image pulled"), 1);
    let checked = bench.tell(&["check", "--connect"]);
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    let line = checked.lines().find(|line| line.starts_with("containers")).unwrap();
    assert!(line.contains("ok") && line.contains("1 containers") && line.ends_with("is there"), "{line}");
}

/// A registry of the test's own that asks who is there.
struct Registry {
    process: std::process::Child,
    port: u16,
    _place: Bench,
}

impl Registry {
    /// It lets in `lab` with `secret`.
    fn start() -> Self {
        let (place, port) = (Bench::new(), free_port());
        // The password by bcrypt, the only way that the registry reads.
        let line = "lab:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
        fs::write(place.path("users"), line).unwrap();
        let settings = format!(
            "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: \"127.0.0.1:{port}\" }}\n\
             auth: {{ htpasswd: {{ realm: lab, path: {} }} }}\n",
            place.path("registry").display(),
            place.path("users").display()
        );
        fs::write(place.path("registry.yml"), settings).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(place.path("registry.yml"));
        let log = fs::File::create(place.path("registry.log")).unwrap();
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        place.wait("the registry listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Registry { process, port, _place: place }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_registry_that_asks_for_a_login_gets_it_and_a_digest_pins_the_image() {
    let (name, registry, place) = ("login", Registry::start(), Bench::new());
    let (config, secret) = (place.path("docker").display().to_string(), place.path("secret"));
    let server = format!("127.0.0.1:{}", registry.port);
    let logged_in = |arguments: &[&str]| out(&[&["--config", &config], arguments].concat());
    logged_in(&["login", "--username", "lab", "--password", "secret", &server]);
    let tag = format!("{server}/lab/login:1");
    let push = |bot: &str| {
        out(&["tag", &image(&place, "login:1", bot), &tag]);
        logged_in(&["push", "--quiet", &tag]);
        let pinned = out(&["inspect", "--format", "{{index .RepoDigests 0}}", &tag]);
        let id = out(&["inspect", "--format", "{{.Id}}", &tag]);
        out(&["rmi", "--force", &id]);
        (pinned, id)
    };
    let (pinned, id) = push(BOT);
    assert!(pinned.starts_with(&format!("{server}/lab/login@sha256:")), "{pinned}");
    // The tag moves on; who names the digest does not.
    let (other, _) = push(&format!("{BOT}# another\n"));
    assert_ne!(pinned, other);
    fs::write(&secret, "lab:wrong").unwrap();
    let settings = format!("count = 1\nregistry_auth_file = {secret:?}");
    let (_clean, mut bench) = (Clean(name.into()), drone(&pinned, name, &settings));
    bench.start();
    bench.wait_until_said("the Docker engine cannot be used");
    assert!(bench.said("pulling the image") >= 1 && containers(name).is_empty());
    // As `docker login` left it.
    fs::copy(place.path("docker/config.json"), &secret).unwrap();
    bench.wait("it runs", || running(name) == 1);
    let ours = containers(name)["000"].0.clone();
    assert_eq!(out(&["inspect", "--format", "{{.Image}}", &ours]), id);
    assert!(!bench.log().contains("wrong"), "the log has the password");
}

#[test]
fn a_share_of_the_containers_tries_the_canary_image() {
    let name = "canary";
    let place = Bench::new();
    let (main, canary) = (image(&place, "canary:1", BOT), named("canary:2"));
    // Of an earlier run on the same engine.
    docker(&["rmi", "-f", &canary]);
    let settings = format!("count = 4\ncanary_image = \"{canary}\"\ncanary_share = 0.25");
    let (_clean, mut bench) = (Clean(name.into()), drone(&main, name, &settings));
    let of = |tag: &str| {
        let image = out(&["image", "inspect", "-f", "{{.Id}}", &format!("{}:{tag}", named("canary"))]);
        // One that is replaced just now is gone.
        let made_of = |id: &str| {
            String::from_utf8_lossy(&docker(&["inspect", "-f", "{{.Image}}", id]).stdout).trim().to_owned()
        };
        let used = |(id, _): &(String, String)| made_of(id) == image;
        containers(name).values().filter(|container| used(container)).count()
    };
    // A canary that cannot be had costs no container.
    bench.start();
    bench.wait("four run", || running(name) == 4);
    assert!(bench.said("no canary image") == 1 && of("1") == 4);
    bench.kill();
    image(&place, "canary:2", &format!("{BOT}# newer\n"));
    bench.start();
    bench.wait("one of four is replaced", || of("2") == 1 && of("1") == 3 && running(name) == 4);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!((of("1"), of("2")), (3, 1));
}

#[test]
fn a_container_is_made_as_the_settings_say() {
    let name = "made";
    let image = image(&Bench::new(), "made:1", BOT);
    let settings = "count = 1\nenv = { SWARM_URL = \"http://127.0.0.1/bot_code\", HOST = \"{host}\", \
         NUM = \"{count}\", NAME = \"{name}\" }\ndevices = [\"/dev/null\", \"/dev/nosuch\"]\n\
         cpus = 0.5\nmemory = \"64MiB\"\npids = 50";
    let (_clean, mut bench) = (Clean(name.into()), drone(&image, name, settings));
    bench.start();
    bench.wait("it runs", || running(name) == 1);
    let id = containers(name)["000"].0.clone();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = host.split('.').next().unwrap().to_owned();
    let asked = |format: &str| out(&["inspect", "-f", format, &id]);
    assert_eq!(asked("{{.Name}} {{.Config.Hostname}}"), format!("/made-000 {short}--000"));
    let env = asked("{{json .Config.Env}}");
    for expected in ["SWARM_URL=http://127.0.0.1/bot_code", &format!("HOST={host}"), "NUM=1", "NAME=000"] {
        assert!(env.contains(&format!("\"{expected}\"")), "{env}");
    }
    assert_eq!(asked("{{json .HostConfig.Binds}}"), format!("[\"{}/000:/b\"]", bench.path("b").display()));
    let limits = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}";
    assert_eq!(asked(limits), "500000000 67108864 50");
    // Of the devices, those that the host has.
    assert_eq!(asked("{{range .HostConfig.Devices}}{{.PathOnHost}} {{end}}").trim(), "/dev/null");
    // How it ended is kept and shown.
    docker(&["kill", &id]);
    bench.wait("the end is shown", || {
        let listed = String::from_utf8_lossy(&bench.tell(&["containers"]).stdout).into_owned();
        listed.contains("exit 137  it ended")
    });
}

#[test]
fn a_second_drone_that_would_keep_the_containers_of_a_host_refuses_to_start() {
    let image = image(&Bench::new(), "second:1", BOT);
    let (_clean, mut first) = (Clean("second".into()), drone(&image, "second", "count = 1"));
    first.start();
    first.wait("it runs", || running("second") == 1);
    let lock = |bench: &Bench| format!("lock = \"{}/{{name}}.lock\"", bench.path("b").display());
    let other = drone(&image, "third", "count = 1");
    let (own, taken) = (lock(&other), lock(&first));
    let refused = other.replaced(&own, &taken).tell(&["run"]);
    let why = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
    assert!(!refused.status.success() && why.contains("keeps the containers of this host"), "{why}");
    assert_eq!((running("second"), running("third")), (1, 0));
}
