//! Which name was probably meant.

/// The name most like `name`, when any is like it at all.
pub fn closest<N: AsRef<str>>(name: &str, names: impl IntoIterator<Item = N>) -> Option<N> {
    names
        .into_iter()
        .map(|other| (strsim::jaro_winkler(name, other.as_ref()), other))
        .filter(|(similarity, _)| *similarity > SIMILARITY_LEAST)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, other)| other)
}

/// Below this Jaro-Winkler similarity a suggestion confuses more than it helps.
const SIMILARITY_LEAST: f64 = 0.8;
