//! A small file of ours: written whole, on the disk, and put in place at once.

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
