//! What was tried, and what came of it: a memory that saves work, and never permits a deletion.
//!
//! ```text
//! every stage --(messages of work.rs)--> ledger
//! ```
//!
//! The disk and the store are the truth. A ledger that is lost costs a look at both for every job; one
//! that is damaged is set aside and begun anew while the process runs, and its new `epoch` tells the
//! scanners to take nothing for known.

pub mod dwell;
pub mod finished;
pub mod jobs;
pub mod keeper;
pub mod notices;
pub mod operator;
pub mod outbox;
pub mod resume;
pub mod rows;
pub mod schema;

pub use dwell::{Dwelt, RecordDiscarded};
pub use finished::{Finished, ForgetFinished, RecordFinished};
pub use jobs::{
    Changed, Changes, DropAttempt, FailAttempt, Forget, History, ListJobs, OpenAttempt, Opened, Quarantine,
    RecordPruned, RecordPublished, RecordVoid, RetryNow,
};
pub use notices::{KeepNotices, Notice};
pub use operator::{CountDeletion, HoldPruning, Pause, Pauses, PruningHeld, ReleasePruning, Unpause};
pub use outbox::{Incident, KeepMail, Letter, MailBook, ReadMail};
pub use resume::{
    ForgetUpload, OpenUpload, OpenUploads, ResumeMaterial, Resumed, SaveObjects, SaveParts, SaveUpload,
};
pub use rows::{AttemptRow, JobRow, JobState, ObjectRow, PartRow, PauseRow, UploadRow};

use actix::prelude::*;
use keeper::Keeper;
use rusqlite::Transaction;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// Why the ledger could not be asked or told. Whoever asked keeps the data and goes on without.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum LedgerError {
    #[error("another process has locked the ledger, or it is being restarted")]
    Busy,
    #[error("the ledger may not be written: its file, its directory or its file system is read-only")]
    ReadOnly,
    #[error("no space for the ledger")]
    Full,
    #[error("the ledger has schema {found}, this version knows {known}: run the version that wrote it")]
    Newer { found: usize, known: usize },
    #[error("the ledger cannot be read or written: {0}")]
    Io(String),
}

/// What kind of failure an attempt met: the bounded word that logs, status and metrics share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum FailureClass {
    Auth,
    Cancelled,
    ChangedSource,
    Checksum,
    Deadline,
    DiskFull,
    Http4xx,
    Http5xx,
    Io,
    NotFound,
    Panic,
    Permission,
    Precondition,
    Stalled,
    Throttled,
    Timeout,
    Transport,
}

impl FailureClass {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::Auth => "auth",
            FailureClass::Cancelled => "cancelled",
            FailureClass::ChangedSource => "changed_source",
            FailureClass::Checksum => "checksum",
            FailureClass::Deadline => "deadline",
            FailureClass::DiskFull => "disk_full",
            FailureClass::Http4xx => "http_4xx",
            FailureClass::Http5xx => "http_5xx",
            FailureClass::Io => "io",
            FailureClass::NotFound => "not_found",
            FailureClass::Panic => "panic",
            FailureClass::Permission => "permission",
            FailureClass::Precondition => "precondition",
            FailureClass::Stalled => "stalled",
            FailureClass::Throttled => "throttled",
            FailureClass::Timeout => "timeout",
            FailureClass::Transport => "transport",
        }
    }
}

/// What one message does, in one transaction.
pub trait Work: Message<Result = Result<Self::Output, LedgerError>> {
    /// The answer.
    type Output: Send + 'static;

    /// Does it; may be done twice, on an injured ledger and then on its successor.
    ///
    /// # Errors
    /// SQLite's.
    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Self::Output>;
}

/// What a message's work is given.
pub struct Books<'a> {
    /// The transaction that the work is done in.
    pub open: &'a Transaction<'a>,
    /// This run of the process: attempts that another run left open were cut off, not crashed.
    pub boot: Uuid,
    /// The time.
    pub now: SystemTime,
}

impl Books<'_> {
    /// The next version: every change of a job's row has one of its own.
    pub(crate) fn next_version(&self) -> rusqlite::Result<i64> {
        let next = "UPDATE meta SET value = value + 1 WHERE key = 'version' RETURNING value";
        self.open.query_row(next, [], |row| row.get(0))
    }
}

/// The actor: one per drone, on a thread of its own, so it may block on the disk.
pub struct Ledger {
    keeper: Keeper,
    boot: Uuid,
}

impl Ledger {
    /// Keeps the ledger at `path`. `boot` names this run of the process.
    pub fn new(path: PathBuf, boot: Uuid) -> Self {
        Ledger { keeper: Keeper::new(path, &schema::LEDGER), boot }
    }

    /// Does a message's work.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing was written.
    pub fn work<W: Work>(&mut self, work: &W) -> Result<W::Output, LedgerError> {
        let boot = self.boot;
        self.keeper.with(|open| work.run(&Books { open, boot, now: SystemTime::now() }))
    }
}

impl Actor for Ledger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // An injury is found, and a lock noticed, even when nobody asks; old history goes.
        let _ = self.work(&jobs::Trim);
        ctx.run_interval(Duration::from_secs(60), |act, _| drop(act.work(&jobs::Trim)));
    }
}

impl<W: Work> Handler<W> for Ledger
where
    W::Output: Send,
    Result<W::Output, LedgerError>: actix::dev::MessageResponse<Ledger, W>,
{
    type Result = Result<W::Output, LedgerError>;

    fn handle(&mut self, work: W, _: &mut Context<Self>) -> Self::Result {
        self.work(&work)
    }
}

/// Copies a ledger that may be written to meanwhile.
///
/// # Errors
/// When it cannot be read, or the copy not be written.
pub fn copy(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    let open = rusqlite::Connection::open_with_flags(from, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
    let copied = open.and_then(|db| db.backup("main", to, None::<fn(rusqlite::backup::Progress)>));
    copied.map_err(std::io::Error::other)
}
