//! The central server that knows the lab's jobs, asked by JSON-RPC: an Autotest AFE, or `dronekeeper hub`.
//!
//! One request is `POST URL?method=NAME` with the arguments by name as the only element of `params`
//! (reference B1). All requests of the process together keep to a pace. Nothing that comes back is trusted: an
//! answer is of the shape that was asked for, or an error.

use crate::shown::{Shown, chain};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
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
    #[error("hub {url} answers {method} with HTTP status {status}")]
    Status { url: String, method: String, status: u16 },
    #[error("hub {url} answers {method} with what is no answer: {why}")]
    NoAnswer { url: String, method: String, why: String },
    #[error("hub {url} refuses {method}: {name}: {message}")]
    Refused { url: String, method: String, name: String, message: String },
}

/// The hub of a drone. One per process.
#[derive(Debug)]
pub struct Hub {
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

impl Hub {
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
        let client = client.build().map_err(|error| HubError::Settings(chain(&error)))?;
        Ok(Some(Hub {
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
        let first = self.answers.load(Relaxed);
        let mut last = HubError::Settings("no address".into());
        for step in 0..self.urls.len() {
            let position = (first + step) % self.urls.len();
            let Some(url) = self.urls.get(position) else { break };
            match self.ask(url, method, arguments, at_most.min(self.timeout)).await {
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
        time: Duration,
    ) -> Result<T, HubError> {
        self.pace().await;
        let asked = tokio::time::timeout(time, self.exchange(url, method, arguments)).await;
        let (url, method) = (Shown::text(url).to_string(), method.to_owned());
        let body =
            asked.unwrap_or(Err(HubError::TimedOut { url: url.clone(), method: method.clone(), time }))?;
        match serde_json::from_slice::<Envelope<T>>(&body) {
            Ok(Envelope { error: Some(fault), .. }) => {
                let (name, message) = (Shown::text(&fault.name), Shown::text(&fault.message));
                Err(HubError::Refused { url, method, name: name.to_string(), message: message.to_string() })
            }
            Ok(Envelope { result: Some(result), .. }) => Ok(result),
            Ok(_) => Err(HubError::NoAnswer { url, method, why: "neither a result nor an error".into() }),
            Err(error) => Err(HubError::NoAnswer { url, method, why: error.to_string() }),
        }
    }

    async fn exchange(&self, url: &str, method: &str, arguments: &Value) -> Result<Vec<u8>, HubError> {
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
        let body = json!({ "method": method, "params": [arguments], "id": "jsonrpc" });
        let request = request.header(reqwest::header::AUTHORIZATION, authorization).json(&body);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(HubError::Status { url: shown(), method: name, status });
        }
        let mut whole = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            whole.extend_from_slice(&piece);
            if whole.len() > LARGEST {
                let why = format!("more than {LARGEST} bytes");
                return Err(HubError::NoAnswer { url: shown(), method: name, why });
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_of_the_whole_process_keep_to_the_pace() {
        let settings = config::Hub { url: vec!["http://127.0.0.1:9/".into()], ..config::Hub::default() };
        let hub = Hub::open(&settings, 20, "drone").unwrap().unwrap();
        let begun = Instant::now();
        for _ in 0..21 {
            hub.pace().await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[test]
    fn without_an_address_there_is_no_hub() {
        assert!(Hub::open(&config::Hub::default(), 1, "drone").unwrap().is_none());
    }
}
