//! Which backends are asked about clients of channels, by HTTP.

use std::time::Duration;

use super::field_name::FieldName;
use super::form::{boolean, count, duration, parsed};
use super::http_url::HttpUrl;
use super::setting::{list, one, settings};
use crate::limits;

settings! {
    /// Where what clients of channels want is asked, and with what.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Hooks at (|config| &mut config.hooks) {
        under Channels {
            /// What is asked who connects without a token.
            pub connect: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "hook-connect-url" "URL",
                help "Ask this URL who a client of channels is that connects without a token, by \
                      POST of JSON as the connect proxy of Centrifugo does; its answer has a \
                      result, an error or a disconnect, and anything else lets nobody in",
                live;

            /// What is asked whether a connection goes on whose time is over.
            pub refresh: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "hook-refresh-url" "URL",
                help "Ask this URL whether a connection of channels goes on whose time is over, \
                      instead of its client for another token; without an answer it goes on for a \
                      minute",
                live;

            /// What is asked whether a client may subscribe.
            pub subscribe: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "hook-subscribe-url" "URL",
                help "Ask this URL who may subscribe to channels with subscribe_proxy_enabled, \
                      without a token of the channel",
                live;

            /// What is asked whether a client may publish.
            pub publish: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "hook-publish-url" "URL",
                help "Ask this URL who may publish to channels with publish_proxy_enabled, and \
                      what is published instead",
                live;

            /// What is asked whether a subscription goes on whose time is over.
            pub sub_refresh: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "hook-sub-refresh-url" "URL",
                help "Ask this URL whether a subscription goes on whose time is over, in channels \
                      with sub_refresh_proxy_enabled",
                live;

            /// What answers calls of clients.
            pub rpc: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "hook-rpc-url" "URL",
                help "Have this URL answer the rpc of clients of channels",
                live;

            /// What is told of the first subscriber of a channel, and of the end of its last.
            pub state: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "hook-state-url" "URL",
                help "Tell this URL, by POST of JSON, when a channel with state_proxy_enabled gets \
                      its first subscriber (occupied) and when it loses its last (vacated)",
                live;

            /// How long an answer is waited for, and a turn.
            pub timeout: Duration = limits::HOOK_TIMEOUT.default,
                as one(duration(&limits::HOOK_TIMEOUT)),
                named "hook-timeout" "TIME",
                help "How long the answer of a hook is waited for, and its turn before; then the \
                      client gets the temporary error 100",
                live;

            /// Requests to all of them that may be under way at the same time.
            pub connections: usize = limits::HOOK_CONNECTIONS.default,
                as one(count(&limits::HOOK_CONNECTIONS)),
                named "hook-connections" "COUNT",
                help "Connections for hooks at the most; further requests wait",
                live;

            /// Fields of the upgrade that they are told.
            pub fields: Vec<FieldName> = Vec::new(),
                as list(parsed(FieldName::GRAMMAR)).default_in_words("none"),
                named "hook-forward-header" "NAME",
                help "Tell hooks this header field of the upgrade, such as Cookie; may be repeated",
                live;

            /// The same of what clients send in the place of such fields.
            pub emulated_fields: Vec<FieldName> = Vec::new(),
                as list(parsed(FieldName::GRAMMAR)).default_in_words("none"),
                named "hook-emulated-header" "NAME",
                help "Tell hooks this header field as a client says it when it connects, as pages \
                      cannot set any, unless the upgrade has it; may be repeated",
                live;

            /// Whether they are told what the application has to say of a connection to itself.
            pub includes_meta: bool = false,
                as one(boolean()),
                named "hook-include-meta" "BOOLEAN",
                help "Tell hooks the meta that a token, or the connect hook, has said of a \
                      connection",
                live;
        }
    }
}

impl Hooks {
    /// Whether there is any.
    pub fn has_some(&self) -> bool {
        let Self { connect, refresh, subscribe, publish, sub_refresh, rpc, state, .. } = self;
        [connect, refresh, subscribe, publish, sub_refresh, rpc, state]
            .iter()
            .any(|url| url.is_some())
    }
}
