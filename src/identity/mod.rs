//! Who somebody is and what they may do, as a token says that a trusted key has signed, somebody
//! who is asked, a list of passwords, or one that grants to the user whom one of those or a
//! certificate names.
//!
//! Nothing here reads a file, a socket or a clock: the text of key files, the token and the time
//! come from whoever asks.

mod api_keys;
mod claims;
mod grants;
mod judgement;
mod keys;
mod login;
mod passwords;
mod revocations;
mod token;
mod trust;
mod user_grants;

pub use api_keys::{ApiKeyFault, ApiKeys};
pub use claims::some_seconds;
pub use grants::{Grants, Right};
pub use judgement::{
    AnswerFields, CHALLENGE_BYTES_MOST, Denial, HeadFields, Inquiry, JUDGEMENT_BYTES, Judgement,
};
pub use keys::{KeyFault, Keys};
pub use login::Login;
pub use passwords::{PasswordFault, PasswordVerdict, Passwords};
pub use revocations::{RevocationFault, Revocations, Revoked};
pub use token::{
    Credentials, Identity, NAME_BYTES_MOST, NEVER_S, TokenFault, Verdict, lasts_until,
};
pub use trust::Trust;
pub use user_grants::{UserGrantFault, UserGrants};
