//! Keeps web pages out. A browser on the machine of whoever administers the server reaches what
//! listens on loopback, and sends there whatever a page tells it to; so a request that a page could
//! have sent changes nothing, and a page whose name was made to resolve to this machine (DNS
//! rebinding) reads nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::{StatusCode, Uri};

use super::answer::Refused;
use crate::config::{Authority, Origin};

/// Sees that the request is for this machine by a name that no other can take: an address or a
/// name of loopback (RFC 6761 section 6.3). Names of other machines get 421.
pub(super) fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let host = host(uri, headers)
        .ok_or(Refused::bad("The request needs one Host that is a host with an optional port."))?;
    match is_address(host.host) || is_loopback_name(host.host) {
        true => Ok(()),
        false => Err(Refused::new(
            StatusCode::MISDIRECTED_REQUEST,
            "The admin listener answers to IP addresses and localhost alone, as any other name may \
             be that of a web page's site.",
        )),
    }
}

/// Sees that a request which changes something comes from no foreign web page, nor from an older
/// browser that does not tell: without a script of this origin those cannot send JSON.
pub(super) fn check_change(uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let is_own_page = headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(Origin::parse);
        origin.zip(host(uri, headers)).is_some_and(|(origin, host)| origin.is_of(host))
    });
    if !is_own_page {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "A web page of another origin may change nothing.",
        ));
    }
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    if !sites.all(|site| site == "same-origin" || site == "none") {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "A web page of another site may change nothing.",
        ));
    }
    match one(headers, &CONTENT_TYPE).is_some_and(is_json) {
        true => Ok(()),
        false => Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "A request that changes something needs Content-Type: application/json.",
        )),
    }
}

/// Whom a request is for: where an absolute URL points, or else what its one `Host` says (RFC 9112
/// section 3.2).
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<Authority<'a>> {
    let text = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => one(headers, &HOST)?,
    };
    Authority::parse(text)
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.to_str().ok())?
}

fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// W3C Fetch Metadata Request Headers, section 2.3.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn status(result: Result<(), Refused>) -> u16 {
        result.map_or_else(|refused| refused.status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts_are_addresses_or_loopback() {
        let path = Uri::from_static("/stats");
        for (host, expected) in [
            ("127.0.0.1:7072", 200),
            ("10.1.2.3", 200),
            ("[::1]:7072", 200),
            ("[2001:db8::1]", 200),
            ("localhost:7072", 200),
            ("LOCALHOST", 200),
            ("a.localhost.:1", 200),
            ("evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("localhost.evil.example:7072", 421),
            ("notlocalhost", 421),
            ("127.0.0.1.", 421),
            ("0x7f.1", 421),
            ("2130706433", 421),
            ("[::g]", 421),
            ("", 400),
            ("a b", 400),
            ("user@127.0.0.1", 400),
            ("127.0.0.1:99999", 400),
        ] {
            assert_eq!(status(check_host(&path, &headers(&[("host", host)]))), expected, "{host}");
        }
        assert_eq!(status(check_host(&path, &headers(&[]))), 400);
    }

    #[test]
    fn one_host_counts_and_that_of_the_url_before_the_field() {
        let path = Uri::from_static("/stats");
        let mut two = headers(&[("host", "127.0.0.1")]);
        two.append(HOST, "127.0.0.1".parse().unwrap());
        assert_eq!(status(check_host(&path, &two)), 400);
        let url = Uri::from_static("http://evil.example/stats");
        assert_eq!(status(check_host(&url, &headers(&[("host", "127.0.0.1")]))), 421);
        let url = Uri::from_static("http://127.0.0.1/stats");
        assert_eq!(status(check_host(&url, &headers(&[("host", "evil.example")]))), 200);
    }

    #[test]
    fn no_page_of_another_origin_changes_anything() {
        let path = Uri::from_static("/drain");
        let check = |fields: &[(&'static str, &str)]| {
            let common = [("host", "localhost:7072"), ("content-type", "application/json")];
            status(check_change(&path, &headers(&[&common[..], fields].concat())))
        };
        assert_eq!(check(&[]), 200);
        for (origin, expected) in [
            ("http://localhost:7072", 200),
            ("http://localhost:7071", 403),
            ("http://localhost", 403),
            ("https://evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            assert_eq!(check(&[("origin", origin)]), expected, "{origin}");
        }
        for (site, expected) in [
            ("same-origin", 200),
            ("none", 200),
            ("same-site", 403),
            ("cross-site", 403),
            ("", 403),
        ] {
            assert_eq!(check(&[("sec-fetch-site", site)]), expected, "{site}");
        }
        let mut two = headers(&[("host", "localhost"), ("origin", "http://localhost")]);
        two.append(ORIGIN, "https://evil.example".parse().unwrap());
        assert_eq!(status(check_change(&path, &two)), 403);
    }

    #[test]
    fn what_a_form_can_send_changes_nothing() {
        let path = Uri::from_static("/drain");
        let check = |kind| {
            let fields = headers(&[("host", "localhost"), ("content-type", kind)]);
            status(check_change(&path, &fields))
        };
        assert_eq!(check("application/json"), 200);
        assert_eq!(check("Application/JSON ; charset=utf-8"), 200);
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain; application/json",
            "application/json-seq",
            "",
        ] {
            assert_eq!(check(kind), 415, "{kind}");
        }
        assert_eq!(status(check_change(&path, &headers(&[("host", "localhost")]))), 415);
    }
}
