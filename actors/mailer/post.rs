//! Sends one mail: builds it with lettre's typed headers, and bounds the time that a server may take.

use super::letter::cut;
use crate::ledger::Letter;
use crate::shown::{Shown, chain};
use lettre::address::AddressError;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Category, Severity};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// The time that one mail may take, from the connection on. The library's own limit bounds single reads, and
/// no server that stays silent in between.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a mail was not sent, or perhaps not. It is kept, and sent again under the same Message-ID.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PostError {
    #[error("`mail.smtp` names no mail server")]
    Url,
    #[error("{0} is no address that mail can be sent to")]
    Address(String, #[source] AddressError),
    #[error("cannot read {0}")]
    Roots(PathBuf, #[source] std::io::Error),
    #[error("the mail could not be built")]
    Message(#[from] lettre::error::Error),
    #[error("mail server {0}")]
    Server(String, #[source] lettre::transport::smtp::Error),
    #[error("mail server {0} did not finish within {1:?}")]
    Silent(String, Duration),
}

impl PostError {
    /// Does it concern this mail alone, so that others may get through?
    pub fn is_of_mail(&self) -> bool {
        match self {
            PostError::Server(_, error) => {
                error.status().is_some_and(|code| code.category == Category::MailSystem)
            }
            PostError::Address(..) | PostError::Message(_) => true,
            PostError::Url | PostError::Roots(..) | PostError::Silent(..) => false,
        }
    }

    /// Did the server say that trying again is of no use?
    pub fn is_final(&self) -> bool {
        match self {
            PostError::Server(_, error) => {
                error.status().is_some_and(|code| code.severity == Severity::PermanentNegativeCompletion)
            }
            _ => false,
        }
    }
}

/// Sends one mail over a connection of its own.
///
/// # Errors
/// [`PostError`].
pub async fn send(settings: &config::Mail, drone: &str, letter: &Letter) -> Result<(), PostError> {
    let message = message(&settings.from, drone, letter)?;
    let server = name(settings);
    let work = async {
        let transport = transport(settings, drone).await?;
        transport.send(message).await.map_err(|error| PostError::Server(server.clone(), error))
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(sent) => sent.map(drop),
        Err(_) => Err(PostError::Silent(server, PATIENCE)),
    }
}

/// Connects, greets, encrypts and authenticates as for a mail, and sends none. Answers with the server's name.
///
/// # Errors
/// [`PostError`].
pub async fn probe(settings: &config::Mail, drone: &str) -> Result<String, PostError> {
    let server = name(settings);
    let work = async {
        let transport = transport(settings, drone).await?;
        transport.test_connection().await.map_err(|error| PostError::Server(server.clone(), error))
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(_)) => Ok(server),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(PostError::Silent(server, PATIENCE)),
    }
}

/// The error on one line, escaped: a server's reply is text from outside.
pub fn told(error: &PostError) -> String {
    cut(&chain(error), 300)
}

fn name(settings: &config::Mail) -> String {
    settings.smtp.split('?').next().unwrap_or_default().to_owned()
}

async fn transport(
    settings: &config::Mail,
    drone: &str,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, PostError> {
    let url = Url::parse(&settings.smtp).map_err(|_| PostError::Url)?;
    let host = url.host_str().ok_or(PostError::Url)?.trim_start_matches('[').trim_end_matches(']');
    let implicit = url.scheme() == "smtps";
    let tls = match (implicit, url.query() == Some("tls=none")) {
        (true, _) => Tls::Wrapper(trust(settings, host).await?),
        (false, true) => Tls::None,
        // Whoever stands in between can hide that the server encrypts: a password is worth more than that.
        (false, false) if settings.password.is_some() => Tls::Required(trust(settings, host).await?),
        (false, false) => Tls::Opportunistic(trust(settings, host).await?),
    };
    let port = url.port().unwrap_or(if implicit { 465 } else { 25 });
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).tls(tls);
    if is_host(drone) {
        builder = builder.hello_name(ClientId::Domain(drone.to_owned()));
    }
    if let Some(password) = &settings.password {
        let password = password.expose().to_owned();
        builder = builder.credentials(Credentials::new(settings.user.clone(), password));
    }
    Ok(builder.build())
}

/// What certificates are trusted for this host: the usual ones, and the operator's.
async fn trust(settings: &config::Mail, host: &str) -> Result<TlsParameters, PostError> {
    let failed = |error| PostError::Server(name(settings), error);
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = &settings.ca_file {
        let pem = tokio::fs::read(path).await.map_err(|error| PostError::Roots(path.clone(), error))?;
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(failed)?);
    }
    builder.build().map_err(failed)
}

/// A constant header, or one of few words.
macro_rules! word_header {
    ($name:ident, $header:literal) => {
        #[derive(Clone)]
        struct $name(String);

        impl Header for $name {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($header)
            }

            fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok($name(text.to_owned()))
            }

            fn display(&self) -> HeaderValue {
                HeaderValue::new(Self::name(), self.0.clone())
            }
        }
    };
}

word_header!(AutoSubmitted, "Auto-Submitted");
word_header!(Kind, "X-Dronekeeper-Kind");

/// The mail as it goes over the wire. No header holds a character that could end it.
fn message(from: &str, drone: &str, letter: &Letter) -> Result<Message, PostError> {
    let address = |text: &str| {
        text.parse::<Address>().map_err(|error| PostError::Address(Shown::text(text).to_string(), error))
    };
    let host = if is_host(drone) { drone } else { "dronekeeper" };
    let id = |id: &str| format!("<{}@{host}>", word(id));
    let sender = cut(&format!("dronekeeper on {}", Shown::text(drone)), 60);
    let mut message = Message::builder()
        .from(Mailbox::new(Some(sender), address(from)?))
        .to(Mailbox::new(None, address(&letter.recipient)?))
        .date(letter.at)
        .subject(Shown::text(&letter.subject).to_string())
        .message_id(Some(id(&letter.id)))
        .header(AutoSubmitted("auto-generated".into()))
        .header(Kind(word(&letter.kind)));
    if let Some(thread) = &letter.thread {
        message = message.in_reply_to(id(thread)).references(id(thread));
    }
    Ok(message.singlepart(SinglePart::plain(letter.body.clone()))?)
}

/// What of a text can stand in an id: letters, digits, `-`, `_` and `.`.
fn word(text: &str) -> String {
    let harmless = |c: &char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(c);
    text.chars().filter(harmless).take(80).collect()
}

/// Can this be a host's name?
fn is_host(text: &str) -> bool {
    (1..=80).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ['-', '.'].contains(&c))
}
