//! The name of a subprotocol.

use std::fmt;
use std::str::FromStr;

/// The name of a subprotocol (RFC 6455 section 1.9), which is a token (section 4.1, RFC 9110
/// section 5.6.2) and so may stand in a response head as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subprotocol(String);

impl Subprotocol {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a name of letters, digits and !#$%&'*+-.^_`|~";

    /// The name, whose case matters (RFC 6455 section 11.3.4).
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Subprotocol {
    type Err = SubprotocolError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || PUNCTUATION.contains(&byte);
        match !text.is_empty() && text.bytes().all(is_token) {
            true => Ok(Self(text.to_owned())),
            false => Err(SubprotocolError),
        }
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that is no name of a subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {}", Subprotocol::GRAMMAR)]
pub struct SubprotocolError;

const PUNCTUATION: &[u8] = b"!#$%&'*+-.^_`|~";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subprotocols_are_tokens() {
        let name = "graphql-transport-ws.V1";
        assert_eq!(name.parse::<Subprotocol>().unwrap().name(), name);
        for bad in ["", "a b", "a,b", "a/b", "a\r\nb", "\u{e9}"] {
            assert_eq!(bad.parse::<Subprotocol>(), Err(SubprotocolError), "{bad}");
        }
    }
}
