//! Who is asked what somebody may do: a backend, by HTTP.

use std::time::Duration;

use super::field_name::FieldName;
use super::file_path::FilePath;
use super::form::{count, duration, parsed};
use super::http_url::HttpUrl;
use super::setting::{list, one, settings};
use crate::limits;

settings! {
    /// What is asked of other servers to know who may do what.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Backend at (|config| &mut config.backend) {
        under Identity {
            /// What is asked whether a request may be granted; nobody if there is none.
            pub url: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "auth-url" "URL",
                help "Ask this URL, with the method, URI, origin, Authorization and Cookie of the \
                      request, whether somebody may do what they want: 2xx allows, 401 and 403 \
                      deny, anything else is answered with 503",
                live;

            /// Fields of requests that it is told besides.
            pub fields: Vec<FieldName> = Vec::new(),
                as list(parsed(FieldName::GRAMMAR)).default_in_words("none"),
                named "auth-forward-header" "NAME",
                help "Tell --auth-url this header field of requests as well; may be repeated",
                live;

            /// How long its answer is waited for.
            pub timeout: Duration = limits::AUTH_TIMEOUT.default,
                as one(duration(&limits::AUTH_TIMEOUT)),
                named "auth-timeout" "TIME",
                help "Answer requests with 503 for which --auth-url has not answered by then, or \
                      whose password (--basic-users) has not had its turn",
                live;

            /// Requests to it that may be under way at the same time.
            pub connections: usize = limits::AUTH_CONNECTIONS.default,
                as one(count(&limits::AUTH_CONNECTIONS)),
                named "auth-connections" "COUNT",
                help "Connections to --auth-url at the most; further requests wait",
                live;

            /// Whoever may have issued the certificates of servers that are asked by TLS; those
            /// whom the system trusts if there is none.
            pub authorities: Option<FilePath> = None,
                as one(parsed(FilePath::GRAMMAR).or_off()),
                named "auth-ca" "FILE",
                help "Believe servers of --auth-url, --jwt-jwks and hooks by https that one of \
                      these authorities has issued a certificate to, in PEM; otherwise those \
                      whom the system trusts",
                live;
        }
    }
}
