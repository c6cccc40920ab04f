//! The command line: what may be asked of `ringwire`, made from the declared settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};
use clap_complete::Shell;

use crate::bench::Arguments;
use crate::config::{Admin, Config, ListenAddress, Setting, Shape, declarations};
use crate::health::Question;
use crate::settings::{FILE_KEY, Flags, Layers, SettingError, Settings};
use crate::top;

/// What was asked for.
pub enum Action {
    /// Run the server.
    Serve {
        /// With these settings.
        config: Box<Config>,
        /// Where they came from.
        layers: Layers,
        /// What was found beside them and has no effect.
        warnings: Vec<SettingError>,
    },
    /// Measure a server.
    Bench(Box<Arguments>),
    /// Ask a running server how it is.
    Health(Question),
    /// Watch a running server.
    Top(top::Arguments),
    /// Print a text to standard output.
    Print {
        /// The text.
        text: Vec<u8>,
        /// What was found beside it and has no effect.
        warnings: Vec<SettingError>,
    },
}

impl Action {
    /// What `matches`, made by [`command`], asks for. `environment` is every variable of the
    /// process.
    ///
    /// # Errors
    /// Settings that make no configuration.
    pub fn from_matches(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingError> {
        match matches.subcommand() {
            Some((CONFIG, matches)) => Self::config(matches, environment),
            Some((BENCH, matches)) => {
                let arguments = Arguments::from_arg_matches(matches);
                Ok(Self::Bench(Box::new(arguments.unwrap_or_else(|error| error.exit()))))
            }
            Some((HEALTH, matches)) => Ok(Self::Health(Question {
                admin: admin(matches, environment)?,
                is_about_readiness: matches.get_flag(READY),
            })),
            Some((TOP, matches)) => Ok(Self::Top(top::Arguments {
                admin: admin(matches, environment)?,
                is_once: matches.get_flag(ONCE),
            })),
            Some((COMPLETIONS, matches)) => Ok(Self::print(completions(matches))),
            Some((MAN, _)) => Ok(Self::print(manual())),
            Some((_, matches)) => Self::serve(matches, environment),
            None => Self::serve(matches, environment),
        }
    }

    fn serve(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingError> {
        let mut layers = Layers::new(flags(matches), environment);
        let settings = layers.load()?;
        let config = Box::new(settings.resolve()?);
        Ok(Self::Serve { config, layers, warnings: settings.warnings().to_vec() })
    }

    fn config(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingError> {
        let mut flags = flags(matches);
        let checked = matches.get_one::<PathBuf>(CHECK).cloned();
        flags.file = checked.clone().or(flags.file);
        let settings = Settings::load(flags, environment)?;
        settings.resolve()?;
        let text = match checked {
            Some(path) => format!("{} is a configuration\n", path.display()),
            None => settings.to_toml(),
        };
        Ok(Self::Print { text: text.into_bytes(), warnings: settings.warnings().to_vec() })
    }

    fn print(text: Vec<u8>) -> Self {
        Self::Print { text, warnings: Vec::new() }
    }
}

/// Where the admin listener is: as it is said, or as the file and the environment have it.
fn admin(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Admin, SettingError> {
    if let Some(address) = matches.get_one::<ListenAddress>(ADDRESS) {
        return Ok(Admin::At(address.clone()));
    }
    let file = matches.get_one(FILE_KEY).cloned();
    let flags = Flags { file, values: Vec::new() };
    Ok(Settings::load(flags, environment)?.resolve()?.admin)
}

/// The whole command line.
pub fn command() -> Command {
    let serve = Command::new(SERVE).about("Run the server, which is also what no command does");
    let check = Arg::new(CHECK)
        .long(CHECK)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .conflicts_with(FILE_KEY)
        .help("Only tell whether this file, with the flags and the environment, would do");
    let config = Command::new(CONFIG)
        .about(
            "Print the effective configuration as a file for --config, with the origin of each \
                value",
        )
        .arg(check);
    let completions = Command::new(COMPLETIONS)
        .about("Print the completions of a shell to standard output")
        .arg(Arg::new(SHELL).required(true).value_parser(value_parser!(Shell)));
    let bench = Arguments::augment_args(Command::new(BENCH))
        .about("Measure a WebSocket server: this one, or any other")
        .after_help(BENCH_AFTER_HELP);
    let health = Command::new(HEALTH)
        .about("Ask the admin listener of a running server whether all its shards are alive")
        .after_help(HEALTH_AFTER_HELP)
        .arg(admin_address())
        .arg(
            Arg::new(READY)
                .long(READY)
                .action(ArgAction::SetTrue)
                .help("Ask instead whether an upgrade would be accepted now"),
        )
        .arg(file());
    let top = Command::new(TOP)
        .about("Watch a running server in the terminal: rates, latencies, shards, last ends")
        .after_help(TOP_AFTER_HELP)
        .arg(admin_address())
        .arg(
            Arg::new(ONCE)
                .long(ONCE)
                .action(ArgAction::SetTrue)
                .help("Print what is true now as text, as without a terminal to write to anyway"),
        )
        .arg(file());
    let man = Command::new(MAN).about("Print the manual page to standard output");
    with_settings(Command::new(NAME))
        .version(crate::VERSION)
        .about("WebSocket echo and broadcast server on io_uring, one pinned thread per core")
        .after_help(AFTER_HELP)
        .max_term_width(HELP_COLUMNS)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(with_settings(serve).after_help(AFTER_HELP))
        .subcommand(with_settings(config).after_help(AFTER_HELP))
        .subcommand(bench)
        .subcommand(health)
        .subcommand(top)
        .subcommand(completions)
        .subcommand(man)
}

fn with_settings(command: Command) -> Command {
    let defaults = &mut Config::default();
    let settings = declarations();
    command.arg(file()).args(settings.iter().map(|setting| argument(setting, defaults)))
}

fn admin_address() -> Arg {
    Arg::new(ADDRESS)
        .value_name("ADDRESS")
        .value_parser(value_parser!(ListenAddress))
        .help("The admin listener [default: as the file and the environment have --admin]")
}

fn file() -> Arg {
    Arg::new(FILE_KEY)
        .long(FILE_KEY)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("Read settings from this TOML file")
}

fn argument(setting: &Setting, defaults: &mut Config) -> Arg {
    let value = &setting.value;
    let default = match value.default_in_words {
        Some(words) => words.to_owned(),
        None => value.read(defaults).join(","),
    };
    let range = value.range.iter().map(|range| format!("; {range}")).collect::<String>();
    let live = if setting.is_live { "; live" } else { "" };
    let argument = Arg::new(setting.key)
        .long(setting.key)
        .value_name(setting.value_name)
        .help_heading(setting.heading.text())
        .help(format!("{} [default: {default}{range}{live}]", setting.help))
        .allow_negative_numbers(true);
    let argument = match value.shape {
        Shape::One => argument.action(ArgAction::Set),
        Shape::List => argument.action(ArgAction::Append).value_delimiter(','),
        Shape::Entries => argument.action(ArgAction::Append),
    };
    match value.choices.is_empty() {
        true => argument,
        false => argument.value_parser(PossibleValuesParser::new(value.choices.clone())),
    }
}

fn flags(matches: &ArgMatches) -> Flags {
    let is_given = |key: &str| matches.value_source(key) == Some(ValueSource::CommandLine);
    let texts = |key: &str| matches.get_many(key).into_iter().flatten().cloned().collect();
    let keys = declarations().into_iter().map(|setting| setting.key);
    Flags {
        file: matches.get_one(FILE_KEY).cloned(),
        values: keys.filter(|key| is_given(key)).map(|key| (key, texts(key))).collect(),
    }
}

fn completions(matches: &ArgMatches) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(&shell) = matches.get_one::<Shell>(SHELL) {
        clap_complete::generate(shell, &mut command(), NAME, &mut text);
    }
    text
}

fn manual() -> Vec<u8> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command()).render(&mut text).expect("a vector takes every write");
    text
}

const NAME: &str = "ringwire";
const SERVE: &str = "serve";
const CONFIG: &str = "config";
const BENCH: &str = "bench";
const HEALTH: &str = "health";
const ADDRESS: &str = "address";
const READY: &str = "ready";
const TOP: &str = "top";
const ONCE: &str = "once";
const COMPLETIONS: &str = "completions";
const MAN: &str = "man";
const CHECK: &str = "check";
const SHELL: &str = "shell";
const HELP_COLUMNS: usize = 100;
const AFTER_HELP: &str = "\
Every option is also an environment variable (--max-message is RINGWIRE_MAX_MESSAGE) and, --config \
aside, a key of the file (max-message = \"1MiB\"). A flag wins over the environment, the \
environment over the file. A live setting is changed by a new file and SIGHUP, or POST /reload on \
the admin listener, while the server runs. Lists are repeated or separated by commas; in the file \
they are arrays. Sizes are bytes or have a unit (64KiB, 1MiB, 1GiB), times always have one (250ms, \
10s, 2m, 1h).

Options of a listener or a mount follow it behind commas: --listen \
unix:/run/a.sock,mode=660,backlog=64 or --mount /chat=broadcast,topic=lobby,exclude_self. What \
follows a comma and is no NAME or NAME=VALUE is the next listener or mount. A comma within a path \
or a topic is doubled (unix:/run/a,,b.sock). The environment and the arrays of the file are \
written in the same way; in the file each may be a table as well, with nothing doubled: \
[[listen]] with address, backlog and mode, [[mounts]] with path, service, topic and exclude_self, \
code and reason of close, and with sockjs also websocket, cookie, response_limit, heartbeat, \
disconnect_delay and client_url. A mount of broadcast with topic=lobby is the topic of \
/broadcast/lobby; one at /rooms/{topic} takes the topic from the path. exclude_self holds where \
the query says nothing else.

Exit status: 0 after a stop by signal, 1 when the server fails or a second signal ends it at once, 2
when a setting is refused.";
const HEALTH_AFTER_HELP: &str = "\
The answer goes to standard output.

Exit status: 0 when all is well, 1 when it is not or nobody answers within 5 s, 2 when a setting is
refused.";
const TOP_AFTER_HELP: &str = "\
Keys: q or Ctrl-C ends, Tab and the arrows left and right choose a table, up and down move in it, \
p pauses, ? tells the keys.

Exit status: 0 when it was ended, 1 when nobody answers within 5 s at the beginning, 2 when a \
setting is refused.";
const BENCH_AFTER_HELP: &str = "\
Sizes are bytes or have a unit (20, 1KiB, 16MiB), times always have one (250ms, 10s, 2m, 1h).

Exit status: 0 when the server did all it should, 1 when connections failed, content was wrong or \
messages were lost, 2 when an option is refused or the run could not be made. SIGINT (Ctrl-C) and \
SIGTERM end a run early: the results so far are printed and written, and the status is 130 or 143; \
a second one ends it at once.";

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Config {
        let matches = command().try_get_matches_from(line.split_whitespace()).expect("accepted");
        match Action::from_matches(&matches, []) {
            Ok(Action::Serve { config, .. }) => *config,
            Ok(_) => panic!("{line}: does not serve"),
            Err(error) => panic!("{line}: {error}"),
        }
    }

    #[test]
    fn no_command_is_serve() {
        assert_eq!(config("ringwire"), Config::default());
        assert_eq!(config("ringwire serve"), Config::default());
        assert_eq!(config("ringwire serve --shards 7"), config("ringwire --shards 7"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
