//! One lock for each container's name, at the path of the original: an old cron script and a person's tool take the
//! same (reference E20).

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Makes locks.
#[derive(Debug)]
pub struct Locks {
    pattern: String,
}

/// A lock that is held, until dropped; its file goes with it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: OwnedFd,
}

impl Locks {
    /// Of files named by this pattern.
    pub fn new(pattern: &str) -> Self {
        Locks { pattern: pattern.to_owned() }
    }

    /// Takes the lock of a name; `None`: another hand has it.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn take(&self, name: &str) -> io::Result<Option<Lock>> {
        let path = PathBuf::from(self.pattern.replace("{name}", name));
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        // The original holds a record lock, which a flock does not see.
        let probe = Flock {
            start: 0,
            length: 0,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        if fcntl_getlk(&file, &probe)?.is_some() {
            return Ok(None);
        }
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // Removed or replaced meanwhile: it is not the lock that others see.
        let own = rustix::fs::fstat(&file)?;
        match std::fs::symlink_metadata(&path) {
            Ok(there) if (there.dev(), there.ino()) == (own.st_dev, own.st_ino) => {
                Ok(Some(Lock { path, _file: file }))
            }
            _ => Ok(None),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is let go, as the original does.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hand_has_a_lock_and_its_file_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::new(&format!("{}/{{name}}.lock", dir.path().display()));
        let lock = locks.take("000").unwrap();
        assert!(lock.is_some() && locks.take("000").unwrap().is_none());
        assert!(locks.take("001").unwrap().is_some(), "names have locks of their own");
        drop(lock);
        assert!(!dir.path().join("000.lock").exists());
        assert!(locks.take("000").unwrap().is_some());
    }

    #[test]
    fn the_record_lock_of_the_original_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("000.lock");
        let take = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); \
                    print('held', flush=True); sys.stdin.read()";
        let mut other = std::process::Command::new("python3")
            .args(["-c", take])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 4];
        io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut said).unwrap();
        let locks = Locks::new(&format!("{}/{{name}}.lock", dir.path().display()));
        assert!(locks.take("000").unwrap().is_none() && path.exists());
        drop(other.stdin.take());
        other.wait().unwrap();
        assert!(locks.take("000").unwrap().is_some());
    }

    #[test]
    fn a_lock_that_is_a_link_or_has_no_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("000.lock")).unwrap();
        assert!(Locks::new(&format!("{}/{{name}}.lock", dir.path().display())).take("000").is_err());
        assert!(Locks::new(&format!("{}/nosuch/{{name}}.lock", dir.path().display())).take("000").is_err());
    }
}
