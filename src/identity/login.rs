//! A user and a password, as a request shows them (RFC 7617).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::token::is_name;

/// Who somebody says to be, and the password that is to prove it. It is erased with this.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Both, with a colon between them.
    text: Zeroizing<String>,
    user_bytes: usize,
}

impl Login {
    /// Reads what stands behind `Basic` in `Authorization`: base64 of both in UTF-8. Nothing where
    /// it is that not, has control characters, or names no user that there can be.
    pub fn decode(encoded: &[u8]) -> Option<Self> {
        let mut text = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        let text = match String::from_utf8(std::mem::take(&mut *text)) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                return None;
            }
        };
        let user_bytes = text.find(':')?;
        (is_name(&text[..user_bytes]) && !text.contains(char::is_control))
            .then_some(Self { text, user_bytes })
    }

    /// The name of the user, without a colon, of at most
    /// [`NAME_BYTES_MOST`](super::NAME_BYTES_MOST) bytes.
    pub fn user(&self) -> &str {
        &self.text[..self.user_bytes]
    }

    /// The password, which may be empty.
    pub fn password(&self) -> &str {
        &self.text[self.user_bytes + 1..]
    }

    /// Memory that it holds beside itself.
    pub fn held_bytes(&self) -> usize {
        self.text.capacity()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Login").field("user", &self.user()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::NAME_BYTES_MOST;

    #[test]
    fn both_are_read_up_to_the_first_colon_and_the_password_is_not_shown() {
        let login = |text: &[u8]| Login::decode(STANDARD.encode(text).as_bytes());
        for (text, user, password) in [
            ("Aladdin:open sesame", "Aladdin", "open sesame"),
            ("a:b:c", "a", "b:c"),
            ("a:", "a", ""),
            ("J\u{fc}rgen:\u{20ac}", "J\u{fc}rgen", "\u{20ac}"),
        ] {
            let login = login(text.as_bytes()).expect("a login");
            assert_eq!((login.user(), login.password()), (user, password));
            assert!(login.held_bytes() >= text.len());
        }
        let shown = format!("{:?}", login(b"ann:secret"));
        assert!(shown.contains("ann") && !shown.contains("secret"), "{shown}");
        let long = [&[b'x'; NAME_BYTES_MOST + 1][..], b":p"].concat();
        for text in [&b"no colon"[..], b":p", b"a:\n", b"a\0:p", b"a:\xff", b"", &long] {
            assert_eq!(login(text), None, "{text:?}");
        }
        assert!(login(&long[1..]).is_some());
        for encoded in ["QTpi=", "QTpi Qg==", "*", "QTpiQg"] {
            assert_eq!(Login::decode(encoded.as_bytes()), None, "{encoded}");
        }
    }
}
