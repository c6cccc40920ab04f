//! A file that a setting names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// The path of a file, seen from the directory that the server is started in unless it begins with
/// a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(PathBuf);

/// A text that is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", FilePath::GRAMMAR)]
pub struct FilePathError;

impl FilePath {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "the path of a file, without ? and *";

    /// The path itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for FilePath {
    type Err = FilePathError;

    /// Refuses patterns: a shell that found no file for one hands it on as it is.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_path = !text.is_empty() && !text.contains(['?', '*', '\0']);
        is_path.then(|| Self(PathBuf::from(text))).ok_or(FilePathError)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_no_paths() {
        for text in ["cert.pem", "/etc/ringwire/key.pem", "a b.pem"] {
            assert_eq!(text.parse::<FilePath>().map(|path| path.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "*.pem", "cert?.pem", "a\0b"] {
            assert_eq!(text.parse::<FilePath>(), Err(FilePathError), "{text}");
        }
    }
}
