//! A lab in one process: a few finished jobs, a drone, a store in a directory; through the real code path.

use crate::cli::args::Args;
use crate::drone;
use crate::house::House;
use crate::life;
use crate::logging;
use crate::say;
use crate::status::Status;
use actors::progress::Silent;
use actors::tree::{Patterns, Sweep};
use config::{Config, Lane, LogFormat};
use kernel::Tree;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// With `--once`, everything is offloaded within this time or the demo has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the demo.
pub fn demo(once: bool, args: &Args) -> Status {
    let level = if args.quiet > 0 { "warn" } else { "info" };
    let log = logging::begin(LogFormat::Text, level);
    if let Err(error) = &log {
        say::error(error);
        return Status::Failed;
    }
    let place = match tempfile::Builder::new().prefix("dronekeeper-demo-").tempdir() {
        Ok(place) => place.keep(),
        Err(error) => {
            say::error(format_args!("no temporary directory: {error}"));
            return Status::Failed;
        }
    };
    let made = sample_jobs(&place.join("results"));
    let config = made.and_then(|()| settings(&place));
    let (config, house) = match config.map_err(|error| error.to_string()) {
        Ok(config) => match House::open(&config, &config.results.dir, Arc::new(Silent)) {
            Ok(house) => (config, house),
            Err(error) => return life::refused(&error),
        },
        Err(error) => {
            say::error(format_args!("cannot prepare {}: {error}", place.display()));
            return Status::Failed;
        }
    };
    say::line(format_args!("The lab is in {}:", place.display()));
    say::line("  results/    what the tests left; finished jobs leave it once they are proven safe");
    say::line("  offloaded/  the store: browse it; each job has a .dronekeeper/manifest.json, written last");
    say::line("  state/      the ledger, the control socket, deletions.log");
    say::line(format_args!("  http://{}/api/v1/status\n", config.admin.listen));
    actix_rt::System::new().block_on(live(&house, once))
}

/// Defaults, but for places and times: a demo is not a lab.
fn settings(place: &Path) -> io::Result<Config> {
    let mut config = Config::default();
    config.drone.name = "demo".into();
    config.drone.state_dir = place.join("state");
    config.results.dir = place.join("results");
    config.results.rescan = Duration::from_millis(300);
    config.store.url = format!("file://{}", place.join("offloaded").display());
    // Any free port: another drone may have the usual one.
    config.admin.listen = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr()?;
    for lane in &mut config.lanes {
        *lane = Lane { settle: Duration::from_millis(500), ..lane.clone() };
    }
    Ok(config)
}

async fn live(house: &Arc<House>, once: bool) -> Status {
    let Ok(tree) = Tree::start(&drone::tree(house), 8) else { return Status::GaveUp };
    let _ = house.desk.census.set(tree.census().clone());
    let begun = Instant::now();
    let mut said = false;
    let status = loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break if left(house) == 0 { Status::Ok } else { Status::Failed },
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let done = left(house) == 0;
        if done && !said {
            said = true;
            summary(house, begun.elapsed());
        }
        if done && once {
            break Status::Ok;
        }
        if once && begun.elapsed() > PATIENCE {
            say::error(format_args!("{} jobs are still on the disk after {PATIENCE:?}", left(house)));
            break Status::Failed;
        }
    };
    tree.stop(Duration::from_secs(10)).await;
    status
}

/// The finished jobs that are still on the disk. One job of the demo is not finished, and stays.
fn left(house: &House) -> usize {
    let root = &house.site.root;
    let sweep = |patterns: &Patterns| {
        Sweep::new(patterns.clone()).round(root, Instant::now(), SystemTime::now()).unwrap_or_default().seen
    };
    let found: Vec<actors::tree::Found> = house.patterns.iter().flat_map(sweep).collect();
    let finished = |job: &actors::tree::Found| {
        root.job(&job.path).is_ok_and(|dir| !matches!(dir.marker(b".ready_for_offload"), Ok(None)))
    };
    found.iter().filter(|job| finished(job)).count()
}

fn summary(house: &House, time: Duration) {
    say::line(format_args!(
        "\nAll finished jobs are offloaded, verified and pruned after {:.1} s;",
        time.as_secs_f64()
    ));
    say::line(format_args!(
        "  the unfinished job 103-chromeos-test is still in {}",
        house.site.root.path().display()
    ));
    say::line("Look around; Ctrl-C ends the demo (with --once it ends by itself).");
}

/// What a lab machine has on its disk: four finished jobs of three kinds, and one that still runs.
fn sample_jobs(results: &Path) -> io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for (job, kib, finished) in [
        ("101-chromeos-test", 200, true),
        ("102-chromeos-test", 12_000, true),
        ("103-chromeos-test", 50, false),
        ("hosts/chromeos1-row2-host3/7-reset", 20, true),
        ("swarming-3e4391423c3a4311", 300, true),
    ] {
        let dir = results.join(job);
        let host = dir.join("chromeos1-row2-host3");
        fs::create_dir_all(host.join("debug"))?;
        fs::create_dir_all(host.join("sysinfo/var/log"))?;
        fs::write(dir.join("keyval"), format!("job_started={}\nlabel=demo\n", now - 600))?;
        fs::write(
            dir.join("status.log"),
            "START\tdummy_Pass\nGOOD\tdummy_Pass\tcompleted successfully\nEND GOOD\n",
        )?;
        let line = "11/20 22:59:01 INFO |  autoserv| the device answered, the test goes on\n";
        fs::write(host.join("debug/autoserv.DEBUG"), line.repeat(kib * 1024 / line.len()))?;
        fs::write(host.join("sysinfo/var/log/messages #1"), "a name with a space and a number sign\n")?;
        std::os::unix::fs::symlink("autoserv.DEBUG", host.join("debug/autoserv.latest"))?;
        if finished {
            fs::write(dir.join(".ready_for_offload"), (now - 60).to_string())?;
        }
    }
    Ok(())
}
