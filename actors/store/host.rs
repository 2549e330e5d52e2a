//! A results host as a store: files below a directory, reached over ssh, bulk by rsync.
//!
//! Small objects go by `cat` into a temporary file, synced, then put in place by rename, or by a link where nothing
//! may be there. The host reads what it holds and answers with its SHA-256: that is the proof. It needs a POSIX shell,
//! GNU coreutils and findutils, flock, and rsync. Keys are printable ASCII (`planner/names.rs`) and stand quoted in scripts.

mod parts;

use super::checksum::Checksum;
use super::ssh::{Done, Reading, Ssh, SshError, quoted};
use super::tap::{Answered, Meter};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use parts::Parts;
use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

/// What scripts of ours end with when the object is there already, or is not there.
const THERE: i32 = 17;
const NOT_THERE: i32 = 44;
/// Hashes the files whose names come in, which hold no newline, in the coreutils' format. OpenSSL's hash is several times as fast where the
/// processor helps, and not on every host.
const HASH: &str = "if command -v openssl >/dev/null; then xargs -0 -r openssl dgst -sha256 -r --; \
                    else xargs -0 -r sha256sum -bz -- | tr '\\0' '\\n'; fi 2>/dev/null; exit 0";
/// So many objects are hashed by one command.
const AT_ONCE: usize = 2000;
/// Where rsync keeps what it has of a file that is not whole.
pub const PARTIAL: &str = ".dronekeeper-partial";

/// The host.
#[derive(Clone, Debug)]
pub struct Host {
    /// How it is reached.
    pub ssh: Arc<Ssh>,
    /// The directory that everything lies below, absolute.
    pub root: String,
    /// A command that makes no progress may take so long.
    pub stall: Duration,
    /// Bytes per second, at the least.
    pub min_rate: u64,
    /// Bytes per second of all transfers together, if they are bounded.
    pub bandwidth: Option<u64>,
    /// Counts what is done.
    pub meter: Arc<Meter>,
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ssh.target(), self.root)
    }
}

impl Host {
    /// Time for a command that moves or hashes so many bytes.
    fn patience(&self, bytes: u64) -> Duration {
        self.stall + Duration::from_secs(bytes / self.min_rate.max(1))
    }

    /// A script whose paths are relative to the root, which is made when it is missing.
    fn in_root(&self, text: &str) -> String {
        let root = quoted(&self.root);
        format!("umask 022; mkdir -p -- {root} && cd -- {root} || exit 71; {text}")
    }

    async fn script(&self, text: &str, input: &[u8], bytes: u64) -> Result<Done> {
        let script = self.in_root(text);
        self.meter.pass(input.len() as u64).await;
        let done = self.ssh.run(&script, input, self.patience(bytes)).await;
        let done = done.map_err(|error| failed(&self.root, error))?;
        self.meter.succeeded();
        Ok(done)
    }

    /// So many bytes went there by rsync.
    pub fn moved(&self, bytes: u64) {
        self.meter.count(bytes);
        self.meter.succeeded();
    }

    /// SHA-256, in hex, of each of these objects that is there, as the host reads it now.
    ///
    /// # Errors
    /// The connection's.
    pub async fn sums(&self, keys: &[(&str, u64)]) -> Result<HashMap<String, String>> {
        let mut sums = HashMap::new();
        for some in keys.chunks(AT_ONCE) {
            let bytes = some.iter().map(|(_, size)| size).sum();
            let names: String = some.iter().map(|(key, _)| format!("./{key}\0")).collect();
            // A name that is not there is missing from the answer, and that is the answer.
            let done = self.script(HASH, names.as_bytes(), bytes).await?;
            checked(&done, &self.root)?;
            for line in String::from_utf8_lossy(&done.output).lines() {
                if let Some((sum, name)) = line.split_once(" *./") {
                    sums.insert(name.to_owned(), sum.to_owned());
                }
            }
        }
        Ok(sums)
    }

    /// Has everything that was written to the host's file system put on its disk.
    ///
    /// # Errors
    /// The connection's, or the host's.
    pub async fn flush(&self, bytes: u64) -> Result<()> {
        let done = self.script("sync -f -- .", b"", bytes).await?;
        checked(&done, &self.root)
    }

    /// Makes a directory below the root.
    ///
    /// # Errors
    /// The connection's, or the host's.
    pub async fn make_dir(&self, key: &str) -> Result<()> {
        let done = self.script(&format!("mkdir -p -- {}", quoted(&format!("./{key}"))), b"", 0).await?;
        checked(&done, key)
    }
}

#[async_trait]
impl ObjectStore for Host {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (key, body) = (location.as_ref(), Bytes::from(payload));
        let (dir, name) = key.rsplit_once('/').unwrap_or((".", key));
        let (dir, at) = (quoted(&format!("./{dir}")), quoted(&format!("./{key}")));
        let place = match opts.mode {
            PutMode::Create => format!("ln -T -- \"$t\" {at} 2>/dev/null && rm -f -- \"$t\""),
            _ => format!("mv -fT -- \"$t\" {at}"),
        };
        let script = format!(
            "mkdir -p -- {dir} && t=$(mktemp -- {dir}/.dk.XXXXXXXX) || exit 73; \
             cat >\"$t\" && [ \"$(wc -c <\"$t\")\" -eq {} ] && chmod 644 \"$t\" && sync -- \"$t\" && {place} && \
             sync -- {dir} && exec sha256sum <{at}; rm -f -- \"$t\"; [ -e {at} ] && exit {THERE}; exit 74",
            body.len()
        );
        let done = self.script(&script, &body, body.len() as u64).await?;
        if done.code == Some(THERE) && matches!(opts.mode, PutMode::Create) {
            let source = "it is there".into();
            return Err(Error::AlreadyExists { path: name.to_owned(), source });
        }
        checked(&done, key)?;
        let sum = String::from_utf8_lossy(&done.output).split(' ').next().unwrap_or_default().to_owned();
        let mut extensions = Extensions::new();
        extensions.insert(Answered::with(Checksum { name: "sha256", value: sum }));
        Ok(PutResult { e_tag: None, version: None, extensions })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Parts::begin(self, location).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = location.as_ref();
        let at = quoted(&format!("./{key}"));
        let read = match (&options.range, options.head) {
            (_, true) => format!("exec sha256sum <{at}"),
            (None, false) => format!("exec cat <{at}"),
            (Some(GetRange::Bounded(range)), false) => {
                let length = range.end.saturating_sub(range.start);
                format!("tail -c +{} <{at} | head -c {length}", range.start + 1)
            }
            (Some(_), false) => return Err(none("ranges without an end")),
        };
        let script = self.in_root(&format!("[ -f {at} ] || exit {NOT_THERE}; stat -c %s -- {at}; {read}"));
        self.meter.pass(0).await;
        let broke = |error| failed(&self.root, error);
        let mut reading = self.ssh.read(&script, self.stall).await.map_err(broke)?;
        let Some(size) = reading.line().await.map_err(broke)? else {
            let done = reading.end().await.map_err(broke)?;
            if done.code == Some(NOT_THERE) {
                return Err(Error::NotFound { path: key.to_owned(), source: "no such file".into() });
            }
            checked(&done, key)?;
            return Err(generic("it answered nothing"));
        };
        let size: u64 = size.parse().map_err(|_| generic("its answer has no size"))?;
        self.meter.succeeded();
        let mut extensions = Extensions::new();
        let range = match options.range {
            Some(GetRange::Bounded(range)) => range.start.min(size)..range.end.min(size),
            _ => 0..size,
        };
        let payload = match options.head {
            true => {
                let sum = reading.piece().await.map_err(broke)?;
                checked(&reading.end().await.map_err(broke)?, key)?;
                let sum = String::from_utf8_lossy(&sum).split(' ').next().unwrap_or_default().to_owned();
                extensions.insert(Answered::with(Checksum { name: "sha256", value: sum }));
                stream::empty().boxed()
            }
            false => pieces(reading, range.end.saturating_sub(range.start)),
        };
        let payload = GetResultPayload::Stream(payload);
        let meta = meta(location.clone(), size);
        Ok(GetResult { payload, meta, range, attributes: Attributes::new(), extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let host = self.clone();
        let delete = move |location: Result<Path>| {
            let host = host.clone();
            async move {
                let location = location?;
                let at = quoted(&format!("./{}", location.as_ref()));
                let done = host.script(&format!("rm -f -- {at}"), b"", 0).await?;
                checked(&done, location.as_ref()).map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (host, prefix) =
            (self.clone(), prefix.map_or(String::new(), |prefix| prefix.as_ref().to_owned()));
        let listed = async move {
            let at = quoted(&format!("./{prefix}"));
            let script = format!(
                "[ -d {at} ] || exit 0; exec find {at} -type f ! -name '.dk.*' ! -path '*/{PARTIAL}/*' \
                 -printf '%s %p\\0'"
            );
            let done = host.script(&script, b"", 0).await?;
            checked(&done, &prefix)?;
            Ok::<_, Error>(objects(&done.output))
        };
        stream::once(listed)
            .flat_map(|listed| match listed {
                Ok(objects) => stream::iter(objects).map(Ok).boxed(),
                Err(error) => stream::once(async move { Err(error) }).boxed(),
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(none("listings of one level"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(none("copies"))
    }
}

/// What is still to come of an object, `left` bytes; one that ends early is an error.
fn pieces(reading: Reading, left: u64) -> BoxStream<'static, Result<Bytes>> {
    let next = |(mut reading, left): (Reading, u64)| async move {
        let piece = reading.piece().await.map_err(|error| failed("", error))?;
        match (left.checked_sub(piece.len() as u64), piece.is_empty()) {
            (Some(0), true) => Ok(None),
            (Some(left), false) => Ok(Some((piece, (reading, left)))),
            _ => Err(generic("the answer is not as long as the object")),
        }
    };
    stream::try_unfold((reading, left), next).boxed()
}

/// The objects that a listing names. What no key of ours can be is none of ours.
fn objects(listing: &[u8]) -> Vec<ObjectMeta> {
    let lines = listing.split(|byte| *byte == 0).filter_map(|line| std::str::from_utf8(line).ok());
    let object = |line: &str| {
        let (size, name) = line.split_once(" ./")?;
        Some(meta(Path::parse(name).ok()?, size.parse().ok()?))
    };
    lines.filter_map(object).collect()
}

fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None }
}

/// A command that did not end well, by what one would do about it.
fn checked(done: &Done, key: &str) -> Result<()> {
    match done.code {
        Some(0) => Ok(()),
        _ if done.words.contains("Permission denied") => {
            Err(Error::PermissionDenied { path: key.to_owned(), source: done.words.clone().into() })
        }
        code => Err(generic(&format!("the command ended with {code:?}: {}", done.words))),
    }
}

fn failed(root: &str, error: SshError) -> Error {
    match error {
        SshError::Refused(words) => Error::PermissionDenied { path: root.to_owned(), source: words.into() },
        error => Error::Generic { store: "results host", source: Box::new(error) },
    }
}

fn generic(why: &str) -> Error {
    Error::Generic { store: "results host", source: why.to_owned().into() }
}

fn none(what: &str) -> Error {
    Error::NotSupported { source: format!("a results host has no {what}").into() }
}
