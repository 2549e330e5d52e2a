//! From names on a disk to keys in a store: injective, so that no two files meet in one object.
//!
//! Readers browse the store by name, so a harmless name is its own key. Bytes that a store refuses or
//! that tools read as patterns become `%` and two lower-case hex digits (the old offloader's form,
//! reference A4.1), and a `%` that could be mistaken for such an escape is itself escaped, which the
//! old form was not: there `a#` overwrote `a%23`.

use crate::lab::{Digest, RelPath};
use crate::packing::Encoding;

/// The directory of a job's objects that is ours; a local entry of that name is escaped out of its way.
pub const OWN: &str = ".dronekeeper";
/// Longest key that every store takes, in bytes (S3, GCS and Azure alike).
const LONGEST_KEY: usize = 1024;
/// Longest part of a key: a file system's 255, less room for the temporary name of a local store.
const LONGEST_PART: usize = 240;

/// One part of a path as one part of a key.
pub fn escape(part: &[u8]) -> String {
    if cfg!(seeded_bug = "lossy_names") {
        return String::from_utf8_lossy(part).replace(['#', '%'], "_");
    }
    let mut key = String::with_capacity(part.len());
    for (index, byte) in part.iter().enumerate() {
        let digit = |offset: usize| part.get(index + offset).is_some_and(u8::is_ascii_hexdigit);
        let plain = match byte {
            b'[' | b']' | b'*' | b'?' | b'#' | b'\\' => false,
            b'%' => !(digit(1) && digit(2)),
            // A trailing dot or space is dropped by some stores, which would let two names meet.
            b'.' | b' ' => index + 1 < part.len() || (*byte == b'.' && index == 0),
            0x21..=0x7e => true,
            _ => false,
        };
        match plain {
            true => key.push(char::from(*byte)),
            false => key.push_str(&format!("%{byte:02x}")),
        }
    }
    key
}

/// Where a job's objects go: `PREFIX/hosts/h1/7-reset`, and `…~2` for the second of that name.
pub fn job_prefix(store_prefix: &str, job: &RelPath, generation: u32) -> String {
    let mut key = String::from(store_prefix.trim_matches('/'));
    for part in job.parts() {
        if !key.is_empty() {
            key.push('/');
        }
        key.push_str(&escape(part));
    }
    if generation > 1 {
        key.push_str(&format!("~{generation}"));
    }
    key
}

/// The key of one file of a job. A key that a store could refuse is replaced by the path's SHA-256.
pub fn object_key(prefix: &str, path: &RelPath) -> String {
    let parts: Vec<String> = path.parts().map(escape).collect();
    let longest = parts.iter().map(String::len).max().unwrap_or_default();
    let mut relative = parts.join("/");
    if relative == OWN || relative.starts_with(&format!("{OWN}/")) {
        relative.replace_range(..1, "%2e");
    }
    if longest > LONGEST_PART || prefix.len() + 1 + relative.len() > LONGEST_KEY {
        relative = format!("{OWN}/long/{}", Digest::of(path.as_bytes()));
    }
    format!("{prefix}/{relative}")
}

/// The key of a pack, by the digest of what it holds.
pub fn pack_key(prefix: &str, contents: &Digest, encoding: Encoding) -> String {
    let name: String = contents.to_string().chars().take(32).collect();
    format!("{prefix}/{OWN}/packs/{name}.{}", encoding.ending())
}

/// The key of a job's manifest.
pub fn manifest_key(prefix: &str) -> String {
    format!("{prefix}/{OWN}/manifest.json")
}

/// The key of a job's claim.
pub fn claim_key(prefix: &str) -> String {
    format!("{prefix}/{OWN}/claim.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn unescape(key: &str) -> Vec<u8> {
        let (bytes, mut out, mut at) = (key.as_bytes(), Vec::new(), 0);
        while at < bytes.len() {
            let hex = bytes.get(at + 1..at + 3).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
            match (bytes[at], hex) {
                (b'%', Some(pair)) => {
                    out.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
                    at += 3;
                }
                (byte, _) => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        out
    }

    #[test]
    fn harmless_names_are_their_own_keys() {
        for name in ["status.log", "123-chromeos-test", "50%", "a b", ".version", "..a", "x~2", "%zz"] {
            assert_eq!(escape(name.as_bytes()), name);
        }
    }

    #[test]
    fn the_old_offloaders_escapes_are_kept() {
        assert_eq!(escape(b"foo[]*?#"), "foo%5b%5d%2a%3f%23");
        assert_eq!(escape("é".as_bytes()), "%c3%a9");
    }

    #[test]
    fn no_two_names_share_a_key() {
        // Every name of up to four characters over an alphabet of troublemakers.
        let alphabet = [b'%', b'2', b'3', b'#', b'.', b'a', 0xff];
        let mut seen: HashMap<String, Vec<u8>> = HashMap::new();
        let mut names: Vec<Vec<u8>> = vec![vec![]];
        for _ in 0..5 {
            names = names
                .iter()
                .flat_map(|name| alphabet.iter().map(|byte| [name.as_slice(), &[*byte]].concat()))
                .collect();
            for name in &names {
                let key = escape(name);
                assert_eq!(unescape(&key), *name, "{key} does not lead back");
                assert_eq!(seen.insert(key, name.clone()), None);
            }
        }
        assert_eq!(seen.len(), 7 + 49 + 343 + 2401 + 16807);
    }

    #[test]
    fn a_forged_manifest_cannot_take_the_place_of_ours() {
        let forged = RelPath::new(&b".dronekeeper/manifest.json"[..]).unwrap();
        assert_eq!(object_key("p/1-a", &forged), "p/1-a/%2edronekeeper/manifest.json");
        let lookalike = RelPath::new(&b"%2edronekeeper/manifest.json"[..]).unwrap();
        assert_eq!(object_key("p/1-a", &lookalike), "p/1-a/%252edronekeeper/manifest.json");
    }

    #[test]
    fn a_name_that_no_store_takes_becomes_a_digest() {
        let long = RelPath::new(vec![0xff; 255]).unwrap();
        assert!(object_key("1-a", &long).starts_with("1-a/.dronekeeper/long/"));
        let deep = RelPath::new([b"d".as_slice(); 700].join(&b'/')).unwrap();
        let key = object_key("1-a", &deep);
        assert!(key.len() <= LONGEST_KEY && key.contains("/long/"));
    }

    #[test]
    fn a_second_job_of_a_name_has_a_place_of_its_own() {
        let job = RelPath::new(&b"hosts/h#1/7-reset"[..]).unwrap();
        assert_eq!(job_prefix("/results/", &job, 1), "results/hosts/h%231/7-reset");
        assert_eq!(job_prefix("", &job, 2), "hosts/h%231/7-reset~2");
    }
}
