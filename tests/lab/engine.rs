//! Trouble of the Docker engine: it hangs, fails, has its socket replaced; containers that nothing moves.

use crate::bench::Bench;
use crate::containers::{BOT, Clean, containers, docker, drone, image, reboots, running, socket};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of a request whose first line holds one of the texts.
#[derive(Clone, Copy)]
enum Mode {
    Pass,
    Hang(&'static [&'static str]),
    Fail(&'static [&'static str]),
}

/// A socket before the real engine's, whose answers a test can spoil.
struct Between {
    socket: PathBuf,
    mode: Arc<Mutex<Mode>>,
}

impl Between {
    fn at(socket: PathBuf) -> Self {
        let between = Between { socket, mode: Arc::new(Mutex::new(Mode::Pass)) };
        between.listen();
        between
    }

    /// Binds the socket; once more, as an engine does that was installed anew.
    fn listen(&self) {
        let _ = fs::remove_file(&self.socket);
        let (listener, mode) = (UnixListener::bind(&self.socket).unwrap(), self.mode.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mode = mode.clone();
                std::thread::spawn(move || carry(client, &mode));
            }
        });
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }
}

/// Carries one connection; a client says nothing new before it was answered.
fn carry(mut client: UnixStream, mode: &Mutex<Mode>) {
    let mut engine = UnixStream::connect(socket().trim_start_matches("unix://")).unwrap();
    let (mut back, mut to) = (engine.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let mut chunk = vec![0; 65536];
    while let Ok(count @ 1..) = client.read(&mut chunk) {
        let text = String::from_utf8_lossy(&chunk[..count]);
        let line = text.lines().next().unwrap_or_default();
        let mode = *mode.lock().unwrap();
        let is_meant = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
        match mode {
            Mode::Hang(parts) if is_meant(parts) => continue,
            Mode::Fail(parts) if is_meant(parts) => {
                let body = "{\"message\":\"made up\"}";
                let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json";
                let _ = write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
            _ => {
                if engine.write_all(&chunk[..count]).is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
fn an_engine_that_hangs_or_fails_or_has_a_new_socket_disturbs_nothing_that_runs() {
    let name = "hang";
    let place = Bench::new();
    let between = Between::at(place.path("docker.sock"));
    let image = image(&place, "hang:1", BOT);
    let _clean = Clean(name.into());
    let mut bench =
        drone(&image, name, "count = 2").replaced(&socket(), &format!("unix://{}", between.socket.display()));
    bench.start();
    bench.wait("both run", || running(name) == 2);
    let before = containers(name);
    for (mode, answers) in [(Mode::Fail(&["/"]), "made up"), (Mode::Hang(&["/"]), "Timeout")] {
        between.set(mode);
        bench.wait("the trouble is shown", || {
            let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
            status.contains("[containers] the engine cannot be used") && status.contains(answers)
        });
        // The others do not notice.
        let job = format!("10{}-a", answers.len());
        bench.finished(&[&job]);
        bench.wait_until_gone(&job);
        let well = bench.said("the Docker engine works again");
        between.set(Mode::Pass);
        bench.wait("it works again", || bench.said("the Docker engine works again") > well);
        assert_eq!(containers(name), before, "what ran was made anew");
    }
    between.listen();
    docker(&["kill", &before["001"].0]);
    bench.wait("the successor runs", || {
        containers(name).get("001").is_some_and(|(id, state)| *id != before["001"].0 && state == "running")
    });
    assert_eq!(containers(name)["000"], before["000"]);
}

#[test]
fn containers_that_nothing_moves_are_reported_and_end_in_a_reboot_where_that_is_wanted() {
    let name = "frozen";
    let place = Bench::new();
    let between = Between::at(place.path("docker.sock"));
    let deaf = image(&place, "frozen:1", "#!/bin/sh\ntrap '' TERM\nwhile true; do sleep 0.1; done\n");
    let marks = place.path("marks");
    let settings = format!("count = 2\nstop_timeout = \"1s\"\n{}", reboots(&marks, ""));
    let _clean = Clean(name.into());
    let mut bench =
        drone(&deaf, name, &settings).replaced(&socket(), &format!("unix://{}", between.socket.display()));
    bench.start();
    bench.wait("both run", || running(name) == 2);
    // Neither stopped, nor killed, nor removed.
    between.set(Mode::Fail(&["/stop", "DELETE "]));
    fs::write(bench.path("b/shutdown.stamp"), "").unwrap();
    bench.wait("it is shown", || {
        let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
        status.contains("[containers] all 2 running containers are frozen")
    });
    let listed = String::from_utf8_lossy(&bench.tell(&["containers"]).stdout).into_owned();
    assert_eq!(listed.matches(" frozen ").count(), 2, "{listed}");
    std::thread::sleep(Duration::from_secs(6));
    assert!(!marks.exists(), "it was rebooted although nobody said so");
    bench.kill();
    let mut bench = bench.replaced("count = 2", "count = 2\nreboot_when_frozen = true");
    bench.start();
    bench.wait("the host is rebooted", || marks.exists());
    bench.wait("it is said again", || bench.said("the containers are frozen") == 2);
    bench.kill();
    // After the boot: another boot of the machine than the one that the drone ended.
    let kept = fs::read_to_string(bench.path("state/reboot.json")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(bench.path("state/reboot.json"), kept.replace(boot.trim(), "an earlier one")).unwrap();
    bench.start();
    bench.wait_until_said("the host was rebooted why=\"all 2 running containers are frozen\"");
    // What is wrong is not mended by booting in a loop.
    bench.wait("they are frozen again", || bench.said("the containers are frozen") == 3);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(fs::read_to_string(&marks).unwrap().lines().count(), 1);
}

#[test]
fn an_engine_that_is_away_does_not_let_a_reboot_cut_off_a_test() {
    let name = "noreboot";
    let place = Bench::new();
    let between = Between::at(place.path("docker.sock"));
    let image = image(&place, "noreboot:1", BOT);
    let marks = place.path("marks");
    let settings = format!("count = 1\n{}", reboots(&marks, ""));
    let _clean = Clean(name.into());
    let mut bench =
        drone(&image, name, &settings).replaced(&socket(), &format!("unix://{}", between.socket.display()));
    bench.start();
    let begun = bench.path("b/000/tests");
    bench.wait("it runs", || fs::read_to_string(&begun).is_ok_and(|tests| tests.contains("begun")));
    fs::write(bench.path("b/000/busy"), "").unwrap();
    fs::write(bench.path("b/reboot.stamp"), "").unwrap();
    bench.wait_until_said("the host is drained, and then rebooted");
    between.set(Mode::Fail(&["/"]));
    bench.wait_until_said("the Docker engine cannot be used");
    std::thread::sleep(Duration::from_secs(8));
    assert!(!marks.exists(), "it was rebooted although a test ran");
    between.set(Mode::Pass);
    fs::remove_file(bench.path("b/000/busy")).unwrap();
    bench.wait("it is rebooted when the test has ended", || marks.exists());
}

#[test]
fn an_engine_that_says_nothing_of_the_canary_costs_no_container() {
    let name = "hushed";
    let place = Bench::new();
    let between = Between::at(place.path("docker.sock"));
    let main = image(&place, "hushed:1", BOT);
    let canary = image(&place, "hushed:2", &format!("{BOT}# newer\n"));
    let settings = format!("count = 2\ncanary_image = \"{canary}\"\ncanary_share = 0.5");
    let _clean = Clean(name.into());
    let mut bench =
        drone(&main, name, &settings).replaced(&socket(), &format!("unix://{}", between.socket.display()));
    bench.start();
    bench.wait("both run", || running(name) == 2);
    let before = containers(name);
    between.set(Mode::Fail(&["hushed:2"]));
    bench.wait_until_said("the Docker engine cannot be used");
    between.set(Mode::Pass);
    bench.wait_until_said("the Docker engine works again");
    assert_eq!(containers(name), before);
    assert_eq!(bench.said("told to end"), 0, "a container was to go because the engine failed once");
}
