//! Everything that touches the results directory: by descriptor only, and never through a link.
//!
//! Names come from outside and may change while we look. Each directory is opened beneath the results
//! root, without symbolic links and without leaving its file system; what is found there is handled
//! relative to that descriptor. A walk holds two descriptors, whatever the depth.

pub mod job;
pub mod remove;
pub mod root;
pub mod stat;
pub mod sweep;
pub mod trash;
pub mod walk;

pub use job::{JobDir, OpenError};
pub use remove::Removed;
pub use root::{Root, Space};
pub use sweep::{Found, Patterns, Sweep, Swept};
pub use trash::{Trash, Trashed};
pub use walk::{Difference, Limits, Snapshot, changes};

use crate::lab::{BadPath, RelPath};
use std::path::PathBuf;

/// Why the results directory, or something below it, could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TreeError {
    #[error("cannot open the results directory {0}")]
    Root(PathBuf, #[source] std::io::Error),
    #[error("another process{} holds the results directory {path}", pid.map(|pid| format!(" ({pid})")).unwrap_or_default())]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("cannot open {0}")]
    Open(String, #[source] std::io::Error),
    #[error("cannot list {0}")]
    List(String, #[source] std::io::Error),
    #[error("{0} is gone")]
    Gone(RelPath),
    #[error("a name that no path can hold")]
    Name(#[from] BadPath),
    #[error("{0} lies deeper than {1} directories")]
    TooDeep(RelPath, usize),
    #[error("more than {0} entries")]
    TooMany(usize),
    #[error("cannot move {0}")]
    Move(String, #[source] std::io::Error),
    #[error("cannot delete {0}")]
    Delete(String, #[source] std::io::Error),
    #[error("cannot write {0}")]
    Write(String, #[source] std::io::Error),
    #[error("the trash {0} is not a directory of ours")]
    Trash(PathBuf),
    #[error("`{0}` is no pattern")]
    Pattern(String, #[source] globset::Error),
}
