//! The world that the tests put around dronekeeper.
//!
//! - `bucket` what a store holds, and its checksums
//! - `faults` how it misbehaves, on request, and how often it really did
//! - `server` S3 and GCS's XML API over HTTP, on loopback
//! - `listing` and `text` how both write what they hold
//! - `web` an HTTP server whose answers the test makes
//! - `afe` an Autotest AFE that can be asked for finished jobs
//! - `wire` between two programs, to be cut
//! - `sink` an S3 endpoint for measurements, which keeps no bytes
//!
//! Nothing here shares code with the product. A broken assumption here ends the test: so it may panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod afe;
pub mod bucket;
pub mod faults;
pub mod listing;
pub mod server;
pub mod sink;
pub mod text;
pub mod web;
pub mod wire;

pub use faults::{Fault, What};
pub use server::{Flavour, Server};
pub use web::{Visit, Web};
pub use wire::Wire;
