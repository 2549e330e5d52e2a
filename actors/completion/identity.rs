//! Which job a directory's name tells of: the three kinds, with their ids as the old tools read them.

use crate::lab::RelPath;
use std::fmt::{self, Display, Formatter};

/// What a directory holds the results of (reference A1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobId {
    /// A job of the lab's database: `118-debug`, also below other directories.
    Job(String),
    /// A special task: `hosts/HOST/118-reset`, or a run of it on a shard one level deeper.
    Task(String),
    /// A Swarming run: `swarming-3e4391423c3a4311`, or `swarming-3e4391423c3a4310/1`.
    Run(String),
}

impl JobId {
    /// Reads a path; `None` when it tells of no job.
    pub fn of(path: &RelPath) -> Option<Self> {
        let parts: Vec<&str> =
            path.parts().map(|part| std::str::from_utf8(part).unwrap_or_default()).collect();
        match parts.as_slice() {
            ["hosts", _, task, ..] => number(task).map(JobId::Task),
            [.., top, run] if legacy(top).is_some() => modern(top, run).map(JobId::Run),
            [.., name] => {
                let run = legacy(name).filter(|id| !id.ends_with('0')).map(|id| JobId::Run(id.to_owned()));
                // Of several numbered levels the innermost names the job: `123-results/456-debug`.
                run.or_else(|| parts.iter().rev().find_map(|part| number(part)).map(JobId::Job))
            }
            [] => None,
        }
    }
}

impl Display for JobId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            JobId::Job(id) => write!(f, "job {id}"),
            JobId::Task(id) => write!(f, "special task {id}"),
            JobId::Run(id) => write!(f, "run {id}"),
        }
    }
}

/// The number of `118-debug`: digits, a dash, and something.
fn number(part: &str) -> Option<String> {
    let (id, rest) = part.split_once('-')?;
    let sound = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) && !rest.is_empty();
    sound.then(|| id.to_owned())
}

/// The id of `swarming-HEX`.
fn legacy(part: &str) -> Option<&str> {
    let id = part.strip_prefix("swarming-")?;
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (!id.is_empty() && id.bytes().all(digit)).then_some(id)
}

/// The id of `swarming-HEX0/D`: the last digit of the one is replaced by the other.
fn modern(top: &str, run: &str) -> Option<String> {
    let head = legacy(top)?.strip_suffix('0')?;
    let digit = |byte: u8| (b'1'..=b'9').contains(&byte) || (b'a'..=b'f').contains(&byte);
    (run.len() == 1 && run.bytes().all(digit)).then(|| format!("{head}{run}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str) -> Option<JobId> {
        JobId::of(&RelPath::new(path.as_bytes()).unwrap())
    }

    #[test]
    fn the_three_kinds_are_read_as_the_old_tools_read_them() {
        let (job, task, run) = (
            |id: &str| Some(JobId::Job(id.into())),
            |id: &str| Some(JobId::Task(id.into())),
            |id: &str| Some(JobId::Run(id.into())),
        );
        assert_eq!(id("118-fubar"), job("118"));
        assert_eq!(id("2032-chromeos-test"), job("2032"));
        assert_eq!(id("123-results/456-debug_user"), job("456"));
        assert_eq!(id("hosts/host1/118-reset"), task("118"));
        assert_eq!(id("hosts/34-x/118-reset"), task("118"));
        assert_eq!(id("hosts/host1/1-verify/20181503120000"), task("1"));
        assert_eq!(id("swarming-3e4391423c3a4311"), run("3e4391423c3a4311"));
        assert_eq!(id("swarming-3e4391423c3a4310/1"), run("3e4391423c3a4311"));
        assert_eq!(id("swarming-3e4391423c3a4310/f"), run("3e4391423c3a431f"));
    }

    #[test]
    fn what_tells_of_no_job_has_no_id() {
        for name in [
            "not-a-job",
            "118",
            "118-",
            "-debug",
            "hosts/host1/reset",
            "swarming-3e4391423c3a4310",
            "swarming-3e4391423c3a4310/0",
            "swarming-3e4391423c3a4310/10",
            "swarming-3e4391423c3a4311/b",
            "swarming-XYZ",
        ] {
            assert_eq!(id(name), None, "{name}");
        }
    }
}
