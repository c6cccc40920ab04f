//! Which of two formats is wanted, as `Accept` says (RFC 9110 section 12.5.1).

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that is preferred; text when neither is, or nothing is said.
    pub(in crate::control) fn preferred(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<_> =
            values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        let quality = |format: Self| {
            let matching =
                ranges.iter().filter_map(|range| Some((range.precision(format)?, range)));
            // Of several that match, the most precise counts.
            matching.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, range)| range.quality)
        };
        match quality(Self::OpenMetrics) > quality(Self::Text) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// The media type of what is written.
    pub(in crate::control) fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes everything in this format.
    ///
    /// # Errors
    /// When the writer takes no more.
    pub(super) fn encode(self, writer: &mut impl fmt::Write, registry: &Registry) -> fmt::Result {
        match self {
            Self::Text => prometheus_text::encode(writer, registry),
            Self::OpenMetrics => text::encode(writer, registry),
        }
    }

    /// Type, subtype and version.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain", "0.0.4"),
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        }
    }
}

/// A range of media types.
struct Range<'a> {
    class: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (class, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self { class, subtype, version: None, quality: 1.0 };
        for part in parts {
            let (name, value) = part.split_once('=')?;
            match name.trim_end().to_ascii_lowercase().as_str() {
                "version" => range.version = Some(value.trim().trim_matches('"')),
                "q" => range.quality = value.trim().parse().ok()?,
                _ => {}
            }
        }
        Some(range)
    }

    /// How precisely this range names a format; `None` if it does not.
    fn precision(&self, format: Format) -> Option<u8> {
        let (class, subtype, version) = format.names();
        let is = |own: &str, other: &str| own.eq_ignore_ascii_case(other);
        match (self.class, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if is(own, class) => Some(1),
            (own, of) if is(own, class) && is(of, subtype) => match self.version {
                None => Some(2),
                Some(own) => (own == version).then_some(3),
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_format_is_written() {
        use Format::{OpenMetrics, Text};
        let cases = [
            ("", Text),
            ("*/*", Text),
            ("text/html, */*;q=0.1", Text),
            ("application/json", Text),
            ("text/plain", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\" ; Q=0.5", OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Text),
            ("application/openmetrics-text;version=2.0.0, text/plain;q=0.5", Text),
            ("application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5", Text),
            ("application/openmetrics-text;q=0.0", Text),
            ("application/openmetrics-text;q=x, */*;q=0.1", Text),
            ("application/*", OpenMetrics),
            ("text/*;q=0.5, */*", OpenMetrics),
            // Prometheus 2, then 3.
            (
                "application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                 encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;\
                 escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;\
                 q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::preferred(&headers), expected, "{accept}");
        }
        let mut several = HeaderMap::new();
        several.append(ACCEPT, "text/plain;q=0.5".parse().unwrap());
        several.append(ACCEPT, "application/openmetrics-text".parse().unwrap());
        assert_eq!(Format::preferred(&several), OpenMetrics);
        assert_eq!(Format::preferred(&HeaderMap::new()), Text);
    }
}
