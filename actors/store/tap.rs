//! Taps the store's HTTP: what its answers say beside the object, what was asked, how fast.
//!
//! object_store gives no checksum back, but it carries the extensions of an HTTP answer into its own
//! results; so the headers that prove something are put there.

use super::Settings;
use super::backend::Kind;
use super::checksum::{self, Checksum};
use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpService, ReqwestConnector,
};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The longest that a server's `Retry-After` is obeyed.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// What an answer says of the object, besides what object_store tells.
#[derive(Clone, Debug)]
pub struct Answered {
    checksum: Option<Checksum>,
}

impl Answered {
    /// An answer with that checksum.
    pub(super) fn with(checksum: Checksum) -> Self {
        Answered { checksum: Some(checksum) }
    }

    /// The checksum over the store's own bytes.
    pub fn checksum(&self) -> Option<Checksum> {
        self.checksum.clone()
    }
}

/// Counts requests and bytes, and keeps the uploads together below their bandwidth.
#[derive(Debug)]
pub struct Meter {
    requests: AtomicU64,
    bytes_sent: AtomicU64,
    /// When the last request was answered with success, in seconds since 1970; 0 for never.
    last_success: AtomicI64,
    bandwidth: Option<u64>,
    /// When the bytes that were let through so far will have passed at the set bandwidth.
    paid_until: Mutex<Instant>,
}

impl Meter {
    /// A meter at zero, for so many bytes per second at most.
    pub fn new(bandwidth: Option<u64>) -> Self {
        Meter {
            requests: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            last_success: AtomicI64::new(0),
            bandwidth,
            paid_until: Mutex::new(Instant::now()),
        }
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Bytes of request bodies so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Relaxed)
    }

    /// When a request last succeeded.
    pub fn last_success(&self) -> Option<i64> {
        Some(self.last_success.load(Relaxed)).filter(|seconds| *seconds > 0)
    }

    /// Counts a request that is not made over HTTP.
    pub(super) fn count(&self, bytes: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes_sent.fetch_add(bytes, Relaxed);
    }

    /// Waits until so many bytes may pass.
    pub async fn pass(&self, bytes: u64) {
        self.count(bytes);
        let Some(rate) = self.bandwidth.filter(|_| bytes > 0) else { return };
        let due = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*paid_until).max(Instant::now());
            *paid_until = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *paid_until
        };
        tokio::time::sleep_until(due.into()).await;
    }

    /// A request succeeded.
    pub(super) fn succeeded(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_success.store(now.as_secs() as i64, Relaxed);
    }
}

/// Makes tapped clients.
#[derive(Debug)]
pub(super) struct Tap {
    kind: Kind,
    stall: Duration,
    min_rate: u64,
    meter: Arc<Meter>,
}

impl Tap {
    /// For a kind of store, with the settings' patience.
    pub fn new(kind: Kind, settings: &Settings, meter: &Arc<Meter>) -> Self {
        let (stall, min_rate) = (settings.stall, settings.min_rate.max(1));
        Tap { kind, stall, min_rate, meter: meter.clone() }
    }
}

impl HttpConnector for Tap {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Tapped {
            inner,
            kind: self.kind,
            stall: self.stall,
            min_rate: self.min_rate,
            meter: self.meter.clone(),
        }))
    }
}

#[derive(Debug)]
struct Tapped {
    inner: HttpClient,
    kind: Kind,
    stall: Duration,
    min_rate: u64,
    meter: Arc<Meter>,
}

#[async_trait]
impl HttpService for Tapped {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut head, body) = request.into_parts();
        if is_metadata_server(head.uri.host().unwrap_or_default()) {
            return Err(HttpError::new(HttpErrorKind::Request, MetadataServer));
        }
        let length = body.content_length() as u64;
        // A body in one piece is sent with its head in one system call.
        let body = body.collect().await?.to_bytes();
        let put = head.method == "PUT" && !body.is_empty();
        // S3's checksum is the library's own; Azure signs every header, and computes its MD5 unasked.
        if put
            && self.kind == Kind::Gcs
            && let Some(checksum) = checksum::of(self.kind, &body)
            && let Ok(value) = checksum.to_string().parse()
        {
            head.headers.insert("x-goog-hash", value);
        }
        self.meter.pass(length).await;
        // As long as the body takes at the slowest rate that is borne, and then as long as a stall may last.
        // A completion in parts, a POST with a body, is bounded by its caller.
        let completion = head.method == "POST" && !body.is_empty();
        let patience = self.stall + Duration::from_secs(length / self.min_rate);
        let sending = self.inner.execute(HttpRequest::from_parts(head, HttpRequestBody::from(body)));
        let late = |_| HttpError::new(HttpErrorKind::Timeout, NoAnswer(patience));
        let mut response = match completion {
            true => sending.await?,
            false => tokio::time::timeout(patience, sending).await.map_err(late)??,
        };
        let status = response.status();
        if status.is_success() {
            self.meter.succeeded();
        } else if status.as_u16() == 429 || status.as_u16() == 503 {
            tokio::time::sleep(asked_to_wait(&response)).await;
        }
        let answered = Answered { checksum: checksum_in(self.kind, &response) };
        response.extensions_mut().insert(answered);
        Ok(response)
    }
}

/// A store would have asked the cloud's metadata server for credentials: ours are static.
#[derive(Debug, thiserror::Error)]
#[error("no credentials: a metadata server is never asked; set them in store.options")]
struct MetadataServer;

/// Amazon's, over IPv6.
const AMAZON_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A request was not answered in its time.
#[derive(Debug, thiserror::Error)]
#[error("timed out: no answer within {0:?}")]
struct NoAnswer(Duration);

/// The addresses that clouds give their metadata servers.
fn is_metadata_server(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let link_local = match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_unicast_link_local() || address == AMAZON_V6,
        Err(_) => false,
    };
    link_local
        || host.eq_ignore_ascii_case("metadata")
        || host.to_ascii_lowercase().starts_with("metadata.google")
}

/// How long the server asks to be left alone.
fn asked_to_wait(response: &HttpResponse) -> Duration {
    let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_WAIT)
}

/// The checksum in an answer, if it is one over the whole object.
fn checksum_in(kind: Kind, response: &HttpResponse) -> Option<Checksum> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    match kind {
        Kind::S3 => {
            let value = header("x-amz-checksum-crc64nvme")?.to_owned();
            Some(Checksum { name: "crc64nvme", value })
        }
        Kind::Gcs => {
            let mut hashes =
                response.headers().get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok());
            let value = hashes
                .find_map(|hashes| hashes.split(',').find_map(|hash| hash.trim().strip_prefix("crc32c=")));
            value.map(|value| Checksum { name: "crc32c", value: value.to_owned() })
        }
        Kind::Azure => header("content-md5").map(|value| Checksum { name: "md5", value: value.to_owned() }),
        Kind::File | Kind::Http | Kind::Memory | Kind::Rsync => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_servers_are_known_by_every_name() {
        for host in
            ["169.254.169.254", "169.254.170.2", "metadata.google.internal", "METADATA", "[fd00:ec2::254]"]
        {
            assert!(is_metadata_server(host), "{host}");
        }
        for host in ["127.0.0.1", "storage.googleapis.com", "metadata-results.lab", "10.0.0.1"] {
            assert!(!is_metadata_server(host), "{host}");
        }
    }

    #[tokio::test]
    async fn uploads_together_keep_to_the_bandwidth() {
        let meter = Meter::new(Some(100_000));
        let begun = Instant::now();
        for _ in 0..4 {
            meter.pass(10_000).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(390), "{:?}", begun.elapsed());
        assert_eq!((meter.requests(), meter.bytes_sent()), (4, 40_000));
    }
}
