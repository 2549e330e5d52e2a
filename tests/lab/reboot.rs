//! A reboot cuts nothing off: it waits for post-processing, reports and uploads that are under way.

use crate::bench::Bench;
use crate::containers::{BOT, Clean, drone, image, reboots};
use crate::fleet::{Hub, lab, run_jobs};
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::time::Duration;

#[test]
fn a_reboot_waits_for_whatever_it_would_cut_off() {
    let (mut hub, server, place) = (Hub::started(""), Server::start(Flavour::S3), Bench::new());
    let slow = server.misbehave(Fault::new("PUT", "/many/", What::Delay(Duration::from_millis(1500))));
    let (marks, ready, token) = (place.path("marks"), place.path("ready"), place.path("token"));
    fs::write(&token, hub.told(&["add-shard", "waits", "--label", "board:eve"])).unwrap();
    hub.told(&["add-host", "h1", "--label", "board:eve"]);
    hub.told(&["create-job", "dummy", "--board", "board:eve", "--count", "1", "--owner", "debug"]);
    let command = format!("while [ ! -e {} ]; do sleep 0.1; done", ready.display());
    let settings = format!(
        "count = 1\n{}\n[[queue]]\nname = \"parse\"\ncommand = [\"sh\", \"-c\", {command:?}]\n\
         [hub]\nurl = \"{}\"\nheartbeat = \"300ms\"\ntimeout = \"5s\"\ntoken_file = {token:?}\n",
        reboots(&marks, ""),
        hub.url()
    );
    let (image, _clean) = (image(&place, "waits:1", BOT), Clean("waits".into()));
    let mut bench = drone(&image, "waits", &settings).storing(&server).lane("completion = \"hub\"");
    let dir = bench.dir.path().to_owned();
    bench.start();
    let jobs = || lab(&dir, "GET", "/jobs", None).1;
    bench.wait("the job is there", || jobs().as_array().is_some_and(|jobs| jobs.len() == 1));
    let many = bench.results().join(jobs()[0]["dir"].as_str().unwrap()).join("many");
    fs::create_dir_all(&many).unwrap();
    (0..300).for_each(|file| fs::write(many.join(file.to_string()), "slow").unwrap());
    // It finishes, and the hub is not there to hear of it.
    hub.kill();
    assert_eq!(run_jobs(&dir), 1);
    fs::write(bench.path("b/reboot.stamp"), "").unwrap();
    let waits = |what: &str| {
        let shown = format!("a reboot waits: {what}");
        bench.wait(what, || String::from_utf8_lossy(&bench.tell(&["containers"]).stdout).contains(&shown));
        assert!(!marks.exists(), "it did not wait: {what}");
    };
    waits("post-processing runs on 1 jobs");
    fs::write(&ready, "").unwrap();
    waits("1 finished jobs are not reported");
    hub.start();
    waits("1 jobs are being uploaded");
    slow.over();
    bench.wait("it is rebooted", || marks.exists());
    assert_eq!(bench.left(), [""; 0], "it was rebooted before the results were in the store");
}
