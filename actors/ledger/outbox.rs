//! What on-call was told and is to be told: incidents, and the mails that are not sent yet.
//!
//! Both are written in one transaction, so that a mail is neither lost nor written twice.

use super::rows::{nanoseconds, time};
use super::{Books, LedgerError, Work};
use actix::Message;
use rusqlite::{Row, params};
use std::time::SystemTime;
use uuid::Uuid;

/// The last trouble of one kind, open or over.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The kind: a problem's id.
    pub kind: String,
    /// Which trouble of that kind; its mails are one thread.
    pub id: Uuid,
    /// When it was first seen.
    pub since: SystemTime,
    /// Since when it is over; `None` while it is open.
    pub over: Option<SystemTime>,
    /// What was last said of it, one problem a line.
    pub text: String,
    /// So many mails were written about this one.
    pub mails: u32,
    /// When the last mail was written that told of trouble of this kind, be it of an earlier incident.
    pub mailed: Option<SystemTime>,
    /// So much happened since that mail.
    pub counted: u64,
}

/// A mail for one recipient, as it will be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// What its Message-ID is made of: the same whenever it is sent.
    pub id: String,
    /// Who it is for.
    pub recipient: String,
    /// The id of the mail that began its thread, unless it is this one.
    pub thread: Option<String>,
    /// The kind of trouble.
    pub kind: String,
    /// When it was written.
    pub at: SystemTime,
    /// Its subject, one line.
    pub subject: String,
    /// Its text.
    pub body: String,
}

/// All that is known of mail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MailBook {
    /// By kind.
    pub incidents: Vec<Incident>,
    /// By id and recipient.
    pub letters: Vec<Letter>,
}

/// Asks for what was kept.
#[derive(Debug, Message)]
#[rtype(result = "Result<MailBook, LedgerError>")]
pub struct ReadMail;

impl Work for ReadMail {
    type Output = MailBook;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<MailBook> {
        let select =
            "SELECT kind, id, since, over, text, mails, mailed, counted FROM incidents ORDER BY kind";
        let mut incidents = books.open.prepare_cached(select)?;
        let incidents = incidents.query_map([], incident)?.collect::<Result<_, _>>()?;
        let select =
            "SELECT id, recipient, thread, kind, at, subject, body FROM outbox ORDER BY id, recipient";
        let mut letters = books.open.prepare_cached(select)?;
        let letters = letters.query_map([], letter)?.collect::<Result<_, _>>()?;
        Ok(MailBook { incidents, letters })
    }
}

/// Keeps this and nothing else: also what a ledger that was begun anew does not have. What is kept already is
/// not written again.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
pub struct KeepMail(pub MailBook);

impl Work for KeepMail {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        let KeepMail(book) = self;
        if ReadMail.run(books)? == *book {
            return Ok(());
        }
        books.open.execute_batch("DELETE FROM incidents; DELETE FROM outbox;")?;
        let insert = "INSERT OR REPLACE INTO incidents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let mut insert = books.open.prepare_cached(insert)?;
        for Incident { kind, id, since, over, text, mails, mailed, counted } in &book.incidents {
            let (since, over, mailed) = (nanoseconds(*since), over.map(nanoseconds), mailed.map(nanoseconds));
            let counted = i64::try_from(*counted).unwrap_or(i64::MAX);
            insert.execute(params![kind, id.as_bytes(), since, over, text, mails, mailed, counted])?;
        }
        let mut insert =
            books.open.prepare_cached("INSERT OR REPLACE INTO outbox VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for Letter { id, recipient, thread, kind, at, subject, body } in &book.letters {
            insert.execute(params![id, recipient, thread, kind, nanoseconds(*at), subject, body])?;
        }
        Ok(())
    }
}

fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    Ok(Incident {
        kind: row.get(0)?,
        id: Uuid::from_bytes(row.get(1)?),
        since: time(row.get(2)?),
        over: row.get::<_, Option<i64>>(3)?.map(time),
        text: row.get(4)?,
        mails: row.get(5)?,
        mailed: row.get::<_, Option<i64>>(6)?.map(time),
        counted: row.get::<_, i64>(7)?.unsigned_abs(),
    })
}

fn letter(row: &Row<'_>) -> rusqlite::Result<Letter> {
    Ok(Letter {
        id: row.get(0)?,
        recipient: row.get(1)?,
        thread: row.get(2)?,
        kind: row.get(3)?,
        at: time(row.get(4)?),
        subject: row.get(5)?,
        body: row.get(6)?,
    })
}
