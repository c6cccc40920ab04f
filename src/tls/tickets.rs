//! Session tickets that several servers understand: what a client needs to go on with a session,
//! encrypted by a key that the servers share (RFC 8446 section 4.6.1).

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// Makes and reads tickets. The first key makes new ones, all keys read.
pub(super) struct Tickets {
    keys: Vec<RandomizedNonceKey>,
}

/// What is wrong with a file of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketKeysError {
    /// It has none.
    #[error("it has no key: write 64 hex digits a line, as `openssl rand -hex 32` makes them")]
    Empty,
    /// This line is no key.
    #[error("line {0} is not 64 hex digits, as `openssl rand -hex 32` makes them")]
    Line(usize),
    /// More than are tried for each ticket.
    #[error("it has more than {KEYS_MOST} keys: leave out the oldest")]
    TooMany,
}

impl Tickets {
    /// Reads keys, one a line.
    ///
    /// # Errors
    /// The first line that is none, and none or too many of them.
    pub(super) fn parse(text: &str) -> Result<Self, TicketKeysError> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let bytes = key_bytes(line).ok_or(TicketKeysError::Line(number))?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, &*bytes);
            keys.push(key.map_err(|_| TicketKeysError::Line(number))?);
        }
        match keys.len() {
            0 => Err(TicketKeysError::Empty),
            count if count > KEYS_MOST => Err(TicketKeysError::TooMany),
            _ => Ok(Self { keys }),
        }
    }
}

/// The 32 bytes that 64 hex digits stand for.
fn key_bytes(line: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let digits = line.as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |place: usize| char::from(pair[place]).to_digit(16);
        *byte = (16 * digit(0)? + digit(1)?) as u8;
    }
    Some(bytes)
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let key = self.keys.first()?;
        let nonce = key.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        let nonce: &[u8] = nonce.as_ref();
        Some([nonce, &sealed].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = cipher.split_at_checked(NONCE_LEN)?;
        self.keys.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut opened = sealed.to_vec();
            let length = key.open_in_place(nonce, Aad::empty(), &mut opened).ok()?.len();
            opened.truncate(length);
            Some(opened)
        })
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Tickets of {} keys", self.keys.len())
    }
}

const KEY_BYTES: usize = 32;
/// Each is tried for a ticket that is none of ours.
const KEYS_MOST: usize = 8;
/// For how long a client may come back with a ticket, if its key is still there.
const LIFETIME_SECONDS: u32 = 12 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_of_any_key_are_read_and_the_first_makes_them() {
        let (first, second) = ("a1".repeat(32), "B2".repeat(32));
        let old = Tickets::parse(&first).unwrap();
        let both = Tickets::parse(&format!("{second}\n\n{first}\n")).unwrap();
        let ticket = old.encrypt(b"session").unwrap();
        assert_eq!(both.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(old.decrypt(&both.encrypt(b"session").unwrap()), None);
        for broken in [&ticket[..5], &ticket[..ticket.len() - 1], b""] {
            assert_eq!(both.decrypt(broken), None);
        }
    }

    #[test]
    fn what_is_no_key_is_told_by_its_line() {
        let key = "0".repeat(64);
        let errors = [
            (String::new(), TicketKeysError::Empty),
            (format!("{key}\n{key}0"), TicketKeysError::Line(2)),
            ("g".repeat(64), TicketKeysError::Line(1)),
            (format!("{key}\n").repeat(9), TicketKeysError::TooMany),
        ];
        for (text, error) in errors {
            assert_eq!(Tickets::parse(&text).err(), Some(error), "{text}");
        }
    }
}
