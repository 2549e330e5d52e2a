//! A configuration to start from: written once, or made of an Autotest site's files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

fn tell(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dronekeeper")).args(arguments).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn init_writes_a_configuration_that_is_valid_and_never_over_another() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("results")).unwrap();
    let done = tell(dir.path(), &["init"]);
    assert!(done.status.success() && text(&done.stdout).contains("dronekeeper run -c ./dronekeeper.toml"));
    let checked = tell(dir.path(), &["check"]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let file = dir.path().join("dronekeeper.toml");
    fs::write(&file, "# mine\n").unwrap();
    let again = tell(dir.path(), &["init", "."]);
    assert_eq!(again.status.code(), Some(73), "{}", text(&again.stderr));
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
    // Not through a link either, and nothing is left beside.
    fs::remove_file(&file).unwrap();
    symlink("elsewhere", &file).unwrap();
    assert_eq!(tell(dir.path(), &["init"]).status.code(), Some(73));
    assert!(!dir.path().join("elsewhere").exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    let refused = tell(dir.path(), &["init", "/proc/nowhere"]);
    assert_eq!(refused.status.code(), Some(73));
    assert!(text(&refused.stderr).contains("/proc/nowhere/dronekeeper.toml"), "{}", text(&refused.stderr));
}

#[test]
fn a_site_is_moved_and_what_could_not_be_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let sample = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("config/import/sample").join(name);
    let files = [sample("global_config.ini"), sample("shadow_config.ini")];
    let done = tell(dir.path(), &["import-config", files[0].to_str().unwrap(), files[1].to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let (toml, said) = (text(&done.stdout), text(&done.stderr));
    assert!(toml.contains("url = \"gs://lab-example-results\""), "{toml}");
    assert!(said.contains("[SCHEDULER] drones: ") && said.contains("7 keys carried over"), "{said}");
    let file = dir.path().join("dronekeeper.toml");
    let here = toml.replace("/usr/local/autotest/results", dir.path().to_str().unwrap());
    fs::write(&file, here.replace("/var/lib/dronekeeper", "/tmp/never-made")).unwrap();
    let checked = tell(dir.path(), &["check"]);
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
}

#[test]
fn what_is_no_ini_file_is_refused_with_its_line_and_without_its_content() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bad.ini"), "[SERVER]\nhunter2\n").unwrap();
    let done = tell(dir.path(), &["import-config", "bad.ini"]);
    assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0));
    let said = text(&done.stderr);
    assert!(said.contains("bad.ini:2: is neither") && !said.contains("hunter2"), "{said}");
    let missing = tell(dir.path(), &["import-config", "missing.ini"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("cannot read missing.ini: No such file"));
}
