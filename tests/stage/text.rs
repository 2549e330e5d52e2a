//! The text that stores speak: percent codes, queries, and as much XML as their requests hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The query of a request, decoded. A key without a value has an empty one.
#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Takes what stands after the `?`.
    pub fn new(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Query(pairs.map(|(key, value)| (decode(key), decode(&value.replace('+', " ")))).collect())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Is the key there?
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

/// Reads percent codes. What is not UTF-8 then becomes replacement characters.
pub fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let code = digits.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes everything but letters, digits and `-_.~/` as percent codes.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(byte.into())
            }
            _ => write!(out, "%{byte:02X}").unwrap(),
        }
        out
    })
}

/// Text as it stands between two tags.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The text of every element of this name, in order; elements of one name are not nested.
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inside = xml.split(&open).skip(1).filter_map(|text| text.split_once(&close));
    inside.map(|(text, _)| unescape(text)).collect()
}

fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#34;", "\"");
    text.replace("&apos;", "'").replace("&amp;", "&")
}

/// The body of a refusal.
pub fn refusal(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_to_the_letter() {
        assert_eq!(decode("a%20b%2Fc%25d%zz%"), "a b/c%d%zz%");
        assert_eq!(decode(&encode("é/a b%~\n")), "é/a b%~\n");
        let query = Query::new("uploads&prefix=a+b%2B&x=1=2");
        assert_eq!((query.get("prefix"), query.get("x")), (Some("a b+"), Some("1=2")));
        assert!(query.has("uploads") && !query.has("upload"));
    }

    #[test]
    fn elements_are_found_in_order_and_unescaped() {
        let xml = format!("<A><K>{}</K><K>2</K></A>", escape("<&\">"));
        assert_eq!(elements(&xml, "K"), ["<&\">", "2"]);
    }
}
