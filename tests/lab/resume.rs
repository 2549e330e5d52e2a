//! An upload that is cut off goes on where it was: at the object, at the part.

use crate::bench::{Bench, hashes};
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::time::Duration;

fn puts(server: &Server, key: &str) -> usize {
    server
        .log()
        .iter()
        .filter(|asked| asked.method == "PUT" && asked.status == 200 && asked.target.contains(key))
        .count()
}

#[test]
fn a_large_file_goes_on_at_the_part_after_a_kill() {
    let server = Server::start(Flavour::S3);
    let slow = server.misbehave(Fault::new("PUT", "partNumber=", What::Delay(Duration::from_millis(700))));
    let mut bench = Bench::on(&server);
    let dir = bench.job("201-large");
    let bytes: Vec<u8> = (0..160_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.join("dump"), &bytes).unwrap();
    bench.finish("201-large");
    let files = hashes(&dir);
    bench.start();
    bench.wait("twelve of twenty parts", || puts(&server, "partNumber=") >= 12);
    bench.kill();
    slow.over();
    let before = puts(&server, "partNumber=");
    bench.start();
    bench.wait_until_gone("201-large");
    let after = puts(&server, "partNumber=") - before;
    assert!(after < 16, "{after} of 20 parts were sent again after {before} had arrived");
    assert_eq!(server.open_uploads(), 0);
    assert_eq!(bench.restored("201-large"), files);
}

#[test]
fn many_small_files_go_on_at_the_object_after_a_kill() {
    let server = Server::start(Flavour::S3);
    let slow = server.misbehave(Fault::new("PUT", "201-many/file", What::Delay(Duration::from_millis(150))));
    let mut bench = Bench::on(&server);
    let dir = bench.job("201-many");
    (0..1500).for_each(|file| fs::write(dir.join(format!("file {file}")), format!("{file}")).unwrap());
    bench.finish("201-many");
    let files = hashes(&dir);
    bench.start();
    bench.wait("most of the objects", || puts(&server, "201-many/file") >= 900);
    bench.kill();
    slow.over();
    let before = puts(&server, "201-many/file");
    bench.start();
    bench.wait_until_gone("201-many");
    let after = puts(&server, "201-many/file") - before;
    assert!(after < 1200, "{after} of 1500 objects were sent again after {before} had arrived");
    assert_eq!(bench.restored("201-many"), files);
}

#[test]
fn an_upload_that_the_store_forgot_begins_anew() {
    let server = Server::start(Flavour::S3);
    let lost = server.misbehave(Fault::new("PUT", "partNumber=3", What::Status(404, None)).times(1));
    let mut bench = Bench::on(&server);
    let dir = bench.job("201-large");
    fs::write(dir.join("dump"), vec![7; 40_000_000]).unwrap();
    bench.finish("201-large");
    let files = hashes(&dir);
    bench.start();
    bench.wait_until_gone("201-large");
    assert_eq!(lost.fired(), 1);
    assert_eq!(bench.restored("201-large"), files);
}

#[test]
fn a_completion_whose_answer_is_lost_is_settled() {
    let server = Server::start(Flavour::S3);
    let lost = server.misbehave(Fault::new("POST", "uploadId=", What::CutAfter).times(1));
    let mut bench = Bench::on(&server);
    let dir = bench.job("201-large");
    fs::write(dir.join("dump"), vec![7; 40_000_000]).unwrap();
    bench.finish("201-large");
    let files = hashes(&dir);
    bench.start();
    bench.wait_until_gone("201-large");
    assert_eq!(lost.fired(), 1);
    assert_eq!(bench.restored("201-large"), files);
    assert_eq!(puts(&server, "partNumber="), 5, "the parts were sent again");
}
