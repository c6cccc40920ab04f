//! Entries: values of several named fields, such as a listener or a mount. Flag, environment and
//! file write them in one grammar, and the file may write each as a table of the same fields.
//!
//! > `HEAD[,NAME[=VALUE]...]`, and the next entry behind another comma.
//!
//! What follows a comma and is neither `NAME` nor `NAME=VALUE` begins the next entry: names are
//! lower case, and no head begins with a name that ends there or at an equals sign. A comma that
//! belongs to a value is doubled. `NAME` alone is `NAME=true`. Spaces before an entry and before a
//! name mean nothing.

use super::form::{Form, TRUE};
use super::similar::closest;

/// A value as it stands in a layer, before its setting has judged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A text, or a number or a boolean of the file as a text.
    Text(String),
    /// A table of the file.
    Table(Table),
}

impl Written {
    /// What stands there.
    pub fn spelling(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Table(table) => &table.spelling,
        }
    }
}

/// A table of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The line it begins on, the first being 1.
    pub line: usize,
    /// The text it stands in, as far as the parser tells.
    pub spelling: String,
    /// Its keys in the order of their lines.
    pub keys: Vec<Key>,
}

/// A key within a table of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key as written.
    pub name: String,
    /// The line it stands on.
    pub line: usize,
    /// Its value as a text; `Err` is what no field takes, as it is written.
    pub value: Result<String, String>,
}

/// What is wrong with one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which it is.
    pub entry: Which,
    /// What is wrong with it.
    pub fault: Fault,
}

/// How an entry is told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// By its text.
    Text(String),
    /// By its place among the tables of its setting.
    Table {
        /// Its number, the first being 1; `None` where the setting is one table.
        number: Option<usize>,
        /// The line that is wrong.
        line: usize,
    },
}

/// What is wrong within an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The text does not begin as an entry does.
    #[error("allowed is {0}")]
    Head(String),
    /// A field that the entry does not have.
    #[error(
        "unknown option {name}: {} {}",
        closest.map_or("the options are".to_owned(), |closest| {
            format!("did you mean {closest}? The options are")
        }),
        known.join(", "),
    )]
    Unknown {
        /// As written.
        name: String,
        /// The most similar one that exists.
        closest: Option<&'static str>,
        /// All that exist.
        known: Vec<&'static str>,
    },
    /// A value that its field does not take.
    #[error(
        "{name} = {value:?}{}: allowed is {allowed}",
        closest.as_ref().map_or_else(String::new, |closest| format!(" (did you mean {closest}?)")),
    )]
    Value {
        /// The field.
        name: &'static str,
        /// As written.
        value: String,
        /// The most similar value, where they can be listed.
        closest: Option<String>,
        /// What may stand there.
        allowed: String,
    },
    /// A field that is there twice.
    #[error("{0} is there twice: allowed is each option once")]
    Repeated(&'static str),
    /// A field that must be there and is not.
    #[error("{name} is missing: allowed is {allowed}")]
    Missing {
        /// The field.
        name: &'static str,
        /// What may stand there.
        allowed: String,
    },
    /// Fields that contradict each other, or an option that is missing for another.
    #[error("{0}")]
    Contradiction(String),
}

/// A type that is written as an entry.
pub(super) trait Entry: Sized + 'static {
    /// All fields, none of them set at first.
    type Draft: Default + 'static;

    /// How the entry is written.
    fn notation() -> EntryNotation<Self::Draft>;

    /// The entry, once its fields are read.
    ///
    /// # Errors
    /// Fields that do not go together.
    fn from_draft(draft: Self::Draft) -> Result<Self, Fault>;

    /// The fields that make this entry, without those that say what holds anyway.
    fn to_draft(&self) -> Self::Draft;
}

/// The fields of an entry.
pub(super) struct EntryNotation<D> {
    /// Those of the head, which must be there, with equals signs between them; the last sign
    /// separates. Without any the entry has options alone.
    pub(super) head: Vec<Field<D>>,
    /// Those that may follow.
    pub(super) options: Vec<Field<D>>,
    /// What the head looks like, in words that complete "allowed is".
    pub(super) allowed: &'static str,
}

/// One field of an entry.
pub(super) struct Field<D> {
    name: &'static str,
    allowed: String,
    /// The same in a few words, where the numbers have ends.
    range: Option<String>,
    choices: Vec<String>,
    read: Box<Read<D>>,
    write: Box<Write<D>>,
    is_set: Box<dyn Fn(&mut D) -> bool>,
}

type Read<D> = dyn Fn(&mut D, &str) -> bool;
type Write<D> = dyn Fn(&mut D) -> Option<String>;

/// The field `name`, found in a draft by `at`.
pub(super) fn field<D: 'static, T: 'static>(
    name: &'static str,
    form: Form<T>,
    at: fn(&mut D) -> &mut Option<T>,
) -> Field<D> {
    let Form { allowed, range, choices, parse, print } = form;
    Field {
        name,
        allowed,
        range,
        choices,
        read: Box::new(move |draft, text| {
            let value = parse(text);
            let is_read = value.is_some();
            *at(draft) = value;
            is_read
        }),
        write: Box::new(move |draft| at(draft).as_ref().map(&print)),
        is_set: Box::new(move |draft| at(draft).is_some()),
    }
}

impl<D: Default + 'static> EntryNotation<D> {
    /// The options in a few words for the help.
    pub(super) fn options_in_words(&self) -> String {
        let in_words = |option: &Field<D>| {
            let values = option.range.as_ref().unwrap_or(&option.allowed);
            format!("{} ({values})", option.name)
        };
        self.options.iter().map(in_words).collect::<Vec<_>>().join(", ")
    }

    /// The entries of one value of the setting; `number` is that of a table among several.
    pub(super) fn read<E: Entry<Draft = D>>(
        &self,
        written: &Written,
        number: Option<usize>,
    ) -> Result<Vec<E>, Refused> {
        match written {
            Written::Text(text) => {
                let read = |(text, parts): (String, Vec<String>)| {
                    let fault = |fault| Refused { entry: Which::Text(text), fault };
                    self.draft_of_parts(&parts).and_then(E::from_draft).map_err(fault)
                };
                entries(text).into_iter().map(read).collect()
            }
            Written::Table(table) => {
                let (draft, line) = (self.draft_of_table(table), table.line);
                let fault = |(line, fault)| Refused { entry: Which::Table { number, line }, fault };
                let entry = draft.and_then(|draft| E::from_draft(draft).map_err(|f| (line, f)));
                Ok(vec![entry.map_err(fault)?])
            }
        }
    }

    /// The text of an entry.
    pub(super) fn print<E: Entry<Draft = D>>(&self, entry: &E) -> String {
        let mut draft = entry.to_draft();
        let head = self.head.iter().filter_map(|field| (field.write)(&mut draft));
        let head = head.collect::<Vec<_>>().join("=");
        let head = (!self.head.is_empty()).then_some(head);
        let options = self.options.iter().filter_map(|field| {
            let value = (field.write)(&mut draft)?;
            Some(format!("{}={value}", field.name))
        });
        let parts: Vec<String> = head.into_iter().chain(options).collect();
        parts.iter().map(|part| part.replace(',', ",,")).collect::<Vec<_>>().join(",")
    }

    fn draft_of_parts(&self, parts: &[String]) -> Result<D, Fault> {
        let mut draft = D::default();
        let (head, options) = match parts {
            [empty] if self.head.is_empty() && empty.is_empty() => return Ok(draft),
            [first, ..] if self.head.is_empty() && is_option(first) => ("", parts),
            [head, options @ ..] if !self.head.is_empty() => (head.as_str(), options),
            _ => return Err(self.no_head()),
        };
        let mut rest = head;
        for (index, field) in self.head.iter().enumerate().rev() {
            let value = match index {
                0 => rest,
                _ => {
                    let (before, value) = rest.rsplit_once('=').ok_or_else(|| self.no_head())?;
                    rest = before;
                    value
                }
            };
            field.set(&mut draft, value)?;
        }
        for option in options {
            let (name, value) = option.split_once('=').unwrap_or((option, TRUE));
            let known = self.options.iter().find(|field| field.name == name);
            known.ok_or_else(|| unknown(name, &self.options))?.set(&mut draft, value)?;
        }
        Ok(draft)
    }

    fn draft_of_table(&self, table: &Table) -> Result<D, (usize, Fault)> {
        let mut draft = D::default();
        let fields = || self.head.iter().chain(&self.options);
        for Key { name, line, value } in &table.keys {
            let known = fields().find(|field| field.name == name);
            let field = known.ok_or_else(|| (*line, unknown(name, fields())))?;
            let set = match value {
                Ok(value) => field.set(&mut draft, value),
                Err(spelling) => Err(field.refuses(spelling)),
            };
            set.map_err(|fault| (*line, fault))?;
        }
        match self.head.iter().find(|field| !(field.is_set)(&mut draft)) {
            Some(Field { name, allowed, .. }) => {
                Err((table.line, Fault::Missing { name, allowed: allowed.clone() }))
            }
            None => Ok(draft),
        }
    }

    fn no_head(&self) -> Fault {
        Fault::Head(self.allowed.to_owned())
    }
}

impl<D> Field<D> {
    fn set(&self, draft: &mut D, value: &str) -> Result<(), Fault> {
        if (self.is_set)(draft) {
            return Err(Fault::Repeated(self.name));
        }
        match (self.read)(draft, value) {
            true => Ok(()),
            false => Err(self.refuses(value)),
        }
    }

    fn refuses(&self, value: &str) -> Fault {
        let closest = closest(value, &self.choices).cloned();
        let (name, value, allowed) = (self.name, value.to_owned(), self.allowed.clone());
        Fault::Value { name, value, closest, allowed }
    }
}

fn unknown<'f, D: 'f>(name: &str, fields: impl IntoIterator<Item = &'f Field<D>>) -> Fault {
    let known: Vec<_> = fields.into_iter().map(|field| field.name).collect();
    let closest = closest(name, known.iter().copied());
    Fault::Unknown { name: name.to_owned(), closest, known }
}

/// The entries of a text, each as it is written and in parts: the head and the options.
fn entries(text: &str) -> Vec<(String, Vec<String>)> {
    let mut entries: Vec<(String, Vec<String>)> = Vec::new();
    for (spelling, part) in parts(text) {
        match entries.last_mut() {
            Some((whole, parts)) if is_option(&part) => {
                whole.push(',');
                whole.push_str(&spelling);
                parts.push(part);
            }
            _ => entries.push((spelling, vec![part])),
        }
    }
    entries
}

/// What stands between single commas, as it is written and with doubled commas made single. Of
/// three commas in a row the first two are one that belongs to the value.
fn parts(text: &str) -> Vec<(String, String)> {
    let mut parts = vec![(String::new(), String::new())];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_separator = character == ',' && characters.next_if_eq(&',').is_none();
        let Some((spelling, part)) = parts.last_mut() else { continue };
        match character {
            _ if is_separator => parts.push((String::new(), String::new())),
            ',' => {
                spelling.push_str(",,");
                part.push(',');
            }
            ' ' if part.is_empty() => {}
            character => {
                spelling.push(character);
                part.push(character);
            }
        }
    }
    parts
}

fn is_option(part: &str) -> bool {
    let name = part.split_once('=').map_or(part, |(name, _)| name);
    let is_inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<Vec<String>> {
        entries(text).into_iter().map(|(_, parts)| parts).collect()
    }

    #[test]
    fn commas_separate_options_and_entries() {
        for (text, expected) in [
            ("", &[&[""][..]][..]),
            ("a:1", &[&["a:1"]]),
            ("a:1,b=c,d", &[&["a:1", "b=c", "d"]]),
            ("a:1,b:2,c=d, e:3 ", &[&["a:1"], &["b:2", "c=d"], &["e:3 "]]),
            ("/a=echo, /b=echo,c_d=", &[&["/a=echo"], &["/b=echo", "c_d="]]),
            ("a,,b,c=,,d,,,e=f,,,,g", &[&["a,b", "c=,d,", "e=f,,g"]]),
            ("a,", &[&["a"], &[""]]),
            ("name=1,B=2", &[&["name=1"], &["B=2"]]),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn entries_keep_their_spelling() {
        let spellings: Vec<_> =
            entries("a:1,b=c,,d,e:2").into_iter().map(|(text, _)| text).collect();
        assert_eq!(spellings, ["a:1,b=c,,d", "e:2"]);
    }
}
