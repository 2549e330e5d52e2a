//! The S3 of a sink: what each request does, and its answer.

use super::measure::Measured;
use super::wire::Head;
use crate::listing::{Line, page};
use crate::text::{Query, decode, elements, escape, refusal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Mutex;

#[derive(Default)]
pub(super) struct Shelf(Mutex<State>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Held>,
    uploads: HashMap<String, BTreeMap<u32, Measured>>,
    begun: u64,
}

struct Held {
    measured: Measured,
    /// How many parts it was written in; 0 for a single write.
    parts: usize,
}

impl Held {
    /// Names the content, and cannot be taken for an MD5.
    fn etag(&self) -> String {
        let (crc64, size) = (self.measured.crc64, self.measured.size);
        let kind = if self.parts == 0 { String::new() } else { format!("-{}", self.parts) };
        format!("\"c64-{crc64:016x}{size:x}{kind}\"")
    }
}

/// An answer under way.
struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// The length that a HEAD tells, where the body is left out.
    length: Option<u64>,
}

impl Answer {
    fn ok() -> Self {
        Answer { status: "200 OK", headers: String::new(), body: Vec::new(), length: None }
    }

    fn xml(body: String) -> Self {
        let headers = "content-type: application/xml\r\n".to_owned();
        Answer { headers, body: body.into_bytes(), ..Answer::ok() }
    }

    fn refused(status: &'static str, code: &str) -> Self {
        Answer { status, ..Answer::xml(refusal(code)) }
    }

    fn of(mut self, held: &Held, checksum: bool) -> Self {
        write!(self.headers, "etag: {}\r\n", held.etag()).unwrap();
        if checksum {
            let sum = STANDARD.encode(held.measured.crc64.to_be_bytes());
            write!(self.headers, "x-amz-checksum-crc64nvme: {sum}\r\nx-amz-checksum-type: FULL_OBJECT\r\n")
                .unwrap();
        }
        self
    }

    fn bytes(self) -> Vec<u8> {
        let length = self.length.unwrap_or(self.body.len() as u64);
        // An answer without content has no length either (RFC 9110, section 8.6).
        let length = if self.status.starts_with("204") {
            String::new()
        } else {
            format!("content-length: {length}\r\n")
        };
        let mut out = Vec::with_capacity(256 + self.body.len());
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.as_bytes());
        out.extend_from_slice(format!("\r\n{length}{}\r\n", self.headers).as_bytes());
        out.extend_from_slice(&self.body);
        out
    }
}

impl Shelf {
    /// Does what a request asks, and writes the answer to it.
    pub fn answer(&self, head: &Head, body: Measured) -> Vec<u8> {
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let (key, query) = (decode(key), Query::new(query));
        let answer = match head.method.as_str() {
            _ if bucket == "-" => self.count(&head.method),
            "PUT" if key.is_empty() => Answer::ok(),
            "PUT" if query.has("uploadId") => self.put_part(head, &query, body),
            "PUT" => self.put(head, key, body),
            "POST" if query.has("uploads") => self.begin(&key),
            "POST" if query.has("uploadId") => self.complete(key, &query),
            "POST" if query.has("delete") => self.delete(&body),
            "DELETE" => self.forget(&key, &query),
            "GET" if key.is_empty() && query.has("location") => {
                Answer::xml("<LocationConstraint>us-east-1</LocationConstraint>".into())
            }
            "GET" if key.is_empty() => self.list(&query),
            "HEAD" if key.is_empty() => Answer::ok(),
            "GET" | "HEAD" => self.read(head, &key),
            _ => Answer::refused("405 Method Not Allowed", "MethodNotAllowed"),
        };
        answer.bytes()
    }

    fn count(&self, method: &str) -> Answer {
        let mut state = self.0.lock().unwrap();
        if method == "DELETE" {
            *state = State::default();
        }
        let results = state.objects.iter().filter(|(key, _)| !key.contains(".dronekeeper"));
        let (objects, bytes) =
            results.fold((0, 0), |(count, sum), (_, held)| (count + 1, sum + held.measured.size));
        let manifests =
            state.objects.keys().filter(|key| key.ends_with("/.dronekeeper/manifest.json")).count();
        let uploads = state.uploads.len();
        let counted = format!(
            "{{\"objects\": {objects}, \"bytes\": {bytes}, \"manifests\": {manifests}, \"open_uploads\": {uploads}}}\n"
        );
        Answer { body: counted.into_bytes(), ..Answer::ok() }
    }

    fn put(&self, head: &Head, key: String, measured: Measured) -> Answer {
        if let Some(refused) = wrong(head, &measured) {
            return refused;
        }
        let held = Held { measured, parts: 0 };
        let answer = Answer::ok().of(&held, true);
        let mut state = self.0.lock().unwrap();
        if head.creates && state.objects.contains_key(&key) {
            return Answer::refused("412 Precondition Failed", "PreconditionFailed");
        }
        state.objects.insert(key, held);
        answer
    }

    fn begin(&self, key: &str) -> Answer {
        let mut state = self.0.lock().unwrap();
        state.begun += 1;
        let id = format!("upload-{}", state.begun);
        state.uploads.insert(id.clone(), BTreeMap::new());
        let key = escape(key);
        Answer::xml(format!(
            "<InitiateMultipartUploadResult><Bucket>bench</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>"
        ))
    }

    fn put_part(&self, head: &Head, query: &Query, measured: Measured) -> Answer {
        if let Some(refused) = wrong(head, &measured) {
            return refused;
        }
        let number = query.get("partNumber").and_then(|number| number.parse().ok());
        let mut state = self.0.lock().unwrap();
        let upload = query.get("uploadId").and_then(|id| state.uploads.get_mut(id));
        match (upload, number) {
            (Some(parts), Some(number)) => {
                let held = Held { measured, parts: 0 };
                let answer = Answer::ok().of(&held, true);
                parts.insert(number, held.measured);
                answer
            }
            _ => Answer::refused("404 Not Found", "NoSuchUpload"),
        }
    }

    fn complete(&self, key: String, query: &Query) -> Answer {
        let mut state = self.0.lock().unwrap();
        let Some(parts) = query.get("uploadId").and_then(|id| state.uploads.remove(id)) else {
            return Answer::refused("404 Not Found", "NoSuchUpload");
        };
        let nothing = Measured { crc64: 0, size: 0, kept: None };
        let measured = parts.values().fold(nothing, |whole, part| whole.then(part));
        let held = Held { measured, parts: parts.len() };
        let (etag, name) = (escape(&held.etag()), escape(&key));
        state.objects.insert(key, held);
        Answer::xml(format!(
            "<CompleteMultipartUploadResult><Bucket>bench</Bucket><Key>{name}</Key><ETag>{etag}</ETag>\
             </CompleteMultipartUploadResult>"
        ))
    }

    fn delete(&self, body: &Measured) -> Answer {
        let mut state = self.0.lock().unwrap();
        let xml = String::from_utf8_lossy(body.kept.as_deref().unwrap_or_default());
        let deleted = elements(&xml, "Key").into_iter().fold(String::new(), |mut out, key| {
            state.objects.remove(&key);
            write!(out, "<Deleted><Key>{}</Key></Deleted>", escape(&key)).unwrap();
            out
        });
        Answer::xml(format!("<DeleteResult>{deleted}</DeleteResult>"))
    }

    fn forget(&self, key: &str, query: &Query) -> Answer {
        let mut state = self.0.lock().unwrap();
        match query.get("uploadId") {
            Some(id) => drop(state.uploads.remove(id)),
            None => drop(state.objects.remove(key)),
        }
        Answer { status: "204 No Content", ..Answer::ok() }
    }

    fn list(&self, query: &Query) -> Answer {
        let state = self.0.lock().unwrap();
        Answer::xml(page(&state.objects, query, |held| Line { etag: held.etag(), size: held.measured.size }))
    }

    fn read(&self, head: &Head, key: &str) -> Answer {
        let state = self.0.lock().unwrap();
        let only_head = head.method == "HEAD";
        let Some(held) = state.objects.get(key) else {
            let refused = Answer::refused("404 Not Found", "NoSuchKey");
            return if only_head { Answer { body: Vec::new(), ..refused } } else { refused };
        };
        let mut answer = Answer::ok().of(held, head.asks_checksum);
        answer.headers.push_str("last-modified: Fri, 20 Nov 2026 22:00:00 GMT\r\naccept-ranges: bytes\r\n");
        match &held.measured.kept {
            _ if only_head => Answer { length: Some(held.measured.size), ..answer },
            Some(bytes) => Answer { body: bytes.clone(), ..answer },
            None => Answer::refused("410 Gone", "BytesAreNotKept"),
        }
    }
}

/// The refusal of bytes that are not what their sender says they are.
fn wrong(head: &Head, measured: &Measured) -> Option<Answer> {
    let sum = STANDARD.encode(measured.crc64.to_be_bytes());
    let differs = head.crc64.as_ref().is_some_and(|said| *said != sum);
    differs.then(|| Answer::refused("400 Bad Request", "BadDigest"))
}
