//! `ringwire health`: asks the admin listener of a running server whether it is alive or ready, for
//! those who judge by an exit status, such as containers, and have no HTTP client at hand.

use std::io;

use crate::admin_client::{self, Reply};
use crate::config::{Admin, ListenAddress};

/// A question to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its admin listener.
    pub admin: Admin,
    /// Whether the question is if an upgrade would be accepted, rather than if all shards are
    /// alive.
    pub is_about_readiness: bool,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is well.
    pub is_well: bool,
    /// Its words.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is nobody to ask, or nobody knows where.
    #[error("--admin is {0}: name the address of the admin listener, `ringwire health ADDRESS`")]
    NoAddress(Admin),
    /// The server was not reached, or did not answer in time.
    #[error("{address} does not answer: {error}")]
    Unreached {
        /// Where it was looked for.
        address: ListenAddress,
        /// Why not.
        error: io::Error,
    },
    /// Something else than an admin listener is there.
    #[error("{0} answers what no admin listener would")]
    Strange(ListenAddress),
}

impl Question {
    /// Asks, and waits for the answer for [`admin_client::TIMEOUT`] at the most.
    ///
    /// # Errors
    /// A [`NoAnswer`].
    pub fn ask(&self) -> Result<Answer, NoAnswer> {
        let Some(address) = admin_client::address(&self.admin) else {
            return Err(NoAnswer::NoAddress(self.admin.clone()));
        };
        let path = if self.is_about_readiness { "/readyz" } else { "/healthz" };
        match admin_client::get(&address, path) {
            Ok(reply) => judge(reply).ok_or(NoAnswer::Strange(address)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(NoAnswer::Strange(address))
            }
            Err(error) => Err(NoAnswer::Unreached { address, error }),
        }
    }
}

/// What a reply says; `None` where it is of another service.
fn judge(Reply { status, text }: Reply) -> Option<Answer> {
    match status {
        200 => Some(Answer { is_well: true, text }),
        503 => Some(Answer { is_well: false, text }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_admin_listener_is_believed() {
        let judged = |status| judge(Reply { status, text: "words".to_owned() });
        let answer = |is_well| Some(Answer { is_well, text: "words".to_owned() });
        assert_eq!(judged(200), answer(true));
        assert_eq!(judged(503), answer(false));
        assert_eq!((judged(302), judged(404)), (None, None));
    }

    #[test]
    fn nobody_is_asked_where_nobody_can_be() {
        for admin in ["off", "systemd:admin"] {
            let question = Question { admin: admin.parse().unwrap(), is_about_readiness: false };
            let error = question.ask().unwrap_err().to_string();
            assert!(error.contains(admin) && error.contains("health ADDRESS"), "{error}");
        }
    }
}
