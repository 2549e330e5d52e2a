//! Many small files become few objects, and nothing of what is promised is different.

use crate::bench::{Bench, hashes, s3};
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A job of many small files and a large one.
fn many(bench: &Bench, name: &str, files: usize) {
    let job = bench.job(name);
    for number in 0..files {
        let dir = job.join(format!("host1/sysinfo/{}", number % 7));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{number}.log")), format!("line {number}\n").repeat(number % 50)).unwrap();
    }
    fs::write(job.join("host1/large"), vec![7; 3 << 20]).unwrap();
    fs::write(job.join("host1/odd\nname [1]"), "odd").unwrap();
    bench.finish(name);
}

/// The objects of a job in a directory store, without claim and manifest.
fn objects(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path())
            } else {
                found.push(entry.path())
            }
        }
    }
    found.retain(|path| {
        !["claim.json", "manifest.json"].contains(&path.file_name().unwrap().to_str().unwrap())
    });
    found.sort();
    found
}

#[test]
fn a_packed_job_is_few_objects_and_comes_back_whole_or_file_by_file() {
    for (compress, ending) in [("none", "tar"), ("gzip", "tar.gz"), ("zstd", "tar.zst")] {
        let base = Bench::new();
        let store = format!(
            "url = \"file://{}\"\nlayout = \"packed\"\ncompress = \"{compress}\"",
            base.path("offloaded").display()
        );
        let mut bench = Bench::with_store(&store);
        many(&bench, "101-a", 900);
        let files = hashes(&bench.results().join("101-a"));
        bench.start();
        bench.wait_until_gone("101-a");
        let stored = objects(&base.path("offloaded/101-a"));
        assert_eq!(stored.len(), 2, "{stored:?}");
        let pack = stored.iter().find(|path| path.to_str().unwrap().ends_with(ending)).unwrap();
        assert_eq!(bench.restored("101-a"), files, "{compress}");
        let verified = bench.tell(&["verify", "--all", "--read-back"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let one = bench.tell(&["restore", "101-a", "--path", "host1/sysinfo/3/108.log", "--to", "one"]);
        assert!(one.status.success(), "{}", String::from_utf8_lossy(&one.stderr));
        assert_eq!(
            fs::read_to_string(bench.path("one/host1/sysinfo/3/108.log")).unwrap(),
            "line 108\n".repeat(108 % 50)
        );
        // Anybody's tar reads it.
        if compress != "zstd" {
            let to = bench.path("untarred");
            fs::create_dir(&to).unwrap();
            let done = Command::new("tar").arg("-xf").arg(pack).arg("-C").arg(&to).status().unwrap();
            assert!(done.success());
            let mut expected = files.clone();
            expected.remove(&b"host1/large"[..]);
            assert_eq!(hashes(&to), expected);
        }
        // One byte of the pack, and the audit sees it.
        let mut bytes = fs::read(pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(pack, bytes).unwrap();
        assert!(!bench.tell(&["verify", "101-a", "--read-back"]).status.success());
    }
}

#[test]
fn a_pack_that_the_store_damages_or_loses_is_sent_again() {
    for what in [What::DamageSilently, What::Damage, What::Lose, What::Truncate, What::CutAfter] {
        let server = Server::start(Flavour::S3);
        let fault = server.misbehave(Fault::new("PUT", "/packs/", what).times(1));
        let mut bench = Bench::with_store(&format!("{}\nlayout = \"packed\"", s3(&server.url())));
        many(&bench, "101-a", 100);
        let files = hashes(&bench.results().join("101-a"));
        bench.start();
        bench.wait_until_gone("101-a");
        assert_eq!(fault.fired(), 1);
        assert_eq!(bench.restored("101-a"), files);
    }
}

#[test]
fn a_pack_that_is_lost_after_its_proof_stops_the_deletion() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::with_store(&format!("{}\nlayout = \"packed\"", s3(&server.url())))
        .lane("delete_after = \"2s\"");
    many(&bench, "101-a", 100);
    bench.start();
    bench.wait_until_said("verified job=101-a");
    let objects = server.objects();
    let pack = objects.keys().find(|key| key.contains("/packs/")).unwrap();
    server.mutate(pack, None);
    bench.wait_until_said("attempt failed job=101-a");
    assert_eq!(bench.left(), ["101-a"]);
}

#[test]
fn a_killed_drone_goes_on_with_a_packed_job() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::with_store(&format!("{}\nlayout = \"packed\"", s3(&server.url())));
    many(&bench, "101-a", 300);
    let files = hashes(&bench.results().join("101-a"));
    let hang = server.misbehave(Fault::new("PUT", "manifest.json", What::Hang));
    bench.start();
    bench.wait("the manifest", || hang.fired() > 0);
    bench.kill();
    hang.over();
    bench.start();
    bench.wait_until_gone("101-a");
    assert_eq!(bench.restored("101-a"), files);
    let packs = server.objects().keys().filter(|key| key.contains("/packs/")).count();
    assert_eq!(packs, 1, "an attempt left a pack of its own");
}

#[test]
fn the_old_rule_packs_large_jobs_and_spares_what_people_read() {
    let base = Bench::new();
    let store = format!("url = \"file://{}\"\nlayout = \"gs_offloader\"", base.path("offloaded").display());
    let mut bench = Bench::with_store(&store);
    many(&bench, "101-a", 3100);
    many(&bench, "102-b", 50);
    let files = hashes(&bench.results().join("101-a"));
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_gone("102-b");
    let stored = |name: &str| base.path("offloaded/101-a").join(name).exists();
    assert!(stored("debug/autoserv.DEBUG") && stored("status.log") && stored("host1/large"));
    assert!(!stored("host1/sysinfo") && objects(&base.path("offloaded/101-a")).len() < 10);
    assert_eq!(objects(&base.path("offloaded/102-b")).len(), 56);
    assert_eq!(bench.restored("101-a"), files);
}
