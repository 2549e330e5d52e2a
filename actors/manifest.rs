//! What the store says of a job: the claim that reserves its name, the manifest that proves it whole.
//!
//! The manifest is written last and never changed. It alone, read afresh, can permit a deletion; so
//! parsing is strict, and what it cannot express exactly it does not contain.

use crate::lab::{BadPath, Entry, Incarnation, Kind, RelPath, hex, unhex};
use crate::packing::Encoding;
use serde::{Deserialize, Serialize};

/// The version that this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// The largest manifest that is read back, in bytes: five million entries of 200 bytes.
pub const LARGEST: u64 = 1 << 30;

/// Reserves one name in the store for one incarnation of a job's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// [`FORMAT`].
    pub format: u32,
    /// The drone that holds the directory.
    pub drone: String,
    /// The directory's path below the results root, escaped for reading.
    pub job: String,
    /// Which directory of that name.
    pub incarnation: Incarnation,
}

/// Everything that one offload of a job put into the store, and from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The directory's path below the results root, escaped for reading.
    pub job: String,
    /// The key prefix that it went to, without a trailing `/`.
    pub prefix: String,
    /// The drone that sent it.
    pub drone: String,
    /// The lane that it went through.
    pub lane: String,
    /// Identity of the attempt that wrote this manifest (a UUID).
    pub attempt: String,
    /// Name and version of the writing program.
    pub tool: String,
    /// Which directory of that name.
    pub incarnation: Incarnation,
    /// When the job finished, RFC 3339.
    pub finished_at: String,
    /// When the manifest was written, RFC 3339.
    pub published_at: String,
    /// `files`: one object per file; `packed`: many small files are parts of few objects.
    pub layout: String,
    /// The objects that hold parts, in the order of [`Part::pack`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<Pack>,
    /// Number of files.
    pub files: u64,
    /// Sum of the files' sizes in bytes.
    pub bytes: u64,
    /// Every entry below the directory, in path order.
    pub entries: Vec<ManifestEntry>,
}

/// An archive of many small files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// How each of its records is compressed.
    pub encoding: Encoding,
    /// It; its size is always given.
    pub object: Object,
}

/// Where in a pack a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which of the manifest's packs, from 0.
    pub pack: usize,
    /// Where its record begins, in bytes.
    pub offset: u64,
    /// The record's length, in bytes.
    pub length: u64,
    /// SHA-256 of the file's bytes, taken as they were packed.
    pub sha256: String,
}

/// One entry of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Path below the job's directory; for a name that is not UTF-8 a readable stand-in.
    pub path: String,
    /// The path's true bytes in hex, where `path` cannot hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Logical size in bytes.
    pub size: u64,
    /// Last change of content, ns since 1970.
    pub mtime_ns: i64,
    /// Last change of inode, ns since 1970.
    pub ctime_ns: i64,
    /// Inode.
    pub ino: u64,
    /// `st_mode` with the type bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Where a link points; for a target that is not UTF-8 a readable stand-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The link's true target in hex, where `target` cannot hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_hex: Option<String>,
    /// Its object, if it has one: where it is, and what identifies its bytes. A link's and a fifo's is a text that
    /// says what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
    /// A file's place in a pack, if it has no object of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The operator's lane follows instructions, and these said that it is not to be stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
}

/// The object that holds a file, as it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its key in the store, from the store's root.
    pub key: String,
    /// SHA-256 of the bytes, taken as they were sent.
    pub sha256: String,
    /// Size of the object in bytes, where it is not the entry's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of the file, where the object is its gzip, and says so with `Content-Encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// The store's ETag of the verified write, if it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The store's version or generation of the verified write, if it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How the object was proven: the checksum that the store computed, as `name=value`, or `read-back`.
    pub proof: String,
}

/// Why bytes from the store are not a manifest that can be trusted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadManifest {
    #[error("not a manifest")]
    Syntax(#[from] serde_json::Error),
    #[error("written in format {0}, this version reads up to {FORMAT}")]
    Newer(u32),
    #[error("an entry's path is unsound")]
    Path(#[from] BadPath),
    #[error("an entry's bytes are not hex")]
    Hex,
    #[error("file {0} has no object")]
    NoObject(String),
    #[error("file {0} is in no pack that the manifest lists")]
    NoPart(String),
    #[error("entries are not in strict path order at {0}")]
    Order(String),
}

impl Manifest {
    /// The bytes that are stored: JSON, one entry a line, so that `grep` finds a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let head = Manifest { entries: Vec::new(), ..self.clone_head() };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.truncate(bytes.len() - b"]}".len());
        for (index, entry) in self.entries.iter().enumerate() {
            bytes.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
            serde_json::to_writer(&mut bytes, entry)?;
        }
        bytes.extend_from_slice(b"\n]}\n");
        Ok(bytes)
    }

    /// Is there such a part?
    fn holds(&self, part: &Part) -> bool {
        let end = part.offset.checked_add(part.length);
        let size = self.packs.get(part.pack).and_then(|pack| pack.object.size);
        end.zip(size).is_some_and(|(end, size)| end <= size)
    }

    fn clone_head(&self) -> Manifest {
        Manifest {
            format: self.format,
            job: self.job.clone(),
            prefix: self.prefix.clone(),
            drone: self.drone.clone(),
            lane: self.lane.clone(),
            attempt: self.attempt.clone(),
            tool: self.tool.clone(),
            incarnation: self.incarnation.clone(),
            finished_at: self.finished_at.clone(),
            published_at: self.published_at.clone(),
            layout: self.layout.clone(),
            packs: self.packs.clone(),
            files: self.files,
            bytes: self.bytes,
            entries: Vec::new(),
        }
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// [`BadManifest`] for anything that this version could misunderstand.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadManifest> {
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        if manifest.format > FORMAT {
            return Err(BadManifest::Newer(manifest.format));
        }
        let mut last: Option<RelPath> = None;
        for entry in &manifest.entries {
            let path = entry.path()?;
            if let Some(part) = &entry.part
                && !manifest.holds(part)
            {
                return Err(BadManifest::NoPart(path.to_string()));
            }
            let stored = entry.object.is_some() || entry.part.is_some();
            if entry.kind == Kind::File && !stored && !entry.withheld {
                return Err(BadManifest::NoObject(path.to_string()));
            }
            if last.as_ref().is_some_and(|last| *last >= path) {
                return Err(BadManifest::Order(path.to_string()));
            }
            last = Some(path);
        }
        Ok(manifest)
    }
}

impl ManifestEntry {
    /// Records an entry as it was in the snapshot, with its object if it has one.
    pub fn new(entry: &Entry, object: Option<Object>) -> Self {
        let (path, path_hex) = text_or_hex(entry.path.as_bytes());
        let (target, target_hex) = entry.target.as_deref().map(text_or_hex).unzip();
        ManifestEntry {
            path,
            path_hex,
            kind: entry.kind,
            size: entry.size,
            mtime_ns: entry.mtime_ns,
            ctime_ns: entry.ctime_ns,
            ino: entry.ino,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            target,
            target_hex: target_hex.flatten(),
            object,
            part: None,
            withheld: false,
        }
    }

    /// SHA-256 in hex of a file's bytes; `None` if it has none in the store.
    pub fn sha256(&self) -> Option<&str> {
        let plain = self.object.as_ref().and_then(|object| object.plain.as_deref());
        plain
            .or(self.object.as_ref().map(|object| object.sha256.as_str()))
            .or(self.part.as_ref().map(|part| part.sha256.as_str()))
    }

    /// The true path.
    ///
    /// # Errors
    /// When the recorded path is unsound: it could lead out of the directory.
    pub fn path(&self) -> Result<RelPath, BadManifest> {
        match &self.path_hex {
            Some(hex) => Ok(RelPath::new(unhex(hex).ok_or(BadManifest::Hex)?)?),
            None => Ok(RelPath::new(self.path.as_bytes())?),
        }
    }

    /// The entry as the snapshot saw it; `nlink` is not recorded and reads 1.
    ///
    /// # Errors
    /// As [`ManifestEntry::path`].
    pub fn entry(&self) -> Result<Entry, BadManifest> {
        let target = match (&self.target_hex, &self.target) {
            (Some(hex), _) => Some(unhex(hex).ok_or(BadManifest::Hex)?.into()),
            (None, text) => text.as_ref().map(|text| text.as_bytes().into()),
        };
        Ok(Entry {
            path: self.path()?,
            kind: self.kind,
            ino: self.ino,
            size: self.size,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: 1,
            target,
        })
    }
}

fn text_or_hex(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(hex(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Digest;

    fn entry(path: &[u8], kind: Kind, target: Option<&[u8]>) -> Entry {
        let path = RelPath::new(path).unwrap();
        let target = target.map(Into::into);
        let (mode, uid, gid, nlink) = (0o100644, 0, 0, 1);
        Entry { path, kind, ino: 7, size: 3, mtime_ns: -1, ctime_ns: 9, mode, uid, gid, nlink, target }
    }

    fn sample() -> Manifest {
        let object = Object {
            key: "p/1-a/x".into(),
            sha256: Digest::of(b"x").to_string(),
            size: None,
            plain: None,
            etag: None,
            version: None,
            proof: "read-back".into(),
        };
        let entries = vec![
            ManifestEntry::new(&entry(b"\xff\n", Kind::File, None), Some(object)),
            ManifestEntry::new(&entry(b"\xff\nlink", Kind::Symlink, Some(b"/etc/\xfe")), None),
        ];
        Manifest {
            format: FORMAT,
            job: "1-a".into(),
            prefix: "p/1-a".into(),
            drone: "d".into(),
            lane: "jobs".into(),
            attempt: "0".into(),
            tool: "t".into(),
            incarnation: Incarnation { dev: 1, ino: 2, born_ns: 3 },
            finished_at: String::new(),
            published_at: String::new(),
            layout: "files".into(),
            packs: vec![],
            files: 1,
            bytes: 3,
            entries,
        }
    }

    fn part(offset: u64, length: u64) -> Part {
        Part { pack: 0, offset, length, sha256: String::new() }
    }

    #[test]
    fn a_manifest_gives_back_every_byte_of_every_name() {
        let manifest = sample();
        let read = Manifest::from_bytes(&manifest.to_bytes().unwrap()).unwrap();
        assert_eq!(read, manifest);
        let link = read.entries[1].entry().unwrap();
        assert_eq!(
            (link.path.as_bytes(), link.target.as_deref()),
            (&b"\xff\nlink"[..], Some(&b"/etc/\xfe"[..]))
        );
    }

    #[test]
    fn a_manifest_that_could_be_misread_is_refused() {
        let refused = |change: fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            Manifest::from_bytes(&manifest.to_bytes().unwrap()).unwrap_err().to_string()
        };
        assert!(refused(|m| m.format = 2).contains("format 2"));
        assert!(refused(|m| m.entries.reverse()).contains("order"));
        assert!(refused(|m| m.entries[0].object = None).contains("no object"));
        assert!(refused(|m| m.entries[0].part = Some(part(0, 3))).contains("no pack"));
        let beyond = refused(|m| {
            let object = Object { size: Some(9), ..m.entries[0].object.take().unwrap() };
            m.packs = vec![Pack { encoding: Encoding::None, object }];
            m.entries[0].part = Some(part(7, 3));
        });
        assert!(beyond.contains("no pack"));
        assert!(refused(|m| m.entries[0].path_hex = Some(hex(b"../x"))).contains("unsound"));
        assert!(Manifest::from_bytes(b"{}").is_err());
    }

    #[test]
    fn an_empty_directory_has_a_manifest_too() {
        let manifest = Manifest { entries: vec![], ..sample() };
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes().unwrap()).unwrap(), manifest);
    }
}
