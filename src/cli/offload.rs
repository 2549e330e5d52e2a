//! `offload`: some directories, now, with a progress bar.

use super::progress::Bars;
use crate::house::{House, HouseError};
use crate::life;
use crate::offload::{self, Outcome};
use crate::say;
use crate::status::Status;
use actors::lab::RelPath;
use actors::lane::Lane;
use actors::planner::names::job_prefix;
use actors::tree::{Limits, Patterns};
use config::{ByteCount, Config};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Offloads `dirs`, which must lie below the configured results directory, or all in one directory.
pub fn offload(config: &Config, dirs: &[PathBuf], keep: bool, dry_run: bool) -> Status {
    let (root, jobs) = match below_one_root(config, dirs) {
        Ok(found) => found,
        Err(why) => {
            say::error(why);
            return Status::Failed;
        }
    };
    let bars = Arc::new(Bars::new(jobs.len() as u64));
    let house = match House::open(config, &root, bars.clone()) {
        Ok(house) => house,
        Err(error @ HouseError::Held(_)) => {
            say::error(error);
            say::note(
                "  = help: a running drone offloads by itself; `dronekeeper retry DIR` makes a directory due now",
            );
            return Status::Failed;
        }
        Err(error) => return life::refused(&error),
    };
    let jobs: Vec<(RelPath, Arc<Lane>)> = jobs
        .into_iter()
        .map(|job| {
            let lane = lane_of(&house, &job);
            (job, lane)
        })
        .collect();
    if dry_run {
        return jobs
            .iter()
            .map(|(job, _)| preview(&house, job))
            .fold(Status::Ok, |worst, status| if status == Status::Ok { worst } else { status });
    }
    let outcomes = actix_rt::System::new().block_on(offload::offload(&house, jobs, keep));
    bars.finish();
    let mut failed = 0;
    for (job, outcome) in &outcomes {
        match outcome {
            Outcome::Proven | Outcome::Pruned => {}
            Outcome::Kept(why) => say::line(format_args!("{job}: in the store and proven; kept here: {why}")),
            Outcome::Failed => {
                failed += 1;
                say::line(format_args!("{job}: not offloaded; the reason is in the log above"));
            }
            Outcome::Unavailable(why) => {
                failed += 1;
                say::line(format_args!("{job}: not offloaded: {why}"));
            }
        }
    }
    say::line(format_args!(
        "{} of {} directories are in {}, proven",
        outcomes.len() - failed,
        outcomes.len(),
        house.site.store.name()
    ));
    if failed == 0 { Status::Ok } else { Status::Failed }
}

/// The directory that all of `dirs` are below, and their paths below it.
fn below_one_root(config: &Config, dirs: &[PathBuf]) -> Result<(PathBuf, Vec<RelPath>), String> {
    let whole =
        |path: &Path| std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()));
    let dirs = dirs.iter().map(|dir| whole(dir)).collect::<Result<Vec<_>, _>>()?;
    let results = whole(&config.results.dir)?;
    let root = match dirs.iter().all(|dir| dir.starts_with(&results) && *dir != results) {
        true => results,
        false => dirs.first().and_then(|dir| dir.parent()).map(Path::to_owned).ok_or("`/` is no job")?,
    };
    let jobs = dirs.iter().map(|dir| {
        let below = dir.strip_prefix(&root).ok().filter(|below| !below.as_os_str().is_empty());
        let below = below.ok_or_else(|| {
            format!("{} is not below {}: offload one parent at a time", dir.display(), root.display())
        })?;
        let parts: Vec<&[u8]> = below.components().map(|part| part.as_os_str().as_bytes()).collect();
        RelPath::new(parts.join(&b'/')).map_err(|error| error.to_string())
    });
    Ok((root.clone(), jobs.collect::<Result<_, _>>()?))
}

/// The lane that a job belongs to, or one with the defaults.
fn lane_of(house: &House, job: &RelPath) -> Arc<Lane> {
    let matches = |patterns: &Patterns| patterns.matches(job);
    let found = house.patterns.iter().position(matches).and_then(|index| house.lanes.get(index));
    found.cloned().unwrap_or_else(|| {
        let settings = config::Lane { name: "offload".into(), ..config::Lane::default() };
        Arc::new(Lane::new(house.site.clone(), settings))
    })
}

fn preview(house: &House, job: &RelPath) -> Status {
    let looked = house.site.root.job(job).and_then(|dir| dir.snapshot(&Limits::default()));
    match looked {
        Ok(snapshot) => {
            let prefix = job_prefix(&house.site.prefix, job, 1);
            let prefix = actors::shown::Shown::text(&prefix);
            let (files, bytes) = (snapshot.files, ByteCount(snapshot.bytes));
            say::line(format_args!(
                "{job}: {files} files, {bytes}, would go to {}/{prefix}",
                house.site.store.name().trim_end_matches('/')
            ));
            Status::Ok
        }
        Err(error) => {
            say::line(format_args!("{job}: {}", actors::shown::chain(&error)));
            Status::Failed
        }
    }
}
