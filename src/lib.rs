//! The composition root: names, wires, starts and stops; decides nothing.
//!
//! - `drone` the drone's supervision tree, as data: the file to read first
//! - `house` what a process holds for life: locks, store, threads
//! - `life` the life of a drone's process, from start to exit status; `hub` the same of a hub
//! - `reload` the configuration, read again while the process runs
//! - `offload` one-shot: some directories, now
//! - `demo` a lab in one process
//! - `worker` the work of queues, in a process of its own
//! - `logging` one line per event: in text, in JSON, for the journal
//! - `say` what a command says to its user
//! - `cli` one file per command

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod cli;
pub mod demo;
pub mod drone;
pub mod house;
pub mod hub;
pub mod life;
pub mod logging;
pub mod notify;
pub mod offload;
pub mod reload;
pub mod say;
pub mod status;
pub mod worker;
