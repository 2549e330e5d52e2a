//! The log: where it goes, what is said in it, changed while the process runs.
//!
//! - `lines` one line per event that no name from outside can forge
//! - `journal` systemd's journal, entry by entry
//! - `sized` a file that is followed by another when it is large

mod journal;
mod lines;
mod sized;

use config::{Log, LogFormat, Rotate};
use journal::Journal;
use lines::{Lines, of_format};
use sized::Sized;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What may change while the process runs.
struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
    format: Arc<AtomicU8>,
    /// The command line says how much is logged.
    is_fixed: bool,
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

/// Begins to log to standard output, to a file or to the journal, through a thread of its own: a reader that stands
/// still holds up nobody, and loses the lines that do not fit into memory. What is left is written when the guard is
/// dropped.
///
/// # Errors
/// A sentence, when `level` cannot be read, the file not be made, or logging has begun already.
pub fn begin(manner: Manner<'_>, to: Option<&Log>) -> Result<WorkerGuard, String> {
    let (filter, handle) = reload::Layer::new(filter(manner.level)?);
    let to = to.and_then(|log| Some((log, log.file.as_deref()?)));
    let (lines, guard) = match (manner.format, to) {
        (LogFormat::Journald, _) => tracing_appender::non_blocking(Journal::open()?),
        (_, Some((log, file))) => match log.rotate {
            Rotate::Size(most) => tracing_appender::non_blocking(Sized::open(file, most.0, log.keep)?),
            Rotate::Daily => tracing_appender::non_blocking(rolling(log, file, Rotation::DAILY)?),
            Rotate::Hourly => tracing_appender::non_blocking(rolling(log, file, Rotation::HOURLY)?),
        },
        (_, None) => tracing_appender::non_blocking(std::io::stdout()),
    };
    let format = Arc::new(AtomicU8::new(of_format(manner.format)));
    let written = tracing_subscriber::fmt::layer()
        .event_format(Lines::new(format.clone(), manner.color && to.is_none()))
        .with_writer(lines);
    let log = tracing_subscriber::registry().with(filter).with(written);
    log.try_init().map_err(|error| error.to_string())?;
    let _ = RUNNING.set(Running { filter: handle, format, is_fixed: manner.is_fixed });
    Ok(guard)
}

/// Changes level and format as the configuration says now. To the journal and back needs a restart.
pub fn apply(log: &Log) {
    let Some(running) = RUNNING.get().filter(|running| !running.is_fixed) else { return };
    match filter(&log.level) {
        Ok(filter) => drop(running.filter.reload(filter)),
        Err(why) => tracing::error!(why, "the log's level stays as it was"),
    }
    let journal = of_format(LogFormat::Journald);
    if running.format.load(Relaxed) != journal && of_format(log.format) != journal {
        running.format.store(of_format(log.format), Relaxed);
    }
}

/// A single level is ours; what libraries do is their own affair until it is worth a warning.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let ours = ["dronekeeper", "actors", "kernel", "config"].map(|name| format!("{name}={level}")).join(",");
    let filter = if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,{ours}") };
    EnvFilter::try_new(filter).map_err(|error| format!("log.level `{level}`: {error}"))
}

/// A file that is followed by another one in time: `NAME.DATE.log`, and `NAME.log` that leads to the newest.
fn rolling(log: &Log, file: &Path, rotation: Rotation) -> Result<RollingFileAppender, String> {
    let (dir, stem, ending) = parts(file)?;
    let rolling =
        RollingFileAppender::builder().rotation(rotation).filename_prefix(stem).filename_suffix(ending);
    let rolling = rolling.latest_symlink(format!("{stem}.{ending}")).max_log_files(log.keep).build(dir);
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
