//! What is wrong with a configuration: one line a fault, made to be acted on.

use std::fmt;
use std::path::PathBuf;

use crate::text::is_invisible;

/// All faults of a configuration, in the order of the file. Displays as one line a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong, where it is said, and what to do. Displays as exactly one line,
/// `PLACE: KEY: MESSAGE; REMEDY`, whatever the values that it quotes contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// One of the stable codes: `config-invalid`, `key-missing`, `folder-missing`.
    pub code: &'static str,
    /// Where the value was said.
    pub place: Place,
    /// The key as a person writes it, `upload.part_size`; empty when no key is concerned.
    pub key: String,
    /// What is wrong. Never holds a key of the API.
    pub message: String,
    /// What to do; empty when the message says it.
    pub remedy: String,
}

/// Something to know that does not keep the service from running; the same line as a [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub Fault);

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, counted from 1; the column only where the line alone does not tell.
    Line {
        /// The configuration file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: Option<usize>,
    },
    /// The file as a whole.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// An option of the command line.
    Flag(&'static str),
    /// Nobody said it.
    Default,
}

impl Fault {
    /// One with the code `config-invalid`.
    pub fn new(place: Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: "config-invalid",
            place,
            key: key.into(),
            message: message.into(),
            remedy: String::new(),
        }
    }

    /// With a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.place.to_string();
        for (before, part) in [(": ", &self.key), (": ", &self.message), ("; ", &self.remedy)] {
            if !part.is_empty() {
                line.push_str(before);
                line.push_str(part);
            }
        }
        // A path or a value may hold a newline; the line stays one.
        line.chars().try_for_each(|c| {
            if c.is_control() || is_invisible(c) {
                write!(f, "{}", c.escape_debug())
            } else {
                write!(f, "{c}")
            }
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, column: None } => write!(f, "{}:{line}", file.display()),
            Self::Line { file, line, column: Some(column) } => {
                write!(f, "{}:{line}:{column}", file.display())
            }
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("configuration"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_even_if_a_value_holds_several() {
        let fault =
            Fault::new(Place::File("/etc/a\nb".into()), "folder.path", "\"x\ty\" is\nnot a\u{2028}path")
                .remedy("say another");
        assert_eq!(fault.to_string(), r#"/etc/a\nb: folder.path: "x\ty" is\nnot a\u{2028}path; say another"#);
    }

    #[test]
    fn several_faults_are_several_lines() {
        let fault = Fault::new(Place::Flag("--config"), "", "gone");
        assert_eq!(Faults(vec![fault.clone(), fault]).to_string(), "--config: gone\n--config: gone");
    }
}
