//! Runs one command on one job: in a process group of its own, bounded in time and output, through no shell.
//!
//! The job's directory is opened and must be the one that was taken in; the command gets the path by which it was
//! opened. What it says is kept: with a job that is not offloaded yet, in its directory, so that it is offloaded too;
//! else in the state directory.

use super::journal::Item;
use crate::group::Group;
use crate::shown::Shown;
use crate::site::Site;
use crate::tree::{JobDir, TreeError};
use config::{On, Queue};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// After a command has ended, what it said last is waited for so long: a grandchild may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// So much of what it said is in the log and in the journal, in bytes.
const BRIEF: usize = 500;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It ended with status 0.
    Done,
    /// The directory is gone, or another has its name.
    Gone,
    /// It did not; this is why.
    Failed(String),
}

/// Runs a queue's command on an item's job.
pub async fn run(site: &Site, queue: &Queue, item: &Item) -> Ran {
    let dir = match site.root.job(&item.job) {
        Ok(dir) if *dir.incarnation() == item.incarnation => dir,
        Ok(_) | Err(TreeError::Gone(_)) => return Ran::Gone,
        Err(error) => return Ran::Failed(crate::shown::chain(&error)),
    };
    let heard = Arc::new(Heard::new(queue.output.0));
    let ended = execute(site, queue, item, &heard).await;
    let said = heard.take();
    if let Err(error) = keep(site, queue, item, &dir, &said) {
        return Ran::Failed(format!("its output cannot be kept: {error}"));
    }
    match ended {
        Ok(()) => Ran::Done,
        Err(why) => {
            let last = said.get(said.len().saturating_sub(BRIEF)..).unwrap_or_default();
            let last = String::from_utf8_lossy(last).trim().to_owned();
            let colon = if last.is_empty() { "" } else { ": " };
            Ran::Failed(format!("{why}{colon}{}", Shown::text(&last)))
        }
    }
}

async fn execute(site: &Site, queue: &Queue, item: &Item, heard: &Arc<Heard>) -> Result<(), String> {
    let path = site.root.path().join(std::ffi::OsStr::from_bytes(item.job.as_bytes()));
    let places: [(&str, &[u8]); 4] = [
        ("{job_dir}", path.as_os_str().as_bytes()),
        ("{job}", item.job.as_bytes()),
        ("{lane}", item.lane.as_bytes()),
        ("{key}", item.key.as_bytes()),
    ];
    let words: Vec<OsString> = queue.command.iter().map(|word| filled(word, &places)).collect();
    let Some(program) = words.first() else { return Err("the command is empty".into()) };
    // A drone that is killed takes its commands along: they run again with the next one.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(&words);
    command.env("DRONEKEEPER_JOB", &path).env("DRONEKEEPER_KEY", &item.key);
    command.env("DRONEKEEPER_ATTEMPT", (item.attempts + 1).to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn();
    let program = Shown(program.as_bytes()).to_string();
    let mut group = Group::of(child.map_err(|error| format!("cannot start {program}: {error}"))?);
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let hearing = [
        stdout.map(|out| tokio::spawn(hear(out, heard.clone()))),
        stderr.map(|out| tokio::spawn(hear(out, heard.clone()))),
    ];
    let waited = tokio::time::timeout(queue.timeout, group.child.wait()).await;
    for hearing in hearing.into_iter().flatten() {
        let abort = hearing.abort_handle();
        let _ = tokio::time::timeout(LAST_WORDS, hearing).await;
        abort.abort();
    }
    match waited {
        Err(_) => Err(format!("{program} did not end within {:?}", queue.timeout)),
        Ok(Err(error)) => Err(format!("{program} cannot be waited for: {error}")),
        Ok(Ok(status)) => {
            // What it started and left behind goes too.
            drop(group);
            match status.code() {
                Some(0) => Ok(()),
                Some(code) => Err(format!("{program} ended with status {code}")),
                None => Err(format!("{program} was ended by a signal")),
            }
        }
    }
}

/// A word of a command with its places filled in, in one pass: what is filled in is not looked at again.
fn filled(word: &str, places: &[(&str, &[u8])]) -> OsString {
    let (mut out, mut rest) = (Vec::new(), word);
    while !rest.is_empty() {
        let place = places.iter().find(|(name, _)| rest.starts_with(name));
        match place {
            Some((name, value)) => {
                out.extend_from_slice(value);
                rest = rest.get(name.len()..).unwrap_or_default();
            }
            None => {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                out.extend_from_slice(rest.get(..next).unwrap_or_default().as_bytes());
                rest = rest.get(next..).unwrap_or_default();
            }
        }
    }
    OsString::from_vec(out)
}

/// The last of what a command says.
struct Heard {
    most: usize,
    bytes: Mutex<VecDeque<u8>>,
}

impl Heard {
    fn new(most: u64) -> Self {
        Heard { most: usize::try_from(most).unwrap_or(usize::MAX), bytes: Mutex::default() }
    }

    fn add(&self, said: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend(said);
        let over = bytes.len().saturating_sub(self.most);
        bytes.drain(..over);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

async fn hear(mut out: impl AsyncRead + Unpin, heard: Arc<Heard>) {
    let mut chunk = vec![0; 8 << 10];
    while let Ok(read @ 1..) = out.read(&mut chunk).await {
        heard.add(chunk.get(..read).unwrap_or_default());
    }
}

/// Keeps what a command said, one file for each attempt.
fn keep(site: &Site, queue: &Queue, item: &Item, dir: &JobDir, said: &[u8]) -> io::Result<()> {
    if said.is_empty() {
        return Ok(());
    }
    match queue.on {
        On::Completed => {
            let name = format!(".dronekeeper-{}.{}.log", queue.name, item.attempts + 1);
            dir.add_file(name.as_bytes(), said)
        }
        On::Offloaded => {
            let at = site.output_dir.join(&queue.name);
            std::fs::create_dir_all(&at)?;
            std::fs::File::create(at.join(format!("{}.log", item.key)))?.write_all(said)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        let places: [(&str, &[u8]); 2] = [("{job}", b"a {key} b"), ("{key}", b"k")];
        assert_eq!(filled("-o={job}/{key} ü", &places), "-o=a {key} b/k ü");
        assert_eq!(filled("plain", &places), "plain");
    }

    #[test]
    fn the_last_of_the_output_is_kept() {
        let heard = Heard::new(4);
        heard.add(b"abc");
        heard.add(b"defg");
        assert_eq!(heard.take(), b"defg");
    }
}
