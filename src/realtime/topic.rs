//! The topics of the hub that a channel is delivered by. No topic of `/broadcast` has such a name,
//! as theirs have no control characters.

use super::channels::domain;
use super::filter::Filter;
use super::patterns::is_pattern;

/// By which subscribers get what is published to a channel.
pub fn publications(channel: &str) -> String {
    format!("\u{1}{channel}")
}

/// By which those hear who comes and goes who have asked for it.
pub fn joins(channel: &str) -> String {
    format!("\u{2}{channel}")
}

/// By which those get differences who have asked for it.
pub fn deltas(channel: &str) -> String {
    format!("\u{3}{channel}")
}

/// Whether it is such a topic, so that the data of its pushes is a text in JSON that has the bytes.
pub fn is_of_deltas(name: &str) -> bool {
    name.starts_with('\u{3}')
}

/// By which all get what is published to a channel who have derived topics of it. Nobody joins it.
pub fn filterable(channel: &str) -> String {
    format!("\u{4}{channel}")
}

/// By which those get what is published to a channel who want only what passes this filter.
pub fn filtered(channel: &str, filter: &Filter) -> String {
    format!("\u{4}{channel}{FILTER_BEGINS}{}", filter.text())
}

/// The topic that one is derived from by a filter, and what that [says](Filter::text).
pub fn filter_of(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once(FILTER_BEGINS).filter(|(source, _)| source.starts_with(FILTER_BEGINS))
}

/// By which those get what is published to a channel who have a pattern that it matches. Nobody
/// joins it, but the same of a pattern.
pub fn matched(channel: &str) -> String {
    format!("{PATTERN_BEGINS}{channel}")
}

/// The pattern of a topic.
pub fn pattern_of(name: &str) -> Option<&str> {
    name.strip_prefix(PATTERN_BEGINS).filter(|it| is_pattern(it))
}

/// By what name the interest in a topic is counted: of those of a domain whose patterns there are
/// together, as nobody knows beforehand which of them match.
pub fn interest_name(name: &str) -> &str {
    match name.strip_prefix(PATTERN_BEGINS) {
        Some(channel) => &name[..PATTERN_BEGINS.len_utf8() + domain(channel).len()],
        None => filter_of(name).map_or(name, |(source, _)| source),
    }
}

/// The channel whose publications are matched against patterns, if these are such.
pub fn matched_channel(name: &str) -> Option<&str> {
    name.strip_prefix(PATTERN_BEGINS).filter(|it| !is_pattern(it))
}

/// Whether a topic belongs to a channel.
pub fn is_of_channel(name: &str) -> bool {
    name.starts_with(PREFIXES)
}

/// The channel whose publications a topic delivers, if it is one of those.
pub fn channel_of(name: &str) -> Option<&str> {
    name.starts_with(['\u{1}', '\u{3}', '\u{4}']).then(|| shown(name))
}

/// The name of a topic as people read it: that of its channel, if it is one of those.
pub fn shown(name: &str) -> &str {
    let name = name.trim_start_matches(PREFIXES);
    name.split_once(FILTER_BEGINS).map_or(name, |(channel, _)| channel)
}

/// What the names of such topics begin with.
const PREFIXES: [char; 5] = ['\u{1}', '\u{2}', '\u{3}', '\u{4}', PATTERN_BEGINS];
const PATTERN_BEGINS: char = '\u{5}';
/// What stands between the name of a channel and a filter, in neither of which it can be.
const FILTER_BEGINS: char = '\u{4}';
