//! What differs between two configurations of one drone, told as what has to begin anew for it: everything else goes on
//! as it is, with the work that it has in hand.
//!
//! ```text
//! store, routes, deletions per hour, who is notified --> the site, and every lane on it
//! a lane                                             --> that lane
//! a queue                                            --> that queue
//! hub, mail, notify, containers, disk, admin         --> the actor of that name; the console, if it tells of it
//! the drone itself, results, supervision             --> the whole tree
//! ```

use config::{Config, Lane};

/// What begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// What all lanes work on.
    pub site: bool,
    /// The way to the hub.
    pub hub: bool,
    /// Mail.
    pub mail: bool,
    /// Notifications.
    pub notify: bool,
    admin: bool,
    disk: bool,
    containers: bool,
    /// Not all lanes go on, or others come.
    lanes: bool,
    /// Who goes on, of the lanes and of the queues.
    kept_lanes: Vec<String>,
    kept_queues: Vec<String>,
}

/// Which children go on, of each supervisor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of the root's.
    pub root: Vec<String>,
    /// The queues.
    pub postprocess: Vec<String>,
    /// Of what depends on the ledger.
    pub offload: Vec<String>,
    /// The lanes.
    pub lanes: Vec<String>,
}

impl Changes {
    /// What differs; `files`, if what the settings name may have changed under the same name. `None`: the drone is
    /// another one, and its whole tree begins anew.
    pub fn between(old: &Config, new: &Config, files: bool) -> Option<Self> {
        if (&old.drone, &old.results, &old.supervision) != (&new.drone, &new.results, &new.supervision) {
            return None;
        }
        let urls = |config: &Config| config.notify.iter().map(|to| to.url.clone()).collect::<Vec<_>>();
        let site = files
            || (&old.store, &old.routes) != (&new.store, &new.routes)
            || old.limits.deletions_per_hour != new.limits.deletions_per_hour
            || urls(old) != urls(new);
        let goes_on =
            |(at, lane): (usize, &Lane)| (!site && goes_on(old, new, at)).then(|| lane.name.clone());
        let kept_lanes: Vec<String> = new.lanes.iter().enumerate().filter_map(goes_on).collect();
        let kept_queues = new.queues.iter().filter(|queue| old.queues.contains(queue));
        Some(Changes {
            site,
            hub: files
                || old.hub != new.hub
                || old.limits.hub_requests_per_second != new.limits.hub_requests_per_second,
            mail: files || old.mail != new.mail,
            notify: files || old.notify != new.notify,
            admin: old.admin != new.admin,
            disk: old.disk != new.disk,
            containers: files || old.containers != new.containers,
            lanes: [old.lanes.len(), new.lanes.len()] != [kept_lanes.len(); 2],
            kept_lanes,
            kept_queues: kept_queues.map(|queue| queue.name.clone()).collect(),
        })
    }

    /// Does the lane of that name go on?
    pub fn keeps(&self, lane: &str) -> bool {
        self.kept_lanes.iter().any(|name| name == lane)
    }

    /// Is anything different of what the console, the mailer and the heartbeat tell of?
    pub fn desk(&self) -> bool {
        self.site || self.hub || self.mail || self.notify || self.lanes
    }

    /// Who goes on.
    pub fn kept(&self) -> Kept {
        let desk = !self.desk();
        let root = [
            ("console", desk && !self.admin),
            ("disk", !self.disk && !self.lanes),
            ("mailer", desk),
            ("notifier", !self.notify && !self.site),
            ("heartbeat", desk),
            ("launcher", !self.containers),
            ("postprocess", true),
            ("offload", true),
        ];
        let offload = [
            ("ledger", true),
            ("janitor", !self.lanes),
            ("inquirer", !self.hub && !self.site),
            ("lanes", true),
        ];
        let (queues, lanes) = (self.kept_queues.clone(), self.kept_lanes.clone());
        Kept { root: names(&root), postprocess: queues, offload: names(&offload), lanes }
    }
}

fn names(children: &[(&str, bool)]) -> Vec<String> {
    children.iter().filter(|(_, kept)| *kept).map(|(name, _)| (*name).to_owned()).collect()
}

/// Is a lane the same as before, and do the lanes before it leave it the same directories?
fn goes_on(old: &Config, new: &Config, at: usize) -> bool {
    let lane = new.lanes.get(at);
    let before = old.lanes.iter().position(|other| Some(other) == lane);
    let earlier = |config: &Config, at: usize| {
        config.lanes.iter().take(at).flat_map(|lane| lane.directories.clone()).collect::<Vec<_>>()
    };
    before.is_some_and(|before| earlier(old, before) == earlier(new, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Queue;

    fn lane(name: &str) -> Lane {
        Lane { name: name.into(), directories: vec![format!("{name}-*")], ..Lane::default() }
    }

    fn queue(name: &str, workers: usize) -> Queue {
        Queue { name: name.into(), workers, ..Queue::default() }
    }

    fn config() -> Config {
        let (lanes, queues) = (vec![lane("a"), lane("b")], vec![queue("parse", 1), queue("report", 1)]);
        Config { lanes, queues, ..Config::default() }
    }

    /// Who does not go on, after an edit.
    fn renewed(edit: impl Fn(&mut Config)) -> String {
        let (old, mut new) = (config(), config());
        edit(&mut new);
        let kept = Changes::between(&old, &new, false).unwrap().kept();
        let all = [
            (
                vec![
                    "console",
                    "disk",
                    "mailer",
                    "notifier",
                    "heartbeat",
                    "launcher",
                    "postprocess",
                    "offload",
                ],
                kept.root,
            ),
            (vec!["parse", "report"], kept.postprocess),
            (vec!["ledger", "janitor", "inquirer", "lanes"], kept.offload),
            (vec!["a", "b"], kept.lanes),
        ];
        let gone =
            all.iter().flat_map(|(all, kept)| all.iter().filter(|name| !kept.contains(&(**name).into())));
        gone.copied().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_does_not_change_goes_on() {
        assert_eq!(renewed(|_| {}), "");
        assert_eq!(renewed(|new| new.shutdown.deadline *= 2), "");
        assert_eq!(renewed(|new| new.disk.pressure_workers += 1), "disk");
        assert_eq!(renewed(|new| new.admin.socket = "other".into()), "console");
        assert_eq!(renewed(|new| new.containers.pids = 9), "launcher");
        assert_eq!(renewed(|new| new.mail.smtp = "smtp://a".into()), "console mailer heartbeat");
        assert_eq!(renewed(|new| new.hub.url = vec!["http://a".into()]), "console mailer heartbeat inquirer");
        assert_eq!(renewed(|new| new.queues[1].workers += 1), "report");
        assert_eq!(renewed(|new| new.lanes[0].workers += 1), "console disk mailer heartbeat janitor a");
        assert_eq!(
            renewed(|new| new.store.prefix = "p".into()),
            "console disk mailer notifier heartbeat janitor inquirer a b"
        );
    }

    #[test]
    fn a_lane_goes_on_only_if_it_leaves_the_same_to_the_others() {
        assert_eq!(renewed(|new| new.lanes.push(lane("c"))), "console disk mailer heartbeat janitor");
        assert_eq!(renewed(|new| drop(new.lanes.pop())), "console disk mailer heartbeat janitor b");
        assert_eq!(renewed(|new| drop(new.lanes.remove(0))), "console disk mailer heartbeat janitor a b");
        assert_eq!(renewed(|new| new.lanes.swap(0, 1)), "console disk mailer heartbeat janitor a b");
        let more = |new: &mut Config| new.lanes[0].directories.push("more-*".into());
        assert_eq!(renewed(more), "console disk mailer heartbeat janitor a b");
    }

    #[test]
    fn another_drone_is_another_tree() {
        let (old, mut new) = (config(), config());
        new.drone.name = "other".into();
        assert_eq!(Changes::between(&old, &new, false), None);
        new = config();
        new.results.rescan *= 2;
        assert_eq!(Changes::between(&old, &new, false), None);
        // The same text may name files of other content.
        let files = Changes::between(&old, &old, true).unwrap();
        assert!(files.site && files.hub && !files.kept().root.contains(&"launcher".into()));
        assert_eq!(files.kept().postprocess, ["parse", "report"]);
    }
}
