//! The central server that knows the lab's jobs, asked by JSON-RPC: an Autotest AFE, or `dronekeeper hub`.
//!
//! One request is `POST URL?method=NAME` with the arguments by name as the only element of `params`
//! (reference B1). All requests of the process together keep to a pace. Nothing that comes back is trusted: an
//! answer is of the shape that was asked for, or an error.

use crate::shown::{Shown, chain};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Certificate, Client, ClientBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The largest answer that is read, in bytes: a hundred thousand jobs of 600.
const LARGEST: usize = 64 << 20;
/// A connection is tried for so long.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that was idle for so long is not used again: its server may have moved meanwhile.
const IDLE: Duration = Duration::from_secs(5);

/// Why the hub could not be asked. Nothing is concluded from any of these.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HubError {
    #[error("the hub's settings cannot work: {0}")]
    Settings(String),
    #[error("hub {url} cannot be asked for {method}: {why}")]
    Unreachable { url: String, method: String, why: String },
    #[error("hub {url} did not answer {method} within {time:?}")]
    TimedOut { url: String, method: String, time: Duration },
    #[error("hub {url} answers {method} with HTTP status {status}{why}")]
    Status { url: String, method: String, status: u16, why: String },
    #[error("hub {url} answers {method} with what is no answer: {why}")]
    NoAnswer { url: String, method: String, why: String },
    #[error("hub {url} refuses {method}: {name}: {message}")]
    Refused { url: String, method: String, name: String, message: String },
}

/// The hub of a drone. One per process.
#[derive(Debug)]
pub struct Link {
    urls: Vec<String>,
    /// The position of the address that answered last.
    answers: AtomicUsize,
    client: Client,
    token: Option<config::Secret>,
    drone: String,
    timeout: Duration,
    pause: Duration,
    next: Mutex<Instant>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    result: Option<T>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    name: String,
    #[serde(default)]
    message: String,
}

impl Link {
    /// The hub that the settings name; `None` when they name none. Nothing is asked yet.
    ///
    /// # Errors
    /// `Settings`.
    pub fn open(settings: &config::Hub, per_second: u32, drone: &str) -> Result<Option<Self>, HubError> {
        if settings.url.is_empty() {
            return Ok(None);
        }
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let client = trusting(client, settings.ca_file.as_deref())?;
        let client = client.build().map_err(|error| HubError::Settings(chain(&error)))?;
        Ok(Some(Link {
            urls: settings.url.clone(),
            answers: AtomicUsize::new(0),
            client,
            token: settings.token.clone(),
            drone: drone.to_owned(),
            timeout: settings.timeout,
            pause: Duration::from_secs(1) / per_second.max(1),
            next: Mutex::new(Instant::now()),
        }))
    }

    /// Its addresses.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Asks the address that answered last, then the others; within `at_most`, and the settings' time.
    ///
    /// # Errors
    /// The last address's [`HubError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &Value,
        at_most: Duration,
    ) -> Result<T, HubError> {
        self.call_packed(method, arguments, false, at_most).await
    }

    /// The same; `packed` sends the request compressed, to a hub that said that it can read that.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub async fn call_packed<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &Value,
        packed: bool,
        at_most: Duration,
    ) -> Result<T, HubError> {
        let first = self.answers.load(Relaxed);
        let mut last = HubError::Settings("no address".into());
        for step in 0..self.urls.len() {
            let position = (first + step) % self.urls.len();
            let Some(url) = self.urls.get(position) else { break };
            match self.ask(url, method, arguments, packed, at_most.min(self.timeout)).await {
                Ok(answer) => {
                    self.answers.store(position, Relaxed);
                    return Ok(answer);
                }
                // It was understood, and refused: another address is the same hub.
                Err(error @ HubError::Refused { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        url: &str,
        method: &str,
        arguments: &Value,
        packed: bool,
        time: Duration,
    ) -> Result<T, HubError> {
        self.pace().await;
        let asked = tokio::time::timeout(time, self.exchange(url, method, arguments, packed)).await;
        let (url, method) = (Shown::text(url).to_string(), method.to_owned());
        let body =
            asked.unwrap_or(Err(HubError::TimedOut { url: url.clone(), method: method.clone(), time }))?;
        match serde_json::from_slice::<Envelope<T>>(&body) {
            Ok(Envelope { error: Some(fault), .. }) => {
                let (name, message) = (Shown::text(&fault.name), Shown::text(&fault.message));
                Err(HubError::Refused { url, method, name: name.to_string(), message: message.to_string() })
            }
            Ok(Envelope { result: Some(result), .. }) => Ok(result),
            // Nothing is an answer where nothing was asked for.
            Ok(_) => serde_json::from_value(Value::Null).map_err(|_| {
                let why = "neither a result nor an error".into();
                HubError::NoAnswer { url, method, why }
            }),
            Err(error) => Err(HubError::NoAnswer { url, method, why: error.to_string() }),
        }
    }

    async fn exchange(
        &self,
        url: &str,
        method: &str,
        arguments: &Value,
        packed: bool,
    ) -> Result<Vec<u8>, HubError> {
        let (shown, name) = (|| Shown::text(url).to_string(), method.to_owned());
        let failed = |error: reqwest::Error| HubError::Unreachable {
            url: shown(),
            method: name.clone(),
            why: chain(&error),
        };
        let request = self.client.post(url).query(&[("method", method)]);
        let authorization = match &self.token {
            Some(token) => format!("Bearer {}", token.expose()),
            // What an AFE expects: a name, and no secret.
            None => self.drone.clone(),
        };
        let body = json!({ "method": method, "params": [arguments], "id": "jsonrpc" }).to_string();
        let request = request.header(AUTHORIZATION, authorization).header(CONTENT_TYPE, "application/json");
        let request = match packed {
            true => {
                request.header(CONTENT_ENCODING, "gzip").header(ACCEPT_ENCODING, "gzip").body(gzip(&body))
            }
            false => request.body(body),
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let is_packed = response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let too_large = || HubError::NoAnswer {
            url: shown(),
            method: name.clone(),
            why: format!("more than {LARGEST} bytes"),
        };
        let mut whole = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            whole.extend_from_slice(&piece);
            if whole.len() > LARGEST {
                return Err(too_large());
            }
        }
        if is_packed {
            let mut plain = Vec::new();
            let read = GzDecoder::new(&whole[..]).take(LARGEST as u64 + 1).read_to_end(&mut plain);
            read.map_err(|error| HubError::NoAnswer {
                url: shown(),
                method: name.clone(),
                why: chain(&error),
            })?;
            if plain.len() > LARGEST {
                return Err(too_large());
            }
            whole = plain;
        }
        if status != 200 {
            return Err(HubError::Status { url: shown(), method: name, status, why: reason(&whole) });
        }
        Ok(whole)
    }

    /// Waits until one more request keeps to the pace.
    async fn pace(&self) {
        let turn = {
            let mut next = self.next.lock().await;
            let turn = (*next).max(Instant::now());
            *next = turn + self.pause;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// What a hub of ours says with a status that is no success.
fn reason(body: &[u8]) -> String {
    let envelope: Option<Envelope<Value>> = serde_json::from_slice(body).ok();
    let fault = envelope.and_then(|envelope| envelope.error);
    fault.map_or(String::new(), |fault| format!(": {}", Shown::text(&fault.message)))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Into memory: it cannot fail.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
}

/// Lets a client trust the certificates of a file too.
fn trusting(mut client: ClientBuilder, ca_file: Option<&Path>) -> Result<ClientBuilder, HubError> {
    let Some(path) = ca_file else { return Ok(client) };
    let failed = |why: String| HubError::Settings(format!("`hub.ca_file` {}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    for certificate in Certificate::from_pem_bundle(&text).map_err(|error| failed(chain(&error)))? {
        client = client.add_root_certificate(certificate);
    }
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_of_the_whole_process_keep_to_the_pace() {
        let settings = config::Hub { url: vec!["http://127.0.0.1:9/".into()], ..config::Hub::default() };
        let hub = Link::open(&settings, 20, "drone").unwrap().unwrap();
        let begun = Instant::now();
        for _ in 0..21 {
            hub.pace().await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[test]
    fn without_an_address_there_is_no_hub() {
        assert!(Link::open(&config::Hub::default(), 1, "drone").unwrap().is_none());
    }
}
