//! `FAILED_OFFLOADS` in the results directory, in the old offloader's format, for the scripts that read it.
//!
//! The ledger is the truth; the file is written whole and put in place at once, so that no reader sees half of it.
//! The format is that of reference A7.2, but for the address in its head.

use crate::ledger::JobRow;
use crate::tree::{Root, TreeError};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write;
use std::time::SystemTime;

/// The file's name.
pub const NAME: &str = "FAILED_OFFLOADS";

/// The file's text: every job that failed or was parked, sorted as text.
pub fn text(rows: &[JobRow], now: SystemTime, zone: &TimeZone) -> Option<String> {
    let failed = |row: &&JobRow| ["failed", "quarantined"].contains(&row.standing());
    let line = |row: &JobRow| {
        let (first, count) = (time(row.first_seen, zone), row.attempts.max(1));
        format!("{first:>19}  {count:>5}  {}\n", row.job)
    };
    let mut lines: Vec<String> = rows.iter().filter(failed).map(line).collect();
    if lines.is_empty() {
        return None;
    }
    lines.sort();
    Some(head(lines.len(), now, zone) + &lines.concat())
}

/// The text when nothing fails.
pub fn none(now: SystemTime, zone: &TimeZone) -> String {
    head(0, now, zone)
}

fn head(count: usize, now: SystemTime, zone: &TimeZone) -> String {
    let mut head = String::from("\nThis is the list of gs_offloader failed jobs.\n");
    let _ = writeln!(head, "Last offloader attempt at {} failed to offload {count} files.", time(now, zone));
    head.push_str("Run `dronekeeper jobs --state failed` to triage the issue\n\n\n");
    head.push_str("First failure       Count   Directory name\n");
    head.push_str("=================== ======  ==============================\n");
    head
}

/// Puts a text in the file's place.
///
/// # Errors
/// When the results directory cannot be written.
pub fn replace(root: &Root, text: &str) -> Result<(), TreeError> {
    root.replace_file(NAME, text.as_bytes())
}

fn time(at: SystemTime, zone: &TimeZone) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Incarnation, RelPath};
    use crate::ledger::JobState;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_list_is_as_scripts_know_it() {
        let row = |name: &[u8], attempts, state| JobRow {
            attempts,
            first_seen: UNIX_EPOCH + Duration::from_secs(1_400_000_000),
            state,
            ..JobRow::new(RelPath::new(name).unwrap(), Incarnation { dev: 1, ino: 1, born_ns: 0 }, "jobs")
        };
        let failed = || JobState::Failed { retry_at: UNIX_EPOCH };
        let mut rows = [
            row(b"9-z\nforged", 12, failed()),
            row(b"hosts/h1/7-reset", 0, JobState::Quarantined { reason: "x".into() }),
            row(b"1-a", 1, failed()),
            row(b"2-b", 1, JobState::Attempting),
        ];
        rows[2].state = JobState::Attempting;
        rows[2].last_error = Some("it failed, and is tried again".into());
        let text = text(&rows, UNIX_EPOCH, &TimeZone::UTC).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "This is the list of gs_offloader failed jobs.");
        assert_eq!(lines[2], "Last offloader attempt at 1970-01-01 00:00:00 failed to offload 3 files.");
        assert_eq!(lines[6], "First failure       Count   Directory name");
        assert_eq!(
            lines[8..],
            [
                "2014-05-13 16:53:20      1  1-a",
                "2014-05-13 16:53:20      1  hosts/h1/7-reset",
                "2014-05-13 16:53:20     12  9-z\\nforged",
            ]
        );
        assert_eq!(super::text(&rows[3..], UNIX_EPOCH, &TimeZone::UTC), None);
    }
}
