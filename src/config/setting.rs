//! What a setting is, and the macro that declares one: its field and default, its names, how it is
//! written and what it means, all in one place.

use super::Config;
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
    /// How its value is written and where it belongs.
    pub value: Value,
}

/// A group of settings, in the order in which groups are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heading {
    /// Where connections are accepted.
    Listeners,
    /// Threads, rings and buffers.
    Engine,
    /// Requests and messages.
    WebSocket,
    /// Compressed messages.
    Compression,
    /// What one peer may cost.
    Limits,
    /// Who does not read.
    SlowConsumers,
    /// The end of the server.
    Stop,
    /// Log lines.
    Logs,
}

impl Heading {
    /// The heading as it is printed.
    pub fn text(self) -> &'static str {
        match self {
            Self::Listeners => "Listeners",
            Self::Engine => "Engine",
            Self::WebSocket => "WebSocket",
            Self::Compression => "Compression",
            Self::Limits => "Limits",
            Self::SlowConsumers => "Slow consumers",
            Self::Stop => "Stop",
            Self::Logs => "Logs",
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
    /// Whether it takes any number of texts.
    pub is_list: bool,
    /// What the help says of the default when its text would not tell.
    pub default_in_words: Option<&'static str>,
    write: Box<Write>,
    read: Box<Read>,
}

type Write = dyn Fn(&mut Config, &[String]) -> Result<(), String>;
type Read = dyn Fn(&mut Config) -> Vec<String>;

impl Value {
    /// Puts `items` into `config`; `Err` is the item that is not allowed, and nothing has changed.
    pub fn write(&self, config: &mut Config, items: &[String]) -> Result<(), String> {
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
    is_list: bool,
    default_in_words: Option<&'static str>,
    parse: Box<Parse<T>>,
    print: Box<Print<T>>,
}

type Parse<T> = dyn Fn(&[String]) -> Result<T, String>;
type Print<T> = dyn Fn(&T) -> Vec<String>;

impl<T: 'static> Notation<T> {
    /// Tells in the help what the default is when its text would not.
    pub(super) fn default_in_words(self, words: &'static str) -> Self {
        Self { default_in_words: Some(words), ..self }
    }

    /// The value of a setting that belongs to `field` of `part`.
    pub(super) fn at<P: 'static>(
        self,
        part: fn(&mut Config) -> &mut P,
        field: fn(&mut P) -> &mut T,
    ) -> Value {
        let Self { allowed, range, choices, is_list, default_in_words, parse, print } = self;
        Value {
            allowed,
            range,
            choices,
            is_list,
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
                [] => Err(String::new()),
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
        is_list: false,
        default_in_words: None,
        parse: Box::new(move |items| match items {
            [item] => parse(item).ok_or_else(|| item.clone()),
            items => Err(items.join(",")),
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
        is_list: true,
        default_in_words: None,
        parse: Box::new(move |items| {
            let parse_one = |item: &String| parse(item.trim()).ok_or_else(|| item.clone());
            items.iter().map(parse_one).collect()
        }),
        print: Box::new(move |values| values.iter().map(&print).collect()),
    }
}

/// Declares a part of the configuration with its settings. A setting reads
///
/// ```text
/// /// What the field means, for readers of the code.
/// pub field: Type = default,
///     as notation,
///     named "flag-and-key" "VALUE",
///     help "What it means, for readers of --help";
/// ```
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
                        help $help:literal;
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
            let items = setting.value.read(&mut config);
            assert_eq!(setting.value.write(&mut config, &items), Ok(()), "{}", setting.key);
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }

    #[test]
    fn one_value_is_not_a_list() {
        let settings = declarations();
        let shards = settings.iter().find(|setting| setting.key == "shards").expect("declared");
        let items = ["1".to_owned(), "2".to_owned()];
        assert_eq!(shards.value.write(&mut Config::default(), &items), Err("1,2".to_owned()));
        assert_eq!(shards.value.write(&mut Config::default(), &[]), Err(String::new()));
    }
}
