//! What is different between two configuration files, key by key, for the log; secrets are not shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::Value;

/// Each key that was set, changed or taken out: `lane.0.workers: 1 -> 4`.
pub fn differences(before: &str, after: &str) -> Vec<String> {
    let (before, after) = (flat(before), flat(after));
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let line = |key: &&String| {
        let (old, new) = (before.get(*key), after.get(*key));
        (old != new).then(|| {
            let shown = |value: Option<&String>| match value {
                None => "(default)".to_owned(),
                Some(_) if is_secret(key) => "[redacted]".to_owned(),
                Some(value) => value.clone(),
            };
            format!("{key}: {} -> {}", shown(old), shown(new))
        })
    };
    keys.iter().filter_map(line).collect()
}

/// Everything that is not the path of a file may be secret below `options`.
fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or_default();
    !last.ends_with("_file")
        && (key.contains(".options.") || ["token", "password", "queue_database"].contains(&last))
}

/// A configuration file's text without its secrets, for a bug report; a text that is none is left out whole.
pub fn redacted(text: &str) -> String {
    let Ok(mut table) = toml::from_str::<toml::Table>(text) else {
        return "# the file cannot be read as TOML\n".into();
    };
    table.iter_mut().for_each(|(name, value)| redact(name, value));
    toml::to_string_pretty(&table).unwrap_or_default()
}

fn redact(at: &str, value: &mut Value) {
    match value {
        Value::Table(table) => {
            table.iter_mut().for_each(|(name, value)| redact(&format!("{at}.{name}"), value))
        }
        Value::Array(list) => list.iter_mut().for_each(|value| redact(at, value)),
        _ if is_secret(at) => *value = Value::String("[redacted]".into()),
        // A password within an address.
        Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some((user, place)) = rest.split_once('@')
                && user.contains(':')
            {
                *text = format!("{scheme}://[redacted]@{place}");
            }
        }
        _ => {}
    }
}

/// The files that a configuration names and whose content belongs to it: tokens, passwords, certificates.
pub fn files(text: &str) -> Vec<PathBuf> {
    let named = |(key, value): (String, String)| {
        let path = value.trim_matches(['"', '\'']);
        // Credentials among a store's options are the library's: a path is one that begins as one.
        let named = key.ends_with("_file") && !path.is_empty();
        (named || key.contains(".options.") && path.starts_with('/')).then(|| PathBuf::from(path))
    };
    // What a container looks for is no part of the configuration.
    let own = flat(text).into_iter().filter(|(key, _)| !key.starts_with("containers."));
    own.filter_map(named).collect()
}

fn flat(text: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    fill(&mut keys, "", &Value::Table(table));
    keys
}

fn fill(keys: &mut BTreeMap<String, String>, at: &str, value: &Value) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(name, value)| fill(keys, &below(name), value)),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            list.iter().enumerate().for_each(|(index, value)| fill(keys, &below(&index.to_string()), value));
        }
        value => drop(keys.insert(at.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changed_key_is_a_line_and_secrets_are_none() {
        let before = "[store]\nurl = \"s3://a\"\noptions = { aws_secret_access_key = \"x\", region = \"r\" }\n[[lane]]\nworkers = 1\n";
        let after = "[store]\nurl = \"s3://b\"\noptions = { aws_secret_access_key = \"y\" }\n[[lane]]\nworkers = 1\n[mail]\npassword = \"p\"\n";
        assert_eq!(
            differences(before, after),
            [
                "mail.password: (default) -> [redacted]",
                "store.options.aws_secret_access_key: [redacted] -> [redacted]",
                "store.options.region: [redacted] -> (default)",
                "store.url: \"s3://a\" -> \"s3://b\"",
            ]
        );
        assert!(differences(before, before).is_empty());
    }

    #[test]
    fn what_goes_into_a_report_holds_no_secret() {
        let text = "[store]\nurl = \"s3://a\"\noptions = { key = \"hunter1\" }\n[mail]\npassword = \"hunter2\"\n[hub]\n\
                    token = \"hunter3\"\ntoken_file = \"/etc/t\"\nurl = [\"http://me:hunter4@hub/\"]\n[drone]\nqueue_database = \"postgres://a:hunter5@b/c\"\n";
        let report = redacted(text);
        assert!(!report.contains("hunter"), "{report}");
        assert!(
            report.contains("http://[redacted]@hub/")
                && report.contains("/etc/t")
                && report.contains("s3://a")
        );
        assert!(!redacted("token = \"hunter\" oops").contains("hunter"));
    }

    #[test]
    fn the_files_of_secrets_are_known() {
        let text = "[hub]\ntoken_file = \"/etc/t\"\n[mail]\nca_file = '/etc/ca'\n[containers]\nstop_file = \"/b/s\"\n[[notify]]\n\
                    token_file = \"/etc/n\"\n[log]\nfile = \"/var/log/x.log\"\n";
        assert_eq!(files(text), ["/etc/t", "/etc/ca", "/etc/n"].map(PathBuf::from));
        let text = "[hub]\ntoken_file = \"beside\"\n[store]\n\
                    options = { google_service_account = \"/etc/s\", aws_region = \"eu-1\" }\n";
        assert_eq!(files(text), ["beside", "/etc/s"].map(PathBuf::from));
    }
}
