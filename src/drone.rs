//! The drone's supervision tree, as data: the file to read first.
//!
//! ```text
//! root                  one_for_one    rests a branch that gives up, instead of ending
//! |- console            worker         the control socket and the admin address
//! |- disk               worker         more workers while the disk is full
//! |- mailer             worker         tells on-call of trouble, if there is a mail server
//! |- heartbeat          worker         fetches jobs from the hub, reports finished ones, if there is a hub
//! |- launcher           worker         keeps the test containers running, if any are wanted
//! |- notifier           worker         tells other programs of offloaded jobs, if there are any
//! |- postprocess        one_for_one    a worker for each queue
//! `- offload            rest_for_one   escalates
//!    |- ledger          worker         if it dies, all below reopen
//!    |- janitor         worker         ends what crashes left behind
//!    |- inquirer        worker         asks the hub which jobs have finished, if there is a hub
//!    `- lanes           one_for_one
//!       `- <lane>       one_for_one    pruner, verifier, uploaders (a pool), planner, completion, scanner
//! ```
//!
//! Downstream starts before upstream, so that a stop closes the source first and what is under way flows out.

use crate::house::House;
use crate::house::changes::Kept;
use actors::completion::Completion;
use actors::console::Console;
use actors::disk::DiskWatch;
use actors::heartbeat::Heartbeat;
use actors::inquirer::Inquirer;
use actors::janitor::Janitor;
use actors::lane::Lane;
use actors::launcher::Launcher;
use actors::ledger::Ledger;
use actors::mailer::Mailer;
use actors::notifier::Notifier;
use actors::planner::Planner;
use actors::pruner::Pruner;
use actors::queue::Queue;
use actors::scanner::Scanner;
use actors::tree::Patterns;
use actors::uploader::Uploader;
use actors::verifier::Verifier;
use kernel::{ChildRef, ChildSpec, PoolRef, Renew};
use std::sync::Arc;

/// The whole tree of one drone.
pub fn tree(house: &Arc<House>) -> ChildSpec {
    let (policy, built) = (house.levels().root, house.clone());
    ChildSpec::supervisor_at("root", &house.ground.doors.root, policy, move || above(&built))
}

/// Puts the groups of a house in the place of those of the house before; who is kept goes on. Says who does not.
/// Nobody is waited for: what a queue runs may take long to end. `None`: a supervisor is told too often to follow, and
/// only another tree is what the house describes.
pub fn renew(house: &Arc<House>, kept: Kept) -> Option<Vec<String>> {
    let doors = &house.ground.doors;
    let groups = [
        (&doors.root, above(house), kept.root),
        (&doors.postprocess, queues(house), kept.postprocess),
        (&doors.offload, offload(house), kept.offload),
        (&doors.lanes, lanes(house), kept.lanes),
    ];
    let mut begun = Vec::new();
    for (door, children, keep) in groups {
        let new = children.iter().map(ChildSpec::id).filter(|id| !keep.iter().any(|kept| kept == id));
        begun.extend(new.map(str::to_owned));
        // A supervisor that is down now begins with its new group when it comes up.
        if door.tell(Renew { children, keep }).is_err() && !door.is_vacant() {
            return None;
        }
    }
    Some(begun)
}

fn above(house: &Arc<House>) -> Vec<ChildSpec> {
    let (levels, doors, built) = (house.levels(), &house.ground.doors, house.clone());
    let queues =
        ChildSpec::supervisor_at("postprocess", &doors.postprocess, levels.lanes, move || queues(&built));
    let built = house.clone();
    let offload =
        ChildSpec::supervisor_at("offload", &doors.offload, levels.offload, move || offload(&built));
    let optional = [mailer(house), notifier(house), heartbeat(house), launcher(house)];
    [console(house), disk(house)]
        .into_iter()
        .chain(optional.into_iter().flatten())
        .chain([house.branch(queues), house.branch(offload)])
        .collect()
}

fn offload(house: &Arc<House>) -> Vec<ChildSpec> {
    let (policy, built) = (house.levels().lanes, house.clone());
    let lanes = ChildSpec::supervisor_at("lanes", &house.ground.doors.lanes, policy, move || lanes(&built));
    let children = [Some(ledger(house)), Some(janitor(house)), inquirer(house), Some(house.branch(lanes))];
    children.into_iter().flatten().collect()
}

/// The ledger alone: all that a one-shot offload needs of the tree.
pub fn ledger(house: &Arc<House>) -> ChildSpec {
    let (path, boot) = (house.ledger_path(), house.ground.boot);
    let make = move |_| Ledger::new(path.clone(), boot);
    house.worker(ChildSpec::worker("ledger", &house.site.ledger, make))
}

fn janitor(house: &Arc<House>) -> ChildSpec {
    let lanes = house.lanes.clone();
    house.worker(ChildSpec::worker("janitor", &ChildRef::vacant(), move |_| Janitor::new(lanes.clone())))
}

fn inquirer(house: &Arc<House>) -> Option<ChildSpec> {
    let (site, hub) = (house.site.clone(), house.hub.clone()?);
    let make = move |_| Inquirer::new(site.clone(), hub.clone());
    Some(house.worker(ChildSpec::worker("inquirer", &ChildRef::vacant(), make)))
}

fn console(house: &Arc<House>) -> ChildSpec {
    let built = house.clone();
    let make = move |verdict| Console::new(built.places(), built.desk.clone(), verdict);
    house.worker(ChildSpec::worker("console", &ChildRef::vacant(), make))
}

fn disk(house: &Arc<House>) -> ChildSpec {
    let (lanes, settings) = (house.lanes.clone(), house.config.disk.clone());
    let make = move |_| DiskWatch::new(lanes.clone(), settings.clone());
    house.worker(ChildSpec::worker("disk", &ChildRef::vacant(), make))
}

fn mailer(house: &Arc<House>) -> Option<ChildSpec> {
    let (desk, config) = (house.desk.clone(), house.config.clone());
    let health = desk.mail.clone()?;
    let rescan = config.results.rescan;
    let make = move |_| Mailer::new(desk.clone(), health.clone(), config.mail.clone(), rescan);
    Some(house.worker(ChildSpec::worker("mailer", &ChildRef::vacant(), make)))
}

fn heartbeat(house: &Arc<House>) -> Option<ChildSpec> {
    let (desk, link) = (house.desk.clone(), house.hub.clone()?);
    let settings = desk.hub.clone()?;
    let make = move |_| Heartbeat::new(desk.clone(), link.clone(), settings.clone());
    // A beat may take as long as the hub's timeout; the actor waits for it without blocking.
    Some(house.worker(ChildSpec::worker("heartbeat", &ChildRef::vacant(), make)))
}

fn launcher(house: &Arc<House>) -> Option<ChildSpec> {
    let (site, settings) = (house.site.clone(), house.config.containers.clone());
    let state_dir = house.state_dir().to_owned();
    let make = move |_| Launcher::new(site.clone(), settings.clone(), &state_dir);
    let spec = ChildSpec::worker("launcher", &ChildRef::vacant(), make);
    (!house.config.containers.image.is_empty()).then(|| house.worker(spec))
}

fn notifier(house: &Arc<House>) -> Option<ChildSpec> {
    let (site, sinks, outlet) = (house.site.clone(), house.sinks.clone(), house.desk.notify.clone()?);
    let make = move |_| Notifier::new(site.clone(), sinks.clone(), outlet.clone());
    Some(house.worker(ChildSpec::worker("notifier", &ChildRef::vacant(), make)))
}

fn queues(house: &Arc<House>) -> Vec<ChildSpec> {
    let yard = house.yard();
    let queue = |settings: &config::Queue| {
        let (yard, own) = (yard.clone(), settings.clone());
        let make = move |_| Queue::new(yard.clone(), own.clone());
        let spec = ChildSpec::worker(settings.name.clone(), &ChildRef::vacant(), make);
        // What runs may end within the time that a stop has.
        house.worker(spec).stop_within(house.config.shutdown.deadline)
    };
    house.config.queues.iter().map(queue).collect()
}

fn lanes(house: &Arc<House>) -> Vec<ChildSpec> {
    (0..house.lanes.len()).filter_map(|index| lane(house, index)).collect()
}

/// One lane: six stages, each holding the stable address of the next.
fn lane(house: &Arc<House>, index: usize) -> Option<ChildSpec> {
    let lane = house.lanes.get(index)?.clone();
    let (name, built) = (lane.settings.name.clone(), house.clone());
    let policy = house.levels().lane;
    Some(house.branch(ChildSpec::supervisor(name, policy, move || stages(&built, &lane, index))))
}

fn stages(house: &Arc<House>, lane: &Arc<Lane>, index: usize) -> Vec<ChildSpec> {
    let pruner = ChildRef::<Pruner>::vacant();
    let verifier = ChildRef::<Verifier>::vacant();
    let uploaders = PoolRef::<Uploader>::vacant();
    let planner = ChildRef::<Planner>::vacant();
    let completion = ChildRef::<Completion>::vacant();
    let workers = lane.seats.most();
    let (pool, treat) = (house.levels().pool, {
        let house = house.clone();
        move |spec| house.worker(spec)
    });
    let patterns: Vec<Patterns> = house.patterns.iter().take(index + 1).cloned().collect();

    let prune = {
        let lane = lane.clone();
        move |_| Pruner::new(lane.clone())
    };
    let verify = {
        let (lane, next) = (lane.clone(), pruner.next());
        move |_| Verifier::new(lane.clone(), next.clone())
    };
    let upload = {
        let (lane, next) = (lane.clone(), verifier.next());
        move |_, _| Uploader::new(lane.clone(), next.clone())
    };
    let plan = {
        let (lane, next) = (lane.clone(), uploaders.next());
        move |_| Planner::new(lane.clone(), next.clone())
    };
    let complete = {
        // A lane that is told to store nothing has nothing to plan.
        let next = if lane.settings.delete_only { pruner.next() } else { planner.next() };
        let lane = lane.clone();
        move |_| Completion::new(lane.clone(), next.clone())
    };
    let scan = {
        let (lane, next, rescan) = (lane.clone(), completion.next(), house.config.results.rescan);
        move |_| {
            let mut patterns = patterns.clone();
            let own = patterns.pop().unwrap_or_default();
            Scanner::new(lane.clone(), own, patterns, rescan, next.clone())
        }
    };
    vec![
        house.worker(ChildSpec::worker("pruner", &pruner, prune)),
        house.worker(ChildSpec::worker("verifier", &verifier, verify)),
        house.branch(ChildSpec::pool("uploaders", &uploaders, pool, workers, treat, upload)),
        house.worker(ChildSpec::worker("planner", &planner, plan)),
        house.worker(ChildSpec::worker("completion", &completion, complete)),
        house.worker(ChildSpec::worker("scanner", &ChildRef::vacant(), scan)),
    ]
}
