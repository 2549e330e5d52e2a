//! On-call is told of trouble by mail: once, also when the mail server or the drone is down in between.

use crate::bench::Bench;
use stage::{Fault, Flavour, Server, What};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A mail server. It ends with this value.
struct Smtp {
    dir: tempfile::TempDir,
    port: u16,
    more: Vec<String>,
    server: Option<Child>,
}

impl Smtp {
    fn new(more: &[&str]) -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let more = more.iter().map(ToString::to_string).collect();
        Smtp { dir: tempfile::tempdir().unwrap(), port, more, server: None }
    }

    fn start(&mut self) {
        let python =
            std::env::var("LAB_PYTHON").expect("LAB_PYTHON is not set: run these tests with tests/run");
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp.py");
        let mut server = Command::new(python)
            .arg(driver)
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.dir.path())
            .args(&self.more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "the mail server did not start");
        self.server = Some(server);
    }

    fn started(more: &[&str]) -> Self {
        let mut smtp = Smtp::new(more);
        smtp.start();
        smtp
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn mood(&self, mood: &str) {
        fs::write(self.dir.path().join("mood"), mood).unwrap();
    }

    /// The mails that arrived, in order.
    fn mails(&self) -> Vec<String> {
        let files = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|it| it == "eml")).collect();
        files.sort();
        files.iter().map(|file| decoded(&fs::read_to_string(file).unwrap())).collect()
    }

    fn config(&self, scheme: &str, more: &str) -> String {
        format!(
            "[mail]\nsmtp = \"{scheme}://127.0.0.1:{}{}\"\nfrom = \"drone@example.com\"\n\
             to = [\"oncall@example.com\"]\n{more}",
            self.port,
            if scheme == "smtp" && !more.contains("ca_file") { "?tls=none" } else { "" },
        )
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A mail with its quoted-printable text made readable.
fn decoded(mail: &str) -> String {
    let (head, body) = mail.split_once("\n\n").unwrap();
    let joined = body.replace("=\n", "");
    let mut parts = joined.split('=');
    let mut text = parts.next().unwrap().to_owned().into_bytes();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                text.push(byte);
                text.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => text.extend_from_slice(format!("={part}").as_bytes()),
        }
    }
    format!("{head}\n\n{}", String::from_utf8_lossy(&text))
}

fn header(mail: &str, name: &str) -> String {
    let head = mail.split("\n\n").next().unwrap().replace("\n ", " ");
    let line = head.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{mail}")).trim().to_owned()
}

/// A drone whose store refuses one job.
fn failing(server: &Server, mail: &str) -> (Bench, Fault) {
    let refused = server.misbehave(Fault::new("PUT", "102-bad/status.log", What::Status(403, None)));
    let bench = Bench::on(server).extra(mail);
    bench.finished(&["101-a", "102-bad"]);
    (bench, refused)
}

#[test]
fn trouble_is_mailed_once_and_so_is_its_end() {
    let (server, smtp) = (Server::start(Flavour::S3), Smtp::started(&[]));
    let (mut bench, refused) = failing(&server, &smtp.config("smtp", ""));
    bench.start();
    bench.wait("a mail", || smtp.mails().len() == 1);
    let first = smtp.mails().remove(0);
    assert_eq!(header(&first, "X-To:"), "oncall@example.com");
    assert!(header(&first, "Subject:").starts_with("[dronekeeper][WARN] bench: "), "{first}");
    assert!(first.contains("No result is lost") && first.contains("What you can do"), "{first}");
    // The ledger answers after it was told.
    bench.wait_until_said("mail sent");
    bench.tell(&["jobs"]);
    // It lasts: nothing more is mailed within the digest, over a restart too.
    bench.kill();
    bench.start();
    bench.tell(&["retry", "--all"]);
    bench.wait("more attempts", || refused.fired() >= 6);
    assert_eq!(smtp.mails().len(), 1, "{:#?}", smtp.mails());
    refused.over();
    bench.tell(&["retry", "--all"]);
    bench.wait_until_gone("102-bad");
    bench.wait("the all-clear", || smtp.mails().len() == 2);
    let last = smtp.mails().remove(1);
    assert!(header(&last, "Subject:").starts_with("[dronekeeper][OK] bench: over: "), "{last}");
    assert_eq!(header(&last, "In-Reply-To:"), header(&first, "Message-ID:"));
}

#[test]
fn a_mail_server_that_is_down_for_the_whole_run_gets_each_mail_once_later() {
    let (server, mut smtp) = (Server::start(Flavour::S3), Smtp::new(&[]));
    let (mut bench, _refused) = failing(&server, &smtp.config("smtp", ""));
    bench.start();
    bench.wait_until_said("mail cannot be sent; it is kept and tried again");
    bench.wait_until_gone("101-a");
    assert_eq!(bench.stop(), Some(0));
    bench.start();
    bench.wait("mail in status", || {
        String::from_utf8_lossy(&bench.tell(&["status"]).stdout).contains("mail   1 waiting, last sent never")
    });
    smtp.start();
    bench.wait("the mail", || !smtp.mails().is_empty());
    bench.wait("none waiting", || {
        String::from_utf8_lossy(&bench.tell(&["status"]).stdout).contains("mail   0 waiting")
    });
    bench.kill();
    bench.start();
    bench.wait_until_said("console listens");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(smtp.mails().len(), 1, "{:#?}", smtp.mails());
}

#[test]
fn a_server_that_refuses_one_recipient_or_is_busy_keeps_no_other_mail_back() {
    let (server, smtp) = (Server::start(Flavour::S3), Smtp::started(&[]));
    let config = smtp
        .config("smtp", "")
        .replace("\"oncall@example.com\"", "\"gone@example.com\", \"here@example.com\"");
    let (mut bench, _refused) = failing(&server, &config);
    smtp.mood("busy");
    bench.start();
    bench.wait_until_said("mail cannot be sent");
    assert!(smtp.mails().is_empty());
    smtp.mood("refuse gone@example.com");
    bench.wait("the other's mail", || !smtp.mails().is_empty());
    assert_eq!(header(&smtp.mails()[0], "X-To:"), "here@example.com");
    bench.wait("the reason", || {
        let status = String::from_utf8_lossy(&bench.tell(&["status"]).stdout).into_owned();
        assert!(!status.contains('\x1b'), "{status:?}");
        status.contains("mail   1 waiting") && status.contains("nobody of that name")
    });
    bench.wait_until_gone("101-a");
}

#[test]
fn a_server_that_falls_silent_holds_nothing_up() {
    let (server, smtp) = (Server::start(Flavour::S3), Smtp::started(&[]));
    let (mut bench, _refused) = failing(&server, &smtp.config("smtp", ""));
    smtp.mood("silent");
    bench.start();
    bench.wait_until_gone("101-a");
    bench.wait_until_said("did not finish within");
    smtp.mood("well");
    bench.wait("the mail", || smtp.mails().len() == 1);
}

#[test]
fn mail_is_encrypted_and_authenticated_and_only_with_whom_is_trusted() {
    for (scheme, tls) in [("smtp", "starttls"), ("smtps", "wrapped")] {
        let (server, ca) = (Server::start(Flavour::S3), tempfile::tempdir().unwrap());
        let file = ca.path().join("ca.pem");
        let arguments =
            ["--tls", tls, "--ca", file.to_str().unwrap(), "--user", "drone", "--password", "geheim"];
        let smtp = Smtp::started(&arguments);
        let login = "user = \"drone\"\npassword = \"geheim\"";
        let trusting = smtp.config(scheme, &format!("ca_file = {file:?}\n{login}"));
        let (mut bench, _refused) = failing(&server, &trusting);
        let probed = bench.tell(&["check", "--connect"]);
        let probed = String::from_utf8_lossy(&probed.stdout).into_owned();
        assert!(probed.contains("mail") && !probed.contains("geheim"), "{probed}");
        bench.start();
        bench.wait("the mail", || smtp.mails().len() == 1);
        assert_eq!(header(&smtp.mails()[0], "X-Tls:"), "True");
        assert!(!bench.log().contains("geheim"));
        // Whoever is not trusted gets neither mail nor password.
        bench.kill();
        let strange = trusting.replace(&format!("ca_file = {file:?}\n"), "").replace("?tls=none", "");
        let server = Server::start(Flavour::S3);
        let (mut bench, _refused) = failing(&server, &strange);
        bench.start();
        bench.wait_until_said("mail cannot be sent");
        assert!(bench.log().to_lowercase().contains("certificate"), "{}", bench.log());
        assert_eq!(smtp.mails().len(), 1);
    }
}

#[test]
fn names_from_outside_make_no_headers_and_thousands_make_one_mail() {
    let (server, smtp) = (Server::start(Flavour::S3), Smtp::started(&[]));
    let _refused = server.misbehave(Fault::new("PUT", "/status.log", What::Status(403, None)));
    let mut bench = Bench::on(&server).lane("workers = 8").extra(&smtp.config("smtp", ""));
    let names: Vec<String> =
        (0..120).map(|n| format!("{n}-x\nBcc: victim@example.com\n\nforged\u{202e}")).collect();
    bench.finished(&names.iter().map(String::as_str).collect::<Vec<_>>());
    bench.start();
    bench.wait("a mail", || smtp.mails().len() == 1);
    let mail = smtp.mails().remove(0);
    assert!(!mail.lines().any(|line| line.starts_with("Bcc:")) && !mail.contains('\u{202e}'), "{mail}");
    assert_eq!(header(&mail, "X-To:"), "oncall@example.com");
    assert!(mail.lines().count() < 600, "{} lines", mail.lines().count());
}
