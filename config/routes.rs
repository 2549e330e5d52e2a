//! `[[route]]`: files that also go elsewhere, e.g. compliance results to their own bucket.

use crate::report::Complaint;
use crate::rules::bucket;
use crate::units::{self, Secret};
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// How a routed file is compressed on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RouteCompress {
    #[default]
    None,
    Gzip,
}

/// Files of one shape, and where they go beside the store. A job is not deleted before they arrived there.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// A pattern of paths within a job's directory; `*`, `?` and `[…]` do not match a `/`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The other store, as `store.url`.
    pub url: String,
    /// The key there, with `{variables}`.
    pub key: Key,
    /// `none` or `gzip`.
    #[serde(default)]
    pub compress: RouteCompress,
    /// The other store's options; none: those of `[store]`.
    #[serde(default)]
    pub options: BTreeMap<String, Secret>,
    /// By variable: one pattern of its value or more, of which one must match; with a `!` in front, none may.
    #[serde(default)]
    pub when: BTreeMap<String, Patterns>,
}

/// A key with `{variables}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<Piece>);

/// A piece of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Goes into the key as it is.
    Text(String),
    /// Is replaced by this variable's value.
    Variable(String),
}

/// Patterns of values; here `*` matches a `/` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(pub Vec<String>);

/// A key that cannot be read; says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadKey(String);

impl Display for BadKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bad = |why: &str| {
            let example = "write for example \"{package}/{job_id}_{timestamp}/{file}.gz\"";
            BadKey(format!("`{text}` is no key: {why}; {example}"))
        };
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(|| bad("a `{` has no `}`"))?;
            if name.is_empty() || name.contains('{') {
                return Err(bad("a variable has no name"));
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Variable(name.to_owned()));
            rest = behind;
        }
        if rest.contains('}') {
            return Err(bad("a `}` has no `{`"));
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        if pieces.is_empty() {
            return Err(bad("it is empty"));
        }
        Ok(Key(pieces))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        units::one_or_more(from).map(Patterns)
    }
}

impl Route {
    /// Replaces each option `x_file` by `x` with the file's content.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Complaint> {
        units::secret_files("route.options", &mut self.options)
    }
}

/// A key without a variable would be one object for every job; an address must be a store's.
pub(crate) fn judge(routes: &[Route], complaints: &mut Vec<Complaint>) {
    for (index, route) in routes.iter().enumerate() {
        let key = |name: &str| format!("route.{index}.{name}");
        if route.pattern.is_empty() || route.pattern.starts_with('/') {
            let help = "write for example \"*/cheets_CTS_*/results/*/*/test_result.xml\"";
            complaints.push(Complaint::key(&key("match"), "is no path below a job's directory", help));
        }
        if !route.key.0.iter().any(|piece| matches!(piece, Piece::Variable(_))) {
            let help = "write for example \"{job_id}/{file}\"";
            complaints.push(Complaint::key(&key("key"), "is the same for every job", help));
        }
        bucket(&route.url, &key("url"), complaints);
        for (variable, patterns) in &route.when {
            if patterns.0.iter().any(|pattern| pattern.trim_start_matches('!').is_empty()) {
                let text = format!("has an empty pattern for `{variable}`");
                complaints.push(Complaint::key(&key("when"), &text, "write for example \"arc-cts*\""));
            }
        }
    }
}
