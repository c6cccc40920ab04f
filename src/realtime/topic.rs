//! The topics of the hub that a channel is delivered by. No topic of `/broadcast` has such a name,
//! as theirs have no control characters.

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

/// Whether a topic belongs to a channel.
pub fn is_of_channel(name: &str) -> bool {
    name.starts_with(PREFIXES)
}

/// The channel whose publications a topic delivers, if it is one of those.
pub fn channel_of(name: &str) -> Option<&str> {
    name.strip_prefix(['\u{1}', '\u{3}'])
}

/// The name of a topic as people read it: that of its channel, if it is one of those.
pub fn shown(name: &str) -> &str {
    name.trim_start_matches(PREFIXES)
}

/// What the names of such topics begin with.
const PREFIXES: [char; 3] = ['\u{1}', '\u{2}', '\u{3}'];
