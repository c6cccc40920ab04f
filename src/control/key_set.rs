//! The keys of `--jwt-jwks`: fetched at the start, then as often as the server that has them says,
//! and when a token names a key that is not known. What was fetched last holds until another set is
//! there.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap};
use hyper::{Request, StatusCode};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::connector::{ConnectError, Connector};
use super::standing::Standing;
use crate::config::HttpUrl;
use crate::identity::KeyFault;

/// Keeps the keys up to date for as long as the server runs, wherever the settings say they are.
pub(super) async fn keep(standing: Arc<Standing>) {
    let (mut last, connector) = (Last::default(), Connector::new(standing.clone()));
    loop {
        if let Some(url) = standing.key_set_url()
            && last.is_due(&url, standing.unknown_keys(), Instant::now())
        {
            last.begin(url.clone(), standing.unknown_keys(), Instant::now());
            let fetched = timeout(FETCH_TIMEOUT, fetch(&url, &connector)).await;
            let used = fetched.unwrap_or(Err(FetchError::Late)).and_then(|set| {
                standing.use_key_set(&url, set.text)?;
                Ok(set.holds)
            });
            match used {
                Ok(holds) => last.next = Some(Instant::now() + holds),
                Err(error) => {
                    standing.note_failed_fetch();
                    tracing::warn!(%url, "no keys: {error}; what was known last holds");
                }
            }
        }
        sleep(LOOK_PERIOD).await;
    }
}

/// What is known of the last fetch.
#[derive(Debug, Default)]
struct Last {
    url: Option<HttpUrl>,
    began: Option<Instant>,
    /// When to fetch again, if it has succeeded.
    next: Option<Instant>,
    /// Tokens whose keys were not known, by then.
    unknown_keys: u64,
}

impl Last {
    fn is_due(&self, url: &HttpUrl, unknown_keys: u64, now: Instant) -> bool {
        let Some(began) = self.began.filter(|_| self.url.as_ref() == Some(url)) else {
            return true;
        };
        match self.next {
            Some(next) if next <= now => true,
            // Everybody can make such tokens, and shall not make so many requests.
            Some(_) => unknown_keys != self.unknown_keys && now >= began + UNKNOWN_PAUSE,
            None => now >= began + RETRY_PAUSE,
        }
    }

    fn begin(&mut self, url: HttpUrl, unknown_keys: u64, now: Instant) {
        *self = Self { url: Some(url), began: Some(now), next: None, unknown_keys };
    }
}

/// A set, and for how long it is to be used.
struct Fetched {
    text: Vec<u8>,
    holds: Duration,
}

/// Why there is none.
#[derive(Debug, Error)]
enum FetchError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("no request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer breaks off, or has more than {SET_BYTES_MOST} bytes")]
    Body,
    #[error("the answer {0}")]
    Keys(#[from] KeyFault),
    #[error("no answer within {FETCH_TIMEOUT:?}")]
    Late,
}

async fn fetch(url: &HttpUrl, connector: &Connector) -> Result<Fetched, FetchError> {
    let mut sender = connector.connect(url).await?;
    let request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Body::empty())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let holds = holds(response.headers());
    let body = to_bytes(Body::new(response.into_body()), SET_BYTES_MOST).await;
    Ok(Fetched { text: body.map_err(|_| FetchError::Body)?.into(), holds })
}

/// For how long an answer is fresh (RFC 9111 section 5.2.2.1), within reason.
fn holds(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let max_age = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| seconds.trim_matches('"').parse().ok())?
    });
    max_age.map_or(HOLDS_USUALLY, Duration::from_secs).clamp(HOLDS_LEAST, HOLDS_MOST)
}

/// How often is looked whether there is something to do.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// For a whole fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two fetches for the sake of tokens whose keys are not known.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(30);
/// Between one that has failed and the next.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How long a set is used that does not say so, and the least and the most of what it may say.
const HOLDS_USUALLY: Duration = Duration::from_secs(15 * 60);
const HOLDS_LEAST: Duration = Duration::from_secs(60);
const HOLDS_MOST: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a set.
const SET_BYTES_MOST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_fetched_when_it_is_due() {
        let (url, other) = ("http://a/k".parse().unwrap(), "http://b/k".parse().unwrap());
        let (mut last, start) = (Last::default(), Instant::now());
        assert!(last.is_due(&url, 0, start));
        last.begin(url.clone(), 0, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        for (seconds, unknown_keys, expected) in [(0, 0, false), (4, 9, false), (5, 0, true)] {
            assert_eq!(last.is_due(&url, unknown_keys, after(seconds)), expected, "it has failed");
        }
        last.next = Some(after(900));
        for (seconds, unknown_keys, expected) in
            [(29, 7, false), (30, 0, false), (30, 7, true), (899, 0, false), (900, 0, true)]
        {
            assert_eq!(last.is_due(&url, unknown_keys, after(seconds)), expected, "{seconds}");
        }
        assert!(last.is_due(&other, 0, after(1)));
    }

    #[test]
    fn the_answer_says_how_long_it_holds() {
        for (value, seconds) in [
            ("", 900),
            ("no-store", 900),
            ("public, max-age=3600", 3600),
            ("Max-Age=\"120\"", 120),
            ("max-age=0", 60),
            ("max-age=31536000", 86400),
            ("max-age=soon", 900),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.parse().unwrap())]);
            assert_eq!(holds(&headers), Duration::from_secs(seconds), "{value}");
        }
    }
}
