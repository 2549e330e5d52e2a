//! A sink for measurements: takes S3 writes, answers with right checksums, keeps no bytes of results.
//!
//! `sink PORT [LATENCY_MS]`; ends with its standard input.

use std::io::Read;
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap_or_default());
    let (port, latency) = (arguments.next().unwrap_or(0), arguments.next().unwrap_or(0));
    let server = stage::Server::sink(port.try_into().unwrap_or(0), Duration::from_millis(latency));
    println!("{}", server.url());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
