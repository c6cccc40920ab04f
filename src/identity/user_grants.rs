//! What users may do because of who they are, however that is known: from a list, beside what their
//! tokens grant.

use std::collections::HashMap;

use thiserror::Error;

use super::grants::Grants;
use super::token::{NAME_BYTES_MOST, is_name};
use crate::config::TopicPattern;

/// Grants by the names of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserGrants {
    everybody: Grants,
    users: HashMap<Box<str>, Grants>,
}

/// Why a list grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UserGrantFault {
    /// A line that says nothing that is known.
    #[error(
        "has a line {line} that is neither `subscribe PATTERN USER` nor `publish PATTERN USER`, \
         where USER is a name of {NAME_BYTES_MOST} bytes at the most, or * for every user"
    )]
    Line {
        /// Its number, the first being 1.
        line: usize,
    },
    /// There is no room for more.
    #[error("has one grant too many: allowed are {GRANTS_MOST}")]
    Full,
}

impl UserGrants {
    /// Reads a list, in which each line is `subscribe PATTERN USER`, `publish PATTERN USER`, empty,
    /// or a comment behind `#`. The user `*` is everybody who has shown who they are. A pattern has
    /// no spaces there, and a name may have some.
    ///
    /// # Errors
    /// The first line that is wrong: who may do what must not be misunderstood.
    pub fn parse(text: &str) -> Result<Self, UserGrantFault> {
        let mut grants = Self::default();
        let lines = text.lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#'));
        for ((text, line), count) in lines.zip(1..) {
            if count > GRANTS_MOST {
                return Err(UserGrantFault::Full);
            }
            grants.add(text).ok_or(UserGrantFault::Line { line })?;
        }
        Ok(grants)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let (right, rest) = line.split_once(' ')?;
        let (pattern, user) = rest.trim_start().split_once(' ')?;
        let (pattern, user) = (pattern.parse::<TopicPattern>().ok()?, user.trim_start());
        if !is_name(user) {
            return None;
        }
        let grants = match user {
            EVERYBODY => &mut self.everybody,
            user => self.users.entry(user.into()).or_default(),
        };
        match right {
            "subscribe" => grants.subscribe.push(pattern),
            "publish" => grants.publish.push(pattern),
            _ => return None,
        }
        Some(())
    }

    /// Adds what is granted to a user, or to whoever has shown a token that names none.
    pub(super) fn add_to(&self, grants: &mut Grants, user: Option<&str>) {
        grants.extend(&self.everybody);
        user.and_then(|user| self.users.get(user)).into_iter().for_each(|own| grants.extend(own));
    }
}

/// Stands for all users.
const EVERYBODY: &str = "*";
/// Lines of a list.
const GRANTS_MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Right;

    #[test]
    fn a_list_grants_to_users_and_to_everybody() {
        let text =
            "# staff\nsubscribe news.* *\r\n\n publish  news.*   Ann Lee \nsubscribe a Bob\n";
        let list = UserGrants::parse(text).expect("a list");
        for (user, topic, right, expected) in [
            (None, "news.a", Right::Subscribe, true),
            (Some("Bob"), "news.a", Right::Subscribe, true),
            (Some("Bob"), "news.a", Right::Publish, false),
            (Some("Bob"), "a", Right::Subscribe, true),
            (Some("bob"), "a", Right::Subscribe, false),
            (Some("Ann Lee"), "news.a", Right::Publish, true),
            (Some("Ann"), "news.a", Right::Publish, false),
            (Some("*"), "news.a", Right::Publish, false),
        ] {
            let mut grants = Grants::default();
            list.add_to(&mut grants, user);
            assert_eq!(grants.allow(right, topic), expected, "{user:?} {topic} {right:?}");
        }
    }

    #[test]
    fn a_line_that_grants_nothing_is_told() {
        for (text, line) in [
            ("subscribe a b\nsubscribe a", 2),
            ("Subscribe a b", 1),
            ("delete a b", 1),
            ("\n\npublish a*** b", 3),
            (&format!("publish a {}", "x".repeat(256)), 1),
        ] {
            assert_eq!(UserGrants::parse(text), Err(UserGrantFault::Line { line }), "{text}");
        }
        let many = "publish a b\n".repeat(GRANTS_MOST + 1);
        assert_eq!(UserGrants::parse(&many), Err(UserGrantFault::Full));
    }
}
