//! What could not be carried over, and how it is said.

use super::ini::Entry;
use super::shown;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Longest value that is shown whole, in characters.
const LONGEST: usize = 160;

/// Who has to do something about a key that was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A person has to decide or to do something.
    ByHand,
    /// Nobody: what the key asked for is always done, or is not dronekeeper's part.
    Moot,
}

/// A key that was not carried over. All texts are fit to be printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// File and line.
    pub place: String,
    /// Its section.
    pub section: String,
    /// Its name.
    pub key: String,
    /// Its value in quotes, or `[redacted]`.
    pub value: String,
    /// Who has to do something.
    pub fate: Fate,
    /// Why it was left, and what to do.
    pub why: String,
}

impl Left {
    pub(super) fn new(entry: &Entry, fate: Fate, why: &str) -> Self {
        Left {
            place: entry.place.clone(),
            section: shown(&entry.section),
            key: shown(&entry.key),
            value: value(entry),
            fate,
            why: shown(why),
        }
    }
}

/// The value as it may be shown: secrets are not, and neither is what might hold a name and a password.
fn value(entry: &Entry) -> String {
    let words = ["password", "passwd", "secret", "token", "credential", "api_key", "private"];
    let address = entry.key.starts_with("notify_email");
    let text = entry.text();
    if words.iter().any(|word| entry.key.contains(word)) || (text.contains('@') && !address) {
        return "[redacted]".into();
    }
    let short: String = text.chars().take(LONGEST).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", shown(&short).replace('"', "\\\""))
}

/// The comment block at the end of the TOML. `others` counts the keys of each section that are not ours.
pub(super) fn block(left: &[Left], others: &BTreeMap<&str, usize>) -> String {
    let mut text = String::new();
    for (fate, title) in
        [(Fate::ByHand, "Not carried over, to be done by hand"), (Fate::Moot, "Not needed any more")]
    {
        let mut some = left.iter().filter(|left| left.fate == fate).peekable();
        if some.peek().is_some() {
            let _ = writeln!(text, "\n# {title}:");
        }
        for Left { place, section, key, value, why, .. } in some {
            let _ = writeln!(text, "#   {place}: [{section}] {key} = {value}\n#       {why}");
        }
    }
    if !others.is_empty() {
        let _ = writeln!(text, "\n# Keys that concern other parts of Autotest:");
    }
    for (section, count) in others {
        let _ = writeln!(text, "#   [{}] {count}", shown(section));
    }
    text
}
