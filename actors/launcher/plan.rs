//! What is to be done, from what is wanted and what is seen: pure, and the same for the same facts.

use super::graceful::Told;
use super::standing::Standing;
use super::wanted::Wanted;
use config::Containers;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// How a container is, as the engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Created,
    Running,
    Paused,
    Exited,
    Dead,
    /// Being started or removed: the engine is at it.
    Between,
}

/// One container of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The engine's name for it.
    pub id: String,
    /// Ours: `000`.
    pub name: String,
    /// How it is.
    pub state: State,
    /// When it was made.
    pub created: SystemTime,
    /// The hash of what it was made from.
    pub spec: String,
}

/// Who does not want containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// The whole host, and why.
    pub host: Option<String>,
    /// Single containers, and why.
    pub names: BTreeMap<String, String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// Make it and start it.
    Create {
        name: String,
    },
    /// It was made and never started.
    Start {
        id: String,
        name: String,
    },
    Unpause {
        id: String,
        name: String,
    },
    /// It does not run.
    Remove {
        id: String,
        name: String,
        why: String,
    },
    /// Tell the process inside to end when its test has.
    Tell {
        id: String,
        name: String,
        why: String,
    },
    /// It was told, and had its time.
    Stop {
        id: String,
        name: String,
        why: String,
    },
}

impl Action {
    /// Of which container.
    pub fn name(&self) -> &str {
        match self {
            Action::Create { name }
            | Action::Start { name, .. }
            | Action::Unpause { name, .. }
            | Action::Remove { name, .. }
            | Action::Tell { name, .. }
            | Action::Stop { name, .. } => name,
        }
    }

    /// The engine's name for it; empty for one that is not there yet.
    pub fn id(&self) -> &str {
        match self {
            Action::Create { .. } => "",
            Action::Start { id, .. }
            | Action::Unpause { id, .. }
            | Action::Remove { id, .. }
            | Action::Tell { id, .. }
            | Action::Stop { id, .. } => id,
        }
    }

    /// What it is called.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Create { .. } => "creating",
            Action::Start { .. } => "starting",
            Action::Unpause { .. } => "resuming",
            Action::Remove { .. } => "removing",
            Action::Tell { .. } => "telling to end",
            Action::Stop { .. } => "stopping",
        }
    }
}

/// Made, and not started within so long: stuck (moby#8294).
const STUCK: Duration = Duration::from_secs(60);

impl Stops {
    /// Looks at the files, and at what people said.
    pub fn look(settings: &Containers, said: &Standing, reboot: Option<String>) -> Self {
        let file = |path: &std::path::Path| path.symlink_metadata().is_ok();
        let there = |path: &std::path::Path| file(path).then(|| format!("{} is there", path.display()));
        let host = there(&settings.stop_file).or(reboot).or_else(|| said.drained(None));
        let names = (0..settings.count).filter_map(|number| {
            let name = format!("{number:03}");
            let path = settings.container_stop_file.replace("{name}", &name);
            let why = there(path.as_ref()).or_else(|| said.drained(Some(&name)))?;
            Some((name, why))
        });
        Stops { host, names: names.collect() }
    }

    fn why(&self, name: &str) -> Option<&str> {
        self.host.as_deref().or_else(|| self.names.get(name).map(String::as_str))
    }

    /// For people.
    pub fn words(&self) -> Option<String> {
        self.host.clone()
    }
}

/// What is to be done now.
pub fn plan(wanted: &Wanted, seen: &[Seen], stops: &Stops, told: &Told, now: SystemTime) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut taken = BTreeSet::new();
    for container in seen {
        let (id, name) = (container.id.clone(), container.name.clone());
        taken.insert(name.clone());
        let age = now.duration_since(container.created).unwrap_or_default();
        match container.state {
            State::Exited | State::Dead => {
                let why = if container.state == State::Dead { "dead" } else { "it ended" };
                actions.push(Action::Remove { id, name, why: why.into() });
            }
            State::Created if age > STUCK => {
                actions.push(Action::Remove { id, name, why: "it was made, and never started".into() });
            }
            State::Created if stops.why(&name).is_some() => {
                actions.push(Action::Remove { id, name, why: "it is not wanted now".into() });
            }
            State::Created => actions.push(Action::Start { id, name }),
            State::Paused => actions.push(Action::Unpause { id, name }),
            State::Running => {
                let Some(why) = reason(wanted, container, stops, age) else { continue };
                match told.since(&id) {
                    None => actions.push(Action::Tell { id, name, why }),
                    Some((since, heard)) => {
                        // Who could not be told has twice the time (reference E13).
                        let time = if heard { wanted.stop_timeout } else { wanted.stop_timeout * 2 };
                        if now.duration_since(since).unwrap_or_default() >= time {
                            actions.push(Action::Stop { id, name, why });
                        } else if !heard {
                            actions.push(Action::Tell { id, name, why });
                        }
                    }
                }
            }
            State::Between => {}
        }
    }
    let missing = wanted.names().filter(|name| !taken.contains(*name) && stops.why(name).is_none());
    actions.extend(missing.map(|name| Action::Create { name: name.clone() }));
    actions
}

/// Why a running container is to end, if it is.
fn reason(wanted: &Wanted, container: &Seen, stops: &Stops, age: Duration) -> Option<String> {
    if let Some(why) = stops.why(&container.name) {
        return Some(why.to_owned());
    }
    let Some(recipe) = wanted.recipe(&container.name) else {
        return Some("fewer containers are wanted".into());
    };
    if container.spec != recipe.spec {
        return Some("its image or its settings are not those of now".into());
    }
    let most = wanted.uptime(&container.name)?;
    (age > most).then(|| format!("it has run for {} h", age.as_secs() / 3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::wanted::Images;

    fn wanted(count: u32) -> Wanted {
        let settings = Containers { count, ..Containers::default() };
        let images = Images { main: "sha256:1".into(), canary: None };
        Wanted::of(&settings, &images, "drone")
    }

    fn spec_of(wanted: &Wanted) -> String {
        wanted.recipe("000").unwrap().spec.clone()
    }

    fn seen(name: &str, state: State, age: u64, spec: &str) -> Seen {
        let created = now() - Duration::from_secs(age);
        Seen { id: format!("id-{name}"), name: name.into(), state, created, spec: spec.into() }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn actions(wanted: &Wanted, seen: &[Seen], stops: &Stops, told: &Told) -> Vec<String> {
        plan(wanted, seen, stops, told, now())
            .iter()
            .map(|action| format!("{} {}", action.verb(), action.name()))
            .collect()
    }

    #[test]
    fn what_is_missing_is_made_and_what_runs_is_left_alone() {
        let wanted = wanted(3);
        let here = [seen("001", State::Running, 60, &spec_of(&wanted))];
        let (stops, told) = (Stops::default(), Told::default());
        assert_eq!(actions(&wanted, &here, &stops, &told), ["creating 000", "creating 002"]);
    }

    #[test]
    fn each_state_has_its_cure() {
        let wanted = wanted(5);
        let spec = spec_of(&wanted);
        let here = [
            seen("000", State::Exited, 5, &spec),
            seen("001", State::Paused, 5, &spec),
            seen("002", State::Created, 5, &spec),
            seen("003", State::Created, 500, &spec),
            seen("004", State::Between, 5, &spec),
        ];
        let expected = ["removing 000", "resuming 001", "starting 002", "removing 003"];
        assert_eq!(actions(&wanted, &here, &Stops::default(), &Told::default()), expected);
    }

    #[test]
    fn old_and_outdated_ones_are_told_once_and_stopped_late() {
        let wanted = wanted(3);
        let (spec, old) = (spec_of(&wanted), 5 * 3600);
        let here = [
            seen("000", State::Running, old, &spec),
            seen("001", State::Running, 5, "other"),
            seen("002", State::Running, 3600, &spec),
        ];
        let (stops, mut told) = (Stops::default(), Told::default());
        assert_eq!(actions(&wanted, &here, &stops, &told), ["telling to end 000", "telling to end 001"]);
        told.set("id-000", now() - Duration::from_secs(60), true);
        told.set("id-001", now() - Duration::from_secs(60), false);
        // Who heard is watched; who could not be told is looked for again.
        assert_eq!(actions(&wanted, &here, &stops, &told), ["telling to end 001"]);
        told.set("id-000", now() - Duration::from_secs(4 * 3600), true);
        told.set("id-001", now() - Duration::from_secs(4 * 3600), false);
        assert_eq!(actions(&wanted, &here, &stops, &told), ["stopping 000", "telling to end 001"]);
        told.set("id-001", now() - Duration::from_secs(8 * 3600), false);
        assert_eq!(actions(&wanted, &here, &stops, &told), ["stopping 000", "stopping 001"]);
    }

    #[test]
    fn a_drained_host_gets_nothing_new_and_a_drained_container_no_successor() {
        let wanted = wanted(2);
        let here = [seen("000", State::Running, 5, &spec_of(&wanted))];
        let drained = Stops { host: Some("drained".into()), ..Stops::default() };
        assert_eq!(actions(&wanted, &here, &drained, &Told::default()), ["telling to end 000"]);
        assert!(actions(&wanted, &[], &drained, &Told::default()).is_empty());
        let one = Stops { names: [("001".to_owned(), "x".to_owned())].into(), ..Stops::default() };
        assert!(actions(&wanted, &here, &one, &Told::default()).is_empty());
    }
}
