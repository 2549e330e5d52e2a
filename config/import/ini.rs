//! Reads ini files as Autotest does: with the rules of Python 2's `ConfigParser`, a later file over an earlier.
//!
//! The rules are that parser's, its oddities included, for what a site runs on is what it read and not what
//! was meant. `%(name)s` is the exception: nothing is replaced here.

use super::shown;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

/// What every section has unless it says otherwise.
const DEFAULT: &str = "DEFAULT";

/// One key as a file sets it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub section: String,
    /// In lower case: keys are the same in any.
    pub key: String,
    pub value: String,
    /// File and line, fit to be printed.
    pub place: String,
}

impl Entry {
    /// The value without the space around it.
    pub fn text(&self) -> &str {
        self.value.trim_matches(space)
    }

    /// Everything but `false` is true.
    pub fn truth(&self) -> bool {
        !self.text().eq_ignore_ascii_case("false")
    }
}

/// A file that cannot be read as an ini file; nothing of it is used. Lines are named and not shown: a secret may be in them.
#[derive(Debug, thiserror::Error)]
pub struct IniError {
    file: PathBuf,
    faults: Vec<(usize, &'static str)>,
}

impl Display for IniError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let file = shown(&self.file.to_string_lossy());
        for (number, (line, why)) in self.faults.iter().enumerate() {
            let separator = if number > 0 { "\n" } else { "" };
            write!(f, "{separator}error: {file}:{line}: {why}")?;
        }
        Ok(())
    }
}

/// Sections of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ini {
    sections: BTreeMap<String, BTreeMap<String, Entry>>,
    defaults: BTreeMap<String, Entry>,
}

impl Ini {
    /// Reads one file's text.
    pub fn parse(file: &Path, text: &str) -> Result<Ini, IniError> {
        let (mut ini, mut faults) = (Ini::default(), Vec::new());
        let (mut section, mut last): (Option<String>, Option<String>) = (None, None);
        for (number, line) in (1..).zip(text.split('\n')) {
            if is_comment(line) {
                continue;
            }
            if let (Some(section), Some(key), true) = (&section, &last, line.starts_with(space)) {
                if let Some(entry) = ini.section(section).get_mut(key) {
                    entry.value.push('\n');
                    entry.value.push_str(line.trim_matches(space));
                }
                continue;
            }
            if let Some(name) = header(line) {
                ini.section(name);
                (section, last) = (Some(name.to_owned()), None);
                continue;
            }
            let Some(section) = &section else {
                faults.push((number, "stands before the first `[section]`"));
                break;
            };
            let Some((key, value)) = option(line) else {
                faults.push((number, "is neither `[section]` nor `key = value`"));
                continue;
            };
            let place = format!("{}:{number}", shown(&file.to_string_lossy()));
            let entry = Entry { section: section.clone(), key: key.clone(), value: value.to_owned(), place };
            ini.section(section).insert(key.clone(), entry);
            last = Some(key);
        }
        if faults.is_empty() { Ok(ini) } else { Err(IniError { file: file.to_owned(), faults }) }
    }

    fn section(&mut self, name: &str) -> &mut BTreeMap<String, Entry> {
        if name == DEFAULT { &mut self.defaults } else { self.sections.entry(name.to_owned()).or_default() }
    }

    /// Sets each key that `over` has, blank ones too: so does the original, and a blank hides what was below.
    pub fn overlay(&mut self, over: Ini) {
        for (name, keys) in over.sections {
            let own = self.section(&name);
            for mut entry in over.defaults.values().cloned().chain(keys.into_values()) {
                entry.section.clone_from(&name);
                own.insert(entry.key.clone(), entry);
            }
        }
    }

    /// A key's entry, its own section's or else that of `DEFAULT`; a blank value counts as missing.
    pub fn get(&self, section: &str, key: &str) -> Option<&Entry> {
        let own = self.sections.get(section)?;
        own.get(key).or_else(|| self.defaults.get(key)).filter(|entry| !entry.text().is_empty())
    }

    /// Every key that a section sets itself and that is not blank.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let all = self.sections.values().chain([&self.defaults]);
        all.flat_map(BTreeMap::values).filter(|entry| !entry.text().is_empty())
    }
}

/// What Python 2 takes for space.
pub(super) fn space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Blank, or begins with `#`, `;` or the word `rem`. An indented `#` is none: it continues the value above.
fn is_comment(line: &str) -> bool {
    let word = line.split(space).next().unwrap_or_default();
    line.trim_matches(space).is_empty() || line.starts_with(['#', ';']) || word.eq_ignore_ascii_case("rem")
}

/// The name in `[name]`; what follows the bracket is ignored.
fn header(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.split_once(']')?;
    Some(name).filter(|name| !name.is_empty())
}

/// Key and value of `key = value` or `key: value`.
fn option(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.split_once([':', '='])?;
    let sound = !key.is_empty() && !key.starts_with(space);
    let value = without_comment(value.trim_start_matches(space)).trim_matches(space);
    let value = if value == "\"\"" { "" } else { value };
    sound.then(|| (key.trim_end_matches(space).to_ascii_lowercase(), value))
}

/// Cuts off a comment that the first `;` begins, which is so when space goes before it.
fn without_comment(value: &str) -> &str {
    let Some((before, _)) = value.split_once(';') else { return value };
    // Nothing goes before a `;` at the start, and Python looks at the last character instead.
    let neighbour = if before.is_empty() { value } else { before };
    if neighbour.ends_with(space) { before } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Ini {
        Ini::parse(Path::new("a.ini"), text).unwrap()
    }

    fn value(text: &str) -> Option<String> {
        read(text).get("S", "k").map(|entry| entry.value.clone())
    }

    #[test]
    fn keys_are_the_same_in_any_case_and_sections_are_not() {
        let ini = read("[S]\nKey One : v\n[s]\nk = other\n[S]\nk=1\n");
        assert_eq!(ini.get("S", "key one").unwrap().value, "v");
        assert_eq!(ini.get("S", "k").unwrap().value, "1", "a section may come twice");
        assert_eq!(ini.get("s", "k").unwrap().place, "a.ini:4");
    }

    /// The right sides were taken from Python 2.7.18.
    #[test]
    fn values_are_those_that_python_reads() {
        for (text, expected) in [
            ("[S]\nk = a b  \n", Some("a b")),
            ("[S]\nk: a=b:c\n", Some("a=b:c")),
            ("[S]\r\nk = a\r\n", Some("a")),
            ("[S] # more\nk = a # b\n", Some("a # b")),
            ("[S]\nk = a ; b\n", Some("a")),
            ("[S]\nk = a;b ;c\n", Some("a;b ;c")),
            ("[S]\nk = ; b\n", Some("; b")),
            ("[S]\nk = \"\"\n", None),
            ("[S]\nk = \"a\"\n", Some("\"a\"")),
            ("[S]\nk = a\n  b\n\n# note\n\tc = d\n", Some("a\nb\nc = d")),
            ("[S]\nk = a\n # b\n", Some("a\n# b")),
            ("[S]\nk =\n  a\n", Some("\na")),
            ("[S]\nk = a\nk = b\n", Some("b")),
            ("[S]\nk = a\nrem k = b\nREM\n;k = c\n", Some("a")),
            ("[S]\nk = %(x)s %s\n", Some("%(x)s %s")),
            ("[DEFAULT]\nk = a\n[S]\n", Some("a")),
            ("[DEFAULT]\nk = a\n", None),
            ("[S]\nk =   \n", None),
            ("", None),
        ] {
            assert_eq!(value(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn every_line_that_is_no_ini_is_named() {
        let said = |text| Ini::parse(Path::new("a\n.ini"), text).unwrap_err().to_string();
        assert_eq!(said("# x\nk = 1\nk = 2\n"), "error: a\\n.ini:2: stands before the first `[section]`");
        let both = said("[S]\nsmtp_password hunter2\nk = 1\n[]\n = x\n");
        assert!(both.contains("ini:2: is neither") && both.contains("ini:4:"), "{both}");
        assert!(!both.contains("hunter2"));
        assert!(said("[S]\n k = x\n").contains("ini:2:"), "an indented first line continues nothing");
    }

    #[test]
    fn the_later_file_wins_and_its_blank_hides() {
        let mut ini = read("[S]\na = 1\nb = 2\nc = 3\n[T]\na = 1\n");
        ini.overlay(Ini::parse(Path::new("b.ini"), "[DEFAULT]\nd = 4\n[S]\nB = 5\nc =\n[U]\n").unwrap());
        assert_eq!(ini.get("S", "a").unwrap().place, "a.ini:2");
        let over = ini.get("S", "b").unwrap();
        assert_eq!((over.value.as_str(), over.place.as_str()), ("5", "b.ini:4"));
        assert_eq!(ini.get("S", "c"), None);
        assert_eq!((ini.get("S", "d").unwrap().text(), ini.get("T", "d")), ("4", None));
        assert_eq!(ini.get("U", "d").unwrap().section, "U");
    }

    #[test]
    fn everything_but_false_is_true() {
        let truth = |text: &str| read(&format!("[S]\nk = {text}\n")).get("S", "k").unwrap().truth();
        assert!(truth("True") && truth("0") && truth("no") && truth("falsey"));
        assert!(!truth("false") && !truth("FALSE") && !truth("False "));
    }
}
