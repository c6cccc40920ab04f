//! What the listener accepts, in the form in which requests are compared with it.

use super::origin::{OriginPattern, OriginPatternError};
use crate::config::{CompressionMode, Config, Root};
use crate::wire::deflate::negotiation::Terms;

/// The settings that decide about a request.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What an upgrade of `/` means.
    pub root: Root,
    /// Origins that may upgrade; empty allows all, and a request without `Origin` is always
    /// allowed.
    pub allow_origin: Vec<OriginPattern>,
    /// Subprotocols spoken (RFC 6455 section 1.9).
    pub subprotocols: Vec<String>,
    /// What offers of compression are answered with; `None` ignores them.
    pub compression: Option<Terms>,
    /// Most bytes of a request head, request line included.
    pub request_head_bytes: usize,
    /// Most header fields of a request.
    pub request_headers: usize,
}

impl Policy {
    /// Takes the settings from the configuration; refuses origins and subprotocols that could never
    /// match.
    pub fn new(config: &Config) -> Result<Self, PolicyError> {
        Ok(Self {
            root: config.root,
            allow_origin: config
                .allow_origin
                .iter()
                .map(|o| o.parse())
                .collect::<Result<_, _>>()?,
            subprotocols: config
                .subprotocols
                .iter()
                .map(|p| subprotocol(p))
                .collect::<Result<_, _>>()?,
            compression: terms(config),
            request_head_bytes: config.limits.request_head_bytes,
            request_headers: config.limits.request_headers,
        })
    }
}

fn terms(config: &Config) -> Option<Terms> {
    let takeover = match config.compression.mode {
        CompressionMode::Off => return None,
        CompressionMode::Shared => false,
        CompressionMode::Dedicated => true,
    };
    let window_bits = config.compression.window_bits;
    Some(Terms { server_takeover: takeover, client_takeover: takeover, window_bits })
}

/// Whether new WebSocket connections are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Yes.
    Open,
    /// No, the limit of connections is reached.
    Full,
    /// No, memory is short.
    ShortOfMemory,
    /// No, the server is stopping.
    Draining,
}

/// Why a configuration makes no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// An allowed origin cannot be understood.
    #[error(transparent)]
    Origin(#[from] OriginPatternError),
    /// A subprotocol is not a token (RFC 9110 section 5.6.2), so no client may ask for it.
    #[error("`{0}` is not a subprotocol; allowed are letters, digits and !#$%&'*+-.^_`|~")]
    Subprotocol(String),
}

/// Also what keeps line breaks of a configuration out of response heads.
fn subprotocol(name: &str) -> Result<String, PolicyError> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(PolicyError::Subprotocol(name.to_owned()));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subprotocols_are_tokens() {
        assert_eq!(subprotocol("graphql-transport-ws").as_deref(), Ok("graphql-transport-ws"));
        for name in ["", "a b", "a,b", "a\r\nb", "\u{e9}"] {
            let error = subprotocol(name).unwrap_err();
            assert_eq!(error, PolicyError::Subprotocol(name.to_owned()));
        }
    }
}
