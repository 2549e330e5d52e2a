//! Who does it: one actor a file, and beside each the functions that it alone uses.
//!
//! - `lab` the shared nouns: paths, kinds, digests, identities
//! - `manifest` claim and manifest, the store's word on a job
//! - `shown` text from outside, made safe to show
//! - `ledger` what was tried and what came of it; a memory, never the authority
//! - `store` the object stores behind one face, and what each can prove
//! - `tree` the results directory: walk, snapshot, read, trash, unlink, all by descriptor

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod lab;
pub mod manifest;
pub mod shown;
