//! Children in process groups of their own: whoever ends one ends all that it started.

use super::SshError;
use crate::group::Group;
use bytes::Bytes;
use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::sync::OwnedSemaphorePermit;

/// The most of a child's words that are kept, in bytes.
const WORDS: usize = 8 << 10;
/// The most of its output that is taken whole, in bytes: a listing of a million files.
const OUTPUT: u64 = 512 << 20;
/// So much of its output is read at once, in bytes.
const PIECE: usize = 256 << 10;
/// The longest line that tells of what follows, in bytes.
const LINE: u64 = 64;
/// After a child has ended, what it said last is waited for so long.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a command did.
#[derive(Debug)]
pub struct Done {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its output.
    pub output: Vec<u8>,
    /// Its complaints, bounded.
    pub words: String,
}

/// Runs a child in a process group of its own to its end, and no longer than `patience`.
///
/// # Errors
/// [`SshError`].
pub async fn run(
    mut command: Command,
    name: &'static str,
    input: &[u8],
    patience: Duration,
) -> Result<Done, SshError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|error| SshError::Start(name, error))?;
    let mut group = Group::of(child);
    let work = async {
        let child = &mut group.child;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let give = async {
            let Some(mut stdin) = stdin else { return };
            // A command that ends before it has read everything says so by its status.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        };
        let heard = Arc::new(Words::default());
        let hearing = stderr.map(|stderr| tokio::spawn(hear(stderr, heard.clone())));
        let mut output = Vec::new();
        let take = async {
            match stdout {
                Some(stdout) => stdout.take(OUTPUT).read_to_end(&mut output).await,
                None => Ok(0),
            }
        };
        let ((), taken) = tokio::join!(give, take);
        taken.map_err(SshError::Broke)?;
        let status = child.wait().await.map_err(SshError::Broke)?;
        if let Some(mut hearing) = hearing {
            // The shared connection lives on, and holds the end of the pipe.
            let _ = tokio::time::timeout(LAST_WORDS, &mut hearing).await;
            hearing.abort();
        }
        let words = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Ok(Done { code: status.code(), output, words })
    };
    let done = tokio::time::timeout(patience, work).await.unwrap_or(Err(SshError::TimedOut(patience)));
    if !matches!(done, Err(SshError::TimedOut(_))) {
        group.ended = true;
    }
    done
}

/// A child whose output is read piece by piece; it ends with this value.
pub struct Reading {
    group: Group,
    output: BufReader<ChildStdout>,
    heard: Arc<Words>,
    _session: OwnedSemaphorePermit,
}

impl Reading {
    /// Starts a child that reads nothing.
    ///
    /// # Errors
    /// [`SshError`] `Start`.
    pub fn start(mut command: Command, session: OwnedSemaphorePermit) -> Result<Self, SshError> {
        let failed = |error| SshError::Start("ssh", error);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take().ok_or_else(|| failed(ErrorKind::BrokenPipe.into()))?;
        let heard = Arc::new(Words::default());
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(hear(stderr, heard.clone()));
        }
        let output = BufReader::with_capacity(PIECE, output);
        Ok(Reading { group: Group::of(child), output, heard, _session: session })
    }

    /// The next line, without its end; `None` if there is none of a sane length.
    ///
    /// # Errors
    /// [`SshError`] `Broke`.
    pub async fn line(&mut self) -> Result<Option<String>, SshError> {
        let mut line = String::new();
        (&mut self.output).take(LINE).read_line(&mut line).await.map_err(SshError::Broke)?;
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    /// The next piece; empty at the end.
    ///
    /// # Errors
    /// [`SshError`] `Broke`.
    pub async fn piece(&mut self) -> Result<Bytes, SshError> {
        let piece = Bytes::copy_from_slice(self.output.fill_buf().await.map_err(SshError::Broke)?);
        self.output.consume(piece.len());
        Ok(piece)
    }

    /// How it ended, once its output has.
    ///
    /// # Errors
    /// [`SshError`] `Broke`.
    pub async fn end(&mut self) -> Result<Done, SshError> {
        let status = self.group.child.wait().await.map_err(SshError::Broke)?;
        self.group.ended = true;
        let words = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Ok(Done { code: status.code(), output: Vec::new(), words })
    }
}

/// What a child has said so far.
#[derive(Default)]
struct Words(Mutex<Vec<u8>>);

async fn hear(mut stderr: ChildStderr, words: Arc<Words>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        let mut words = words.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WORDS.saturating_sub(words.len());
        words.extend(chunk.get(..read).unwrap_or_default().iter().take(room));
    }
}
