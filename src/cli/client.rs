//! Asks a running drone over its control socket.

use crate::say;
use crate::status::Status;
use actors::shown::chain;
use config::Config;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

/// A running drone answers within so long, or counts as not running.
const PATIENCE: Duration = Duration::from_secs(15);

/// The control socket of the drone that a configuration names.
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer; said already.
pub struct NoAnswer(pub Status);

impl Client {
    /// Nothing is asked yet.
    pub fn new(config: &Config) -> Self {
        Client { socket: config.drone.state_dir.join(&config.admin.socket) }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`NoAnswer`], after saying why.
    pub fn get<T: DeserializeOwned>(&self, path: &str, which: &[(&str, &str)]) -> Result<T, NoAnswer> {
        self.ask(reqwest::Method::GET, path, which, None).map_err(|fault| self.told(fault))
    }

    /// Tells.
    ///
    /// # Errors
    /// [`NoAnswer`], after saying why.
    pub fn post(&self, path: &str, body: serde_json::Value) -> Result<serde_json::Value, NoAnswer> {
        self.ask(reqwest::Method::POST, path, &[], Some(body)).map_err(|fault| self.told(fault))
    }

    /// Asks, and says nothing when there is no answer.
    pub fn ask_quietly<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.ask(reqwest::Method::GET, path, &[], None).ok()
    }

    /// Says what is wrong.
    fn told(&self, fault: Fault) -> NoAnswer {
        match fault {
            Fault::NotRunning(why) => {
                let socket = self.socket.display();
                say::error(format_args!("no dronekeeper answers on {socket}: {why}"));
                say::note("  = help: is it running, with this configuration? Try `dronekeeper check`.");
                NoAnswer(Status::NotRunning)
            }
            Fault::Refused(why, status) => {
                say::error(why);
                NoAnswer(status)
            }
        }
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
        which: &[(&str, &str)],
        body: Option<serde_json::Value>,
    ) -> Result<T, Fault> {
        let not_running = |why: &dyn std::error::Error| Fault::NotRunning(chain(why));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| not_running(&error))?;
        runtime.block_on(async {
            let client =
                reqwest::Client::builder().unix_socket(self.socket.clone()).timeout(PATIENCE).no_proxy();
            let client = client.build().map_err(|error| not_running(&error))?;
            let mut request = client.request(method, format!("http://localhost/api/v1/{path}")).query(which);
            if let Some(body) = body {
                request = request.json(&body);
            }
            let response = request.send().await.map_err(|error| not_running(&error))?;
            let status = response.status();
            let bytes = response.bytes().await.map_err(|error| not_running(&error))?;
            if status.is_success() {
                return serde_json::from_slice(&bytes).map_err(|error| not_running(&error));
            }
            let said: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
            let why = said.as_ref().and_then(|said| said.get("error")).and_then(serde_json::Value::as_str);
            let why = why.unwrap_or("the drone refused, without a word").to_owned();
            Err(Fault::Refused(why, if status.as_u16() == 404 { Status::UnknownJob } else { Status::Failed }))
        })
    }
}

/// Why there is no answer.
enum Fault {
    NotRunning(String),
    Refused(String, Status),
}
