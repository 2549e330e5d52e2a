//! What we promise: one file per promise, run against the real binary and real servers.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

#[path = "lab/bench.rs"]
mod bench;
#[path = "lab/collisions.rs"]
mod collisions;
#[path = "lab/commands.rs"]
mod commands;
#[path = "lab/compress.rs"]
mod compress;
#[path = "lab/containers.rs"]
mod containers;
#[path = "lab/crash.rs"]
mod crash;
#[path = "lab/docs.rs"]
mod docs;
#[path = "lab/engine.rs"]
mod engine;
#[path = "lab/fleet.rs"]
mod fleet;
#[path = "lab/hostile.rs"]
mod hostile;
#[path = "lab/hub.rs"]
mod hub;
#[path = "lab/injuries.rs"]
mod injuries;
#[path = "lab/input.rs"]
mod input;
#[path = "lab/keys.rs"]
mod keys;
#[path = "lab/lies.rs"]
mod lies;
#[path = "lab/mail.rs"]
mod mail;
#[path = "lab/modes.rs"]
mod modes;
#[path = "lab/notify.rs"]
mod notify;
#[path = "lab/offload.rs"]
mod offload;
#[path = "lab/packing.rs"]
mod packing;
#[path = "lab/page.rs"]
mod page;
#[path = "lab/queue.rs"]
mod queue;
#[path = "lab/reboot.rs"]
mod reboot;
#[path = "lab/reload.rs"]
mod reload;
#[path = "lab/resume.rs"]
mod resume;
#[path = "lab/routes.rs"]
mod routes;
#[path = "lab/rsync.rs"]
mod rsync;
#[path = "lab/setup.rs"]
mod setup;
#[path = "lab/takeover.rs"]
mod takeover;
