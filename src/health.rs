//! `ringwire health`: asks the admin listener of a running server whether it is alive or ready, for
//! those who judge by an exit status, such as containers, and have no HTTP client at hand.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::{Admin, ListenAddress};

/// A question to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its admin listener.
    pub admin: Admin,
    /// Whether the question is if an upgrade would be accepted, rather than if all shards are
    /// alive.
    pub is_about_readiness: bool,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is well.
    pub is_well: bool,
    /// Its words.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is nobody to ask, or nobody knows where.
    #[error("--admin is {0}: name the address of the admin listener, `ringwire health ADDRESS`")]
    NoAddress(Admin),
    /// The server was not reached, or did not answer in time.
    #[error("{address} does not answer: {error}")]
    Unreached {
        /// Where it was looked for.
        address: ListenAddress,
        /// Why not.
        error: io::Error,
    },
    /// Something else than an admin listener is there.
    #[error("{0} answers what no admin listener would")]
    Strange(ListenAddress),
}

impl Question {
    /// Asks, and waits for the answer for [`TIMEOUT`] at the most.
    ///
    /// # Errors
    /// A [`NoAnswer`].
    pub fn ask(&self) -> Result<Answer, NoAnswer> {
        let address = match &self.admin {
            Admin::Auto => Admin::AUTO,
            Admin::At(ListenAddress::Activated(_)) | Admin::Off => {
                return Err(NoAnswer::NoAddress(self.admin.clone()));
            }
            Admin::At(address) => address.clone(),
        };
        let path = if self.is_about_readiness { "/readyz" } else { "/healthz" };
        let deadline = Instant::now() + TIMEOUT;
        let asked = match &address {
            ListenAddress::Tcp(tcp) => ask_tcp(*tcp, path, deadline),
            ListenAddress::Unix(file) => ask_unix(file, path, deadline),
            ListenAddress::Activated(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        match asked {
            Ok(bytes) => read(&bytes).ok_or(NoAnswer::Strange(address)),
            Err(error) => Err(NoAnswer::Unreached { address, error }),
        }
    }
}

fn ask_tcp(address: SocketAddr, path: &str, deadline: Instant) -> io::Result<Vec<u8>> {
    // Who listens on every address is asked at the one that is always there.
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, address.port());
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request(path).as_bytes())?;
    read_until(deadline, |left, buffer| {
        stream.set_read_timeout(Some(left))?;
        stream.read(buffer)
    })
}

fn ask_unix(file: &Path, path: &str, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(file)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request(path).as_bytes())?;
    read_until(deadline, |left, buffer| {
        stream.set_read_timeout(Some(left))?;
        stream.read(buffer)
    })
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// All that comes until the end of the connection.
fn read_until(
    deadline: Instant,
    mut read: impl FnMut(Duration, &mut [u8]) -> io::Result<usize>,
) -> io::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match read(left, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(length) if bytes.len() + length > ANSWER_BYTES_MAX => {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}

/// What the bytes of a response say; `None` where they are none, or of another service.
fn read(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        _ => return None,
    };
    let is_well = match response.code? {
        200 => true,
        503 => false,
        _ => return None,
    };
    let text = String::from_utf8_lossy(&bytes[head..]).trim_end().to_owned();
    Some(Answer { is_well, text })
}

/// How long the whole question may take: less than those who start one usually wait.
const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(is_well: bool, text: &str) -> Option<Answer> {
        Some(Answer { is_well, text: text.to_owned() })
    }

    #[test]
    fn only_an_admin_listener_is_believed() {
        let well = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
        assert_eq!(read(well), answer(true, "ok"));
        let ill = b"HTTP/1.1 503 Service Unavailable\r\n\r\nshard 1 has failed\n";
        assert_eq!(read(ill), answer(false, "shard 1 has failed"));
        for strange in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-",
            b"HTTP/1.1 404 Not Found\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            assert_eq!(read(strange), None, "{}", String::from_utf8_lossy(strange));
        }
    }

    #[test]
    fn nobody_is_asked_where_nobody_can_be() {
        for admin in ["off", "systemd:admin"] {
            let question = Question { admin: admin.parse().unwrap(), is_about_readiness: false };
            let error = question.ask().unwrap_err().to_string();
            assert!(error.contains(admin) && error.contains("health ADDRESS"), "{error}");
        }
    }
}
