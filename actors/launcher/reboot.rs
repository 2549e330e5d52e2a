//! When the host is to be rebooted: it has been up for too long, or somebody asked. Drained first, never in a loop.
//!
//! The wish is a file of ours, so that it survives a refused reboot and a restart of the process; after the boot it
//! says why it happened.

use crate::kept;
use crate::site::Site;
use config::Containers;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{error, info, warn};

/// What is known of reboots.
#[derive(Debug)]
pub struct Reboots {
    path: PathBuf,
    kept: Kept,
    limit: Option<Duration>,
    /// A command of this run was refused until then.
    rests: Option<SystemTime>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Why, and since when, in seconds since 1970: a reboot is wanted.
    wanted: Option<(String, u64)>,
    /// Those that were accepted, the newest last.
    #[serde(default)]
    past: Vec<Past>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    /// Seconds since 1970.
    at: u64,
    why: String,
    /// The boot of the machine that it ended.
    boot: String,
}

/// The time that a budget is for.
const WEEK: u64 = 7 * 24 * 3600;

impl Reboots {
    /// Reads what an earlier run of the process knew, and says why the machine was booted, if it was by us.
    pub fn open(settings: &Containers, path: &Path) -> Self {
        let kept = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        let mut kept = kept.unwrap_or_default();
        if let Some(last) = kept.past.last()
            && last.boot != boot()
            && kept.wanted.take().is_some()
        {
            info!(why = last.why, "the host was rebooted");
        }
        let max = settings.host_max_uptime;
        let limit = (!max.is_zero()).then(|| max + spread(max, &host()));
        let reboots = Reboots { path: path.to_owned(), kept, limit, rests: None };
        reboots.keep();
        reboots
    }

    /// Why the host is being drained for a reboot, if it is.
    pub fn is_wanted(&mut self, settings: &Containers) -> Option<String> {
        if settings.reboot_command.is_empty() {
            return None;
        }
        if self.kept.wanted.is_none() {
            let file = settings.reboot_file.symlink_metadata().is_ok();
            let why = match (file, self.limit) {
                (true, _) => Some(format!("{} is there", settings.reboot_file.display())),
                (false, Some(limit)) if uptime() > limit && self.too_soon(settings).is_none() => {
                    Some(format!("the host has been up for {} h", uptime().as_secs() / 3600))
                }
                _ => None,
            };
            if let Some(why) = why {
                info!(why, "the host is drained, and then rebooted");
                self.want(why);
            }
        }
        self.kept.wanted.as_ref().map(|(why, _)| format!("reboot: {why}"))
    }

    fn want(&mut self, why: String) {
        self.kept.wanted = Some((why, seconds()));
        self.keep();
    }

    /// Nothing moves: that is mended by a boot, if anything does.
    pub fn frozen(&mut self, why: &str, settings: &Containers) {
        let may = !settings.reboot_command.is_empty() && self.too_soon(settings).is_none();
        if may && self.kept.wanted.is_none() {
            error!(why, "the host is rebooted when nothing else is under way");
            self.want(why.to_owned());
        }
    }

    /// Why there may be no reboot now: whatever is wrong, it is not mended by booting in a loop.
    fn too_soon(&self, settings: &Containers) -> Option<String> {
        let since = |past: &Past| seconds().saturating_sub(past.at);
        if self.kept.past.last().is_some_and(|last| since(last) < settings.reboot_interval.as_secs()) {
            return Some("the last reboot was not long ago (`containers.reboot_interval`)".into());
        }
        let lately = self.kept.past.iter().filter(|past| since(past) < WEEK).count();
        let spent = lately >= usize::try_from(settings.reboot_budget).unwrap_or(usize::MAX);
        spent.then(|| format!("{lately} reboots in seven days are enough (`containers.reboot_budget`)"))
    }

    /// Reboots, when it is wanted and nothing of worth runs any more, or the grace is over.
    pub async fn round(&mut self, site: &Arc<Site>, settings: &Containers, containers: bool) {
        if site.containers.reboot_is_asked() && self.kept.wanted.is_none() {
            self.want("somebody asked for it".into());
        }
        let Some((why, since)) = self.kept.wanted.clone() else { return };
        let waited = Duration::from_secs(seconds().saturating_sub(since));
        let busy = if containers { Some("containers run".to_owned()) } else { busy(site).await };
        if let Some(busy) = &busy
            && waited < settings.reboot_grace
        {
            site.containers.reboot_waits(Some(busy.clone()));
            return;
        }
        if self.rests.is_some_and(|until| until > SystemTime::now()) {
            return;
        }
        if let Some(too_soon) = self.too_soon(settings) {
            site.containers.reboot_waits(Some(too_soon));
            return;
        }
        if let Some(busy) = busy {
            warn!(busy, waited = ?waited, "rebooted although something still runs: the grace is over");
        }
        let Some((program, arguments)) = settings.reboot_command.split_first() else { return };
        let before = self.kept.clone();
        self.kept.past.retain(|past| seconds().saturating_sub(past.at) < WEEK);
        self.kept.past.push(Past { at: seconds(), why: why.clone(), boot: boot() });
        self.keep();
        info!(why, "reboot");
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status().await {
            Ok(status) if status.success() => {
                let _ = std::fs::remove_file(&settings.reboot_file);
                site.containers.reboot_waits(Some("accepted".into()));
                // Accepted is not done: until the machine goes down nothing else is begun.
                self.rests = Some(SystemTime::now() + Duration::from_secs(600));
            }
            refused => {
                error!(command = %program, ?refused, "the reboot was refused; it is asked for again");
                site.containers.reboot_waits(Some("the command refused".into()));
                self.kept = before;
                self.rests = Some(SystemTime::now() + Duration::from_secs(60));
                self.keep();
            }
        }
    }

    fn keep(&self) {
        let text = serde_json::to_vec(&self.kept).unwrap_or_default();
        if let Err(error) = kept::replace(&self.path, &text) {
            warn!(file = %self.path.display(), %error, "what is known of reboots is kept in memory only");
        }
    }
}

/// What would be cut off; what cannot be known may be something.
async fn busy(site: &Arc<Site>) -> Option<String> {
    let looked = site.clone();
    let look = move || {
        let running = looked.queues.list(Some("running"), None).ok()?.len();
        let complete = looked.roster.jobs(Some("complete")).ok()?;
        Some((running, complete.iter().filter(|job| job.unreported).count()))
    };
    let Ok(Some((running, unreported))) = site.io.spawn_blocking(look).await else {
        return Some("what runs cannot be read".into());
    };
    match (running, unreported, site.holds.count()) {
        (0, 0, 0) => None,
        (0, 0, held) => Some(format!("{held} jobs are being uploaded")),
        (0, unreported, _) => Some(format!("{unreported} finished jobs are not reported")),
        (running, ..) => Some(format!("post-processing runs on {running} jobs")),
    }
}

/// Up to a fifth, the same for the same host at every time: not all hosts of a lab reboot together (reference E9).
fn spread(max: Duration, host: &str) -> Duration {
    let minutes = max.as_secs() / 60;
    let fifth = minutes / 5;
    let digest: [u8; 16] = Md5::digest(host.as_bytes()).into();
    let number = u128::from_be_bytes(digest);
    let share = number.checked_rem(fifth.into()).unwrap_or_default();
    Duration::from_secs(u64::try_from(share).unwrap_or_default() * 60)
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn uptime() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split('.').next().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or_default())
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_spread_as_the_original_spread_them() {
        let day = Duration::from_secs(1200 * 60);
        assert_eq!(spread(day, "some_hostname"), Duration::from_secs(113 * 60));
        for host in ["a", "b", "c"] {
            assert!(spread(day, host) < day / 5);
            assert_eq!(spread(day, host), spread(day, host));
        }
        assert_eq!(spread(Duration::from_secs(60), "a"), Duration::ZERO);
    }
}
