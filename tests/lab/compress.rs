//! Text logs are small in the store, and text to whoever reads them there.

use crate::bench::{Bench, digits, gcs, hashes, noise, s3};
use crate::reload::{IN_FORCE, save};
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// A finished job with a long log, a binary of the same size, and a log that gzip makes no smaller.
fn job(bench: &Bench, name: &str) {
    let dir = bench.job(name);
    let line = "11/20 22:59:01 INFO | autoserv| the device answered, ünd the test goes on\n";
    fs::write(dir.join("debug/long.log"), line.repeat(200_000)).unwrap();
    let noise: Vec<u8> =
        (0..3_000_000u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    fs::write(dir.join("core"), &noise).unwrap();
    fs::write(dir.join("tiny.log"), "short\n").unwrap();
    bench.finish(name);
}

/// What a reader gets who knows nothing of gzip, and one who does.
fn read(server: &Server, key: &str, compressed: bool) -> Vec<u8> {
    let mut curl = Command::new("curl");
    curl.arg("--silent");
    if compressed {
        curl.arg("--compressed");
    }
    curl.arg(format!("{}/lab/{key}", server.url())).output().unwrap().stdout
}

#[test]
fn logs_are_stored_small_and_read_as_text() {
    for flavour in [Flavour::S3, Flavour::Gcs] {
        let server = Server::start(flavour);
        let store = if flavour == Flavour::S3 { s3(&server.url()) } else { gcs(&server.url()) };
        let mut bench = Bench::with_store(&format!("{store}\ncompress = \"gzip\""));
        job(&bench, "101-a");
        let files = hashes(&bench.results().join("101-a"));
        let log = fs::read(bench.results().join("101-a/debug/long.log")).unwrap();
        bench.start();
        bench.wait_until_gone("101-a");
        let objects = server.objects();
        assert!(objects["101-a/debug/long.log"].len() < log.len() / 20);
        assert_eq!(
            (objects["101-a/core"].len(), &objects["101-a/tiny.log"][..]),
            (3_000_000, &b"short\n"[..])
        );
        assert!(read(&server, "101-a/debug/long.log", true) == log, "a browser does not see the text");
        if flavour == Flavour::Gcs {
            assert!(
                read(&server, "101-a/debug/long.log", false) == log,
                "`gsutil cat` does not see the text"
            );
        }
        assert_eq!(bench.restored("101-a"), files);
        assert!(bench.tell(&["verify", "--all", "--read-back"]).status.success());
        // One damaged byte, and neither the audit nor the restore is content.
        let mut damaged = objects["101-a/debug/long.log"].to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        server.mutate("101-a/debug/long.log", Some(&damaged));
        assert!(!bench.tell(&["verify", "101-a"]).status.success());
        let to = bench.path("damaged");
        assert!(!bench.tell(&["restore", "101-a", "--to", to.to_str().unwrap()]).status.success());
    }
}

#[test]
fn a_compressed_log_that_the_store_damages_is_noticed_before_anything_is_deleted() {
    let server = Server::start(Flavour::S3);
    let fault = server.misbehave(Fault::new("PUT", "long.log", What::DamageSilently).times(1));
    let mut bench = Bench::with_store(&format!("{}\ncompress = \"gzip\"", s3(&server.url())));
    job(&bench, "101-a");
    let files = hashes(&bench.results().join("101-a"));
    bench.start();
    bench.wait("it was damaged", || fault.fired() == 1);
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
}

#[test]
fn a_log_that_is_large_when_compressed_goes_in_parts() {
    for flavour in [Flavour::S3, Flavour::Gcs] {
        let server = Server::start(flavour);
        let store = if flavour == Flavour::S3 { s3(&server.url()) } else { gcs(&server.url()) };
        let damage = server.misbehave(Fault::new("PUT", "large.log", What::DamageSilently).times(1));
        let mut bench = Bench::with_store(&format!("{store}\ncompress = \"gzip\""));
        let dir = bench.job("101-a");
        let log = digits(40_000_000);
        fs::write(dir.join("large.log"), &log).unwrap();
        // It begins as text, and is none: as it is, it is smaller.
        fs::write(dir.join("mixed"), [&b"# dump\n"[..], &noise(20_000_000)].concat()).unwrap();
        bench.finish("101-a");
        let files = hashes(&dir);
        bench.start();
        bench.wait_until_gone("101-a");
        assert_eq!(damage.fired(), 1, "no part was damaged on its way");
        let objects = server.objects();
        let sent = objects["101-a/large.log"].len();
        assert!((19_000_000..25_000_000).contains(&sent), "{sent}");
        assert_eq!(objects["101-a/mixed"].len(), 20_000_007);
        assert!(read(&server, "101-a/large.log", true) == log, "a browser does not see the text");
        assert_eq!(bench.restored("101-a"), files);
        assert!(bench.tell(&["verify", "--all", "--read-back"]).status.success());
        bench.wait("nothing is left half sent", || server.open_uploads() == 0);
    }
}

#[test]
fn a_compressed_upload_that_is_let_go_leaves_no_parts_behind() {
    let server = Server::start(Flavour::S3);
    let slow = server.misbehave(Fault::new("PUT", "partNumber", What::Delay(Duration::from_secs(2))));
    let store = format!("{}\ncompress = \"gzip\"", s3(&server.url()));
    let mut bench = Bench::with_store(&store).lane("workers = 1");
    let dir = bench.job("101-a");
    fs::write(dir.join("large.log"), digits(30_000_000)).unwrap();
    bench.finish("101-a");
    let files = hashes(&dir);
    bench.start();
    bench.wait("a part is on its way", || slow.fired() > 0 && server.open_uploads() == 1);
    save(&bench, "workers = 1", "workers = 2");
    bench.wait("it is let go", || bench.said(IN_FORCE) == 1 && server.open_uploads() == 0);
    slow.over();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
    assert_eq!(server.open_uploads(), 0);
}

#[test]
fn a_store_that_cannot_say_that_text_is_gzip_is_refused() {
    let bench = Bench::with_store("url = \"file:///tmp/x\"\ncompress = \"gzip\"");
    let said = String::from_utf8_lossy(&bench.tell(&["check"]).stderr).into_owned();
    assert!(said.contains("would make text unreadable in this store"), "{said}");
}
