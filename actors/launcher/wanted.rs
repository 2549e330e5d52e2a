//! What is wanted: which containers, made from what. Pure, and the same for the same settings and images.
//!
//! A share of the names gets the canary image, always the same names: a new image is tried by a few before all have it.

use config::Containers;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The engine's names for the images that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Of the image of all.
    pub main: String,
    /// Of the canary, if there is one and it could be had.
    pub canary: Option<String>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    names: BTreeMap<String, Recipe>,
    max_uptime: Duration,
    /// A container that was told to end has so long.
    pub stop_timeout: Duration,
}

/// What one container is to be made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The engine's name for its image.
    pub image: String,
    /// The hash of the image and of the settings.
    pub spec: String,
}

impl Wanted {
    /// What the settings want of these images.
    pub fn of(settings: &Containers, images: &Images, drone: &str) -> Self {
        let names: Vec<String> = (0..settings.count).map(|number| format!("{number:03}")).collect();
        let canaries = canaries(&names, settings.canary_share);
        let recipe = |name: String| {
            let image = images.canary.as_ref().filter(|_| canaries.contains(&name)).unwrap_or(&images.main);
            let recipe = Recipe { image: image.clone(), spec: spec(settings, image, drone) };
            (name, recipe)
        };
        Wanted {
            names: names.iter().cloned().map(recipe).collect(),
            max_uptime: settings.max_uptime,
            stop_timeout: settings.stop_timeout,
        }
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.names.keys()
    }

    /// What a container of this name is to be made from; `None`: it is not wanted.
    pub fn recipe(&self, name: &str) -> Option<&Recipe> {
        self.names.get(name)
    }

    /// How long this container may run: spread, so that all are not replaced together.
    pub fn uptime(&self, name: &str) -> Option<Duration> {
        let share = f64::from(crc32c::crc32c(name.as_bytes())) / f64::from(u32::MAX);
        (!self.max_uptime.is_zero()).then(|| self.max_uptime.mul_f64(1.0 + share / 10.0))
    }
}

/// The names that get the canary: the share of them, rounded up, in the order of a hash.
fn canaries(names: &[String], share: f64) -> BTreeSet<String> {
    let mut ordered: Vec<&String> = names.iter().collect();
    ordered.sort_by_key(|name| crc32c::crc32c(name.as_bytes()));
    let count = (share * names.len() as f64).ceil() as usize;
    ordered.into_iter().take(count).cloned().collect()
}

fn spec(settings: &Containers, image: &str, drone: &str) -> String {
    let made_of = format!(
        "{image} {drone} {:?} {:?} {:?} {:?} {} {} {}",
        settings.volumes,
        settings.env,
        settings.command,
        settings.devices,
        settings.cpus,
        settings.memory,
        settings.pids
    );
    crate::lab::Digest::of(made_of.as_bytes()).to_string().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_names_gets_the_canary_and_always_the_same() {
        let images = Images { main: "sha256:1".into(), canary: Some("sha256:2".into()) };
        let canaries = |count, canary_share, images: &Images| {
            let settings = Containers { count, canary_share, ..Containers::default() };
            let wanted = Wanted::of(&settings, images, "drone");
            let is_canary = |name: &&String| wanted.recipe(name).unwrap().image == "sha256:2";
            wanted.names().filter(is_canary).cloned().collect::<BTreeSet<String>>()
        };
        for (count, share, expected) in
            [(10, 0.1, 1), (10, 0.25, 3), (10, 0.0, 0), (10, 1.0, 10), (1, 0.1, 1)]
        {
            assert_eq!(canaries(count, share, &images).len(), expected, "{share} of {count}");
        }
        assert!(canaries(10, 0.1, &images).is_subset(&canaries(10, 0.5, &images)));
        assert!(canaries(10, 0.5, &Images { canary: None, ..images }).is_empty());
    }

    #[test]
    fn replacements_are_spread() {
        let images = Images { main: "sha256:1".into(), canary: None };
        let settings = Containers { count: 10, ..Containers::default() };
        let wanted = Wanted::of(&settings, &images, "drone");
        let times: BTreeSet<Duration> = wanted.names().filter_map(|name| wanted.uptime(name)).collect();
        let (first, last) = (times.first().unwrap(), times.last().unwrap());
        assert!(times.len() == 10 && *first >= wanted.max_uptime && *last <= wanted.max_uptime.mul_f64(1.1));
        assert!(*last - *first > wanted.max_uptime / 50);
    }
}
