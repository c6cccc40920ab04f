//! Reads the text format of Prometheus, version 0.0.4, and tells what has changed between two
//! scrapes.

use std::time::Duration;

/// The samples of a scrape.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    /// The value of a label; empty where there is no such label.
    pub(super) fn label(&self, name: &str) -> &str {
        let label = self.labels.iter().find(|(other, _)| other == name);
        label.map_or("", |(_, value)| value)
    }

    /// A line that is no sample gives none.
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let end = line.find(['{', ' '])?;
        let name = line[..end].to_owned();
        let (labels, rest) = match line[end..].strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), &line[end..]),
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self { name, labels, value })
    }
}

/// The labels up to the brace that closes, and what is behind it.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(',');
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (mut value, mut characters) = (String::new(), rest.char_indices());
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        text = &rest[end + 1..];
    }
}

impl Metrics {
    pub(super) fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(Sample::parse).collect() }
    }

    /// The samples of a name whose labels have these values.
    pub(super) fn of<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let is_wanted = move |sample: &&Sample| {
            sample.name == name && labels.iter().all(|(label, value)| sample.label(label) == *value)
        };
        self.samples.iter().filter(is_wanted)
    }

    /// Their sum; `None` where there are none.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.of(name, labels).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// The counts of a histogram at or below each bound, of all series together.
    fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.of(&format!("{name}_bucket"), labels) {
            let Ok(bound) = sample.label("le").parse::<f64>() else { continue };
            match buckets.iter_mut().find(|(other, _)| *other == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        buckets
    }
}

/// What has happened between two scrapes.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) before: &'a Metrics,
    pub(super) now: &'a Metrics,
    pub(super) time: Duration,
}

impl Change<'_> {
    /// By how much counters have grown each second; `None` where that cannot be known.
    pub(super) fn rate(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (before, now) = (self.before.sum(name, labels)?, self.now.sum(name, labels)?);
        let seconds = self.time.as_secs_f64();
        (now >= before && seconds > 0.0).then(|| (now - before) / seconds)
    }

    /// Below which this share of all that was measured meanwhile lies, within its bucket in
    /// proportion; `None` where nothing was measured.
    pub(super) fn quantile(&self, share: f64, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let before = self.before.buckets(name, labels);
        let counts = self.now.buckets(name, labels).into_iter().map(|(bound, count)| {
            let earlier = before.iter().find(|(other, _)| *other == bound);
            (bound, count - earlier.map_or(0.0, |(_, count)| *count))
        });
        let counts: Vec<_> = counts.collect();
        let total = counts.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in counts {
            if count >= share * total {
                let part = (share * total - below) / (count - below).max(1.0);
                return Some(if bound.is_finite() {
                    lower + (bound - lower) * part
                } else {
                    lower
                });
            }
            (lower, below) = (bound, count);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_anything_else_is_passed_over() {
        let metrics = Metrics::parse(
            "# TYPE a counter\na 1\na{} 2\na{x=\"1\",y=\"\\\"}\\\\\\n, \"} 3.5\n\
             b{x=\"1\"} +Inf 17\n\nc\nd{\nd{x\nd{x=\"\nd{x=\"\\\ne x\n{} 1\n",
        );
        assert_eq!(metrics.sum("a", &[]), Some(6.5));
        assert_eq!(metrics.sum("a", &[("y", "\"}\\\n, ")]), Some(3.5));
        assert_eq!(metrics.sum("b", &[("x", "1")]), Some(f64::INFINITY));
        assert_eq!(metrics.sum("b", &[("x", "2")]), None);
        for broken in ["c", "d", "e"] {
            assert_eq!(metrics.sum(broken, &[]), None, "{broken}");
        }
    }

    #[test]
    fn a_change_tells_rates_and_quantiles_of_what_came_meanwhile() {
        let scrape = |count: u32, first: u32, all: u32| {
            Metrics::parse(&format!(
                "n_total {count}\nh_bucket{{le=\"1\"}} {first}\nh_bucket{{le=\"3\"}} {all}\n\
                 h_bucket{{le=\"+Inf\"}} {all}\n"
            ))
        };
        let (before, now) = (scrape(10, 5, 5), scrape(40, 5, 15));
        let change = Change { before: &before, now: &now, time: Duration::from_secs(2) };
        assert_eq!(change.rate("n_total", &[]), Some(15.0));
        assert_eq!(change.rate("m_total", &[]), None);
        assert_eq!(change.quantile(0.5, "h", &[]), Some(2.0));
        // Another process counts anew.
        let back = Change { before: &now, now: &before, ..change };
        assert_eq!((back.rate("n_total", &[]), back.quantile(0.5, "h", &[])), (None, None));
    }
}
