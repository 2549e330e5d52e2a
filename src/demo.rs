//! A lab in one process: a hub that orders jobs, a drone that fetches, runs and offloads them, a store in a
//! directory; through the real code path.

use crate::cli::args::Args;
use crate::drone;
use crate::house::House;
use crate::hub;
use crate::life;
use crate::logging::{self, Manner};
use crate::say;
use crate::status::Status;
use actors::hub::door::House as Central;
use actors::hub::methods;
use actors::hub::tokens::Caller;
use actors::progress::Silent;
use actors::tree::{Patterns, Sweep};
use config::{Completion, Config, HubConfig, Lane, LogFormat};
use kernel::Tree;
use serde_json::json;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// So many jobs the hub orders.
const ORDERED: usize = 3;
/// With `--once`, everything is offloaded within this time or the demo has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the demo.
pub fn demo(once: bool, args: &Args) -> Status {
    let level = if args.quiet > 0 { "warn" } else { "info" };
    let log = logging::begin(Manner { format: LogFormat::Text, level, is_fixed: true, color: false }, None);
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
    let prepared = made.map_err(|error| error.to_string()).and_then(|()| prepare(&place));
    let (config, central) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            say::error(format_args!("cannot prepare {}: {error}", place.display()));
            return Status::Failed;
        }
    };
    let house = match House::open(&config, &config.results.dir, Arc::new(Silent)) {
        Ok(house) => house,
        Err(error) => return life::refused(&error),
    };
    say::line(format_args!("The lab is in {}:", place.display()));
    say::line("  results/    what the tests left; finished jobs leave it once they are proven safe");
    say::line("  offloaded/  the store: browse it; each job has a .dronekeeper/manifest.json, written last");
    say::line("  state/      the ledger, the roster of the hub's jobs, the control socket, deletions.log");
    say::line("  hub-state/  what the hub knows");
    say::line(format_args!("  http://{}/                the hub's fleet page", central.settings.listen));
    say::line(format_args!("  http://{}/                the drone's status page\n", config.admin.listen));
    actix_rt::System::new().block_on(live(&house, &central, once))
}

/// A drone, and a hub that knows it and has work for it.
fn prepare(place: &Path) -> Result<(Config, Arc<Central>), String> {
    let failed = |error: &dyn std::error::Error| actors::shown::chain(error);
    let mut config = settings(place).map_err(|error| failed(&error))?;
    let listen = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| failed(&error))?;
    let settings =
        config::Central { listen, state_dir: place.join("hub-state"), ..config::Central::default() };
    let central = Arc::new(Central::open(&settings)?);
    let order = |method: &str, arguments: serde_json::Value| {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let done = central.base.with(|tx| methods::call(tx, &Caller::Admin, method, &arguments));
        done.map_err(|refusal| refusal.to_string())
    };
    let shard = order("add_shard", json!({ "hostname": config.drone.name, "labels": ["board:eve"] }))?;
    order("add_host", json!({ "hostname": "chromeos1-row2-host3", "labels": ["board:eve"] }))?;
    let keyvals = json!({ "suite": "demo" });
    let jobs = json!({ "name": "dummy_Pass", "owner": "debug", "meta_hosts": ["board:eve"], "keyvals": keyvals, "count": ORDERED });
    order("create_jobs", jobs)?;
    config.hub.url = vec![format!("http://{listen}/afe/server/noauth/rpc/")];
    config.hub.heartbeat = Duration::from_millis(500);
    config.hub.token = shard.get("token").and_then(serde_json::Value::as_str).map(config::Secret::new);
    Ok((config, central))
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
    // What the hub ordered is finished when the program that ran it says so.
    let ordered = Lane {
        name: "ordered".into(),
        directories: vec!["[0-9]*-debug".into()],
        completion: Completion::Hub,
        settle: Duration::from_millis(200),
        ..Lane::default()
    };
    config.lanes.insert(0, ordered);
    Ok(config)
}

async fn live(house: &Arc<House>, central: &Arc<Central>, once: bool) -> Status {
    let hub = Tree::start(&hub::tree(central, &HubConfig::default()), 8);
    let (Ok(hub), Ok(tree)) = (hub, Tree::start(&drone::tree(house), 8)) else { return Status::GaveUp };
    let _ = house.desk.census.set(tree.census().clone());
    let begun = Instant::now();
    let mut said = false;
    let status = loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break if is_done(house, central) { Status::Ok } else { Status::Failed },
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        run_jobs(house);
        let done = is_done(house, central);
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
    hub.stop(Duration::from_secs(5)).await;
    status
}

/// The program that runs the jobs on a drone: takes each that is queued, leaves results, says that it is complete.
fn run_jobs(house: &House) {
    let roster = &house.site.roster;
    for job in roster.jobs(Some("queued")).unwrap_or_default() {
        let dir = house.site.root.path().join(&job.dir);
        let ran = roster.start(job.id, None).map_err(|error| error.to_string()).and_then(|_| {
            sample_job(&dir, 40).map_err(|error| error.to_string())?;
            let done = roster.complete(job.id, "Completed", Some("chromeos1-row2-host3"));
            done.map_err(|error| error.to_string())
        });
        match ran {
            Ok(_) => house.site.inquiries.completed_here(&job.dir, SystemTime::now()),
            Err(error) => say::error(format_args!("job {}: {error}", job.id)),
        }
    }
}

/// Has everything that is finished left the disk, and does the hub know of all that it ordered?
fn is_done(house: &House, central: &Central) -> bool {
    let finished = central.base.with(|tx| {
        let arguments = json!({ "finished": true }).as_object().cloned().unwrap_or_default();
        methods::call(tx, &Caller::Admin, "get_jobs", &arguments)
    });
    let reported = finished.is_ok_and(|jobs| jobs.as_array().is_some_and(|jobs| jobs.len() == ORDERED));
    reported && left(house) == 0
}

/// The finished jobs that are still on the disk. One job of the demo is not finished, and stays.
fn left(house: &House) -> usize {
    let root = &house.site.root;
    let sweep = |patterns: &Patterns| {
        Sweep::new(patterns.clone()).round(root, Instant::now(), SystemTime::now()).unwrap_or_default().seen
    };
    let found: Vec<actors::tree::Found> = house.patterns.iter().flat_map(sweep).collect();
    let finished = |job: &actors::tree::Found| {
        let marked =
            root.job(&job.path).is_ok_and(|dir| !matches!(dir.marker(b".ready_for_offload"), Ok(None)));
        marked || job.path.name().ends_with(b"-debug")
    };
    found.iter().filter(|job| finished(job)).count()
}

fn summary(house: &House, time: Duration) {
    say::line(format_args!(
        "\nAll finished jobs are reported, offloaded, verified and pruned after {:.1} s;",
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
        sample_job(&results.join(job), kib)?;
        if finished {
            fs::write(results.join(job).join(".ready_for_offload"), (now - 60).to_string())?;
        }
    }
    Ok(())
}

/// What a test leaves.
fn sample_job(dir: &Path, kib: usize) -> io::Result<()> {
    let host = dir.join("chromeos1-row2-host3");
    fs::create_dir_all(host.join("debug"))?;
    fs::create_dir_all(host.join("sysinfo/var/log"))?;
    fs::write(dir.join("keyval"), "suite=demo\nlabel=demo\n")?;
    let status = "START\tdummy_Pass\nGOOD\tdummy_Pass\tcompleted successfully\nEND GOOD\n";
    fs::write(dir.join("status.log"), status)?;
    let line = "11/20 22:59:01 INFO |  autoserv| the device answered, the test goes on\n";
    fs::write(host.join("debug/autoserv.DEBUG"), line.repeat(kib * 1024 / line.len()))?;
    fs::write(host.join("sysinfo/var/log/messages #1"), "a name with a space and a number sign\n")?;
    std::os::unix::fs::symlink("autoserv.DEBUG", host.join("debug/autoserv.latest"))
}
