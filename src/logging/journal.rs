//! systemd's journal: each entry is one datagram.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

/// Where the journal listens (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const SOCKET: &str = "/run/systemd/journal/socket";
/// Names another place, for containers that have the host's journal elsewhere.
const ELSEWHERE: &str = "DRONEKEEPER_JOURNAL";

/// The journal.
pub struct Journal(UnixDatagram);

impl Journal {
    /// Reaches it.
    ///
    /// # Errors
    /// A sentence, when nobody listens.
    pub fn open() -> Result<Self, String> {
        let place = std::env::var(ELSEWHERE).unwrap_or_else(|_| SOCKET.to_owned());
        let failed = |error: io::Error| {
            format!("log.format journald: {place}: {error}; write \"text\" without systemd")
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.connect(&place).map_err(failed)?;
        Ok(Journal(socket))
    }
}

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // An entry that the journal does not take is lost; the process is not held up for it.
        let _ = self.0.send(entry);
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
