//! A log file that is followed by another when it is large: `NAME.DATE.log`, and `NAME.log` that leads to the newest.

use super::parts;
use jiff::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The newest file, and what it holds.
pub struct Sized {
    dir: PathBuf,
    stem: String,
    ending: String,
    most: u64,
    keep: usize,
    file: File,
    size: u64,
}

impl Sized {
    /// Goes on with the newest file, or begins one. None grows beyond `most` bytes by more than a line; `keep` are kept.
    ///
    /// # Errors
    /// A sentence, when it cannot be made.
    pub fn open(file: &Path, most: u64, keep: usize) -> Result<Self, String> {
        let (dir, stem, ending) = parts(file)?;
        let failed = |error: io::Error| format!("log.file `{}`: {error}", file.display());
        fs::create_dir_all(dir).map_err(failed)?;
        let newest = fs::canonicalize(file).unwrap_or_else(|_| fresh(dir, stem, ending));
        let open = File::options().create(true).append(true).open(&newest).map_err(failed)?;
        let size = open.metadata().map_err(failed)?.len();
        let (stem, ending) = (stem.to_owned(), ending.to_owned());
        let sized = Sized { dir: dir.to_owned(), stem, ending, most, keep, file: open, size };
        sized.lead(&newest).map_err(failed)?;
        Ok(sized)
    }

    fn follow(&mut self) -> io::Result<()> {
        let newest = fresh(&self.dir, &self.stem, &self.ending);
        self.file = File::options().create(true).append(true).open(&newest)?;
        self.size = 0;
        self.lead(&newest)?;
        let mut all: Vec<PathBuf> = fs::read_dir(&self.dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| self.is_dated(path))
            .collect();
        all.sort();
        let over = all.len().saturating_sub(self.keep.max(1));
        all.iter().take(over).for_each(|old| drop(fs::remove_file(old)));
        Ok(())
    }

    /// Is it one of those that this writes?
    fn is_dated(&self, path: &Path) -> bool {
        let date = path.file_name().and_then(|name| name.to_str()).and_then(|name| {
            name.strip_prefix(&self.stem)?.strip_prefix('.')?.strip_suffix(&self.ending)?.strip_suffix('.')
        });
        date.is_some_and(|date| date.len() == DATE && date.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn lead(&self, newest: &Path) -> io::Result<()> {
        let (link, new) = (format!("{}.{}", self.stem, self.ending), format!(".{}.new", self.stem));
        let (link, new) = (self.dir.join(link), self.dir.join(new));
        let _ = fs::remove_file(&new);
        std::os::unix::fs::symlink(newest.file_name().unwrap_or_default(), &new)?;
        fs::rename(new, link)
    }
}

/// The length of a date in a name.
const DATE: usize = "20260102T030405.678901234Z".len();

fn fresh(dir: &Path, stem: &str, ending: &str) -> PathBuf {
    dir.join(format!("{stem}.{}.{ending}", Timestamp::now().strftime("%Y%m%dT%H%M%S%.9fZ")))
}

impl Write for Sized {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size >= self.most {
            // Where no other file can be begun, this one grows.
            let _ = self.follow();
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_small_few_and_the_name_leads_to_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("drone.log");
        fs::write(dir.path().join("drone.notes.log"), "somebody's own").unwrap();
        let mut log = Sized::open(&file, 1000, 3).unwrap();
        for number in 0..500 {
            log.write_all(format!("line {number:0>95}\n").as_bytes()).unwrap();
        }
        let names: Vec<PathBuf> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names.iter().filter(|name| log.is_dated(name)).count(), 3, "{names:?}");
        assert!(dir.path().join("drone.notes.log").exists());
        let newest = fs::read_to_string(&file).unwrap();
        assert!(newest.len() <= 1100 && newest.ends_with("499\n"), "{newest}");
        drop(log);
        // A restart goes on with it.
        let mut again = Sized::open(&file, 100_000, 3).unwrap();
        again.write_all(b"more\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), newest + "more\n");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "no link").unwrap();
        assert!(Sized::open(&file, 1000, 3).is_err());
    }
}
