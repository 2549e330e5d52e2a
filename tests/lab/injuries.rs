//! The ledger may be truncated, deleted, replaced, damaged, locked or made read-only, all while uploading:
//! the process stays up, says so once, and recovers by itself.

use crate::bench::Bench;
use stage::{Fault, Flavour, Server, What};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// Injures the ledger while one job is under way, another is kept proven, and a third has not begun.
fn survives(injure: impl Fn(&Path)) {
    let server = Server::start(Flavour::S3);
    let slow = server.misbehave(Fault::new("PUT", "103-slow", What::Delay(Duration::from_millis(300))));
    let mut bench = Bench::on(&server).lane("workers = 2\ndelete_after = \"4s\"");
    let mut jobs = bench.finished(&["101-kept"]);
    bench.start();
    bench.wait_until_said("verified job=101-kept");
    jobs.extend(bench.finished(&["103-slow"]));
    bench.wait("103-slow under way", || slow.fired() > 0);
    injure(&bench.path("state/ledger.sqlite"));
    jobs.extend(bench.finished(&["102-late"]));
    jobs.keys().for_each(|name| bench.wait_until_gone(name));
    assert!(bench.runs(), "the drone ended");
    bench.wait_until_said("ledger damaged");
    assert_eq!(bench.said("ledger damaged"), 1, "it is said once");
    let aside = fs::read_dir(bench.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = aside.filter(|name| name.to_string_lossy().contains("ledger.sqlite.damaged-2")).count();
    // A ledger that was deleted leaves nothing to set aside.
    assert!(aside <= 2, "{aside} files were set aside");
    let uploads = |name: &str| {
        let wanted = format!("/lab/{name}/status.log");
        server.log().iter().filter(|asked| asked.method == "PUT" && asked.target == wanted).count()
    };
    assert_eq!(uploads("101-kept"), 1, "uploaded again, though it was proven");
    for (name, files) in &jobs {
        assert_eq!(bench.restored(name), *files, "{name}");
    }
}

#[test]
fn truncated_to_nothing() {
    survives(|ledger| drop(OpenOptions::new().write(true).open(ledger).unwrap().set_len(0)));
}

#[test]
fn truncated_to_half_a_page() {
    survives(|ledger| OpenOptions::new().write(true).open(ledger).unwrap().set_len(2048).unwrap());
}

#[test]
fn truncated_to_half() {
    survives(|ledger| {
        let file = OpenOptions::new().write(true).open(ledger).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    });
}

#[test]
fn deleted() {
    survives(|ledger| fs::remove_file(ledger).unwrap());
}

#[test]
fn deleted_with_its_directory_s_journal() {
    survives(|ledger| {
        fs::remove_file(ledger).unwrap();
        let _ = fs::remove_file(ledger.with_extension("sqlite-journal"));
    });
}

#[test]
fn replaced_by_garbage() {
    survives(|ledger| {
        fs::write(ledger.with_extension("new"), vec![0xa5; 50_000]).unwrap();
        fs::rename(ledger.with_extension("new"), ledger).unwrap();
    });
}

#[test]
fn replaced_by_an_older_copy() {
    survives(|ledger| {
        fs::copy(ledger, ledger.with_extension("new")).unwrap();
        fs::rename(ledger.with_extension("new"), ledger).unwrap();
    });
}

#[test]
fn overwritten_in_place_with_garbage() {
    survives(|ledger| {
        let size = fs::metadata(ledger).unwrap().len();
        OpenOptions::new().write(true).open(ledger).unwrap().write_all(&vec![0xa5; size as usize]).unwrap();
    });
}

#[test]
fn its_header_zeroed() {
    survives(|ledger| OpenOptions::new().write(true).open(ledger).unwrap().write_all(&[0; 100]).unwrap());
}

#[test]
fn its_tables_overwritten() {
    survives(|ledger| {
        let mut file = OpenOptions::new().write(true).open(ledger).unwrap();
        let pages = file.metadata().unwrap().len() / 4096;
        for page in 1..pages {
            file.seek(SeekFrom::Start(page * 4096)).unwrap();
            file.write_all(&[0xff; 64]).unwrap();
        }
    });
}

#[test]
fn locked_by_another_process_it_is_waited_for() {
    let mut bench = Bench::new();
    bench.finished(&["101-first"]);
    bench.start();
    bench.wait_until_gone("101-first");
    // What `BEGIN EXCLUSIVE` in somebody's sqlite3 shell does, by its name in the file's locks.
    let lock = bench.path("lock.py");
    let text = "import sqlite3, sys, time\ndb = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n\
                db.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\ntime.sleep(9)\n";
    fs::write(&lock, text).unwrap();
    let mut holder = std::process::Command::new("python3")
        .arg(&lock)
        .arg(bench.path("state/ledger.sqlite"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
    let jobs = bench.finished(&["102-second"]);
    bench.wait_until_said("ledger cannot be used");
    assert_eq!(bench.left(), ["102-second"], "deleted without the ledger");
    bench.wait_until_gone("102-second");
    holder.wait().unwrap();
    assert_eq!((bench.said("ledger cannot be used"), bench.said("ledger works again")), (1, 1));
    assert_eq!(bench.restored("102-second"), jobs["102-second"]);
}

#[test]
fn on_a_full_disk_uploads_go_on_and_nothing_is_deleted() {
    // A state directory on a file system of its own, which a file fills to the last byte.
    let mut bench = Bench::new();
    fs::create_dir(bench.path("state")).unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0]).args(&arguments[1..]).status().unwrap();
        assert!(done.success(), "{arguments:?} needs root");
    };
    let state = bench.path("state");
    let state = state.to_str().unwrap();
    mount(&["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", state]);
    let jobs = bench.finished(&["101-first"]);
    bench.start();
    bench.wait_until_said("pruned job=101-first");
    let mut filler = File::create(bench.path("state/filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    bench.finished(&["102-second"]);
    bench.wait_until_said("ledger cannot be used");
    bench.wait("stored", || bench.path("offloaded/102-second/.dronekeeper/manifest.json").exists());
    assert_eq!(bench.left(), ["102-second"], "deleted without the ledger");
    fs::remove_file(bench.path("state/filler")).unwrap();
    drop(filler);
    bench.wait_until_gone("102-second");
    assert_eq!((bench.said("ledger cannot be used"), bench.said("ledger works again")), (1, 1));
    assert_eq!(bench.restored("101-first"), jobs["101-first"]);
    bench.kill();
    mount(&["umount", state]);
}

#[test]
fn read_only_it_is_waited_for() {
    let mut bench = Bench::new();
    let state = bench.path("state");
    // Root may write where modes forbid it; an immutable directory takes no journal from anybody.
    let chattr = |flag: &str| {
        let done = std::process::Command::new("chattr").arg(flag).arg(&state).status().unwrap();
        assert!(done.success(), "chattr {flag} needs root, and a file system like ext4 below /tmp");
    };
    bench.finished(&["101-first"]);
    bench.start();
    bench.wait_until_gone("101-first");
    chattr("+i");
    let jobs = bench.finished(&["102-second"]);
    bench.wait_until_said("ledger cannot be used");
    bench.wait("stored", || bench.path("offloaded/102-second/.dronekeeper/manifest.json").exists());
    assert_eq!(bench.left(), ["102-second"], "deleted without the ledger");
    chattr("-i");
    bench.wait_until_gone("102-second");
    assert_eq!(bench.restored("102-second"), jobs["102-second"]);
}
