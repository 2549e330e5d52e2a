//! What a command says: on standard output what was asked for, on standard error what went wrong.
//!
//! Output that nobody can read ends the command: quietly when the reader went away, with a word when the disk is full.

use crate::status::Status;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Says one line.
pub fn line(text: impl Display) {
    end_at(writeln!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().lock().flush()));
}

/// Says some text, which ends its own lines.
pub fn text(text: impl Display) {
    end_at(write!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().lock().flush()));
}

/// Says what went wrong.
pub fn error(text: impl Display) {
    note(format_args!("error: {text}"));
}

/// Says one line on standard error; if nobody hears it, there is nobody to tell.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn end_at(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) => {
            if error.kind() != ErrorKind::BrokenPipe {
                self::error(format_args!("cannot write to standard output: {error}"));
            }
            std::process::exit(Status::Failed as i32);
        }
    }
}
