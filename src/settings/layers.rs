//! The layers of the configuration as they were given at the start, to be read again while the
//! server runs: the file may say something else then.

use std::ffi::OsString;

use super::{FILE_KEY, Flags, Origin, SettingError, Settings, variable};
use crate::config::entry::Written;
use crate::config::{Config, declarations};

/// Flags, environment, and the file that one of them names.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    flags: Flags,
    environment: Vec<(OsString, OsString)>,
    /// Keys of the settings that a layer had decided at the start.
    decided: Vec<&'static str>,
}

/// What a reload has found.
#[derive(Debug)]
pub struct Change {
    /// All settings.
    pub config: Config,
    /// The keys of those that have changed.
    pub keys: Vec<&'static str>,
}

/// Why a reload has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// No file was named at the start, and nothing else can have changed.
    #[error("there is no configuration file to read again: start the server with --config FILE")]
    NoFile,
    /// The settings make no configuration.
    #[error(transparent)]
    Refused(#[from] SettingError),
    /// They do, for another start.
    #[error("{} can be changed by a restart alone: take that back, or restart", .0.join(", "))]
    NotLive(Vec<&'static str>),
    /// They would do for a start without connections.
    #[error("{0}")]
    Unfit(String),
}

impl Layers {
    /// Takes the layers. `environment` is every variable of the process.
    pub fn new(flags: Flags, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { flags, environment: environment.into_iter().collect(), decided: Vec::new() }
    }

    /// Puts the layers over each other, for the start.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn load(&mut self) -> Result<Settings, SettingError> {
        let settings = self.read()?;
        self.decided = settings.origins.keys().copied().collect();
        Ok(settings)
    }

    fn read(&self) -> Result<Settings, SettingError> {
        Settings::load(self.flags.clone(), self.environment.iter().cloned())
    }

    /// Whether they name a file.
    pub fn have_file(&self) -> bool {
        let is_file = |(name, value): &(OsString, OsString)| {
            name.to_str() == Some(&variable(FILE_KEY)) && !value.is_empty()
        };
        self.flags.file.is_some() || self.environment.iter().any(is_file)
    }

    /// Reads the file again, for a server that runs with `current`.
    ///
    /// # Errors
    /// Nothing is to be changed then: the file is not there or wrong, or changes what only a
    /// restart can change.
    pub fn reload(&self, current: &Config) -> Result<Change, ReloadError> {
        if !self.have_file() {
            return Err(ReloadError::NoFile);
        }
        let settings = self.read()?;
        let mut config = settings.resolve()?;
        let (mut before, mut keys, mut fixed) = (current.clone(), Vec::new(), Vec::new());
        for setting in declarations() {
            let now = setting.value.read(&mut config);
            if now == setting.value.read(&mut before) {
                continue;
            }
            match setting.is_live {
                true => keys.push(setting.key),
                false if self.is_default(&settings, setting.key) => {
                    // It depends on the machine, and holds for as long as the server runs.
                    let items: Vec<_> =
                        setting.value.read(&mut before).into_iter().map(Written::Text).collect();
                    let is_written = setting.value.write(&mut config, &items);
                    debug_assert_eq!(is_written, Ok(()), "what was printed can be read");
                }
                false => fixed.push(setting.key),
            }
        }
        match fixed.is_empty() {
            true => Ok(Change { config, keys }),
            false => Err(ReloadError::NotLive(fixed)),
        }
    }

    /// Whether no layer decides or has decided this.
    fn is_default(&self, settings: &Settings, key: &'static str) -> bool {
        *settings.origin(key) == Origin::Default && !self.decided.contains(&key)
    }
}
