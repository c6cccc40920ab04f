//! What a setting is: its names, and the way its texts take into the configuration and back.

use super::form::Form;
use crate::config::Config;

/// One setting: its names and how its texts reach the configuration and come back.
pub struct Setting {
    /// The long flag without its dashes, which is also the key in the file.
    pub key: &'static str,
    /// The group it is shown under.
    pub heading: &'static str,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// What it means, in a sentence without a full stop.
    pub help: &'static str,
    /// How its value is written and where it belongs.
    pub value: Value,
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

    pub(super) fn default_in_words(self, words: &'static str) -> Self {
        Self { default_in_words: Some(words), ..self }
    }

    pub(super) fn at_least_one(self) -> Self {
        let Self { allowed, write, .. } = self;
        Self {
            allowed: format!("at least one of: {allowed}"),
            write: Box::new(move |config, items| match items {
                [] => Err(String::new()),
                items => write(config, items),
            }),
            ..self
        }
    }
}

/// Finds the field of a setting.
type Field<T> = fn(&mut Config) -> &mut T;

/// A setting with one value.
pub(super) fn one<T: 'static>(form: Form<T>, field: Field<T>) -> Value {
    let Form { allowed, range, choices, parse, print } = form;
    Value {
        allowed,
        range,
        choices,
        is_list: false,
        default_in_words: None,
        write: Box::new(move |config, items| {
            let [item] = items else {
                return Err(items.join(","));
            };
            *field(config) = parse(item).ok_or_else(|| item.clone())?;
            Ok(())
        }),
        read: Box::new(move |config| vec![print(field(config))]),
    }
}

/// A list. An empty text is no item and no empty list: `--allow-host "$UNSET"` must not allow all.
pub(super) fn list<T: 'static>(form: Form<T>, field: Field<Vec<T>>) -> Value {
    let Form { allowed, range, choices, parse, print } = form;
    Value {
        allowed,
        range,
        choices,
        is_list: true,
        default_in_words: None,
        write: Box::new(move |config, items| {
            let parse_one = |item: &String| parse(item.trim()).ok_or_else(|| item.clone());
            *field(config) = items.iter().map(parse_one).collect::<Result<_, _>>()?;
            Ok(())
        }),
        read: Box::new(move |config| field(config).iter().map(&print).collect()),
    }
}
