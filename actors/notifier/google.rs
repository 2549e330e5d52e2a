//! A Google service account: a key file, of which short-lived tokens are made (RFC 7523, signed with RS256).

use super::sink::{SinkError, answer, brief};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Client;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;

/// What the tokens may do (reference A6.7).
const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";
/// How long a token is asked for, in seconds: the most that Google gives.
const LIFE: u64 = 3600;
/// A token is made anew so long before its end.
const EARLY: Duration = Duration::from_secs(120);

/// Why an account gives no token.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AccountError {
    #[error("`notify.account_file` is no service account's key: {0}")]
    File(String),
    #[error("the service account's key cannot sign")]
    Sign,
    #[error("the machine's clock stands before 1970")]
    Clock,
    #[error("no token: {0}")]
    Refused(String),
    #[error("no token")]
    Unreachable(#[source] Box<SinkError>),
}

/// A service account.
pub struct Account {
    email: String,
    token_uri: String,
    key: RsaKeyPair,
    token: Mutex<Option<(String, Instant)>>,
}

#[derive(Deserialize)]
struct File {
    client_email: String,
    private_key: String,
    token_uri: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("email", &self.email).finish_non_exhaustive()
    }
}

impl Account {
    /// Reads a key file's JSON.
    ///
    /// # Errors
    /// [`AccountError`] `File`; it never shows the key.
    pub fn read(json: &[u8]) -> Result<Self, AccountError> {
        let bad = |why: &str| AccountError::File(why.to_owned());
        let file: File = serde_json::from_slice(json)
            .map_err(|_| bad("not JSON with client_email, private_key, token_uri"))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes());
        let der = der.map_err(|_| bad("private_key is no PKCS #8 in PEM"))?;
        let key =
            RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| bad("private_key is no RSA key"))?;
        Ok(Account { email: file.client_email, token_uri: file.token_uri, key, token: Mutex::new(None) })
    }

    /// A token that is still good.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn token(&self, client: &Client) -> Result<String, AccountError> {
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = kept.as_ref()
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        let form = [("grant_type", grant), ("assertion", &self.assertion()?)];
        let asked = answer(&self.token_uri, client.post(&self.token_uri).form(&form)).await;
        let (status, text) = asked.map_err(|error| AccountError::Unreachable(Box::new(error)))?;
        let token: Token = match serde_json::from_slice(&text) {
            Ok(token) if status == 200 => token,
            _ => return Err(AccountError::Refused(format!("HTTP status {status}: {}", brief(&text)))),
        };
        let life = Duration::from_secs(token.expires_in.min(LIFE)).saturating_sub(EARLY);
        *kept = Some((token.access_token.clone(), Instant::now() + life));
        Ok(token.access_token)
    }

    /// Its token was refused: another is made.
    pub async fn forget(&self) {
        *self.token.lock().await = None;
    }

    fn assertion(&self) -> Result<String, AccountError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| AccountError::Clock)?.as_secs();
        let (scope, until) = (SCOPE, now + LIFE);
        let claims =
            json!({ "iss": self.email, "scope": scope, "aud": self.token_uri, "iat": now, "exp": until });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature);
        signed.map_err(|_| AccountError::Sign)?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
