//! What metrics say beside what is counted.

use super::form::{boolean, parsed, size};
use super::label::Label;
use super::setting::{list, one, settings};
use crate::limits;

settings! {
    /// What metrics say beside what is counted.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Metrics at (|config| &mut config.metrics) {
        under Metrics {
            /// Labels that every metric carries.
            pub labels: Vec<Label> = Vec::new(),
                as list(parsed(Label::GRAMMAR)).default_in_words("none"),
                named "label" "NAME=VALUE",
                help "Label of all metrics, such as region=eu; may be repeated";

            /// Whether connections and topics are charged with what they receive and send.
            pub top: bool = false,
                as one(boolean()),
                named "top" "BOOLEAN",
                help "Count who receives and sends the most, for /top of the admin listener",
                live;

            /// Bytes, received and sent, that somebody pays for.
            pub traffic_budget_bytes: Option<u64> = limits::TRAFFIC_BUDGET_BYTES.default,
                as one(size(&limits::TRAFFIC_BUDGET_BYTES).or_off()),
                named "traffic-budget" "SIZE",
                help "Bytes that may be received and sent from the start on: metrics tell it \
                      beside what was, and nothing else comes of it",
                live;
        }
    }
}
