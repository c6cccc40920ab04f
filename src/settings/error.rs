//! Where a value came from, and what is said when it cannot be used.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::entry::{Refused, Which};

/// The layer a value came from, from the weakest to the strongest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line the value starts on, the first being 1.
        line: usize,
    },
    /// An environment variable.
    Environment,
    /// A flag of the command line.
    Flag,
}

impl Origin {
    /// The layer in one word, as `ringwire config` prints it.
    pub fn layer(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }

    /// The place to look at when `key` has the wrong value, in the words of that place.
    pub fn place(&self, key: &str) -> String {
        match self {
            Self::Default => "the default".to_owned(),
            Self::File { path, line } => format!("{}, line {line}", path.display()),
            Self::Environment => format!("environment variable {}", variable(key)),
            Self::Flag => format!("flag --{key}"),
        }
    }
}

/// Why the settings make no configuration. Each text names the key, the value, where it came from
/// and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// A key that no setting has.
    #[error("unknown {}", Unknown { name, origin, closest })]
    Unknown {
        /// The key, or the variable with its prefix.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// The most similar name that exists, in the same notation.
        closest: Option<String>,
    },
    /// A value that its setting does not take.
    #[error("{key} = {value:?} ({}): allowed is {allowed}", origin.place(key))]
    Impossible {
        /// The setting.
        key: &'static str,
        /// The value as it was written.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What may stand there.
        allowed: String,
    },
    /// Something within an entry, such as an option of a listener.
    #[error("{} ({}): {}", entry(key, refused), origin.place(key), refused.fault)]
    Entry {
        /// The setting, by its name in the layer that is wrong.
        key: &'static str,
        /// Which entry, and what is wrong with it.
        refused: Box<Refused>,
        /// Where it stands.
        origin: Origin,
    },
    /// Two values that are fine alone and not together.
    #[error("{0}")]
    Contradiction(String),
    /// The configuration file cannot be read.
    #[error("configuration file {}: {reason}", path.display())]
    File {
        /// The file as it was named.
        path: PathBuf,
        /// What the system or the TOML parser said.
        reason: String,
    },
}

fn entry(key: &str, refused: &Refused) -> String {
    match &refused.entry {
        Which::Text(text) => format!("{key} = {text:?}"),
        Which::Table { number: Some(number), .. } => format!("[[{key}]] entry {number}"),
        Which::Table { number: None, .. } => format!("[{key}]"),
    }
}

/// Says an unknown name in the notation of the layer it was found in.
struct Unknown<'a> {
    name: &'a str,
    origin: &'a Origin,
    closest: &'a Option<String>,
}

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::File { .. } => {
                write!(formatter, "key {} ({})", self.name, self.origin.place(self.name))?;
            }
            Origin::Environment => write!(formatter, "environment variable {}", self.name)?,
            Origin::Default | Origin::Flag => write!(formatter, "setting {}", self.name)?,
        }
        match self.closest {
            Some(closest) => write!(formatter, ": did you mean {closest}?"),
            None => write!(formatter, ": `ringwire config` lists what exists"),
        }
    }
}

/// The environment variable of the setting `key`: `max-message` is `RINGWIRE_MAX_MESSAGE`.
pub fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.replace('-', "_").to_ascii_uppercase())
}

/// What the names of all our environment variables start with.
pub(super) const VARIABLE_PREFIX: &str = "RINGWIRE_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_named_in_its_own_words() {
        let file = Origin::File { path: PathBuf::from("a.toml"), line: 3 };
        assert_eq!(file.place("shards"), "a.toml, line 3");
        assert_eq!(Origin::Flag.place("max-message"), "flag --max-message");
        let environment = Origin::Environment.place("max-message");
        assert_eq!(environment, "environment variable RINGWIRE_MAX_MESSAGE");
    }
}
