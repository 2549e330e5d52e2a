//! Child processes in groups of their own: whoever ends one ends all that it started.

use rustix::process::{Pid, Signal, kill_process_group};
use std::time::Duration;
use tokio::process::Child;

/// After a TERM, a process group has so long.
const GRACE: Duration = Duration::from_secs(2);

/// A child and all that it started, ended with this value: TERM, and KILL for what is left.
pub struct Group {
    /// The child.
    pub child: Child,
    pid: Option<Pid>,
    /// Nothing is left to end.
    pub ended: bool,
}

impl Group {
    /// Of a child that was made the leader of its group.
    pub fn of(child: Child) -> Self {
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Group { child, pid, ended: false }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(group) = self.pid.filter(|_| !self.ended) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        // Not on the runtime: it may be ending too.
        std::thread::spawn(move || {
            std::thread::sleep(GRACE);
            let _ = kill_process_group(group, Signal::KILL);
        });
    }
}
