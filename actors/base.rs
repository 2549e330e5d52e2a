//! Where a hub keeps what it knows, and a drone its queues: one SQLite file, or PostgreSQL. The same statements run on
//! both.
//!
//! Statements number their parameters `?1`, `?2`; truth values are 0 and 1. What differs is here: how a connection
//! is made, how rows are locked (SQLite has one writer; PostgreSQL's hubs pass over each other's rows), and how a
//! connection that broke is replaced.

mod address;

use crate::kept;
use address::Address;
use bytes::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, TransactionBehavior};
use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A locked base is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many connections to PostgreSQL are used at once; more would only wait there.
const CONNECTIONS: usize = 12;
/// A connection knows so many statements, none longer than this in bytes.
const MOST_PREPARED: usize = 200;
/// See [`MOST_PREPARED`].
const LONGEST_PREPARED: usize = 2000;
/// A table that is not there: somebody made the base anew.
const NO_TABLE: &str = "42P01";
/// A transaction that met another one is begun anew so often.
const TRIES: u32 = 5;

/// What goes into a statement, or comes out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Value>);

/// Why the base could not be asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BaseError {
    #[error("SQLite")]
    Sqlite(#[from] rusqlite::Error),
    #[error("PostgreSQL")]
    Postgres(#[from] postgres::Error),
    #[error("{0}")]
    Settings(String),
    #[error("cannot write {0}")]
    Dir(PathBuf, #[source] std::io::Error),
}

impl BaseError {
    /// Is it worth trying again?
    pub fn is_busy(&self) -> bool {
        match self {
            BaseError::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
            ),
            BaseError::Postgres(error) => {
                let code = error.code().map_or("", |code| code.code());
                // Serialization failure, deadlock, a lost connection, a server that stops or starts, a base made anew.
                ["40001", "40P01", "57P01", "57P02", "57P03", NO_TABLE].contains(&code) || error.is_closed()
            }
            BaseError::Settings(_) | BaseError::Dir(..) => false,
        }
    }
}

/// What can go wrong with work on a base.
pub trait Failure: From<BaseError> {
    /// Is the work worth doing again?
    fn is_busy(&self) -> bool;

    /// Did the base fail, and not the work refuse?
    fn is_of_base(&self) -> bool;
}

impl Failure for BaseError {
    fn is_busy(&self) -> bool {
        BaseError::is_busy(self)
    }

    fn is_of_base(&self) -> bool {
        matches!(self, BaseError::Sqlite(_)) && !BaseError::is_busy(self)
    }
}

/// What a base is for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// What it is called in the log.
    pub name: &'static str,
    /// What a lost one is rebuilt from.
    pub source: &'static str,
    /// The key of the configuration that says where it is.
    pub setting: &'static str,
    /// Makes the tables that are not there; the number is the first that is given out.
    pub prepare: fn(&Tx<'_>, i64) -> Result<(), BaseError>,
}

/// A base.
pub struct Base(Engine);

enum Engine {
    Sqlite(Box<File>),
    Postgres(Box<Server>),
}

/// One SQLite file, and the connection to it with the file's identity.
struct File {
    purpose: Purpose,
    path: PathBuf,
    open: Mutex<Option<(Connection, (u64, u64))>>,
    numbers: Numbers,
}

/// A PostgreSQL server, and the connections to it.
struct Server {
    purpose: Purpose,
    address: Address,
    numbers: Numbers,
    idle: Mutex<Vec<Connected>>,
    /// So many more may be made.
    room: Mutex<usize>,
    freed: Condvar,
    /// The tables were seen to be there.
    prepared: AtomicBool,
}

/// A connection, with the statements that it knows.
struct Connected {
    client: postgres::Client,
    statements: Statements,
}

type Statements = HashMap<String, postgres::Statement>;

/// A connection that is in use; another may be when it is dropped.
struct Turn<'a>(&'a Server);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *locked(&self.0.room) += 1;
        self.0.freed.notify_one();
    }
}

/// One transaction.
pub struct Tx<'a> {
    on: On<'a>,
    /// The highest number that it gave out.
    highest: Cell<i64>,
}

enum On<'a> {
    Sqlite(rusqlite::Transaction<'a>),
    Postgres(Mutex<(postgres::Transaction<'a>, &'a mut Statements)>),
}

impl Base {
    /// The base that a setting names: `postgres://…`, or a file below `dir`. It is opened at its first use. `first` is
    /// the first number that is given out by a new base, unless the file `numbers` beside it knows better.
    ///
    /// # Errors
    /// `Settings`.
    pub fn new(database: &str, dir: &Path, first: Option<i64>, purpose: Purpose) -> Result<Self, BaseError> {
        let numbers = Numbers::new(dir, first);
        if Address::is_one(database) {
            let address = Address::read(database, PATIENCE)
                .map_err(|error| BaseError::Settings(format!("`{}`: {error}", purpose.setting)))?;
            return Ok(Base(Engine::Postgres(Box::new(Server {
                purpose,
                address,
                numbers,
                idle: Mutex::default(),
                room: Mutex::new(CONNECTIONS),
                freed: Condvar::new(),
                prepared: AtomicBool::new(false),
            }))));
        }
        let path = dir.join(database.trim_start_matches("file://"));
        Ok(Base(Engine::Sqlite(Box::new(File { purpose, path, open: Mutex::default(), numbers }))))
    }

    /// Is it a server, which is asked over connections that block?
    pub fn is_server(&self) -> bool {
        matches!(self.0, Engine::Postgres(_))
    }

    /// Does some work in one transaction; it may be done again when another one was in the way.
    ///
    /// # Errors
    /// The work's own, or the base's; nothing was written.
    pub fn with<T, E: Failure>(&self, work: impl Fn(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        match &self.0 {
            Engine::Sqlite(file) => file.work(&work),
            Engine::Postgres(server) => server.work(&work),
        }
    }
}

/// The highest number that may have been given out, in a file beside the base: a base that replaces a lost one
/// gives none of them out again.
struct Numbers {
    path: PathBuf,
    first: Option<i64>,
    mark: Mutex<i64>,
}

/// So far ahead the mark is set.
const AHEAD: i64 = 10_000;
/// 2020-01-01, in seconds since 1970: a base without a file counts from the seconds since then.
const EPOCH: i64 = 1_577_836_800;

impl Numbers {
    fn new(dir: &Path, first: Option<i64>) -> Self {
        let path = dir.join("numbers");
        let mark = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        Numbers { path, first, mark: Mutex::new(mark.unwrap_or_default()) }
    }

    /// The first number of a new base.
    fn first(&self) -> i64 {
        self.first.unwrap_or(jiff::Timestamp::now().as_second() - EPOCH).max(*locked(&self.mark))
    }

    /// Writes down that numbers up to this one are given out, before they are.
    fn note(&self, highest: i64) -> Result<(), BaseError> {
        let mut mark = locked(&self.mark);
        // Where no numbers are given out there is nothing to note.
        if highest == 0 || highest < *mark {
            return Ok(());
        }
        let next = highest.saturating_add(AHEAD);
        let failed = |error| BaseError::Dir(self.path.clone(), error);
        kept::replace(&self.path, format!("{next}\n").as_bytes()).map_err(failed)?;
        *mark = next;
        Ok(())
    }
}

impl File {
    fn work<T, E: Failure>(&self, work: &impl Fn(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let path = self.path.as_path();
        let mut kept = locked(&self.open);
        for _ in 0..TRIES {
            // A file that was truncated, removed or replaced is begun anew.
            if kept.as_ref().is_some_and(|(_, identity)| identity_of(path) != Some(*identity)) {
                *kept = None;
            }
            let (db, identity) = match &mut *kept {
                Some(kept) => kept,
                none => none.insert(self.connect()?),
            };
            let occupied = occupied(path);
            let done = transact(db, &self.numbers, work);
            // SQLite writes the pages that changed: a file that was truncated meanwhile is long again, full of holes.
            let is_there = identity_of(path) == Some(*identity);
            let is_doubted =
                self::occupied(path) < occupied || done.as_ref().is_err_and(|error| error.is_of_base());
            if is_there && (!is_doubted || is_sound(path)) {
                return done;
            }
            *kept = None;
            if is_there {
                self.set_aside("its content is not whole")?;
            }
        }
        Err(BaseError::Settings(format!("{} is damaged again and again", path.display())).into())
    }

    fn connect(&self) -> Result<(Connection, (u64, u64)), BaseError> {
        let path = self.path.as_path();
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| BaseError::Dir(path.to_owned(), error))?;
        }
        if path.exists() && identity_of(path).is_none() {
            // What is left beside it belongs to the lost one.
            self.set_aside("it was truncated")?;
        }
        let mut db = Connection::open(path)?;
        db.busy_timeout(PATIENCE)?;
        // A rollback journal reads the file afresh for each transaction: what is done to it from outside is seen.
        db.pragma_update(None, "journal_mode", "DELETE")?;
        db.pragma_update(None, "synchronous", "EXTRA")?;
        db.set_prepared_statement_cache_capacity(128);
        let tx = Tx::new(On::Sqlite(db.transaction_with_behavior(TransactionBehavior::Immediate)?));
        (self.purpose.prepare)(&tx, self.numbers.first())?;
        tx.commit(&self.numbers)?;
        let identity = identity_of(path);
        identity
            .map(|identity| (db, identity))
            .ok_or_else(|| BaseError::Settings(format!("{} vanished while it was opened", path.display())))
    }

    /// Moves the file and its journal aside, for a person to look at.
    fn set_aside(&self, why: &str) -> Result<(), BaseError> {
        let Purpose { name, source, .. } = self.purpose;
        let aside = kept::aside(&self.path);
        tracing::error!(file = %self.path.display(), why, aside, "{name} damaged: set aside, a new one is rebuilt from {source}");
        kept::set_aside(&self.path, &aside).map_err(|error| BaseError::Dir(self.path.clone(), error))
    }
}

fn transact<T, E: Failure>(
    db: &mut Connection,
    numbers: &Numbers,
    work: impl Fn(&Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| E::from(error.into()))?;
    let tx = Tx::new(On::Sqlite(transaction));
    let done = work(&tx)?;
    tx.commit(numbers)?;
    Ok(done)
}

/// Which file a path leads to, if it holds anything.
fn identity_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.len() >= 512)?;
    Some((metadata.dev(), metadata.ino()))
}

/// The room that a file takes on the disk, in blocks.
fn occupied(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| std::os::unix::fs::MetadataExt::blocks(&metadata))
}

/// Asks a connection that remembers nothing of the file.
fn is_sound(path: &Path) -> bool {
    let fresh = identity_of(path).and_then(|_| Connection::open(path).ok());
    fresh.is_some_and(|db| {
        let check = db.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
        check.is_ok_and(|said| said == "ok")
    })
}

impl Server {
    fn work<T, E: Failure>(&self, work: &impl Fn(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let _turn = self.turn();
        let mut tries = 0;
        loop {
            tries += 1;
            let kept = locked(&self.idle).pop().filter(|kept| !kept.client.is_closed());
            let fresh = kept.is_none();
            let mut connected = match kept {
                Some(kept) => kept,
                None => self.connect()?,
            };
            let done = self.transact(&mut connected, work);
            let is_closed = connected.client.is_closed();
            if !is_closed {
                locked(&self.idle).push(connected);
            }
            match done {
                // A connection that was idle may have died unseen: another is made.
                Err(error) if tries < TRIES && (error.is_busy() || (is_closed && !fresh)) => {
                    self.forget();
                    std::thread::sleep(kernel::jittered(Duration::from_millis(5 << tries.min(6))));
                }
                done => return done,
            }
        }
    }

    /// Waits for one of the connections.
    fn turn(&self) -> Turn<'_> {
        let mut room = locked(&self.room);
        while *room == 0 {
            room = self.freed.wait(room).unwrap_or_else(PoisonError::into_inner);
        }
        *room -= 1;
        Turn(self)
    }

    fn transact<T, E: Failure>(
        &self,
        connected: &mut Connected,
        work: &impl Fn(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Connected { client, statements } = connected;
        let transaction = client.transaction().map_err(|error| E::from(error.into()))?;
        let tx = Tx::new(On::Postgres(Mutex::new((transaction, statements))));
        let done = work(&tx)?;
        tx.commit(&self.numbers)?;
        Ok(done)
    }

    fn connect(&self) -> Result<Connected, BaseError> {
        let mut connected = Connected { client: self.address.connect()?, statements: HashMap::new() };
        if !self.prepared.load(Relaxed) {
            self.transact(&mut connected, &|tx: &Tx<'_>| {
                // Several hubs may begin at once; one of them makes the tables.
                tx.run("SELECT pg_advisory_xact_lock(739126)", &[])?;
                (self.purpose.prepare)(tx, self.numbers.first())
            })?;
            self.prepared.store(true, Relaxed);
        }
        Ok(connected)
    }

    /// Somebody made the base anew: the next connection makes the tables.
    fn forget(&self) {
        self.prepared.store(false, Relaxed);
        locked(&self.idle).clear();
    }
}

/// Statements are prepared once for each connection.
fn prepared(
    transaction: &mut postgres::Transaction<'_>,
    statements: &mut Statements,
    statement: &str,
) -> Result<postgres::Statement, BaseError> {
    if let Some(known) = statements.get(statement) {
        return Ok(known.clone());
    }
    let made = transaction.prepare(&statement.replace('?', "$"))?;
    // Those with numbers written into them would never end.
    if statements.len() < MOST_PREPARED && statement.len() < LONGEST_PREPARED {
        statements.insert(statement.to_owned(), made.clone());
    }
    Ok(made)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Tx<'a> {
    fn new(on: On<'a>) -> Self {
        Tx { on, highest: Cell::new(0) }
    }

    /// Makes it last. The numbers that it gave out are noted first.
    fn commit(self, numbers: &Numbers) -> Result<(), BaseError> {
        numbers.note(self.highest.get())?;
        match self.on {
            On::Sqlite(tx) => Ok(tx.commit()?),
            On::Postgres(tx) => Ok(tx.into_inner().unwrap_or_else(PoisonError::into_inner).0.commit()?),
        }
    }

    /// A number was given out, or is a drone's already.
    pub fn counted(&self, number: i64) {
        self.highest.set(self.highest.get().max(number));
    }

    /// Does a statement; answers with the number of rows that it changed.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn run(&self, statement: &str, values: &[Value]) -> Result<u64, BaseError> {
        match &self.on {
            On::Sqlite(tx) => {
                let mut statement = tx.prepare_cached(statement)?;
                if statement.column_count() > 0 {
                    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
                    while rows.next()?.is_some() {}
                    return Ok(0);
                }
                Ok(statement.execute(rusqlite::params_from_iter(values))? as u64)
            }
            On::Postgres(tx) => {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
                let (transaction, statements) = &mut *locked(tx);
                let statement = prepared(transaction, statements, statement)?;
                Ok(transaction.execute(&statement, &values)?)
            }
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn rows(&self, statement: &str, values: &[Value]) -> Result<Vec<Row>, BaseError> {
        match &self.on {
            On::Sqlite(tx) => {
                let mut statement = tx.prepare_cached(statement)?;
                let count = statement.column_count();
                let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
                    (0..count).map(|column| row.get_ref(column).map(value)).collect::<Result<_, _>>().map(Row)
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            }
            On::Postgres(tx) => {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
                let (transaction, statements) = &mut *locked(tx);
                let statement = prepared(transaction, statements, statement)?;
                transaction.query(&statement, &values)?.iter().map(row).collect()
            }
        }
    }

    /// The first row of an answer.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn row(&self, statement: &str, values: &[Value]) -> Result<Option<Row>, BaseError> {
        Ok(self.rows(statement, values)?.into_iter().next())
    }

    /// Seconds since 1970: the server's, which all its clients share, or this machine's.
    ///
    /// # Errors
    /// [`BaseError`].
    pub fn now(&self) -> Result<i64, BaseError> {
        match &self.on {
            On::Sqlite(_) => Ok(jiff::Timestamp::now().as_second()),
            On::Postgres(_) => {
                let now = self.row("SELECT CAST(extract(epoch FROM clock_timestamp()) AS BIGINT)", &[])?;
                Ok(now.map_or(0, |row| row.int(0)))
            }
        }
    }

    /// Goes behind a `SELECT` whose rows are to be taken by this transaction only.
    pub fn for_update(&self) -> &'static str {
        match &self.on {
            On::Sqlite(_) => "",
            On::Postgres(_) => " FOR UPDATE SKIP LOCKED",
        }
    }
}

impl Row {
    /// A number; 0 where there is none.
    pub fn int(&self, column: usize) -> i64 {
        self.maybe(column).unwrap_or_default()
    }

    /// A number, if there is one.
    pub fn maybe(&self, column: usize) -> Option<i64> {
        match self.0.get(column) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// A text; empty where there is none.
    pub fn text(&self, column: usize) -> &str {
        match self.0.get(column) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// A text, if there is one.
    pub fn maybe_text(&self, column: usize) -> Option<&str> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Is it 1?
    pub fn truth(&self, column: usize) -> bool {
        self.int(column) != 0
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Int(truth.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        // PostgreSQL's texts hold no zero byte, and nothing of ours does.
        Value::Text(text.replace('\0', "\u{fffd}"))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::from(text.as_str())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Int(number as i64),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            Value::Text(String::from_utf8_lossy(text).into_owned())
        }
    }
}

fn row(row: &postgres::Row) -> Result<Row, BaseError> {
    let columns = row.columns().iter().enumerate().map(|(index, column)| {
        Ok(match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.into(),
            Type::INT4 => row.try_get::<_, Option<i32>>(index)?.map(i64::from).into(),
            Type::BOOL => row.try_get::<_, Option<bool>>(index)?.into(),
            Type::VOID => Value::Null,
            _ => row.try_get::<_, Option<String>>(index)?.into(),
        })
    });
    columns.collect::<Result<_, BaseError>>().map(Row)
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => rusqlite::types::Null.into(),
            Value::Int(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
        })
    }
}

impl ToSql for Value {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(number) if *of == Type::INT4 => i32::try_from(*number)?.to_sql(of, out),
            Value::Int(number) => number.to_sql(of, out),
            Value::Text(text) => text.to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::TEXT].contains(of)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    const PURPOSE: Purpose = Purpose { name: "base", source: "the test", setting: "base", prepare };

    fn prepare(tx: &Tx<'_>, _: i64) -> Result<(), BaseError> {
        tx.run("CREATE TABLE IF NOT EXISTS labels (name TEXT NOT NULL)", &[])?;
        tx.run("CREATE TABLE IF NOT EXISTS others (name TEXT NOT NULL)", &[]).map(drop)
    }

    #[test]
    fn a_file_that_is_truncated_while_it_is_written_is_begun_anew_and_the_work_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let base = Base::new("hub.sqlite", dir.path(), Some(1), PURPOSE).unwrap();
        let add = |name: &str| format!("INSERT INTO labels (name) VALUES ('{name}')");
        base.with(|tx| tx.run(&add("lost"), &[])).unwrap();
        let (tries, new) = (AtomicU32::new(0), add("new"));
        let done = base.with(|tx| {
            let done = tx.run("UPDATE labels SET name = 'never kept'", &[])?;
            if tries.fetch_add(1, Relaxed) == 0 {
                std::fs::write(dir.path().join("hub.sqlite"), b"").unwrap();
                return Ok(done);
            }
            tx.run(&new, &[])
        });
        assert_eq!((done.unwrap(), tries.load(Relaxed)), (1, 2));
        // The same when the work is refused in the end.
        tries.store(0, Relaxed);
        let refused = base.with(|tx| {
            tx.run("UPDATE labels SET name = 'never kept'", &[])?;
            if tries.fetch_add(1, Relaxed) == 0 {
                let file = std::fs::File::options().write(true).open(dir.path().join("hub.sqlite")).unwrap();
                file.set_len(4096).unwrap();
            }
            Err::<(), _>(BaseError::Settings("refused".into()))
        });
        assert_eq!((refused.unwrap_err().to_string().as_str(), tries.load(Relaxed)), ("refused", 2));
        base.with(|tx| tx.run(&new, &[])).unwrap();
        let names = base.with(|tx| tx.rows("SELECT name FROM labels", &[])).unwrap();
        assert_eq!(names.iter().map(|row| row.text(0)).collect::<Vec<_>>(), ["new"]);
        let kept = std::fs::read_dir(dir.path()).unwrap().flatten();
        assert!(kept.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains(".damaged-")));
    }
}
