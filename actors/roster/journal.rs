//! The journal of finished jobs that the hub has not acknowledged: one file for each.
//!
//! It is written before the program that ran the job is told that the job is complete, and removed when the hub has
//! acknowledged it. A file is put in place whole, by a rename, with the directory synced.

use crate::hub::records::Record;
use crate::kept;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// More than this is no record, in bytes.
const LARGEST: u64 = 16 << 20;

/// The directory.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    /// Keeps files in `dir`, which is made when it is needed.
    pub fn new(dir: PathBuf) -> Self {
        Journal { dir }
    }

    fn path(&self, id: i64) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Keeps a job until it is acknowledged; it is on the disk when this returns.
    ///
    /// # Errors
    /// The disk's; nothing was kept.
    pub fn keep(&self, id: i64, record: &Record) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        kept::replace(&self.path(id), Value::Object(record.clone()).to_string().as_bytes())?;
        File::open(&self.dir)?.sync_all()
    }

    /// The hub has it.
    ///
    /// # Errors
    /// The disk's; it is reported once more.
    pub fn acknowledged(&self, id: i64) -> io::Result<()> {
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Everything that is kept. A file that is no record is left where it is, and said.
    ///
    /// # Errors
    /// The directory's.
    pub fn read(&self) -> io::Result<Vec<Record>> {
        let listing = match std::fs::read_dir(&self.dir) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut records = Vec::new();
        for file in listing {
            let path = file?.path();
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let small = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= LARGEST);
            let text = if small { std::fs::read(&path) } else { Err(io::ErrorKind::FileTooLarge.into()) };
            match text.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other)) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a finished job cannot be read from the journal");
                }
            }
        }
        Ok(records)
    }
}
