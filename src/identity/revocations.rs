//! Tokens and users that are not believed any more, although the time of their tokens has not come.

use std::collections::HashSet;

use thiserror::Error;

use super::token::{Identity, NAME_BYTES_MOST, is_name};

/// Whose tokens do not hold any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    users: HashSet<Box<str>>,
    tokens: HashSet<Box<str>>,
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// All tokens of a user (`sub`).
    User(Box<str>),
    /// One token (`jti`).
    Token(Box<str>),
}

/// Why something cannot be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RevocationFault {
    /// A line of the file says nothing that is known.
    #[error("has a line {line} that is neither `user NAME` nor `token ID`")]
    Line {
        /// Its number, the first being 1.
        line: usize,
    },
    /// No token can have this name.
    #[error("has a name of 0 or of more than {NAME_BYTES_MOST} bytes")]
    Name,
    /// There is no room for more.
    #[error("has one revocation too many: allowed are {REVOCATIONS_MOST} in all")]
    Full,
}

impl Revoked {
    /// The line of a list that says so; `None` where no line can, as the name has spaces at an end
    /// or a line break.
    pub fn line(&self) -> Option<String> {
        let (kind, name) = match self {
            Self::User(name) => ("user", name),
            Self::Token(id) => ("token", id),
        };
        let is_one_line = name.trim() == &**name && name.lines().count() == 1;
        is_one_line.then(|| format!("{kind} {name}"))
    }
}

impl Revocations {
    /// Reads a list, in which each line is `user NAME`, `token ID`, empty, or a comment behind `#`.
    ///
    /// # Errors
    /// The first line that is wrong: whoever revokes must not be misunderstood.
    pub fn parse(text: &str) -> Result<Self, RevocationFault> {
        let mut revocations = Self::default();
        for (text, line) in text.lines().map(str::trim).zip(1..) {
            let revoked = match text.split_once(' ') {
                _ if text.is_empty() || text.starts_with('#') => continue,
                Some(("user", name)) => Revoked::User(name.trim_start().into()),
                Some(("token", id)) => Revoked::Token(id.trim_start().into()),
                _ => return Err(RevocationFault::Line { line }),
            };
            revocations.add(revoked)?;
        }
        Ok(revocations)
    }

    /// Adds one.
    ///
    /// # Errors
    /// A name that no token can have, or no room for more.
    pub fn add(&mut self, revoked: Revoked) -> Result<(), RevocationFault> {
        let (Revoked::User(name) | Revoked::Token(name)) = &revoked;
        if !is_name(name) {
            return Err(RevocationFault::Name);
        }
        if self.len() >= REVOCATIONS_MOST {
            return Err(RevocationFault::Full);
        }
        match revoked {
            Revoked::User(name) => self.users.insert(name),
            Revoked::Token(id) => self.tokens.insert(id),
        };
        Ok(())
    }

    /// Whether exactly this is listed.
    pub fn list(&self, revoked: &Revoked) -> bool {
        match revoked {
            Revoked::User(name) => self.users.contains(name),
            Revoked::Token(id) => self.tokens.contains(id),
        }
    }

    /// Adds those of another list; there may be as many of each.
    pub fn extend(&mut self, other: &Self) {
        self.users.extend(other.users.iter().cloned());
        self.tokens.extend(other.tokens.iter().cloned());
    }

    /// Whether the token is revoked that has said who this is.
    pub fn contain(&self, identity: &Identity) -> bool {
        let is_in = |names: &HashSet<Box<str>>, name: &Option<Box<str>>| {
            name.as_ref().is_some_and(|name| names.contains(name))
        };
        is_in(&self.users, &identity.user) || is_in(&self.tokens, &identity.token_id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.users.len() + self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }
}

/// Revocations of one list.
const REVOCATIONS_MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: Option<&str>, token_id: Option<&str>) -> Identity {
        Identity { user: user.map(Box::from), token_id: token_id.map(Box::from), expires_s: 0 }
    }

    #[test]
    fn a_list_has_users_and_tokens() {
        let text = "# who left\nuser alice\n\n token   t 1 \r\nuser token\n";
        let revocations = Revocations::parse(text).expect("a list");
        assert_eq!(revocations.len(), 3);
        for (user, token_id, expected) in [
            (Some("alice"), None, true),
            (Some("alice"), Some("x"), true),
            (Some("bob"), Some("t 1"), true),
            (Some("token"), None, true),
            (Some("t 1"), Some("alice"), false),
            (Some("bob"), None, false),
            (None, None, false),
        ] {
            let identity = identity(user, token_id);
            assert_eq!(revocations.contain(&identity), expected, "{identity:?}");
        }
        let mut both = Revocations::parse("user bob").expect("a list");
        both.extend(&revocations);
        assert_eq!(both.len(), 4);
    }

    #[test]
    fn a_line_says_what_is_revoked_or_there_is_none() {
        for name in ["alice", "a b", "#1", "token x", " a", "a ", "a\nuser b", "a\r", "\u{a0}a"] {
            for revoked in [Revoked::User(name.into()), Revoked::Token(name.into())] {
                let Some(line) = revoked.line() else { continue };
                let list = Revocations::parse(&line).expect("a list");
                assert!(list.list(&revoked) && list.len() == 1, "{line:?}");
            }
        }
        assert_eq!(Revoked::User("a b".into()).line().as_deref(), Some("user a b"));
        assert_eq!(Revoked::Token("a\nuser b".into()).line(), None);
    }

    #[test]
    fn a_line_that_says_nothing_is_told() {
        for (text, fault) in [
            ("user a\nalice", RevocationFault::Line { line: 2 }),
            ("users a", RevocationFault::Line { line: 1 }),
            ("user", RevocationFault::Line { line: 1 }),
            (&format!("user {}", "x".repeat(256)), RevocationFault::Name),
        ] {
            assert_eq!(Revocations::parse(text), Err(fault), "{text}");
        }
        let many: String =
            (0..=REVOCATIONS_MOST).map(|number| format!("user {number}\n")).collect();
        assert_eq!(Revocations::parse(&many), Err(RevocationFault::Full));
    }
}
