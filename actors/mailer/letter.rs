//! What a mail says: its subject and its text.
//!
//! Whatever comes from outside goes through [`Shown`]: one line, without control characters.

use super::incidents::{Event, News};
use crate::ledger::{JobRow, JobState};
use crate::shown::Shown;
use jiff::Timestamp;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// The widest line that is ours, in columns.
const WIDTH: usize = 78;
/// The longest subject, in characters.
const SUBJECT: usize = 150;
/// So many directories are listed.
const ROWS: usize = 50;
/// So many problems of one kind are listed.
const TEXTS: usize = 20;

/// A directory that the trouble is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Affected {
    /// When its first attempt began.
    pub first: SystemTime,
    /// Attempts so far.
    pub attempts: u32,
    /// The directory, shown.
    pub job: String,
    /// What the last attempt met, shown.
    pub error: String,
}

impl Affected {
    /// The directories that trouble of this kind is about, oldest first; for most kinds there are none.
    pub fn of(kind: &str, jobs: &[JobRow]) -> Vec<Affected> {
        let state = match kind {
            "failed" => "failed",
            "quarantine" => "quarantined",
            _ => return Vec::new(),
        };
        let affected = jobs.iter().filter(|row| row.standing() == state).map(|row| {
            let error = match (&row.state, &row.last_error) {
                (JobState::Quarantined { reason }, None) => reason,
                (_, error) => error.as_deref().unwrap_or("unknown"),
            };
            let (job, error) = (row.job.to_string(), Shown::text(error).to_string());
            Affected { first: row.first_seen, attempts: row.attempts, job, error }
        });
        let mut affected: Vec<Affected> = affected.collect();
        affected.sort_by_key(|row| row.first);
        affected
    }
}

/// The subject: which drone, and the first of its troubles.
pub fn subject(news: &News, drone: &str) -> String {
    let (drone, first) = (Shown::text(drone), news.incident.text.lines().next().unwrap_or_default());
    let level = if news.event == Event::Over { "OK" } else { "WARN" };
    let more = match news.incident.text.lines().count() {
        0 | 1 => String::new(),
        lines => format!(" (and {} more)", lines - 1),
    };
    let over = if news.event == Event::Over { "over: " } else { "" };
    cut(&format!("[dronekeeper][{level}] {drone}: {over}{}{more}", Shown::text(first)), SUBJECT)
}

/// The text. `digest` is the time between two mails of one kind.
pub fn body(news: &News, drone: &str, affected: &[Affected], digest: Duration) -> String {
    let (incident, drone, mut out) = (&news.incident, Shown::text(drone).to_string(), String::new());
    if news.event == Event::Over {
        wrap(&mut out, "", &format!("This is over on {drone}:"));
    }
    let texts = || incident.text.lines().map(|line| Shown::text(line).to_string());
    texts().take(TEXTS).for_each(|text| wrap(&mut out, "", &text));
    more(&mut out, texts().count(), TEXTS);
    wrap(&mut out, "", "No result is lost: what the store has not proved to hold stays on the drone.");
    out.push('\n');
    let _ = writeln!(out, "Drone      {drone}");
    let until = incident.over.or(incident.mailed).unwrap_or(incident.since);
    let lasted = span(until.duration_since(incident.since).unwrap_or_default());
    match incident.over {
        Some(over) => {
            let _ = writeln!(out, "Lasted     {} to {} ({lasted})", date(incident.since), date(over));
        }
        None => {
            let _ = writeln!(out, "Since      {} ({lasted})", date(incident.since));
        }
    }
    if incident.counted > 0 {
        let _ = writeln!(out, "Counted    {} similar events since the last mail", incident.counted);
    }
    if !affected.is_empty() {
        let _ = writeln!(out, "\nFirst attempt            Attempts  Directory, and its last error");
        for Affected { first, attempts, job, error } in affected.iter().take(ROWS) {
            let _ = writeln!(out, "{:<23}  {attempts:>8}  {job}", date(*first));
            wrap(&mut out, "    ", error);
        }
        more(&mut out, affected.len(), ROWS);
    }
    if !news.hints.is_empty() {
        let _ = writeln!(out, "\nWhat you can do");
        for hint in &news.hints {
            let ssh = if hint.starts_with("dronekeeper ") { format!("ssh {drone} ") } else { String::new() };
            let _ = writeln!(out, "  {ssh}{}", Shown::text(hint));
        }
    }
    if news.event != Event::Over {
        out.push('\n');
        let next = span(digest);
        wrap(&mut out, "", &format!("Next mail about this: when it is over, or in {next} at the earliest."));
    }
    out
}

/// Cuts a text to so many characters.
pub fn cut(text: &str, most: usize) -> String {
    match text.chars().count() {
        count if count <= most => text.to_owned(),
        _ => text.chars().take(most - 3).chain("...".chars()).collect(),
    }
}

fn more(out: &mut String, count: usize, listed: usize) {
    if count > listed {
        let _ = writeln!(out, "… and {} more", count - listed);
    }
}

/// Writes a text in lines that are not too wide; a longer word has a line of its own.
fn wrap(out: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{indent}{line}");
}

fn date(time: SystemTime) -> String {
    let time = Timestamp::try_from(time);
    time.map_or_else(|_| "unknown".into(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A length of time in its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
