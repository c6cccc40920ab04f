//! Offers of the extension and the answer to them (RFC 7692 sections 5 and 7.1).

use super::{WINDOW_BITS_LEAST, WINDOW_BITS_MOST};

/// What a server agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether the server's messages may refer to earlier ones.
    pub server_takeover: bool,
    /// Whether the client's messages may.
    pub client_takeover: bool,
    /// The server's largest window, in bits of its size: 9 to 15.
    pub window_bits: u8,
}

/// What both ends have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Whether the server's messages may refer to earlier ones.
    pub server_takeover: bool,
    /// Whether the client's messages may.
    pub client_takeover: bool,
    /// How far back the server's messages refer, in bits: 8 to 15.
    pub server_window_bits: u8,
    /// How far back the client's messages refer, in bits: 8 to 15.
    pub client_window_bits: u8,
}

/// Answers the values of all `Sec-WebSocket-Extensions` fields of a request with the first offer
/// that can be accepted and the value of the response's field.
///
/// An offer with a parameter that is unknown, repeated or out of range is declined, and so is
/// everything in fields that break the grammar (RFC 6455 section 9.1).
pub fn accept<'a>(
    fields: impl IntoIterator<Item = &'a [u8]>,
    terms: &Terms,
) -> Option<(Agreement, String)> {
    let mut offers = Vec::new();
    for field in fields {
        offers.extend(extensions(field)?);
    }
    let is_ours = |offer: &&Extension| offer.name.eq_ignore_ascii_case(NAME.as_bytes());
    let parameters = offers.iter().filter(is_ours).find_map(Parameters::read)?;
    Some(parameters.agree(terms))
}

/// Reads a response's field that answers the offer [`SELF_CONTAINED_OFFER`].
pub fn accepted(field: &[u8]) -> Option<Agreement> {
    let [extension] = <[Extension; 1]>::try_from(extensions(field)?).ok()?;
    if !extension.name.eq_ignore_ascii_case(NAME.as_bytes()) {
        return None;
    }
    let parameters = Parameters::read(&extension)?;
    let client_window_bits = match parameters.client_max_window_bits {
        None => WINDOW_BITS_MOST,
        Some(bits) => bits?,
    };
    // Whoever is asked for messages that stand for themselves must say that they do.
    parameters.server_no_context_takeover.then_some(Agreement {
        server_takeover: false,
        client_takeover: !parameters.client_no_context_takeover,
        server_window_bits: parameters.server_max_window_bits.unwrap_or(WINDOW_BITS_MOST),
        client_window_bits,
    })
}

/// What a client offers that keeps no state between messages, in either direction.
pub const SELF_CONTAINED_OFFER: &str = "permessage-deflate; server_no_context_takeover; \
    client_no_context_takeover; client_max_window_bits";

/// The parameters of one offer or answer; absent ones are `false` or `None`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// The value may be left out of an offer.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` when one is unknown, repeated or out of range (RFC 7692 section 7.1).
    fn read(extension: &Extension) -> Option<Self> {
        let mut read = Self::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            match name.to_ascii_lowercase().as_slice() {
                b"server_no_context_takeover" => set(&mut read.server_no_context_takeover, value)?,
                b"client_no_context_takeover" => set(&mut read.client_no_context_takeover, value)?,
                b"server_max_window_bits" if read.server_max_window_bits.is_none() => {
                    read.server_max_window_bits = Some(window_bits(value?)?);
                }
                b"client_max_window_bits" if read.client_max_window_bits.is_none() => {
                    let bits = match value {
                        Some(value) => Some(window_bits(value)?),
                        None => None,
                    };
                    read.client_max_window_bits = Some(bits);
                }
                _ => return None,
            }
        }
        Some(read)
    }

    /// What comes of an offer, and the answer to it.
    fn agree(&self, terms: &Terms) -> (Agreement, String) {
        let offered_bits = self.server_max_window_bits.unwrap_or(WINDOW_BITS_MOST);
        let client_bits = self.client_max_window_bits.map(|bits| bits.unwrap_or(WINDOW_BITS_MOST));
        let agreement = Agreement {
            server_takeover: terms.server_takeover && !self.server_no_context_takeover,
            client_takeover: terms.client_takeover && !self.client_no_context_takeover,
            server_window_bits: offered_bits.min(terms.window_bits),
            client_window_bits: client_bits
                .map_or(WINDOW_BITS_MOST, |bits| bits.min(terms.window_bits)),
        };
        let mut answer = NAME.to_owned();
        if !agreement.server_takeover {
            answer.push_str("; server_no_context_takeover");
        }
        if !agreement.client_takeover {
            answer.push_str("; client_no_context_takeover");
        }
        // What was asked for must be confirmed; a limit of ours lets the client save memory.
        let bits = agreement.server_window_bits;
        if self.server_max_window_bits.is_some() || bits < WINDOW_BITS_MOST {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        // Only a client that has named this parameter knows it.
        let bits = agreement.client_window_bits;
        if client_bits.is_some() && bits < WINDOW_BITS_MOST {
            answer.push_str(&format!("; client_max_window_bits={bits}"));
        }
        (agreement, answer)
    }
}

/// Sets a parameter that has no value and appears once.
fn set(parameter: &mut bool, value: Option<&[u8]>) -> Option<()> {
    (!std::mem::replace(parameter, true) && value.is_none()).then_some(())
}

/// 8 to 15, without leading zeros (RFC 7692 section 7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    let bits = str::from_utf8(value).ok()?.parse().ok()?;
    let is_plain = value.first().is_some_and(|first| matches!(first, b'1'..=b'9'));
    (is_plain && (WINDOW_BITS_LEAST..=WINDOW_BITS_MOST).contains(&bits)).then_some(bits)
}

/// An element of the list of extensions.
#[derive(Debug)]
struct Extension {
    name: Vec<u8>,
    parameters: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Reads a list of extensions; `None` when it breaks the grammar (RFC 6455 section 9.1).
fn extensions(field: &[u8]) -> Option<Vec<Extension>> {
    let mut text = Text { rest: field };
    let mut extensions = Vec::new();
    loop {
        // Empty elements count for nothing (RFC 9110 section 5.6.1).
        while text.eat(b',') {}
        if text.is_at_end() {
            return Some(extensions);
        }
        let mut extension = Extension { name: text.token()?, parameters: Vec::new() };
        while text.eat(b';') {
            let name = text.token()?;
            let value = if text.eat(b'=') { Some(text.value()?) } else { None };
            extension.parameters.push((name, value));
        }
        extensions.push(extension);
        if !text.eat(b',') && !text.is_at_end() {
            return None;
        }
    }
}

/// What is left of a field.
struct Text<'a> {
    rest: &'a [u8],
}

impl Text<'_> {
    fn is_at_end(&mut self) -> bool {
        self.skip_white_space();
        self.rest.is_empty()
    }

    fn skip_white_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn eat(&mut self, delimiter: u8) -> bool {
        self.skip_white_space();
        match self.rest.split_first() {
            Some((&first, rest)) if first == delimiter => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// RFC 9110 section 5.6.2.
    fn token(&mut self) -> Option<Vec<u8>> {
        self.skip_white_space();
        let bytes = self.rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        let (token, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        (!token.is_empty()).then(|| token.to_vec())
    }

    /// A token, or one in quotes, with any of its bytes escaped (RFC 6455 section 9.1).
    fn value(&mut self) -> Option<Vec<u8>> {
        if !self.eat(b'"') {
            return self.token();
        }
        let mut value = Vec::new();
        loop {
            let (byte, rest) = match self.rest {
                [b'"', rest @ ..] if !value.is_empty() => {
                    self.rest = rest;
                    return Some(value);
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
                [] => return None,
            };
            if !is_token_byte(byte) {
                return None;
            }
            value.push(byte);
            self.rest = rest;
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 7692 section 7.
const NAME: &str = "permessage-deflate";

#[cfg(test)]
mod tests;
