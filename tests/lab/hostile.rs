//! A device under test may leave anything: nothing outside is read or deleted, nothing hangs, every name comes back.

use crate::bench::{Bench, hashes, sha256};
use stage::{Flavour, Server};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

fn named(bytes: &[u8]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(bytes.to_vec())
}

#[test]
fn names_of_every_kind_come_back_to_the_byte() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let dir = bench.job("101-names");
    let long = vec![b'n'; 255];
    let wide: Vec<u8> = [0xff; 255].to_vec();
    let mut names: Vec<Vec<u8>> = [
        &b"a#"[..],
        b"a%23",
        b"a%2523",
        b"a b",
        b" lead",
        b"trail ",
        b"dot.",
        b"...",
        b"..a",
        b"new\nline",
        b"car\rriage",
        b"tab\t",
        b"esc\x1b[2J",
        b"bell\x07",
        b"del\x7f",
        b"[x]",
        b"*",
        b"?",
        b"back\\slash",
        b"quote\"",
        b"single'",
        b"<tag>",
        b"&amp;",
        b"a&b=c",
        b"a+b",
        b"a;b",
        b"$(id)",
        b"`id`",
        b"-rf",
        b"--",
        b"~",
        b"a~2",
        b"%",
        b"%%",
        b"%zz",
        b"\xff\xfe",
        b"\xc3\xa9",
        b"e\xcc\x81",
        b"\xe2\x80\xae",
        b"\xc2\x85",
        b"{x}",
        b"|",
        b"^",
        b"a:b",
        b"CON",
        b".GS_UPLOADED",
        b".GS_OFFLOADER_INSTRUCTIONS",
        b"manifest.json",
        b"claim.json",
        b"%2edronekeeper",
    ]
    .iter()
    .map(|name| name.to_vec())
    .collect();
    names.extend([long, wide]);
    for name in &names {
        fs::write(dir.join(named(name)), name).unwrap();
    }
    fs::create_dir_all(dir.join(".dronekeeper/long")).unwrap();
    fs::write(dir.join(".dronekeeper/manifest.json"), "{\"forged\": true}").unwrap();
    fs::write(dir.join(".dronekeeper/claim.json"), "forged").unwrap();
    fs::create_dir(dir.join(named(b"dir\nname#"))).unwrap();
    fs::write(dir.join(named(b"dir\nname#")).join("inside"), "x").unwrap();
    bench.finish("101-names");
    let files = hashes(&dir);
    assert!(files.len() > names.len());
    bench.start();
    bench.wait_until_gone("101-names");
    assert_eq!(bench.restored("101-names"), files);
    assert!(!bench.log().contains('\x1b'), "an escape code reached the log");
}

#[test]
fn links_and_special_files_are_recorded_and_never_followed_or_opened() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let secret = bench.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("canary"), "nobody may read this").unwrap();
    let dir = bench.job("101-links");
    symlink(&secret, dir.join("dir out")).unwrap();
    symlink(secret.join("canary"), dir.join("file out")).unwrap();
    symlink("../../secret/canary", dir.join("relative out")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    symlink("/dev/zero", dir.join("device")).unwrap();
    symlink("status.log", dir.join("inside")).unwrap();
    let fifo = Command::new("mkfifo").arg(dir.join("fifo")).status().unwrap();
    assert!(fifo.success());
    let socket = UnixListener::bind(dir.join("socket")).unwrap();
    let device = Command::new("mknod").arg(dir.join("zero")).args(["c", "1", "5"]).status().unwrap();
    assert!(device.success(), "making a device needs root");
    bench.finish("101-links");
    bench.start();
    bench.wait_until_gone("101-links");
    drop(socket);
    let manifest =
        String::from_utf8(server.objects()["101-links/.dronekeeper/manifest.json"].to_vec()).unwrap();
    let kind_of = |path: &str| {
        let line = manifest.lines().find(|line| line.contains(&format!("\"path\":\"{path}\""))).unwrap();
        line.split("\"kind\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    for (path, kind) in [
        ("dir out", "symlink"),
        ("loop", "symlink"),
        ("fifo", "fifo"),
        ("socket", "socket"),
        ("zero", "char_device"),
        ("empty", "file"),
    ] {
        assert_eq!(kind_of(path), kind, "{path}");
    }
    assert!(manifest.contains("\"target\":\"../../secret/canary\""));
    let canary = sha256(b"nobody may read this");
    assert!(server.objects().values().all(|bytes| sha256(bytes) != canary), "a link was followed");
    assert_eq!(
        fs::read(secret.join("canary")).unwrap(),
        b"nobody may read this",
        "something outside was touched"
    );
}

#[test]
fn forged_markers_permit_nothing() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let dir = bench.job("101-forged");
    fs::write(dir.join(".GS_UPLOADED"), "").unwrap();
    fs::write(dir.join(".GS_OFFLOADER_INSTRUCTIONS"), "{\"no_offload\": true}").unwrap();
    bench.finished(&["102-honest"]);
    bench.start();
    bench.wait_until_gone("102-honest");
    assert_eq!(bench.left(), ["101-forged"], "a marker of another system deleted a job");
    bench.finish("101-forged");
    let files = hashes(&dir);
    bench.wait_until_gone("101-forged");
    assert_eq!(bench.restored("101-forged"), files);
}

#[test]
fn a_marker_that_is_no_file_or_no_time_finishes_nothing() {
    let mut bench = Bench::new();
    let dir = bench.job("101-a");
    symlink("/etc/hostname", dir.join(".ready_for_offload")).unwrap();
    let dir = bench.job("102-b");
    assert!(Command::new("mkfifo").arg(dir.join(".ready_for_offload")).status().unwrap().success());
    let dir = bench.job("103-c");
    fs::write(dir.join(".ready_for_offload"), "soon").unwrap();
    bench.finished(&["104-d"]);
    bench.start();
    bench.wait_until_gone("104-d");
    assert_eq!(bench.left(), ["101-a", "102-b", "103-c"]);
}

#[test]
fn a_tree_two_thousand_deep_comes_and_goes() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    bench.job("101-deep");
    let dig = "import os, sys\nos.chdir(sys.argv[1])\nfor _ in range(2000):\n    os.mkdir('d'); os.chdir('d')\nopen('bottom', 'w').write('deep')\n";
    let dug =
        Command::new("python3").args(["-c", dig]).arg(bench.results().join("101-deep")).status().unwrap();
    assert!(dug.success());
    bench.finish("101-deep");
    bench.start();
    bench.wait_until_gone("101-deep");
    let deep = sha256(b"deep");
    assert!(
        server
            .objects()
            .iter()
            .any(|(key, bytes)| key.contains("/.dronekeeper/long/") && sha256(bytes) == deep)
    );
}

#[test]
fn a_mount_inside_a_job_is_neither_entered_nor_deleted() {
    let mut bench = Bench::new();
    let dir = bench.job("101-mount");
    fs::create_dir(dir.join("mounted")).unwrap();
    let mount = |arguments: &[&str]| {
        let done =
            Command::new(arguments[0]).args(&arguments[1..]).arg(dir.join("mounted")).status().unwrap();
        assert!(done.success(), "{arguments:?} needs root");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    fs::write(dir.join("mounted/canary"), "of another file system").unwrap();
    bench.finish("101-mount");
    bench.start();
    bench.wait_until_said("quarantined job=101-mount");
    bench.finished(&["102-other"]);
    bench.wait_until_gone("102-other");
    let canary = fs::read_to_string(dir.join("mounted/canary"));
    bench.kill();
    mount(&["umount"]);
    assert_eq!(bench.left(), ["101-mount"]);
    assert_eq!(canary.unwrap(), "of another file system");
}

/// So many tiny files has the hostile job; `LAB_TINY=200000` for the whole of it.
fn tiny() -> usize {
    std::env::var("LAB_TINY").ok().and_then(|text| text.parse().ok()).unwrap_or(5000)
}

#[test]
fn one_hostile_job_keeps_fifty_good_ones_from_nothing_and_ends_in_a_reported_state() {
    let mut bench = Bench::new().lane("workers = 2\nsettle = \"10ms\"");
    let hostile = bench.job("100-hostile");
    symlink("/etc", hostile.join("etc")).unwrap();
    for (command, arguments) in [("mkfifo", vec!["fifo"]), ("mknod", vec!["zero", "c", "1", "5"])] {
        assert!(Command::new(command).args(arguments).current_dir(&hostile).status().unwrap().success());
    }
    fs::write(hostile.join(named(b"new\nline \x1b[2J\x1b]0;title\x07")), "x").unwrap();
    fs::write(hostile.join(named(&[b'n'; 255])), "the longest name that the file system takes").unwrap();
    let deep = hostile.join(named(&[b'd'; 200])).join(named(&[b'e'; 200]));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("path of 400 bytes"), "x").unwrap();
    let crowd = hostile.join("crowd");
    fs::create_dir(&crowd).unwrap();
    for number in 0..tiny() {
        fs::write(crowd.join(number.to_string()), "x").unwrap();
    }
    let growing = hostile.join("growing");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let grower = std::thread::spawn(move || {
        use std::io::Write;
        let mut file = fs::File::create(growing).unwrap();
        let pause = std::time::Duration::from_millis(5);
        while stopped.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            file.write_all(b"more\n").unwrap();
        }
    });
    let good: Vec<String> = (0..50).map(|number| format!("{}-good", 200 + number)).collect();
    let names: Vec<&str> = good.iter().map(String::as_str).collect();
    let files = bench.finished(&names);
    bench.finish("100-hostile");
    bench.start();
    for name in &names {
        bench.wait_until_gone(name);
    }
    assert_eq!(bench.left(), ["100-hostile"]);
    assert_eq!(bench.restored("249-good"), files["249-good"]);
    bench.wait_until_said("its files still change");
    let shown = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
    assert!(shown.contains("100-hostile: said to be finished"), "{shown}");
    assert!(!shown.contains('\x1b') && !bench.log().contains('\x1b'), "an escape code was shown");
    drop(stop);
    grower.join().unwrap();
    let whole = hashes(&hostile);
    bench.wait_until_gone("100-hostile");
    assert_eq!(bench.restored("100-hostile"), whole);
}
