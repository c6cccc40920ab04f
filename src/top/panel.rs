//! The tables, of which one is shown at a time.

use std::time::SystemTime;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::widgets::{Paragraph, Row, Table, Widget, Wrap};

use super::metrics::{Change, Sample};
use super::quantity::{byte_rate, bytes, duration, number, percent, written};
use super::snapshot::{Resource, Snapshot, TICKS};
use crate::output;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    Shards,
    Capacity,
    Ends,
    Closes,
    Refusals,
    Top,
}

impl Panel {
    pub(super) const ALL: [Self; 6] =
        [Self::Shards, Self::Capacity, Self::Ends, Self::Closes, Self::Refusals, Self::Top];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shards => "Shards",
            Self::Capacity => "What is left",
            Self::Ends => "Last ends",
            Self::Closes => "Closes by code",
            Self::Refusals => "Refusals by reason",
            Self::Top => "Top connections",
        }
    }

    /// The one that is so many places further.
    pub(super) fn further(self, places: usize) -> Self {
        Self::ALL[(self as usize + places) % Self::ALL.len()]
    }

    /// How many rows it has.
    pub(super) fn rows(self, now: &Snapshot) -> usize {
        match self {
            Self::Shards => now.metrics.of(TICKS, &[]).count(),
            Self::Capacity => now.resources.len(),
            Self::Ends => now.closed.len(),
            Self::Closes => counts(now, CLOSES).len(),
            Self::Refusals => counts(now, REFUSALS).len(),
            Self::Top => now.top.as_ref().map_or(0, Vec::len),
        }
    }

    /// Draws it, without the first rows.
    pub(super) fn draw(
        self,
        now: &Snapshot,
        change: Option<Change<'_>>,
        skipped: usize,
        area: Rect,
        buffer: &mut Buffer,
    ) {
        if self.rows(now) == 0 {
            let words = match (self, &now.top) {
                (Self::Top, Err(words)) => words.as_str(),
                _ => "Nothing yet.",
            };
            return Paragraph::new(words).wrap(Wrap { trim: true }).render(area, buffer);
        }
        let (columns, rows) = match self {
            Self::Shards => (SHARD_COLUMNS, shards(now, change)),
            Self::Capacity => (CAPACITY_COLUMNS, capacity(now)),
            Self::Ends => (END_COLUMNS, ends(now)),
            Self::Closes => (CLOSE_COLUMNS, closes(now, change)),
            Self::Refusals => (REFUSAL_COLUMNS, refusals(now, change)),
            Self::Top => (TOP_COLUMNS, top(now)),
        };
        let widths = columns.iter().map(|(_, width)| match width {
            0 => Constraint::Fill(1),
            width => Constraint::Length(*width),
        });
        let head = Row::new(columns.iter().map(|(name, _)| *name)).style(Style::new().dim());
        let rows = rows.into_iter().skip(skipped).map(Row::new);
        Widget::render(Table::new(rows, widths).header(head).column_spacing(2), area, buffer);
    }
}

fn shards(now: &Snapshot, change: Option<Change<'_>>) -> Vec<Vec<String>> {
    let row = |sample: &Sample| {
        let shard = sample.label("shard");
        let labels = [("shard", shard)];
        let sum = |name| now.metrics.sum(name, &labels);
        let per = |name| change.and_then(|change| change.rate(name, &labels));
        let traffic = per("ringwire_received_bytes_total").zip(per("ringwire_sent_bytes_total"));
        let tick = change
            .and_then(|change| change.quantile(0.99, "ringwire_tick_duration_seconds", &labels));
        vec![
            shard.to_owned(),
            written(number, sum("ringwire_connections")),
            written(byte_rate, traffic.map(|(received, sent)| received + sent)),
            written(percent, per("ringwire_shard_cpu_seconds_total")),
            written(duration, tick),
            written(bytes, sum("ringwire_backlog_bytes")),
            written(duration, sum("ringwire_standing_delay_seconds")),
        ]
    };
    now.metrics.of(TICKS, &[]).map(row).collect()
}

fn capacity(now: &Snapshot) -> Vec<Vec<String>> {
    let row = |resource: &Resource| {
        let format = match &*resource.name {
            name if name.ends_with("_bytes") => bytes,
            name if name.starts_with("processor_") => percent,
            _ => number,
        };
        let share = (resource.limit > 0.0).then(|| resource.left / resource.limit);
        let per_minute = resource.growth_per_second.map(|growth| growth * 60.0);
        vec![
            resource.name.replace('_', " "),
            format(resource.used),
            format(resource.limit),
            written(percent, share),
            written(format, per_minute),
            written(duration, resource.used_up_in_seconds),
        ]
    };
    now.resources.iter().map(row).collect()
}

fn ends(now: &Snapshot) -> Vec<Vec<String>> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let row = |end: &super::snapshot::Closed| {
        let ago = (since_1970.as_secs_f64() - end.time_s).max(0.0).floor();
        let place = end.topic.as_ref().map_or(String::new(), |topic| format!(" {topic}"));
        vec![
            duration(ago),
            end.code.to_string(),
            initiator(&end.initiator).to_owned(),
            duration(end.age_s),
            visible(&format!("{}{place}", end.service)),
            visible(&end.reason),
        ]
    };
    now.closed.iter().map(row).collect()
}

fn closes(now: &Snapshot, change: Option<Change<'_>>) -> Vec<Vec<String>> {
    let row = |sample: &&Sample| {
        let (code, by) = (sample.label("code"), sample.label("initiator"));
        let labels = [("code", code), ("initiator", by)];
        let rate = change.and_then(|change| change.rate(CLOSES, &labels));
        let code = code.to_owned();
        vec![code, initiator(by).to_owned(), written(number, rate), number(sample.value)]
    };
    counts(now, CLOSES).iter().map(row).collect()
}

fn refusals(now: &Snapshot, change: Option<Change<'_>>) -> Vec<Vec<String>> {
    let row = |sample: &&Sample| {
        let reason = sample.label("reason");
        let labels = [("reason", reason)];
        let rate = change.and_then(|change| change.rate(REFUSALS, &labels));
        vec![reason.replace('_', " "), written(number, rate), number(sample.value)]
    };
    counts(now, REFUSALS).iter().map(row).collect()
}

fn top(now: &Snapshot) -> Vec<Vec<String>> {
    let text = |value: &Option<String>| visible(value.as_deref().unwrap_or("-"));
    let entries = now.top.iter().flatten().map(|entry| {
        vec![
            text(&entry.connection),
            written(bytes, entry.bytes),
            written(number, entry.messages),
            written(bytes, entry.backlog_bytes),
            text(&entry.address),
            text(&entry.topic),
        ]
    });
    entries.collect()
}

/// The counters of a family that have counted, the most first.
fn counts<'a>(now: &'a Snapshot, name: &'a str) -> Vec<&'a Sample> {
    let mut counts: Vec<_> =
        now.metrics.of(name, &[]).filter(|sample| sample.value > 0.0).collect();
    counts.sort_by(|left, right| right.value.total_cmp(&left.value));
    counts
}

fn initiator(name: &str) -> &str {
    match name {
        "local" => "server",
        "remote" => "peer",
        other => other,
    }
}

/// What a peer has said, without what a terminal would obey.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if output::is_control(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

const CLOSES: &str = "ringwire_closes_total";
const REFUSALS: &str = "ringwire_requests_refused_total";

/// Columns of a table with their widths; 0 takes what is left.
type Columns = &'static [(&'static str, u16)];

const SHARD_COLUMNS: Columns = &[
    ("shard", 5),
    ("open", 7),
    ("traffic", 12),
    ("processor", 9),
    ("tick 99 %", 9),
    ("backlog", 9),
    ("delay", 0),
];
const CAPACITY_COLUMNS: Columns = &[
    ("resource", 24),
    ("used", 10),
    ("of", 10),
    ("left", 6),
    ("more each minute", 16),
    ("used up in", 0),
];
const END_COLUMNS: Columns =
    &[("ago", 12), ("code", 5), ("by", 6), ("age", 12), ("where", 20), ("reason", 0)];
const CLOSE_COLUMNS: Columns = &[("code", 6), ("by", 7), ("per second", 10), ("since start", 0)];
const REFUSAL_COLUMNS: Columns = &[("reason", 24), ("per second", 10), ("since start", 0)];
const TOP_COLUMNS: Columns = &[
    ("connection", 20),
    ("bytes", 9),
    ("messages", 8),
    ("backlog", 9),
    ("address", 16),
    ("topic", 0),
];
