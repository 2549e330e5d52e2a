//! Turns an Autotest site's ini files into a configuration, and says what it could not turn.
//!
//! ```text
//! files --ini--> keys --map--> draft --> TOML that this version accepts
//!                       \--> left: what a person must do, and what nobody must
//! ```
//!
//! The files are the truth about the site as it ran, read as the original reads them. Nothing is guessed that
//! could delete results or send them where they did not go before.

mod address;
mod compliance;
mod draft;
mod ini;
mod left;
mod map;
#[cfg(test)]
mod tests;
mod words;

pub use ini::IniError;
pub use left::{Fate, Left};

use ini::Ini;
use std::path::Path;

/// A site's configuration in our words.
#[derive(Debug)]
pub struct Imported {
    /// The TOML, each key with its origin, with `left` as comments at its end. [`crate::parse`] accepts it.
    pub toml: String,
    /// So many keys of the ini files were carried over.
    pub carried: usize,
    /// What was not.
    pub left: Vec<Left>,
}

/// Imports ini files, each with its text; a later one overrides an earlier, as `shadow_config.ini` does
/// `global_config.ini`.
///
/// # Errors
/// [`IniError`] if a file is no ini file.
pub fn import(files: &[(&Path, &str)]) -> Result<Imported, IniError> {
    let mut site: Option<Ini> = None;
    for (path, text) in files {
        let read = Ini::parse(path, text)?;
        match &mut site {
            Some(site) => site.overlay(read),
            None => site = Some(read),
        }
    }
    let names: Vec<String> = files.iter().map(|(path, _)| shown(&path.to_string_lossy())).collect();
    Ok(map::map(&site.unwrap_or_default(), &names.join(" and ")))
}

/// Text on one line of a comment, whatever is in it.
fn shown(text: &str) -> String {
    let escape = |c: char| if c == '"' || c == '\'' { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(escape).collect()
}
