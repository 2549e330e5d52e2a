//! Finds, reads and judges a configuration; all complaints at once.
//!
//! The file is read twice: once as a tree of keys with their places, to name every unknown key, and once
//! into the typed sections. The environment comes last and wins.

use crate::report::{Complaint, ConfigError};
use crate::{Config, HubConfig, Notify, Route, rules};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The environment variable that names the file.
pub const VARIABLE: &str = "DRONEKEEPER_CONFIG";
/// What sets single keys: `DRONEKEEPER__SECTION__KEY`.
const PREFIX: &str = "DRONEKEEPER__";
/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 1 << 20;
const O_NONBLOCK: i32 = 0o4000;

/// A configuration, and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file, or `None` for the embedded defaults.
    pub file: Option<PathBuf>,
    /// Its text.
    pub text: String,
}

/// The environment, as far as it is text.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Loads the configuration: `explicit`, else the variable, else `./dronekeeper.toml`, else the one in
/// `/etc/dronekeeper`, else the embedded defaults.
///
/// # Errors
/// [`ConfigError`] with every complaint.
pub fn load(
    explicit: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let environment: Vec<(String, String)> = environment.collect();
    let file = found(explicit, &environment, ["./dronekeeper.toml", "/etc/dronekeeper/dronekeeper.toml"]);
    let text = file.as_deref().map(read).transpose()?.unwrap_or_default();
    let mut config = parse(&text, file.as_deref(), &environment)?;
    if let Some(file) = &file {
        says_where_results_go(file, &text, &environment)?;
    }
    let one = [
        config.store.read_secrets(),
        config.hub.read_secrets(),
        config.mail.read_secrets(),
        config.drone.read_secrets(),
        config.admin.read_secrets(),
    ];
    let routes = config.routes.iter_mut().map(Route::read_secrets);
    let notify = config.notify.iter_mut().map(Notify::read_secrets);
    let secrets = one.into_iter().chain(routes).chain(notify);
    let complaints: Vec<Complaint> = secrets.filter_map(Result::err).collect();
    if !complaints.is_empty() {
        return Err(ConfigError::new(None, "", complaints));
    }
    Ok(Loaded { config, file, text })
}

/// A file that was cut short, or is just being written, may be a valid one with other defaults; results must not
/// go to another store because of it.
fn says_where_results_go(
    file: &Path,
    text: &str,
    environment: &[(String, String)],
) -> Result<(), ConfigError> {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let in_file = table.get("store").and_then(|store| store.get("url")).is_some();
    if in_file || environment.iter().any(|(name, _)| name == "DRONEKEEPER__STORE__URL") {
        return Ok(());
    }
    let help = "a file must say where results go; only with no file at all it is ./offloaded";
    Err(ConfigError::new(Some(file), text, vec![Complaint::key("store.url", "is not set", help)]))
}

/// Reads the file, if it is a regular file of a sane size.
fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |why: String| ConfigError::new(Some(path), "", vec![Complaint::general(why)]);
    let mut options = std::fs::OpenOptions::new();
    // Without waiting: a fifo in the file's place must not hold the start.
    let file = options.read(true).custom_flags(O_NONBLOCK).open(path);
    let file = file.map_err(|error| failed(format!("cannot open the configuration: {error}")))?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        _ => return Err(failed("the configuration is not a regular file".into())),
    }
    let mut text = String::new();
    match file.take(LARGEST + 1).read_to_string(&mut text) {
        Ok(size) if size as u64 <= LARGEST => Ok(text),
        Ok(_) => Err(failed("the configuration is larger than 1 MiB".into())),
        Err(error) => Err(failed(format!("cannot read the configuration: {error}"))),
    }
}

/// Judges a configuration's text, with what the environment sets.
///
/// # Errors
/// As [`load`].
pub fn parse(
    text: &str,
    file: Option<&Path>,
    environment: &[(String, String)],
) -> Result<Config, ConfigError> {
    read_as(&Shape { keys: Config::KEYS }, text, file, environment, rules::judge)
}

/// Loads the configuration of a hub: `explicit`, else the variable, else `./dronekeeper-hub.toml`, else
/// `/etc/dronekeeper/hub.toml`, else the embedded defaults.
///
/// # Errors
/// [`ConfigError`] with every complaint.
pub fn load_hub(
    explicit: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(HubConfig, Option<PathBuf>), ConfigError> {
    let environment: Vec<(String, String)> = environment.collect();
    let file = found(explicit, &environment, ["./dronekeeper-hub.toml", "/etc/dronekeeper/hub.toml"]);
    let text = file.as_deref().map(read).transpose()?.unwrap_or_default();
    Ok((parse_hub(&text, file.as_deref(), &environment)?, file))
}

/// Judges the text of a hub's configuration.
///
/// # Errors
/// As [`load_hub`].
pub fn parse_hub(
    text: &str,
    file: Option<&Path>,
    environment: &[(String, String)],
) -> Result<HubConfig, ConfigError> {
    let shape = Shape { keys: HubConfig::KEYS };
    read_as(&shape, text, file, environment, HubConfig::judge)
}

/// The first file that somebody named, or that is there.
fn found(explicit: Option<&Path>, environment: &[(String, String)], usual: [&str; 2]) -> Option<PathBuf> {
    let named = environment.iter().find(|(name, _)| name == VARIABLE).map(|(_, path)| PathBuf::from(path));
    let usual = || usual.iter().map(PathBuf::from).find(|path| path.exists());
    explicit.map(Path::to_owned).or(named).or_else(usual)
}

/// Which sections a kind of configuration has, and which keys they have.
struct Shape {
    keys: &'static [(&'static str, &'static [&'static str])],
}

impl Shape {
    fn sections(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|(section, _)| *section)
    }
}

fn read_as<T: DeserializeOwned>(
    shape: &Shape,
    text: &str,
    file: Option<&Path>,
    environment: &[(String, String)],
    judge: impl Fn(&T) -> Vec<Complaint>,
) -> Result<T, ConfigError> {
    let failed = |complaints| ConfigError::new(file, text, complaints);
    let tree = DeTable::parse(text).map_err(|error| failed(vec![Complaint::of_toml(&error, text)]))?;
    let unknown = unknown_keys(shape, tree.get_ref());
    if !unknown.is_empty() {
        return Err(failed(unknown));
    }
    toml::from_str::<T>(text).map_err(|error| failed(vec![Complaint::of_toml(&error, text)]))?;
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| failed(vec![Complaint::of_toml(&error, text)]))?;
    let set: Vec<&(String, String)> =
        environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    for (name, value) in &set {
        overlay(shape, &mut table, name, value).map_err(|complaint| failed(vec![complaint]))?;
    }
    let config: T = toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        let from = set.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        failed(vec![Complaint::general(format!("{} (set by the environment: {from})", error.message()))])
    })?;
    let complaints = judge(&config);
    if complaints.is_empty() { Ok(config) } else { Err(failed(complaints)) }
}

/// Sets one key from the environment; the value is TOML, or else text.
fn overlay(shape: &Shape, table: &mut toml::Table, name: &str, value: &str) -> Result<(), Complaint> {
    let path = name.trim_start_matches(PREFIX).to_lowercase();
    let mut parts = path.split("__");
    let complain = |why: &str| Err(Complaint::general(format!("environment variable {name}: {why}")));
    let (Some(section), Some(key)) = (parts.next(), parts.next()) else {
        return complain("its form is DRONEKEEPER__SECTION__KEY");
    };
    if ["lane", "route", "queue", "notify"].contains(&section) {
        return complain("lists of sections are set in the file only");
    }
    let Some((_, keys)) = shape.keys.iter().find(|(known, _)| *known == section) else {
        return complain(&format!(
            "there is no section `{section}`{}",
            suggestion(section, shape.sections())
        ));
    };
    if !keys.contains(&key) {
        return complain(&format!("`{section}` has no key `{key}`{}", suggestion(key, keys.iter().copied())));
    }
    let parsed = toml::from_str::<toml::Table>(&format!("it = {value}")).ok();
    let parsed = parsed.and_then(|mut table| table.remove("it")).unwrap_or_else(|| value.into());
    let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let Some(section) = section.as_table_mut() else {
        return complain("its section is no table in the file");
    };
    match parts.next() {
        None => section.insert(key.to_owned(), parsed),
        Some(option) => {
            let options = section.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let Some(options) = options.as_table_mut() else { return complain("its key is no table") };
            options.insert(option.to_owned(), parsed)
        }
    };
    Ok(())
}

/// Every key that no section has, with the nearest that one has.
fn unknown_keys(shape: &Shape, tree: &DeTable<'_>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, value) in tree {
        let section = name.get_ref().as_ref();
        let Some((_, keys)) = shape.keys.iter().find(|(known, _)| *known == section) else {
            complaints.push(unknown(name.span(), section, shape.sections()));
            continue;
        };
        let tables: Vec<&DeTable<'_>> = match value.get_ref() {
            DeValue::Table(table) => vec![table],
            DeValue::Array(array) => array.iter().filter_map(|item| item.get_ref().as_table()).collect(),
            _ => Vec::new(),
        };
        for (key, _) in tables.into_iter().flatten() {
            if !keys.contains(&key.get_ref().as_ref()) {
                complaints.push(unknown(key.span(), key.get_ref(), keys.iter().copied()));
            }
        }
    }
    complaints
}

fn unknown<'a>(span: Range<usize>, key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Complaint {
    let near = suggestion(key, known.clone());
    let help = match near.is_empty() {
        true => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
        false => near.trim_start_matches("; ").to_owned(),
    };
    Complaint::at(span, format!("unknown key `{key}`"), &help)
}

/// `; did you mean …?`, or nothing when no known word is near.
fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known.map(|known| (strsim::jaro_winkler(word, known), known)).filter(|(near, _)| *near > 0.8);
    let nearest = near.max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}
