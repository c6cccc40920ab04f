//! Which pages may use the server, and what their browsers must be told so that they may read its
//! answers (Fetch standard, CORS protocol).

use super::policy::Policy;
use super::refusal::{Refusal, Refused};
use super::request::Field;
use super::response::Response;
use crate::config::{Authority, Origin};

/// The origin of the page that has sent a request, once it has been let pass; nothing where the
/// client is no browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AllowedOrigin {
    origin: Option<Box<str>>,
    /// Whether its requests may have cookies, and a token among them.
    may_have_cookies: bool,
}

impl AllowedOrigin {
    /// Of a request that no page has sent.
    pub(super) const NONE: Self = Self { origin: None, may_have_cookies: false };

    /// Lets the page read the response.
    pub(super) fn may_read(&self, response: Response) -> Response {
        let Some(origin) = &self.origin else { return response };
        let response = response
            .header("Access-Control-Allow-Origin", origin.to_string())
            .header("Vary", "Origin");
        match self.may_have_cookies {
            true => response.header("Access-Control-Allow-Credentials", "true"),
            false => response,
        }
    }

    /// Lets every page that has been let pass read the response to a request with cookies.
    pub(super) fn shares(&self, response: Response) -> Response {
        match &self.origin {
            Some(origin) => response
                .header("Access-Control-Allow-Origin", origin.to_string())
                .header("Access-Control-Allow-Credentials", "true")
                .header("Vary", "Origin"),
            None => response.header("Access-Control-Allow-Origin", "*"),
        }
    }

    /// The answer to a browser that asks what a page may send to a resource with these methods.
    pub(super) fn preflight(&self, methods: &'static str) -> Response {
        let response = self.may_read(Response::empty(204).header("Allow", methods));
        match self.origin {
            Some(_) => response
                .header("Access-Control-Allow-Methods", methods)
                .header("Access-Control-Allow-Headers", "authorization, content-type")
                .header("Access-Control-Max-Age", PREFLIGHT_SECONDS),
            None => response,
        }
    }
}

/// Lets pass what `--allow-origin` allows. Clients that are no browsers send no `Origin` and could
/// forge one, so its absence is allowed. So are pages of the host that this request was sent to.
/// Where passwords are taken, no others are without it: a browser that knows one adds it to what
/// any page asks for.
///
/// # Errors
/// Another origin, or more than one.
pub(super) fn check(
    origin: &Field<'_>,
    host: Option<Authority<'_>>,
    policy: &Policy,
) -> Result<AllowedOrigin, Refused> {
    let origin = match origin {
        Field::Absent => return Ok(AllowedOrigin::NONE),
        Field::Repeated => {
            let detail = "The Origin header appears more than once.";
            return Err(Refused::new(Refusal::BadRequest, detail));
        }
        Field::Once(origin) => str::from_utf8(origin).ok(),
    };
    let is_allowed = |origin: Origin<'_>| {
        host.is_some_and(|host| origin.is_of(host))
            || policy.allow_origin.iter().any(|pattern| pattern.matches(&origin))
    };
    let is_open = policy.allow_origin.is_empty() && !policy.checks_passwords;
    if !is_open && !origin.and_then(Origin::parse).is_some_and(is_allowed) {
        return Err(Refused::new(Refusal::Forbidden, "This origin may not connect."));
    }
    // Only what no browser sends is not repeated to it.
    let is_plain =
        |origin: &&str| !origin.is_empty() && origin.bytes().all(|b| b.is_ascii_graphic());
    let origin = origin.filter(is_plain).map(Box::from);
    Ok(AllowedOrigin { origin, may_have_cookies: policy.token_cookie.is_some() })
}

/// For how long a browser need not ask again: two hours, the most that Chromium heeds.
const PREFLIGHT_SECONDS: &str = "7200";

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::http::{Answer, Conditions, Exchange, Policy, Serving};

    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

    fn ask(request: &str, origins: &[&str], serving: Serving) -> String {
        let policy = Policy {
            allow_origin: origins.iter().map(|origin| origin.parse().unwrap()).collect(),
            ..Policy::new(&Config::default())
        };
        let conditions = Conditions::unlimited(&policy, serving);
        let answer = Exchange::default().receive(request.as_bytes(), &conditions);
        match answer {
            Answer::Respond { response, .. } | Answer::Publish { response, .. } => {
                String::from_utf8(response).unwrap()
            }
            answer => panic!("{request}: {answer:?}"),
        }
    }

    fn request(method: &str, fields: &str, body: &str) -> String {
        format!("{method} /broadcast/t HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
    }

    /// The status, and what the page of an origin learns.
    fn learned(response: &str) -> (&str, Option<&str>) {
        let field = |name| response.lines().find_map(|line| line.strip_prefix(name));
        let origin = field("Access-Control-Allow-Origin: ");
        assert_eq!(origin.is_some(), field("Vary: ") == Some("Origin"), "{response}");
        (&response["HTTP/1.1 ".len()..][..3], origin)
    }

    #[test]
    fn pages_of_allowed_origins_read_answers_and_refusals() {
        let listed = ["https://a.org", "*.b.org"];
        for (fields, body, origins, status, origin) in [
            ("Origin: https://a.org\r\n", "", &listed[..], "202", Some("https://a.org")),
            ("Origin: http://x.b.org:1\r\n", "", &listed, "202", Some("http://x.b.org:1")),
            ("Origin: https://other.org\r\n", "", &listed, "403", None),
            ("Origin: null\r\n", "", &listed, "403", None),
            ("Origin: null\r\n", "", &[], "202", Some("null")),
            ("Origin: a b\r\n", "", &[], "202", None),
            ("Origin:\r\n", "", &[], "202", None),
            ("", "", &listed, "202", None),
            (
                &format!("{CHUNKED}Origin: https://a.org\r\n"),
                "x",
                &[],
                "400",
                Some("https://a.org"),
            ),
        ] {
            let body = if body.is_empty() { body } else { "x\r\n" };
            let response = ask(&request("POST", fields, body), origins, Serving::Open);
            assert_eq!(learned(&response), (status, origin), "{fields}");
        }
        let text = request("POST", "Origin: https://a.org\r\n", "");
        let response = ask(&text, &listed, Serving::Draining);
        assert_eq!(learned(&response), ("503", Some("https://a.org")));
    }

    #[test]
    fn a_body_that_does_not_come_is_refused_readably() {
        let policy = Policy::new(&Config::default());
        let conditions = Conditions::unlimited(&policy, Serving::Open);
        let mut exchange = Exchange::default();
        let text = request("POST", "Origin: https://a.org\r\nContent-Length: 3\r\n", "x");
        assert_eq!(exchange.receive(text.as_bytes(), &conditions), Answer::Incomplete);
        let (_, response) = exchange.time_out(false, 5);
        let response = String::from_utf8(response).unwrap();
        assert_eq!(learned(&response), ("408", Some("https://a.org")));
    }

    #[test]
    fn browsers_are_told_what_pages_may_send() {
        let listed = ["https://a.org"];
        let fields = "Origin: https://a.org\r\nAccess-Control-Request-Method: POST\r\n\
            Access-Control-Request-Headers: content-type\r\n";
        let response = ask(&request("OPTIONS", fields, ""), &listed, Serving::Open);
        assert_eq!(learned(&response), ("204", Some("https://a.org")));
        for line in [
            "Access-Control-Allow-Methods: GET, HEAD, OPTIONS, POST\r\n",
            "Access-Control-Allow-Headers: authorization, content-type\r\n",
            "Access-Control-Max-Age: 7200\r\n",
            "Connection: keep-alive\r\n",
        ] {
            assert!(response.contains(line), "{response}");
        }
        assert!(!response.contains("Content-") && response.ends_with("\r\n\r\n"), "{response}");

        let refused = ask(&request("OPTIONS", "Origin: null\r\n", ""), &listed, Serving::Open);
        assert_eq!(learned(&refused), ("403", None));
        assert!(!refused.contains("Access-Control"), "{refused}");
        let plain = ask(&request("OPTIONS", "", ""), &listed, Serving::Open);
        assert_eq!(learned(&plain), ("204", None));
        assert!(plain.contains("Allow: GET, HEAD, OPTIONS, POST\r\n"), "{plain}");
        assert!(!plain.contains("Access-Control"), "{plain}");
    }
}
