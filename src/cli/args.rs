//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Keeps a test lab's machine alive: results leave the disk, proven safe, under a supervision tree.
#[derive(Debug, Parser)]
#[command(name = "dronekeeper", version, about, propagate_version = true)]
pub struct Args {
    /// The configuration file; else $DRONEKEEPER_CONFIG, ./dronekeeper.toml, /etc/dronekeeper/dronekeeper.toml
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say more; twice, even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only what failed
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub quiet: u8,
    /// How the log is written
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<Format>,
    /// Colour in help and in a text log on a terminal
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Format {
    Text,
    Json,
    Journald,
}

/// A time such as `90s` or `2h`.
#[derive(Clone, Copy, Debug)]
pub struct Time(Duration);

impl From<Time> for Duration {
    fn from(Time(time): Time) -> Self {
        time
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Time).map_err(|_| "write for example 90s or 2h".into())
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    /// Run the drone, in the foreground
    Run,
    /// Run the work of queues in a process of its own, beside the drone or on another host
    Worker {
        /// The queue; more than once for several
        #[arg(long = "queue", required = true)]
        queues: Vec<String>,
        /// So many commands at once, instead of the configuration's
        #[arg(long)]
        workers: Option<usize>,
        /// So many heavy ones, instead of the configuration's
        #[arg(long)]
        heavy_workers: Option<usize>,
    },
    /// Run the central hub that drones send heartbeats to, or say what it is to do
    #[command(args_conflicts_with_subcommands = true)]
    Hub {
        #[command(subcommand)]
        command: Option<HubCommand>,
    },
    /// A lab in one process: makes finished jobs in a temporary directory and offloads them
    Demo {
        /// End when all is offloaded, verified and pruned
        #[arg(long)]
        once: bool,
    },
    /// Validate the configuration
    Check {
        /// Also write, read back and delete a small object in the store, ask the hub, greet the mail server
        #[arg(long)]
        connect: bool,
    },
    /// Write a commented configuration to start from; never over another
    Init {
        /// Where
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Print an Autotest site's configuration in our words, and what could not be carried over
    ImportConfig {
        /// global_config.ini, and shadow_config.ini over it
        #[arg(required = true, num_args = 1..=2, value_name = "INI")]
        files: Vec<PathBuf>,
    },
    /// Offload these directories now, without the daemon
    Offload {
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        /// Keep them on the disk
        #[arg(long)]
        keep: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the state of a running drone, live in the terminal
    Top,
    /// One screen: the supervision tree, lanes, disk, store, problems
    Status {
        #[arg(long)]
        json: bool,
    },
    /// What the ledger knows of the jobs
    #[command(args_conflicts_with_subcommands = true)]
    Jobs {
        /// Only jobs that are waiting, orphan, attempting, failed, published, quarantined or pruned
        #[arg(long)]
        state: Option<String>,
        #[arg(long)]
        lane: Option<String>,
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        command: Option<JobsCommand>,
    },
    /// Try failed directories again now
    Retry {
        #[arg(required_unless_present = "all")]
        dirs: Vec<PathBuf>,
        /// Every directory that failed
        #[arg(long, conflicts_with = "dirs")]
        all: bool,
    },
    /// Begin nothing new in a lane, or in all; survives a restart
    Pause {
        lane: Option<String>,
        /// For so long
        #[arg(long = "for", value_name = "TIME")]
        time: Option<Time>,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Go on with a lane, or with all and with pruning
    Resume { lane: Option<String> },
    /// Begin nothing new in any lane until `resume`
    Drain,
    /// Read the configuration file again and bring it into force; a broken one changes nothing
    Reload,
    /// Directories that need a person's decision; never deleted by the process
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// The test containers: list them, drain them, let them come back
    #[command(args_conflicts_with_subcommands = true)]
    Containers {
        #[command(subcommand)]
        command: Option<ContainersCommand>,
    },
    /// Reboot the host once nothing of worth runs on it
    Reboot {
        /// Wait until containers, uploads, reports and post-processing have ended
        #[arg(long, required = true)]
        when_idle: bool,
    },
    /// Post-processing: what waits, runs, is done, or gave up
    Queue {
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// Compare jobs in the store with their manifests
    Verify {
        #[arg(required_unless_present = "all")]
        jobs: Vec<PathBuf>,
        /// Every job under the configured prefix
        #[arg(long, conflicts_with = "jobs")]
        all: bool,
        /// Read every byte back and hash it
        #[arg(long)]
        read_back: bool,
    },
    /// Bring a job back from the store, checked against its manifest
    Restore {
        job: PathBuf,
        /// An empty or absent directory; default: the job's name here
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Only entries whose path matches, such as `debug/*`
        #[arg(long, value_name = "GLOB")]
        path: Option<String>,
    },
    /// Write what a bug report needs into one file, without secrets
    SupportBundle {
        /// The file; it must not be there
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Shell completions
    Completions { shell: clap_complete::Shell },
    /// The man page
    Man,
}

/// What an administrator does with a hub.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum HubCommand {
    /// Tell a running hub: drones, hosts, jobs
    Ctl {
        /// Where the hub is; default: where the configuration says that it listens, on this machine
        #[arg(long)]
        url: Option<String>,
        /// The file of the administrator's token; default: admin.token in the hub's state directory
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(subcommand)]
        command: CtlCommand,
    },
}

/// What a hub is told.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum CtlCommand {
    /// List the drones with their boards and last beat
    Shards,
    /// List the hosts
    Hosts,
    /// List jobs; all, or these
    Jobs { ids: Vec<u64> },
    /// A new drone; prints its token, this once
    AddShard {
        name: String,
        /// A board, such as board:eve; more than once
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<String>,
        /// A token that the drone has already, e.g. after the hub's database was lost
        #[arg(long, value_name = "FILE")]
        keep_token: Option<PathBuf>,
    },
    /// One more token for a drone; the one before the last is no longer good
    RotateToken { name: String },
    /// Give a drone one more board
    AddBoard { name: String, label: String },
    /// Take a board, and its hosts, from a drone
    RemoveBoard { name: String, label: String },
    /// A drone that is gone: its boards, hosts and open jobs are free for others
    DeleteShard { name: String },
    /// A host with its labels
    AddHost {
        name: String,
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<String>,
    },
    /// A job; prints its number
    CreateJob {
        name: String,
        /// For any host of this board
        #[arg(long = "board", value_name = "LABEL")]
        boards: Vec<String>,
        /// For this host
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        #[arg(long, default_value = "autotest_system")]
        owner: String,
        /// What the drone is to run
        #[arg(long, value_name = "FILE")]
        control_file: Option<PathBuf>,
        /// KEY=VALUE; more than once
        #[arg(long = "keyval", value_name = "KEY=VALUE")]
        keyvals: Vec<String>,
        /// So many of them
        #[arg(long, default_value_t = 1)]
        count: u32,
    },
    /// End jobs
    Abort {
        #[arg(required = true)]
        ids: Vec<u64>,
    },
    /// A special task of a host: Verify, Cleanup, Repair, Reset or Provision; prints its number
    CreateTask { host: String, task: String },
}

/// What to show of jobs.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum JobsCommand {
    /// One job: where it stands, what comes next, each attempt with its error
    Show { dir: PathBuf },
}

/// What to do with containers.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum ContainersCommand {
    /// Let one, or all, end when their tests have, and start none in their place
    Drain { name: Option<String> },
    /// Start them again
    Resume { name: Option<String> },
}

/// What to do with items of the queues.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum QueueCommand {
    /// List them
    List {
        /// Only items that are queued, running, done, dead or dropped
        #[arg(long)]
        state: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// One job's items, with the last error
    Show { dir: PathBuf },
    /// Run what gave up again, from the first attempt
    Retry {
        #[arg(required_unless_present = "all")]
        dirs: Vec<PathBuf>,
        /// Everything that gave up
        #[arg(long, conflicts_with = "dirs")]
        all: bool,
    },
    /// A person's decision: these jobs need not be processed, and may be deleted once they are in the store
    Drop {
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
}

/// What to do with quarantined directories.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum QuarantineCommand {
    /// List them
    Ls,
    /// Why it is there
    Show { dir: PathBuf },
    /// Try it again
    Release { dir: PathBuf },
    /// Forget what is known of it; the directory stays and is found again
    Drop { dir: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_pause_takes_a_lane_a_time_and_a_reason() {
        let args = Args::parse_from(["dronekeeper", "pause", "jobs", "--for", "2h", "--reason", "move"]);
        let Command::Pause { lane, time, reason } = args.command else { panic!("not a pause") };
        let time: Option<Duration> = time.map(Into::into);
        assert_eq!((lane.as_deref(), reason.as_deref()), (Some("jobs"), Some("move")));
        assert_eq!(time, Some(Duration::from_secs(7200)));
    }

    #[test]
    fn nothing_to_retry_is_an_error() {
        assert!(Args::try_parse_from(["dronekeeper", "retry"]).is_err());
        assert!(Args::try_parse_from(["dronekeeper", "retry", "--all"]).is_ok());
    }
}
