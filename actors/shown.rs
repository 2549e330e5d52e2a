//! Text from outside, made safe to show.
//!
//! A device under test chooses its file names, a server chooses its replies; both reach a log, a
//! terminal or a page only through [`Shown`], whose `Display` escapes whatever could move a cursor,
//! forge a line or reverse the reading order.

use std::fmt::{self, Display, Formatter, Write};

/// The most characters that one value may put on a line; the rest is cut and counted.
const LONGEST: usize = 400;

/// Bytes from outside; `Display` writes one line of harmless text and never fails on any input.
///
/// Printable characters stand for themselves, `\` is doubled, everything else is escaped as in a
/// Rust string (`\n`, `\u{202e}`), bytes that are not UTF-8 as `\xff`. Over 400 characters are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shown<'a>(pub &'a [u8]);

impl<'a> Shown<'a> {
    /// The same for text.
    pub fn text(text: &'a str) -> Self {
        Shown(text.as_bytes())
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut room = LONGEST;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if room == 0 {
                    return write!(f, "… ({} bytes)", self.0.len());
                }
                room -= 1;
                match character {
                    '"' | '\'' => f.write_char(character)?,
                    _ => write!(f, "{}", character.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                if room == 0 {
                    return write!(f, "… ({} bytes)", self.0.len());
                }
                room -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// An error and all that caused it, on one line, escaped: `cannot list x: permission denied`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        // Some libraries repeat their cause in their own message; once is enough.
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    Shown::text(&text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_line_or_move_the_cursor() {
        let hostile = b"a\nERROR \x1b[2J\xc2\x9b\xe2\x80\xae\xff\r\x07";
        let shown = Shown(hostile).to_string();
        assert_eq!(shown, r"a\nERROR \u{1b}[2J\u{9b}\u{202e}\xff\r\u{7}");
    }

    #[test]
    fn ordinary_names_stay_readable() {
        assert_eq!(Shown("debug/él og'1\".txt".as_bytes()).to_string(), "debug/él og'1\".txt");
    }

    #[test]
    fn an_endless_name_is_cut() {
        let long = vec![b'x'; 100_000];
        assert!(Shown(&long).to_string().chars().count() < LONGEST + 30);
    }
}
