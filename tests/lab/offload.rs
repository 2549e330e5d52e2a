//! Finished jobs leave the drone, and are in the store to the last byte; others stay.

use crate::bench::{Bench, digits, gcs, hashes, s3};
use stage::{Flavour, Server};
use std::fs;

fn the_main_job(mut bench: Bench) {
    let jobs = bench.finished(&["101-a", "102-b", "103-c"]);
    bench.job("104-unfinished");
    bench.start();
    jobs.keys().for_each(|name| bench.wait_until_gone(name));
    for (name, files) in &jobs {
        assert_eq!(bench.restored(name), *files, "{name} came back otherwise");
    }
    assert_eq!(bench.left(), ["104-unfinished"]);
    assert_eq!(bench.said("level=WARN") + bench.said(" WARN ") + bench.said("ERROR"), 0, "{}", bench.log());
    let audit = bench.tell(&["verify", "--all", "--read-back"]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    assert_eq!(bench.stop(), Some(0));
}

#[test]
fn jobs_go_to_a_directory() {
    the_main_job(Bench::new());
}

#[test]
fn jobs_go_to_s3() {
    let server = Server::start(Flavour::S3);
    the_main_job(Bench::on(&server));
    let manifests =
        server.objects().keys().filter(|key| key.ends_with("/.dronekeeper/manifest.json")).count();
    assert_eq!(manifests, 3);
}

#[test]
fn jobs_go_to_gcs() {
    let server = Server::start(Flavour::Gcs);
    the_main_job(Bench::with_store(&gcs(&server.url())));
}

/// The address of a server that `tests/run` started.
fn address(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run these tests with tests/run"))
}

#[test]
fn jobs_go_to_moto() {
    the_main_job(Bench::with_store(&format!("{}\nprefix = \"moto\"", s3(&address("LAB_MOTO")))));
}

#[test]
fn jobs_go_to_s3s() {
    the_main_job(Bench::with_store(&format!("{}\nprefix = \"s3s\"", s3(&address("LAB_S3S")))));
}

#[test]
fn jobs_go_to_webdav() {
    the_main_job(Bench::with_store(&format!("url = \"{}/\"\nprefix = \"lab\"", address("LAB_WEBDAV"))));
}

/// Azurite's container, below this prefix.
fn azurite(prefix: &str) -> String {
    let options = "azure_storage_account_name = \"devstoreaccount1\", \
                   azure_storage_account_key = \"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==\"";
    let endpoint = format!("{}/devstoreaccount1", address("LAB_AZURITE"));
    format!(
        "url = \"az://lab\"\nprefix = \"{prefix}\"\noptions = {{ {options}, azure_storage_endpoint = \"{endpoint}\" }}"
    )
}

#[test]
fn jobs_go_to_azurite() {
    the_main_job(Bench::with_store(&azurite("main")));
}

#[test]
fn large_compressed_logs_go_to_moto_and_azurite() {
    let moto = format!("{}\nprefix = \"text\"", s3(&address("LAB_MOTO")));
    for store in [moto, azurite("text")] {
        let mut bench = Bench::with_store(&format!("{store}\ncompress = \"gzip\""));
        let dir = bench.job("201-a");
        fs::write(dir.join("large.log"), digits(30_000_000)).unwrap();
        bench.finish("201-a");
        let files = hashes(&dir);
        bench.start();
        bench.wait_until_gone("201-a");
        assert_eq!(bench.restored("201-a"), files);
        assert!(bench.tell(&["verify", "--all", "--read-back"]).status.success());
    }
    // More than one part of 8 MiB, and less than the text.
    let head = format!("{}/lab/text/201-a/large.log", address("LAB_MOTO"));
    let signed = ["--silent", "--head", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "K:S"];
    let head = std::process::Command::new("curl").args(signed).arg(&head).output().unwrap();
    let head = String::from_utf8_lossy(&head.stdout).to_lowercase();
    let size = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let size: u64 = size.expect(&head).trim().parse().unwrap();
    assert!((9 << 20..25 << 20).contains(&size) && head.contains("content-encoding: gzip"), "{head}");
}

#[test]
fn a_large_file_goes_in_parts_and_comes_back_whole() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server);
    let dir = bench.job("201-large");
    let bytes: Vec<u8> = (0..40_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.join("dump"), &bytes).unwrap();
    bench.finish("201-large");
    let files = crate::bench::hashes(&dir);
    bench.start();
    bench.wait_until_gone("201-large");
    assert_eq!(bench.restored("201-large"), files);
    let parts = server.log().iter().filter(|asked| asked.target.contains("partNumber=")).count();
    assert_eq!((parts, server.open_uploads()), (5, 0));
}

#[test]
fn a_quiet_job_needs_no_marker() {
    let mut bench = Bench::new().lane("completion = \"quiet\"\nquiet_for = \"500ms\"");
    let files = crate::bench::hashes(&bench.job("301-quiet"));
    bench.start();
    bench.wait_until_gone("301-quiet");
    assert_eq!(bench.restored("301-quiet"), files);
}

#[test]
fn a_proven_job_stays_until_delete_after() {
    let mut bench = Bench::new().lane("delete_after = \"2s\"");
    bench.finished(&["401-kept"]);
    bench.start();
    bench.wait_until_said("verified job=401-kept");
    assert_eq!(bench.left(), ["401-kept"], "pruned before its time");
    bench.wait_until_gone("401-kept");
    assert_eq!(bench.said("uploaded job=401-kept"), 1);
}

/// Debian's package `faketime`, which `tests/run` installs.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[test]
fn a_clock_that_jumps_ten_days_deletes_nothing_early() {
    assert!(
        std::path::Path::new(FAKETIME).exists(),
        "libfaketime is missing: run these tests with tests/run"
    );
    let mut bench = Bench::new().lane("delete_after = \"1h\"");
    bench.finished(&["401-kept"]);
    let clock = bench.path("clock");
    fs::write(&clock, "+0").unwrap();
    let clock_file = clock.to_str().unwrap().to_owned();
    let faked = [
        ("LD_PRELOAD", FAKETIME),
        ("FAKETIME_TIMESTAMP_FILE", clock_file.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    bench.start_with(&faked);
    bench.wait_until_said("verified job=401-kept");
    fs::write(&clock, "+10d").unwrap();
    bench.finished(&["402-later"]);
    bench.wait_until_said("verified job=402-later");
    let ten_days_on =
        bench.log().lines().any(|line| line.contains("402-later") && !line.starts_with(&bench.log()[..10]));
    assert!(ten_days_on, "the clock did not jump: the test proves nothing");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(bench.left(), ["401-kept", "402-later"]);
    // The clock jumps while no process looks at it.
    bench.kill();
    fs::write(&clock, "+400d").unwrap();
    bench.finished(&["403-latest"]);
    bench.start_with(&faked);
    bench.wait_until_said("verified job=403-latest");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(bench.left(), ["401-kept", "402-later", "403-latest"]);
}

#[test]
fn a_file_that_appears_while_its_job_is_kept_is_offloaded_at_once() {
    let mut bench = Bench::new().lane("delete_after = \"1h\"");
    bench.finished(&["401-kept"]);
    bench.start();
    bench.wait_until_said("verified job=401-kept");
    fs::write(bench.results().join("401-kept/late.log"), "written after the proof").unwrap();
    bench.wait("a second proof", || bench.said("verified job=401-kept") == 2);
    let files = hashes(&bench.results().join("401-kept"));
    assert_eq!(bench.restored("401-kept~2"), files);
}

#[test]
fn a_slow_directory_never_holds_another() {
    let server = Server::start(Flavour::S3);
    let slow = server.misbehave(stage::Fault::new("PUT", "500-slow/status.log", stage::What::Hang));
    let mut bench = Bench::on(&server).lane("workers = 2");
    let names: Vec<String> = (501..530).map(|number| format!("{number}-fast")).collect();
    bench.finished(&["500-slow"]);
    bench.finished(&names.iter().map(String::as_str).collect::<Vec<_>>());
    bench.start();
    names.iter().for_each(|name| bench.wait_until_gone(name));
    assert!(slow.fired() > 0 && bench.left() == ["500-slow"]);
    slow.over();
    bench.wait_until_gone("500-slow");
}
