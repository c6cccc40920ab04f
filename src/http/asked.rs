//! What a request says that is of interest to whoever reads the access log, whatever becomes of it.

use super::request::Head;

/// Who asked for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The host that it was sent to.
    pub host: Option<Box<str>>,
    /// The path, without the query: that may hold secrets.
    pub path: Box<str>,
    /// What the client calls itself.
    pub user_agent: Option<Box<str>>,
}

impl Asked {
    pub(super) fn of(head: &Head<'_>) -> Self {
        let path = head.target.split('?').next().unwrap_or_default();
        let user_agent = head.user_agent.map(|text| String::from_utf8_lossy(text));
        Self {
            host: head.host.map(|host| beginning(host.host)),
            path: beginning(path),
            user_agent: user_agent.map(|text| beginning(&text)),
        }
    }
}

/// As much of a text as a line of the log is to hold.
fn beginning(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(TEXT_BYTES_MOST)].into()
}

/// Bytes that are kept of each text.
const TEXT_BYTES_MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_reduced_to_what_is_logged() {
        let agent = "x".repeat(300);
        let text = format!("GET /a?token=b HTTP/1.1\r\nHost: c:80\r\nUser-Agent: {agent}\r\n\r\n");
        let (head, _) = Head::parse(text.as_bytes(), 8192, 64).unwrap().unwrap();
        let expected = Asked {
            host: Some("c".into()),
            path: "/a".into(),
            user_agent: Some(agent[..TEXT_BYTES_MOST].into()),
        };
        assert_eq!(Asked::of(&head), expected);
        let (head, _) = Head::parse(b"GET / HTTP/1.0\r\n\r\n", 8192, 64).unwrap().unwrap();
        let expected = Asked { host: None, path: "/".into(), user_agent: None };
        assert_eq!(Asked::of(&head), expected);
    }
}
