//! The address of a PostgreSQL server, and how the way to it is protected.
//!
//! `sslmode` and `sslrootcert` are libpq's words, with one meaning less: a connection is either in the clear, or the
//! server has proven who it is. In the clear may be whatever does not leave the machine, and what is said so.

use super::BaseError;
use crate::shown::chain;
use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tokio_postgres_rustls::MakeRustlsConnect;
use url::form_urlencoded::parse;

/// Where a server is, and how it is spoken to.
pub struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Address {
    /// Is this the address of a server, or of a file?
    pub fn is_one(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Reads `postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=verify-full&sslrootcert=FILE`; a server is waited for at
    /// most `patience`.
    ///
    /// # Errors
    /// `Settings`: what is wrong with it, and how it is written; never the address itself, which may hold a password.
    pub fn read(text: &str, patience: Duration) -> Result<Self, BaseError> {
        let (plain, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match parse(pair.as_bytes()).next() {
                Some((key, value)) if key == "sslmode" => mode = Some(value.into_owned()),
                Some((key, value)) if key == "sslrootcert" => roots = Some(value.into_owned()),
                _ => others.push(pair),
            }
        }
        let config = format!("{plain}?{}", others.join("&")).parse::<Config>();
        let mut config = config.map_err(|error| BaseError::Settings(chain(&error)))?;
        config.connect_timeout(patience).tcp_user_timeout(patience).keepalives_idle(Duration::from_secs(30));
        let tls = match mode.as_deref() {
            Some("require" | "verify-ca" | "verify-full") => {
                Some(connector(roots.as_deref().map(Path::new))?)
            }
            Some("disable") => None,
            None if is_local(&config) => None,
            None => {
                return Err(BaseError::Settings(
                    "the server is on another host, and the address says nothing of encryption: add \
                     `?sslmode=verify-full`, with `&sslrootcert=FILE` for an authority of your own, or \
                     `?sslmode=disable` in a network where nobody listens"
                        .into(),
                ));
            }
            Some(_) => {
                let known =
                    "`sslmode` is verify-full or disable: a server that is not known is none to trust";
                return Err(BaseError::Settings(known.into()));
            }
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Address { config, tls })
    }

    /// Connects.
    ///
    /// # Errors
    /// PostgreSQL's, and those of the way there.
    pub fn connect(&self) -> Result<Client, postgres::Error> {
        match &self.tls {
            Some(tls) => self.config.connect(tls.clone()),
            None => self.config.connect(NoTls),
        }
    }
}

/// Believes the authorities in a file, or else those of the system.
fn connector(roots: Option<&Path>) -> Result<MakeRustlsConnect, BaseError> {
    let Some(path) = roots else {
        let config = ClientConfig::with_platform_verifier();
        let config =
            config.map_err(|error| BaseError::Settings(format!("the system's authorities: {error}")));
        return Ok(MakeRustlsConnect::new(config?));
    };
    let failed = |why: String| BaseError::Settings(format!("`sslrootcert` {}: {why}", path.display()));
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut store = RootCertStore::empty();
    for certificate in read.map_err(|error| failed(error.to_string()))? {
        store.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(failed("holds no certificate".into()));
    }
    Ok(MakeRustlsConnect::new(ClientConfig::builder().with_root_certificates(store).with_no_client_auth()))
}

/// Does no byte leave the machine?
fn is_local(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    });
    named && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, String> {
        Address::read(text, Duration::from_secs(1)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_goes_over_a_network_in_the_clear_unless_somebody_says_so() {
        let is_plain = |text: &str| read(text).map(|address| address.tls.is_none());
        for local in ["127.0.0.1:5432", "[::1]", "localhost", "%2Frun%2Fpostgresql"] {
            assert_eq!(is_plain(&format!("postgres://hub@{local}/hub")), Ok(true), "{local}");
        }
        for remote in ["db.example.com", "192.0.2.7:5432", "localhost,db.example.com"] {
            let plain = format!("postgres://hub:hunter2@{remote}/hub");
            let why = is_plain(&plain).unwrap_err();
            assert!(why.contains("?sslmode=verify-full") && !why.contains("hunter2"), "{why}");
            assert_eq!(is_plain(&format!("{plain}?sslmode=disable")), Ok(true));
            for mode in ["require", "verify-ca", "verify-full"] {
                assert_eq!(is_plain(&format!("{plain}?connect_timeout=3&sslmode={mode}")), Ok(false));
            }
            assert!(is_plain(&format!("{plain}?sslmode=prefer")).is_err());
        }
        // What the name says is not where it goes.
        assert!(is_plain("postgres://hub@localhost/hub?hostaddr=192.0.2.7").is_err());
    }

    #[test]
    fn authorities_are_read_when_the_address_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |path: &str| read(&format!("postgres://h@db/x?sslmode=verify-full&sslrootcert={path}"));
        assert!(with("%2Fno%20where").err().unwrap().contains("`sslrootcert` /no where: "));
        assert!(with(file.path().to_str().unwrap()).err().unwrap().contains("no certificate"));
    }
}
