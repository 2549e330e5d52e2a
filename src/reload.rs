//! The configuration is read again while the process runs: on SIGHUP, on `dronekeeper reload`, when the file is saved, or
//! a file of secrets that it names.
//!
//! A new configuration is judged whole before anything changes; a broken one changes nothing, and is shown until it is
//! mended. For a good one, the actors whose settings it changes begin anew, and all others go on with what they have in
//! hand (house/changes.rs). What cannot be opened with it leaves the one before in force.

use crate::logging;
use actors::console::desk::Reload;
use actors::console::status::ConfigStatus;
use config::Loaded;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tracing::{error, info};

/// A file that was just written may be written to still.
const AT_REST: Duration = Duration::from_millis(500);

/// The verdict is on its way to whoever asked: so long the console that carries it is not stopped.
const ANSWER: Duration = Duration::from_millis(200);

/// What is known of the file, and what is in force.
#[derive(Debug)]
pub struct Reloader {
    file: Option<PathBuf>,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug)]
struct State {
    /// The text that is in force.
    text: String,
    /// Since when.
    since: SystemTime,
    /// The file, and the files of secrets that it names.
    watched: Vec<PathBuf>,
    /// How each was when they were last judged.
    seen: Vec<Option<Stamp>>,
    /// How they are now, since when.
    changed: Option<(Vec<Option<Stamp>>, Instant)>,
    /// Why the file on disk is not the one in force.
    broken: Option<String>,
    /// A file of secrets was saved since one came into force.
    saved: bool,
    /// What comes into force next.
    next: Option<Next>,
}

/// A configuration that is to come into force.
#[derive(Debug)]
pub struct Next {
    /// What it is.
    pub loaded: Loaded,
    /// The files that it names are to be read again, though their names are the same: one was saved.
    pub files: bool,
}

/// Tells one state of a file from another.
type Stamp = (u64, u64, Option<SystemTime>);

impl Reload for Reloader {
    fn look(&self) -> Result<Vec<String>, String> {
        Reloader::look(self)
    }

    fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    fn in_force(&self) -> Option<ConfigStatus> {
        let state = self.state();
        let checksum = format!("{:08x}", crc32c::crc32c(state.text.as_bytes()));
        let since = state.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        Some(ConfigStatus { file: self.file.as_ref()?.display().to_string(), since, checksum })
    }
}

impl Reloader {
    /// Begins with what the process was started with.
    pub fn new(loaded: &Loaded) -> Self {
        let watched = watched(loaded.file.as_deref(), &loaded.text);
        let state = State {
            text: loaded.text.clone(),
            since: SystemTime::now(),
            seen: watched.iter().map(|file| stamp(file)).collect(),
            watched,
            changed: None,
            broken: None,
            saved: false,
            next: None,
        };
        Reloader { file: loaded.file.clone(), state: Mutex::new(state), wanted: Notify::new() }
    }

    /// Reads and judges the file. Answers with what is different, or why it is not taken.
    ///
    /// # Errors
    /// The complaints, with file, line and column.
    pub fn look(&self) -> Result<Vec<String>, String> {
        let Some(file) = &self.file else {
            return Err("the drone was started without a configuration file".into());
        };
        // Before they are read: what is saved meanwhile is judged once more.
        let before = self.stamps();
        let loaded = config::load(Some(file), config::environment());
        let mut state = self.state();
        state.saved |= before.iter().skip(1).ne(state.seen.iter().skip(1));
        (state.seen, state.changed) = (before, None);
        if let Ok(loaded) = &loaded {
            let now = watched(Some(file), &loaded.text);
            if now != state.watched {
                state.seen = now.iter().map(|file| stamp(file)).collect();
                state.watched = now;
            }
        }
        match loaded {
            Ok(loaded) => {
                let mut differences = config::differences(&state.text, &loaded.text);
                state.broken = None;
                // The same text may name files of secrets with another content.
                if state.saved {
                    differences.push("a file of secrets was saved".into());
                }
                if differences.is_empty() {
                    info!("nothing is different in the configuration");
                    state.next = None;
                    return Ok(differences);
                }
                for difference in &differences {
                    info!(difference, "the configuration changes");
                }
                if differences.iter().all(|difference| is_logging(difference)) {
                    logging::apply(&loaded.config.log);
                    (state.text, state.since) = (loaded.text, SystemTime::now());
                    return Ok(differences);
                }
                state.next = Some(Next { loaded, files: state.saved });
                self.wanted.notify_one();
                Ok(differences)
            }
            Err(complaints) => {
                let text = complaints.to_string();
                error!(file = %file.display(), complaints = %text, "the configuration on disk is broken; the one before stays in force");
                state.broken = Some(text.clone());
                Err(text)
            }
        }
    }

    /// Looks whether the file was saved, and judges it when it has come to rest.
    pub fn poll(&self) {
        let now = self.stamps();
        {
            let mut state = self.state();
            if state.seen == now || now.first().is_none_or(Option::is_none) {
                state.changed = None;
                return;
            }
            match &state.changed {
                Some((then, since)) if *then == now && since.elapsed() >= AT_REST => {}
                Some((then, _)) if *then == now => return,
                _ => {
                    state.changed = Some((now, Instant::now()));
                    return;
                }
            }
        }
        let _ = self.look();
    }

    /// Waits for a configuration that is to come into force.
    pub async fn next(&self) -> Next {
        loop {
            if self.state().next.is_some() {
                tokio::time::sleep(ANSWER).await;
                if let Some(next) = self.state().next.take() {
                    return next;
                }
            }
            self.wanted.notified().await;
        }
    }

    /// It came into force.
    pub fn applied(&self, loaded: &Loaded) {
        let mut state = self.state();
        (state.text, state.since, state.saved) = (loaded.text.clone(), SystemTime::now(), false);
    }

    /// It could not be opened.
    pub fn refused(&self, why: String) {
        self.state().broken = Some(why);
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let watched = self.state().watched.clone();
        watched.iter().map(|file| stamp(file)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What no actor goes by.
fn is_logging(difference: &str) -> bool {
    difference.starts_with("log.")
}

/// The configuration, and the files of secrets that it names.
fn watched(file: Option<&Path>, text: &str) -> Vec<PathBuf> {
    let Some(file) = file else { return Vec::new() };
    [file.to_owned()].into_iter().chain(config::files(text)).collect()
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
}
