//! The sink as a program: `sink [--port N] [--latency-ms N] [--threads N]`.
//!
//! Prints its URL when it listens, and ends with its standard input.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a bench reads it; there is nothing to lose

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let (mut port, mut latency, mut threads) = (0, 0, 2);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u16>().ok());
        match (name.as_str(), value) {
            ("--port", Some(value)) => port = value,
            ("--latency-ms", Some(value)) => latency = value,
            ("--threads", Some(value)) if value > 0 => threads = value,
            _ => {
                eprintln!("usage: sink [--port N] [--latency-ms N] [--threads N]");
                return ExitCode::from(64);
            }
        }
    }
    match stage::sink::Sink::start(port, Duration::from_millis(latency.into()), threads.into()) {
        Ok(sink) => {
            println!("{}", sink.url());
            match std::io::stdin().read_to_end(&mut Vec::new()) {
                Ok(_) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("sink: cannot listen on port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}
