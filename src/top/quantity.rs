//! How quantities are written, short and with their unit.

/// A number, such as `4.01k`.
pub(super) fn number(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"])
}

/// A number each second.
pub(super) fn rate(value: f64) -> String {
    format!("{}/s", number(value))
}

/// Bytes.
pub(super) fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// Bytes each second.
pub(super) fn byte_rate(value: f64) -> String {
    format!("{}/s", bytes(value))
}

/// A share of a whole.
pub(super) fn percent(value: f64) -> String {
    format!("{:.0} %", value * 100.0)
}

/// A time in seconds.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0 if seconds <= 0.0 => "0 s".to_owned(),
        0 => scaled(seconds * 1e6, 1000.0, &[" us", " ms", " s"]),
        1..60 => format!("{seconds:.0} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}

/// What is not known is told by a dash.
pub(super) fn written(format: fn(f64) -> String, value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), format)
}

/// Three digits and the unit in which they are enough.
fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut index = 0;
    while value.abs() >= base * 0.9995 && index + 1 < units.len() {
        value /= base;
        index += 1;
    }
    let digits = match value {
        _ if value.fract() == 0.0 => 0,
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short() {
        for (text, expected) in [
            (number(0.0), "0"),
            (number(999.0), "999"),
            (number(999.9), "1.00k"),
            (number(4013.0), "4.01k"),
            (number(1e16), "10000T"),
            (rate(40.8), "40.8/s"),
            (bytes(1536.0), "1.50 KiB"),
            (byte_rate(0.0), "0 B/s"),
            (percent(0.126), "13 %"),
            (duration(0.0), "0 s"),
            (duration(0.000185), "185 us"),
            (duration(0.0253), "25.3 ms"),
            (duration(1.4), "1 s"),
            (duration(125.0), "2 min 5 s"),
            (duration(90061.0), "1 d 1 h"),
            (written(number, None), "-"),
        ] {
            assert_eq!(text, expected);
        }
    }
}
