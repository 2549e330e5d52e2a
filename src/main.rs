//! The life of the process, as a story: one TLS provider, panics that leave a trace, one command, one status.

use dronekeeper::cli;

fn main() {
    // Before the first connection: two providers in one binary would panic at it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    kernel::record_panics();
    let status = cli::main();
    // A thread that hangs in a system call would hold an ordinary return for ever.
    std::process::exit(status as i32);
}
