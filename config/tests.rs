//! Each mistake that an operator can make, and what is said about it.

use crate::{Attempts, Config, parse};
use std::path::Path;

fn complaint(text: &str) -> String {
    parse(text, Some(Path::new("drone.toml")), &[]).unwrap_err().to_string()
}

fn from_environment(name: &str, value: &str) -> Result<Config, String> {
    parse("", None, &[(name.into(), value.into())]).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("", None, &[]).unwrap(), Config::default());
}

#[test]
fn the_shipped_file_says_exactly_the_defaults() {
    let mut shipped = parse(include_str!("drone.toml"), None, &[]).unwrap();
    shipped.drone.name = Config::default().drone.name;
    assert_eq!(shipped, Config::default());
}

#[test]
fn the_shipped_file_shows_every_key() {
    let shipped = include_str!("drone.toml");
    for key in Config::KEYS.iter().flat_map(|(_, keys)| *keys) {
        let shown =
            shipped.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
        assert!(shown, "config/drone.toml does not show `{key}`");
    }
}

#[test]
fn the_list_of_keys_is_that_of_the_types() {
    // Every key must be taken by its section: a value of a wrong type is complained of as such.
    for (section, keys) in Config::KEYS {
        for key in *keys {
            let is_list = ["lane", "route", "queue", "notify"].contains(section);
            let header = if is_list { format!("[[{section}]]") } else { format!("[{section}]") };
            let said = complaint(&format!("{header}\n{key} = [[]]"));
            assert!(!said.contains("unknown"), "{section}.{key}: {said}");
        }
    }
}

#[test]
fn the_hubs_file_shows_every_key_and_says_the_defaults() {
    let shipped = include_str!("hub.toml");
    assert_eq!(crate::parse_hub(shipped, None, &[]).unwrap(), crate::HubConfig::default());
    for key in crate::HubConfig::KEYS.iter().flat_map(|(_, keys)| *keys) {
        let shown =
            shipped.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
        assert!(shown, "config/hub.toml does not show `{key}`");
    }
    let said = crate::parse_hub("[hub]\nlisten_on = 1", None, &[]).unwrap_err().to_string();
    assert!(said.contains("did you mean `listen`"), "{said}");
    let said = crate::parse_hub("[hub]\ntls_key = \"k\"\ndatabase = \"mysql://x\"", None, &[])
        .unwrap_err()
        .to_string();
    assert!(said.contains("belong together") && said.contains("neither a file nor postgres"), "{said}");
}

#[test]
fn an_unknown_key_is_shown_where_it_stands_with_the_nearest_known() {
    let said = complaint("[results]\ndir = \"r\"\n\n[[lane]]\nworker = 5\n");
    assert_eq!(
        said,
        "error: unknown key `worker`\n --> drone.toml:5:1\n  |\n5 | worker = 5\n  | ^^^^^^\n  \
         = help: did you mean `workers`?\n1 error: the configuration is not valid"
    );
}

#[test]
fn all_unknown_keys_are_named_at_once() {
    let said = complaint("[drone]\nnam = \"x\"\n[stor]\nurl = \"x\"\n");
    assert!(said.contains("did you mean `name`?") && said.contains("did you mean `store`?"), "{said}");
    assert!(said.contains("2 errors"), "{said}");
}

#[test]
fn a_wrong_type_a_bad_duration_and_broken_syntax_have_their_place() {
    let said = complaint("[[lane]]\nname = \"jobs\"\nworkers = \"five\"\n");
    assert!(said.contains("drone.toml:3:11") && said.contains("invalid type: string"), "{said}");
    let said = complaint("[results]\nrescan = \"soon\"\n");
    assert!(said.contains("drone.toml:2:10") && said.contains("`soon` is not a duration"), "{said}");
    let said = complaint("[results\n");
    assert!(said.contains("drone.toml:1:9"), "{said}");
}

#[test]
fn settings_that_endanger_results_are_refused() {
    for (text, why) in [
        ("[results]\ndir = \"/\"", "is `/`"),
        ("[store]\nurl = \"file://./results/offloaded\"", "lie in one another"),
        ("[drone]\nstate_dir = \"./results/state\"", "lie in one another"),
        ("[store]\nurl = \"s3://key:secret@bucket\"", "holds credentials"),
        ("[store]\nurl = \"ftp://host/x\"", "unknown kind"),
        ("[store]\nurl = \"s3://\"", "no bucket"),
        ("[store]\nurl = \"gs://bucket/results\"", "put it into `store.prefix`"),
        ("[store]\nurl = \"rsync://u:p@h/x\"", "holds credentials"),
        ("[store]\nurl = \"rsync://u@h/\"", "no host and directory"),
        ("[store]\nurl = \"rsync://u@h/a$(b)\"", "no host and directory"),
        ("[store]\nurl = \"rsync://-oProxyCommand=x/y\"", "no host and directory"),
        ("[store]\nconnections = 0", "between 1 and 1024"),
        ("[store]\nprefix = \"../x\"", "is not a path"),
        ("[disk]\nhigh = \"10%\"\nlow = \"20%\"", "not below"),
        ("[hub]\nurl = \"ftp://afe/\"", "neither http"),
        ("[hub]\nurl = \"http://u:p@afe/\"", "holds credentials"),
        ("[[lane]]\nname = \"a\"\ndirectories = [\"x\"]\ncompletion = \"hub\"", "`hub.url` is empty"),
        ("[mail]\nsmtp = \"http://x\"\nfrom = \"a@b\"\nto = [\"a@b\"]", "names no mail server"),
        ("[mail]\nsmtp = \"smtp://x\"\nto = [\"a@b\"]", "`mail.from` is no address"),
        ("[mail]\nsmtp = \"smtp://x\"\nfrom = \"a@b\"\nto = [\"a@b\\nBcc: x@y\"]", "no address"),
        ("[mail]\nsmtp = \"smtp://x\"\nfrom = \"a@b\"\nto = [\"a@b\"]\nuser = \"u\"", "belong together"),
        ("[[lane]]\nname = \"a\"\ndirectories = [\"x\"]\ndelete_only = \"yes\"", "must say exactly"),
        ("lane = []", "no `[[lane]]`"),
        ("[[lane]]\nname = \"a b\"\ndirectories = [\"x\"]", "is not a name"),
        ("[[lane]]\nname = \"a\"\ndirectories = [\"../x\"]", "no pattern"),
        ("[[lane]]\nname = \"a\"\ndirectories = [\"[x\"]", "no pattern"),
        ("[[lane]]\nname = \"a\"\ndirectories = [\"x\"]\nworkers = 0", "between 1 and 1024"),
    ] {
        let said = complaint(text);
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn the_environment_sets_single_keys() {
    let config = from_environment("DRONEKEEPER__RESULTS__DIR", "/srv/results").unwrap();
    assert_eq!(config.results.dir, Path::new("/srv/results"));
    let config = from_environment("DRONEKEEPER__STORE__CONNECTIONS", "7").unwrap();
    assert_eq!(config.store.connections, 7);
    let config = from_environment("DRONEKEEPER__STORE__OPTIONS__AWS_REGION", "here").unwrap();
    assert_eq!(config.store.options["aws_region"].expose(), "here");
    let said = from_environment("DRONEKEEPER__RESULTS__DIRS", "x").unwrap_err();
    assert!(said.contains("DRONEKEEPER__RESULTS__DIRS") && said.contains("did you mean `dir`?"), "{said}");
    assert!(from_environment("DRONEKEEPER__RESULTS__RESCAN", "soon").unwrap_err().contains("RESCAN"));
}

#[test]
fn attempts_are_a_number_or_unlimited() {
    let lane = |value: &str| format!("[[lane]]\nname = \"a\"\ndirectories = [\"x\"]\nattempts = {value}\n");
    assert_eq!(parse(&lane("3"), None, &[]).unwrap().lanes[0].attempts, Attempts::Limited(3));
    assert_eq!(parse(&lane("\"unlimited\""), None, &[]).unwrap().lanes[0].attempts, Attempts::Unlimited);
    assert!(complaint(&lane("0")).contains("a number from 1"));
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, file) = (dir.path().join("key"), dir.path().join("drone.toml"));
    std::fs::write(&secret, "hunter2\n").unwrap();
    let text =
        format!("[store]\nurl = \"s3://lab\"\noptions = {{ aws_secret_access_key_file = {:?} }}\n", secret);
    std::fs::write(&file, text).unwrap();
    let loaded = crate::load(Some(&file), std::iter::empty()).unwrap();
    assert_eq!(loaded.config.store.options["aws_secret_access_key"].expose(), "hunter2");
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));
}

#[test]
fn a_file_that_was_cut_short_is_refused_and_no_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("drone.toml");
    let load = |environment: &[(&str, &str)]| {
        let environment: Vec<(String, String)> =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        crate::load(Some(&file), environment.into_iter())
    };
    for text in ["", "[drone]\nname = \"d\"\n", "[store]\nprefix = \"p\"\n"] {
        std::fs::write(&file, text).unwrap();
        assert!(load(&[]).unwrap_err().to_string().contains("`store.url` is not set"), "{text:?}");
        assert!(load(&[("DRONEKEEPER__STORE__URL", "s3://lab")]).is_ok());
    }
    assert!(parse("", None, &[]).is_ok());
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let said = crate::load(Some(dir.path()), std::iter::empty()).unwrap_err().to_string();
    assert!(said.contains("not a regular file"), "{said}");
    let said = crate::load(Some(&dir.path().join("none")), std::iter::empty()).unwrap_err().to_string();
    assert!(said.contains("cannot open"), "{said}");
}
