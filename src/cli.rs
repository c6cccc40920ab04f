//! The command line: what may be asked of `ringwire`, made from the declared settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};
use clap_complete::Shell;

use crate::bench::Arguments;
use crate::config::Config;
use crate::settings::{FILE_KEY, Flags, Setting, SettingError, Settings, declarations};

/// What was asked for.
pub enum Action {
    /// Run the server.
    Serve {
        /// With these settings.
        config: Box<Config>,
        /// What was found beside them and has no effect.
        warnings: Vec<SettingError>,
    },
    /// Measure a server.
    Bench(Box<Arguments>),
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
            Some((CONFIG, matches)) => {
                let settings = Settings::load(flags(matches), environment)?;
                settings.resolve()?;
                let text = settings.to_toml().into_bytes();
                Ok(Self::Print { text, warnings: settings.warnings().to_vec() })
            }
            Some((BENCH, matches)) => {
                let arguments = Arguments::from_arg_matches(matches);
                Ok(Self::Bench(Box::new(arguments.unwrap_or_else(|error| error.exit()))))
            }
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
        let settings = Settings::load(flags(matches), environment)?;
        let config = Box::new(settings.resolve()?);
        Ok(Self::Serve { config, warnings: settings.warnings().to_vec() })
    }

    fn print(text: Vec<u8>) -> Self {
        Self::Print { text, warnings: Vec::new() }
    }
}

/// The whole command line.
pub fn command() -> Command {
    let serve = Command::new(SERVE).about("Run the server, which is also what no command does");
    let config = Command::new(CONFIG).about(
        "Print the effective configuration as a file for --config, with the origin of each \
                value",
    );
    let completions = Command::new(COMPLETIONS)
        .about("Print the completions of a shell to standard output")
        .arg(Arg::new(SHELL).required(true).value_parser(value_parser!(Shell)));
    let bench = Arguments::augment_args(Command::new(BENCH))
        .about("Measure a WebSocket server: this one, or any other")
        .after_help(BENCH_AFTER_HELP);
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
        .subcommand(completions)
        .subcommand(man)
}

fn with_settings(command: Command) -> Command {
    let file = Arg::new(FILE_KEY)
        .long(FILE_KEY)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help("Read settings from this TOML file");
    let defaults = &mut Config::default();
    let settings = declarations();
    command.arg(file).args(settings.iter().map(|setting| argument(setting, defaults)))
}

fn argument(setting: &Setting, defaults: &mut Config) -> Arg {
    let value = &setting.value;
    let default = match value.default_in_words {
        Some(words) => words.to_owned(),
        None => value.read(defaults).join(","),
    };
    let range = value.range.iter().map(|range| format!("; {range}")).collect::<String>();
    let argument = Arg::new(setting.key)
        .long(setting.key)
        .value_name(setting.value_name)
        .help_heading(setting.heading)
        .help(format!("{} [default: {default}{range}]", setting.help))
        .allow_negative_numbers(true);
    let argument = match value.is_list {
        true => argument.action(ArgAction::Append).value_delimiter(','),
        false => argument.action(ArgAction::Set),
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
const COMPLETIONS: &str = "completions";
const MAN: &str = "man";
const SHELL: &str = "shell";
const HELP_COLUMNS: usize = 100;
const AFTER_HELP: &str = "\
Every option is also an environment variable (--max-message is RINGWIRE_MAX_MESSAGE) and, --config \
aside, a key of the file (max-message = \"1MiB\"). A flag wins over the environment, the \
environment over the file. Lists are repeated or separated by commas; in the file they are arrays. \
Sizes are bytes or have a unit (64KiB, 1MiB, 1GiB), times always have one (250ms, 10s, 2m, 1h).

Exit status: 0 after a stop by signal, 1 when the server fails or a second signal ends it at once, 2
when a setting is refused.";
const BENCH_AFTER_HELP: &str = "\
Sizes are bytes or have a unit (20, 1KiB, 16MiB), times always have one (250ms, 10s, 2m, 1h).

Exit status: 0 when the server did all it should, 1 when connections failed, content was wrong or \
messages were lost, 2 when an option is refused or the run could not be made. SIGINT (Ctrl-C) and \
SIGTERM end a run early: the results so far are printed and written, and the status is 130 or 143; \
a second one ends it at once.";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{
        Admin, BroadcastAccess, Compression, CompressionMode, Engine, Limits, ListenAddress,
        LogFormat, LogLevel, Logs, MessageTypes, Root, SlowConsumer,
    };

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

    /// The expected value names every field, so a new one does not compile without its flag here.
    #[test]
    fn every_flag_reaches_its_own_field() {
        let line = "ringwire --listen [::1]:9,unix:/run/a --listen 0.0.0.0:0 --admin [::1]:10 \
            --root broadcast --allow-origin https://a.org --allow-origin *.b.org --subprotocol x,y \
            --subprotocol-required true --allow-host a.org:81,*.b.org --raise-nofile false \
            --message-types binary --slow-consumer drop-oldest --drain 11s --log-level warn \
            --log-format json --shards 12 --pin false --receive-buffers 64 \
            --receive-buffer-size 32KiB --park-after off --broadcast-ring 4 \
            --disable no-sqarray,registered-ring --max-connections 5 --max-request-head 4KiB \
            --max-request-headers 30 --max-message 1MiB --max-fragments 31 \
            --max-control-rate 32 --handshake-timeout 1s --idle-timeout 2s --close-timeout 3s \
            --ping-interval 1s --message-idle-timeout 50s --message-timeout 20s \
            --lifetime 1h --max-backlog 2MiB --batch-wait-us 100 --max-memory 1GiB \
            --compression dedicated --broadcast-access post \
            --compression-level 7 --compression-window 12 --compression-threshold 1KiB";
        let address = |text: &str| text.parse::<ListenAddress>().expect("an address");
        let texts = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
        let expected = Config {
            listen: vec![address("[::1]:9"), address("unix:/run/a"), address("0.0.0.0:0")],
            admin: Admin::At(address("[::1]:10")),
            root: Root::Broadcast,
            broadcast_access: BroadcastAccess::Post,
            allow_host: ["a.org:81", "*.b.org"].map(|host| host.parse().expect(host)).to_vec(),
            allow_origin: ["https://a.org", "*.b.org"].map(|o| o.parse().expect(o)).to_vec(),
            subprotocols: ["x", "y"].map(|name| name.parse().expect(name)).to_vec(),
            subprotocol_required: true,
            message_types: MessageTypes::Binary,
            compression: Compression {
                mode: CompressionMode::Dedicated,
                level: 7,
                window_bits: 12,
                threshold_bytes: 1024,
            },
            slow_consumer: SlowConsumer::DropOldest,
            limits: Limits {
                connections: Some(5),
                request_head_bytes: 4096,
                request_headers: 30,
                message_bytes: 1 << 20,
                message_fragments: 31,
                control_frames_per_second: 32,
                handshake_timeout: Duration::from_secs(1),
                idle_timeout: Some(Duration::from_secs(2)),
                ping_interval: Some(Duration::from_secs(1)),
                message_idle_timeout: Some(Duration::from_secs(50)),
                message_timeout: Some(Duration::from_secs(20)),
                close_timeout: Duration::from_secs(3),
                lifetime: Some(Duration::from_secs(3600)),
                backlog_bytes: 2 << 20,
                memory_bytes: Some(1 << 30),
            },
            engine: Engine {
                shards: 12,
                pin: false,
                raise_nofile: false,
                receive_buffers: 64,
                receive_buffer_bytes: 32 << 10,
                park_after: None,
                broadcast_ring_slots: 4,
                batch_wait_us: Some(100),
                disabled_abilities: texts(&["no-sqarray", "registered-ring"]),
            },
            drain: Duration::from_secs(11),
            logs: Logs { level: LogLevel::Warn, format: LogFormat::Json },
        };
        assert_eq!(config(line), expected);
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
