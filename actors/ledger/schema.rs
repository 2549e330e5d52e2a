//! The ledger's tables, and how an older ledger becomes a newer one.

use rusqlite::{Connection, Transaction};

/// The tables of one file; `PRAGMA user_version` counts the steps that were taken.
#[derive(Debug)]
pub struct Schema {
    /// What the file is called in the log.
    pub name: &'static str,
    /// What it is rebuilt from.
    pub source: &'static str,
    /// The steps, oldest first; none is ever changed.
    pub steps: &'static [&'static str],
}

/// The ledger's.
pub const LEDGER: Schema = Schema { name: "ledger", source: "the disk and the store", steps: &STEPS };

const STEPS: [&str; 5] = [
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES ('epoch', abs(random() / 2) + 1), ('version', 0);
    CREATE TABLE jobs (
        job BLOB PRIMARY KEY, dev INTEGER NOT NULL, ino INTEGER NOT NULL, born INTEGER NOT NULL,
        lane TEXT NOT NULL, state TEXT NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL,
        manifest BLOB NOT NULL, attempts INTEGER NOT NULL, last_error TEXT, first_seen INTEGER NOT NULL,
        sum INTEGER NOT NULL, version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX jobs_by_version ON jobs (version);
    CREATE TABLE attempts (
        id BLOB PRIMARY KEY, job BLOB NOT NULL, number INTEGER NOT NULL, boot BLOB NOT NULL,
        started INTEGER NOT NULL, ended INTEGER, outcome TEXT, error TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX attempts_by_job ON attempts (job, started);
    CREATE TABLE objects (
        job BLOB NOT NULL, path BLOB NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL,
        mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, ino INTEGER NOT NULL, sha256 TEXT NOT NULL,
        etag TEXT, object_version TEXT, proof TEXT NOT NULL, PRIMARY KEY (job, path)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE uploads (
        job BLOB NOT NULL, path BLOB NOT NULL, key TEXT NOT NULL, upload_id TEXT NOT NULL,
        part_size INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
        ino INTEGER NOT NULL, PRIMARY KEY (job, path)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE parts (
        job BLOB NOT NULL, path BLOB NOT NULL, number INTEGER NOT NULL, token TEXT NOT NULL,
        PRIMARY KEY (job, path, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE pauses (lane TEXT PRIMARY KEY, until INTEGER, reason TEXT NOT NULL) STRICT;
    CREATE TABLE deletions (at INTEGER NOT NULL) STRICT;
",
    "
    CREATE TABLE finished (
        job BLOB PRIMARY KEY, dev INTEGER NOT NULL, ino INTEGER NOT NULL, born INTEGER NOT NULL,
        lane TEXT NOT NULL, at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE clock (
        id INTEGER PRIMARY KEY CHECK (id = 0), boot TEXT NOT NULL, seen INTEGER NOT NULL,
        passed INTEGER NOT NULL, sum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE dwells (
        job BLOB PRIMARY KEY, manifest BLOB NOT NULL, since INTEGER NOT NULL, sum INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE incidents (
        kind TEXT PRIMARY KEY, id BLOB NOT NULL, since INTEGER NOT NULL, over INTEGER, text TEXT NOT NULL,
        mails INTEGER NOT NULL, mailed INTEGER, counted INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (
        id TEXT NOT NULL, recipient TEXT NOT NULL, thread TEXT, kind TEXT NOT NULL, at INTEGER NOT NULL,
        subject TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (id, recipient)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE notices (
        id TEXT NOT NULL, url TEXT NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (id, url)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX notices_by_age ON notices (at);
",
];

/// Which schema a ledger has; 0 for one without tables.
pub fn version(db: &Connection) -> rusqlite::Result<usize> {
    db.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).map(|version| version as usize)
}

impl Schema {
    /// The newest that this version knows.
    pub fn newest(&self) -> usize {
        self.steps.len()
    }

    /// Takes the steps that are missing, all or none.
    pub fn migrate(&self, transaction: &Transaction<'_>, from: usize) -> rusqlite::Result<()> {
        for step in self.steps.iter().skip(from) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", self.newest() as u32)
    }
}
