//! The kernel against the cases of Erlang/OTP's supervisor suite, and against our own.
//!
//! Numbers in doc comments are those of the table in docs/supervision.md. Children run on the test's own
//! thread and the clock is tokio's, paused: half an hour of backoff takes no time.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod stage;

mod backoff;
mod children;
mod escalation;
mod exits;
mod hangs;
mod messages;
mod pools;
mod restarts;
mod shutdown;
mod suite;
