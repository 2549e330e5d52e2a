//! Builds the store that a URL names, with timeouts and credentials that are ours to choose.
//!
//! Credentials are static: from the options, or from the environment variables that the store's own tools
//! read. Without any the store is refused, so that no metadata server is ever asked.

use super::error::StoreError;
use super::host::Host;
use super::metered::Metered;
use super::ssh::{Address, Ssh};
use super::tap::{Meter, Tap};
use super::{SINGLE, Settings};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};
use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// Which kind of store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    S3,
    Gcs,
    Azure,
    File,
    Http,
    Memory,
    Rsync,
}

/// The store, in the forms that it is used in.
pub struct Backend {
    /// Which kind it is.
    pub kind: Kind,
    /// For requests that end soon.
    pub store: Arc<dyn ObjectStore>,
    /// For long answers and slow completions: the caller bounds the time.
    pub patient: Arc<dyn ObjectStore>,
    /// Uploads in parts that can be gone on with; and the same, patient.
    pub parts: Option<(Arc<dyn MultipartStore>, Arc<dyn MultipartStore>)>,
    /// A results host.
    pub host: Option<Host>,
}

/// Stores in memory, by URL: the same for everybody in the process.
static MEMORIES: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

impl Debug for Backend {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({:?})", self.kind)
    }
}

impl Backend {
    /// Builds the store of `settings.url`.
    ///
    /// # Errors
    /// [`StoreError`] `Settings`.
    pub(super) fn open(settings: &Settings, meter: &Arc<Meter>) -> Result<Self, StoreError> {
        let scheme = settings.url.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "file" => Self::file(settings, meter),
            "memory" => {
                let mut memories = MEMORIES.lock().unwrap_or_else(PoisonError::into_inner);
                let memory = memories.entry(settings.url.clone()).or_default().clone();
                let (store, parts) = (memory.clone(), (memory.clone(), memory.clone()));
                Ok(Backend {
                    kind: Kind::Memory,
                    store,
                    patient: memory,
                    parts: Some((parts.0, parts.1)),
                    host: None,
                })
            }
            "s3" | "s3a" => Self::s3(settings, meter),
            "gs" => Self::gcs(settings, meter),
            "az" | "azure" => Self::azure(settings, meter),
            "http" | "https" => Self::http(settings, meter),
            "rsync" => Self::rsync(settings, meter),
            _ => Err(refused(settings, "its kind of URL is not known")),
        }
    }

    fn file(settings: &Settings, meter: &Arc<Meter>) -> Result<Self, StoreError> {
        let dir = settings.url.trim_start_matches("file://");
        std::fs::create_dir_all(dir)
            .map_err(|error| refused(settings, &format!("cannot make {dir}: {error}")))?;
        let store =
            LocalFileSystem::new_with_prefix(dir).map_err(|error| refused(settings, &error.to_string()))?;
        let store = Arc::new(Metered { store: store.with_fsync(true), meter: meter.clone() });
        Ok(Backend { kind: Kind::File, store: store.clone(), patient: store, parts: None, host: None })
    }

    fn rsync(settings: &Settings, meter: &Arc<Meter>) -> Result<Self, StoreError> {
        let url = Url::parse(&settings.url).map_err(|error| refused(settings, &error.to_string()))?;
        let mut address = Address {
            host: url.host_str().unwrap_or_default().to_owned(),
            user: url.username().to_owned(),
            port: url.port().unwrap_or(22),
            key: None,
            known_hosts: None,
        };
        for (name, value) in &settings.options {
            let path = Some(PathBuf::from(value.expose()));
            match name.as_str() {
                "ssh_key" => address.key = path,
                "ssh_known_hosts" => address.known_hosts = path,
                _ => {
                    return Err(refused(
                        settings,
                        &format!("option `{name}` is not known to a results host"),
                    ));
                }
            }
        }
        let paths = [&address.key, &address.known_hosts].into_iter().flatten();
        if paths.map(|path| path.to_string_lossy()).any(|path| path.contains([' ', '\'', '"', '\n'])) {
            return Err(refused(
                settings,
                "rsync cannot take the path of a key or of known hosts with a space or quote",
            ));
        }
        let root = url.path().trim_end_matches('/').to_owned();
        let ssh = Ssh::new(address).map_err(|error| refused(settings, &error.to_string()))?;
        let host = Host {
            ssh: Arc::new(ssh),
            root: if root.is_empty() { "/".to_owned() } else { root },
            stall: settings.stall,
            min_rate: settings.min_rate,
            bandwidth: settings.bandwidth,
            meter: meter.clone(),
        };
        let store = Arc::new(host.clone());
        Ok(Backend { kind: Kind::Rsync, store: store.clone(), patient: store, parts: None, host: Some(host) })
    }

    fn s3(settings: &Settings, meter: &Arc<Meter>) -> Result<Self, StoreError> {
        let kind = Kind::S3;
        let build = |patient: bool| {
            let mut builder = AmazonS3Builder::new().with_url(settings.url.as_str());
            for (key, value) in options::<AmazonS3ConfigKey>(settings, "AWS_")? {
                builder = builder.with_config(key, value);
            }
            let has = |key| is_set(builder.get_config_value(&key));
            if !has(AmazonS3ConfigKey::AccessKeyId) && !has(AmazonS3ConfigKey::SkipSignature) {
                return Err(refused(
                    settings,
                    "no credentials: set options aws_access_key_id and aws_secret_access_key (or aws_secret_access_key_file)",
                ));
            }
            let mut headers = as_stored();
            // Asks for the checksum with every HEAD and GET.
            headers
                .insert("x-amz-checksum-mode", "ENABLED".parse().map_err(|_| refused(settings, "header"))?);
            let builder = builder
                .with_checksum_algorithm(Checksum::CRC64NVME)
                .with_unsigned_payload(true)
                .with_conditional_put(S3ConditionalPut::ETagMatch)
                .with_client_options(client(settings, patient).with_default_headers(headers))
                .with_retry(retry())
                .with_http_connector(Tap::new(kind, settings, meter));
            builder.build().map(Arc::new).map_err(|error| refused(settings, &error.to_string()))
        };
        let (store, patient) = (build(false)?, build(true)?);
        let parts: (Arc<dyn MultipartStore>, Arc<dyn MultipartStore>) = (store.clone(), patient.clone());
        Ok(Backend { kind, store, patient, parts: Some(parts), host: None })
    }

    fn gcs(settings: &Settings, meter: &Arc<Meter>) -> Result<Self, StoreError> {
        let kind = Kind::Gcs;
        let build = |patient: bool| {
            let mut builder = GoogleCloudStorageBuilder::new().with_url(settings.url.as_str());
            for (key, value) in options::<GoogleConfigKey>(settings, "GOOGLE_")? {
                builder = builder.with_config(key, value);
            }
            let keys = [
                GoogleConfigKey::ServiceAccount,
                GoogleConfigKey::ServiceAccountKey,
                GoogleConfigKey::ApplicationCredentials,
                GoogleConfigKey::SkipSignature,
            ];
            if !keys.iter().any(|key| is_set(builder.get_config_value(key))) {
                return Err(refused(
                    settings,
                    "no credentials: set option google_service_account to the path of a key file",
                ));
            }
            if is_set(builder.get_config_value(&GoogleConfigKey::SkipSignature)) {
                // Otherwise the library asks the metadata server for a token that it then does not use.
                let nobody = GcpCredential { bearer: String::new() };
                builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
            }
            let builder = builder
                .with_client_options(client(settings, patient).with_default_headers(as_stored()))
                .with_retry(retry())
                .with_http_connector(Tap::new(kind, settings, meter));
            builder.build().map(Arc::new).map_err(|error| refused(settings, &error.to_string()))
        };
        let (store, patient) = (build(false)?, build(true)?);
        let parts: (Arc<dyn MultipartStore>, Arc<dyn MultipartStore>) = (store.clone(), patient.clone());
        Ok(Backend { kind, store, patient, parts: Some(parts), host: None })
    }

    fn azure(settings: &Settings, meter: &Arc<Meter>) -> Result<Self, StoreError> {
        let kind = Kind::Azure;
        let build = |patient: bool| {
            let mut builder = MicrosoftAzureBuilder::new().with_url(settings.url.as_str());
            for (key, value) in options::<AzureConfigKey>(settings, "AZURE_")? {
                builder = builder.with_config(key, value);
            }
            let keys = [
                AzureConfigKey::AccessKey,
                AzureConfigKey::SasKey,
                AzureConfigKey::Token,
                AzureConfigKey::ClientSecret,
                AzureConfigKey::SkipSignature,
                AzureConfigKey::UseEmulator,
            ];
            if !keys.iter().any(|key| is_set(builder.get_config_value(key))) {
                return Err(refused(
                    settings,
                    "no credentials: set option azure_storage_account_key (or its _file)",
                ));
            }
            let builder = builder
                .with_client_options(client(settings, patient).with_default_headers(as_stored()))
                .with_retry(retry())
                .with_http_connector(Tap::new(kind, settings, meter));
            builder.build().map(Arc::new).map_err(|error| refused(settings, &error.to_string()))
        };
        let (store, patient) = (build(false)?, build(true)?);
        let parts: (Arc<dyn MultipartStore>, Arc<dyn MultipartStore>) = (store.clone(), patient.clone());
        Ok(Backend { kind, store, patient, parts: Some(parts), host: None })
    }

    fn http(settings: &Settings, meter: &Arc<Meter>) -> Result<Self, StoreError> {
        let build = |patient: bool| -> Result<Arc<dyn ObjectStore>, StoreError> {
            let builder = HttpBuilder::new()
                .with_url(settings.url.as_str())
                .with_client_options(client(settings, patient))
                .with_retry(retry())
                .with_http_connector(Tap::new(Kind::Http, settings, meter));
            match builder.build() {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => Err(refused(settings, &error.to_string())),
            }
        };
        Ok(Backend { kind: Kind::Http, store: build(false)?, patient: build(true)?, parts: None, host: None })
    }
}

/// Timeouts of our own: the library's default of 30 s includes the body.
/// Objects are read as they are stored: without this GCS unpacks those that say that they are gzip.
fn as_stored() -> http::HeaderMap {
    [(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip"))].into_iter().collect()
}

fn client(settings: &Settings, patient: bool) -> ClientOptions {
    let plain = Url::parse(&settings.url).is_ok_and(|url| url.scheme() == "http")
        || settings.options.iter().any(|(_, value)| value.expose().starts_with("http://"));
    let options = ClientOptions::new()
        .with_allow_http(plain)
        .with_http1_only()
        .with_connect_timeout(Duration::from_secs(5))
        .with_pool_max_idle_per_host(settings.connections)
        .with_pool_idle_timeout(Duration::from_secs(20));
    match patient {
        // The caller watches every piece, and bounds a completion.
        true => options.with_timeout_disabled(),
        false => {
            let slowest = Duration::from_secs(SINGLE.max(16 << 20) / settings.min_rate.max(1));
            options.with_timeout(settings.stall + slowest)
        }
    }
}

/// Few tries inside the library: the attempt as a whole is tried again, with pauses of its own.
fn retry() -> RetryConfig {
    let (init, most) = (Duration::from_millis(100), Duration::from_secs(5));
    RetryConfig {
        backoff: BackoffConfig { init_backoff: init, max_backoff: most, base: 2.0 },
        max_retries: 3,
        retry_timeout: Duration::from_secs(600),
    }
}

/// The options of one kind of store: from the environment first, then from the settings, which win.
fn options<K: FromStr>(settings: &Settings, prefix: &str) -> Result<Vec<(K, String)>, StoreError> {
    let known = |name: &str| K::from_str(&name.to_ascii_lowercase()).ok();
    let mut found: Vec<(K, String)> = config::environment()
        .filter(|(name, _)| name.starts_with(prefix))
        .filter_map(|(name, value)| Some((known(&name)?, value)))
        .collect();
    for (name, value) in &settings.options {
        let key = known(name).ok_or_else(|| {
            refused(settings, &format!("option `{name}` is not known to this kind of store"))
        })?;
        found.push((key, value.expose().to_owned()));
    }
    Ok(found)
}

/// Unlinks every `NAME#N` below a directory; what cannot be read stays.
pub(super) fn tidy(dir: &std::path::Path) {
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
            let number = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, number)| number);
            let staged = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() && staged {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Truth values read `false` when nobody has set them.
fn is_set(value: Option<String>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "false")
}

fn refused(settings: &Settings, why: &str) -> StoreError {
    StoreError::Settings { store: settings.url.clone(), why: why.to_owned() }
}
