//! Files of ours: a small one is written whole and put in place at once; a database that is damaged is set aside.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file. Readers see the old one or the new one; after a power loss, too.
///
/// # Errors
/// When it cannot be written; the old one is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// The name under which a damaged database is kept for a person to look at.
pub fn aside(path: &Path) -> String {
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ");
    format!("{}.damaged-{date}", path.display())
}

/// Moves a SQLite file and its journal to that name; what is not there need not be moved.
///
/// # Errors
/// When one is there and cannot be moved.
pub fn set_aside(path: &Path, aside: &str) -> io::Result<()> {
    for ending in ["", "-journal"] {
        match fs::rename(format!("{}{ending}", path.display()), format!("{aside}{ending}")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept.json");
        replace(&path, b"1").unwrap();
        fs::create_dir(path.with_extension("new")).unwrap();
        assert!(replace(&path, b"2").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"1");
    }
}
