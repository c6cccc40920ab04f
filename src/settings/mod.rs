//! The layers under the configuration: flag over environment over file over default. A value is
//! judged where it is read, also when a stronger layer hides it, so that a mistake does not wait
//! for the day the stronger layer goes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub use error::{Origin, SettingError, variable};
pub use layers::{Change, Layers, ReloadError};
pub use trust_files::{TrustFileError, read_trust};

use crate::config::entry::{Which, Written};
use crate::config::{Config, Refusal, Setting, Shape, closest, declarations};

mod error;
mod file;
mod layers;
mod relations;
#[cfg(test)]
mod tests;
mod trust_files;

/// A value for each setting, with the layer it came from.
pub struct Settings {
    declared: Vec<Setting>,
    config: Config,
    origins: HashMap<&'static str, Origin>,
    warnings: Vec<SettingError>,
}

/// What the command line says: the file, and each flag given with its values.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The value of `--config`.
    pub file: Option<PathBuf>,
    /// Keys of settings with the texts given for them.
    pub values: Vec<(&'static str, Vec<String>)>,
}

impl Default for Settings {
    /// Every setting as it is when nobody sets it.
    fn default() -> Self {
        Self {
            declared: declarations(),
            config: Config::default(),
            origins: HashMap::new(),
            warnings: Vec::new(),
        }
    }
}

impl Settings {
    /// Puts the layers over each other. `environment` is every variable of the process; those that
    /// do not start with `RINGWIRE_` are none of ours, and of those that do, others than the person
    /// who starts the server may have set some: an unknown one is a [warning](Self::warnings).
    ///
    /// # Errors
    /// A file that cannot be read, a key that does not exist, a value that its setting does not
    /// take.
    pub fn load(
        flags: Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingError> {
        let mut settings = Self::default();
        let mut variables = settings.own_variables(environment);
        let file_variable = variables.remove(FILE_KEY).filter(|path| !path.is_empty());
        if let Some(path) = flags.file.or(file_variable.map(PathBuf::from)) {
            settings.apply_file(&path, &file::read(&path)?)?;
        }
        settings.apply_environment(&variables)?;
        for (key, items) in flags.values {
            let items: Vec<_> = items.into_iter().map(Written::Text).collect();
            settings.set(key, &items, Origin::Flag)?;
        }
        Ok(settings)
    }

    /// The configuration, with every relation between settings checked.
    ///
    /// # Errors
    /// Two values that contradict each other.
    pub fn resolve(&self) -> Result<Config, SettingError> {
        relations::check(self, &self.config)?;
        Ok(self.config.clone())
    }

    /// What was found and has no effect: variables that look like ours and are not.
    pub fn warnings(&self) -> &[SettingError] {
        &self.warnings
    }

    /// The layer that decided `key`.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The effective values as a TOML file that says the same when it is read, each with its
    /// meaning above it and its layer behind it.
    pub fn to_toml(&self) -> String {
        let mut text = format!("# Effective configuration of ringwire {}\n", crate::VERSION);
        let mut heading = None;
        for setting in &self.declared {
            if heading != Some(setting.heading) {
                heading = Some(setting.heading);
                let _ = write!(text, "\n# --- {} ---\n", setting.heading.text());
            }
            let (key, help) = (setting.file_key(), setting.help);
            let (value, layer) = (self.toml_value(setting), self.origin(setting.key).layer());
            let _ = write!(text, "\n# {help}.\n{key} = {value} # {layer}\n");
        }
        text
    }

    /// A key with its value and where that came from, for a text about it.
    fn describe(&self, key: &str) -> String {
        let value = self.declared.iter().find(|setting| setting.key == key);
        let value = value.map_or_else(String::new, |setting| self.toml_value(setting));
        format!("{key} = {value} ({})", self.origin(key).place(key))
    }

    fn toml_value(&self, setting: &Setting) -> String {
        let items = setting.value.read(&mut self.config.clone());
        let quoted = |item: &String| toml::Value::String(item.clone()).to_string();
        match items.as_slice() {
            [item] if setting.value.shape == Shape::One && is_bare(item) => item.clone(),
            [item] if setting.value.shape == Shape::One => quoted(item),
            items => format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        }
    }

    /// Our variables by their keys; others of our name become warnings.
    fn own_variables(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> HashMap<&'static str, OsString> {
        let mut own = HashMap::new();
        for (name, value) in environment {
            let name = name.to_string_lossy();
            if !name.starts_with(error::VARIABLE_PREFIX) {
                continue;
            }
            let mut keys = self.declared.iter().map(|setting| setting.key).chain([FILE_KEY]);
            let Some(key) = keys.find(|key| variable(key) == name) else {
                let variables = self.declared.iter().map(|setting| variable(setting.key));
                let closest = closest(&name, variables.chain([variable(FILE_KEY)]));
                if !is_service_link(&name, &value) {
                    let (name, origin) = (name.into_owned(), Origin::Environment);
                    self.warnings.push(SettingError::Unknown { name, origin, closest });
                }
                continue;
            };
            own.insert(key, value);
        }
        // The order of the environment is nobody's choice.
        self.warnings.sort_by_key(ToString::to_string);
        own
    }

    /// Puts what a configuration file says over what there is; `path` is how to call the file.
    ///
    /// # Errors
    /// A text that is not TOML, a key that does not exist, a value that its setting does not take.
    pub fn apply_file(&mut self, path: &Path, source: &str) -> Result<(), SettingError> {
        for entry in file::parse(path, source)? {
            let origin = Origin::File { path: path.to_owned(), line: entry.line };
            let known = self.declared.iter().find(|setting| setting.file_key() == entry.key);
            let Some(setting) = known else {
                let keys = self.declared.iter().map(Setting::file_key);
                let closest = closest(&entry.key, keys).map(str::to_owned);
                return Err(SettingError::Unknown { name: entry.key, origin, closest });
            };
            match entry.items {
                Ok(items) => self.set(setting.key, &items, origin)?,
                Err(spelling) => return Err(impossible(setting, spelling, origin)),
            }
        }
        Ok(())
    }

    fn apply_environment(
        &mut self,
        variables: &HashMap<&'static str, OsString>,
    ) -> Result<(), SettingError> {
        let mut given = Vec::new();
        for setting in &self.declared {
            let Some(value) = variables.get(setting.key) else {
                continue;
            };
            let Some(value) = value.to_str() else {
                let spelling = value.to_string_lossy().into_owned();
                return Err(impossible(setting, spelling, Origin::Environment));
            };
            let items: Vec<_> = match setting.value.shape {
                Shape::List => value.split(',').collect(),
                Shape::One | Shape::Entries => vec![value],
            };
            let written = |item: &str| Written::Text(item.to_owned());
            given.push((setting.key, items.into_iter().map(written).collect::<Vec<_>>()));
        }
        given.iter().try_for_each(|(key, items)| self.set(key, items, Origin::Environment))
    }

    fn set(
        &mut self,
        key: &'static str,
        items: &[Written],
        origin: Origin,
    ) -> Result<(), SettingError> {
        let Some(setting) = self.declared.iter().find(|setting| setting.key == key) else {
            return Err(SettingError::Unknown { name: key.to_owned(), origin, closest: None });
        };
        match setting.value.write(&mut self.config, items) {
            Ok(()) => {
                self.origins.insert(key, origin);
                Ok(())
            }
            Err(Refusal::Value(value)) => Err(impossible(setting, value, origin)),
            Err(Refusal::Entry(refused)) => {
                let origin = match (&refused.entry, origin) {
                    (Which::Table { line, .. }, Origin::File { path, .. }) => {
                        Origin::File { path, line: *line }
                    }
                    (_, origin) => origin,
                };
                let key = key_in(setting, &origin);
                Err(SettingError::Entry { key, refused: Box::new(refused), origin })
            }
        }
    }
}

fn impossible(setting: &Setting, value: String, origin: Origin) -> SettingError {
    let allowed = setting.value.allowed.clone();
    SettingError::Impossible { key: key_in(setting, &origin), value, origin, allowed }
}

/// What a setting is called in the layer of `origin`.
fn key_in(setting: &Setting, origin: &Origin) -> &'static str {
    match origin {
        Origin::File { .. } => setting.file_key(),
        Origin::Default | Origin::Environment | Origin::Flag => setting.key,
    }
}

/// Whether a variable with our prefix is one that Kubernetes gives to all containers beside a
/// Service called `ringwire` or `ringwire-...`, or Docker to those linked to such a container: its
/// host and ports (Kubernetes, "Accessing the Service", environment variables).
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let names_port = |(_, rest): (&str, &str)| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(is_number)
            && parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.rsplit_once("_PORT_").is_some_and(names_port)
        || name.split_once("_PORT_").is_some_and(names_port)
        // Such as tcp://10.0.0.1:7071; a number would be somebody's idea of --listen.
        || (name.ends_with("_PORT") && value.to_string_lossy().contains("://"))
}

fn is_bare(item: &str) -> bool {
    matches!(item, "true" | "false") || item.parse::<u64>().is_ok()
}

/// The key of `--config` and `RINGWIRE_CONFIG`, which is no setting as a file cannot name itself.
pub const FILE_KEY: &str = "config";
