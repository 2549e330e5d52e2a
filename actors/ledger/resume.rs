//! What an attempt put into the store before it was cut off, so that the next one need not do it again.

use super::rows::{ObjectRow, PartRow, UploadRow};
use super::{Books, LedgerError, Work};
use crate::lab::RelPath;
use actix::Message;
use rusqlite::{Row, params};
use uuid::Uuid;

/// Notes objects that the store proved.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct SaveObjects {
    pub job: RelPath,
    pub attempt: Uuid,
    pub rows: Vec<ObjectRow>,
}

impl Work for SaveObjects {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        if !is_open(books, &self.job, &self.attempt)? {
            return Ok(());
        }
        let mut insert = books.open.prepare_cached(
            "INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        for row in &self.rows {
            insert.execute(params![
                self.job.as_bytes(),
                row.path.as_bytes(),
                row.key,
                row.size as i64,
                row.mtime_ns,
                row.ctime_ns,
                row.ino as i64,
                row.sha256,
                row.etag,
                row.version,
                row.proof
            ])?;
        }
        Ok(())
    }
}

/// Notes that a multipart upload was begun.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct SaveUpload {
    pub job: RelPath,
    pub attempt: Uuid,
    pub upload: UploadRow,
}

impl Work for SaveUpload {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        if !is_open(books, &self.job, &self.attempt)? {
            return Ok(());
        }
        let (job, row) = (self.job.as_bytes(), &self.upload);
        books
            .open
            .execute("DELETE FROM parts WHERE job = ?1 AND path = ?2", params![job, row.path.as_bytes()])?;
        let insert = "INSERT OR REPLACE INTO uploads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let values = params![
            job,
            row.path.as_bytes(),
            row.key,
            row.upload_id,
            row.part_size as i64,
            row.size as i64,
            row.mtime_ns,
            row.ctime_ns,
            row.ino as i64
        ];
        books.open.execute(insert, values).map(drop)
    }
}

/// Notes parts that the store has.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct SaveParts {
    pub job: RelPath,
    pub attempt: Uuid,
    pub path: RelPath,
    pub parts: Vec<PartRow>,
}

impl Work for SaveParts {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        if !is_open(books, &self.job, &self.attempt)? {
            return Ok(());
        }
        let mut insert = books.open.prepare_cached("INSERT OR REPLACE INTO parts VALUES (?1, ?2, ?3, ?4)")?;
        for part in &self.parts {
            insert.execute(params![self.job.as_bytes(), self.path.as_bytes(), part.number, part.token])?;
        }
        Ok(())
    }
}

/// Forgets an upload that ended or was aborted.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), LedgerError>")]
#[allow(missing_docs)]
pub struct ForgetUpload {
    pub job: RelPath,
    pub path: RelPath,
    pub upload_id: String,
}

impl Work for ForgetUpload {
    type Output = ();

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<()> {
        let (job, path) = (self.job.as_bytes(), self.path.as_bytes());
        let forget = "DELETE FROM uploads WHERE job = ?1 AND path = ?2 AND upload_id = ?3";
        if books.open.execute(forget, params![job, path, self.upload_id])? > 0 {
            books.open.execute("DELETE FROM parts WHERE job = ?1 AND path = ?2", params![job, path])?;
        }
        Ok(())
    }
}

/// Asks what earlier attempts left of a job.
#[derive(Debug, Message)]
#[rtype(result = "Result<Resumed, LedgerError>")]
pub struct ResumeMaterial(pub RelPath);

/// What earlier attempts left of a job: to be compared with the disk and the store before it counts.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Resumed {
    pub objects: Vec<ObjectRow>,
    pub uploads: Vec<UploadRow>,
}

impl Work for ResumeMaterial {
    type Output = Resumed;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Resumed> {
        let mut objects = books.open.prepare_cached("SELECT * FROM objects WHERE job = ?1")?;
        let objects = objects.query_map([self.0.as_bytes()], object)?.collect::<Result<Vec<_>, _>>()?;
        let mut uploads = books.open.prepare_cached("SELECT * FROM uploads WHERE job = ?1")?;
        let uploads = uploads.query_map([self.0.as_bytes()], upload)?.collect::<Result<Vec<_>, _>>()?;
        let mut uploads: Vec<UploadRow> = uploads.into_iter().flatten().collect();
        for upload in &mut uploads {
            let mut parts =
                books.open.prepare_cached("SELECT number, token FROM parts WHERE job = ?1 AND path = ?2")?;
            let parts = parts.query_map(params![self.0.as_bytes(), upload.path.as_bytes()], |row| {
                Ok(PartRow { number: row.get(0)?, token: row.get(1)? })
            })?;
            upload.parts = parts.collect::<Result<_, _>>()?;
        }
        Ok(Resumed { objects: objects.into_iter().flatten().collect(), uploads })
    }
}

/// Asks for every multipart upload that was begun and not ended.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<OpenUpload>, LedgerError>")]
pub struct OpenUploads;

/// An upload, and whose it is.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct OpenUpload {
    pub job: RelPath,
    pub upload: UploadRow,
}

impl Work for OpenUploads {
    type Output = Vec<OpenUpload>;

    fn run(&self, books: &Books<'_>) -> rusqlite::Result<Vec<OpenUpload>> {
        let mut uploads = books.open.prepare_cached("SELECT * FROM uploads")?;
        let uploads = uploads.query_map([], |row| {
            let job: Vec<u8> = row.get(0)?;
            Ok(RelPath::new(job).ok().zip(upload(row)?))
        })?;
        let uploads: Vec<_> = uploads.collect::<Result<_, _>>()?;
        Ok(uploads.into_iter().flatten().map(|(job, upload)| OpenUpload { job, upload }).collect())
    }
}

/// Forgets all of it: the job is stored, or given up by a person. Open uploads stay known for cleaning up.
pub fn clear(books: &Books<'_>, job: &RelPath) -> rusqlite::Result<()> {
    books.open.execute("DELETE FROM objects WHERE job = ?1", [job.as_bytes()]).map(drop)
}

fn is_open(books: &Books<'_>, job: &RelPath, attempt: &Uuid) -> rusqlite::Result<bool> {
    let open = "SELECT count(*) > 0 FROM attempts WHERE id = ?1 AND job = ?2 AND ended IS NULL";
    books.open.prepare_cached(open)?.query_row(params![attempt.as_bytes(), job.as_bytes()], |row| row.get(0))
}

fn object(row: &Row<'_>) -> rusqlite::Result<Option<ObjectRow>> {
    let path: Vec<u8> = row.get(1)?;
    let Ok(path) = RelPath::new(path) else { return Ok(None) };
    Ok(Some(ObjectRow {
        path,
        key: row.get(2)?,
        size: row.get::<_, i64>(3)? as u64,
        mtime_ns: row.get(4)?,
        ctime_ns: row.get(5)?,
        ino: row.get::<_, i64>(6)? as u64,
        sha256: row.get(7)?,
        etag: row.get(8)?,
        version: row.get(9)?,
        proof: row.get(10)?,
    }))
}

fn upload(row: &Row<'_>) -> rusqlite::Result<Option<UploadRow>> {
    let path: Vec<u8> = row.get(1)?;
    let Ok(path) = RelPath::new(path) else { return Ok(None) };
    Ok(Some(UploadRow {
        path,
        key: row.get(2)?,
        upload_id: row.get(3)?,
        part_size: row.get::<_, i64>(4)? as u64,
        size: row.get::<_, i64>(5)? as u64,
        mtime_ns: row.get(6)?,
        ctime_ns: row.get(7)?,
        ino: row.get::<_, i64>(8)? as u64,
        parts: Vec::new(),
    }))
}
