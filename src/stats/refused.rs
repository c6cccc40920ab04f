//! Requests refused, by reason.

use super::Counter;
use crate::http::Refusal;

/// A counter for each reason. There is no default of an array with so many.
#[derive(Debug)]
pub(super) struct Refused(pub(super) [Counter; Refusal::ALL.len()]);

impl Default for Refused {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}
