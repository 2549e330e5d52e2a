//! A supervision tree for actix actors.
//!
//! An actor may panic, fail, stop or hang; its supervisor learns why, and starts it afresh on a new
//! mailbox behind the same [`ChildRef`]. Too many restarts within a window, and the supervisor gives up to
//! its own parent. Children start in order and stop in reverse, each within its own time. The rules are
//! those of Erlang/OTP's supervisor where actix allows it; `docs/supervision.md` says where it does not.
//!
//! - `exit` why a child is no longer running
//! - `policy` what a supervisor does about it: strategies, windows, pauses
//! - `address` stable addresses, and what becomes of a message
//! - `child` one child: how it is made, driven and stopped
//! - `supervisor` a group of children
//! - `pool` a number of equal children that grows and shrinks
//! - `census` who is running, for those who ask
//! - `tree` the whole, from outside

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod address;
mod census;
mod child;
mod exit;
mod policy;
mod pool;
mod supervisor;
mod tree;

pub use address::{ChildRef, Next, Unanswered};
pub use census::{Census, ChildReport, State};
pub use child::{ChildSpec, Outline};
pub use exit::{Exit, Verdict, record_panics};
pub use policy::{Backoff, OnExhaustion, Policy, Restart, Strategy, escalates_in_time, jittered};
pub use pool::PoolRef;
pub use supervisor::{
    Count, DeleteChild, Refusal, Renew, RestartChild, StartChild, Supervisor, TerminateChild,
};
pub use tree::{Ended, Tree};

#[cfg(panic = "abort")]
compile_error!("supervision needs unwinding: build with panic = \"unwind\"");
