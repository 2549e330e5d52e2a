//! Who does it: one actor a file, and beside each the functions that it alone uses.
//!
//! The stages of a lane, in the order of the flow:
//! - `scanner` finds jobs, and offers those that are due
//! - `completion` learns which have finished
//! - `planner` claims a place in the store, decides what goes where, lets jobs go in order
//! - `uploader` sends the files
//! - `verifier` proves that they arrived, publishes the manifest
//! - `pruner` proves it again, and deletes
//!
//! Beside them:
//! - `inquirer` asks the hub which jobs have finished
//! - `heartbeat` fetches jobs and hosts from the hub, reports finished ones
//! - `disk` watches the disk, and presses when it fills
//! - `janitor` ends what crashes left behind
//! - `ledger` what was tried and what came of it; a memory, never the authority
//! - `mailer` tells on-call of trouble, and that it is over
//! - `notifier` tells other programs of offloaded jobs
//! - `launcher` the right number of healthy test containers
//! - `queue` post-processing from durable queues
//! - `console` the control socket and the admin address
//!
//! What they share:
//! - `lab` the nouns: paths, kinds, digests, identities
//! - `manifest` claim and manifest, the store's word on a job
//! - `store` the object stores behind one face, and what each can prove
//! - `routes` which files also go elsewhere
//! - `link` how the central server that knows the jobs is asked
//! - `roster` the jobs and hosts that the hub gave
//! - `hub` the central server itself, a process of its own
//! - `tree` the results directory, by descriptor only
//! - `site`, `lane` what the stages work on; `holds` who has which job in hand
//! - `trouble` the store's trouble, said once; `progress` who is told how far it is
//! - `outlet` how the sending of mail and notifications goes
//! - `base` SQLite or PostgreSQL, asked with the same statements; `kept` files of ours
//! - `group` child processes and all that they started
//! - `metrics` Prometheus' text format, and what a drone says in it
//! - `shown` text from outside, made safe to show
//! - `audit` verify and restore: the store against its manifests

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod audit;
pub mod base;
pub mod completion;
pub mod console;
pub mod disk;
pub mod group;
pub mod heartbeat;
pub mod holds;
pub mod hub;
pub mod inquirer;
pub mod janitor;
pub mod kept;
pub mod lab;
pub mod lane;
pub mod launcher;
pub mod ledger;
pub mod link;
pub mod mailer;
pub mod manifest;
pub mod metrics;
pub mod notifier;
pub mod outlet;
pub mod packing;
pub mod planner;
pub mod progress;
pub mod pruner;
pub mod queue;
pub mod roster;
pub mod routes;
pub mod scanner;
pub mod shown;
pub mod site;
pub mod store;
pub mod tree;
pub mod trouble;
pub mod uploader;
pub mod verifier;
