//! The exit statuses, as the contract names them (after sysexits.h).

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All was done.
    Ok = 0,
    /// Something was not done, and was said.
    Failed = 1,
    /// The job is not known.
    UnknownJob = 66,
    /// No process answers.
    NotRunning = 69,
    /// The root supervisor gave up, or too many threads hang: start the process again.
    GaveUp = 70,
    /// A file could not be made, or is there already.
    CannotCreate = 73,
    /// Another process holds the state directory or the results directory.
    Held = 75,
    /// The configuration is not valid.
    Config = 78,
}
