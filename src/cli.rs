//! The commands: one file each, and what they share.

pub mod args;
pub mod bundle;
pub mod check;
pub mod client;
pub mod ctl;
pub mod jobs;
pub mod offload;
pub mod progress;
pub mod setup;
pub mod show;
pub mod store;
pub mod top;

use crate::logging::Manner;
use crate::status::Status;
use crate::{demo, life, logging, say, worker};
use actors::lab::RelPath;
use args::{Args, Command, ContainersCommand, QuarantineCommand, QueueCommand};
use clap::{CommandFactory, Parser};
use client::Client;
use config::{Config, LogFormat};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Does what the command line says.
pub fn main() -> Status {
    let args = Args::parse();
    match &args.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "dronekeeper", &mut script);
            say::text(String::from_utf8_lossy(&script));
            return Status::Ok;
        }
        Command::Man => {
            let mut page = Vec::new();
            let drawn = clap_mangen::Man::new(Args::command()).render(&mut page);
            say::text(String::from_utf8_lossy(&page));
            return if drawn.is_ok() { Status::Ok } else { Status::Failed };
        }
        Command::Init { dir } => return setup::init(dir),
        Command::ImportConfig { files } => return setup::import(files),
        Command::Demo { once } => return demo::demo(*once, &args),
        Command::Hub { command } => return hub(&args, command.as_ref()),
        _ => {}
    }
    let loaded = match config::load(args.config.as_deref(), config::environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            say::note(error);
            // A running drone sees the same file, and refuses it.
            return if matches!(args.command, Command::Reload) { Status::Failed } else { Status::Config };
        }
    };
    let config = loaded.config.clone();
    let _log = match begin_log(&args, &config.log) {
        Ok(guard) => guard,
        Err(error) => {
            say::error(error);
            return Status::Config;
        }
    };
    match args.command {
        Command::Run => life::run(loaded),
        Command::Worker { queues, workers, heavy_workers } => {
            worker::run(&config, &queues, workers, heavy_workers)
        }
        Command::SupportBundle { output } => bundle::bundle(&loaded, &Client::new(&config), output),
        Command::Check { connect } => check::check(&config, loaded.file.as_deref(), connect),
        Command::Offload { dirs, keep, dry_run } => offload::offload(&config, &dirs, keep, dry_run),
        Command::Verify { jobs, all, read_back } => store::verify(&config, &jobs, all, read_back),
        Command::Restore { job, to, path } => store::restore(&config, &job, to, path.as_deref()),
        command => told(&config, command),
    }
}

/// The hub has a configuration of its own.
fn hub(args: &Args, command: Option<&args::HubCommand>) -> Status {
    let config = match config::load_hub(args.config.as_deref(), config::environment()) {
        Ok((config, _)) => config,
        Err(error) => {
            say::note(error);
            return Status::Config;
        }
    };
    if let Some(args::HubCommand::Ctl { url, token_file, command }) = command {
        return ctl::ctl(&config.hub, url.as_deref(), token_file.as_deref(), command);
    }
    match begin_log(args, &config.log) {
        Ok(_log) => crate::hub::run(&config),
        Err(error) => {
            say::error(error);
            Status::Config
        }
    }
}

/// The commands that ask or tell a running drone.
fn told(config: &Config, command: Command) -> Status {
    let client = Client::new(config);
    let named = |dirs: &[std::path::PathBuf]| jobs::named(config, dirs);
    match command {
        Command::Status { json } => show::status(&client, json),
        Command::Top => top::top(&client),
        Command::Jobs { state, lane, json, command } => match command {
            Some(args::JobsCommand::Show { dir }) => show::job(&client, config, &dir),
            None => show::jobs(&client, state.as_deref(), lane.as_deref(), json),
        },
        Command::Retry { all: true, .. } => jobs::retry(&client, None, false),
        Command::Retry { dirs, .. } => match named(&dirs) {
            Ok(jobs) => jobs::retry(&client, Some(jobs), false),
            Err(status) => status,
        },
        Command::Pause { lane, time, reason } => jobs::pause(&client, lane, time.map(Into::into), reason),
        Command::Resume { lane } => jobs::resume(&client, lane),
        Command::Reload => jobs::reload(&client),
        Command::Drain => jobs::pause(&client, None, None, Some("drained by hand".into())),
        Command::Containers { command } => match command {
            None => show::containers(&client),
            Some(ContainersCommand::Drain { name }) => jobs::containers(&client, name, true),
            Some(ContainersCommand::Resume { name }) => jobs::containers(&client, name, false),
        },
        Command::Reboot { .. } => jobs::reboot(&client),
        Command::Queue { command } => queue(&client, &named, command),
        Command::Quarantine { command } => match command {
            QuarantineCommand::Ls => show::jobs(&client, Some("quarantined"), None, false),
            QuarantineCommand::Show { dir } => show::job(&client, config, &dir),
            QuarantineCommand::Release { dir } => match named(&[dir]) {
                Ok(jobs) => jobs::retry(&client, Some(jobs), true),
                Err(status) => status,
            },
            QuarantineCommand::Drop { dir } => match named(&[dir]) {
                Ok(jobs) => jobs::forget(&client, jobs),
                Err(status) => status,
            },
        },
        _ => Status::Failed,
    }
}

fn queue(
    client: &Client,
    named: &impl Fn(&[std::path::PathBuf]) -> Result<Vec<String>, Status>,
    command: QueueCommand,
) -> Status {
    match command {
        QueueCommand::List { state, json } => show::queue(client, state.as_deref(), None, json),
        QueueCommand::Show { dir } => match named(&[dir]) {
            Ok(jobs) => show::queue(client, None, jobs.first().map(String::as_str), false),
            Err(status) => status,
        },
        QueueCommand::Retry { all: true, .. } => jobs::queue(client, "queue/retry", None),
        QueueCommand::Retry { dirs, .. } => match named(&dirs) {
            Ok(jobs) => jobs::queue(client, "queue/retry", Some(jobs)),
            Err(status) => status,
        },
        QueueCommand::Drop { dirs } => match named(&dirs) {
            Ok(jobs) => jobs::queue(client, "queue/drop", Some(jobs)),
            Err(status) => status,
        },
    }
}

/// Begins the log as the configuration and the command line say; a one-shot command is quieter.
fn begin_log(args: &Args, log: &config::Log) -> Result<logging::Guard, String> {
    let daemon = matches!(args.command, Command::Run | Command::Worker { .. } | Command::Hub { .. });
    let format = match args.log_format {
        Some(args::Format::Json) => LogFormat::Json,
        Some(args::Format::Text) => LogFormat::Text,
        Some(args::Format::Journald) => LogFormat::Journald,
        // Whoever types a command reads the answer here.
        None if !daemon && log.format == LogFormat::Journald => LogFormat::Text,
        None => log.format,
    };
    let level = match (args.verbose, args.quiet) {
        (0, 0) if daemon => log.level.as_str(),
        (0, 0) => "warn",
        (0, _) => "error",
        (1, _) => "info",
        (_, _) => "debug",
    };
    // A file is one process's.
    let file = daemon && !matches!(args.command, Command::Worker { .. });
    let is_fixed = args.verbose > 0 || args.quiet > 0 || args.log_format.is_some();
    logging::begin(Manner { format, level, is_fixed, color: is_colored(args.color) }, file.then_some(log))
}

/// `auto`: on a terminal, unless NO_COLOR is set (no-color.org).
fn is_colored(color: clap::ColorChoice) -> bool {
    match color {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto => {
            std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// A job's path below the results root, from a path on the command line.
pub fn job_of(config: &Config, dir: &Path) -> Option<RelPath> {
    let root = std::path::absolute(&config.results.dir).ok()?;
    let below = match std::path::absolute(dir).ok()?.strip_prefix(&root) {
        Ok(below) => below.to_owned(),
        Err(_) if dir.is_relative() => dir.to_owned(),
        Err(_) => return None,
    };
    let parts: Vec<&[u8]> = below.components().map(|part| part.as_os_str().as_bytes()).collect();
    RelPath::new(parts.join(&b'/')).ok()
}
