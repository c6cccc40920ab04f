//! Channels for clients of the Centrifugo client protocol v2: whether there are any, what holds for
//! them, and what one client may cost.

use std::time::Duration;

use super::channels::ChannelOptions;
use super::file_path::FilePath;
use super::form::{boolean, count, duration, parsed, size};
use super::namespace::{Namespace, NamespaceName};
use super::setting::{entries, one, one_entry, settings};
use crate::limits;

settings! {
    /// Channels, and those who connect for them.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Realtime at (|config| &mut config.realtime) {
        under Channels {
            /// Whether `/connection/websocket` exists.
            pub is_on: bool = false,
                as one(boolean()),
                named "realtime" "BOOLEAN",
                help "Serve channels with history, presence and deltas on /connection/websocket, \
                      which works with Centrifugo client libraries";

            /// What holds for channels without a namespace.
            pub channels: ChannelOptions = ChannelOptions::default(),
                as one_entry::<ChannelOptions>().default_in_words("none"),
                named "channels" "OPTION[=VALUE][,OPTION...]",
                help "What holds for channels without a namespace",
                live;

            /// What holds for channels of namespaces.
            pub namespaces: Vec<Namespace> = Vec::new(),
                as entries::<Namespace>()
                    .in_file("namespaces")
                    .default_in_words("none")
                    .range_in_words("options: those of --channels"),
                named "namespace" "NAME[,OPTION...]",
                help "Have a namespace, and what holds for its channels, whose names begin with \
                      its own and a colon; may be repeated",
                live;

            /// Whether everybody may do everything, without a token.
            pub is_insecure: bool = false,
                as one(boolean()),
                named "client-insecure" "BOOLEAN",
                help "Let everybody connect to channels, subscribe, publish and ask without a \
                      token, for development alone",
                live;

            /// Whether those may connect who have no token.
            pub may_be_anonymous: bool = false,
                as one(boolean()),
                named "client-allow-anonymous" "BOOLEAN",
                help "Let those connect to channels who have no token; they may do what the \
                      options of channels allow to anonymous",
                live;

            /// Whether each user is subscribed to a channel of their own when they connect.
            pub has_personal_channels: bool = false,
                as one(boolean()),
                named "user-personal-channel" "BOOLEAN",
                help "Subscribe each user to the channel #USER of their own when they connect",
                live;

            /// The namespace of that channel.
            pub personal_namespace: Option<NamespaceName> = None,
                as one(parsed(NamespaceName::GRAMMAR).or_off()),
                named "user-personal-channel-namespace" "NAME",
                help "Have that channel in this namespace, as NAME:#USER; needs \
                      --user-personal-channel",
                live;

            /// Channels that one connection may have subscribed to at the same time.
            pub client_channels_most: u16 = limits::CLIENT_CHANNELS.default,
                as one(count(&limits::CLIENT_CHANNELS)),
                named "client-channel-limit" "COUNT",
                help "Channels that one connection may have subscribed to at the same time",
                live;

            /// Bytes of the name of a channel.
            pub channel_bytes_most: u16 = limits::CHANNEL_BYTES.default,
                as one(count(&limits::CHANNEL_BYTES)),
                named "channel-max-length" "COUNT",
                help "Characters of the name of a channel; longer ones are refused with 107",
                live;

            /// How often a client is sent a ping of the protocol.
            pub ping_interval: Duration = limits::CLIENT_PING_INTERVAL.default,
                as one(duration(&limits::CLIENT_PING_INTERVAL)),
                named "client-ping-interval" "TIME",
                help "How often a client of channels is sent a ping of the protocol",
                live;

            /// How soon it has to answer.
            pub pong_timeout: Duration = limits::CLIENT_PONG_TIMEOUT.default,
                as one(duration(&limits::CLIENT_PONG_TIMEOUT)),
                named "client-pong-timeout" "TIME",
                help "How soon a client of channels has to answer a ping; later closes with 3012",
                live;

            /// How soon a client has to say who it is.
            pub stale_close_delay: Duration = limits::CLIENT_STALE_CLOSE_DELAY.default,
                as one(duration(&limits::CLIENT_STALE_CLOSE_DELAY)),
                named "client-stale-close-delay" "TIME",
                help "How soon a client of channels has to send its connect command; later closes \
                      with 3502",
                live;

            /// How long a client has for a new token when its own has expired.
            pub expired_close_delay: Duration = limits::CLIENT_EXPIRED_CLOSE_DELAY.default,
                as one(duration(&limits::CLIENT_EXPIRED_CLOSE_DELAY)),
                named "client-expired-close-delay" "TIME",
                help "How long a client of channels has for a new token when its own has expired, \
                      before it is closed with 3005",
                live;

            /// The same for the token of a subscription.
            pub expired_sub_close_delay: Duration = limits::CLIENT_EXPIRED_CLOSE_DELAY.default,
                as one(duration(&limits::CLIENT_EXPIRED_CLOSE_DELAY)),
                named "client-expired-sub-close-delay" "TIME",
                help "How long a subscriber has for a new token of the channel when the old one \
                      has expired, before the subscription ends with 2501",
                live;

            /// The keys of applications that may call the API.
            pub api_key: Option<FilePath> = None,
                as one(parsed(FilePath::GRAMMAR).or_off()),
                named "api-key" "FILE",
                help "Let applications publish to channels and ask about them by POST to /api/..., \
                      with one of the keys in this file, a line each; needs --realtime",
                live;

            /// Bytes of the histories of all channels together.
            pub history_memory_bytes: u64 = limits::HISTORY_MEMORY_BYTES.default,
                as one(size(&limits::HISTORY_MEMORY_BYTES)),
                named "history-memory" "SIZE",
                help "Memory for the histories of all channels; when it is full, the channels \
                      that have not been used for the longest time lose theirs";

            /// Publications that one answer to a request for the history has.
            pub history_publications_most: u32 = limits::ANSWERED_PUBLICATIONS.default,
                as one(count(&limits::ANSWERED_PUBLICATIONS)),
                named "history-max-publication-limit" "COUNT",
                help "Publications that one answer to a request for the history has at the most",
                live;

            /// Publications that a subscriber can recover.
            pub recovery_publications_most: u32 = limits::ANSWERED_PUBLICATIONS.default,
                as one(count(&limits::ANSWERED_PUBLICATIONS)),
                named "recovery-max-publication-limit" "COUNT",
                help "Publications that a subscriber can recover; whoever has missed more is told \
                      that it has",
                live;
        }
    }
}

impl Realtime {
    /// The namespace of this name.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.name.text() == name)
    }
}
