//! Numbers as they are written in tags, compared exactly: prices and identifiers may have more
//! digits than a floating-point number.

use std::cmp::Ordering;

/// A number such as `-12.50`: a sign, digits, and perhaps a point with more of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<'a> {
    is_negative: bool,
    /// Digits before the point, without zeros in front.
    whole: &'a str,
    /// Digits behind the point, without zeros at the end.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Reads a number; nothing where the text is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (is_negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self { is_negative: is_negative && !is_zero, whole, fraction })
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let by_size = (self.whole.len().cmp(&other.whole.len()))
            .then_with(|| self.whole.cmp(other.whole))
            .then_with(|| self.fraction.cmp(other.fraction));
        Some(match (self.is_negative, other.is_negative) {
            (false, false) => by_size,
            (true, true) => by_size.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_numbers_are_numbers() {
        for text in ["0", "-0", "+1", "007", "1.50", "-12.5", "18446744073709551617"] {
            assert!(Decimal::parse(text).is_some(), "{text}");
        }
        for text in ["", "-", "+", ".", ".5", "5.", "1e3", "0x1", " 1", "1 ", "1,5", "1.2.3"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
        for text in ["--1", "-+1", "NaN", "inf", "\u{661}", "\u{20ac}1"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn digits_beyond_those_of_a_double_count() {
        let order = |a, b| Decimal::parse(a)?.partial_cmp(&Decimal::parse(b)?);
        assert_eq!(order("9007199254740993", "9007199254740992"), Some(Ordering::Greater));
        assert_eq!(order("0.1", "0.10000000000000000001"), Some(Ordering::Less));
        assert_eq!(order("-00.0", "0"), Some(Ordering::Equal));
        assert_eq!(order("1.05", "1.5"), Some(Ordering::Less));
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_numbers(a in any::<i32>(), b in any::<i32>()) {
            // In thousandths, so that numbers of both kinds have fractions.
            let text = |number: i32| {
                let (sign, size) = (if number < 0 { "-" } else { "" }, number.unsigned_abs());
                format!("{sign}{}.{:03}", size / 1_000, size % 1_000)
            };
            let (first, second) = (text(a), text(b));
            let order = Decimal::parse(&first).partial_cmp(&Decimal::parse(&second));
            prop_assert_eq!(order, Some(a.cmp(&b)));
        }
    }
}
