//! The log: where it goes, what is said in it, changed while the process runs.
//!
//! - `lines` one line per event that no name from outside can forge
//! - `journal` systemd's journal, entry by entry
//! - `place` where lines go, which may become another
//! - `sized` a file that is followed by another when it is large

mod journal;
mod lines;
mod place;
mod sized;

use config::{Log, LogFormat};
use lines::{Lines, Style};
use place::{Place, Where};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What may change while the process runs.
struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
    style: Arc<Style>,
    place: Place,
    /// The command line says how much is logged, and how.
    is_fixed: bool,
    /// The process may write the configuration's file.
    has_file: bool,
    /// Levels in colour, where people look.
    color: bool,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// How a process logs.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// Text, JSON, the journal.
    pub format: LogFormat,
    /// A level, or levels per target.
    pub level: &'a str,
    /// The level and the format are the command line's: a reload does not change them.
    pub is_fixed: bool,
    /// Levels in colour.
    pub color: bool,
}

/// What is on its way is written when this is dropped.
pub struct Guard(Place);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Begins to log to standard output, to a file or to the journal, through a thread of its own: a reader that stands
/// still holds up nobody, and loses the lines that do not fit into memory.
///
/// # Errors
/// A sentence, when `level` cannot be read, the file not be made, or logging has begun already.
pub fn begin(manner: Manner<'_>, to: Option<&Log>) -> Result<Guard, String> {
    let Manner { format, is_fixed, color, .. } = manner;
    let (filter, handle) = reload::Layer::new(filter(manner.level)?);
    let place = Place::open(Where::of(format, to))?;
    let style = Arc::new(Style::new(format, color && place.is_stdout()));
    let written =
        tracing_subscriber::fmt::layer().event_format(Lines::new(style.clone())).with_writer(place.clone());
    let log = tracing_subscriber::registry().with(filter).with(written);
    log.try_init().map_err(|error| error.to_string())?;
    let (guard, has_file) = (Guard(place.clone()), to.is_some());
    let _ = RUNNING.set(Running { filter: handle, style, place, is_fixed, has_file, color });
    Ok(guard)
}

/// Changes level, format and place as the configuration says now.
pub fn apply(log: &Log) {
    let Some(running) = RUNNING.get() else { return };
    if !running.is_fixed {
        match filter(&log.level) {
            Ok(filter) => drop(running.filter.reload(filter)),
            Err(why) => tracing::error!(why, "the log's level stays as it was"),
        }
    }
    let format = if running.is_fixed { running.style.format() } else { log.format };
    match running.place.change(Where::of(format, running.has_file.then_some(log))) {
        Ok(()) => running.style.change(format, running.color && running.place.is_stdout()),
        Err(why) => tracing::error!(why, "the log stays where it was"),
    }
}

/// A single level is ours; what libraries do is their own affair until it is worth a warning.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let ours = ["dronekeeper", "actors", "kernel", "config"].map(|name| format!("{name}={level}")).join(",");
    let filter = if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,{ours}") };
    EnvFilter::try_new(filter).map_err(|error| format!("log.level `{level}`: {error}"))
}

/// A file that is followed by another one in time: `NAME.DATE.log`, and `NAME.log` that leads to the newest.
fn rolling(keep: usize, file: &Path, rotation: Rotation) -> Result<RollingFileAppender, String> {
    let (dir, stem, ending) = parts(file)?;
    std::fs::create_dir_all(dir).map_err(|error| format!("log.file `{}`: {error}", file.display()))?;
    let rolling =
        RollingFileAppender::builder().rotation(rotation).filename_prefix(stem).filename_suffix(ending);
    let rolling = rolling.latest_symlink(format!("{stem}.{ending}")).max_log_files(keep).build(dir);
    rolling.map_err(|error| format!("log.file `{}`: {error}", file.display()))
}

/// Directory, name and ending of a log; its name must be free for a link.
fn parts(file: &Path) -> Result<(&Path, &str, &str), String> {
    let failed = |why: &str| format!("log.file `{}`: {why}", file.display());
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed("is no file's name"))?;
    let Some((stem, ending)) = name.rsplit_once('.') else {
        return Err(failed("needs an ending: write for example dronekeeper.log"));
    };
    if file.symlink_metadata().is_ok_and(|there| !there.is_symlink()) {
        return Err(failed("is there, and no link to the newest log: move it away"));
    }
    Ok((dir, stem, ending))
}
