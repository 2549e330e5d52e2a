//! What no type can say: settings that contradict each other, or that would endanger results.

use crate::report::Complaint;
use crate::{Compress, Config, Lane, Layout, containers, hub, mail, notify, queue, routes};
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use url::Url;

/// The kinds of store that this version knows.
const SCHEMES: [&str; 10] = ["file", "memory", "s3", "s3a", "gs", "az", "azure", "http", "https", "rsync"];

/// Everything that is wrong with settings that are each well-formed.
pub fn judge(config: &Config) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    lanes(&config.lanes, &mut complaints);
    store(config, &mut complaints);
    hub::judge(config, &mut complaints);
    mail::judge(&config.mail, &mut complaints);
    routes::judge(&config.routes, &mut complaints);
    notify::judge(&config.notify, &mut complaints);
    let names: Vec<&str> = config.lanes.iter().map(|lane| lane.name.as_str()).collect();
    queue::judge(&config.queues, &names, &mut complaints);
    containers::judge(&config.containers, &mut complaints);
    if config.drone.name.is_empty() || config.drone.name.chars().any(char::is_control) {
        complaints.push(Complaint::key("drone.name", "is empty or not printable", "name the machine"));
    }
    if config.log.keep == 0 {
        complaints.push(Complaint::key("log.keep", "is zero", "14 is usual"));
    }
    if config.results.rescan.is_zero() {
        complaints.push(Complaint::key("results.rescan", "is zero", "write for example \"5s\""));
    }
    if config.disk.low >= config.disk.high {
        complaints.push(Complaint::key("disk.low", "is not below `disk.high`", "lower it"));
    }
    for (key, time) in [
        ("supervision.hang_after", config.supervision.hang_after),
        ("supervision.window", config.supervision.window),
        ("store.stall", config.store.stall),
    ] {
        if time.is_zero() {
            complaints.push(Complaint::key(key, "is zero", "write for example \"60s\""));
        }
    }
    let results = absolute(&config.results.dir);
    if results == Path::new("/") {
        complaints.push(Complaint::key("results.dir", "is `/`", "name the directory that holds the jobs"));
    }
    let state = absolute(&config.drone.state_dir);
    let apart = "keep them apart, or the one would be offloaded or deleted with the other";
    if results.starts_with(&state) || state.starts_with(&results) {
        complaints.push(Complaint::key("drone.state_dir", "and `results.dir` lie in one another", apart));
    }
    if let Some(target) = config.store.directory().map(|path| absolute(&path))
        && (results.starts_with(&target) || target.starts_with(&results))
    {
        complaints.push(Complaint::key("store.url", "and `results.dir` lie in one another", apart));
    }
    complaints
}

fn lanes(lanes: &[Lane], complaints: &mut Vec<Complaint>) {
    let (mut names, mut patterns) = (HashSet::new(), HashSet::new());
    if lanes.is_empty() {
        complaints.push(Complaint::general("there is no `[[lane]]`: nothing would be offloaded".into()));
    }
    for lane in lanes {
        let key = |key: &str| format!("lane.{key} of `{}`", lane.name);
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if lane.name.is_empty() || !lane.name.chars().all(sound) {
            let help = "use letters, digits, `-` and `_`";
            complaints.push(Complaint::key("lane.name", &format!("`{}` is not a name", lane.name), help));
        }
        if !names.insert(&lane.name) {
            complaints.push(Complaint::key(
                "lane.name",
                &format!("`{}` is used twice", lane.name),
                "rename one",
            ));
        }
        if lane.directories.is_empty() {
            complaints.push(Complaint::key(
                &key("directories"),
                "is empty",
                "write for example [\"[0-9]*-*\"]",
            ));
        }
        for pattern in &lane.directories {
            let sound = pattern.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            if !sound || globset::Glob::new(pattern).is_err() {
                let text = format!("has `{pattern}`, which is no pattern below `results.dir`");
                complaints.push(Complaint::key(
                    &key("directories"),
                    &text,
                    "write for example \"hosts/*/[0-9]*-*\"",
                ));
            }
            if !patterns.insert(pattern) {
                let text = format!("has `{pattern}`, which another lane has too");
                complaints.push(Complaint::key(
                    &key("directories"),
                    &text,
                    "a directory belongs to one lane",
                ));
            }
        }
        if lane.workers == 0 || lane.workers > 1024 {
            complaints.push(Complaint::key(
                &key("workers"),
                "is not between 1 and 1024",
                "`pause` stops a lane",
            ));
        }
        if lane.delete_only && lane.honour_instructions {
            let help = "remove one";
            complaints.push(Complaint::key(&key("delete_only"), "makes `honour_instructions` moot", help));
        }
        if lane.timeout.is_zero() {
            complaints.push(Complaint::key(&key("timeout"), "is zero", "write for example \"3h\""));
        }
        if lane.marker.is_empty() || lane.marker.contains('/') {
            complaints.push(Complaint::key(
                &key("marker"),
                "is not a file name",
                "write for example \".done\"",
            ));
        }
    }
}

fn store(config: &Config, complaints: &mut Vec<Complaint>) {
    let store = &config.store;
    let scheme = store.url.split_once(':').map_or("", |(scheme, _)| scheme);
    match (store.layout, store.compress) {
        (Layout::Files, Compress::Zstd) => {
            let help = "write \"gzip\" for single files; packs may be zstd, with `layout = \"packed\"`";
            complaints.push(Complaint::key("store.compress", "is what few browsers unpack", help));
        }
        (Layout::Files, Compress::Gzip) if ["file", "http", "https", "rsync"].contains(&scheme) => {
            let help = "only s3://, gs:// and az:// say that an object is gzip; `layout = \"packed\"` works everywhere";
            complaints.push(Complaint::key(
                "store.compress",
                "would make text unreadable in this store",
                help,
            ));
        }
        _ => {}
    }
    bucket(&store.url, "store.url", complaints);
    if store.connections == 0 || store.connections > 1024 {
        complaints.push(Complaint::key("store.connections", "is not between 1 and 1024", "32 is usual"));
    }
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !store.prefix.is_empty() && !store.prefix.trim_matches('/').split('/').all(sound) {
        complaints.push(Complaint::key(
            "store.prefix",
            "is not a path",
            "write for example \"lab-7/results\"",
        ));
    }
}

/// Is this the address of a store?
pub(crate) fn bucket(url: &str, key: &str, complaints: &mut Vec<Complaint>) {
    let mut complain = |text: &str, help: &str| complaints.push(Complaint::key(key, text, help));
    let example =
        "write for example \"s3://bucket\", \"gs://bucket\", \"az://container\" or \"file:///srv/results\"";
    match Url::parse(url) {
        // A relative directory is no URL to the standard, and what people write.
        _ if url.strip_prefix("file://").is_some_and(|path| !path.is_empty()) => {}
        Err(_) => complain("is not a URL", example),
        Ok(url) if url.scheme() == "rsync" && !is_results_host(&url) => {
            let help = "write for example \"rsync://offloader@dumpster/usr/local/autotest/results\"";
            complain("is no host and directory: names are letters, digits, `.`, `-`, `_` and `/`", help);
        }
        Ok(url) if !SCHEMES.contains(&url.scheme()) => complain("is of an unknown kind", example),
        Ok(url) if (url.scheme() != "rsync" && !url.username().is_empty()) || url.password().is_some() => {
            complain("holds credentials, which would be logged", "put them into `store.options`, by file");
        }
        Ok(url)
            if ["s3", "s3a", "gs", "az", "azure"].contains(&url.scheme())
                && !["", "/"].contains(&url.path()) =>
        {
            complain(
                "holds a path after the bucket",
                "put it into `store.prefix`, or into the `key` of a route",
            );
        }
        Ok(url) if url.scheme() != "memory" && url.host_str().unwrap_or("").is_empty() => {
            complain("names no bucket or server", example);
        }
        Ok(_) => {}
    }
}

/// A host, a user who logs in there, and a directory, none of which means anything else to a shell or to rsync.
fn is_results_host(url: &Url) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let host = url.host_str().unwrap_or_default();
    let sound = !host.is_empty() && plain(host) && !host.starts_with('-');
    sound
        && plain(url.username())
        && !url.username().starts_with('-')
        && url.path().split('/').all(plain)
        && url.path().len() > 1
}

/// The path from the root, links unresolved, with `.` and `..` taken out.
fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut clean = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}
