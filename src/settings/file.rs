//! The TOML file: flat keys, each with the line it stands on so that a refusal can name it.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::SettingError;

/// One key of the file with its value as texts.
pub(super) struct Entry {
    /// The key as written.
    pub(super) key: String,
    /// One text, or those of an array; `Err` is a value that no setting takes, as it is written.
    pub(super) items: Result<Vec<String>, String>,
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
    let mut entries: Vec<Entry> = table
        .get_ref()
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            items: items(value.get_ref())
                .ok_or_else(|| source.get(value.span()).unwrap_or_default().to_owned()),
            line: line_of(source, key.span().start),
        })
        .collect();
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn refuse(path: &Path, reason: String) -> SettingError {
    SettingError::File { path: path.to_owned(), reason }
}

fn items(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(values) => values.iter().map(|value| item(value.get_ref())).collect(),
        value => Some(vec![item(value)?]),
    }
}

fn item(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_of(source: &str, offset: usize) -> usize {
    source.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str) -> Result<Vec<Entry>, SettingError> {
        super::parse(Path::new("a.toml"), source)
    }

    #[test]
    fn values_become_texts_with_their_lines() {
        let source = "a = \"x\"\n\nb = [ \"y\", 2 ]\nc = 0x1_0\nd = true\ne = -5\n";
        let entries = parse(source).expect("valid");
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.items.clone().expect("texts"), entry.line))
            .collect();
        let texts = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            seen,
            [
                ("a", texts(&["x"]), 1),
                ("b", texts(&["y", "2"]), 3),
                ("c", texts(&["16"]), 4),
                ("d", texts(&["true"]), 5),
                ("e", texts(&["-5"]), 6),
            ]
        );
    }

    #[test]
    fn values_without_a_text_keep_their_spelling() {
        for (source, spelling) in [("a = 1.5", "1.5"), ("a = [[1]]", "[[1]]"), ("a = {}", "{}")] {
            let entries = parse(source).expect(source);
            assert_eq!(entries.first().expect("one").items, Err(spelling.to_owned()));
        }
        assert!(parse("a = ").is_err());
        assert!(parse("a = 1\na = 2").is_err());
    }
}
