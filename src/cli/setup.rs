//! `init` and `import-config`: a configuration to start from.

use crate::say;
use crate::status::Status;
use config::{Fate, Left};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The file that `init` writes.
const NAME: &str = "dronekeeper.toml";
/// The largest ini file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// Writes the commented configuration into a directory, and over nothing.
pub fn init(dir: &Path) -> Status {
    let file = dir.join(NAME);
    match create(dir, &file) {
        Ok(()) => {
            let file = file.display();
            say::line(format_args!("{file} written; say in it where results are and where they go, then"));
            say::line(format_args!("  dronekeeper check --connect -c {file}"));
            say::line(format_args!("  dronekeeper run -c {file}"));
            Status::Ok
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            say::error(format_args!("{} exists, and is left as it is", file.display()));
            say::note("  = help: `dronekeeper init DIR` writes into another directory");
            Status::CannotCreate
        }
        Err(error) => {
            say::error(format_args!("cannot write {}: {error}", file.display()));
            Status::CannotCreate
        }
    }
}

/// Makes the file whole under another name first: nobody ever reads half of it.
fn create(dir: &Path, file: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let fresh = dir.join(format!(".{NAME}.{}", std::process::id()));
    let written = File::create_new(&fresh).and_then(|mut to| {
        to.write_all(config::SHIPPED.as_bytes())?;
        to.sync_all()
    });
    // A link is made only where nothing is, not even a link that leads nowhere.
    let linked = written.and_then(|()| fs::hard_link(&fresh, file));
    let _ = fs::remove_file(&fresh);
    linked
}

/// Prints the configuration of an Autotest site in our words, and says what it could not carry over.
pub fn import(files: &[PathBuf]) -> Status {
    let mut texts = Vec::new();
    for file in files {
        match read(file) {
            Ok(text) => texts.push((file.as_path(), text)),
            Err(error) => {
                say::error(format_args!("cannot read {}: {error}", file.display()));
                return Status::Failed;
            }
        }
    }
    let files: Vec<(&Path, &str)> = texts.iter().map(|(file, text)| (*file, text.as_str())).collect();
    match config::import(&files) {
        Ok(imported) => {
            say::text(&imported.toml);
            let by_hand = imported.left.iter().filter(|left| left.fate == Fate::ByHand);
            by_hand.clone().for_each(|Left { place, section, key, why, .. }| {
                say::note(format_args!("{place}: [{section}] {key}: {why}"));
            });
            let (carried, by_hand) = (imported.carried, by_hand.count());
            let moot = imported.left.len() - by_hand;
            say::note(format_args!(
                "{carried} keys carried over, {by_hand} to be done by hand, {moot} not needed"
            ));
            Status::Ok
        }
        Err(error) => {
            say::note(error);
            Status::Failed
        }
    }
}

/// Ini files may hold bytes of any encoding; what is not UTF-8 is marked, and left to a person.
fn read(file: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
