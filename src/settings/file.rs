//! The TOML file: keys and tables, each with the line it stands on so that a refusal can name it.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::SettingError;
use crate::config::entry::{Key, Table, Written};

/// One key of the file with its value as it is written.
pub(super) struct Entry {
    /// The key as written.
    pub(super) key: String,
    /// One text or table, or those of an array; `Err` is a value that no setting takes, as it is
    /// written.
    pub(super) items: Result<Vec<Written>, String>,
    /// The line of the key, the first being 1.
    pub(super) line: usize,
}

/// The text of the file.
///
/// # Errors
/// The file cannot be read, or is not UTF-8.
pub(super) fn read(path: &Path) -> Result<String, SettingError> {
    std::fs::read_to_string(path).map_err(|error| refuse(path, error.to_string()))
}

/// The keys of a file called `path`, in the order of their lines; keys and values are not judged
/// yet.
///
/// # Errors
/// The text is not TOML.
pub(super) fn parse(path: &Path, source: &str) -> Result<Vec<Entry>, SettingError> {
    let table = DeTable::parse(source).map_err(|error| refuse(path, error.to_string()))?;
    let file = File { source };
    let mut entries: Vec<Entry> = table
        .get_ref()
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            items: file.items(value).ok_or_else(|| file.spelling(value)),
            line: file.line_of(key.span().start),
        })
        .collect();
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn refuse(path: &Path, reason: String) -> SettingError {
    SettingError::File { path: path.to_owned(), reason }
}

/// The text that values stand in.
struct File<'s> {
    source: &'s str,
}

impl File<'_> {
    fn items(&self, value: &Spanned<DeValue<'_>>) -> Option<Vec<Written>> {
        match value.get_ref() {
            DeValue::Array(values) => values.iter().map(|value| self.item(value)).collect(),
            _ => Some(vec![self.item(value)?]),
        }
    }

    fn item(&self, value: &Spanned<DeValue<'_>>) -> Option<Written> {
        match value.get_ref() {
            DeValue::Table(table) => {
                let line = self.line_of(value.span().start);
                let mut keys: Vec<Key> = table
                    .iter()
                    .map(|(key, value)| Key {
                        name: key.get_ref().to_string(),
                        line: self.line_of(key.span().start),
                        value: text(value.get_ref()).ok_or_else(|| self.spelling(value)),
                    })
                    .collect();
                keys.sort_by_key(|key| key.line);
                Some(Written::Table(Table { line, spelling: self.spelling(value), keys }))
            }
            value => text(value).map(Written::Text),
        }
    }

    fn spelling(&self, value: &Spanned<DeValue<'_>>) -> String {
        self.source.get(value.span()).unwrap_or_default().to_owned()
    }

    fn line_of(&self, offset: usize) -> usize {
        self.source.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        // Octal digits stay so: they say what 0o660 means to a mode, and its number would not.
        DeValue::Integer(number) if number.radix() == 8 => Some(format!("0o{}", number.as_str())),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str) -> Result<Vec<Entry>, SettingError> {
        super::parse(Path::new("a.toml"), source)
    }

    #[test]
    fn values_become_texts_with_their_lines() {
        let source = "a = \"x\"\n\nb = [ \"y\", 2 ]\nc = 0x1_0\nd = true\ne = -5\nf = 0o6_60\n";
        let entries = parse(source).expect("valid");
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.items.clone().expect("texts"), entry.line))
            .collect();
        let text = |&item: &&str| Written::Text(item.to_owned());
        let texts = |items: &[&str]| items.iter().map(text).collect::<Vec<_>>();
        assert_eq!(
            seen,
            [
                ("a", texts(&["x"]), 1),
                ("b", texts(&["y", "2"]), 3),
                ("c", texts(&["16"]), 4),
                ("d", texts(&["true"]), 5),
                ("e", texts(&["-5"]), 6),
                ("f", texts(&["0o660"]), 7),
            ]
        );
    }

    #[test]
    fn tables_keep_their_lines_and_those_of_their_keys() {
        let source = "[[a]]\nb = 1\nc = [1]\n\n# more\n[[a]]\n\nd = \"x\"\n[e]\nf = true\n";
        let entries = parse(source).expect("valid");
        let seen = |entry: &Entry| -> Vec<(usize, Vec<Key>)> {
            let items = entry.items.clone().expect("tables");
            let table = |item| match item {
                Written::Table(Table { line, keys, .. }) => (line, keys),
                Written::Text(text) => panic!("{text} is no table"),
            };
            items.into_iter().map(table).collect()
        };
        let key = |name: &str, line, value: Result<&str, &str>| Key {
            name: name.to_owned(),
            line,
            value: value.map(str::to_owned).map_err(str::to_owned),
        };
        let [a, e] = &*entries else { panic!("two keys") };
        assert_eq!(
            seen(a),
            [
                (1, vec![key("b", 2, Ok("1")), key("c", 3, Err("[1]"))]),
                (6, vec![key("d", 8, Ok("x"))]),
            ]
        );
        assert_eq!(seen(e), [(9, vec![key("f", 10, Ok("true"))])]);
        let inline = parse("a = [\"x\", { b = 1 }]").expect("valid");
        assert_eq!(inline.first().expect("one").items.as_ref().expect("items").len(), 2);
    }

    #[test]
    fn values_without_a_text_keep_their_spelling() {
        for (source, spelling) in
            [("a = [1.5, [1]]", "[1.5, [1]]"), ("a = [[1]]", "[[1]]"), ("a = 07:00:00", "07:00:00")]
        {
            let entries = parse(source).expect(source);
            assert_eq!(entries.first().expect("one").items, Err(spelling.to_owned()));
        }
        assert!(parse("a = ").is_err());
        assert!(parse("a = 1\na = 2").is_err());
    }
}
