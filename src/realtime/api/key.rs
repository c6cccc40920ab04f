//! The key that an application presents, without which it may call nothing.

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// The key of a request, from the first of these places that has one: the field `X-API-Key`, the
/// field `Authorization` with the scheme `apikey`, and the parameter `api_key` of the query, which
/// is given decoded.
pub fn presented_key<'a>(
    x_api_key: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    query_api_key: Option<&'a str>,
) -> Option<&'a [u8]> {
    let of_authorization = || {
        let (scheme, key) = authorization?.split_at_checked(SCHEME.len())?;
        let key = key.strip_prefix(b" ")?.trim_ascii();
        // The name of a scheme is the same in capitals (RFC 9110 section 11.1).
        scheme.eq_ignore_ascii_case(SCHEME).then_some(key)
    };
    let is_there = |key: &&[u8]| !key.is_empty();
    x_api_key
        .filter(is_there)
        .or_else(|| of_authorization().filter(is_there))
        .or_else(|| query_api_key.map(str::as_bytes).filter(is_there))
}

/// Whether what was presented is one of the configured keys; an empty one never is. The time that
/// it takes tells nothing of a key but its length.
pub fn is_key<K: AsRef<[u8]>>(presented: &[u8], keys: &[K]) -> bool {
    let mut is_one = false;
    // Each is compared, so that nobody learns which one it is.
    for key in keys {
        is_one |= verify_slices_are_equal(presented, key.as_ref()).is_ok();
    }
    is_one && !presented.is_empty()
}

const SCHEME: &[u8] = b"apikey";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_has_a_key_counts() {
        let key = |field: &'static str, authorization: &'static str, query: &'static str| {
            let some = |text: &'static str| (!text.is_empty()).then_some(text);
            let field = some(field).map(|it| it.trim().as_bytes());
            let key = presented_key(field, some(authorization).map(str::as_bytes), some(query));
            key.map(|key| str::from_utf8(key).expect("text"))
        };
        assert_eq!(key("a", "apikey b", "c"), Some("a"));
        assert_eq!(key(" ", "apikey b", "c"), Some("b"));
        assert_eq!(key("", "ApiKey  b ", "c"), Some("b"));
        assert_eq!(key("", "", "c"), Some("c"));
        for authorization in ["Bearer b", "apikey", "apikey ", "apikeyb", "api", "apikey-b c"] {
            assert_eq!(key("", authorization, "c"), Some("c"), "{authorization}");
            assert_eq!(key("", authorization, ""), None, "{authorization}");
        }
    }

    #[test]
    fn only_what_is_configured_is_a_key() {
        let keys = ["one", "other", ""];
        assert!(is_key(b"one", &keys) && is_key(b"other", &keys));
        for no_key in ["", "on", "ones", "One", "oneother"] {
            assert!(!is_key(no_key.as_bytes(), &keys), "{no_key}");
        }
        assert!(!is_key(b"one", &[] as &[&str]));
    }
}
