//! `[mail]`: who is told of trouble, and through which server.

use crate::report::Complaint;
use crate::units::{self, Secret};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// How on-call is told.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// `smtp://host` (STARTTLS when offered), `smtps://host`, `smtp://host:25?tls=none`; empty: no mail.
    pub smtp: String,
    /// The sender's address.
    pub from: String,
    /// Who is told.
    pub to: Vec<String>,
    /// At most one mail per kind of trouble in this time; the rest is folded into the next.
    #[serde(deserialize_with = "units::duration")]
    pub digest: Duration,
    /// Name for the server's authentication; empty: none.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// A file of PEM certificates to trust beside the usual ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for Mail {
    fn default() -> Self {
        Mail {
            smtp: String::new(),
            from: String::new(),
            to: Vec::new(),
            digest: Duration::from_secs(3600),
            user: String::new(),
            password: None,
            password_file: None,
            ca_file: None,
        }
    }
}

impl Mail {
    /// Reads the password from its file.
    pub(crate) fn read_secrets(&mut self) -> Result<(), Complaint> {
        if let Some(path) = &self.password_file {
            self.password = Some(units::secret_file("mail.password_file", path)?);
        }
        Ok(())
    }
}

/// With a server there must be a sender and somebody to tell; addresses must be such.
pub(crate) fn judge(mail: &Mail, complaints: &mut Vec<Complaint>) {
    if mail.smtp.is_empty() {
        return;
    }
    let example = "write for example \"smtp://mail.example.com\" or \"smtps://mail.example.com\"";
    match Url::parse(&mail.smtp) {
        Ok(url) if !["smtp", "smtps"].contains(&url.scheme()) || url.host_str().is_none() => {
            complaints.push(Complaint::key("mail.smtp", "names no mail server", example));
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            let help = "use `mail.user` and `mail.password_file`";
            complaints.push(Complaint::key("mail.smtp", "holds credentials, which would be logged", help));
        }
        Ok(url) if url.query().is_some_and(|query| query != "tls=none") => {
            complaints.push(Complaint::key(
                "mail.smtp",
                "has an unknown option",
                "only `?tls=none` is known",
            ));
        }
        Ok(_) => {}
        Err(_) => complaints.push(Complaint::key("mail.smtp", "is not a URL", example)),
    }
    let address = |text: &str| {
        let (name, host) = text.split_once('@').unwrap_or_default();
        !name.is_empty() && !host.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
    };
    let help = "write for example \"lab-oncall@example.com\"";
    if !address(&mail.from) {
        complaints.push(Complaint::key("mail.from", "is no address", help));
    }
    if mail.to.is_empty() || !mail.to.iter().all(|to| address(to)) {
        complaints.push(Complaint::key("mail.to", "is empty, or holds what is no address", help));
    }
    if mail.user.is_empty() != mail.password.is_none() && mail.password_file.is_none() {
        let help = "a server that asks for a user asks for a password";
        complaints.push(Complaint::key("mail.user", "and `mail.password_file` belong together", help));
    }
}
