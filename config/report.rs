//! Complaints about a configuration, shown where they are: file, line, column, the line itself, the way out.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    span: Option<Range<usize>>,
    text: String,
    help: String,
}

impl Complaint {
    /// At a place in the file.
    pub fn at(span: Range<usize>, text: String, help: &str) -> Self {
        Complaint { span: Some(span), text, help: help.to_owned() }
    }

    /// About the whole.
    pub fn general(text: String) -> Self {
        Complaint { span: None, text, help: String::new() }
    }

    /// About a key, wherever it is set.
    pub fn key(key: &str, text: &str, help: &str) -> Self {
        Complaint { span: None, text: format!("`{key}` {text}"), help: help.to_owned() }
    }

    /// What the parser says, without its own drawing.
    pub fn of_toml(error: &toml::de::Error, text: &str) -> Self {
        let span = error.span().filter(|span| span.start <= text.len());
        Complaint { span, text: error.message().trim_end().replace('\n', "; "), help: String::new() }
    }
}

/// Everything that is wrong with a configuration. `Display` writes it for people.
#[derive(Debug)]
pub struct ConfigError {
    file: Option<PathBuf>,
    text: String,
    complaints: Vec<Complaint>,
}

impl ConfigError {
    /// Complaints about a file's text.
    pub fn new(file: Option<&Path>, text: &str, complaints: Vec<Complaint>) -> Self {
        ConfigError { file: file.map(Path::to_owned), text: text.to_owned(), complaints }
    }

    /// The complaints in one line, without place and help.
    pub(crate) fn brief(&self) -> String {
        self.complaints.iter().map(|complaint| complaint.text.as_str()).collect::<Vec<_>>().join("; ")
    }

    fn place(&self, f: &mut Formatter<'_>, span: &Range<usize>) -> fmt::Result {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        let width =
            self.text.get(span.clone()).map_or(1, |text| text.lines().next().unwrap_or("").chars().count());
        let file = self.file.as_deref().unwrap_or(Path::new("configuration"));
        let margin = " ".repeat(line.to_string().len());
        writeln!(f, "{margin}--> {}:{line}:{column}", file.display())?;
        writeln!(f, "{margin} |\n{line} | {source}")?;
        writeln!(f, "{margin} | {}{}", " ".repeat(column - 1), "^".repeat(width.max(1)))
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for complaint in &self.complaints {
            writeln!(f, "error: {}", complaint.text)?;
            match (&complaint.span, &self.file) {
                (Some(span), _) => self.place(f, span)?,
                (None, Some(file)) => writeln!(f, " --> {}", file.display())?,
                (None, None) => {}
            }
            if !complaint.help.is_empty() {
                writeln!(f, "  = help: {}", complaint.help)?;
            }
        }
        let count = self.complaints.len();
        write!(f, "{count} error{}: the configuration is not valid", if count == 1 { "" } else { "s" })
    }
}

impl std::error::Error for ConfigError {}
