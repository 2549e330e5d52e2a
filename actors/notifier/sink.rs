//! One address that is told, and how it is spoken to.

use super::google::{Account, AccountError};
use super::notice::{Facts, of_pubsub, of_webhook};
use crate::ledger::Notice;
use crate::shown::{Shown, chain};
use config::{Notify, NotifyKind};
use reqwest::{Certificate, Client, RequestBuilder};
use serde_json::Value;
use std::time::Duration;

/// The time that one request may take, to the last byte of its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most of an answer that is read, in bytes.
const LARGEST: usize = 64 << 10;

/// Why a listener was not told, or perhaps not. It is told again.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SinkError {
    #[error("cannot read {0}")]
    File(String, #[source] std::io::Error),
    #[error("`notify.ca_file` holds no certificate")]
    Certificate(#[source] reqwest::Error),
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("{url} cannot be told: {why}")]
    Unreachable { url: String, why: String },
    #[error("{url} did not answer within {PATIENCE:?}")]
    TimedOut { url: String },
    #[error("{url} answers with HTTP status {status}: {text}")]
    Status { url: String, status: u16, text: String },
    #[error("{url} answers without a message id: {text}")]
    NoIds { url: String, text: String },
    #[error("the notice cannot be read")]
    Notice(#[from] serde_json::Error),
}

/// Who is told.
#[derive(Debug)]
pub struct Sink {
    settings: Notify,
    client: Client,
    account: Option<Account>,
}

impl Sink {
    /// Prepares to tell; nothing is sent yet.
    ///
    /// # Errors
    /// [`SinkError`] for a certificate or an account that cannot be used.
    pub fn open(settings: &Notify) -> Result<Self, SinkError> {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| SinkError::File(path.display().to_string(), error))
        };
        let mut client = Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(5))
            .no_proxy();
        if let Some(path) = &settings.ca_file {
            for certificate in Certificate::from_pem_bundle(&read(path)?).map_err(SinkError::Certificate)? {
                client = client.add_root_certificate(certificate);
            }
        }
        let account = settings.account_file.as_deref().map(read).transpose()?;
        let account = account.map(|json| Account::read(&json)).transpose()?;
        let client = client.build().map_err(SinkError::Client)?;
        Ok(Sink { settings: settings.clone(), client, account })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// Tells it, once.
    ///
    /// # Errors
    /// [`SinkError`]; it may have been told all the same.
    pub async fn tell(&self, notice: &Notice) -> Result<(), SinkError> {
        let facts: Facts = serde_json::from_str(&notice.text)?;
        let attributes = &self.settings.attributes;
        let body = match self.settings.kind {
            NotifyKind::Webhook => of_webhook(&facts, attributes),
            NotifyKind::Pubsub => of_pubsub(&facts, attributes),
        };
        let mut request = self.client.post(&self.settings.url).header("Idempotency-Key", &notice.id);
        if let Some(token) = &self.settings.token {
            request = request.bearer_auth(token.expose());
        } else if let Some(account) = &self.account {
            request = request.bearer_auth(account.token(&self.client).await?);
        }
        let (status, text) = answer(&self.settings.url, request.json(&body)).await?;
        let url = || Shown::text(&self.settings.url).to_string();
        if status == 401
            && let Some(account) = &self.account
        {
            account.forget().await;
        }
        if !(200..300).contains(&status) {
            return Err(SinkError::Status { url: url(), status, text: brief(&text) });
        }
        let has_ids = |text: &[u8]| {
            let answer: Value = serde_json::from_slice(text).unwrap_or_default();
            answer.get("messageIds").and_then(Value::as_array).is_some_and(|ids| !ids.is_empty())
        };
        match self.settings.kind {
            NotifyKind::Pubsub if !has_ids(&text) => Err(SinkError::NoIds { url: url(), text: brief(&text) }),
            _ => Ok(()),
        }
    }
}

/// Sends a request; the status, and the beginning of the answer.
///
/// # Errors
/// [`SinkError`] `Unreachable`, `TimedOut`.
pub async fn answer(url: &str, request: RequestBuilder) -> Result<(u16, Vec<u8>), SinkError> {
    let url = Shown::text(url).to_string();
    let failed = |error: reqwest::Error| match error.is_timeout() {
        true => SinkError::TimedOut { url: url.clone() },
        false => SinkError::Unreachable { url: url.clone(), why: chain(&error.without_url()) },
    };
    let mut response = request.send().await.map_err(failed)?;
    let (status, mut text) = (response.status().as_u16(), Vec::new());
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        text.extend_from_slice(&piece);
        if text.len() > LARGEST {
            break;
        }
    }
    Ok((status, text))
}

/// The beginning of an answer, made safe to show.
pub fn brief(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(200).collect();
    Shown::text(text.trim()).to_string()
}
