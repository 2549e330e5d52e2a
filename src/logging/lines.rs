//! One line per event, in text, in JSON or for the journal, that no name from outside can forge.
//!
//! Every message and every field goes through the one escape, whatever its call site did. A line that is said again and
//! again is written once, and then how often it was said.

use actors::shown::Shown;
use config::LogFormat;
use jiff::Timestamp;
use std::fmt::{self, Debug, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// While a line is said again and again, how often is written after so long.
const FOLD: Duration = Duration::from_secs(30);

/// How lines are written, and the last of them.
pub struct Lines {
    style: Arc<Style>,
    repeated: Mutex<Repeated>,
}

/// How lines are written; it may change.
pub struct Style {
    format: AtomicU8,
    color: AtomicBool,
}

impl Style {
    /// In this format, levels in colour or not.
    pub fn new(format: LogFormat, color: bool) -> Self {
        Style { format: AtomicU8::new(of_format(format)), color: AtomicBool::new(color) }
    }

    /// From now on.
    pub fn change(&self, format: LogFormat, color: bool) {
        self.format.store(of_format(format), Relaxed);
        self.color.store(color, Relaxed);
    }

    /// The format.
    pub fn format(&self) -> LogFormat {
        match self.format.load(Relaxed) {
            1 => LogFormat::Json,
            2 => LogFormat::Journald,
            _ => LogFormat::Text,
        }
    }
}

/// The last line, without its time.
#[derive(Default)]
struct Repeated {
    said: String,
    /// So often it was said again, since it was last written.
    times: u32,
    written: Option<Instant>,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Fold {
    Write,
    /// The line before was said so often again.
    WriteAfter(u32),
    /// It was said so often again, for long.
    Summary(u32),
    Drop,
}

impl Repeated {
    fn hear(&mut self, said: &str, now: Instant) -> Fold {
        let is_long_ago = self.written.is_none_or(|written| now.duration_since(written) >= FOLD);
        if self.said != said {
            let times = std::mem::take(&mut self.times);
            (self.said, self.written) = (said.to_owned(), Some(now));
            return if times == 0 { Fold::Write } else { Fold::WriteAfter(times) };
        }
        self.times += 1;
        if !is_long_ago {
            return Fold::Drop;
        }
        self.written = Some(now);
        Fold::Summary(std::mem::take(&mut self.times))
    }
}

impl Lines {
    /// Lines in that style.
    pub fn new(style: Arc<Style>) -> Self {
        Lines { style, repeated: Mutex::default() }
    }

    fn line(&self, said: &Said, time: Timestamp, level: Level, target: &str) -> String {
        match self.style.format() {
            LogFormat::Text => {
                let time = time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
                said.text(&time, &shaded(level, self.style.color.load(Relaxed)))
            }
            LogFormat::Json => said.json(&time.to_string(), level.as_str(), target),
            LogFormat::Journald => said.journal(level, target),
        }
    }
}

/// The number of a format.
fn of_format(format: LogFormat) -> u8 {
    match format {
        LogFormat::Text => 0,
        LogFormat::Json => 1,
        LogFormat::Journald => 2,
    }
}

fn shaded(level: Level, color: bool) -> String {
    let code = match level {
        Level::ERROR => "1;31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => "2",
    };
    match color {
        true => format!("\u{1b}[{code}m{:<5}\u{1b}[0m", level.as_str()),
        false => format!("{:<5}", level.as_str()),
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let (time, meta) = (Timestamp::now(), event.metadata());
        let (level, target) = (*meta.level(), meta.target());
        let plain = said.text("", level.as_str());
        let fold = self.repeated.lock().unwrap_or_else(PoisonError::into_inner).hear(&plain, Instant::now());
        let again = |times: u32| {
            let message = format!("the line before was said {times} times more");
            self.line(&Said { message, fields: Vec::new() }, time, level, target)
        };
        match fold {
            Fold::Drop => Ok(()),
            Fold::Summary(times) => writeln!(to, "{}", again(times)),
            Fold::WriteAfter(times) => {
                // The journal takes one entry at a time, and folds by itself.
                if self.style.format() != LogFormat::Journald {
                    writeln!(to, "{}", again(times))?;
                }
                writeln!(to, "{}", self.line(&said, time, level, target))
            }
            Fold::Write => writeln!(to, "{}", self.line(&said, time, level, target)),
        }
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
        let mut line = format!("{time} {level} {}", self.message);
        for (name, value) in &self.fields {
            let quoted = value.is_empty() || value.contains([' ', '=']);
            let _ =
                if quoted { write!(line, " {name}=\"{value}\"") } else { write!(line, " {name}={value}") };
        }
        line
    }

    /// The journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a field on each line, none of more than one.
    fn journal(&self, level: Level, target: &str) -> String {
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let message = self.text("", "");
        let mut entry = format!(
            "PRIORITY={priority}\nSYSLOG_IDENTIFIER=dronekeeper\nTARGET={target}\nMESSAGE={}",
            message.trim()
        );
        for (name, value) in &self.fields {
            let _ = write!(entry, "\nDRONEKEEPER_{}={value}", name.to_ascii_uppercase().replace('.', "_"));
        }
        entry
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
            .event_format(Lines::new(Arc::new(Style::new(format, false))))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_hostile_value_stays_on_its_line_in_every_format() {
        let hostile = "1-a\n2026-01-01 ERROR forged \x1b[2J\u{9b}1m\u{202e}\r\u{7f}";
        for (format, lines) in [(LogFormat::Text, 1), (LogFormat::Json, 1), (LogFormat::Journald, 7)] {
            let log = logged(format, || {
                tracing::info!(display = %hostile, debug = ?hostile, text = hostile, "{hostile}");
            });
            assert_eq!(log.matches('\n').count(), lines, "{log}");
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

    #[test]
    fn a_line_that_is_said_again_and_again_is_written_once_with_its_count() {
        let log = logged(LogFormat::Text, || {
            for job in ["a", "a", "a", "b", "a"] {
                tracing::warn!(job, "failed");
            }
        });
        let lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        let expected = [
            "WARN  failed job=a",
            "WARN  the line before was said 2 times more",
            "WARN  failed job=b",
            "WARN  failed job=a",
        ];
        assert_eq!(lines, expected);
        let (mut repeated, begun) = (Repeated::default(), Instant::now());
        let heard: Vec<Fold> = [0, 10, 20, 31, 40]
            .map(|seconds| repeated.hear("x", begun + Duration::from_secs(seconds)))
            .into();
        assert_eq!(heard, [Fold::Write, Fold::Drop, Fold::Drop, Fold::Summary(3), Fold::Drop]);
    }

    #[test]
    fn the_journal_gets_fields() {
        let entry = logged(LogFormat::Journald, || tracing::error!(job = %"1-a", "upload failed"));
        for field in ["PRIORITY=3\n", "MESSAGE=upload failed job=1-a\n", "DRONEKEEPER_JOB=1-a\n", "TARGET="] {
            assert!(entry.contains(field), "{entry}");
        }
    }
}
