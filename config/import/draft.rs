//! The configuration as it grows: a key is taken only if the whole is still accepted with it.

use super::ini::Entry;
use super::shown;
use crate::load;
use std::fmt::Write;
use toml::{Table, Value};

/// The order of the sections; the lanes come before the hub.
const SECTIONS: [&str; 5] = ["drone", "results", "store", "hub", "mail"];

/// A key of ours with its value, and where that is from.
#[derive(Clone, Debug)]
pub(super) struct Key {
    section: &'static str,
    key: &'static str,
    value: Value,
    note: String,
}

impl Key {
    pub fn new(section: &'static str, key: &'static str, value: impl Into<Value>, note: String) -> Self {
        Key { section, key, value: value.into(), note }
    }

    /// `key = value  # note`. TOML's own writer quotes the value, which may take several lines.
    fn line(&self) -> String {
        format!("{} = {}  # {}", self.key, self.value, shown(&self.note))
    }
}

/// The names of keys, as a note.
pub(super) fn from(entries: &[&Entry]) -> String {
    let names: Vec<String> =
        entries.iter().map(|entry| format!("[{}] {}", entry.section, entry.key)).collect();
    names.join(", ")
}

/// The keys taken so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    keys: Vec<Key>,
    remarks: Vec<Key>,
    lists: Vec<(&'static str, Table, String)>,
}

impl Draft {
    /// Takes some keys, all or none.
    ///
    /// # Errors
    /// Why this version would not accept the configuration with them, in one line.
    pub fn take(&mut self, keys: Vec<Key>) -> Result<(), String> {
        let before = self.keys.len();
        self.keys.extend(keys);
        load::parse(&self.text(), None, &[]).map(drop).map_err(|error| {
            self.keys.truncate(before);
            error.brief()
        })
    }

    /// Takes some entries of a list of sections, all or none; `note` says where they are from.
    ///
    /// # Errors
    /// As [`Draft::take`].
    pub fn take_list(
        &mut self,
        section: &'static str,
        entries: Vec<Table>,
        note: &str,
    ) -> Result<(), String> {
        let before = self.lists.len();
        self.lists.extend(entries.into_iter().map(|entry| (section, entry, note.to_owned())));
        load::parse(&self.text(), None, &[]).map(drop).map_err(|error| {
            self.lists.truncate(before);
            error.brief()
        })
    }

    /// Shows a key as a comment, for a person to take; one that needs several lines is not shown.
    pub fn remark(&mut self, key: Key) {
        if !key.line().contains('\n') {
            self.remarks.push(key);
        }
    }

    pub fn has(&self, section: &str, key: &str) -> bool {
        self.keys.iter().any(|own| own.section == section && own.key == key)
    }

    /// The TOML.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let list = |wanted: &str| -> String {
            let own = self.lists.iter().filter(|(section, ..)| *section == wanted);
            let lines = |table: &Table| -> String {
                table.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
            };
            own.map(|(_, table, note)| format!("\n[[{wanted}]]  # {}\n{}", shown(note), lines(table)))
                .collect()
        };
        for section in SECTIONS {
            if section == "hub" {
                text.push_str(&lanes(self.has("hub", "url")));
                text.push_str(&list("route"));
            }
            let of = |keys: &[Key], mark: &str| -> Vec<String> {
                let own = keys.iter().filter(|key| key.section == section);
                own.map(|key| format!("{mark}{}\n", key.line())).collect()
            };
            let lines = [of(&self.keys, ""), of(&self.remarks, "# ")].concat();
            if !lines.is_empty() {
                let _ = write!(text, "\n[{section}]\n{}", lines.concat());
            }
        }
        text + &list("notify")
    }
}

/// The three kinds of directory that the old offloader knew.
fn lanes(hub: bool) -> String {
    let (completion, note) = match hub {
        true => ("hub", "the AFE says when they have finished, as it did"),
        false => ("marker", "write \"hub\" when `hub.url` is set; until then only marked jobs are offloaded"),
    };
    format!(
        r#"
[[lane]]
name = "jobs"
directories = ["[0-9]*-*"]
completion = "{completion}"  # {note}

[[lane]]
name = "special"
directories = ["hosts/*/[0-9]*-*"]
completion = "{completion}"  # likewise
workers = 2

[[lane]]
name = "swarming"
directories = ["swarming-*[1-9a-f]", "swarming-*0/[1-9a-f]*"]
completion = "marker"  # .ready_for_offload, as it was
"#
    )
}
