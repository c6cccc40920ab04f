//! Where the access log goes, and of how many connections it tells.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use super::listen::is_socket_path;

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere: there is none.
    #[default]
    Off,
    /// To the end of a file, which is made if it is not there.
    File(PathBuf),
    /// To whoever listens on a Unix stream socket.
    Unix(PathBuf),
}

/// The text says no place for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", AccessLog::GRAMMAR)]
pub struct AccessLogError;

impl AccessLog {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str =
        "a path that begins with / or ./, unix:PATH for a socket, or off";
}

impl FromStr for AccessLog {
    type Err = AccessLogError;

    /// Reads `off`, a path or the path of a socket.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNIX) {
            Some(path) if is_socket_path(path) => Ok(Self::Unix(path.into())),
            Some(_) => Err(AccessLogError),
            None if text == OFF => Ok(Self::Off),
            None if is_path(text) => Ok(Self::File(text.into())),
            None => Err(AccessLogError),
        }
    }
}

impl fmt::Display for AccessLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str(OFF),
            Self::File(path) => path.display().fmt(formatter),
            Self::Unix(path) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

/// One that begins so that `of` is a slip and no file.
fn is_path(text: &str) -> bool {
    (text.starts_with('/') || text.starts_with("./")) && !text.contains('\0')
}

/// A part of a whole, to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    millionths: u32,
}

/// The text says no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", Share::GRAMMAR)]
pub struct ShareError;

impl Share {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a number from 0 to 1, such as 0.01";

    /// The whole.
    pub const WHOLE: Self = Self { millionths: WHOLE };

    /// Whether something belongs to this share that was `drawn` at random among all numbers.
    pub fn includes(self, drawn: u64) -> bool {
        // The upper half of it, so that the product has room.
        (drawn >> 32) * u64::from(WHOLE) < u64::from(self.millionths) << 32
    }
}

impl FromStr for Share {
    type Err = ShareError;

    /// Reads a number from 0 to 1.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: f64 = text.parse().map_err(|_| ShareError)?;
        match (0.0..=1.0).contains(&number) {
            true => Ok(Self { millionths: (number * f64::from(WHOLE)).round() as u32 }),
            false => Err(ShareError),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.millionths) / f64::from(WHOLE)).fmt(formatter)
    }
}

const OFF: &str = "off";
const UNIX: &str = "unix:";
const WHOLE: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["off", "/var/log/a.log", "./a.log", "unix:/run/a.sock"] {
            assert_eq!(text.parse::<AccessLog>().unwrap().to_string(), text);
        }
        for text in ["", "of", "a/b", "unix:", "/a\0b"] {
            assert_eq!(text.parse::<AccessLog>(), Err(AccessLogError), "{text:?}");
        }
        for text in ["0", "1", "0.5", "0.000001"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in ["", "-0.1", "1.01", "NaN", "half", "50%"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError), "{text:?}");
        }
    }

    #[test]
    fn a_share_includes_as_many_of_all_numbers() {
        let share = |text: &str| text.parse::<Share>().unwrap();
        for drawn in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(Share::WHOLE.includes(drawn) && !share("0").includes(drawn));
        }
        let quarter = share("0.25");
        assert!(quarter.includes(u64::MAX / 4 - (1 << 32)));
        assert!(!quarter.includes(u64::MAX / 4 + (1 << 32)));
    }
}
