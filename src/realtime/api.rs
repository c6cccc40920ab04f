//! The HTTP API by which applications publish and rule over channels, as functions over bytes: the
//! body of a request becomes a [`Call`], an [`Outcome`] becomes the body of its response. It works
//! with those API libraries that applications have for Centrifugo.
//!
//! `POST /api/METHOD` has the parameters of the method as its body, a JSON object. `POST /api` has
//! one or more lines in its place, each an object of `method` and `params`; so has its response, in
//! the same order.

mod call;
mod fields;
mod glob;
mod key;
mod outcome;
mod parse;

use thiserror::Error;

use super::protocol::ReplyError;
use super::protocol::codes::ErrorCode;

pub use call::{
    Broadcast, Call, Connections, Content, Data, DisconnectCall, HistoryCall, Publish, RefreshCall,
    SubscribeCall, UnsubscribeCall,
};
pub use glob::Glob;
pub use key::{is_key, presented_key};
pub use outcome::{Node, Outcome, status, write, write_lines};
pub use parse::parse_lines;

pub(super) use fields::Fields;

/// Why a request is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The body is not JSON in UTF-8. Nothing of it may be carried out.
    #[error("bad request: the body must be JSON")]
    NotJson,
    /// There is no such method.
    #[error("method not found")]
    MethodNotFound,
    /// A field is missing or means nothing.
    #[error("bad request: {subject} must {must}")]
    BadRequest {
        /// The name of the field, or what else is wrong.
        subject: &'static str,
        /// What would be right, behind "must".
        must: &'static str,
    },
}

impl Fault {
    /// The status of the response where the method is in the path. Where it is in the body, and
    /// within a batch, only [`Fault::NotJson`] is told by the status, and the others are outcomes
    /// like any other.
    ///
    /// `is_transport_mode` is whether the status tells errors ([`status`]).
    pub fn status(&self, is_transport_mode: bool) -> u16 {
        match self {
            Self::NotJson => 400,
            Self::MethodNotFound => 404,
            Self::BadRequest { .. } => status(&Outcome::from(*self), is_transport_mode),
        }
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        let code = match fault {
            Fault::NotJson | Fault::BadRequest { .. } => ErrorCode::BadRequest,
            Fault::MethodNotFound => ErrorCode::MethodNotFound,
        };
        let error = ReplyError::from(code);
        Self::Error(ReplyError { message: fault.to_string(), ..error })
    }
}

/// The most channels of a broadcast, and the most names of a list of any other kind.
pub const NAMES_MAX: usize = 10_000;
/// The most commands of a batch, and the most lines of a body without a method in its path.
pub const COMMANDS_MAX: usize = 10_000;
