//! Some files also go elsewhere; nothing is deleted before they arrived there.

use crate::bench::{Bench, sha256};
use bytes::Bytes;
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

const HOST: &str = "chromeos1-row2-host3/cheets_CTS_P.x/results/android-cts";
const TIME: &str = "2016.04.28_01.41.44";

/// The routes of a site whose compliance results go to two buckets on this server.
fn routes(server: &Server) -> String {
    let options = format!(
        "options = {{ aws_endpoint = \"{}\", aws_access_key_id = \"K\", aws_secret_access_key = \"S\", \
         aws_region = \"us-east-1\" }}",
        server.url()
    );
    format!(
        "[[route]]\nmatch = \"*/cheets_CTS_*/results/*/*/test_result.xml\"\nurl = \"s3://lab\"\n\
         key = \"results/{{package}}/{{job_id}}_{{timestamp}}/{{file}}.gz\"\ncompress = \"gzip\"\n{options}\n\
         when = {{ build = [\"*-release/*\", \"!trybot-*\"], suite = [\"arc-cts*\", \"arc-gts*\"] }}\n\
         [[route]]\nmatch = \"*/cheets_CTS_*/results/*/*.zip\"\nurl = \"s3://lab\"\n\
         key = \"apfe/{{build}}/{{parent_job_id}}/{{package}}/{{job_id}}_{{timestamp}}/{{file}}\"\n{options}\n"
    )
}

/// A finished job with compliance results: the XML, and a zip of so many bytes.
fn compliance_job(bench: &Bench, name: &str, zip: usize) -> (Vec<u8>, Vec<u8>) {
    let results = bench.job(name).join(HOST);
    fs::create_dir_all(results.join(TIME)).unwrap();
    let xml = "<Test result=\"pass\" name=\"x\"/>\n".repeat(20_000).into_bytes();
    let zip: Vec<u8> = (0..zip as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    fs::write(results.join(TIME).join("test_result.xml"), &xml).unwrap();
    fs::write(results.join(format!("{TIME}.zip")), &zip).unwrap();
    let keyvals = "build=link-release/R52-8340.0.0\nsuite=arc-cts-p\nparent_job_id=95\n";
    fs::write(bench.results().join(name).join("keyval"), keyvals).unwrap();
    bench.finish(name);
    (xml, zip)
}

fn keys(name: &str) -> [String; 2] {
    [
        format!("results/cheets_CTS_P.x/{name}_{TIME}/test_result.xml.gz"),
        format!("apfe/link-release/R52-8340.0.0/95/cheets_CTS_P.x/{name}_{TIME}/{TIME}.zip"),
    ]
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, bytes) = (gzip.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || to.write_all(&bytes).unwrap());
    let mut plain = Vec::new();
    gzip.stdout.take().unwrap().read_to_end(&mut plain).unwrap();
    writer.join().unwrap();
    assert!(gzip.wait().unwrap().success());
    plain
}

fn at(server: &Server, key: &str) -> Option<Bytes> {
    server.objects().get(key).or(server.objects().get(&format!("lab/{key}"))).cloned()
}

#[test]
fn compliance_results_are_in_their_buckets_before_their_job_goes() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::new().extra(&routes(&server));
    let (xml, zip) = compliance_job(&bench, "317-test", 20 << 20);
    bench.finished(&["318-plain"]);
    bench.start();
    bench.wait_until_gone("317-test");
    bench.wait_until_gone("318-plain");
    let [xml_key, zip_key] = keys("317-test");
    assert_eq!(gunzip(&at(&server, &xml_key).unwrap()), xml);
    assert_eq!(sha256(&at(&server, &zip_key).unwrap()), sha256(&zip));
    assert_eq!(server.objects().len(), 2, "{:?}", server.objects().keys());
    assert_eq!(server.open_uploads(), 0);
    assert!(bench.path(&format!("offloaded/317-test/{HOST}/{TIME}.zip")).exists());
}

#[test]
fn a_bucket_that_is_down_keeps_the_job_and_nothing_is_uploaded_again() {
    let server = Server::start(Flavour::S3);
    let down = server.misbehave(Fault::new("PUT", "apfe/", What::Status(503, None)));
    let mut bench = Bench::new().extra(&routes(&server));
    compliance_job(&bench, "317-test", 1000);
    bench.start();
    bench.wait("the bucket refuses twice", || down.fired() >= 2);
    let manifest = bench.path("offloaded/317-test/.dronekeeper/manifest.json");
    bench.wait("the manifest stands", || manifest.exists());
    let written = fs::metadata(&manifest).unwrap().modified().unwrap();
    let fired = down.fired();
    bench.wait("it is tried again", || down.fired() > fired);
    assert!(bench.results().join("317-test/status.log").exists());
    bench.kill();
    down.over();
    bench.start();
    bench.wait_until_gone("317-test");
    assert_eq!(fs::metadata(&manifest).unwrap().modified().unwrap(), written);
    assert_eq!(bench.said("uploaded job=317-test"), 1, "it was uploaded again");
    assert!(keys("317-test").iter().all(|key| at(&server, key).is_some()));
}

#[test]
fn a_bucket_that_damages_or_holds_something_else_is_given_another_place() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::new().extra(&routes(&server));
    let [taken, damaged] = [keys("317-test")[0].clone(), keys("318-test")[1].clone()];
    let (xml, _) = compliance_job(&bench, "317-test", 1000);
    let (_, zip) = compliance_job(&bench, "318-test", 12 << 20);
    server.mutate(&taken, Some(b"of somebody else"));
    let damage = Fault::new("PUT", &format!("318-test_{TIME}/{TIME}.zip"), What::Damage);
    let damage = server.misbehave(damage.times(1));
    bench.start();
    bench.wait_until_gone("317-test");
    bench.wait_until_gone("318-test");
    assert_eq!(damage.fired(), 1);
    let second = |key: &str| key.replace(&format!("_{TIME}/"), &format!("_{TIME}~2/"));
    assert_eq!(&at(&server, &taken).unwrap()[..], b"of somebody else");
    assert_eq!(gunzip(&at(&server, &second(&taken)).unwrap()), xml);
    assert_eq!(bench.said("class=checksum"), 1, "the damage was not noticed");
    assert_eq!(sha256(&at(&server, &second(&damaged)).unwrap()), sha256(&zip));
    let status = bench.tell(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("317-test went beside s3://lab"), "{status}");
}
