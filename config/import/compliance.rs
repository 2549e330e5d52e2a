//! The side uploads of compliance results, and the notifications: which routes and listeners they become.

use super::address;
use super::ini::Entry;
use toml::{Table, Value};

/// Where the old offloader looked for results (reference A6.1), and for their archives (A6.3).
const RESULTS: [&str; 2] =
    ["*/cheets_CTS.*/results/*/*/testResult.xml", "*/cheets_{CTS_*,GTS*}/results/*/*/test_result.xml"];
const ARCHIVES: [&str; 1] = ["*/cheets_{CTS.*,CTS_*,GTS*}/results/*/*.zip"];
/// What counts as a result (reference A6.2).
const BUILDS: [&str; 2] = ["*-release/*", "!trybot-*"];
const SUITES: [&str; 4] = ["arc-cts*", "arc-gts*", "bvt-arc*", "test_that_wrapper*"];
/// What had no archive to send (reference A6.3).
const NO_ARCHIVE: &str = "!*tradefed-run-collect-tests-only*";

/// The keys of `[CROS]` that name a server, and the paths whose results went there (reference A6.5).
pub(super) const SERVERS: [(&str, &[&str]); 5] = [
    ("cts_results_server", &["!*bvt-arc*"]),
    ("cts_apfe_server", &["!*bvt-arc*"]),
    ("ctsbvt_apfe_server", &["*bvt-arc*"]),
    ("ctsdelta_results_server", &["*plan_follower*", "!*bvt-arc*"]),
    ("ctsdelta_apfe_server", &["*plan_follower*", "!*bvt-arc*"]),
];

/// The routes to one server; `None` if it is no bucket's address.
pub(super) fn routes(entry: &Entry, paths: &[&str]) -> Option<Vec<Table>> {
    let (url, prefix) = address::bucket(entry.text())?;
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    if prefix.contains(['{', '}']) {
        return None;
    }
    let archives = entry.key.ends_with("_apfe_server");
    let (patterns, key) = match archives {
        true => (&ARCHIVES[..], "{build}/{parent_job_id}/{package}/{job_id}_{timestamp}/{file}"),
        false => (&RESULTS[..], "{package}/{job_id}_{timestamp}/{file}.gz"),
    };
    let route = |pattern: &&str| {
        let mut when = Table::new();
        when.insert("build".into(), list(&BUILDS));
        when.insert("suite".into(), list(&SUITES));
        when.insert("path".into(), list(paths));
        let mut route = Table::new();
        route.insert("match".into(), (*pattern).into());
        route.insert("url".into(), url.as_str().into());
        route.insert("key".into(), format!("{prefix}{key}").into());
        if archives {
            when.insert("package".into(), NO_ARCHIVE.into());
        } else {
            route.insert("compress".into(), "gzip".into());
        }
        route.insert("when".into(), when.into());
        route
    };
    Some(patterns.iter().map(route).collect())
}

/// The listener of a Pub/Sub topic; `None` if it is no topic's name.
pub(super) fn listener(topic: &Entry) -> Option<Table> {
    let parts: Vec<&str> = topic.text().split('/').collect();
    let ["projects", project, "topics", name] = parts[..] else { return None };
    if ![project, name].iter().all(|part| address::is_host(part)) {
        return None;
    }
    let mut listener = Table::new();
    let url = format!("https://pubsub.googleapis.com/v1/projects/{project}/topics/{name}:publish");
    listener.insert("url".into(), url.into());
    listener.insert("kind".into(), "pubsub".into());
    // Where Moblab has it (reference A6.7).
    listener.insert("account_file".into(), "/home/moblab/.service_account.json".into());
    Some(listener)
}

fn list(texts: &[&str]) -> Value {
    texts.iter().map(|text| Value::from(*text)).collect::<Vec<_>>().into()
}
