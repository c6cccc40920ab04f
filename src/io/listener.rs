//! Listening sockets: one per shard and TCP address, so that the kernel spreads connections over
//! the shards (`SO_REUSEPORT`); a Unix socket is one queue that all shards accept from.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::socket_option;
use crate::config::ListenAddress;

/// A listening address with a socket for each shard.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens; a port of 0 has become the one that the kernel chose.
    pub address: ListenAddress,
    sockets: Vec<OwnedFd>,
    /// The socket file to remove when the listener ends.
    file: Option<PathBuf>,
}

/// Why a listener could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", self.hint())]
pub struct ListenError {
    address: ListenAddress,
    error: io::Error,
}

impl ListenError {
    fn hint(&self) -> &'static str {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => " (another process listens there; choose another --listen)",
            io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
            io::ErrorKind::AddrNotAvailable => " (no interface has this address)",
            _ => "",
        }
    }
}

impl Listener {
    /// Binds `address` for `shards` shards.
    ///
    /// # Errors
    /// A [`ListenError`] that names the address, the cause and a likely fix.
    pub fn bind(address: &ListenAddress, shards: usize) -> Result<Self, ListenError> {
        let bound = match address {
            ListenAddress::Tcp(socket_address) => Self::bind_tcp(*socket_address, shards),
            ListenAddress::Unix(path) => Self::bind_unix(path, shards),
        };
        bound.map_err(|error| ListenError { address: address.clone(), error })
    }

    /// Takes the next shard's socket.
    pub fn take_socket(&mut self) -> Option<OwnedFd> {
        self.sockets.pop()
    }

    fn bind_tcp(mut address: SocketAddr, shards: usize) -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(shards);
        for shard in 0..shards {
            let socket = tcp_socket(address)?;
            // With SO_REUSEPORT another server of the same user would silently share the port, or
            // the kernel would choose one that is shared. So the first socket is bound without.
            if shard > 0 {
                socket.set_reuse_port(true)?;
            }
            socket.bind(&address.into())?;
            socket.set_reuse_port(true)?;
            if let Some(bound) = socket.local_addr()?.as_socket() {
                address = bound;
            }
            sockets.push(socket);
        }
        for socket in &sockets {
            accept_with_request(socket)?;
            socket.listen(BACKLOG)?;
        }
        let sockets = sockets.into_iter().map(OwnedFd::from).collect();
        Ok(Self { address: ListenAddress::Tcp(address), sockets, file: None })
    }

    fn bind_unix(path: &Path, shards: usize) -> io::Result<Self> {
        remove_stale_socket(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let mut sockets = Vec::with_capacity(shards);
        for _ in 1..shards {
            sockets.push(OwnedFd::from(socket.try_clone()?));
        }
        sockets.push(OwnedFd::from(socket));
        let address = ListenAddress::Unix(path.to_owned());
        Ok(Self { address, sockets, file: Some(path.to_owned()) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Gone already is as good.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A port in TIME_WAIT may be bound again; one that the kernel chooses must be free.
    socket.set_reuse_address(address.port() != 0)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Lets the kernel keep a connection to itself until its request has begun to arrive, so that one
/// wake-up brings both, or until [`SILENCE_SECONDS`] have passed (`TCP_DEFER_ACCEPT`, tcp(7)).
fn accept_with_request(socket: &Socket) -> io::Result<()> {
    socket_option::set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, SILENCE_SECONDS)
}

/// Removes a socket file that a server left behind, but no file of another kind and no socket that
/// somebody listens on.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file exists and is no socket",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(_) => std::fs::remove_file(path),
    }
}

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// How long a client may say nothing before it is accepted all the same, so that a deadline awaits
/// it. The kernel counts it in retransmissions of the SYN-ACK, the first of them after 1 s.
const SILENCE_SECONDS: i32 = 1;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_shard_shares_the_port_the_kernel_chose() {
        let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let mut listener = Listener::bind(&any, 3).unwrap();
        let ListenAddress::Tcp(address) = listener.address.clone() else { panic!("TCP") };
        assert_ne!(address.port(), 0);
        let taken = Listener::bind(&ListenAddress::Tcp(address), 1).unwrap_err().to_string();
        assert!(taken.contains("another process listens"), "{taken}");
        assert!((0..3).all(|_| listener.take_socket().is_some()));
        assert!(listener.take_socket().is_none());
    }

    #[test]
    fn a_connection_is_accepted_when_its_request_begins() {
        let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let mut listener = Listener::bind(&any, 1).unwrap();
        let ListenAddress::Tcp(address) = listener.address.clone() else { panic!("TCP") };
        let socket = Socket::from(listener.take_socket().unwrap());
        // A stall of this test longer than the silence allowed makes a try worthless.
        let is_deferred = (0..10).any(|_| {
            let mut client = TcpStream::connect(address).unwrap();
            let is_early = socket.accept().is_ok();
            client.write_all(b"GET").unwrap();
            while !is_early && socket.accept().is_err() {
                thread::sleep(Duration::from_millis(1));
            }
            !is_early
        });
        assert!(is_deferred);
    }

    #[test]
    fn a_socket_file_is_replaced_only_when_stale() {
        let directory = std::env::temp_dir().join(format!("ringwire-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let address = ListenAddress::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&address, 2).unwrap();
        assert!(Listener::bind(&address, 1).is_err());
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        let refused = Listener::bind(&address, 1).unwrap_err().to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
