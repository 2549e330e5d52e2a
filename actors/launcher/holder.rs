//! Which process inside a container holds its lock file: from `/proc`, without any tool.
//!
//! The file is looked at through the container's own root; the kernel lists who took its lock, by device and inode. A
//! lock lives as long as the file is open, perhaps longer than the process that took it (a shell that calls `flock`):
//! then it is the oldest of those that have the file open. A process is taken only if it is in the container's
//! process namespace. Several, or none, is no answer.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The process that holds `lock` within the container whose first process is `main`.
pub fn of(main: u32, lock: &Path) -> Option<u32> {
    let below = lock.strip_prefix("/").ok()?;
    let file = fs::metadata(Path::new(&format!("/proc/{main}/root")).join(below)).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let takers: Vec<u32> = locks.lines().filter_map(|line| holder(line, major, minor, file.ino())).collect();
    if takers.is_empty() {
        return None;
    }
    let own = namespace(main)?;
    let processes =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let inside = processes.filter(|pid| namespace(*pid).as_ref() == Some(&own));
    let open: Vec<u32> = inside.filter(|pid| has_open(*pid, file.dev(), file.ino())).collect();
    let takers: Vec<u32> = takers.into_iter().filter(|pid| open.contains(pid)).collect();
    let oldest =
        || open.iter().copied().filter(|pid| !parent(*pid).is_some_and(|parent| open.contains(&parent)));
    match takers[..] {
        [one] => Some(one),
        [] => Some(oldest().collect::<Vec<u32>>()).and_then(|oldest| match oldest[..] {
            [one] => Some(one),
            _ => None,
        }),
        _ => None,
    }
}

/// Has a process this file open?
fn has_open(pid: u32, device: u64, inode: u64) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut found = files.filter_map(|file| fs::metadata(file.ok()?.path()).ok());
    found.any(|file| (file.dev(), file.ino()) == (device, inode))
}

/// The fourth field of `/proc/PID/stat`; the second may hold anything, in parentheses.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The process of a line such as `1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`, if it is about this file.
fn holder(line: &str, major: u32, minor: u32, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, kind, _, "WRITE", pid, place, ..] = words[..] else { return None };
    if !["FLOCK", "POSIX", "OFDLCK"].contains(&kind) {
        return None;
    }
    let mut parts = place.split(':');
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (of_major, of_minor) = (hex(parts.next()?)?, hex(parts.next()?)?);
    let of_inode: u64 = parts.next()?.parse().ok()?;
    ((of_major, of_minor, of_inode) == (major, minor, inode)).then(|| pid.parse().ok()).flatten()
}

fn namespace(pid: u32) -> Option<std::ffi::OsString> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok().map(Into::into)
}

/// Sends it a SIGTERM.
pub fn tell(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read_as_it_is_written() {
        let line = "12: FLOCK  ADVISORY  WRITE 4711 fe:01:1313 0 EOF";
        assert_eq!(holder(line, 0xfe, 1, 1313), Some(4711));
        assert_eq!(holder(line, 0xfe, 1, 1314), None);
        assert_eq!(holder("1: POSIX  ADVISORY  WRITE 7 00:2a:9 0 EOF", 0, 0x2a, 9), Some(7));
        for other in [
            "",
            "1:",
            "1: LEASE  ACTIVE  WRITE 7 00:2a:9 0 EOF",
            "1: -> FLOCK ADVISORY WRITE 7 00:2a:9 0 EOF",
            "1: POSIX ADVISORY READ 7 00:2a:9 0 EOF",
            "x x x WRITE -1 zz:2a:9",
        ] {
            assert_eq!(holder(other, 0, 0x2a, 9), None, "{other}");
        }
    }
}
