//! The latency percentile curve and throughput over time as a picture.

use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;

use crate::bench::run::Run;

/// Refuses what is neither `.svg` nor `.png`.
///
/// # Errors
/// What is allowed.
pub fn check_kind(path: &Path) -> io::Result<()> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "png") => Ok(()),
        _ => Err(io::Error::other("a plot is a .svg or a .png file")),
    }
}

/// Draws the picture.
///
/// # Errors
/// When it cannot be written.
pub fn draw(path: &Path, run: &Run) -> io::Result<()> {
    // The font comes with the program: a picture looks the same on every machine.
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    let registered = plotters::style::register_font(FONT, FontStyle::Normal, font);
    registered.map_err(|_| io::Error::other("the embedded font is not valid"))?;
    check_kind(path)?;
    let result = if path.extension().is_some_and(|extension| extension == "svg") {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        picture(&area, run).map_err(|error| error.to_string())
    } else {
        let area = BitMapBackend::new(path, SIZE).into_drawing_area();
        picture(&area, run).map_err(|error| error.to_string())
    };
    result.map_err(io::Error::other)
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

fn picture<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, run: &Run) -> Drawn<DB> {
    area.fill(&BACKGROUND)?;
    let area = area.margin(MARGIN, 0, 0, MARGIN);
    let plan = &run.plan;
    let name = format!("{:?}", plan.workload).to_lowercase();
    let title = format!(
        "{name}: {} connections, {}, {}",
        plan.connections,
        plan.sizes.with_unit(),
        plan.target.url
    );
    let area = area.titled(&title, (FONT, 24).into_font().color(&INK))?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    percentiles(&left, run)?;
    over_time(&right, run)?;
    area.present()
}

/// Latency against the share of messages, which is spread so that each further nine has its room.
fn percentiles<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, run: &Run) -> Drawn<DB> {
    let steps = run.plan.steps();
    let sums: Vec<_> = run.steps().into_iter().map(|step| step.sum).collect();
    let most = sums.iter().map(|sum| sum.latency.len()).max().unwrap_or(0).max(10);
    let nines = (most as f64).log10().clamp(1.0, 6.0);
    let values = sums.iter().filter(|sum| !sum.latency.is_empty());
    let least = values.clone().map(|sum| sum.latency.min()).min().unwrap_or(1_000).max(1);
    let greatest = values.map(|sum| sum.latency.max()).max().unwrap_or(1_000_000);
    let range = least as f64 / 1.3e3..(greatest as f64 * 1.3 / 1e3).max(least as f64 / 1e2);
    let mut chart = ChartBuilder::on(area)
        .caption("latency by percentile", (FONT, 18).into_font().color(&INK))
        .margin(MARGIN)
        .x_label_area_size(42)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..nines, range.log_scale())?;
    chart
        .configure_mesh()
        .x_labels(nines as usize + 1)
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|microseconds| duration(*microseconds))
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_style(AXIS)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (number, sum) in sums.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let points = (0..=(nines * 50.0) as u32).map(|step| {
            let nines = f64::from(step) / 50.0;
            let value = sum.latency.value_at_quantile(1.0 - 10f64.powf(-nines));
            (nines, value.max(1) as f64 / 1e3)
        });
        let series = chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        if steps > 1 {
            let label = match run.plan.rates.get(number) {
                Some(rate) if run.plan.rates.len() > 1 => format!("{rate}/s"),
                _ if number == 0 => "all read".to_owned(),
                _ => format!("{} % do not read", run.plan.slow_percent),
            };
            series.label(label).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
            });
        }
    }
    if steps > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(BACKGROUND)
            .border_style(GRID)
            .label_font((FONT, 14).into_font().color(&INK))
            .draw()?;
    }
    Ok(())
}

fn over_time<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, run: &Run) -> Drawn<DB> {
    let each = run.record.interval_ns() as f64 / 1e9;
    let rates: Vec<_> = run.intervals().iter().map(|part| part.messages as f64 / each).collect();
    let most = rates.iter().copied().fold(1.0, f64::max);
    let seconds = each * rates.len().max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("throughput over time", (FONT, 18).into_font().color(&INK))
        .margin(MARGIN)
        .x_label_area_size(42)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..seconds, 0.0..most * 1.15)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|seconds| format!("{seconds:.1} s"))
        .y_label_formatter(&|rate| short(*rate))
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_style(AXIS)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    let points = rates.iter().enumerate().map(|(n, rate)| ((n as f64 + 0.5) * each, *rate));
    let color = COLORS[0];
    chart.draw_series(
        AreaSeries::new(points, 0.0, color.mix(0.2)).border_style(color.stroke_width(2)),
    )?;
    Ok(())
}

/// `0` is 0 %, `1` is 90 %, `2` is 99 % and so on.
fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-nines));
    let digits = (nines - 2.0).ceil().max(0.0) as usize;
    format!("{percent:.digits$} %")
}

fn duration(microseconds: f64) -> String {
    match microseconds {
        value if value < 1e3 => format!("{value:.0} us"),
        value if value < 1e6 => format!("{:.0} ms", value / 1e3),
        value => format!("{:.0} s", value / 1e6),
    }
}

fn short(rate: f64) -> String {
    match rate {
        value if value < 1e3 => format!("{value:.0}/s"),
        value if value < 1e6 => format!("{:.0} k/s", value / 1e3),
        value => format!("{:.2} M/s", value / 1e6),
    }
}

const FONT: &str = "sans-serif";
const SIZE: (u32, u32) = (1200, 520);
const MARGIN: u32 = 14;
const BACKGROUND: RGBColor = RGBColor(252, 252, 250);
const INK: RGBColor = RGBColor(45, 50, 60);
const AXIS: RGBColor = RGBColor(150, 155, 165);
const GRID: RGBColor = RGBColor(226, 228, 232);
const COLORS: [RGBColor; 6] = [
    RGBColor(24, 112, 184),
    RGBColor(222, 92, 50),
    RGBColor(40, 150, 96),
    RGBColor(140, 84, 180),
    RGBColor(200, 152, 20),
    RGBColor(90, 100, 115),
];
