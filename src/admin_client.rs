//! A small HTTP client of the admin listener, for the commands that ask a running server.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::{Admin, ListenAddress};

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The body.
    pub text: String,
}

/// Where the admin listener of a setting is; `None` where there is none, or nobody knows where.
pub fn address(admin: &Admin) -> Option<ListenAddress> {
    match admin {
        Admin::Auto => Some(Admin::AUTO),
        Admin::At(ListenAddress::Activated(_)) | Admin::Off => None,
        Admin::At(address) => Some(address.clone()),
    }
}

/// Asks for `path`, and waits for the answer for [`TIMEOUT`] at the most.
///
/// # Errors
/// When the server is not reached, or does not answer in time; `InvalidData` when what answers
/// speaks no HTTP.
pub fn get(address: &ListenAddress, path: &str) -> io::Result<Reply> {
    let deadline = Instant::now() + TIMEOUT;
    let bytes = match address {
        ListenAddress::Tcp(tcp) => ask_tcp(*tcp, path, deadline),
        ListenAddress::Unix(file) => ask_unix(file, path, deadline),
        ListenAddress::Activated(_) => Err(io::ErrorKind::Unsupported.into()),
    }?;
    read(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
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

/// What the bytes of a response say; `None` where they are none.
fn read(bytes: &[u8]) -> Option<Reply> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        _ => return None,
    };
    let text = String::from_utf8_lossy(&bytes[head..]).trim_end().to_owned();
    Some(Reply { status: response.code?, text })
}

/// How long a whole question may take: less than those who start a command usually wait.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for the metrics of a thousand shards.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_believed() {
        let reply = |status, text: &str| Some(Reply { status, text: text.to_owned() });
        let well = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
        assert_eq!(read(well), reply(200, "ok"));
        let ill = b"HTTP/1.1 503 Service Unavailable\r\n\r\nshard 1 has failed\n";
        assert_eq!(read(ill), reply(503, "shard 1 has failed"));
        for strange in
            [&b""[..], b"HTTP/1.1 200 OK\r\nContent-", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff\0"]
        {
            assert_eq!(read(strange), None, "{}", String::from_utf8_lossy(strange));
        }
    }
}
