//! One line per event, in text or JSON, that no name from outside can forge.
//!
//! Every message and every field goes through the one escape, whatever its call site did.

use actors::shown::Shown;
use config::{Log, LogFormat, Rotate};
use jiff::Timestamp;
use std::fmt::{self, Debug, Write};
use std::path::Path;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Begins to log to standard output or to a file, through a thread of its own: a reader that stands still holds up
/// nobody, and loses the lines that do not fit into memory. What is left is written when the guard is dropped. `level`
/// is a level, or levels per target.
///
/// # Errors
/// A sentence, when `level` cannot be read, the file not be made, or logging has begun already.
pub fn begin(format: LogFormat, level: &str, to: Option<&Log>) -> Result<WorkerGuard, String> {
    // A single level is ours; what libraries do is their own affair until it is worth a warning.
    let ours = ["dronekeeper", "actors", "kernel", "config"].map(|name| format!("{name}={level}")).join(",");
    let filter = if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,{ours}") };
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log.level `{level}`: {error}"))?;
    let (lines, guard) = match to.and_then(|log| Some((log, log.file.as_deref()?))) {
        Some((log, file)) => tracing_appender::non_blocking(rolling(log, file)?),
        None => tracing_appender::non_blocking(std::io::stdout()),
    };
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).event_format(Lines(format)).with_writer(lines);
    log.try_init().map_err(|error| error.to_string())?;
    Ok(guard)
}

/// A file that is followed by another one in time: `NAME.DATE.log`, and `NAME.log` that leads to the newest.
fn rolling(log: &Log, file: &Path) -> Result<RollingFileAppender, String> {
    let failed = |why: &dyn std::fmt::Display| format!("log.file `{}`: {why}", file.display());
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed(&"is no file's name"))?;
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, "log"));
    if file.symlink_metadata().is_ok_and(|there| !there.is_symlink()) {
        return Err(failed(&"is there, and no link to the newest log: move it away"));
    }
    let rotation = match log.rotate {
        Rotate::Daily => Rotation::DAILY,
        Rotate::Hourly => Rotation::HOURLY,
    };
    let rolling =
        RollingFileAppender::builder().rotation(rotation).filename_prefix(stem).filename_suffix(ending);
    rolling.latest_symlink(name).max_log_files(log.keep).build(dir).map_err(|error| failed(&error))
}

struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let (time, meta) = (Timestamp::now(), event.metadata());
        let line = match self.0 {
            LogFormat::Text => {
                said.text(&time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(), meta.level().as_str())
            }
            LogFormat::Json => said.json(&time.to_string(), meta.level().as_str(), meta.target()),
        };
        writeln!(to, "{line}")
    }
}

/// What an event says: its message and its fields, escaped.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Said {
    fn add(&mut self, field: &Field, value: &str) {
        // What was escaped at its source is not escaped again: a backslash is the one character that changes.
        let shown = if is_harmless(value) { value.to_owned() } else { Shown::text(value).to_string() };
        match field.name() {
            "message" => self.message = shown,
            name => self.fields.push((name, shown)),
        }
    }

    fn text(&self, time: &str, level: &str) -> String {
        let mut line = format!("{time} {level:<5} {}", self.message);
        for (name, value) in &self.fields {
            let quoted = value.is_empty() || value.contains([' ', '=']);
            let _ =
                if quoted { write!(line, " {name}=\"{value}\"") } else { write!(line, " {name}={value}") };
        }
        line
    }

    fn json(&self, time: &str, level: &str, target: &str) -> String {
        let mut object = serde_json::Map::new();
        for (name, value) in
            [("timestamp", time), ("level", level), ("target", target), ("message", &self.message)]
        {
            object.insert(name.into(), value.into());
        }
        for (name, value) in &self.fields {
            let number = value.parse::<i64>().ok().map(serde_json::Value::from);
            object.insert((*name).into(), number.unwrap_or_else(|| value.as_str().into()));
        }
        serde_json::Value::Object(object).to_string()
    }
}

/// One line of characters that only stand for themselves.
fn is_harmless(text: &str) -> bool {
    text.len() <= 4096
        && text.chars().all(|c| matches!(c, '\\' | '"' | '\'') || c.escape_debug().count() == 1)
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Lines(format))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_hostile_value_stays_on_its_line_in_every_format() {
        let hostile = "1-a\n2026-01-01 ERROR forged \x1b[2J\u{9b}1m\u{202e}\r\u{7f}";
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = logged(format, || {
                tracing::info!(display = %hostile, debug = ?hostile, text = hostile, "{hostile}");
            });
            assert_eq!(log.matches('\n').count(), 1, "{log}");
            let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!log.chars().any(harmful), "{log:?}");
        }
    }

    #[test]
    fn fields_can_be_found_by_people_and_machines() {
        let log = |format| {
            logged(format, || tracing::warn!(job = %"1-a", attempt = 2, error = "no room", "attempt failed"))
        };
        let text = log(LogFormat::Text);
        assert!(text.ends_with("WARN  attempt failed job=1-a attempt=2 error=\"no room\"\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&log(LogFormat::Json)).unwrap();
        assert_eq!(
            (&json["job"], &json["attempt"], &json["level"]),
            (&"1-a".into(), &2.into(), &"WARN".into())
        );
    }
}
