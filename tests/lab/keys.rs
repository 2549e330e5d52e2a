//! Every key of the configuration comes into force while the process runs and uploads, or is said to need more.

use crate::bench::{Bench, certificate, hashes};
use crate::reload::{reload, tell, told};
use config::Config;
use stage::{Flavour, Server};
use std::collections::BTreeMap;
use std::fs;

/// What `status --json` shows of a key.
type Effect = fn(&serde_json::Value) -> bool;

/// Section, key, and another value than the one before.
const EDITS: [(&str, &str, &str); 115] = [
    ("drone", "name", "\"other\""),
    ("drone", "mode", "\"shadow\""),
    ("drone", "queue_database", "\"other.sqlite\""),
    ("drone", "queue_database_file", "{secret}"),
    ("log", "level", "\"debug\""),
    ("log", "format", "\"json\""),
    ("log", "file", "\"{dir}/moved.log\""),
    ("log", "rotate", "\"hourly\""),
    ("log", "keep", "3"),
    ("admin", "listen", "\"127.0.0.2:0\""),
    ("admin", "token", "\"secret\""),
    ("admin", "token_file", "{secret}"),
    ("supervision", "max_restarts", "7"),
    ("supervision", "window", "\"90s\""),
    ("supervision", "backoff", "\"50ms..10s\""),
    ("supervision", "hang_after", "\"90s\""),
    ("results", "rescan", "\"150ms\""),
    ("store", "prefix", "\"below\""),
    ("store", "options", "{options}"),
    ("store", "layout", "\"packed\""),
    ("store", "compress", "\"gzip\""),
    ("store", "stall", "\"4s\""),
    ("store", "min_rate", "\"32KiB/s\""),
    ("store", "connections", "7"),
    ("store", "bandwidth", "\"500MiB/s\""),
    ("lane", "name", "\"renamed\""),
    ("lane", "directories", "[\"[0-9]*-*\", \"more-*\"]"),
    ("lane", "completion", "\"quiet\""),
    ("lane", "marker", "\".done\""),
    ("lane", "settle", "\"250ms\""),
    ("lane", "quiet_for", "\"5m\""),
    ("lane", "workers", "3"),
    ("lane", "timeout", "\"2h\""),
    ("lane", "attempts", "9"),
    ("lane", "upload_after", "\"1s\""),
    ("lane", "delete_after", "\"1s\""),
    ("lane", "order", "\"smallest\""),
    ("lane", "honour_instructions", "true"),
    ("route", "match", "\"no/*\""),
    ("route", "url", "\"file://{dir}/routed2\""),
    ("route", "key", "\"{job}/{file}.2\""),
    ("route", "compress", "\"gzip\""),
    ("route", "options", "{ aws_region = \"eu-1\" }"),
    ("route", "when", "{ suite = [\"arc-*\"] }"),
    ("queue", "name", "\"other\""),
    ("queue", "workers", "2"),
    ("queue", "timeout", "\"1m\""),
    ("queue", "command", "[\"true\", \"{job}\"]"),
    ("queue", "on", "\"offloaded\""),
    ("queue", "must_precede_prune", "false"),
    ("queue", "attempts", "2"),
    ("queue", "lanes", "[\"jobs\"]"),
    ("queue", "output", "\"2KiB\""),
    ("queue", "tasks", "[[\"true\"]]"),
    ("queue", "heavy_workers", "1"),
    ("queue", "heavy_above", "\"2GiB\""),
    ("queue", "heavy_after", "\"1h\""),
    ("queue", "memory", "\"1GiB\""),
    ("queue", "cpu_time", "\"1h\""),
    ("queue", "nice", "3"),
    ("queue", "lease", "\"30s\""),
    ("containers", "engine", "\"unix:///nowhere\""),
    ("containers", "canary_image", "\"canary\""),
    ("containers", "canary_share", "0.2"),
    ("containers", "count", "2"),
    ("containers", "name_prefix", "\"p\""),
    ("containers", "max_uptime", "\"2h\""),
    ("containers", "host_max_uptime", "\"48h\""),
    ("containers", "stop_file", "\"/nowhere/stop\""),
    ("containers", "container_stop_file", "\"/nowhere/{name}\""),
    ("containers", "reboot_file", "\"/nowhere/reboot\""),
    ("containers", "pid_lock", "\"/nowhere/lock\""),
    ("containers", "stop_timeout", "\"1h\""),
    ("containers", "reboot_command", "[\"true\"]"),
    ("containers", "reboot_grace", "\"1h\""),
    ("containers", "reboot_interval", "\"1h\""),
    ("containers", "reboot_budget", "3"),
    ("containers", "reboot_when_frozen", "true"),
    ("containers", "frozen_after", "\"1m\""),
    ("containers", "volumes", "[]"),
    ("containers", "env", "{ A = \"b\" }"),
    ("containers", "command", "[\"true\"]"),
    ("containers", "devices", "[]"),
    ("containers", "cpus", "1.5"),
    ("containers", "memory", "\"1GiB\""),
    ("containers", "pids", "9"),
    ("containers", "lock", "\"/nowhere/{name}.lock\""),
    ("containers", "registry_auth_file", "{secret}"),
    ("disk", "high", "\"1%\""),
    ("disk", "low", "\"1%\""),
    ("disk", "pressure_workers", "4"),
    ("limits", "deletions_per_hour", "9000"),
    ("limits", "hub_requests_per_second", "5"),
    ("hub", "url", "\"http://127.0.0.1:1/\""),
    ("hub", "heartbeat", "\"7s\""),
    ("hub", "timeout", "\"3s\""),
    ("hub", "token", "\"t\""),
    ("hub", "token_file", "{secret}"),
    ("hub", "ca_file", "{pem}"),
    ("mail", "smtp", "\"smtp://127.0.0.1:1\""),
    ("mail", "from", "\"x@b.c\""),
    ("mail", "to", "[\"x@b.c\"]"),
    ("mail", "digest", "\"2h\""),
    ("mail", "user", "\"u\""),
    ("mail", "password", "\"p\""),
    ("mail", "password_file", "{secret}"),
    ("mail", "ca_file", "{pem}"),
    ("notify", "url", "\"http://127.0.0.1:2/\""),
    ("notify", "kind", "\"pubsub\""),
    ("notify", "token", "\"t2\""),
    ("notify", "token_file", "{secret}"),
    ("notify", "attributes", "{ a = \"b\" }"),
    ("notify", "ca_file", "{pem}"),
    ("shutdown", "deadline", "\"5s\""),
    ("results", "dir", "\"{dir}/results2\""),
];

/// Keys whose effect is visible at once.
const EFFECTS: [(&str, &str, Effect); 8] = [
    ("drone", "name", |status| status["drone"] == "other"),
    ("drone", "mode", |status| status["lanes"][0]["special"].to_string().contains("shadow")),
    ("lane", "name", |status| status["lanes"][0]["name"] == "renamed"),
    ("lane", "workers", |status| status["lanes"][0]["workers"] == 3),
    ("lane", "honour_instructions", |status| {
        status["lanes"][0]["special"].to_string().contains("instructions")
    }),
    ("disk", "high", |status| status["disk"]["pressing"] == true),
    ("hub", "url", |status| status["hub"]["url"] == "http://127.0.0.1:1/"),
    ("mail", "smtp", |status| status["mail"].is_object()),
];

/// What this test leaves to others, and why.
const ELSEWHERE: [(&str, &str); 6] = [
    ("drone.state_dir", "the control socket moves with it: by SIGHUP"),
    ("admin.socket", "it is what the command speaks through: by SIGHUP"),
    ("store.url", "tests/lab/reload.rs: jobs go to another store"),
    ("lane.delete_only", "tests/lab/modes.rs: it would delete what is compared here"),
    ("containers.image", "tests/lab/containers.rs: an engine is needed"),
    ("notify.account_file", "tests/lab/notify.rs: instead of a token"),
];

#[test]
fn every_key_has_its_place_here() {
    for (section, keys) in Config::KEYS {
        for key in *keys {
            let edited = EDITS.iter().any(|(own, name, _)| (own, name) == (section, key));
            let elsewhere = ELSEWHERE.iter().any(|(name, _)| *name == format!("{section}.{key}"));
            assert!(
                edited != elsewhere,
                "{section}.{key} is neither edited nor left to another test, or both"
            );
        }
    }
}

/// The text with one key of a section set to another value.
fn edited(plain: &str, section: &str, key: &str, value: &str) -> String {
    let heads = [format!("[{section}]\n"), format!("[[{section}]]\n")];
    let head = heads.iter().find(|head| plain.contains(*head)).expect(section);
    let (before, after) = plain.split_once(head.as_str()).unwrap();
    let (own, others) = after.split_once("\n[").unwrap_or((after, ""));
    let own = own.lines().filter(|line| !line.starts_with(&format!("{key} =")));
    let own: String = own.map(|line| format!("{line}\n")).collect();
    let others = if others.is_empty() { String::new() } else { format!("[{others}") };
    format!("{before}{head}{key} = {value}\n{own}{others}")
}

#[test]
fn every_key_comes_into_force_under_load_and_no_upload_is_lost() {
    let server = Server::start(Flavour::S3);
    let mut bench = Bench::on(&server).lane("workers = 2");
    let dir = bench.dir.path().display().to_string();
    let extra = format!(
        "[log]\n[supervision]\n[[route]]\nmatch = \"nosuch/*\"\nurl = \"file://{dir}/routed\"\nkey = \"{{job}}/{{file}}\"\n\
         [[queue]]\nname = \"work\"\ncommand = [\"true\"]\nheavy_above = \"1GiB\"\n[containers]\n\
         [disk]\nhigh = \"100%\"\nlow = \"0%\"\n[limits]\n[hub]\n\
         [mail]\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n[[notify]]\nurl = \"http://127.0.0.1:1/\"\ntoken = \"t\"\n[shutdown]\n"
    );
    bench = bench.extra(&extra);
    fs::create_dir(bench.path("results2")).unwrap();
    fs::create_dir(bench.path("routed")).unwrap();
    fs::create_dir(bench.path("routed2")).unwrap();
    fs::write(bench.path("secret"), "third.sqlite").unwrap();
    certificate(bench.dir.path(), &[]);
    let plain = fs::read_to_string(bench.write_config()).unwrap();
    let options = plain.lines().find_map(|line| line.strip_prefix("options = ")).unwrap();
    let options = options.replace("us-east-1", "eu-west-1");
    let filled = |value: &str| {
        let quoted = |name: &str| format!("\"{dir}/{name}\"");
        let value = value.replace("{secret}", &quoted("secret")).replace("{pem}", &quoted("cert.pem"));
        value.replace("{options}", &options).replace("{dir}", &dir)
    };
    let file = bench.path("dronekeeper.toml");
    bench.start();
    bench.wait_until_said("console listens");
    let mut kept = BTreeMap::new();
    for (number, (section, key, value)) in EDITS.into_iter().enumerate() {
        let name = format!("{}-a", 1000 + number);
        let job = bench.job(&name);
        fs::write(job.join("large"), vec![number as u8; 1 << 20]).unwrap();
        bench.finish(&name);
        kept.insert(name, hashes(&job));
        fs::write(&file, edited(&plain, section, key, &filled(value))).unwrap();
        let (done, verdict) = reload(&bench);
        assert!(done && told(&bench, &verdict, &[section, key]), "{section}.{key}: {verdict}");
        let effect = EFFECTS.iter().find(|(own, name, _)| (*own, *name) == (section, key));
        if let Some((.., effect)) = effect {
            bench.wait(&format!("{section}.{key} has its effect"), || {
                let (_, status) = tell(&bench, &["status", "--json"]);
                serde_json::from_str(&status).is_ok_and(|status| effect(&status))
            });
        }
        assert!(bench.runs(), "the process ended with {section}.{key}");
        let taken_back = ["the one before is in force again", "the one before stays in force"];
        assert!(taken_back.iter().all(|said| bench.said(said) == 0), "{section}.{key} was taken back");
    }
    fs::write(&file, &plain).unwrap();
    bench.wait("the first one is in force again", || reload(&bench).0);
    for (name, files) in &kept {
        bench.wait(&format!("{name} is gone"), || {
            let gone = !bench.results().join(name).exists();
            // It was taken in while the queue had a task more, and the task never came to it.
            if !gone && tell(&bench, &["queue", "list", "--state", "dead"]).1.contains(name) {
                assert!(tell(&bench, &["queue", "drop", name]).0, "{name} cannot be dropped");
            }
            gone
        });
        if server.objects().contains_key(&format!("{name}/.dronekeeper/manifest.json")) {
            assert_eq!(bench.restored(name), *files);
        } else {
            // It went while `store.prefix` was another.
            let below = format!("below/{name}/.dronekeeper/manifest.json");
            assert!(server.objects().contains_key(&below), "{name} is nowhere");
        }
    }
}
