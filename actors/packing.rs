//! Records of an archive: what goes into a pack, and how one file comes out of a piece of it.

use crate::lab::{Entry, Kind, RelPath};
use crate::tree::Snapshot;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Files up to this size go into packs, in bytes; a larger one is an object of its own.
const SMALL: u64 = 1 << 20;
/// The old offloader packed a job from so many files on (reference A5.2).
const MANY: u64 = 3000;
/// Directories that it never packed (reference A5.3).
const NEVER: [&[u8]; 3] = [b"debug", b"ssp_logs", b"autoupdate_logs"];

/// How the bytes of a pack are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Encoding {
    None,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::None => "none",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
        }
    }

    /// What the name of an archive ends with.
    pub fn ending(self) -> &'static str {
        match self {
            Encoding::None => "tar",
            Encoding::Gzip => "tar.gz",
            Encoding::Zstd => "tar.zst",
        }
    }
}

/// What is packed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// What is packed.
    pub layout: config::Layout,
    /// How packs are compressed.
    pub encoding: Encoding,
}

impl Packing {
    /// Do text files go compressed, each as an object of its own?
    pub fn compresses_logs(&self) -> bool {
        self.layout == config::Layout::Files && self.encoding == Encoding::Gzip
    }

    /// As the operator says.
    pub fn of(store: &config::Store) -> Self {
        let encoding = match store.compress {
            config::Compress::None => Encoding::None,
            config::Compress::Gzip => Encoding::Gzip,
            config::Compress::Zstd => Encoding::Zstd,
        };
        Packing { layout: store.layout, encoding }
    }

    /// Does this file of that job go into a pack?
    pub fn takes(&self, job: &RelPath, snapshot: &Snapshot, entry: &Entry) -> bool {
        let small = entry.kind == Kind::File && entry.size <= SMALL;
        small
            && match self.layout {
                config::Layout::Files => false,
                config::Layout::Packed => snapshot.files > 1,
                config::Layout::GsOffloader => snapshot.files >= MANY && was_packed(job, &entry.path),
            }
    }
}

/// Was this file in a directory that the old offloader would have packed: a sub-directory of a special task, a
/// sub-sub-directory of every other job, unless it was one of those that people read?
fn was_packed(job: &RelPath, path: &RelPath) -> bool {
    let level = if job.as_bytes().starts_with(b"hosts/") { 0 } else { 1 };
    let directory = path.parts().nth(level).filter(|_| path.parts().count() > level + 1);
    directory.is_some_and(|name| !NEVER.contains(&name))
}

/// One file as a record of an archive.
///
/// # Errors
/// Never in memory; the encoder's.
pub fn record(entry: &Entry, content: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(entry.mtime_ns.div_euclid(1_000_000_000).max(0).unsigned_abs());
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::with_capacity(content.len() + 1536));
    let path = Path::new(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
    archive.append_data(&mut header, path, content)?;
    // The two blocks that end an archive are the last record's, not each one's.
    let mut raw = archive.into_inner()?;
    raw.truncate(raw.len().saturating_sub(END));
    compressed(&raw, encoding)
}

/// What an archive ends with, in bytes.
const END: usize = 1024;

/// The end of an archive.
///
/// # Errors
/// As [`record`].
pub fn end(encoding: Encoding) -> io::Result<Vec<u8>> {
    compressed(&[0; END], encoding)
}

fn compressed(raw: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::None => Ok(raw.to_vec()),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(raw)?;
            encoder.finish()
        }
        Encoding::Zstd => zstd::bulk::compress(raw, zstd::DEFAULT_COMPRESSION_LEVEL),
    }
}

/// The file that a record holds; `size` is what the manifest says of it, and more is not read.
///
/// # Errors
/// When it is no record, or one of another size.
pub fn content(record: &[u8], encoding: Encoding, size: u64) -> io::Result<Vec<u8>> {
    let decoder: Box<dyn Read + '_> = match encoding {
        Encoding::None => Box::new(record),
        Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(record)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::new(record)?),
    };
    let other = || io::Error::new(io::ErrorKind::InvalidData, "the pack holds something else there");
    let mut archive = tar::Archive::new(decoder);
    let file = archive.entries()?.next().ok_or_else(other)??;
    let mut content = Vec::new();
    file.take(size.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 == size { Ok(content) } else { Err(other()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], size: u64) -> Entry {
        let path = RelPath::new(path).unwrap();
        let (kind, mode, target) = (Kind::File, 0o100640, None);
        Entry { path, kind, ino: 1, size, mtime_ns: 5, ctime_ns: 5, mode, uid: 0, gid: 0, nlink: 1, target }
    }

    #[test]
    fn a_file_comes_out_of_its_record_whatever_its_name() {
        let long = [b"d/".repeat(120), b"\xff\n name".to_vec()].concat();
        for encoding in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
            for (path, text) in [(&b"a"[..], &b"some text"[..]), (&long, &[7; 5000]), (b"empty", b"")] {
                let record = record(&entry(path, text.len() as u64), text, encoding).unwrap();
                assert_eq!(content(&record, encoding, text.len() as u64).unwrap(), text);
                assert!(content(&record, encoding, text.len() as u64 + 1).is_err());
                assert!(content(&record[..record.len() / 2], encoding, 5000).is_err());
            }
        }
    }

    #[test]
    fn the_old_rule_spares_what_people_read() {
        let (job, task) =
            (RelPath::new(&b"1-a"[..]).unwrap(), RelPath::new(&b"hosts/h/1-reset"[..]).unwrap());
        let path = |path: &str| RelPath::new(path.as_bytes()).unwrap();
        for (of, at, packed) in [
            (&job, "host1/sysinfo/a/b", true),
            (&job, "host1/sysinfo/a", true),
            (&job, "host1/debug/a", false),
            (&job, "host1/status.log", false),
            (&job, "status.log", false),
            (&task, "sysinfo/a", true),
            (&task, "autoupdate_logs/a", false),
            (&task, "status.log", false),
        ] {
            assert_eq!(was_packed(of, &path(at)), packed, "{of} {at}");
        }
    }
}
