//! Keeps one SQLite file, the ledger or another, and does not believe that it is still there.
//!
//! The file may be truncated, deleted, replaced or overwritten under an open connection. Before each
//! transaction the path must still lead to the file that was opened, and the file must still begin like a
//! database; whatever else is wrong SQLite says itself, because the rollback journal reads the file again
//! for every write (in WAL mode it would not: DESIGN.md, idea 7). An injured file is set aside under a
//! dated name, and a new ledger is begun.

use super::LedgerError;
use super::schema::{self, Schema};
use crate::kept;
use crate::shown::chain;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, ffi};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long a ledger that another process has locked is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The whole file is read afresh so often; 12 MB take 14 ms (reference/measurements.md, 2b).
const EXAMINATION: Duration = Duration::from_secs(10);
/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The file.
pub struct Keeper {
    path: PathBuf,
    schema: &'static Schema,
    open: Option<Open>,
    in_trouble: bool,
    examined: Instant,
}

struct Open {
    db: Connection,
    identity: (u64, u64),
    /// Rows that were changed up to the last use.
    changes: u64,
}

/// What went wrong with a use of the file.
enum Fault {
    /// The file is not a ledger any more.
    Injured(String),
    /// The file is a ledger, and cannot be used now.
    Unusable(LedgerError),
}

impl Keeper {
    /// Keeps the file at `path`; it is opened at the first use.
    pub fn new(path: PathBuf, schema: &'static Schema) -> Self {
        Keeper { path, schema, open: None, in_trouble: false, examined: Instant::now() }
    }

    /// Does some work in one transaction. An injured ledger is replaced, and the work done on the new one.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing was written.
    pub fn with<T>(
        &mut self,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let mut done = self.once(&work);
        if let Err(Fault::Injured(why)) = done {
            self.set_aside(&why)?;
            done = self.once(&work);
        }
        let done = done.map_err(|fault| match fault {
            Fault::Injured(why) => LedgerError::Io(why),
            Fault::Unusable(error) => error,
        });
        match &done {
            Err(error) => self.failed(error),
            // That it can be read says nothing: a full disk, a read-only directory.
            Ok(_) if self.wrote() => self.works(),
            Ok(_) => {}
        }
        done
    }

    fn once<T>(&mut self, work: &impl Fn(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Fault> {
        if self.open.is_none() {
            self.open = Some(open(&self.path, self.schema)?);
        }
        let Some(open) = &mut self.open else { return Err(Fault::Unusable(LedgerError::Busy)) };
        intact(&self.path, open.identity)?;
        if self.examined.elapsed() >= EXAMINATION {
            self.examined = Instant::now();
            examine(&self.path)?;
        }
        let done =
            open.db.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        done.map_err(fault)
    }

    /// Moves the file and its journal aside, for a person to look at.
    fn set_aside(&mut self, why: &str) -> Result<(), LedgerError> {
        self.open = None;
        let name = kept::aside(&self.path);
        error!(ledger = %self.path.display(), why, aside = %name, "{} damaged: set aside, a new one is rebuilt from {}", self.schema.name, self.schema.source);
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| LedgerError::Io(chain(&error)))?;
        }
        kept::set_aside(&self.path, &name).map_err(|error| LedgerError::Io(chain(&error)))
    }

    /// Did the last use change anything?
    fn wrote(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        let before = std::mem::replace(&mut open.changes, open.db.total_changes());
        open.changes != before
    }

    /// Says that the ledger cannot be used, once.
    fn failed(&mut self, error: &LedgerError) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            warn!(ledger = %self.path.display(), error = %chain(error), "{} cannot be used; uploads go on, nothing is deleted", self.schema.name);
        }
    }

    /// Says that it can be used again, once.
    fn works(&mut self) {
        if std::mem::take(&mut self.in_trouble) {
            info!(ledger = %self.path.display(), "{} works again", self.schema.name);
        }
    }
}

/// Opens or makes a ledger, and brings it to the newest schema.
fn open(path: &Path, schema: &Schema) -> Result<Open, Fault> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| Fault::Unusable(LedgerError::Io(chain(&error))))?;
    }
    let fresh = !path.exists();
    let mut db = Connection::open(path).map_err(fault)?;
    let set = || -> rusqlite::Result<()> {
        db.busy_timeout(PATIENCE)?;
        db.pragma_update(None, "journal_mode", "DELETE")?;
        db.pragma_update(None, "synchronous", "EXTRA")?;
        db.pragma_update(None, "trusted_schema", "OFF")?;
        db.pragma_update(None, "cell_size_check", "ON")
    };
    set().map_err(fault)?;
    if !fresh {
        examine(path)?;
    }
    let found = schema::version(&db).map_err(fault)?;
    match found {
        found if found > schema.newest() => {
            return Err(Fault::Unusable(LedgerError::Newer { found, known: schema.newest() }));
        }
        0 if !fresh && has_tables(&db).map_err(fault)? => {
            return Err(Fault::Injured("it is the database of another program".into()));
        }
        found if found < schema.newest() => migrate(&mut db, path, found, schema)?,
        _ => {}
    }
    let metadata = std::fs::metadata(path).map_err(|error| Fault::Injured(chain(&error)))?;
    let changes = db.total_changes();
    Ok(Open { db, identity: (metadata.dev(), metadata.ino()), changes })
}

fn has_tables(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// Brings a ledger to the newest schema; one with content is copied first.
fn migrate(db: &mut Connection, path: &Path, found: usize, schema: &Schema) -> Result<(), Fault> {
    if found > 0 {
        let copy = format!("{}.before-{}", path.display(), schema.newest());
        db.backup("main", &copy, None::<fn(rusqlite::backup::Progress)>).map_err(fault)?;
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    schema.migrate(&transaction, found).and_then(|()| transaction.commit()).map_err(fault)
}

/// Does the path still lead to the file that was opened, and does it still begin like a database?
fn intact(path: &Path, identity: (u64, u64)) -> Result<(), Fault> {
    let injured = |why: String| Fault::Injured(why);
    let mut file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => injured(format!("it is gone: {error}")),
        // No descriptor left, no permission: that says nothing of the file.
        _ => Fault::Unusable(LedgerError::Io(error.to_string())),
    })?;
    let metadata = file.metadata().map_err(|error| injured(error.to_string()))?;
    if (metadata.dev(), metadata.ino()) != identity {
        return Err(injured("another file was put in its place".into()));
    }
    let mut head = [0; 16];
    match file.read_exact(&mut head) {
        Ok(()) if head == *MAGIC => Ok(()),
        Ok(()) => Err(injured("its header was overwritten".into())),
        Err(_) => Err(injured(format!("it was truncated to {} bytes", metadata.len()))),
    }
}

/// Reads the whole file afresh: an open connection believes the pages that it remembers.
fn examine(path: &Path) -> Result<(), Fault> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fault)?;
    db.busy_timeout(PATIENCE).map_err(fault)?;
    match db.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0)).map_err(fault)?.as_str() {
        "ok" => Ok(()),
        why => Err(Fault::Injured(why.lines().next().unwrap_or("damaged").to_owned())),
    }
}

/// What an error of SQLite means for the file.
fn fault(error: rusqlite::Error) -> Fault {
    let text = chain(&error);
    let Some(code) = error.sqlite_error() else {
        // A value of another type than the schema's: the content is not ours.
        return Fault::Injured(text);
    };
    match (code.code, code.extended_code) {
        (_, ffi::SQLITE_READONLY_DBMOVED | ffi::SQLITE_IOERR_SHORT_READ) => Fault::Injured(text),
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Fault::Unusable(LedgerError::Busy),
        (ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen, _) => {
            Fault::Unusable(LedgerError::ReadOnly)
        }
        (ErrorCode::DiskFull, _) => Fault::Unusable(LedgerError::Full),
        (ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory, _) => Fault::Unusable(LedgerError::Io(text)),
        // Not a database, corrupt, a table or column that is not there, a constraint that cannot fail.
        _ => Fault::Injured(text),
    }
}
