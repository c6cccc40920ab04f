//! What holds for channels: the options that those without a namespace have in `[channels]`, and
//! those of a namespace in its table of `[[namespaces]]`. Their names are those that servers of
//! the Centrifugo client protocol v2 have for the same.

use std::time::Duration;

use clap::ValueEnum;

use super::entry::{Entry, EntryNotation, Fault, Field, field};
use super::form::{boolean, choice, count, duration, parsed};
use super::json_pointer::JsonPointer;
use super::namespace::NamespaceName;
use crate::limits;

/// What a client gets that asks for what it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecoveryMode {
    /// All publications behind its position, or the word that there are more than are kept.
    Stream,
    /// The newest publication.
    Cache,
}

/// How publications may be told by what they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeltaType {
    /// By a delta in the format of Fossil.
    Fossil,
}

/// What becomes of a subscriber for whom too much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlowReader {
    /// It is disconnected.
    Disconnect,
    /// It loses its subscription, if that has a position, to come back for the rest.
    Resume,
    /// It gets the latest publication of each key when it has read what it was sent.
    Latest,
}

/// What the data of a publication must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataFormat {
    /// Whatever clients publish.
    #[value(alias = "")]
    Any,
    /// JSON.
    Json,
    /// Bytes that nobody looks at, for clients that speak Protobuf.
    Binary,
}

/// Declares the options once: as fields of [`ChannelOptions`] and of what is read, and by names.
macro_rules! channel_options {
    ($($(#[$doc:meta])* $option:ident: $type:ty = $default:expr, as $form:expr;)*) => {
        /// What holds for the channels of one namespace, or for those without one.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct ChannelOptions {
            $($(#[$doc])* pub $option: $type,)*
        }

        impl Default for ChannelOptions {
            fn default() -> Self {
                Self { $($option: $default,)* }
            }
        }

        /// Options as they are read, with the name of the namespace whose they are, if any.
        #[derive(Default)]
        pub(super) struct ChannelDraft {
            pub(super) name: Option<NamespaceName>,
            $($option: Option<$type>,)*
        }

        impl ChannelDraft {
            /// All options.
            pub(super) fn options() -> Vec<Field<Self>> {
                vec![$(field(stringify!($option), $form, |draft| &mut draft.$option),)*]
            }

            /// What is said, and otherwise what holds when nobody says anything.
            fn filled(self) -> ChannelOptions {
                let default = ChannelOptions::default();
                ChannelOptions { $($option: self.$option.unwrap_or(default.$option),)* }
            }

            /// What has to be said so that these options are read.
            pub(super) fn of(name: Option<NamespaceName>, options: &ChannelOptions) -> Self {
                let default = ChannelOptions::default();
                Self {
                    name,
                    $($option: (options.$option != default.$option)
                        .then(|| options.$option.clone()),)*
                }
            }
        }
    };
}

channel_options! {
    /// Publications that are kept of a channel, the newest; 0 keeps none.
    history_size: u32 = limits::HISTORY_SIZE.default, as count(&limits::HISTORY_SIZE);

    /// For how long they are kept behind the newest of them; zero keeps none.
    history_ttl: Duration = limits::HISTORY_TTL.default, as duration(&limits::HISTORY_TTL);

    /// For how long it is known behind the last use of a channel how far its offsets have come.
    history_meta_ttl: Duration = limits::HISTORY_META_TTL.default,
        as duration(&limits::HISTORY_META_TTL);

    /// Whether all subscribers recover what they miss, also those who do not ask for it.
    force_recovery: bool = false, as boolean();

    /// What they get then.
    force_recovery_mode: RecoveryMode = RecoveryMode::Stream, as choice();

    /// Whether subscribers may ask for recovery who may not ask for the history.
    allow_recovery: bool = false, as boolean();

    /// Whether it is checked of all subscribers that they miss nothing.
    force_positioning: bool = false, as boolean();

    /// Whether subscribers may ask for that who may not ask for the history.
    allow_positioning: bool = false, as boolean();

    /// Whether it is kept who has subscribed.
    presence: bool = false, as boolean();

    /// Whether it is told who subscribes and who leaves.
    join_leave: bool = false, as boolean();

    /// Whether it is told to all subscribers, also to those who do not ask for it.
    force_push_join_leave: bool = false, as boolean();

    /// Whether what clients publish is told by what it changes, to those who ask for that.
    delta_publish: bool = false, as boolean();

    /// How publications may be told by what they change; `None` is never.
    allowed_delta_types: Option<DeltaType> = None, as choice::<DeltaType>().or_off();

    /// Whether every user may subscribe, without a token of the channel.
    allow_subscribe_for_client: bool = false, as boolean();

    /// Whether the same holds for those who are nobody.
    allow_subscribe_for_anonymous: bool = false, as boolean();

    /// Whether every user may subscribe to all channels that match a pattern.
    allow_wildcard_subscribe: bool = false, as boolean();

    /// Whether every user may publish.
    allow_publish_for_client: bool = false, as boolean();

    /// Whether subscribers may publish.
    allow_publish_for_subscriber: bool = false, as boolean();

    /// Whether those who are nobody may publish where users or subscribers may.
    allow_publish_for_anonymous: bool = false, as boolean();

    /// Whether every user may ask who has subscribed.
    allow_presence_for_client: bool = false, as boolean();

    /// Whether subscribers may ask who has subscribed.
    allow_presence_for_subscriber: bool = false, as boolean();

    /// Whether those who are nobody may ask that where users or subscribers may.
    allow_presence_for_anonymous: bool = false, as boolean();

    /// Whether every user may ask for what has been published.
    allow_history_for_client: bool = false, as boolean();

    /// Whether subscribers may ask for what has been published.
    allow_history_for_subscriber: bool = false, as boolean();

    /// Whether those who are nobody may ask for that where users or subscribers may.
    allow_history_for_anonymous: bool = false, as boolean();

    /// Whether the users whom the name of a channel lists behind `#` may subscribe to it.
    allow_user_limited_channels: bool = false, as boolean();

    /// Whether a backend is asked who may subscribe, of those who have no token of the channel.
    subscribe_proxy_enabled: bool = false, as boolean();

    /// Whether a backend is asked who may publish, and what is published instead.
    publish_proxy_enabled: bool = false, as boolean();

    /// Whether a backend is asked if subscriptions go on whose time is over.
    sub_refresh_proxy_enabled: bool = false, as boolean();

    /// Whether a backend is told of the first subscriber and of the end of the last.
    state_proxy_enabled: bool = false, as boolean();

    /// Whether subscribers may choose among publications by tags.
    allow_tags_filter: bool = false, as boolean();

    /// Where the data of a publication has an id, so that a repeated one is not published again.
    id_from: Option<JsonPointer> = None,
        as parsed::<JsonPointer>(JsonPointer::GRAMMAR).or_off();

    /// What becomes of subscribers that do not read as fast as is published.
    slow: SlowReader = SlowReader::Resume, as choice();

    /// Where the data of a publication has the key of which it is the latest value; `None` is the
    /// tag `key`.
    key_from: Option<JsonPointer> = None,
        as parsed::<JsonPointer>(JsonPointer::GRAMMAR).or_off();

    /// What the data of a publication must be.
    publication_data_format: DataFormat = DataFormat::Any, as choice();
}

impl ChannelOptions {
    /// Whether publications are kept, so that they have offsets.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    /// The options of what was read.
    ///
    /// # Errors
    /// Options that do not go together.
    pub(super) fn from_fields(draft: ChannelDraft) -> Result<Self, Fault> {
        let options = draft.filled();
        match options.contradiction() {
            Some(text) => Err(Fault::Contradiction(text)),
            None => Ok(options),
        }
    }

    fn contradiction(&self) -> Option<String> {
        if self.state_proxy_enabled && !self.presence {
            let text = "state_proxy_enabled and it is not kept who has subscribed: allowed is \
                        state_proxy_enabled with presence = true";
            return Some(text.to_owned());
        }
        let size = self.history_size;
        if (size > 0) == self.history_ttl.is_zero() {
            let (is, lacks) = match size {
                0 => ("history_ttl".to_owned(), "history_size"),
                size => (format!("history_size = {size}"), "history_ttl"),
            };
            return Some(format!("{is} without {lacks}: allowed is both or neither, {EXAMPLE}"));
        }
        if self.slow == SlowReader::Latest && self.allowed_delta_types.is_some() {
            return Some(
                "slow = latest with allowed_delta_types: allowed is either, as what is left out \
                 cannot be told as a difference"
                    .to_owned(),
            );
        }
        if self.has_history() {
            return (self.history_meta_ttl < self.history_ttl).then(|| {
                "history_meta_ttl is shorter than history_ttl: allowed is at least as long, as \
                 publications without their offsets are of no use"
                    .to_owned()
            });
        }
        let needing = [
            ("force_recovery", self.force_recovery),
            ("allow_recovery", self.allow_recovery),
            ("force_positioning", self.force_positioning),
            ("allow_positioning", self.allow_positioning),
        ];
        let (name, _) = needing.into_iter().find(|&(_, is_set)| is_set)?;
        Some(format!(
            "{name} and nothing is kept to recover from: allowed is {name} with a history, \
             {EXAMPLE}"
        ))
    }
}

impl Entry for ChannelOptions {
    type Draft = ChannelDraft;

    fn notation() -> EntryNotation<ChannelDraft> {
        EntryNotation {
            head: Vec::new(),
            options: ChannelDraft::options(),
            allowed: "OPTION[=VALUE][,OPTION...] such as history_size=100,history_ttl=5m,presence",
        }
    }

    fn from_draft(draft: ChannelDraft) -> Result<Self, Fault> {
        Self::from_fields(draft)
    }

    fn to_draft(&self) -> ChannelDraft {
        ChannelDraft::of(None, self)
    }
}

const EXAMPLE: &str = "such as history_size = 100 with history_ttl = \"5m\"";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::entry::{Refused, Written};

    fn read(text: &str) -> Result<ChannelOptions, Refused> {
        let mut read = ChannelOptions::notation().read(&Written::Text(text.to_owned()), None)?;
        assert_eq!(read.len(), 1, "{text}");
        Ok(read.remove(0))
    }

    fn printed(options: &ChannelOptions) -> String {
        ChannelOptions::notation().print(options)
    }

    #[test]
    fn options_are_read_and_printed() {
        assert_eq!(read(""), Ok(ChannelOptions::default()));
        assert_eq!(printed(&ChannelOptions::default()), "");
        let text = "history_size=100,history_ttl=300s,force_recovery,force_recovery_mode=cache,\
            allowed_delta_types=fossil,presence=false,id_from=/a,,b,publication_data_format=";
        let options = read(text).expect(text);
        assert!(options.has_history() && options.force_recovery && !options.presence);
        assert_eq!(options.force_recovery_mode, RecoveryMode::Cache);
        assert_eq!(options.allowed_delta_types, Some(DeltaType::Fossil));
        assert_eq!(options.publication_data_format, DataFormat::Any);
        let said = printed(&options);
        assert_eq!(
            said,
            "history_size=100,history_ttl=5m,force_recovery=true,force_recovery_mode=cache,\
             allowed_delta_types=fossil,id_from=/a,,b"
        );
        assert_eq!(read(&said), Ok(options));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        for (text, parts) in [
            ("history_size=1", &["history_size = 1", "without history_ttl"][..]),
            ("history_ttl=1s", &["history_ttl without history_size"]),
            ("force_recovery", &["force_recovery", "with a history"]),
            ("allow_positioning", &["allow_positioning", "with a history"]),
            ("state_proxy_enabled", &["state_proxy_enabled", "presence = true"]),
            ("history_size=1,history_ttl=2h,history_meta_ttl=1h", &["history_meta_ttl", "shorter"]),
            ("slow=latest,allowed_delta_types=fossil", &["slow = latest", "allowed_delta_types"]),
        ] {
            let said = read(text).expect_err(text).fault.to_string();
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
            assert!(said.contains("allowed is"), "{said}");
        }
        let said = read("presense").expect_err("unknown").fault.to_string();
        assert!(said.starts_with("unknown option presense: did you mean presence?"), "{said}");
        let said = read("?wrong?").expect_err("no option").fault.to_string();
        assert!(said.starts_with("allowed is OPTION"), "{said}");
    }
}
