//! What is shown: what is kept of the last answers, which table is chosen, and how all that is
//! drawn into as much room as there is.

use std::collections::VecDeque;
use std::time::SystemTime;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline, Widget, Wrap};

use super::metrics::Change;
use super::panel::Panel;
use super::quantity::{byte_rate, bytes, duration, number, rate, written};
use super::snapshot::Snapshot;

/// The state of the screen.
pub(super) struct Screen {
    /// Whom it is about.
    address: String,
    before: Option<Snapshot>,
    now: Option<Snapshot>,
    /// One for each of [`CURVES`], the newest last.
    curves: [VecDeque<Option<u64>>; CURVES.len()],
    /// Why the last question has no answer.
    fault: Option<String>,
    pub(super) panel: Panel,
    /// Rows of the panel that are passed over.
    pub(super) skipped: usize,
    pub(super) is_paused: bool,
    pub(super) tells_keys: bool,
}

/// What is drawn over time: its name, the counters behind it, and how it is written.
type Curve = (&'static str, &'static [&'static str], fn(f64) -> String);

const CURVES: [Curve; 4] = [
    ("messages in", &["ringwire_messages_received_total"], rate),
    ("messages out", &["ringwire_messages_sent_total"], rate),
    ("traffic", &["ringwire_received_bytes_total", "ringwire_sent_bytes_total"], byte_rate),
    ("opened", &["ringwire_upgrades_total"], rate),
];

impl Screen {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            before: None,
            now: None,
            curves: Default::default(),
            fault: None,
            panel: Panel::Shards,
            skipped: 0,
            is_paused: false,
            tells_keys: false,
        }
    }

    /// Takes what was answered, or why nothing was.
    pub(super) fn take(&mut self, answer: Result<Snapshot, String>) {
        match answer {
            Ok(snapshot) => {
                self.fault = None;
                self.before = self.now.replace(snapshot);
            }
            Err(fault) => self.fault = Some(fault),
        }
        let values = CURVES.map(|(_, counters, _)| self.rate_of(counters));
        for (curve, value) in self.curves.iter_mut().zip(values) {
            if curve.len() == POINTS_MOST {
                curve.pop_front();
            }
            let value = value.filter(|_| self.fault.is_none());
            curve.push_back(value.map(|value| value.round() as u64));
        }
    }

    /// What has changed since the answer before, if there was one by the same process.
    fn change(&self) -> Option<Change<'_>> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        let start = |snapshot: &Snapshot| snapshot.metrics.sum(START, &[]);
        (start(before) == start(now)).then(|| Change {
            before: &before.metrics,
            now: &now.metrics,
            time: now.at.duration_since(before.at),
        })
    }

    fn rate_of(&self, counters: &[&str]) -> Option<f64> {
        let change = self.change()?;
        counters.iter().map(|counter| change.rate(counter, &[])).sum()
    }

    fn sum(&self, name: &str) -> Option<f64> {
        self.now.as_ref()?.metrics.sum(name, &[])
    }

    fn quantiles(&self, name: &str) -> String {
        let quantile = |share| self.change().and_then(|change| change.quantile(share, name, &[]));
        match quantile(0.5).zip(quantile(0.99)) {
            Some((half, most)) => format!("{} / {}", duration(half), duration(most)),
            None => "-".to_owned(),
        }
    }

    /// Title, state and figures.
    fn header(&self) -> Vec<Line<'_>> {
        let (state, color) = match (&self.fault, &self.now) {
            (Some(fault), _) => (format!("unreachable: {fault}"), Color::Red),
            (None, None) => ("asking".to_owned(), Color::Reset),
            (None, Some(Snapshot { unreadiness: Some(words), .. })) => {
                (format!("not ready: {words}"), Color::Yellow)
            }
            (None, Some(_)) => ("ready".to_owned(), Color::Green),
        };
        let mut title = vec!["ringwire ".bold(), Span::raw(format!("{}  ", self.address))];
        title.push(Span::styled(state, Style::new().fg(color).add_modifier(Modifier::BOLD)));
        if let Some(up) = self.sum(START).and_then(|start| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(now.as_secs_f64() - start)
        }) {
            title.push(Span::raw(format!("  up {}", duration(up.floor()))));
        }
        if self.is_paused {
            title.push("  paused".yellow());
        }
        let cpu = |change: Change<'_>| change.rate("process_cpu_seconds_total", &[]);
        let figures = format!(
            "WebSockets {} of {}   in {}   out {}   traffic {}",
            written(number, self.sum("ringwire_websockets")),
            written(number, self.sum("ringwire_websockets_limit")),
            written(rate, self.rate_of(CURVES[0].1)),
            written(rate, self.rate_of(CURVES[1].1)),
            written(byte_rate, self.rate_of(CURVES[2].1)),
        );
        let more = format!(
            "cores {}   memory {}   tick {}   delivery {}   ping {}",
            written(|cores| format!("{cores:.2}"), self.change().and_then(cpu)),
            written(bytes, self.sum("process_resident_memory_bytes")),
            self.quantiles("ringwire_tick_duration_seconds"),
            self.quantiles("ringwire_delivery_duration_seconds"),
            self.quantiles("ringwire_ping_round_trip_seconds"),
        );
        vec![Line::from(title), Line::from(figures), Line::from(more)]
    }

    fn draw_curves(&self, area: Rect, buffer: &mut Buffer) {
        let places = Layout::horizontal([Constraint::Fill(1); CURVES.len()]).spacing(2);
        let places = places.areas::<{ CURVES.len() }>(area);
        for (((name, counters, format), curve), place) in
            CURVES.iter().zip(&self.curves).zip(places)
        {
            let title = format!("{name} {}", written(*format, self.rate_of(counters)));
            let shown = curve.len().saturating_sub(place.width.into());
            Sparkline::default()
                .block(Block::new().title(title))
                .data(curve.iter().skip(shown).copied())
                .style(Style::new().fg(Color::Cyan))
                .render(place, buffer);
        }
    }

    fn draw_panel(&self, panel: Panel, skipped: usize, area: Rect, buffer: &mut Buffer) {
        match &self.now {
            Some(now) => panel.draw(now, self.change(), skipped, area, buffer),
            None => Paragraph::new("No answer yet.").render(area, buffer),
        }
    }

    fn tabs(&self) -> Line<'static> {
        let tabs = Panel::ALL.into_iter().flat_map(|panel| {
            let name = format!(" {} ", panel.name());
            let name = if panel == self.panel { name.reversed() } else { Span::raw(name) };
            [name, Span::raw(" ")]
        });
        Line::from_iter(tabs)
    }

    /// Everything as text, each table below the other, `width` columns wide.
    pub(super) fn text(&self, width: u16) -> String {
        let rows = |panel: Panel| {
            // Under their head, or the words that there are none.
            let count = self.now.as_ref().map_or(1, |now| panel.rows(now) + 1);
            u16::try_from(count).unwrap_or(u16::MAX).min(PRINTED_ROWS_MOST)
        };
        let mut text = print(width, HEADER_ROWS, |area, buffer| {
            Paragraph::new(self.header()).render(area, buffer);
        });
        for panel in Panel::ALL {
            text.push_str(&format!("\n{}\n", panel.name()));
            text.push_str(&print(width, rows(panel), |area, buffer| {
                self.draw_panel(panel, 0, area, buffer);
            }));
        }
        text
    }

    /// How many rows the chosen table has.
    pub(super) fn rows(&self) -> usize {
        self.now.as_ref().map_or(0, |now| self.panel.rows(now))
    }
}

impl Widget for &Screen {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let curves = if area.height >= ROWS_FOR_CURVES { CURVE_ROWS } else { 0 };
        let [header, over_time, tabs, panel, keys] = Layout::vertical([
            Constraint::Length(HEADER_ROWS),
            Constraint::Length(curves),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        Paragraph::new(self.header()).render(header, buffer);
        self.draw_curves(over_time, buffer);
        self.tabs().render(tabs, buffer);
        if self.tells_keys {
            Paragraph::new(KEYS).wrap(Wrap { trim: false }).render(panel, buffer);
        } else {
            self.draw_panel(self.panel, self.skipped, panel, buffer);
        }
        Line::from("q ends   Tab chooses   p pauses   ? keys").dim().render(keys, buffer);
    }
}

/// What is drawn into so much room, as lines of text.
fn print(width: u16, height: u16, draw: impl FnOnce(Rect, &mut Buffer)) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(area, &mut buffer);
    let lines = area.rows().map(|row| {
        let line: String = row.columns().map(|cell| buffer[(cell.x, cell.y)].symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

const KEYS: &str = "\
q, Ctrl-C    ends
Tab, right   the next table
left         the table before
up, down     move in the table, PageUp and PageDown by ten
p            pauses, and goes on
?            shows this, and hides it";
const START: &str = "process_start_time_seconds";
/// What is kept of each curve: more than the widest terminal has columns for.
const POINTS_MOST: usize = 1024;
const HEADER_ROWS: u16 = 3;
const CURVE_ROWS: u16 = 4;
/// Below this height there is no room for curves.
const ROWS_FOR_CURVES: u16 = 16;
/// Of each table, when it is printed.
const PRINTED_ROWS_MOST: u16 = 200;

#[cfg(test)]
mod tests;
