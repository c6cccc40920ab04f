//! Who may do what: which tokens are believed, where they are looked for, and what those may do who
//! have none.

use clap::ValueEnum;

use super::file_path::FilePath;
use super::form::{boolean, choice, count, parsed};
use super::http_url::HttpUrl;
use super::key_file::{CookieName, KeyFile, TokenName};
use super::setting::{list, one, settings};
use super::topic_pattern::TopicPattern;
use crate::limits;

/// Who stays connected where a user would have more connections than one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UserLimit {
    /// Whoever comes: the oldest is closed.
    Newest,
    /// Those who are there: whoever comes is refused.
    Oldest,
}

/// The name in the certificate of a client that names its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CertificateUser {
    /// None: certificates let clients connect, and say nothing of users.
    Off,
    /// The common name of its subject.
    Cn,
    /// The first name of a host among its alternative names.
    Dns,
    /// The first address of mail among those.
    Email,
    /// The first URI among those, such as a SPIFFE ID.
    Uri,
}

settings! {
    /// Who may do what, by JSON Web Tokens (RFC 7519).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Identity at (|config| &mut config.identity) {
        under Identity {
            /// Files of the keys that tokens are verified with; with none, and none fetched, nobody
            /// needs a token.
            pub jwt_keys: Vec<KeyFile> = Vec::new(),
                as list(parsed(KeyFile::GRAMMAR)).default_in_words("none, nobody needs a token"),
                named "jwt-key" "[ALGORITHM:]FILE",
                help "Ask for a JSON Web Token that this key verifies: a public key in PEM, a JWK \
                      set, or a secret such as hs256:/run/secret; may be repeated",
                live;

            /// Where further keys are fetched from, again and again.
            pub jwt_jwks: Option<HttpUrl> = None,
                as one(parsed(HttpUrl::GRAMMAR).or_off()),
                named "jwt-jwks" "URL",
                help "Fetch keys that verify tokens from this URL of a JWK set; needs \
                      --jwt-issuer and --jwt-audience",
                live;

            /// What tokens must call their issuer.
            pub jwt_issuer: Option<TokenName> = None,
                as one(parsed(TokenName::GRAMMAR).or_off()),
                named "jwt-issuer" "ISSUER",
                help "Refuse tokens whose `iss` is not this",
                live;

            /// Names for this server, of which tokens must have one.
            pub jwt_audiences: Vec<TokenName> = Vec::new(),
                as list(parsed(TokenName::GRAMMAR)).default_in_words("none"),
                named "jwt-audience" "AUDIENCE",
                help "Refuse tokens whose `aud` has not this name for the server; may be \
                      repeated; without it those that have an `aud` are refused",
                live;

            /// A cookie that may hold the token.
            pub jwt_cookie: Option<CookieName> = None,
                as one(parsed(CookieName::GRAMMAR).or_off()),
                named "jwt-cookie" "NAME",
                help "Take tokens from this cookie as well; needs --allow-origin, as the pages of \
                      all sites can use the cookies of their visitors",
                live;

            /// Whether the query may hold the token.
            pub jwt_query: bool = false,
                as one(boolean()),
                named "jwt-query" "BOOLEAN",
                help "Take tokens from the query as well, as access_token=TOKEN, which proxies \
                      and browsers may keep in logs",
                live;

            /// Whether connections stay open that outlive their token.
            pub jwt_keep_open: bool = false,
                as one(boolean()),
                named "jwt-keep-open" "BOOLEAN",
                help "Leave connections open when their token expires; otherwise they are closed \
                      with 3000",
                live;

            /// A list of users and tokens that are not believed any more.
            pub revoked: Option<FilePath> = None,
                as one(parsed(FilePath::GRAMMAR).or_off()),
                named "revoked" "FILE",
                help "Believe no token in this list, whose lines are `user NAME` or `token ID`, \
                      and close connections that had one with 3000",
                live;

            /// Where the certificates of clients name their users, who need no token then.
            pub certificate_user: CertificateUser = CertificateUser::Off,
                as one(choice()),
                named "tls-client-user" "NAME",
                help "Take this name in the certificate of a client (--tls-client-ca) for its \
                      user, who needs no token then; from then on everybody needs one of them",
                live;

            /// A list of what users may do, beside what their tokens grant.
            pub user_grants: Option<FilePath> = None,
                as one(parsed(FilePath::GRAMMAR).or_off()),
                named "user-grants" "FILE",
                help "What users may do, however they have shown who they are: a list whose lines \
                      are `subscribe PATTERN USER` or `publish PATTERN USER`, and * is every user",
                live;

            /// A list of users with hashes of their passwords.
            pub basic_users: Option<FilePath> = None,
                as one(parsed(FilePath::GRAMMAR).or_off()),
                named "basic-users" "FILE",
                help "Take passwords (Authorization: Basic) of the users in this list, as \
                      `htpasswd -B` writes it, with bcrypt or argon2id; they may do what \
                      --user-grants says",
                live;

            /// Open WebSockets and streams of one user. `None` is unbounded.
            pub connections_per_user: Option<u16> = limits::CONNECTIONS_PER_USER.default,
                as one(count(&limits::CONNECTIONS_PER_USER).or_off()),
                named "connections-per-user" "COUNT",
                help "Open WebSockets and streams of one user, whom tokens or certificates name; \
                      --user-limit says what becomes of more",
                live;

            /// Who stays where a user would have more.
            pub user_limit: UserLimit = UserLimit::Newest,
                as one(choice()),
                named "user-limit" "WHO",
                help "Who stays of the connections of a user that are too many: the newest, and \
                      the oldest is closed with 4001, or the oldest, and whoever comes is \
                      answered 429",
                live;

            /// Topics that those may join who have no token.
            pub anonymous_subscribe: Vec<TopicPattern> = Vec::new(),
                as list(parsed(TopicPattern::GRAMMAR)).default_in_words("none"),
                named "anonymous-subscribe" "PATTERN",
                help "Topics that everybody may subscribe to where others need a token, such as \
                      news.* or public/**; may be repeated",
                live;

            /// Topics that those may publish to who have no token.
            pub anonymous_publish: Vec<TopicPattern> = Vec::new(),
                as list(parsed(TopicPattern::GRAMMAR)).default_in_words("none"),
                named "anonymous-publish" "PATTERN",
                help "Topics that everybody may publish to where others need a token; may be \
                      repeated",
                live;
        }
    }
}

impl Identity {
    /// Whether certificates of clients say who those are.
    pub fn takes_certificates(&self) -> bool {
        self.certificate_user != CertificateUser::Off
    }

    /// Whether tokens are verified here.
    pub fn has_keys(&self) -> bool {
        !self.jwt_keys.is_empty() || self.jwt_jwks.is_some()
    }
}
