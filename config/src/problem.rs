use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

/// One wrong value: which key, what it says, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    /// As the file has it; `…` for a secret.
    pub value: String,
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} = {}: {}", self.key, self.value, self.fix)
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Error {
    Unreadable(PathBuf, std::io::Error),
    /// Not TOML, an unknown key, or a value of the wrong type. The message names the line.
    Syntax(String),
    /// At least one.
    Invalid(Vec<Problem>),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable(path, error) => {
                let fix = match error.kind() {
                    ErrorKind::PermissionDenied => "the user that this program runs as has to be able to read it",
                    _ => "give the file's path with --config",
                };
                write!(formatter, "{}: {error}; {fix}", path.display())
            }
            Error::Syntax(message) => formatter.write_str(message.trim_end()),
            Error::Invalid(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(formatter, "{separator}{problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {}
