//! One page of a listing, in the shape that both S3 and GCS give it.

use crate::text::{Query, encode, escape};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Most entries of a page.
const PAGE: usize = 1000;
/// Comes after every key that begins like this.
const LAST: char = char::MAX;

/// What a listing says of an object.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its ETag, in quotes.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Lists as the query asks: `prefix`, `delimiter`, `max-keys`, `start-after` or `marker`, `continuation-token`,
/// `encoding-type`.
pub fn page<T>(objects: &BTreeMap<String, T>, query: &Query, line: impl Fn(&T) -> Line) -> String {
    let given = |key| query.get(key).unwrap_or("");
    let (prefix, delimiter) = (given("prefix"), given("delimiter"));
    let after = ["continuation-token", "start-after", "marker"].into_iter().map(given).max().unwrap_or("");
    let most = query.get("max-keys").and_then(|most| most.parse().ok()).unwrap_or(PAGE).min(PAGE);
    let name = |text: &str| if given("encoding-type") == "url" { encode(text) } else { escape(text) };
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>");
    let (mut count, mut next, mut group) = (0, None, String::new());
    let keys = objects.range(after.max(prefix).to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
    for (key, object) in keys.filter(|(key, _)| after.is_empty() || key.as_str() > after) {
        if !group.is_empty() && key.starts_with(&group) {
            continue;
        }
        if count == most {
            out.push_str("<IsTruncated>true</IsTruncated>");
            let next: String = next.unwrap_or_default();
            write!(
                out,
                "<NextContinuationToken>{0}</NextContinuationToken><NextMarker>{0}</NextMarker>",
                name(&next)
            )
            .unwrap();
            return finish(out, count, prefix, query);
        }
        count += 1;
        let cut = if delimiter.is_empty() { None } else { key[prefix.len()..].find(delimiter) };
        if let Some(cut) = cut {
            group = key[..prefix.len() + cut + delimiter.len()].to_owned();
            write!(out, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", name(&group)).unwrap();
            next = Some(format!("{group}{LAST}"));
        } else {
            let Line { etag, size } = line(object);
            let etag = escape(&etag);
            write!(
                out,
                "<Contents><Key>{}</Key><LastModified>2026-11-20T22:00:00.000Z</LastModified><ETag>{etag}</ETag>\
                 <Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                name(key)
            )
            .unwrap();
            next = Some(key.clone());
        }
    }
    out.push_str("<IsTruncated>false</IsTruncated>");
    finish(out, count, prefix, query)
}

fn finish(mut out: String, count: usize, prefix: &str, query: &Query) -> String {
    if let Some(kind) = query.get("encoding-type") {
        write!(out, "<EncodingType>{}</EncodingType>", escape(kind)).unwrap();
    }
    write!(out, "<KeyCount>{count}</KeyCount><Prefix>{}</Prefix></ListBucketResult>", escape(prefix))
        .unwrap();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::elements;

    fn objects() -> BTreeMap<String, u64> {
        ["a", "b/1", "b/2/x", "b/3", "b0", "c&/z"].into_iter().map(|key| (key.to_owned(), 1)).collect()
    }

    /// Every key and common prefix, page by page.
    fn all(query: &str) -> Vec<String> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let query = Query::new(&format!("{query}&continuation-token={}", encode(&token)));
            let xml = page(&objects(), &query, |size| Line { etag: "\"e\"".into(), size: *size });
            found.extend(elements(&xml, "Key"));
            found.extend(elements(&xml, "CommonPrefixes"));
            match elements(&xml, "NextContinuationToken").pop() {
                Some(next) => token = next,
                None => return found,
            }
        }
    }

    #[test]
    fn pages_of_any_size_hold_every_key_once() {
        let keys: Vec<String> = objects().into_keys().collect();
        for most in 1..8 {
            assert_eq!(all(&format!("max-keys={most}")), keys, "{most} to a page");
        }
    }

    #[test]
    fn a_prefix_is_not_a_directory() {
        assert_eq!(all("prefix=b"), ["b/1", "b/2/x", "b/3", "b0"]);
        assert_eq!(all("prefix=b/"), ["b/1", "b/2/x", "b/3"]);
        assert_eq!(all("prefix=b&start-after=b/2"), ["b/2/x", "b/3", "b0"]);
    }

    #[test]
    fn a_delimiter_folds_what_is_below_it() {
        for most in 1..5 {
            let found = all(&format!("delimiter=/&max-keys={most}"));
            let (prefixes, keys): (Vec<_>, Vec<_>) = found.into_iter().partition(|name| name.contains('/'));
            assert_eq!(keys, ["a", "b0"], "{most} to a page");
            assert_eq!(prefixes, ["<Prefix>b/</Prefix>", "<Prefix>c&/</Prefix>"], "{most} to a page");
        }
    }
}
