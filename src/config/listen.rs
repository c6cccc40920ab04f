//! Where connections are accepted, and how.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use super::entry::{Entry, EntryNotation, Fault, field};
use super::form::{boolean, count, parsed};
use crate::limits;

/// A listener: its address and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where it listens.
    pub address: ListenAddress,
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u16,
    /// Who may connect to a Unix socket; `None` leaves it to the umask of the process.
    pub mode: Option<SocketMode>,
    /// Whether each connection begins with a PROXY header.
    pub proxy: bool,
    /// Whether TLS is spoken, behind that header if there is one.
    pub tls: bool,
}

/// What those get who come by a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerRole {
    /// All that is served.
    Service,
    /// The word that it is at https.
    Redirect,
    /// The API of applications.
    Api,
}

impl From<ListenAddress> for ListenerConfig {
    /// A listener without options.
    fn from(address: ListenAddress) -> Self {
        Self {
            address,
            backlog: limits::LISTEN_BACKLOG.default,
            mode: None,
            proxy: false,
            tls: false,
        }
    }
}

/// A listener as it is read.
#[derive(Default)]
pub(super) struct ListenerDraft {
    address: Option<ListenAddress>,
    backlog: Option<u16>,
    mode: Option<SocketMode>,
    proxy: Option<bool>,
    tls: Option<bool>,
}

impl Entry for ListenerConfig {
    type Draft = ListenerDraft;

    fn notation() -> EntryNotation<ListenerDraft> {
        EntryNotation {
            head: vec![field("address", parsed(ListenAddress::GRAMMAR), |draft| {
                &mut draft.address
            })],
            options: vec![
                field("backlog", count(&limits::LISTEN_BACKLOG), |draft| &mut draft.backlog),
                field("mode", parsed(SocketMode::GRAMMAR), |draft| &mut draft.mode),
                field("proxy", boolean(), |draft| &mut draft.proxy),
                field("tls", boolean(), |draft| &mut draft.tls),
            ],
            allowed: ListenAddress::GRAMMAR,
        }
    }

    fn from_draft(draft: ListenerDraft) -> Result<Self, Fault> {
        let Some(address) = draft.address else {
            let allowed = ListenAddress::GRAMMAR.to_owned();
            return Err(Fault::Missing { name: "address", allowed });
        };
        if draft.mode.is_some() && matches!(address, ListenAddress::Tcp(_)) {
            let text = format!("mode with {address}: allowed is mode for unix:PATH alone");
            return Err(Fault::Contradiction(text));
        }
        if matches!(address, ListenAddress::Activated(_))
            && (draft.mode.is_some() || draft.backlog.is_some())
        {
            let text = format!(
                "options with {address}: allowed are Backlog= and SocketMode= of the socket unit"
            );
            return Err(Fault::Contradiction(text));
        }
        let backlog = draft.backlog.unwrap_or(limits::LISTEN_BACKLOG.default);
        let (proxy, tls) = (draft.proxy.unwrap_or(false), draft.tls.unwrap_or(false));
        Ok(Self { address, backlog, mode: draft.mode, proxy, tls })
    }

    fn to_draft(&self) -> ListenerDraft {
        ListenerDraft {
            address: Some(self.address.clone()),
            backlog: (self.backlog != limits::LISTEN_BACKLOG.default).then_some(self.backlog),
            mode: self.mode,
            proxy: self.proxy.then_some(true),
            tls: self.tls.then_some(true),
        }
    }
}

/// Permissions of the file of a Unix socket: to connect takes the right to write (unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(u16);

impl SocketMode {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "three octal digits such as 660, for unix:PATH";

    /// The owner may connect, and nobody else.
    pub const OWNER: Self = Self(0o600);

    /// The permission bits, for owner, group and others.
    pub fn bits(self) -> u32 {
        self.0.into()
    }
}

/// A text that is no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", SocketMode::GRAMMAR)]
pub struct SocketModeError;

impl FromStr for SocketMode {
    type Err = SocketModeError;

    /// Reads three octal digits, also with the `0` of C or the `0o` of TOML before them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let prefixes = ["0o", "0"];
        let digits = prefixes.iter().find_map(|prefix| {
            text.strip_prefix(prefix).filter(|digits| digits.len() == MODE_DIGITS)
        });
        let digits = digits.unwrap_or(text);
        let is_octal =
            digits.len() == MODE_DIGITS && digits.bytes().all(|d| matches!(d, b'0'..=b'7'));
        let bits = is_octal.then(|| u16::from_str_radix(digits, 8).ok()).flatten();
        bits.map(Self).ok_or(SocketModeError)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:03o}", self.0)
    }
}

const MODE_DIGITS: usize = 3;

/// Where a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address, IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket, written `unix:PATH`.
    Unix(PathBuf),
    /// What the service manager has opened under this name (`FileDescriptorName=`,
    /// systemd.socket(5)), written `systemd:NAME`.
    Activated(String),
}

/// A text that is no listen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", ListenAddress::GRAMMAR)]
pub struct ListenAddressError;

impl ListenAddress {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "IP:PORT such as 127.0.0.1:7071 or [::1]:7071, unix:PATH, or \
         systemd:NAME for a socket unit";

    /// Whether others than this machine reach it, as far as that is known.
    pub fn is_reachable(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    /// Reads `IP:PORT`, `[IPv6]:PORT`, `unix:PATH` or `systemd:NAME`. Names of hosts are refused:
    /// what they resolve to may change between two starts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(name) = text.strip_prefix("systemd:") {
            let name = is_descriptor_name(name).then(|| Self::Activated(name.to_owned()));
            return name.ok_or(ListenAddressError);
        }
        match text.strip_prefix("unix:") {
            Some(path) if is_socket_path(path) => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(ListenAddressError),
            None => text.parse().map(Self::Tcp).map_err(|_| ListenAddressError),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Activated(name) => write!(formatter, "systemd:{name}"),
        }
    }
}

pub(super) fn is_socket_path(path: &str) -> bool {
    !path.is_empty() && path.len() <= limits::UNIX_PATH_BYTES_MOST && !path.contains('\0')
}

/// What sd_listen_fds(3) allows: ASCII that can be seen, without the colon that separates names.
fn is_descriptor_name(name: &str) -> bool {
    (1..=limits::DESCRIPTOR_NAME_BYTES_MOST).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_reach_what_is_no_loopback_and_no_file() {
        for (text, is_reachable) in [
            ("127.0.0.1:7071", false),
            ("[::1]:7071", false),
            ("unix:/run/ringwire.sock", false),
            ("0.0.0.0:0", true),
            ("192.0.2.1:80", true),
        ] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.is_reachable(), is_reachable, "{text}");
        }
    }

    #[test]
    fn addresses_read_back_as_they_were_written() {
        for text in [
            "127.0.0.1:7071",
            "[::1]:7071",
            "0.0.0.0:0",
            "unix:/run/ringwire.sock",
            "systemd:a.socket",
        ] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn names_and_half_addresses_are_refused() {
        let long = format!("unix:/{}", "x".repeat(limits::UNIX_PATH_BYTES_MOST));
        let long_name = format!("systemd:{}", "x".repeat(limits::DESCRIPTOR_NAME_BYTES_MOST + 1));
        for text in [
            "localhost:7071",
            "127.0.0.1",
            "::1:7071",
            ":7071",
            "unix:",
            "",
            "systemd:",
            "systemd:a:b",
            "systemd:a b",
            &long,
            &long_name,
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(ListenAddressError), "{text}");
        }
    }

    #[test]
    fn modes_are_three_octal_digits() {
        for text in ["660", "0660", "0o660"] {
            let mode: SocketMode = text.parse().expect(text);
            assert_eq!((mode.bits(), mode.to_string()), (0o660, "660".to_owned()));
        }
        assert_eq!("007".parse::<SocketMode>().map(|mode| mode.to_string()), Ok("007".to_owned()));
        for text in ["", "66", "6600", "668", "0x1b0", "-66", "+66", "rw-"] {
            assert_eq!(text.parse::<SocketMode>(), Err(SocketModeError), "{text}");
        }
    }
}
