//! Which files of a job also go elsewhere, and under which key: `[[route]]`.
//!
//! A route has a pattern of paths, conditions, and a key; both speak of variables: what the path says (reference
//! A6.1: `package`, `timestamp`), what the job is called, and what its `keyval` file says. A file for which a
//! variable is not known is not routed. Keyvals come from the machine that ran the test: a key that they would
//! lead out of its place is refused.

use crate::lab::{Entry, Kind, RelPath};
use crate::planner::names::escape;
use crate::shown::Shown;
use crate::store::{Settings, Store, StoreError};
use crate::tree::{JobDir, Snapshot, TreeError};
use config::{Piece, RouteCompress};
use globset::{GlobBuilder, GlobMatcher};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The file of a job's keyvals, `key=value` a line (reference A6.2).
const KEYVAL: &[u8] = b"keyval";
/// Larger keyvals are cut, in bytes.
const LARGEST_KEYVAL: u64 = 1 << 20;
/// What `YYYY.MM.DD_HH.MM.SS` looks like (reference A6.1).
const TIMESTAMP: &[u8] = b"dddd.dd.dd_dd.dd.dd";

/// Every route of a drone, in order.
#[derive(Debug, Default)]
pub struct Routes(Vec<Route>);

/// Where files of one shape go.
#[derive(Debug)]
pub struct Route {
    pattern: GlobMatcher,
    /// The other store.
    pub store: Store,
    key: Vec<Piece>,
    /// Is the file compressed on its way?
    pub gzip: bool,
    when: Vec<(String, Condition)>,
}

/// What a variable's value must look like.
#[derive(Debug, Default)]
struct Condition {
    any: Vec<GlobMatcher>,
    none: Vec<GlobMatcher>,
}

/// One file that goes elsewhere.
#[derive(Debug)]
pub struct Errand<'a> {
    /// Position of the file in the snapshot's entries.
    pub index: usize,
    /// By which route.
    pub route: &'a Route,
    /// Under which key.
    pub key: String,
}

/// Why a route cannot be opened, or a file not be routed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RouteError {
    #[error("a route's pattern cannot be read")]
    Pattern(#[from] globset::Error),
    #[error("a route's store cannot work")]
    Store(#[from] StoreError),
    #[error("cannot read the job's keyvals")]
    Keyvals(#[from] TreeError),
    #[error("{path} would be routed to `{key}`, which is no key: mend the job's keyval file, or the route")]
    Key { path: RelPath, key: String },
}

impl Routes {
    /// Opens the store of each route; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`RouteError`] for a pattern or a store that cannot work.
    pub fn open(config: &config::Config) -> Result<Self, RouteError> {
        let open = |route: &config::Route| -> Result<Route, RouteError> {
            let options = if route.options.is_empty() { &config.store.options } else { &route.options };
            let store =
                config::Store { url: route.url.clone(), options: options.clone(), ..config.store.clone() };
            let conditions = route.when.iter().map(|(variable, patterns)| {
                let mut condition = Condition::default();
                for pattern in &patterns.0 {
                    match pattern.strip_prefix('!') {
                        Some(pattern) => condition.none.push(glob(pattern, false)?),
                        None => condition.any.push(glob(pattern, false)?),
                    }
                }
                Ok((variable.clone(), condition))
            });
            Ok(Route {
                pattern: glob(&route.pattern, true)?,
                store: Store::open(&Settings::of(&store))?,
                key: route.key.0.clone(),
                gzip: route.compress == RouteCompress::Gzip,
                when: conditions.collect::<Result<_, RouteError>>()?,
            })
        };
        config.routes.iter().map(open).collect::<Result<_, _>>().map(Routes)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of a job goes elsewhere.
    ///
    /// # Errors
    /// [`RouteError`] when the keyvals cannot be read, or lead to what is no key.
    pub fn errands(&self, dir: &JobDir, snapshot: &Snapshot) -> Result<Vec<Errand<'_>>, RouteError> {
        let mut errands = Vec::new();
        let mut keyvals = None;
        let files = snapshot.entries.iter().enumerate().filter(|(_, entry)| entry.kind == Kind::File);
        for (index, entry) in files {
            let path = OsStr::from_bytes(entry.path.as_bytes());
            for route in self.0.iter().filter(|route| route.pattern.is_match(path)) {
                let keyvals = match &keyvals {
                    Some(keyvals) => keyvals,
                    None => keyvals.insert(read_keyvals(dir, snapshot)?),
                };
                let variables = Variables { job: dir.path(), entry, keyvals };
                if let Some(key) = route.key(&variables)? {
                    errands.push(Errand { index, route, key });
                }
            }
        }
        Ok(errands)
    }
}

impl Route {
    /// The key of a file, unless a condition keeps it back or a variable is not known.
    fn key(&self, variables: &Variables<'_>) -> Result<Option<String>, RouteError> {
        let holds = |(name, condition): &(String, Condition)| {
            variables.value(name).is_some_and(|value| condition.holds(&value))
        };
        if !self.when.iter().all(holds) {
            return Ok(None);
        }
        let mut key = Vec::new();
        for piece in &self.key {
            match piece {
                Piece::Text(text) => key.extend_from_slice(text.as_bytes()),
                Piece::Variable(name) => match variables.value(name) {
                    Some(value) => key.extend(value),
                    None => return Ok(None),
                },
            }
        }
        let bad = |_| RouteError::Key { path: variables.entry.path.clone(), key: Shown(&key).to_string() };
        let path = RelPath::new(key.clone()).map_err(bad)?;
        Ok(Some(path.parts().map(escape).collect::<Vec<_>>().join("/")))
    }
}

impl Condition {
    fn holds(&self, value: &[u8]) -> bool {
        let matches = |pattern: &GlobMatcher| pattern.is_match(OsStr::from_bytes(value));
        (self.any.is_empty() || self.any.iter().any(matches)) && !self.none.iter().any(matches)
    }
}

/// What can be said of one file of one job.
struct Variables<'a> {
    job: &'a RelPath,
    entry: &'a Entry,
    keyvals: &'a HashMap<Vec<u8>, Vec<u8>>,
}

impl Variables<'_> {
    /// The variable's value; `None`: it is not known.
    fn value(&self, name: &str) -> Option<Vec<u8>> {
        let path = &self.entry.path;
        Some(match name {
            "job" => self.job.as_bytes().to_vec(),
            // `swarming-3e4391423c3a4311/1` is `swarming-3e4391423c3a4311-1`.
            "job_id" => self.job.parts().collect::<Vec<_>>().join(&b'-'),
            "path" => [self.job.as_bytes(), b"/", path.as_bytes()].concat(),
            "file" => path.name().to_vec(),
            "stem" => stem(path.name()).to_vec(),
            // Below a host's directory each test has its own.
            "package" => path.parts().nth(1)?.to_vec(),
            "timestamp" => path.parts().chain([stem(path.name())]).find(|part| is_timestamp(part))?.to_vec(),
            keyval => self.keyvals.get(keyval.as_bytes())?.clone(),
        })
    }
}

/// A name without its last ending.
fn stem(name: &[u8]) -> &[u8] {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    dot.and_then(|dot| name.get(..dot)).unwrap_or(name)
}

fn is_timestamp(part: &[u8]) -> bool {
    let alike =
        |(shape, byte): (&u8, &u8)| if *shape == b'd' { byte.is_ascii_digit() } else { shape == byte };
    part.len() == TIMESTAMP.len() && TIMESTAMP.iter().zip(part).all(alike)
}

/// The keyvals of a job: none without the file, or where something else stands in its place.
fn read_keyvals(dir: &JobDir, snapshot: &Snapshot) -> Result<HashMap<Vec<u8>, Vec<u8>>, TreeError> {
    let is_file = |entry: &&Entry| entry.path.as_bytes() == KEYVAL && entry.kind == Kind::File;
    if !snapshot.entries.iter().any(|entry| is_file(&entry)) {
        return Ok(HashMap::new());
    }
    let text = dir.small_file(KEYVAL, LARGEST_KEYVAL)?.unwrap_or_default();
    Ok(keyvals(&text))
}

/// `key=value`, with a comment after `#` in lines that begin so; the last value of a key counts.
fn keyvals(text: &[u8]) -> HashMap<Vec<u8>, Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let pair = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        Some((line.get(..at)?.trim_ascii().to_vec(), line.get(at + 1..)?.trim_ascii().to_vec()))
    };
    lines.filter(|line| !line.starts_with(b"#")).filter_map(pair).collect()
}

fn glob(pattern: &str, of_path: bool) -> Result<GlobMatcher, globset::Error> {
    let glob = GlobBuilder::new(pattern).literal_separator(of_path).backslash_escape(true).build()?;
    Ok(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CTS: &str = r#"
        [[route]]
        match = "*/cheets_CTS_*/results/*/*/test_result.xml"
        url = "memory://"
        key = "{package}/{job_id}_{timestamp}/{file}.gz"
        compress = "gzip"
        when = { build = ["*-release/*", "!trybot-*"], suite = ["arc-cts*", "arc-gts*"], path = "!*bvt-arc*" }

        [[route]]
        match = "*/cheets_CTS_*/results/*/*.zip"
        url = "memory://"
        key = "{build}/{parent_job_id}/{package}/{job_id}_{timestamp}/{file}"
        when = { package = "!*tradefed-run-collect-tests-only*" }
    "#;

    /// The keys of a job of that name with these files and keyvals.
    fn keys(job: &str, files: &[&str], keyvals: &str) -> Result<Vec<String>, String> {
        let lab = tempfile::tempdir().unwrap();
        let dir = lab.path().join(job);
        for file in files {
            fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            fs::write(dir.join(file), "x").unwrap();
        }
        fs::write(dir.join("keyval"), keyvals).unwrap();
        let config = config::parse(CTS, None, &[]).unwrap();
        let routes = Routes::open(&config).unwrap();
        let root = crate::tree::Root::open(lab.path()).unwrap();
        let dir = root.job(&RelPath::new(job.as_bytes()).unwrap()).unwrap();
        let snapshot = dir.snapshot(&Default::default()).unwrap();
        let errands = routes.errands(&dir, &snapshot).map_err(|error| error.to_string())?;
        Ok(errands.into_iter().map(|errand| errand.key).collect())
    }

    const XML: &str = "host/cheets_CTS_P.x/results/android-cts/2016.04.28_01.41.44/test_result.xml";
    const ZIP: &str = "host/cheets_CTS_P.x/results/android-cts/2016.04.28_01.41.44.zip";
    const VALID: &str = "build=link-release/R52-8340.0.0\nsuite = arc-cts-p\nparent_job_id=95\n";

    #[test]
    fn compliance_results_go_where_the_old_offloader_sent_them() {
        let zip = "link-release/R52-8340.0.0/95/cheets_CTS_P.x/317-test_2016.04.28_01.41.44/2016.04.28_01.41.44.zip";
        let xml = "cheets_CTS_P.x/317-test_2016.04.28_01.41.44/test_result.xml.gz";
        assert_eq!(keys("317-test", &[XML, ZIP], VALID).unwrap(), [zip, xml]);
        assert_eq!(
            keys("swarming-3e4391423c3a4310/1", &[XML], VALID).unwrap(),
            ["cheets_CTS_P.x/swarming-3e4391423c3a4310-1_2016.04.28_01.41.44/test_result.xml.gz"]
        );
    }

    #[test]
    fn only_valid_results_go_there() {
        let of = |keyvals: &str| keys("317-test", &[XML], keyvals).unwrap().len();
        for (keyvals, count) in [
            ("build=link-release/R1\nsuite=arc-gts-x", 1),
            ("build=trybot-link-release/R1\nsuite=arc-cts", 0),
            ("build=link-paladin/R1\nsuite=arc-cts", 0),
            ("build=link-release/R1\nsuite=dummy", 0),
            ("build=link-release/R1\n#suite=arc-cts", 0),
            ("suite=arc-cts", 0),
            ("", 0),
        ] {
            assert_eq!(of(keyvals), count, "{keyvals}");
        }
        assert!(keys("317-bvt-arc", &[XML], VALID).unwrap().is_empty());
        for path in [
            "host/cheets_CTS_P.x/results/android-cts/latest/test_result.xml",
            "host/cheets_CTS_P.x/results/android-cts/2016.04.28_01.41.4x/test_result.xml",
            "host/cheets_CTS_P.x/results/a/b/2016.04.28_01.41.44/test_result.xml",
            "host/cheets_CTS_tradefed-run-collect-tests-only/results/c/2016.04.28_01.41.44.zip",
        ] {
            assert!(keys("317-test", &[path], VALID).unwrap().is_empty(), "{path}");
        }
    }

    #[test]
    fn keyvals_lead_to_no_other_place() {
        for build in ["..", "a/../../b", "/etc", "a//b"] {
            let error = keys("317-test", &[ZIP], &format!("build={build}\nparent_job_id=1")).unwrap_err();
            assert!(error.contains("is no key"), "{error}");
        }
        let strange = keys("317-test", &[ZIP], "build=a b\x1b#\nparent_job_id=1").unwrap();
        assert!(strange[0].starts_with("a b%1b%23/1/"), "{strange:?}");
    }
}
