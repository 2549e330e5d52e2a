//! How far an offload has come: a bar on a terminal, a line every ten seconds elsewhere.

use actors::lab::RelPath;
use actors::progress::Watch;
use config::{ByteCount, ByteRate};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Without a terminal, so often.
const PLAIN: Duration = Duration::from_secs(10);

/// Progress over some jobs.
pub struct Bars {
    bar: Option<ProgressBar>,
    begun: Instant,
    said: Mutex<Instant>,
    jobs: u64,
    done: AtomicU64,
    files: AtomicU64,
    total_bytes: AtomicU64,
    bytes: AtomicU64,
}

impl Bars {
    /// Nothing done yet of so many jobs.
    pub fn new(jobs: u64) -> Self {
        let style = ProgressStyle::with_template(
            "{spinner} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}  {msg}",
        );
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let (begun, said) = (Instant::now(), Mutex::new(Instant::now()));
        let zero = || AtomicU64::new(0);
        Bars { bar, begun, said, jobs, done: zero(), files: zero(), total_bytes: zero(), bytes: zero() }
    }

    /// The last word.
    pub fn finish(&self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => self.print(),
        }
    }

    /// A terminal that went away must not end an upload.
    fn print(&self) {
        let _ = writeln!(std::io::stderr(), "{}", self.line());
    }

    fn line(&self) -> String {
        let (bytes, elapsed) = (self.bytes.load(Relaxed), self.begun.elapsed());
        let rate = (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
        format!(
            "{} of {} directories, {} files, {} of {}, {}",
            self.done.load(Relaxed),
            self.jobs,
            self.files.load(Relaxed),
            ByteCount(bytes),
            ByteCount(self.total_bytes.load(Relaxed)),
            ByteRate(rate)
        )
    }

    fn say(&self) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(self.total_bytes.load(Relaxed));
                bar.set_position(self.bytes.load(Relaxed));
                bar.set_message(format!("{} of {} directories", self.done.load(Relaxed), self.jobs));
            }
            None => {
                if let Ok(mut said) = self.said.try_lock()
                    && said.elapsed() >= PLAIN
                {
                    *said = Instant::now();
                    self.print();
                }
            }
        }
    }
}

impl Watch for Bars {
    fn planned(&self, _: &RelPath, _: u64, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Relaxed);
    }

    fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.say();
    }

    fn stored(&self) {
        self.files.fetch_add(1, Relaxed);
    }

    fn done(&self, _: &RelPath, _: bool) {
        self.done.fetch_add(1, Relaxed);
        self.say();
    }
}
