//! `support-bundle`: what a bug report needs, in one file that holds no secret.

use super::client::Client;
use crate::say;
use crate::status::Status;
use actors::shown::chain;
use config::Loaded;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The last of a file that goes in, in bytes.
const LAST: u64 = 4 << 20;

/// The bundle while it is written, and what could not be had.
struct Bundle {
    tar: tar::Builder<GzEncoder<File>>,
    missing: Vec<String>,
}

/// Writes the bundle to `to`; what cannot be had is named in it, and hinders nothing.
pub fn bundle(loaded: &Loaded, client: &Client, to: Option<PathBuf>) -> Status {
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let to = to.unwrap_or_else(|| format!("dronekeeper-{date}.tar.gz").into());
    match write(loaded, client, &to) {
        Ok(missing) => {
            missing.iter().for_each(|what| say::note(format_args!("without {what}")));
            say::line(to.display());
            Status::Ok
        }
        Err(error) => {
            say::error(format_args!("{}: {}", to.display(), chain(&error)));
            Status::Failed
        }
    }
}

fn write(loaded: &Loaded, client: &Client, to: &Path) -> io::Result<Vec<String>> {
    let config = &loaded.config;
    // Of this user only: it says much of the lab, though no secret.
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::WRONLY;
    let file = File::from(rustix::fs::open(to, flags | rustix::fs::OFlags::CLOEXEC, mode)?);
    let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut bundle = Bundle { tar, missing: Vec::new() };
    bundle.add("version", format!("{}\n", env!("CARGO_PKG_VERSION")).as_bytes())?;
    bundle.add("config.toml", config::redacted(&loaded.text).as_bytes())?;
    for (name, path) in [
        ("status.json", "status"),
        ("jobs.json", "jobs"),
        ("queue.json", "queue"),
        ("history.json", "history"),
    ] {
        match client.ask_quietly::<serde_json::Value>(path) {
            Some(answer) => bundle.add(name, answer.to_string().as_bytes())?,
            None => bundle.missing.push(format!("{name}: no drone answers")),
        }
    }
    match &config.log.file {
        Some(log) => bundle.file("dronekeeper.log", log)?,
        None => bundle.missing.push("the log: add `journalctl -u dronekeeper --since -1d`".into()),
    }
    let state = &config.drone.state_dir;
    bundle.ledger(&state.join("ledger.sqlite"))?;
    for name in ["deletions.log", "containers.json", "drained.json", "reboot.json"] {
        if state.join(name).exists() {
            bundle.file(name, &state.join(name))?;
        }
    }
    for (name, path) in [
        ("system/mounts", "/proc/self/mounts"),
        ("system/version", "/proc/version"),
        ("system/loadavg", "/proc/loadavg"),
        ("system/meminfo", "/proc/meminfo"),
    ] {
        bundle.file(name, Path::new(path))?;
    }
    let missing = std::mem::take(&mut bundle.missing);
    bundle.add("missing", missing.join("\n").as_bytes())?;
    bundle.tar.into_inner()?.finish()?.sync_all()?;
    Ok(missing)
}

impl Bundle {
    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, format!("dronekeeper/{name}"), bytes)
    }

    /// A file, or the last of it.
    fn file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let read = File::open(path).and_then(|mut file| {
            if file.metadata().is_ok_and(|file| file.len() > LAST) {
                file.seek(SeekFrom::End(-LAST.cast_signed()))?;
            }
            let mut bytes = Vec::new();
            file.take(LAST).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        match read {
            Ok(bytes) => self.add(name, &bytes),
            Err(error) => {
                self.missing.push(format!("{name}: {}: {error}", path.display()));
                Ok(())
            }
        }
    }

    /// A copy that is whole although the drone writes to it meanwhile.
    fn ledger(&mut self, path: &Path) -> io::Result<()> {
        let copied = (|| {
            let dir = tempfile::tempdir()?;
            let copy = dir.path().join("ledger.sqlite");
            actors::ledger::copy(path, &copy)?;
            std::fs::read(copy)
        })();
        match copied {
            Ok(bytes) => self.add("ledger.sqlite", &bytes),
            Err(error) => {
                self.missing.push(format!("ledger.sqlite: {error}"));
                Ok(())
            }
        }
    }
}
