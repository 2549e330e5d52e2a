//! Runs one command on one job: in a process group of its own, bounded in time and output, through no shell.
//!
//! The job's directory is opened and must be the one that was taken in; the command gets the path by which it was
//! opened. What it says is kept: with a job that is not offloaded yet, in its directory, so that it is offloaded too;
//! else in the state directory.

use super::item::Item;
use super::yard::Yard;
use crate::group::Group;
use crate::shown::Shown;
use crate::tree::JobDir;
use config::{On, Queue};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// After a command has ended, what it said last is waited for so long: a grandchild may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// So much of what it said is in the log and in the journal, in bytes.
const BRIEF: usize = 500;
/// An item was taken in when the queue had more tasks.
const NO_TASK: &str = "the queue has no such task any more: `queue drop` it, or give it one again";

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

/// Runs an item's command on its job.
pub async fn run(yard: &Yard, queue: &Queue, item: &Item) -> Ran {
    let dir = match yard.dir(queue, item) {
        Ok(dir) => dir,
        Err(ran) => return ran,
    };
    let heard = Arc::new(Heard::new(queue.output.0));
    let ended = execute(yard, queue, item, &heard).await;
    let said = heard.take();
    if let Err(error) = keep(yard, queue, item, dir.as_ref(), &said) {
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

/// The command of an item's part, as the settings have it.
fn command<'a>(queue: &'a Queue, item: &Item) -> &'a [String] {
    let task = usize::try_from(item.part).unwrap_or_default().checked_sub(1);
    match task {
        None => &queue.command,
        Some(task) => queue.tasks.get(task).map_or(&[], Vec::as_slice),
    }
}

/// What runs a command: the program that dies with its parent, in its bounds.
fn wrapped(queue: &Queue, words: &[OsString]) -> Command {
    // A drone that is killed takes its commands along: they run again with the next one.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    let cpu = queue.cpu_time.as_secs();
    if queue.memory.0 > 0 || cpu > 0 {
        command.args(["prlimit", "--core=0"]);
        if queue.memory.0 > 0 {
            command.arg(format!("--as={}", queue.memory.0));
        }
        if cpu > 0 {
            // The first bound is a signal of its own, the second kills.
            command.arg(format!("--cpu={cpu}:{}", cpu.saturating_add(5)));
        }
        command.arg("--");
    }
    if queue.nice > 0 {
        command.args(["nice", "-n", &queue.nice.to_string()]);
    }
    command.args(words);
    command
}

async fn execute(yard: &Yard, queue: &Queue, item: &Item, heard: &Arc<Heard>) -> Result<(), String> {
    let path = yard.path(item);
    let places: [(&str, &[u8]); 4] = [
        ("{job_dir}", path.as_os_str().as_bytes()),
        ("{job}", item.job.as_bytes()),
        ("{lane}", item.lane.as_bytes()),
        ("{key}", item.key.as_bytes()),
    ];
    let words: Vec<OsString> = command(queue, item).iter().map(|word| filled(word, &places)).collect();
    let Some(program) = words.first() else { return Err(NO_TASK.into()) };
    let mut command = wrapped(queue, &words);
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
            match (status.code(), status.signal()) {
                (Some(0), _) => Ok(()),
                (Some(code), _) => Err(format!("{program} ended with status {code}")),
                (None, Some(signal)) if signal == Signal::XCPU.as_raw() => {
                    Err(format!("{program} used more processor time than {:?}", queue.cpu_time))
                }
                (None, _) => Err(format!("{program} was ended by a signal")),
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
fn keep(yard: &Yard, queue: &Queue, item: &Item, dir: Option<&JobDir>, said: &[u8]) -> io::Result<()> {
    if said.is_empty() {
        return Ok(());
    }
    let task = if item.part > 0 { format!(".task{}", item.part) } else { String::new() };
    match (queue.on, dir) {
        (On::Completed, Some(dir)) => {
            let name = format!(".dronekeeper-{}{task}.{}.log", queue.name, item.attempts + 1);
            dir.add_file(name.as_bytes(), said)
        }
        _ => {
            let at = yard.output_dir.join(&queue.name);
            std::fs::create_dir_all(&at)?;
            std::fs::File::create(at.join(format!("{}{task}.log", item.key)))?.write_all(said)
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
