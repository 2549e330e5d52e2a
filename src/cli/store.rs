//! `verify` and `restore`: the store against its manifests, without a running drone.

use super::job_of;
use crate::house;
use crate::say;
use crate::status::Status;
use actors::audit::{self, AuditError};
use actors::planner::names::job_prefix;
use actors::shown::{Shown, chain};
use actors::store::Store;
use config::Config;
use std::path::{Path, PathBuf};

/// Compares jobs in the store with their manifests; names each difference.
pub fn verify(config: &Config, dirs: &[PathBuf], all: bool, read_back: bool) -> Status {
    with_store(config, async |store, prefix| {
        let prefixes = match all {
            true => audit::jobs(store, prefix).await?,
            false => dirs.iter().map(|dir| prefix_of(config, dir)).collect(),
        };
        let (mut differences, mut files, mut bytes) = (0, 0, 0);
        for prefix in &prefixes {
            let shown = Shown::text(prefix);
            let manifest = match audit::manifest(store, prefix).await {
                Ok(manifest) => manifest,
                Err(error) => {
                    differences += 1;
                    say::line(format_args!("{shown}: {}", chain(&error)));
                    continue;
                }
            };
            let found = audit::differences(store, &manifest, read_back).await?;
            found.iter().for_each(|difference| say::line(format_args!("{shown}: {difference}")));
            (differences, files, bytes) =
                (differences + found.len(), files + manifest.files, bytes + manifest.bytes);
        }
        let how = if read_back { "read back and hashed" } else { "compared" };
        say::line(format_args!(
            "{} jobs, {files} files, {} {how}: {differences} differences",
            prefixes.len(),
            config::ByteCount(bytes)
        ));
        Ok(if differences == 0 { Status::Ok } else { Status::Failed })
    })
}

/// Brings a job back.
pub fn restore(config: &Config, job: &Path, to: Option<PathBuf>, only: Option<&str>) -> Status {
    let only = match only.map(globset::Glob::new).transpose() {
        Ok(only) => only.map(|only| only.compile_matcher()),
        Err(error) => {
            say::error(format_args!("--path: {error}"));
            return Status::Failed;
        }
    };
    let to = to.or_else(|| job.file_name().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("restored"));
    with_store(config, async |store, _| {
        let manifest = audit::manifest(store, &prefix_of(config, job)).await?;
        let count = audit::restore(store, &manifest, &to, only.as_ref()).await?;
        say::line(format_args!(
            "{count} entries of {} restored to {}, each as its manifest says",
            manifest.job,
            to.display()
        ));
        Ok(Status::Ok)
    })
}

/// The prefix of a job by its directory, or by the name that it has in the store, such as `123-user~2`.
fn prefix_of(config: &Config, dir: &Path) -> String {
    let prefix = config.store.prefix.trim_matches('/');
    match job_of(config, dir) {
        Some(job) => job_prefix(prefix, &job, 1),
        None => dir.display().to_string(),
    }
}

fn with_store(config: &Config, work: impl AsyncFnOnce(&Store, &str) -> Result<Status, AuditError>) -> Status {
    let ready = house::store(config).map_err(|error| chain(&error));
    let ready = ready.and_then(|store| Ok((store, house::ground::runtime().map_err(|error| chain(&error))?)));
    let (store, io) = match ready {
        Ok(ready) => ready,
        Err(why) => {
            say::error(why);
            return Status::Config;
        }
    };
    match io.block_on(work(&store, config.store.prefix.trim_matches('/'))) {
        Ok(status) => status,
        Err(error) => {
            say::error(chain(&error));
            Status::Failed
        }
    }
}
