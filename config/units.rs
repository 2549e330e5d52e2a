//! Quantities as an operator writes them: `"3h"`, `"8MiB"`, `"64KiB/s"`, `"85%"`.

use crate::report::Complaint;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display, Formatter};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRate(pub u64);

/// A share in percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// A span of pauses, `"100ms..30s"`: the first, and the longest that doubling it may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

/// Text that is no such quantity; says what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUnit(String);

impl Display for BadUnit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ByteCount {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad =
            || BadUnit(format!("`{text}` is not a size; write for example \"8MiB\", \"512KiB\" or \"2GB\""));
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim_start() {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            "TB" => 1_000_000_000_000,
            "TiB" => 1 << 40,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(factor).map(ByteCount).ok_or_else(bad)
    }
}

impl FromStr for ByteRate {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit(format!("`{text}` is not a rate; write for example \"64KiB/s\""));
        let size = text.strip_suffix("/s").ok_or_else(bad)?;
        size.parse::<ByteCount>().map(|size| ByteRate(size.0)).map_err(|_| bad())
    }
}

impl FromStr for Percent {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit(format!("`{text}` is not a share; write for example \"85%\""));
        let number: u8 =
            text.strip_suffix('%').and_then(|number| number.trim().parse().ok()).ok_or_else(bad)?;
        if number <= 100 { Ok(Percent(number)) } else { Err(bad()) }
    }
}

impl FromStr for Pauses {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit(format!("`{text}` is not a span of times; write for example \"100ms..30s\""));
        let (first, most) = text.split_once("..").ok_or_else(bad)?;
        let time = |text: &str| humantime::parse_duration(text.trim()).map_err(|_| bad());
        let pauses = Pauses { first: time(first)?, most: time(most)? };
        if pauses.first <= pauses.most && !pauses.first.is_zero() { Ok(pauses) } else { Err(bad()) }
    }
}

impl Display for ByteCount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) if self.0.is_multiple_of(size) => write!(f, "{}{unit}", self.0 / size),
            Some((size, unit)) => write!(f, "{:.1} {unit}", self.0 as f64 / size as f64),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Display for ByteRate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteCount(self.0))
    }
}

macro_rules! from_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
from_text!(ByteCount, ByteRate, Percent, Pauses);

/// Reads a duration such as `"90s"`, `"3h"` or `"0d"`.
///
/// # Errors
/// Says what a duration looks like.
pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let example = "write for example \"90s\", \"3h\" or \"0d\"";
    humantime::parse_duration(&text)
        .map_err(|_| de::Error::custom(format!("`{text}` is not a duration; {example}")))
}

/// Reads a rate, or `"unlimited"`.
///
/// # Errors
/// Says what a rate looks like.
pub fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ByteRate>, D::Error> {
    match String::deserialize(from)?.as_str() {
        "unlimited" => Ok(None),
        text => text.parse().map(Some).map_err(de::Error::custom),
    }
}

/// Reads one text, or a list of them; an empty text is an empty list.
///
/// # Errors
/// When it is neither.
pub fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        One(String),
        More(Vec<String>),
    }
    Ok(match Value::deserialize(from)? {
        Value::One(text) if text.is_empty() => Vec::new(),
        Value::One(text) => vec![text],
        Value::More(texts) => texts,
    })
}

/// Replaces each option `x_file` by `x` with the file's content, without the newline at its end.
pub(crate) fn secret_files(section: &str, options: &mut BTreeMap<String, Secret>) -> Result<(), Complaint> {
    let files: Vec<String> = options.keys().filter(|key| key.ends_with("_file")).cloned().collect();
    for key in files {
        let Some(path) = options.remove(&key) else { continue };
        let secret = secret_file(&format!("{section}.{key}"), Path::new(path.expose()))?;
        options.insert(key.trim_end_matches("_file").to_owned(), secret);
    }
    Ok(())
}

/// Reads a secret from its file, without the newline at its end.
pub(crate) fn secret_file(key: &str, path: &Path) -> Result<Secret, Complaint> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
        Err(error) => {
            let text = format!("names the file {}, which cannot be read: {error}", path.display());
            Err(Complaint::key(key, &text, "check path and mode"))
        }
    }
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a value from being shown.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// Options are text to the store; a number or a truth value is taken as its text.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Text(String),
            Number(i64),
            Truth(bool),
        }
        Ok(Secret(match Value::deserialize(from)? {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Truth(truth) => truth.to_string(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_and_shown() {
        assert_eq!("8MiB".parse(), Ok(ByteCount(8 << 20)));
        assert_eq!("2 GB".parse(), Ok(ByteCount(2_000_000_000)));
        assert_eq!("64KiB/s".parse(), Ok(ByteRate(64 << 10)));
        assert_eq!(
            (ByteCount(8 << 20).to_string(), ByteCount(1536).to_string()),
            ("8MiB".into(), "1.5 KiB".into())
        );
        for bad in ["", "MiB", "8mib", "-1", "1.5MiB", "99999999999TiB"] {
            assert!(bad.parse::<ByteCount>().is_err(), "{bad} was taken for a size");
        }
        assert!("64KiB".parse::<ByteRate>().is_err());
    }

    #[test]
    fn shares_and_spans_are_bounded() {
        assert_eq!("85%".parse(), Ok(Percent(85)));
        assert!("101%".parse::<Percent>().is_err() && "85".parse::<Percent>().is_err());
        assert!("30s..1s".parse::<Pauses>().is_err() && "0s..1s".parse::<Pauses>().is_err());
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{0} {0:?}", Secret::new("hunter2")), "[redacted] [redacted]");
    }
}
