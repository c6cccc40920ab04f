//! What a setting is, and the macro that declares one: its field and default, its names, how it is
//! written and what it means, all in one place.

use super::Config;
use super::entry::{Entry, Refused, Written};
use super::form::Form;

/// One setting: its names and how its texts reach the configuration and come back.
pub struct Setting {
    /// The long flag without its dashes, which is also the key in the file.
    pub key: &'static str,
    /// The group it is shown under.
    pub heading: Heading,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// What it means, in a sentence without a full stop.
    pub help: &'static str,
    /// Whether a reload changes it; else only a restart does.
    pub is_live: bool,
    /// How its value is written and where it belongs.
    pub value: Value,
}

impl Setting {
    /// The key in the file: that of the flag, but for lists of tables that have a name of their
    /// own.
    pub fn file_key(&self) -> &'static str {
        self.value.file_key.unwrap_or(self.key)
    }
}

/// A group of settings, in the order in which groups are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heading {
    /// Where connections are accepted.
    Listeners,
    /// Encryption.
    Tls,
    /// Threads, rings and buffers.
    Engine,
    /// Requests and messages.
    WebSocket,
    /// Compressed messages.
    Compression,
    /// What one peer may cost.
    Limits,
    /// Who may connect.
    Peers,
    /// Who may do what.
    Identity,
    /// Channels and their clients.
    Channels,
    /// Who does not read.
    SlowConsumers,
    /// The end of the server.
    Stop,
    /// Log lines.
    Logs,
    /// What a monitoring system is told.
    Metrics,
}

impl Heading {
    /// The heading as it is printed.
    pub fn text(self) -> &'static str {
        match self {
            Self::Listeners => "Listeners",
            Self::Tls => "TLS",
            Self::Engine => "Engine",
            Self::WebSocket => "WebSocket",
            Self::Compression => "Compression",
            Self::Limits => "Limits",
            Self::Peers => "Peers",
            Self::Identity => "Identity",
            Self::Channels => "Channels",
            Self::SlowConsumers => "Slow consumers",
            Self::Stop => "Stop",
            Self::Logs => "Logs",
            Self::Metrics => "Metrics",
        }
    }
}

/// How the value of a setting is written and which part of the configuration it is.
pub struct Value {
    /// What may be written, in words that complete "allowed is".
    pub allowed: String,
    /// The least and the greatest value for the help, where there are such.
    pub range: Option<String>,
    /// All texts that may be written, where they can be listed.
    pub choices: Vec<String>,
    /// How many values it takes, and what separates them.
    pub shape: Shape,
    /// The key in the file, where it is not that of the flag.
    pub file_key: Option<&'static str>,
    /// What the help says of the default when its text would not tell.
    pub default_in_words: Option<&'static str>,
    write: Box<Write>,
    read: Box<Read>,
}

/// How many values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// Any number, separated by commas in a flag and in the environment.
    List,
    /// Any number of entries, which have commas of their own (see [`Which`](super::entry::Which)).
    Entries,
}

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This is none of the values that are allowed.
    Value(String),
    /// Something is wrong within an entry.
    Entry(Refused),
}

type Write = dyn Fn(&mut Config, &[Written]) -> Result<(), Refusal>;
type Read = dyn Fn(&mut Config) -> Vec<String>;

impl Value {
    /// Puts `items` into `config`.
    ///
    /// # Errors
    /// What is not allowed, and nothing has changed.
    pub fn write(&self, config: &mut Config, items: &[Written]) -> Result<(), Refusal> {
        (self.write)(config, items)
    }

    /// The value in `config` as texts: one, or any number for a list.
    pub fn read(&self, config: &mut Config) -> Vec<String> {
        (self.read)(config)
    }
}

/// How a value of the type `T` is written, before it has a field to belong to.
pub(super) struct Notation<T> {
    allowed: String,
    range: Option<String>,
    choices: Vec<String>,
    shape: Shape,
    file_key: Option<&'static str>,
    default_in_words: Option<&'static str>,
    parse: Box<Parse<T>>,
    print: Box<Print<T>>,
}

type Parse<T> = dyn Fn(&[Written]) -> Result<T, Refusal>;
type Print<T> = dyn Fn(&T) -> Vec<String>;

impl<T: 'static> Notation<T> {
    /// Tells in the help what the default is when its text would not.
    pub(super) fn default_in_words(self, words: &'static str) -> Self {
        Self { default_in_words: Some(words), ..self }
    }

    /// Tells in the help what the values are in these words.
    pub(super) fn range_in_words(self, words: &str) -> Self {
        Self { range: Some(words.to_owned()), ..self }
    }

    /// Calls the key in the file otherwise than the flag.
    pub(super) fn in_file(self, key: &'static str) -> Self {
        Self { file_key: Some(key), ..self }
    }

    /// The value of a setting that belongs to `field` of `part`.
    pub(super) fn at<P: 'static>(
        self,
        part: fn(&mut Config) -> &mut P,
        field: fn(&mut P) -> &mut T,
    ) -> Value {
        let Self { allowed, range, choices, shape, file_key, default_in_words, parse, print } =
            self;
        Value {
            allowed,
            range,
            choices,
            shape,
            file_key,
            default_in_words,
            write: Box::new(move |config, items| {
                *field(part(config)) = parse(items)?;
                Ok(())
            }),
            read: Box::new(move |config| print(field(part(config)))),
        }
    }
}

impl<T: 'static> Notation<Vec<T>> {
    /// The same list, which is never empty.
    pub(super) fn at_least_one(self) -> Self {
        let Self { allowed, parse, .. } = self;
        Self {
            allowed: format!("at least one of: {allowed}"),
            parse: Box::new(move |items| match items {
                [] => Err(Refusal::Value(String::new())),
                items => parse(items),
            }),
            ..self
        }
    }
}

/// One value.
pub(super) fn one<T: 'static>(form: Form<T>) -> Notation<T> {
    let Form { allowed, range, choices, parse, print } = form;
    Notation {
        allowed,
        range,
        choices,
        shape: Shape::One,
        file_key: None,
        default_in_words: None,
        parse: Box::new(move |items| match items {
            [item] => parse_one(item, &*parse),
            items => {
                let spellings: Vec<_> = items.iter().map(Written::spelling).collect();
                Err(Refusal::Value(spellings.join(",")))
            }
        }),
        print: Box::new(move |value| vec![print(value)]),
    }
}

/// A list. An empty text is no item and no empty list: `--allow-host "$UNSET"` must not allow all.
pub(super) fn list<T: 'static>(form: Form<T>) -> Notation<Vec<T>> {
    let Form { allowed, range, choices, parse, print } = form;
    Notation {
        allowed,
        range,
        choices,
        shape: Shape::List,
        file_key: None,
        default_in_words: None,
        parse: Box::new(move |items| {
            let parse = |text: &str| parse(text.trim());
            items.iter().map(|item| parse_one(item, &parse)).collect()
        }),
        print: Box::new(move |values| values.iter().map(&print).collect()),
    }
}

/// Any number of entries.
pub(super) fn entries<T: Entry>() -> Notation<Vec<T>> {
    let (reading, printing) = (T::notation(), T::notation());
    Notation {
        allowed: reading.allowed.to_owned(),
        range: Some(format!("options: {}", reading.options_in_words())),
        choices: Vec::new(),
        shape: Shape::Entries,
        file_key: None,
        default_in_words: None,
        parse: Box::new(move |items| {
            let mut entries = Vec::new();
            for (number, item) in (1..).zip(items) {
                entries.extend(reading.read(item, Some(number)).map_err(Refusal::Entry)?);
            }
            Ok(entries)
        }),
        print: Box::new(move |entries| entries.iter().map(|e| printing.print(e)).collect()),
    }
}

/// One entry, which the file may write as the table of that name.
pub(super) fn one_entry<T: Entry>() -> Notation<T> {
    let (reading, printing) = (T::notation(), T::notation());
    Notation {
        allowed: reading.allowed.to_owned(),
        range: Some(format!("options: {}", reading.options_in_words())),
        choices: Vec::new(),
        shape: Shape::One,
        file_key: None,
        default_in_words: None,
        parse: Box::new(move |items| {
            let mut entries = match items {
                [item] => reading.read(item, None).map_err(Refusal::Entry)?,
                _ => Vec::new(),
            };
            match (entries.pop(), entries.is_empty()) {
                (Some(entry), true) => Ok(entry),
                _ => {
                    let spellings: Vec<_> = items.iter().map(Written::spelling).collect();
                    Err(Refusal::Value(spellings.join(",")))
                }
            }
        }),
        print: Box::new(move |entry| vec![printing.print(entry)]),
    }
}

fn parse_one<T>(item: &Written, parse: &dyn Fn(&str) -> Option<T>) -> Result<T, Refusal> {
    let value = match item {
        Written::Text(text) => parse(text),
        Written::Table(_) => None,
    };
    value.ok_or_else(|| Refusal::Value(item.spelling().to_owned()))
}

/// Declares a part of the configuration with its settings. A setting reads
///
/// ```text
/// /// What the field means, for readers of the code.
/// pub field: Type = default,
///     as notation,
///     named "flag-and-key" "VALUE",
///     help "What it means, for readers of --help", live;
/// ```
///
/// where `live` says that a reload changes it while the server runs; without it only a restart
/// does. What reads a live setting takes it from the settings that are in force.
///
/// and makes the field of the struct, its default, and everything that the command line, the
/// environment and the file need to know of it. Parts of a part come after its settings, with
/// neither default nor names: they are declared in the same way elsewhere.
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $name:ident at ($place:expr) {
            $(under $heading:ident {
                $(
                    $(#[$doc:meta])*
                    pub $field:ident: $type:ty = $default:expr,
                        as $notation:expr,
                        named $key:literal $value_name:literal,
                        help $help:literal $(, $live:ident)?;
                )*
            })*
            $(
                $(#[$part_doc:meta])*
                pub $part:ident: $part_type:ty,
            )*
        }
    ) => {
        $(#[$about])*
        pub struct $name {
            $($( $(#[$doc])* pub $field: $type, )*)*
            $( $(#[$part_doc])* pub $part: $part_type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($( $field: $default, )*)*
                    $( $part: <$part_type>::default(), )*
                }
            }
        }

        impl $name {
            /// Adds the settings of this part and of its parts.
            pub(crate) fn declare(settings: &mut Vec<$crate::config::Setting>) {
                $($(
                    settings.push($crate::config::Setting {
                        key: $key,
                        heading: $crate::config::Heading::$heading,
                        value_name: $value_name,
                        help: $help,
                        is_live: [$(stringify!($live) == "live",)? false][0],
                        value: $notation.at($place, |part: &mut Self| &mut part.$field),
                    });
                )*)*
                $( <$part_type>::declare(settings); )*
            }
        }
    };
}

pub(super) use settings;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::declarations;

    #[test]
    fn every_key_is_declared_once_and_every_default_is_allowed() {
        let settings = declarations();
        for (index, setting) in settings.iter().enumerate() {
            assert!(settings.iter().skip(index + 1).all(|other| other.key != setting.key));
            let mut config = Config::default();
            let items = setting.value.read(&mut config).into_iter().map(Written::Text);
            let items: Vec<_> = items.collect();
            assert_eq!(setting.value.write(&mut config, &items), Ok(()), "{}", setting.key);
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }

    #[test]
    fn one_value_is_not_a_list() {
        let settings = declarations();
        let shards = settings.iter().find(|setting| setting.key == "shards").expect("declared");
        let refused = |items: &[&str]| {
            let items: Vec<_> = items.iter().map(|&item| Written::Text(item.to_owned())).collect();
            shards.value.write(&mut Config::default(), &items).expect_err("no single value")
        };
        assert_eq!(refused(&["1", "2"]), Refusal::Value("1,2".to_owned()));
        assert_eq!(refused(&[]), Refusal::Value(String::new()));
    }
}
