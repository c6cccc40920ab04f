//! Values of options: sizes with units, times, mixes of sizes, shares and lists of rates.

use std::time::Duration;

/// A number of bytes: `20`, `20B`, `1KiB`, `16MiB`.
///
/// # Errors
/// What is allowed, when `text` is something else.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(SIZE_ALLOWED.to_owned()),
    };
    let number: usize = digits.parse().map_err(|_| SIZE_ALLOWED.to_owned())?;
    match number.checked_mul(unit) {
        Some(bytes) if bytes <= SIZE_MOST => Ok(bytes),
        _ => Err(SIZE_ALLOWED.to_owned()),
    }
}

/// A time with its unit: `250ms`, `10s`, `2m`, `1h`.
///
/// # Errors
/// What is allowed, when `text` is something else.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || DURATION_ALLOWED.to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(refused()),
    };
    let number: u64 = digits.parse().map_err(|_| refused())?;
    match number.checked_mul(unit_ms) {
        Some(milliseconds) if milliseconds <= DURATION_MOST_MS => {
            Ok(Duration::from_millis(milliseconds))
        }
        _ => Err(refused()),
    }
}

/// A latency, more than nothing: `500us`, `10ms`, `1s`.
///
/// # Errors
/// What is allowed, when `text` is something else.
pub fn parse_latency(text: &str) -> Result<Duration, String> {
    let latency = match text.strip_suffix("us") {
        Some(digits) => digits.parse().ok().map(Duration::from_micros),
        None => parse_duration(text).ok(),
    };
    let allowed = Duration::from_micros(1)..=LATENCY_MOST;
    latency.filter(|latency| allowed.contains(latency)).ok_or_else(|| LATENCY_ALLOWED.to_owned())
}

/// A share in percent: `10%` or `10`.
///
/// # Errors
/// What is allowed, when `text` is something else.
pub fn parse_percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    number.ok().filter(|&percent| percent <= 100).ok_or_else(|| "0% to 100%".to_owned())
}

/// A field of a request, `Name: value`, that is not one of those that make the upgrade.
///
/// # Errors
/// What is allowed, when `text` is something else.
pub fn parse_field(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once(':').ok_or(FIELD_ALLOWED)?;
    let value = value.trim_matches([' ', '\t']);
    let is_value = value.chars().all(|c| c == '\t' || !c.is_control());
    if !is_token(name) || !is_value {
        return Err(FIELD_ALLOWED.to_owned());
    }
    let is_own = OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own))
        || name.to_ascii_lowercase().starts_with("sec-websocket-");
    match is_own {
        true => Err(format!("{name} is a field that the upgrade itself sets")),
        false => Ok(format!("{name}: {value}")),
    }
}

/// A bearer token (RFC 6750 section 2.1).
///
/// # Errors
/// What is allowed, when `text` is something else.
pub fn parse_bearer(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let begin = text.trim_end_matches('=');
    match !begin.is_empty() && begin.chars().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("letters, digits and -._~+/, with = at the end alone".to_owned()),
    }
}

/// A name of a subprotocol (RFC 6455 section 4.1).
///
/// # Errors
/// What is allowed, when `text` is something else.
pub fn parse_subprotocol(text: &str) -> Result<String, String> {
    let allowed = "a name of letters, digits and !#$%&'*+-.^_`|~";
    if is_token(text) { Ok(text.to_owned()) } else { Err(allowed.to_owned()) }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// Sizes of messages and how often each occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeMix {
    /// What was asked for.
    pub text: String,
    /// Bytes and weight, at least one, the weights not all zero.
    pub parts: Vec<(usize, u32)>,
}

impl SizeMix {
    /// Reads a size, or sizes with weights: `20:70,1KiB:30`.
    ///
    /// # Errors
    /// What is allowed, when `text` is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let part = |part: &str| -> Result<(usize, u32), String> {
            let Some((size, weight)) = part.split_once(':') else {
                return Ok((parse_size(part)?, 1));
            };
            let weight = weight.parse().ok().filter(|weight| (1..=WEIGHT_MOST).contains(weight));
            let refused = || format!("weights from 1 to {WEIGHT_MOST}");
            Ok((parse_size(size)?, weight.ok_or_else(refused)?))
        };
        let parts: Vec<_> = text.split(',').map(part).collect::<Result<_, _>>()?;
        if parts.len() > PARTS_MOST {
            return Err(format!("at most {PARTS_MOST} sizes"));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The smallest size.
    pub fn least(&self) -> usize {
        self.parts.iter().map(|part| part.0).min().unwrap_or(0)
    }

    /// The largest size.
    pub fn most(&self) -> usize {
        self.parts.iter().map(|part| part.0).max().unwrap_or(0)
    }

    /// What was asked for, with its unit.
    pub fn with_unit(&self) -> String {
        let is_plain = self.text.bytes().all(|byte| byte.is_ascii_digit());
        if is_plain { format!("{} B", self.text) } else { self.text.clone() }
    }

    /// The sizes in the order in which messages take them, again and again: every part as often as
    /// its weight says, evenly spread (the one that lags behind its share most comes next).
    pub fn cycle(&self) -> Vec<u32> {
        let total: u32 = self.parts.iter().map(|part| part.1).sum();
        let mut credit = vec![0_i64; self.parts.len()];
        let mut cycle = Vec::with_capacity(total as usize);
        for _ in 0..total {
            for (credit, part) in credit.iter_mut().zip(&self.parts) {
                *credit += i64::from(part.1);
            }
            let most = credit
                .iter()
                .enumerate()
                .max_by_key(|(place, credit)| (**credit, std::cmp::Reverse(*place)));
            let Some((place, _)) = most else { break };
            credit[place] -= i64::from(total);
            cycle.push(self.parts[place].0 as u32);
        }
        cycle
    }
}

const FIELD_ALLOWED: &str = "'Name: value' without control characters";
const OWN_FIELDS: [&str; 3] = ["Host", "Upgrade", "Connection"];
const SIZE_ALLOWED: &str = "a size in B, KiB or MiB, up to 64MiB";
const SIZE_MOST: usize = 64 << 20;
const DURATION_ALLOWED: &str = "a time in ms, s, m or h, up to 24h";
const DURATION_MOST_MS: u64 = 24 * 3_600_000;
const LATENCY_ALLOWED: &str = "a time in us, ms or s, from 1us to 60s";
const LATENCY_MOST: Duration = Duration::from_secs(60);
const WEIGHT_MOST: u32 = 1000;
const PARTS_MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_multiply() {
        assert_eq!(parse_size("20"), Ok(20));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_percent("7%"), Ok(7));
        assert_eq!(parse_latency("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(parse_latency("10ms"), Ok(Duration::from_millis(10)));
        for wrong in ["", "us", "0us", "0s", "5", "61s", "2h", "18446744073709551616us"] {
            assert!(parse_latency(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "KiB", "1k", "65MiB", "-1", "1.5KiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "5", "s", "25h", "1d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_percent("101").is_err());
    }

    #[test]
    fn fields_cannot_break_the_request() {
        assert_eq!(parse_field("X-Trial:\t1 2 "), Ok("X-Trial: 1 2".to_owned()));
        assert_eq!(parse_field("Cookie: a=\u{e4}"), Ok("Cookie: a=\u{e4}".to_owned()));
        for wrong in ["", "a", ": b", "a b: c", "a: b\r\nc: d", "a\n: b", "host: b"] {
            assert!(parse_field(wrong).is_err(), "{wrong}");
        }
        assert!(parse_field("Sec-WebSocket-Key: x").is_err_and(|said| said.contains("itself")));
        assert_eq!(parse_bearer("a.b-c=="), Ok("a.b-c==".to_owned()));
        for wrong in ["", "=", "a b", "a=b", "a\r\n"] {
            assert!(parse_bearer(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_subprotocol("chat.v2"), Ok("chat.v2".to_owned()));
        assert!(parse_subprotocol("a, b").is_err());
    }

    #[test]
    fn a_mix_keeps_its_shares_and_spreads_them() {
        let mix = SizeMix::parse("20:3,1KiB:1").expect("a mix");
        assert_eq!((mix.least(), mix.most()), (20, 1024));
        let cycle = mix.cycle();
        assert_eq!(cycle.len(), 4);
        assert_eq!(cycle.iter().filter(|&&size| size == 1024).count(), 1);
        assert_eq!(SizeMix::parse("8").expect("a size").cycle(), [8]);
        assert!(SizeMix::parse("8:0").is_err());
        assert!(SizeMix::parse("8:1,").is_err());
    }
}
