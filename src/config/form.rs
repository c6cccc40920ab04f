//! How the value of a setting is written: what a text may look like, what it means, and how the
//! meaning is written back so that reading it again gives the same value.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use crate::limits::Bound;

/// The notation of one type of value.
pub(super) struct Form<T> {
    /// What may be written, in words that complete "allowed is".
    pub(super) allowed: String,
    /// The same in a few words for the help, where the numbers have ends.
    pub(super) range: Option<String>,
    /// All texts that may be written, where they can be listed.
    pub(super) choices: Vec<String>,
    /// What a text means; `None` refuses it.
    pub(super) parse: Box<Parse<T>>,
    /// The shortest text that means exactly this value.
    pub(super) print: Box<Print<T>>,
}

type Parse<T> = dyn Fn(&str) -> Option<T>;
type Print<T> = dyn Fn(&T) -> String;

impl<T: 'static> Form<T> {
    /// The same notation, and `off` for no value at all.
    pub(super) fn or_off(self) -> Form<Option<T>> {
        let Self { allowed, range, parse, print, .. } = self;
        Form {
            allowed: format!("{allowed}, or {OFF}"),
            range: range.map(|range| format!("{range}, or {OFF}")),
            choices: Vec::new(),
            parse: Box::new(move |text| match text {
                OFF => Some(None),
                text => parse(text).map(Some),
            }),
            print: Box::new(move |value| match value {
                Some(value) => print(value),
                None => OFF.to_owned(),
            }),
        }
    }

    /// The same notation with fewer values; `allowed` says which are left.
    fn only(self, allowed: &str, accepts: impl Fn(&T) -> bool + 'static) -> Self {
        let Self { allowed: before, range, choices, parse, print } = self;
        Self {
            allowed: format!("{before}, {allowed}"),
            range: range.map(|range| format!("{range}, {allowed}")),
            choices,
            parse: Box::new(move |text| parse(text).filter(&accepts)),
            print,
        }
    }
}

/// Number types a setting may have.
pub(super) trait Number: Copy + PartialOrd + TryFrom<u64> + TryInto<u64> + 'static {}

impl<T: Copy + PartialOrd + TryFrom<u64> + TryInto<u64> + 'static> Number for T {}

/// A plain number.
pub(super) fn count<T: Number, D>(bound: &Bound<T, D>) -> Form<T> {
    number("a number", &COUNT_UNITS, bound)
}

/// A number of bytes: `65536`, `64KiB`.
pub(super) fn size<T: Number, D>(bound: &Bound<T, D>) -> Form<T> {
    number("a size in B, KiB, MiB or GiB", &SIZE_UNITS, bound)
}

/// A number as `number` reads it that is a power of two.
pub(super) fn power_of_two<T: Number>(form: Form<T>) -> Form<T> {
    form.only("a power of two", |value| widen(*value).is_power_of_two())
}

/// A time span: `250ms`, `10s`.
pub(super) fn duration<D>(bound: &Bound<Duration, D>) -> Form<Duration> {
    let milliseconds = Bound {
        default: (),
        least: whole_milliseconds(bound.least),
        most: whole_milliseconds(bound.most),
    };
    let Form { allowed, range, choices, parse, print } =
        number("a time in ms, s, m, h or d", &DURATION_UNITS, &milliseconds);
    Form {
        allowed,
        range,
        choices,
        parse: Box::new(move |text| parse(text).map(Duration::from_millis)),
        print: Box::new(move |value| print(&whole_milliseconds(*value))),
    }
}

/// One of the variants of an enum, in kebab case.
pub(super) fn choice<T: ValueEnum + Copy + 'static>() -> Form<T> {
    let choices: Vec<String> = T::value_variants().iter().map(variant_name).collect();
    Form {
        allowed: one_of(&choices),
        range: None,
        choices,
        parse: Box::new(|text| T::from_str(text, false).ok()),
        print: Box::new(variant_name),
    }
}

/// `true` or `false`.
pub(super) fn boolean() -> Form<bool> {
    let choices = vec![TRUE.to_owned(), "false".to_owned()];
    Form { choices, ..parsed("true or false") }
}

/// Whatever the type itself reads; `allowed` says it in words.
pub(super) fn parsed<T: FromStr + Display + 'static>(allowed: &str) -> Form<T> {
    Form {
        allowed: allowed.to_owned(),
        range: None,
        choices: Vec::new(),
        parse: Box::new(|text| text.parse().ok()),
        print: Box::new(T::to_string),
    }
}

/// A unit's suffix and how many of the smallest unit it holds.
type Unit = (&'static str, u64);

fn number<T: Number, D>(noun: &str, units: &'static [Unit], bound: &Bound<T, D>) -> Form<T> {
    let (least, most) = (bound.least, bound.most);
    let print = move |value: &T| write_with_unit(units, widen(*value));
    let range = format!("{} to {}", print(&least), print(&most));
    Form {
        allowed: format!("{noun}, {range}"),
        range: Some(range),
        choices: Vec::new(),
        parse: Box::new(move |text| {
            let value = T::try_from(read_with_unit(units, text)?).ok()?;
            (least <= value && value <= most).then_some(value)
        }),
        print: Box::new(print),
    }
}

fn read_with_unit(units: &[Unit], text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == suffix)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes in the largest unit that leaves no remainder; the first is the smallest.
fn write_with_unit(units: &[Unit], value: u64) -> String {
    let fits = |(_, factor): &&Unit| *factor == 1 || (value != 0 && value.is_multiple_of(*factor));
    match units.iter().rev().find(fits) {
        Some((suffix, factor)) => format!("{}{suffix}", value / factor),
        None => value.to_string(),
    }
}

fn whole_milliseconds(value: Duration) -> u64 {
    u64::try_from(value.as_millis()).unwrap_or(u64::MAX)
}

/// No number type of a setting is wider than 64 bits or negative, so nothing is ever cut off.
fn widen<T: Number>(value: T) -> u64 {
    value.try_into().unwrap_or(u64::MAX)
}

fn variant_name<T: ValueEnum>(variant: &T) -> String {
    variant.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn one_of(choices: &[String]) -> String {
    match choices {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        choices => choices.concat(),
    }
}

const OFF: &str = "off";
/// What a boolean says that holds.
pub(super) const TRUE: &str = "true";
const COUNT_UNITS: [Unit; 1] = [("", 1)];
/// A bare number is read as bytes and written with its unit.
const SIZE_UNITS: [Unit; 5] =
    [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const DURATION_UNITS: [Unit; 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SlowConsumer;
    use crate::limits;

    fn reads<T: PartialEq + std::fmt::Debug>(form: &Form<T>, text: &str, value: T, written: &str) {
        let parsed = (form.parse)(text).expect(text);
        assert_eq!(parsed, value, "{text}");
        assert_eq!((form.print)(&parsed), written);
        assert_eq!((form.parse)(written), Some(value), "{written}");
    }

    fn refuses<T>(form: &Form<T>, texts: &[&str]) {
        for text in texts {
            assert!((form.parse)(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn sizes_take_binary_units_and_bytes() {
        let form = size(&limits::MESSAGE_BYTES);
        reads(&form, "1", 1, "1B");
        reads(&form, "1000B", 1000, "1000B");
        reads(&form, "64KiB", 64 << 10, "64KiB");
        reads(&form, "1024KiB", 1 << 20, "1MiB");
        reads(&form, "1GiB", 1 << 30, "1GiB");
        refuses(&form, &["", "0", "-1", "2GiB", "1MB", "1mib", "1 MiB", "MiB", "1.5MiB", "\u{b2}"]);
        refuses(&form, &["99999999999999999999", "18446744073709551615GiB", "4294967297"]);
    }

    #[test]
    fn durations_need_a_unit() {
        let form = duration(&limits::IDLE_TIMEOUT).or_off();
        reads(&form, "250ms", Some(Duration::from_millis(250)), "250ms");
        reads(&form, "120s", Some(Duration::from_secs(120)), "2m");
        reads(&form, "90s", Some(Duration::from_secs(90)), "90s");
        reads(&form, "off", None, "off");
        refuses(
            &form,
            &["", "10", "0s", "99ms", "8d", "1h30m", "OFF", "s", "18446744073709551615d"],
        );
        reads(&duration(&limits::DRAIN), "0s", Duration::ZERO, "0ms");
    }

    #[test]
    fn powers_of_two_alone_pass_where_they_must() {
        let form = power_of_two(count(&limits::RECEIVE_BUFFERS));
        reads(&form, "32768", 1 << 15, "32768");
        refuses(&form, &["0", "3", "65536", "0x10"]);
        assert_eq!(form.allowed, "a number, 1 to 32768, a power of two");
    }

    #[test]
    fn choices_are_listed() {
        let form = choice::<SlowConsumer>();
        reads(&form, "drop-newest", SlowConsumer::DropNewest, "drop-newest");
        refuses(&form, &["", "DropNewest", "drop"]);
        assert_eq!(form.allowed, "disconnect, drop-newest, drop-oldest or latest");
    }
}
