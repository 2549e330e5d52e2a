//! Sites that are moved: a real one, odd ones, hostile ones.

use super::*;
use crate::{Completion, Config, Mode, parse};

const GLOBAL: &str = include_str!("sample/global_config.ini");
const SHADOW: &str = include_str!("sample/shadow_config.ini");

fn moved(global: &str, shadow: &str) -> (Imported, Config) {
    let files = [(Path::new("global_config.ini"), global), (Path::new("shadow_config.ini"), shadow)];
    let imported = import(&files).unwrap();
    let config = parse(&imported.toml, None, &[]);
    let config = config.unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
    (imported, config)
}

/// What was left of a key.
fn left<'a>(imported: &'a Imported, key: &str) -> &'a Left {
    let found = imported.left.iter().find(|left| left.key == key);
    found.unwrap_or_else(|| panic!("{key} is not in\n{}", imported.toml))
}

#[test]
fn a_whole_site_is_moved() {
    let (imported, config) = moved(GLOBAL, SHADOW);
    assert_eq!(
        (config.store.url.as_str(), config.store.prefix.as_str()),
        ("gs://lab-example-results", "site-2")
    );
    assert_eq!(config.results.dir, Path::new("/usr/local/autotest/results"));
    assert_eq!(config.hub.url, ["http://autotest.lab.example/afe/server/noauth/rpc/"]);
    let lanes: Vec<(&str, Completion)> =
        config.lanes.iter().map(|lane| (lane.name.as_str(), lane.completion)).collect();
    let expected =
        [("jobs", Completion::Hub), ("special", Completion::Hub), ("swarming", Completion::Marker)];
    assert_eq!(lanes, expected);
    assert_eq!(config.mail.smtp, "smtp://mail.lab.example:587");
    assert_eq!(config.mail.from, "dronekeeper@autotest.lab.example");
    assert_eq!(
        config.mail.to,
        ["lab-oncall@lab.example", "lab-leads@lab.example", "night-shift@lab.example"]
    );
    assert_eq!((config.drone.mode, config.drone.name), (Mode::Offload, Config::default().drone.name));
    for line in [
        "url = \"gs://lab-example-results\"  # [CROS] results_storage_server\n",
        "# url = \"rsync://offloader@archive.lab.example/usr/local/autotest/results\"  # [SCHEDULER] results_host, ",
        "# user = \"autotest\"",
        "\n[[route]]  # [CROS] cts_results_server\n",
        "\n#   [AUTOSERV] 3\n",
    ] {
        assert!(imported.toml.contains(line), "{line} is not in\n{}", imported.toml);
    }
    for (key, fate) in [
        ("drones", Fate::ByHand),
        ("drone3_disabled", Fate::ByHand),
        ("drone1_max_processes", Fate::Moot),
        ("smtp_password", Fate::ByHand),
        ("archive.lab.example_username", Fate::ByHand),
        ("gs_offloader_use_rsync", Fate::Moot),
        ("gs_offloader_limit_file_count", Fate::Moot),
        ("heartbeat_pause_sec", Fate::Moot),
        ("gmail_api_credentials", Fate::ByHand),
    ] {
        assert_eq!(left(&imported, key).fate, fate, "{key}");
    }
    assert_eq!(imported.left.iter().filter(|left| left.key == "cts_apfe_server").count(), 0, "it is blank");
    assert!(!imported.toml.contains("battery-staple") && !imported.toml.contains("correct-horse"));
    assert!(!imported.toml.contains("gmail.json"));
}

#[test]
fn side_uploads_and_notifications_go_where_they_went() {
    let cts = "[CROS]\ncts_results_server = gs://cts/r/\ncts_apfe_server = gs://apfe\n\
        ctsbvt_apfe_server = nonsense\ncloud_notification_enabled = True\n\
        cloud_notification_topic = projects/p/topics/t\n";
    let (imported, config) = moved(GLOBAL, cts);
    let routes: Vec<(&str, bool)> =
        config.routes.iter().map(|route| (route.url.as_str(), route.pattern.ends_with(".zip"))).collect();
    assert_eq!(routes, [("gs://cts", false), ("gs://cts", false), ("gs://apfe", true)]);
    assert!(
        imported.toml.contains("key = \"r/{package}/{job_id}_{timestamp}/{file}.gz\""),
        "{}",
        imported.toml
    );
    assert_eq!(left(&imported, "ctsbvt_apfe_server").fate, Fate::ByHand);
    assert_eq!(config.notify[0].url, "https://pubsub.googleapis.com/v1/projects/p/topics/t:publish");
    // As in the original, nothing goes anywhere without the first of the servers.
    let (imported, config) = moved("", "[CROS]\ncts_apfe_server = gs://apfe\ncloud_notification_topic = t\n");
    assert!(config.routes.is_empty() && config.notify.is_empty());
    assert_eq!(left(&imported, "cts_apfe_server").fate, Fate::Moot);
}

#[test]
fn nothing_at_all_is_a_drone_that_deletes_nothing() {
    let (imported, config) = moved("", "");
    assert_eq!((config.drone.mode, imported.carried), (Mode::Shadow, 0));
    assert!(config.lanes.iter().all(|lane| lane.completion == Completion::Marker));
    assert_eq!(imported.left, []);
}

#[test]
fn a_site_that_stored_nothing_is_not_made_to_store_or_to_delete() {
    let (imported, config) = moved(GLOBAL, "[CROS]\ngs_offloading_enabled = FALSE\n");
    assert_eq!((config.store.url, config.drone.mode), (Config::default().store.url, Mode::Shadow));
    assert!(config.lanes.iter().all(|lane| !lane.delete_only));
    assert!(imported.toml.contains("# url = \"gs://lab-example-results\""));
    assert!(left(&imported, "gs_offloading_enabled").why.contains("`delete_only`"));
    assert!(!imported.toml.contains(crate::DELETE_ONLY), "the sentence must not be there to be uncommented");
    assert!(
        moved(GLOBAL, "[CROS]\ngs_offloading_enabled = no\n").1.drone.mode == Mode::Offload,
        "`no` is true"
    );
}

#[test]
fn a_blank_in_the_shadow_hides_the_value_below() {
    let (imported, config) = moved(GLOBAL, "[CROS]\nresults_storage_server =\n");
    assert_eq!(config.drone.mode, Mode::Shadow);
    assert!(left(&imported, "image_storage_server").why.contains("Moblab"));
}

#[test]
fn results_of_a_site_without_a_bucket_went_to_its_results_host() {
    let text = "[SCHEDULER]\nresults_host = Dumpster\ndumpster_username = offloader\n\
                results_host_installation_directory = /data/autotest/\n";
    let (imported, _) = moved(text, "");
    let url = "url = \"rsync://offloader@Dumpster/data/autotest/results\"";
    assert!(imported.toml.contains(url), "{}", imported.toml);
    let (imported, _) = moved("[SCHEDULER]\nresults_host = dumpster\n", "");
    assert!(imported.toml.contains("\"rsync://dumpster/usr/local/autotest/results\""), "{}", imported.toml);
    let (imported, _) = moved("[SCHEDULER]\nresults_host = localhost\n", "");
    assert_eq!(left(&imported, "results_host").fate, Fate::Moot);
    assert!(!imported.toml.contains("rsync://"));
}

#[test]
fn a_shard_is_named_asks_its_own_afe_and_keeps_its_heartbeat() {
    let shard = "[SHARD]\nshard_hostname = shard7\n[SERVER]\nglobal_afe_hostname = cautotest\n";
    let (imported, config) = moved(shard, "");
    assert_eq!((config.drone.name.as_str(), config.hub.url.len()), ("shard7", 1));
    assert_eq!(config.hub.url, ["http://shard7/afe/server/noauth/rpc/"]);
    assert_eq!(left(&imported, "global_afe_hostname").fate, Fate::ByHand);
    let (_, config) = moved("[SHARD]\nglobal_afe_hostname = https://cautotest\n", "");
    assert_eq!(config.hub.url, ["https://cautotest/afe/server/noauth/rpc/"]);
}

#[test]
fn mails_need_a_whole_address_and_go_through_the_machine_itself_by_default() {
    let (imported, config) = moved("[SCHEDULER]\nnotify_email = root a@lab.example:b@lab.example\n", "");
    assert_eq!(config.mail.smtp, "smtp://localhost?tls=none");
    assert_eq!(config.mail.to, ["a@lab.example", "b@lab.example"]);
    assert!(imported.toml.contains("without root: no domain"));
    let (imported, config) = moved("[SCHEDULER]\nnotify_email = root\n[SERVER]\nsmtp_server = mail\n", "");
    assert_eq!(config.mail.smtp, "");
    assert!(
        left(&imported, "notify_email").fate == Fate::ByHand
            && left(&imported, "smtp_server").value == "\"mail\""
    );
}

#[test]
fn what_cannot_be_taken_at_its_word_is_left() {
    for (text, key) in [
        ("[CROS]\nresults_storage_server = gs://a/%(site)s\n", "results_storage_server"),
        ("[CROS]\nresults_storage_server = gs://a/../b\n", "results_storage_server"),
        ("[CROS]\nresults_storage_server = gs://key:hunter2@a\n", "results_storage_server"),
        ("[SERVER]\nhostname = afe/../..\n", "hostname"),
        ("[SERVER]\nhostname = u:hunter2@afe\n", "hostname"),
        ("[SERVER]\nhostname = afe:port\n", "hostname"),
        ("[SHARD]\nshard_hostname = a\u{7}b\n", "shard_hostname"),
        (
            "[SCHEDULER]\ndrone_installation_directory = /var/lib/dronekeeper\u{fffd}\n",
            "drone_installation_directory",
        ),
        ("[SCHEDULER]\nnotify_email = a@b\n[SERVER]\nsmtp_port = many\n", "smtp_port"),
        ("[SCHEDULER]\nresults_host = a b\n", "results_host"),
    ] {
        let (imported, _) = moved(text, "");
        assert_eq!(left(&imported, key).fate, Fate::ByHand, "{text}");
        assert!(!imported.toml.contains("hunter2"), "{}", imported.toml);
    }
}

/// Each key that we look at, with each of these values and with mixtures of them.
#[test]
fn whatever_a_site_says_the_outcome_is_accepted_and_deletes_nothing_unproven() {
    let values = [
        "plain",
        "a@b.example",
        "false",
        "80",
        "gs://b/p/q/",
        "http://h:1/",
        "/",
        "/usr/../..//x",
        "\"",
        "'''",
        "\"\"\"\n \"\"\"",
        "\\",
        "\\\"\n x = 1",
        "x\n [[lane]]\n name = \"y\"",
        "x\"\n delete_only = \"delete finished results without storing them\"",
        "# x",
        "\u{0}\u{1}\u{7f}\u{85}\u{2028}\u{202e}\u{fffd}\u{feff}",
        "\r\n \r",
        "é/日本/%2F",
        "${x} {x} %(x)s %",
        "::1",
        "[]",
        &"long".repeat(2000),
    ];
    let keys = [
        ("CROS", "results_storage_server"),
        ("CROS", "gs_offloading_enabled"),
        ("CROS", "image_storage_server"),
        ("CROS", "cts_results_server"),
        ("CROS", "ctsdelta_apfe_server"),
        ("CROS", "cloud_notification_topic"),
        ("CROS", "cloud_notification_enabled"),
        ("SCHEDULER", "results_host"),
        ("SCHEDULER", "results_host_installation_directory"),
        ("SCHEDULER", "plain_username"),
        ("SCHEDULER", "80_username"),
        ("SCHEDULER", "\u{1}\"_disabled"),
        ("SCHEDULER", "drones"),
        ("SCHEDULER", "drone_installation_directory"),
        ("SCHEDULER", "notify_email"),
        ("SCHEDULER", "notify_email_from"),
        ("SERVER", "hostname"),
        ("SERVER", "global_afe_hostname"),
        ("SERVER", "smtp_server"),
        ("SERVER", "smtp_port"),
        ("SERVER", "smtp_user"),
        ("SERVER", "smtp_password"),
        ("SHARD", "shard_hostname"),
        ("SHARD", "heartbeat_pause_sec"),
        ("AUTOTEST_WEB", "base_url"),
        ("NOTIFICATIONS", "x\u{1b}"),
        ("\u{1b}[2J\"", "k"),
    ];
    let accepted = |text: &str| {
        let (imported, config) = moved(text, "");
        assert_eq!(config.lanes.len(), 3, "{}", imported.toml);
        assert!(config.lanes.iter().all(|lane| !lane.delete_only), "{}", imported.toml);
        let stored = config.store.url != Config::default().store.url;
        assert!(stored || config.drone.mode == Mode::Shadow, "{}", imported.toml);
        let breaks = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(
            !imported.toml.lines().filter(|line| line.starts_with('#')).any(|line| line.contains(breaks))
        );
    };
    for (section, key) in keys {
        for value in values {
            accepted(&format!("[{section}]\n{key} = {value}\n"));
        }
    }
    // A small generator with a fixed seed: the same mixtures in every run.
    let mut state = 7_u64;
    let mut pick = |of: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % of
    };
    for _ in 0..300 {
        let lines = keys
            .iter()
            .map(|(section, key)| format!("[{section}]\n{key} = {}\n", values[pick(values.len())]));
        accepted(&lines.collect::<String>());
    }
}
