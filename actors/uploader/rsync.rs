//! Files to a results host: one rsync for all of a job's files, over the connection that all share.
//!
//! rsync reads the files itself, so each is read again and hashed here, under the identity that the snapshot saw, and
//! the host hashes what it holds, once it is on its disk: the two must be equal. Names go over rsync's standard input and through no shell;
//! nothing is deleted anywhere, no link is sent. What rsync has of a file that is not whole stays on the host for the
//! next attempt.

use super::transfer::{Sent, UploadError};
use crate::lab::{Digest, Entry, hex};
use crate::manifest::Object;
use crate::planner::plan::Plan;
use crate::store::StoreError;
use crate::store::host::{Host, PARTIAL};
use crate::store::ssh::{SshError, quoted};
use crate::tree::{JobDir, Snapshot};
use rustix::fd::{AsFd, AsRawFd};
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::sync::Arc;
use tokio::process::Command;
use tokio::task::JoinSet;

/// So many files are hashed by one task.
const FILES: usize = 64;
/// So many such tasks run at once.
const TASKS: usize = 2;
/// So much of a file is read at once, in bytes.
const CHUNK: usize = 1 << 20;
/// rsync's status when files vanished before they could be sent.
const VANISHED: i32 = 24;

/// May this file keep its name on the host? One whose key is another goes alone.
pub fn keeps_its_name(plan: &Plan, entry: &Entry) -> bool {
    let key = plan.key(entry);
    let name = key.strip_prefix(&plan.claimed.prefix).and_then(|key| key.strip_prefix('/'));
    name.is_some_and(|name| name.as_bytes() == entry.path.as_bytes())
}

/// Sends these files, and proves that the host holds them.
///
/// # Errors
/// [`UploadError`]; what was sent until then is not sent again by the next attempt.
pub async fn send(plan: &Plan, host: &Host, files: &[(usize, &Entry)]) -> Result<Vec<Sent>, UploadError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let store = &plan.attempt.lane.site.store;
    let moving = async {
        let _turn = store.turn().await;
        transfer(plan, host, files).await?;
        let bytes = files.iter().map(|(_, entry)| entry.size).sum();
        host.moved(bytes);
        let flushed = host.flush(bytes).await.map_err(|error| crate::shown::chain(&error));
        flushed.map_err(|why| UploadError::Store("the job".into(), StoreError::of_host(store, "", why)))
    };
    // What changes between the two reads is another file on the host than here, and noticed below.
    let ((), ours) = tokio::try_join!(moving, hashes(plan, files))?;
    let keys: Vec<String> = files.iter().map(|(_, entry)| plan.key(entry)).collect();
    let asked: Vec<(&str, u64)> =
        std::iter::zip(&keys, files).map(|(key, (_, entry))| (key.as_str(), entry.size)).collect();
    let theirs = store.sums(&asked).await;
    let theirs = theirs.map_err(|error| UploadError::Store("the job".into(), error))?.unwrap_or_default();
    let mut sent = Vec::with_capacity(files.len());
    for (((index, entry), key), sha256) in files.iter().zip(keys).zip(ours) {
        if theirs.get(&key) != Some(&sha256) {
            // As large, and as old: rsync took it for the same, and it is another.
            return Err(UploadError::Changed(format!("{} is on the host with other bytes", entry.path)));
        }
        let watch = &plan.attempt.lane.site.watch;
        watch.sent(entry.size);
        watch.stored();
        let proof = format!("sha256={sha256}");
        let object = Object { key, sha256, size: None, plain: None, etag: None, version: None, proof };
        sent.push(Sent { index: *index, object, size: entry.size, proven: true });
    }
    Ok(sent)
}

/// Runs rsync.
async fn transfer(plan: &Plan, host: &Host, files: &[(usize, &Entry)]) -> Result<(), UploadError> {
    let failed = |error: StoreError| UploadError::Store("the job".into(), error);
    let store = &plan.attempt.lane.site.store;
    let trouble = |why: String| StoreError::of_host(store, &plan.claimed.prefix, why);
    host.make_dir(&plan.claimed.prefix).await.map_err(|error| {
        failed(StoreError::of_host(store, &plan.claimed.prefix, crate::shown::chain(&error)))
    })?;
    let mut names = Vec::new();
    for (_, entry) in files {
        names.extend_from_slice(entry.path.as_bytes());
        names.push(0);
    }
    let shell: Vec<String> = std::iter::once("ssh".to_owned())
        .chain(host.ssh.arguments().into_iter().map(|argument| argument.to_string_lossy().into_owned()))
        .collect();
    // The directory that was opened, whatever its name leads to now.
    let from = format!("/proc/{}/fd/{}/", std::process::id(), plan.dir.as_fd().as_raw_fd());
    let root = host.root.trim_end_matches('/');
    let to = format!("{}:{root}/{}/", host.ssh.target(), plan.claimed.prefix);
    let make = || {
        // A drone that is killed takes its rsync along. The other end may live on for a while, and must not write
        // beside the next attempt: it holds a lock on the job's directory for life.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "rsync"]);
        command.args(["--secluded-args", "--from0", "--files-from=-", "--times", "--no-implied-dirs"]);
        // Bytes decide, not the times of an earlier attempt's file.
        command.arg("--ignore-times");
        command.arg(format!("--rsync-path={}", locked(root, &plan.claimed.prefix)));
        command.arg(format!("--partial-dir={PARTIAL}"));
        command.arg(format!("--timeout={}", host.stall.as_secs().max(1)));
        if let Some(rate) = host.bandwidth {
            command.arg(format!("--bwlimit={}", (rate >> 10).max(1)));
        }
        command.arg("--rsh").arg(shell.join(" ")).arg("--").arg(&from).arg(&to);
        command
    };
    let done = host.ssh.session("rsync", make, &names, plan.attempt.lane.settings.timeout).await;
    match done {
        Ok(done) if done.code == Some(0) => Ok(()),
        Ok(done) if done.code == Some(VANISHED) => Err(UploadError::Changed("a file vanished".into())),
        Ok(done) => {
            let code = done.code.map_or("a signal".to_owned(), |code| format!("status {code}"));
            Err(failed(trouble(format!("rsync ended with {code}: {}", done.words))))
        }
        Err(SshError::TimedOut(time)) => Err(UploadError::TimedOut(time)),
        Err(error) => Err(failed(trouble(error.to_string()))),
    }
}

/// The far end's command: rsync under the exclusive lock of the job's directory, or a word on who has it.
fn locked(root: &str, prefix: &str) -> String {
    let dir = quoted(&format!("{root}/{prefix}"));
    format!(
        "flock -n -x {dir} true || echo \"an earlier transfer to this place is still alive there\" >&2; \
         exec flock -n -x {dir} rsync"
    )
}

/// SHA-256, in hex, of each of these files, which must be what the snapshot saw.
async fn hashes(plan: &Plan, files: &[(usize, &Entry)]) -> Result<Vec<String>, UploadError> {
    let mut tasks: JoinSet<(usize, Result<Vec<String>, UploadError>)> = JoinSet::new();
    let (mut all, mut waiting) =
        (vec![Vec::new(); files.len().div_ceil(FILES)], files.chunks(FILES).enumerate());
    loop {
        while tasks.len() < TASKS
            && let Some((number, some)) = waiting.next()
        {
            let (dir, snapshot) = (plan.dir.clone(), plan.snapshot.clone());
            let some: Vec<usize> = some.iter().map(|(index, _)| *index).collect();
            tasks.spawn_blocking(move || (number, hash_all(&dir, &snapshot, &some)));
        }
        let Some(done) = tasks.join_next().await else { break };
        let (number, hashes) = done?;
        if let Some(place) = all.get_mut(number) {
            *place = hashes?;
        }
    }
    Ok(all.concat())
}

fn hash_all(dir: &Arc<JobDir>, snapshot: &Snapshot, files: &[usize]) -> Result<Vec<String>, UploadError> {
    let mut buffer = vec![0; CHUNK];
    let entries = files.iter().filter_map(|index| snapshot.entries.get(*index));
    entries.map(|entry| hash(dir, entry, &mut buffer)).collect()
}

fn hash(dir: &JobDir, entry: &Entry, buffer: &mut [u8]) -> Result<String, UploadError> {
    let mut file = dir.open_file(entry).map_err(|error| UploadError::open(entry, error))?;
    let mut sha256 = Sha256::new();
    loop {
        let read = file.read(buffer).map_err(|error| UploadError::Read(entry.path.to_string(), error))?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        sha256.update(chunk);
    }
    match dir.unchanged(&file, entry) {
        true => Ok(hex(&Digest(sha256.finalize().into()).0)),
        false => Err(UploadError::Changed(format!("{} changed while it was read", entry.path))),
    }
}
