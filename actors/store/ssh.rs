//! Commands on a results host, over ssh: one connection that all of them share, known host keys only.
//!
//! A command's text is ours; what comes from outside stands in it quoted, or goes over its standard input. The
//! children have a process group of their own, so that whoever ends them ends all of it.

pub mod child;
mod sessions;

pub use child::{Done, Reading};

use child::run;
use sessions::Sessions;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Mutex;

/// ssh's own exit status: the connection failed, not the command.
const NO_CONNECTION: i32 = 255;
/// A host that takes no connection now is asked so often; sshd drops some at random when many come at once.
const TRIES: u32 = 6;
/// Time to establish a connection, in seconds.
const CONNECT: u64 = 10;
/// The most of what ssh says that is kept, in bytes.
const WORDS: usize = 8 << 10;

/// Where the host is, and how it is known.
#[derive(Clone, Debug)]
pub struct Address {
    /// Its name.
    pub host: String,
    /// Who we are there; empty: as ssh decides.
    pub user: String,
    /// sshd's port.
    pub port: u16,
    /// The private key.
    pub key: Option<PathBuf>,
    /// The file of known host keys.
    pub known_hosts: Option<PathBuf>,
}

/// A host that commands are run on.
#[derive(Debug)]
pub struct Ssh {
    address: Address,
    /// Holds the socket of the shared connection.
    dir: tempfile::TempDir,
    /// Taken while the shared connection is established: many at once would each make their own.
    connecting: Mutex<()>,
    sessions: Sessions,
}

/// Why a command was not run, or did not end.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SshError {
    #[error("cannot start {0}: {1}")]
    Start(&'static str, std::io::Error),
    #[error("ssh: no connection: {0}")]
    NoConnection(String),
    #[error("ssh: refused: {0}")]
    Refused(String),
    #[error("ssh: no end after {0:?}")]
    TimedOut(Duration),
    #[error("ssh: the connection broke: {0}")]
    Broke(std::io::Error),
}

impl Ssh {
    /// Prepares; nothing is connected yet.
    ///
    /// # Errors
    /// When there is no room for the socket.
    pub fn new(address: Address) -> std::io::Result<Self> {
        // A socket's path has at most 100 bytes.
        let dir = tempfile::Builder::new().prefix("dronekeeper-ssh-").tempdir()?;
        Ok(Ssh { address, dir, connecting: Mutex::new(()), sessions: Sessions::default() })
    }

    /// `user@host`, for people and for rsync.
    pub fn target(&self) -> String {
        let Address { user, host, .. } = &self.address;
        if user.is_empty() { host.clone() } else { format!("{user}@{host}") }
    }

    /// ssh's arguments, without the host.
    pub fn arguments(&self) -> Vec<OsString> {
        let option = |name: &str, value: &Path| {
            let mut text = OsString::from(format!("-o{name}="));
            text.push(value);
            text
        };
        let fixed = [
            "-F/dev/null",
            "-a",
            "-x",
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=yes",
            "-oServerAliveInterval=15",
            "-oServerAliveCountMax=3",
            "-oControlMaster=auto",
            "-oControlPersist=60",
            // Before the others that both sides know: several times as fast where the processor helps.
            "-oCiphers=^aes128-gcm@openssh.com",
        ];
        let mut all: Vec<OsString> = fixed.iter().map(OsString::from).collect();
        all.push(format!("-oConnectTimeout={CONNECT}").into());
        all.push(format!("-p{}", self.address.port).into());
        all.push(option("ControlPath", &self.dir.path().join("socket")));
        if let Some(known) = &self.address.known_hosts {
            all.push(option("UserKnownHostsFile", known));
            all.push("-oGlobalKnownHostsFile=/dev/null".into());
        }
        if let Some(key) = &self.address.key {
            all.push(option("IdentityFile", key));
            all.push("-oIdentitiesOnly=yes".into());
        }
        all
    }

    /// Runs a script of ours in the host's shell, and gives its output piece by piece.
    ///
    /// # Errors
    /// [`SshError`] when it could not be started.
    pub async fn read(&self, script: &str, patience: Duration) -> Result<Reading, SshError> {
        let session = self.sessions.one().await.ok_or(SshError::TimedOut(patience))?;
        self.connected(patience).await?;
        Reading::start(self.command(script), session)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.arguments()).arg("--").arg(self.target()).arg(script);
        command
    }

    /// Runs a script of ours in the host's shell, with `input` as its standard input.
    ///
    /// # Errors
    /// [`SshError`]; what the script did until then is done.
    pub async fn run(&self, script: &str, input: &[u8], patience: Duration) -> Result<Done, SshError> {
        self.session("ssh", || self.command(script), input, patience).await
    }

    /// Runs a command that uses one session of the shared connection. A host that takes no more of them now is asked
    /// again, and by fewer at once; so what the command does must bear to be done twice.
    ///
    /// # Errors
    /// [`SshError`].
    pub async fn session(
        &self,
        name: &'static str,
        make: impl Fn() -> Command,
        input: &[u8],
        patience: Duration,
    ) -> Result<Done, SshError> {
        let mut tried = 0;
        loop {
            let session = self.sessions.one().await.ok_or(SshError::TimedOut(patience))?;
            self.connected(patience).await?;
            let done = run(make(), name, input, patience).await?;
            tried += 1;
            if done.code != Some(NO_CONNECTION) && !is_refusal_of_session(&done.words) {
                self.sessions.went_well();
                return Ok(done);
            }
            match trouble(done.words) {
                SshError::NoConnection(_) if tried < TRIES => self.sessions.refused(session),
                error => return Err(error),
            }
            pause(tried).await;
        }
    }

    /// Sees to it that the shared connection stands; who comes while it is made waits.
    ///
    /// # Errors
    /// [`SshError`] when the host takes none.
    pub async fn connected(&self, patience: Duration) -> Result<(), SshError> {
        let _turn = self.connecting.lock().await;
        let mut tried = 0;
        loop {
            let mut asked = Command::new("ssh");
            asked.args(self.arguments()).arg("-Ocheck").arg("--").arg(self.target());
            if run(asked, "ssh", b"", patience).await?.code == Some(0) {
                return Ok(());
            }
            let (code, words) = self.establish(patience).await?;
            tried += 1;
            match (code, trouble(words)) {
                (Some(0), _) => return Ok(()),
                (_, SshError::NoConnection(_)) if tried < TRIES => pause(tried).await,
                (_, error) => return Err(error),
            }
        }
    }
}

impl Ssh {
    /// Makes the shared connection, which goes on in the background. It would hold the ends of pipes: so what ssh has
    /// to say goes to a file.
    async fn establish(&self, patience: Duration) -> Result<(Option<i32>, String), SshError> {
        let start = |error| SshError::Start("ssh", error);
        let words = self.dir.path().join("words");
        let mut command = Command::new("ssh");
        command.args(self.arguments()).args(["-f", "-N", "--"]).arg(self.target());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&words).map_err(start)?).kill_on_drop(true).process_group(0);
        let mut child = command.spawn().map_err(start)?;
        let ended = tokio::time::timeout(patience, child.wait()).await;
        let status = ended.map_err(|_| SshError::TimedOut(patience))?.map_err(SshError::Broke)?;
        let mut said = std::fs::read(&words).unwrap_or_default();
        said.truncate(WORDS);
        Ok((status.code(), String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

impl Drop for Ssh {
    /// The shared connection would live on for a minute.
    fn drop(&mut self) {
        let mut command = std::process::Command::new("ssh");
        command.args(self.arguments()).arg("-Oexit").arg("--").arg(self.target());
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A pause that grows, with jitter.
async fn pause(tried: u32) {
    let jitter = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    tokio::time::sleep(Duration::from_millis(50 * (1 << tried) + jitter)).await;
}

/// Did the host take the connection and no session, or drop the connection before it was one?
fn is_refusal_of_session(words: &str) -> bool {
    ["session request failed", "kex_exchange_identification", "Session open refused"]
        .iter()
        .any(|sign| words.contains(sign))
}

/// What ssh's words mean.
fn trouble(words: String) -> SshError {
    if words.contains("Host key verification failed") {
        let key = if words.contains("HAS CHANGED") {
            "its key is another than the known one"
        } else {
            "its key is not known"
        };
        return SshError::Refused(format!("Host key verification failed: {key}; see ssh_known_hosts"));
    }
    match words.contains("Permission denied") || words.contains("Bad owner") {
        true => SshError::Refused(words),
        false => SshError::NoConnection(words),
    }
}

/// A text as one word of a POSIX shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quoted_text_is_one_word_whatever_is_in_it() {
        for text in
            ["a b", "it's", "$(touch /tmp/x)", "`id`", "-n", "a;b&c|d", "\\", "\"", "''", "*?[a]~!#{x}"]
        {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("printf '%s' {}", quoted(text)));
            let done = run(shell, "sh", b"", Duration::from_secs(10)).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&done.output), text);
        }
    }

    #[tokio::test]
    async fn whatever_a_child_started_ends_with_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut shell = Command::new("sh");
        let script = format!("trap '' TERM; sleep 300 & echo $! > {}; wait", file.path().display());
        shell.arg("-c").arg(script);
        let late = run(shell, "sh", b"", Duration::from_millis(500)).await;
        assert!(matches!(late, Err(SshError::TimedOut(_))));
        let pid = std::fs::read_to_string(file.path()).unwrap();
        let there = || Path::new(&format!("/proc/{}/stat", pid.trim())).exists();
        let begun = std::time::Instant::now();
        while there() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it lives on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[test]
    fn a_changed_host_key_is_no_matter_of_trying_again() {
        assert!(matches!(trouble("Host key verification failed.".into()), SshError::Refused(_)));
        assert!(matches!(trouble("kex_exchange_identification: reset".into()), SshError::NoConnection(_)));
    }
}
