//! What the queues hold: items, their classes, and how a job stands with them.

use crate::base::{Row, Value};
use crate::lab::{Digest, Incarnation, RelPath};
use crate::shown::Shown;
use config::Queue;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which workers of a queue an item is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Class {
    Light,
    Heavy,
}

impl Class {
    /// Both.
    pub const ALL: [Class; 2] = [Class::Light, Class::Heavy];

    /// Of a job that holds so much.
    pub fn of_size(queue: &Queue, bytes: u64) -> Self {
        let above = queue.heavy_above.0;
        if queue.heavy_workers > 0 && above > 0 && bytes >= above { Class::Heavy } else { Class::Light }
    }

    /// In the journal.
    pub fn name(self) -> &'static str {
        match self {
            Class::Light => "light",
            Class::Heavy => "heavy",
        }
    }

    /// So many of it run at once.
    pub fn workers(self, queue: &Queue) -> usize {
        match self {
            Class::Light => queue.workers,
            Class::Heavy => queue.heavy_workers,
        }
    }
}

/// One item that is leased, or one part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its queue.
    pub queue: String,
    /// The same whenever it runs: SHA-256 of drone, queue, directory and identity, in hex.
    pub key: String,
    /// 0 for the queue's command, else the number of its task.
    pub part: i64,
    /// The directory.
    pub job: RelPath,
    /// Which of that name.
    pub incarnation: Incarnation,
    /// Its lane.
    pub lane: String,
    /// Its class.
    pub class: Class,
    /// So many runs have failed.
    pub attempts: u32,
}

impl Item {
    /// `None` for a row that says what no item can.
    pub(super) fn of(row: &Row) -> Option<Self> {
        Some(Item {
            queue: row.text(0).to_owned(),
            key: row.text(1).to_owned(),
            part: row.int(2),
            job: read(row.text(3))?,
            incarnation: Incarnation {
                dev: row.int(4).cast_unsigned(),
                ino: row.int(5).cast_unsigned(),
                born_ns: row.int(6),
            },
            lane: row.text(7).to_owned(),
            class: if row.text(8) == Class::Heavy.name() { Class::Heavy } else { Class::Light },
            attempts: u32::try_from(row.int(9)).ok()?,
        })
    }

    /// What names its row.
    pub(super) fn row(&self) -> [Value; 3] {
        [self.queue.as_str().into(), self.key.as_str().into(), self.part.into()]
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed, and runs again after a pause.
    Again(String, Duration),
    /// It was not run to its end, and that is not its fault.
    Back,
    /// It failed for the last time; a person decides.
    Dead(String),
}

/// How a job stands with the queues that it goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every item is done, or was dropped by a person.
    Done,
    /// Some are still to run.
    Waiting,
    /// Some failed for the last time, the others are done.
    Dead,
}

impl Standing {
    /// With one queue like this, and with another like that.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Standing::Waiting, _) | (_, Standing::Waiting) => Standing::Waiting,
            (Standing::Dead, _) | (_, Standing::Dead) => Standing::Dead,
            _ => Standing::Done,
        }
    }
}

/// An item for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ItemView {
    pub queue: String,
    pub key: String,
    /// 0 for the queue's command, else the number of its task.
    #[serde(default)]
    pub part: i64,
    pub job: String,
    pub lane: String,
    #[serde(default)]
    pub class: String,
    /// `queued`, `running`, `done`, `dead` or `dropped`.
    pub state: String,
    pub attempts: u32,
    pub error: Option<String>,
    /// Seconds since 1970.
    pub taken_in: i64,
    pub due: i64,
}

/// The same whenever it runs.
pub fn key(drone: &str, queue: &str, job: &RelPath, incarnation: &Incarnation) -> String {
    let Incarnation { dev, ino, born_ns } = incarnation;
    let identity = format!("\0{dev} {ino} {born_ns}");
    let parts = [drone.as_bytes(), b"\0", queue.as_bytes(), b"\0", job.as_bytes(), identity.as_bytes()];
    Digest::of(&parts.concat()).to_string()
}

/// A path as text: itself, or `/` and hexadecimal digits where it is none.
pub fn spelled(path: &RelPath) -> String {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => path.as_bytes().iter().fold("/".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

/// For people.
pub(super) fn shown(text: &str) -> String {
    read(text).map_or_else(|| Shown::text(text).to_string(), |path| Shown(path.as_bytes()).to_string())
}

fn read(text: &str) -> Option<RelPath> {
    let Some(hex) = text.strip_prefix('/') else { return RelPath::new(text.as_bytes()).ok() };
    let pairs = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    RelPath::new(pairs.collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_read_as_it_was_spelled() {
        for path in [&b"1-a/host"[..], b"caf\xc3\xa9", b"latin\xe9", b"\xff\xfe"] {
            let path = RelPath::new(path).unwrap();
            assert_eq!(read(&spelled(&path)).as_ref(), Some(&path), "{path}");
        }
        assert_eq!((read("/zz"), read("/abc"), read("")), (None, RelPath::new(*b"\xab\x0c").ok(), None));
    }

    #[test]
    fn waiting_outweighs_what_gave_up_and_that_outweighs_what_is_done() {
        use Standing::{Dead, Done, Waiting};
        assert_eq!([Done.and(Done), Done.and(Dead), Dead.and(Waiting)], [Done, Dead, Waiting]);
    }
}
