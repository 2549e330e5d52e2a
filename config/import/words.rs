//! Keys of Autotest that have no equivalent, and what is said of each.

use super::ini::Entry;
use super::left::Fate;

const NO_TESTS: &str = "dronekeeper starts no tests: the scheduler still reads this";
const WHOLE_JOB: &str = "a job's directory is stored whole";
const SMTP: &str = "mails go by SMTP: see `[mail]`";

/// What is said of a key that has no equivalent.
enum Word {
    ByHand(&'static str),
    Moot(&'static str),
    /// By hand, unless the key says `false`.
    IfTrue(&'static str),
}

/// Keys without an equivalent. A `*` stands for anything, at the end or at the start.
const LEFT: &[(&str, &str, Word)] = &[
    (
        "CROS",
        "gs_offloader_multiprocessing",
        Word::Moot("files always go in parallel: see `store.connections`"),
    ),
    ("CROS", "gs_offloader_use_rsync", Word::Moot("a new attempt always sends only what is missing")),
    (
        "CROS",
        "gs_offloader_limit_file_count",
        Word::IfTrue("set `layout = \"gs_offloader\"` below `[store]` for the old rule, or \"packed\""),
    ),
    (
        "SCHEDULER",
        "max_transfer_processes",
        Word::ByHand("set `workers` of a lane; the offloader's own number was its option `-p`"),
    ),
    (
        "SCHEDULER",
        "drones",
        Word::ByHand(
            "put this file on each of them; `drone.name` must differ, and is the host's name by default",
        ),
    ),
    (
        "SCHEDULER",
        "*_disabled",
        Word::ByHand(
            "it got no new jobs; what is left on it is offloaded wherever dronekeeper runs: see `drain`",
        ),
    ),
    ("SCHEDULER", "*_username", Word::Moot("dronekeeper runs on the drone itself and logs in nowhere")),
    ("SCHEDULER", "*_max_processes", Word::Moot(NO_TESTS)),
    ("SCHEDULER", "max_processes_per_drone", Word::Moot(NO_TESTS)),
    ("SCHEDULER", "*_users", Word::Moot(NO_TESTS)),
    ("SCHEDULER", "enable_archiving", Word::Moot(WHOLE_JOB)),
    ("SCHEDULER", "copy_task_results_back", Word::Moot(WHOLE_JOB)),
    ("SCHEDULER", "copy_parse_log_back", Word::Moot(WHOLE_JOB)),
    ("AUTOTEST_WEB", "host", Word::Moot("is the database's; dronekeeper asks the AFE")),
    (
        "AUTOTEST_WEB",
        "base_url",
        Word::ByHand("the AFE is not where Autotest has it by default: look at `hub.url`"),
    ),
    ("NOTIFICATIONS", "*", Word::ByHand(SMTP)),
];

/// What is said of a key that has no equivalent, if there is something to say.
pub(super) fn word(entry: &Entry) -> Option<(Fate, &'static str)> {
    let own = LEFT.iter().find(|(section, key, _)| *section == entry.section && is_like(key, &entry.key));
    own.map(|(_, _, word)| match word {
        Word::ByHand(why) => (Fate::ByHand, *why),
        Word::IfTrue(why) if entry.truth() => (Fate::ByHand, *why),
        Word::IfTrue(_) => (Fate::Moot, "was off, and is"),
        Word::Moot(why) => (Fate::Moot, *why),
    })
}

fn is_like(pattern: &str, key: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => key.ends_with(end),
        (_, Some(start)) => key.starts_with(start),
        _ => key == pattern,
    }
}
