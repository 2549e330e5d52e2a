//! Where the log goes: standard output, a file that is followed by others, the journal. It may become another place
//! while lines are written; each line goes to one of them.

use super::journal::Journal;
use super::rolling;
use super::sized::Sized;
use config::{Log, LogFormat, Rotate};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_appender::rolling::Rotation;
use tracing_subscriber::fmt::MakeWriter;

/// Which place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    Stdout,
    Journal,
    File { file: PathBuf, rotate: Rotate, keep: usize },
}

impl Where {
    /// As the settings say; `to` is none where files are another process's.
    pub fn of(format: LogFormat, to: Option<&Log>) -> Self {
        match (format, to.and_then(|log| Some((log, log.file.clone()?)))) {
            (LogFormat::Journald, _) => Where::Journal,
            (_, Some((log, file))) => Where::File { file, rotate: log.rotate, keep: log.keep },
            (_, None) => Where::Stdout,
        }
    }

    /// Through a thread of its own.
    fn open(&self) -> Result<(NonBlocking, WorkerGuard), String> {
        Ok(match self {
            Where::Stdout => tracing_appender::non_blocking(std::io::stdout()),
            Where::Journal => tracing_appender::non_blocking(Journal::open()?),
            Where::File { file, rotate, keep } => match rotate {
                Rotate::Size(most) => tracing_appender::non_blocking(Sized::open(file, most.0, *keep)?),
                Rotate::Daily => tracing_appender::non_blocking(rolling(*keep, file, Rotation::DAILY)?),
                Rotate::Hourly => tracing_appender::non_blocking(rolling(*keep, file, Rotation::HOURLY)?),
            },
        })
    }
}

/// The place that is in use. Clones share it.
#[derive(Clone)]
pub struct Place(Arc<Mutex<Used>>);

struct Used {
    at: Where,
    lines: NonBlocking,
    guard: Option<WorkerGuard>,
}

impl Place {
    /// Begins there.
    ///
    /// # Errors
    /// A sentence, when it cannot be used.
    pub fn open(at: Where) -> Result<Self, String> {
        let (lines, guard) = at.open()?;
        Ok(Place(Arc::new(Mutex::new(Used { at, lines, guard: Some(guard) }))))
    }

    /// Goes on there. What is on its way to the place before is written there first.
    ///
    /// # Errors
    /// A sentence, when it cannot be used: the place before is in use still.
    pub fn change(&self, at: Where) -> Result<(), String> {
        if self.used().at == at {
            return Ok(());
        }
        let (lines, guard) = at.open()?;
        let before = std::mem::replace(&mut *self.used(), Used { at, lines, guard: Some(guard) });
        drop(before);
        Ok(())
    }

    /// Writes what is on its way; nothing is written after it.
    pub fn end(&self) {
        let guard = self.used().guard.take();
        drop(guard);
    }

    /// Is it standard output?
    pub fn is_stdout(&self) -> bool {
        self.used().at == Where::Stdout
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Place {
    type Writer = NonBlocking;

    fn make_writer(&'a self) -> NonBlocking {
        self.used().lines.clone()
    }
}
