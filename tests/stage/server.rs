//! S3, and GCS's XML API, over HTTP on loopback: as far as object_store speaks them, and strict about checksums.

use crate::bucket::{Object, Upload};
use crate::faults::{Fault, What};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Which dialect the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Amazon's.
    S3,
    /// Google's XML API.
    Gcs,
}

/// One request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `PUT`, `GET`, …
    pub method: String,
    /// Path and query, decoded.
    pub target: String,
    /// The answer's status; 0 for a connection that was cut.
    pub status: u16,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    faults: Vec<Fault>,
    log: Vec<Asked>,
    writes: u64,
    /// Bytes that may be stored; beyond, the answer is 507.
    room: Option<u64>,
}

struct Shared {
    flavour: Flavour,
    state: Mutex<State>,
}

/// A store on loopback, on a runtime of its own; it ends when dropped.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Cuts the connection.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

type Answer = Response<Full<Bytes>>;

impl Server {
    /// A store that keeps everything, on a free port.
    pub fn start(flavour: Flavour) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared { flavour, state: Mutex::default() });
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = shared.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Server { shared, address, runtime: Some(runtime) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a fault; it is tried before those that are there.
    pub fn misbehave(&self, fault: Fault) -> Fault {
        self.shared.state.lock().unwrap().faults.insert(0, fault.clone());
        fault
    }

    /// Takes all faults away.
    pub fn behave(&self) {
        self.shared.state.lock().unwrap().faults.clear();
    }

    /// Has room for so many bytes more.
    pub fn room(&self, bytes: Option<u64>) {
        self.shared.state.lock().unwrap().room = bytes;
    }

    /// Everything that it holds, by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        let state = self.shared.state.lock().unwrap();
        state.objects.iter().map(|(key, object)| (key.clone(), object.bytes.clone())).collect()
    }

    /// Overwrites an object behind everybody's back; `None` deletes it.
    pub fn mutate(&self, key: &str, bytes: Option<&[u8]>) {
        let mut state = self.shared.state.lock().unwrap();
        state.writes += 1;
        match bytes {
            Some(bytes) => {
                let gcs = self.shared.flavour == Flavour::Gcs;
                let object = Object::of(Bytes::copy_from_slice(bytes), gcs, state.writes);
                state.objects.insert(key.to_owned(), object);
            }
            None => drop(state.objects.remove(key)),
        }
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<Asked> {
        self.shared.state.lock().unwrap().log.clone()
    }

    /// Uploads that were begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.shared.state.lock().unwrap().uploads.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let method = head.method.as_str().to_owned();
    let target = decode(head.uri.path_and_query().map_or("", |target| target.as_str()));
    let fault = {
        let state = shared.state.lock().unwrap();
        state.faults.iter().find(|fault| fault.takes(&method, &target)).map(|fault| fault.what.clone())
    };
    match &fault {
        Some(What::CutBefore) => return cut(&shared, method, target),
        Some(What::Hang) => std::future::pending().await,
        Some(What::Delay(time)) => tokio::time::sleep(*time).await,
        Some(What::Status(status, wait)) => {
            let mut response = error(StatusCode::from_u16(*status).unwrap(), "Scripted");
            if let Some(wait) = wait {
                response.headers_mut().insert("retry-after", wait.to_string().parse().unwrap());
            }
            note(&shared, method, target, *status);
            return Ok(response);
        }
        _ => {}
    }
    let response = act(
        &shared,
        &method,
        head.uri.path(),
        head.uri.query().unwrap_or(""),
        &head.headers,
        &body,
        fault.as_ref(),
    );
    if fault == Some(What::Twice) {
        act(&shared, &method, head.uri.path(), head.uri.query().unwrap_or(""), &head.headers, &body, None);
    }
    if fault == Some(What::CutAfter) {
        return cut(&shared, method, target);
    }
    note(&shared, method, target, response.status().as_u16());
    Ok(response)
}

fn cut(shared: &Shared, method: String, target: String) -> Result<Answer, Cut> {
    note(shared, method, target, 0);
    Err(Cut)
}

fn note(shared: &Shared, method: String, target: String, status: u16) {
    shared.state.lock().unwrap().log.push(Asked { method, target, status });
}

/// Does what a request asks.
fn act(
    shared: &Shared,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
    fault: Option<&What>,
) -> Answer {
    let query: HashMap<String, String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(&value.replace('+', " "))))
        .collect();
    let path = decode(path);
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
    match method {
        "PUT" if query.contains_key("uploadId") => put_part(shared, &query, headers, body, fault),
        "PUT" => put(shared, key, headers, body, fault),
        "POST" if query.contains_key("delete") => delete_many(shared, body),
        "POST" if query.contains_key("uploads") => begin(shared, key, headers),
        "POST" if query.contains_key("uploadId") => complete(shared, &query, fault),
        "DELETE" if query.contains_key("uploadId") => {
            shared.state.lock().unwrap().uploads.remove(&query["uploadId"]);
            status(StatusCode::NO_CONTENT)
        }
        "DELETE" => {
            shared.state.lock().unwrap().objects.remove(&key);
            status(StatusCode::NO_CONTENT)
        }
        "GET" if key.is_empty() => list(shared, &query),
        "GET" | "HEAD" => get(shared, &key, method == "HEAD", headers),
        _ => error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

/// Refuses bytes that are not what their sender says they are.
fn is_what_it_says(shared: &Shared, headers: &HeaderMap, object: &Object) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match shared.flavour {
        Flavour::S3 => header("x-amz-checksum-crc64nvme").is_none_or(|sum| sum == object.crc64_text()),
        Flavour::Gcs => {
            header("x-goog-hash").is_none_or(|sum| sum == format!("crc32c={}", object.crc32c_text()))
        }
    }
}

/// What is really stored of a body.
fn stored(body: &Bytes, fault: Option<&What>) -> Bytes {
    match fault {
        Some(What::Damage | What::DamageSilently) => {
            let mut damaged = body.to_vec();
            match damaged.first_mut() {
                Some(first) => *first ^= 0x20,
                None => damaged.push(b'?'),
            }
            Bytes::from(damaged)
        }
        Some(What::Truncate) => body.slice(..body.len() / 2),
        _ => body.clone(),
    }
}

fn put(shared: &Shared, key: String, headers: &HeaderMap, body: &Bytes, fault: Option<&What>) -> Answer {
    let gcs = shared.flavour == Flavour::Gcs;
    let mut state = shared.state.lock().unwrap();
    let create = headers.get("if-none-match").is_some()
        || headers.get("x-goog-if-generation-match").is_some_and(|value| value == "0");
    if create && state.objects.contains_key(&key) {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    if let Some(room) = &mut state.room {
        match room.checked_sub(body.len() as u64) {
            Some(left) => *room = left,
            None => return error(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
        }
    }
    state.writes += 1;
    let sent = Object::of(body.clone(), gcs, state.writes);
    if !is_what_it_says(shared, headers, &sent) {
        return error(StatusCode::BAD_REQUEST, "BadDigest");
    }
    let sent = Object { headers: described_by(headers), ..sent };
    let there = match fault {
        None => sent.clone(),
        fault => {
            Object { headers: sent.headers.clone(), ..Object::of(stored(body, fault), gcs, state.writes) }
        }
    };
    let said = if fault == Some(&What::Damage) { there.clone() } else { sent };
    if fault != Some(&What::Lose) {
        state.objects.insert(key, there);
    }
    described(shared, status(StatusCode::OK), &said)
}

fn delete_many(shared: &Shared, body: &Bytes) -> Answer {
    let text = String::from_utf8_lossy(body);
    for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
        shared.state.lock().unwrap().objects.remove(&key.replace("&amp;", "&"));
    }
    xml("<DeleteResult></DeleteResult>".to_owned())
}

/// What a write says of the content.
fn described_by(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let kept = ["content-encoding", "content-type"];
    kept.iter().filter_map(|name| Some((*name, headers.get(*name)?.to_str().unwrap().to_owned()))).collect()
}

fn begin(shared: &Shared, key: String, headers: &HeaderMap) -> Answer {
    let mut state = shared.state.lock().unwrap();
    state.writes += 1;
    let id = format!("upload-{}", state.writes);
    state.uploads.insert(id.clone(), Upload { key, headers: described_by(headers), ..Upload::default() });
    xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
}

fn put_part(
    shared: &Shared,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    body: &Bytes,
    fault: Option<&What>,
) -> Answer {
    let gcs = shared.flavour == Flavour::Gcs;
    let (sent, there) = (Object::of(body.clone(), gcs, 0), Object::of(stored(body, fault), gcs, 0));
    if !is_what_it_says(shared, headers, &sent) {
        return error(StatusCode::BAD_REQUEST, "BadDigest");
    }
    let mut state = shared.state.lock().unwrap();
    let Some(upload) = state.uploads.get_mut(&query["uploadId"]) else {
        return error(StatusCode::NOT_FOUND, "NoSuchUpload");
    };
    if fault != Some(&What::Lose) {
        upload.parts.insert(query["partNumber"].parse().unwrap(), there);
    }
    described(shared, status(StatusCode::OK), &sent)
}

fn complete(shared: &Shared, query: &HashMap<String, String>, fault: Option<&What>) -> Answer {
    let mut state = shared.state.lock().unwrap();
    let Some(upload) = state.uploads.remove(&query["uploadId"]) else {
        return error(StatusCode::NOT_FOUND, "NoSuchUpload");
    };
    state.writes += 1;
    let object = upload.join(shared.flavour == Flavour::Gcs, state.writes);
    let object = Object { headers: upload.headers.clone(), ..object };
    if fault != Some(&What::Lose) {
        state.objects.insert(upload.key, object.clone());
    }
    let body = format!(
        "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
        object.etag.replace('"', "&quot;")
    );
    let mut response = xml(body);
    response.headers_mut().insert("x-goog-generation", object.generation.to_string().parse().unwrap());
    response
}

fn get(shared: &Shared, key: &str, head: bool, headers: &HeaderMap) -> Answer {
    let state = shared.state.lock().unwrap();
    let Some(object) = state.objects.get(key) else { return error(StatusCode::NOT_FOUND, "NoSuchKey") };
    let takes_gzip =
        headers.get("accept-encoding").is_some_and(|takes| takes.to_str().unwrap().contains("gzip"));
    let is_gzip = object.headers.iter().any(|(name, value)| *name == "content-encoding" && value == "gzip");
    let body = match head {
        true => Bytes::new(),
        // As Google does, for readers who cannot: https://cloud.google.com/storage/docs/transcoding
        false if is_gzip && !takes_gzip && shared.flavour == Flavour::Gcs => {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&object.bytes[..]), &mut plain)
                .unwrap();
            Bytes::from(plain)
        }
        false => object.bytes.clone(),
    };
    let mut response = Response::new(Full::new(body));
    for (name, value) in &object.headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    if head {
        response.headers_mut().insert("content-length", object.size.to_string().parse().unwrap());
    }
    response.headers_mut().insert("last-modified", "Fri, 20 Nov 2026 22:00:00 GMT".parse().unwrap());
    let wants_sum = shared.flavour == Flavour::Gcs || headers.get("x-amz-checksum-mode").is_some();
    if wants_sum { described(shared, response, object) } else { tagged(response, object) }
}

fn list(shared: &Shared, query: &HashMap<String, String>) -> Answer {
    let empty = String::new();
    let prefix = query.get("prefix").unwrap_or(&empty);
    let after = query.get("continuation-token").unwrap_or(&empty);
    let state = shared.state.lock().unwrap();
    let from = if after > prefix { after } else { prefix };
    let mut matching = state
        .objects
        .range(from.clone()..)
        .filter(|(key, _)| *key > after || after.is_empty())
        .take_while(|(key, _)| key.starts_with(prefix.as_str()));
    let page: Vec<(&String, &Object)> = matching.by_ref().take(1000).collect();
    let more = matching.next().is_some();
    let mut body = String::from("<ListBucketResult>");
    for (key, object) in &page {
        body.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>2026-11-20T22:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            escape(key),
            object.etag.replace('"', "&quot;"),
            object.size
        ));
    }
    body.push_str(&format!("<KeyCount>{}</KeyCount><IsTruncated>{more}</IsTruncated>", page.len()));
    if let (true, Some((last, _))) = (more, page.last()) {
        body.push_str(&format!("<NextContinuationToken>{}</NextContinuationToken>", escape(last)));
    }
    xml(body + "</ListBucketResult>")
}

/// Adds what the store says of an object: its ETag, its generation, the checksum of its stored bytes.
fn described(shared: &Shared, response: Answer, object: &Object) -> Answer {
    let mut response = tagged(response, object);
    let headers = response.headers_mut();
    match shared.flavour {
        Flavour::S3 => drop(headers.insert("x-amz-checksum-crc64nvme", object.crc64_text().parse().unwrap())),
        Flavour::Gcs => {
            headers.insert("x-goog-hash", format!("crc32c={}", object.crc32c_text()).parse().unwrap());
            headers.insert("x-goog-generation", object.generation.to_string().parse().unwrap());
        }
    }
    response
}

fn tagged(mut response: Answer, object: &Object) -> Answer {
    response.headers_mut().insert("etag", object.etag.parse().unwrap());
    response
}

fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn xml(body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(format!("<?xml version=\"1.0\"?>{body}"))));
    response.headers_mut().insert("content-type", "application/xml".parse().unwrap());
    response
}

fn error(code: StatusCode, name: &str) -> Answer {
    let mut response = xml(format!("<Error><Code>{name}</Code><Message>{name}</Message></Error>"));
    *response.status_mut() = code;
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn decode(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
