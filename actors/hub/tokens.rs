//! Who is who: bearer tokens of 256 bits, of which the base keeps the SHA-256.
//!
//! A drone may have two at a time, so that one can be replaced while it runs.

use super::{Refusal, schema};
use crate::base::{Base, BaseError, Tx};
use crate::lab::{Digest, hex};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A drone has at most so many tokens; the oldest goes.
const MOST: i64 = 2;
/// What a token was found to be is believed for so long.
const FRESH: Duration = Duration::from_secs(10);

/// Whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The administrator.
    Admin,
    /// The drone with this number and name.
    Drone(i64, String),
    /// Somebody without a token, where none is asked for.
    Anyone,
}

impl Caller {
    /// # Errors
    /// Unless it is the administrator.
    pub fn administers(&self, method: &str) -> Result<(), Refusal> {
        match self {
            Caller::Admin => Ok(()),
            _ => Err(Refusal::forbidden(format!("{method} takes the administrator's token"))),
        }
    }

    /// # Errors
    /// Unless it may speak for this drone.
    pub fn speaks_for(&self, hostname: &str) -> Result<(), Refusal> {
        match self {
            Caller::Drone(_, own) if own != hostname => Err(Refusal::forbidden(format!(
                "this token is not that of {}",
                crate::shown::Shown::text(hostname)
            ))),
            _ => Ok(()),
        }
    }
}

/// A new token: 64 hex digits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn make() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(hex(&bytes))
}

/// Gives a drone one more token.
///
/// # Errors
/// [`BaseError`].
pub fn give(tx: &Tx<'_>, shard: i64, token: &str) -> Result<(), BaseError> {
    let insert = "INSERT INTO tokens (hash, shard_id, number) VALUES (?1, ?2, ?3)";
    tx.run(insert, &[hash(token).into(), shard.into(), schema::number(tx, "tokens")?.into()])?;
    let old = "DELETE FROM tokens WHERE shard_id = ?1 AND hash NOT IN
               (SELECT hash FROM tokens WHERE shard_id = ?1 ORDER BY number DESC LIMIT ?2)";
    tx.run(old, &[shard.into(), MOST.into()]).map(drop)
}

fn hash(token: &str) -> String {
    Digest::of(token.as_bytes()).to_string()
}

/// Judges tokens.
pub struct Tokens {
    admin: String,
    required: bool,
    known: Mutex<HashMap<String, (Caller, Instant)>>,
}

impl Tokens {
    /// The administrator's token is in `dir`, made when it is missing. Without `required`, who shows none may ask as
    /// any drone, as at an AFE.
    ///
    /// # Errors
    /// When the token cannot be read or written.
    pub fn open(dir: &Path, required: bool) -> std::io::Result<Self> {
        let path = dir.join(ADMIN);
        let admin = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(dir)?;
                let token = make()?;
                let mut file =
                    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                writeln!(file, "{token}")?;
                file.sync_all()?;
                token
            }
            Err(error) => return Err(error),
        };
        if admin.len() < 32 {
            let why = format!("{} holds no token: remove it, and another is made", path.display());
            return Err(std::io::Error::other(why));
        }
        Ok(Tokens { admin: hash(&admin), required, known: Mutex::default() })
    }

    /// Who shows this `Authorization` header?
    ///
    /// # Errors
    /// [`Refusal`] for a token that is not known, or none where one is asked for.
    pub fn caller(&self, base: &Base, authorization: &str) -> Result<Caller, Refusal> {
        let Some(token) = authorization.strip_prefix("Bearer ") else {
            return match self.required {
                true => Err(Refusal::forbidden(
                    "no token: set `hub.token_file`, see `dronekeeper hub ctl add-shard`",
                )),
                false => Ok(Caller::Anyone),
            };
        };
        let hash = hash(token.trim());
        // Both are digests: how long the comparison takes says nothing of the token.
        if hash == self.admin {
            return Ok(Caller::Admin);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((caller, at)) = known.get(&hash)
            && at.elapsed() < FRESH
        {
            return Ok(caller.clone());
        }
        let select =
            "SELECT s.id, s.hostname FROM tokens t JOIN shards s ON s.id = t.shard_id WHERE t.hash = ?1";
        let found = base.with(|tx| tx.row(select, &[hash.as_str().into()]).map_err(Refusal::from))?;
        known.retain(|_, (_, at)| at.elapsed() < FRESH);
        let Some(row) = found else { return Err(Refusal::forbidden("this token is not known")) };
        let caller = Caller::Drone(row.int(0), row.text(1).to_owned());
        known.insert(hash, (caller.clone(), Instant::now()));
        Ok(caller)
    }
}

/// The file of the administrator's token.
pub const ADMIN: &str = "admin.token";
