//! Users and what their passwords are checked against: the only place that names the libraries for
//! that. To check one takes long by intent, so no thread may do that which serves others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier};
use bcrypt::HashParts;
use thiserror::Error;

use super::login::Login;
use super::token::{NAME_BYTES_MOST, is_name};

/// The hashes of passwords by the names of their users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwords {
    users: HashMap<Box<str>, Hash>,
    /// What the password of a user is checked against whom nobody knows, so that this takes as long
    /// as for others: the hash that is written first.
    for_unknown: Option<Hash>,
}

/// Why a list says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordFault {
    /// A line that says nothing that is known.
    #[error(
        "has a line {line} that is not USER:HASH, where USER is a name of {NAME_BYTES_MOST} bytes \
         at the most without control characters"
    )]
    Line {
        /// Its number, the first being 1.
        line: usize,
    },
    /// A user for the second time.
    #[error("has a line {line} for a user who has one before")]
    Repeated {
        /// Its number, the first being 1.
        line: usize,
    },
    /// A hash that is checked too fast, or is none.
    #[error(
        "has a line {line} whose hash is none of bcrypt ($2a$, $2b$, $2y$) or argon2id: make it \
         anew with `htpasswd -B`"
    )]
    Hash {
        /// Its number, the first being 1.
        line: usize,
    },
    /// A hash that takes too much to check.
    #[error(
        "has a line {line} whose hash takes too much to check, or too little: allowed are bcrypt \
         with a cost from {BCRYPT_COST_LEAST} to {BCRYPT_COST_MOST}, such as by `htpasswd -B -C \
         10`, and argon2id with m of {ARGON2_MEMORY_KIB_MOST} at the most, t of \
         {ARGON2_PASSES_MOST} and p of {ARGON2_LANES_MOST}"
    )]
    Cost {
        /// Its number, the first being 1.
        line: usize,
    },
    /// There is no room for more.
    #[error("has one user too many: allowed are {USERS_MOST}")]
    Full,
}

/// What has come of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordVerdict {
    /// It is that of the user.
    Right,
    /// It is not.
    Wrong,
    /// There is no such user.
    UnknownUser,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hash {
    kind: Kind,
    text: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bcrypt,
    Argon2id,
}

impl Passwords {
    /// Reads a list as `htpasswd` writes it, in which each line is `USER:HASH`, empty, or a comment
    /// behind `#`.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, PasswordFault> {
        let mut passwords = Self::default();
        let lines = text.lines().map(str::trim_end).zip(1..);
        for (text, line) in lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#')) {
            let (user, hash) = text.split_once(':').ok_or(PasswordFault::Line { line })?;
            if !is_name(user) || user.contains(char::is_control) {
                return Err(PasswordFault::Line { line });
            }
            // Some programs write more behind another colon.
            let hash = Hash::parse(hash.split(':').next().unwrap_or_default(), line)?;
            if passwords.users.len() == USERS_MOST {
                return Err(PasswordFault::Full);
            }
            passwords.for_unknown.get_or_insert_with(|| hash.clone());
            match passwords.users.entry(user.into()) {
                Entry::Vacant(vacant) => drop(vacant.insert(hash)),
                Entry::Occupied(_) => return Err(PasswordFault::Repeated { line }),
            }
        }
        Ok(passwords)
    }

    /// The hash of a user, which is another one whenever the password is.
    pub fn hash_of(&self, user: &str) -> Option<&str> {
        self.users.get(user).map(|hash| &*hash.text)
    }

    /// Checks a password. It takes milliseconds to a second and, for argon2id, up to 64 MiB; as
    /// long for a user who is not known.
    pub fn check(&self, login: &Login) -> PasswordVerdict {
        let hash = self.users.get(login.user());
        let known = hash.or(self.for_unknown.as_ref());
        let fits = known.is_some_and(|it| it.is_of(login.password()));
        match hash {
            None => PasswordVerdict::UnknownUser,
            Some(_) if fits => PasswordVerdict::Right,
            Some(_) => PasswordVerdict::Wrong,
        }
    }
}

impl Hash {
    fn parse(text: &str, line: usize) -> Result<Self, PasswordFault> {
        let (kind, is_bounded) = if ["$2a$", "$2b$", "$2y$"].iter().any(|it| text.starts_with(it)) {
            let parts: HashParts = text.parse().map_err(|_| PasswordFault::Hash { line })?;
            let costs = BCRYPT_COST_LEAST..=BCRYPT_COST_MOST;
            (Kind::Bcrypt, costs.contains(&parts.get_cost()))
        } else if text.starts_with("$argon2id$") {
            let hash = PasswordHash::new(text).map_err(|_| PasswordFault::Hash { line })?;
            if hash.salt.is_none() || hash.hash.is_none() {
                return Err(PasswordFault::Hash { line });
            }
            let params = Params::try_from(&hash).map_err(|_| PasswordFault::Hash { line })?;
            let is_bounded = params.m_cost() <= ARGON2_MEMORY_KIB_MOST
                && params.t_cost() <= ARGON2_PASSES_MOST
                && params.p_cost() <= ARGON2_LANES_MOST;
            (Kind::Argon2id, is_bounded)
        } else {
            return Err(PasswordFault::Hash { line });
        };
        match is_bounded {
            true => Ok(Self { kind, text: text.into() }),
            false => Err(PasswordFault::Cost { line }),
        }
    }

    /// Whether it is that of a password; the libraries compare in constant time.
    fn is_of(&self, password: &str) -> bool {
        match self.kind {
            Kind::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Kind::Argon2id => {
                Argon2::default().verify_password(password.as_bytes(), &*self.text).is_ok()
            }
        }
    }
}

/// The least that bcrypt knows.
const BCRYPT_COST_LEAST: u32 = 4;
/// About a second.
const BCRYPT_COST_MOST: u32 = 14;
/// A thread has so much at a time.
const ARGON2_MEMORY_KIB_MOST: u32 = 64 << 10;
/// With all of that memory about half a second.
const ARGON2_PASSES_MOST: u32 = 10;
/// They are computed one after the other, so more cost no more.
const ARGON2_LANES_MOST: u32 = 16;
/// Users of a list.
const USERS_MOST: usize = 100_000;

#[cfg(test)]
mod tests;
