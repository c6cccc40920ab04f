//! Listening sockets: one per shard and TCP address, so that the kernel spreads connections over
//! the shards (`SO_REUSEPORT`); a Unix socket is one queue that all shards accept from in turn, and
//! so is one that the service manager has opened.

use std::fs::{Metadata, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::activation::ActivatedSockets;
use super::socket_option;
use crate::config::{ListenAddress, ListenerConfig, SocketMode};

/// A listening address with a socket for each shard.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens; a port of 0 has become the one that the kernel chose.
    pub address: ListenAddress,
    sockets: Vec<ListeningSocket>,
    /// The socket file, which is removed when the listener ends.
    _file: Option<SocketFile>,
}

/// The file by which a Unix socket is found.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode, which tell it from a file that another server has put there since.
    identity: (u64, u64),
    /// Keeps the inode from being given to another file until this one is removed.
    _socket: OwnedFd,
}

/// A socket that one shard accepts from.
#[derive(Debug)]
pub struct ListeningSocket {
    pub(super) descriptor: OwnedFd,
    /// Whether other shards accept from the same queue.
    pub(super) is_shared: bool,
}

impl ListeningSocket {
    /// A socket whose queue is this shard's alone.
    pub(super) fn own(descriptor: impl Into<OwnedFd>) -> Self {
        Self { descriptor: descriptor.into(), is_shared: false }
    }
}

impl From<ListeningSocket> for OwnedFd {
    fn from(socket: ListeningSocket) -> Self {
        socket.descriptor
    }
}

/// Why a listener could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", self.hint())]
pub struct ListenError {
    address: ListenAddress,
    /// The option that chooses another.
    option: &'static str,
    error: io::Error,
}

impl ListenError {
    fn hint(&self) -> String {
        let hint = match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                let option = self.option;
                return format!(" (another process listens there; choose another {option})");
            }
            io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
            io::ErrorKind::AddrNotAvailable => " (no interface has this address)",
            _ => match self.error.raw_os_error() {
                Some(libc::EMFILE) => " (raise RLIMIT_NOFILE, or start fewer --shards)",
                _ => "",
            },
        };
        hint.to_owned()
    }
}

impl Listener {
    /// Binds the listener's address for `shards` shards. What a server that was killed leaves
    /// behind is the kernel's for some milliseconds, so an address in use is tried again for a
    /// second. What the service manager has opened is taken from `activated`.
    ///
    /// # Errors
    /// A [`ListenError`] that names the address, the cause and a likely fix.
    pub fn bind(
        listener: &ListenerConfig,
        shards: usize,
        activated: &mut ActivatedSockets,
    ) -> Result<Self, ListenError> {
        Self::bind_for("--listen", listener, shards, activated)
    }

    /// The same for the one socket of the admin listener.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub fn bind_admin(
        listener: &ListenerConfig,
        activated: &mut ActivatedSockets,
    ) -> Result<Self, ListenError> {
        Self::bind_for("--admin", listener, 1, activated)
    }

    fn bind_for(
        option: &'static str,
        listener: &ListenerConfig,
        shards: usize,
        activated: &mut ActivatedSockets,
    ) -> Result<Self, ListenError> {
        let ListenerConfig { address, backlog, mode, .. } = listener;
        let backlog = i32::from(*backlog);
        let bind = || match address {
            ListenAddress::Activated(name) => {
                let (address, sockets) = activated.listener(name, shards)?;
                Ok(Self { address, sockets, _file: None })
            }
            ListenAddress::Tcp(socket_address) => Self::bind_tcp(*socket_address, shards, backlog),
            ListenAddress::Unix(path) => Self::bind_unix(path, shards, backlog, *mode),
        };
        let address = address.clone();
        while_in_use(bind).map_err(|error| ListenError { address, option, error })
    }

    /// Takes the next shard's socket.
    pub fn take_socket(&mut self) -> Option<ListeningSocket> {
        self.sockets.pop()
    }

    fn bind_tcp(mut address: SocketAddr, shards: usize, backlog: i32) -> io::Result<Self> {
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
            socket.listen(backlog)?;
        }
        let sockets = sockets.into_iter().map(ListeningSocket::own).collect();
        Ok(Self { address: ListenAddress::Tcp(address), sockets, _file: None })
    }

    fn bind_unix(
        path: &Path,
        shards: usize,
        backlog: i32,
        mode: Option<SocketMode>,
    ) -> io::Result<Self> {
        remove_stale_socket(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let identity = identity(&std::fs::symlink_metadata(path)?);
        let path = path.to_owned();
        let address = ListenAddress::Unix(path.clone());
        let file = SocketFile { path, identity, _socket: socket.as_fd().try_clone_to_owned()? };
        if let Some(mode) = mode {
            // Nobody can connect before it listens, so nobody gets in by what the umask gave.
            std::fs::set_permissions(&file.path, Permissions::from_mode(mode.bits()))?;
        }
        socket.listen(backlog)?;
        let mut sockets = Vec::with_capacity(shards);
        for _ in 0..shards {
            let descriptor = socket.try_clone()?.into();
            sockets.push(ListeningSocket { descriptor, is_shared: true });
        }
        Ok(Self { address, sockets, _file: Some(file) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|metadata| identity(&metadata) == self.identity) {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Repeats `bind` while the address is in use, up to [`BIND_REPETITIONS`] times.
fn while_in_use<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BIND_REPETITIONS {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(BIND_PAUSE),
            result => return result,
        }
    }
    bind()
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
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
pub(super) fn accept_with_request(socket: &Socket) -> io::Result<()> {
    socket_option::set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, SILENCE_SECONDS)
}

/// Removes a socket file that a server left behind, but no file of another kind and no socket that
/// somebody has, of whatever type and whether it listens already or not.
///
/// A datagram socket tells them apart and disturbs nobody: it finds any socket that is bound to the
/// file, connects to no server, and waits in no queue. Only where nothing is bound it is refused;
/// streams are of the wrong type for it (unix(7)).
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file exists and is no socket",
        ));
    }
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Not even to be asked, so not to be judged.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// How often, and how long apart, an address in use is tried again: a second in all.
const BIND_REPETITIONS: u32 = 100;
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// How long a client may say nothing before it is accepted all the same, so that a deadline awaits
/// it. The kernel counts it in retransmissions of the SYN-ACK, the first of them after 1 s.
const SILENCE_SECONDS: i32 = 1;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn bind(listener: &ListenerConfig, shards: usize) -> Result<Listener, ListenError> {
        Listener::bind(listener, shards, &mut ActivatedSockets::default())
    }

    #[test]
    fn every_shard_shares_the_port_the_kernel_chose() {
        let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()).into();
        let mut listener = bind(&any, 3).unwrap();
        let ListenAddress::Tcp(address) = listener.address.clone() else { panic!("TCP") };
        assert_ne!(address.port(), 0);
        let taken = bind(&ListenAddress::Tcp(address).into(), 1).unwrap_err().to_string();
        assert!(taken.contains("another process listens"), "{taken}");
        assert!((0..3).all(|_| listener.take_socket().is_some()));
        assert!(listener.take_socket().is_none());
    }

    #[test]
    fn a_connection_is_accepted_when_its_request_begins() {
        let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()).into();
        let mut listener = bind(&any, 1).unwrap();
        let ListenAddress::Tcp(address) = listener.address.clone() else { panic!("TCP") };
        let socket = Socket::from(listener.take_socket().unwrap().descriptor);
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

    fn directory(name: &str) -> PathBuf {
        let name = format!("ringwire-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_socket_that_somebody_has_is_not_stale() {
        let directory = directory("taken");
        for (name, kind, backlog) in [
            ("datagram", Type::DGRAM, None),
            ("seqpacket", Type::SEQPACKET, Some(1)),
            ("not-yet-listening", Type::STREAM, None),
            ("full-backlog", Type::STREAM, Some(0)),
        ] {
            let path = directory.join(name);
            let address = SockAddr::unix(&path).unwrap();
            let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
            socket.bind(&address).unwrap();
            if let Some(backlog) = backlog {
                socket.listen(backlog).unwrap();
            }
            // A backlog of 0 holds one connection.
            let waiting = Socket::new(Domain::UNIX, kind.nonblocking(), None).unwrap();
            let _ = waiting.connect(&address);
            let error = bind(&ListenAddress::Unix(path.clone()).into(), 1).unwrap_err();
            assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse, "{name}");
            drop((socket, waiting));
            assert!(bind(&ListenAddress::Unix(path).into(), 1).is_ok(), "{name}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let directory = directory("successor");
        let address = ListenAddress::Unix(directory.join("socket")).into();
        let mut first = bind(&address, 1).unwrap();
        // Its shards have ended and closed their sockets.
        drop(first.take_socket());
        std::fs::remove_file(directory.join("socket")).unwrap();
        let second = bind(&address, 1).unwrap();
        drop(first);
        std::os::unix::net::UnixStream::connect(directory.join("socket")).unwrap();
        drop(second);
        assert!(!directory.join("socket").exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_file_has_the_mode_asked_for() {
        let directory = directory("mode");
        let address = ListenAddress::Unix(directory.join("socket"));
        for text in ["600", "666", "606"] {
            let mode: SocketMode = text.parse().unwrap();
            let listener = ListenerConfig { mode: Some(mode), ..address.clone().into() };
            let _listener = bind(&listener, 2).unwrap();
            let metadata = std::fs::metadata(directory.join("socket")).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, mode.bits());
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn as_many_wait_to_be_accepted_as_the_backlog_says() {
        let directory = directory("backlog");
        let path = directory.join("socket");
        let listener = ListenerConfig { backlog: 3, ..ListenAddress::Unix(path.clone()).into() };
        let _listener = bind(&listener, 2).unwrap();
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            socket.connect(&SockAddr::unix(&path)?).map(|()| socket)
        };
        // The kernel lets in one more than it is told (unix_recvq_full).
        let waiting: Vec<_> =
            std::iter::repeat_with(connect).map_while(Result::ok).take(9).collect();
        assert_eq!(waiting.len(), 4);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn an_address_in_use_is_waited_for() {
        let mut holder = Some(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = holder.as_ref().unwrap().local_addr().unwrap();
        let mut tries = 0;
        let bound = while_in_use(|| {
            tries += 1;
            if tries == 3 {
                holder = None;
            }
            Listener::bind_tcp(address, 2, 1)
        });
        assert!(bound.is_ok());
        assert_eq!(tries, 3);
    }

    #[test]
    fn a_socket_file_is_replaced_only_when_stale() {
        let directory = directory("stale");
        let path = directory.join("socket");
        let address = ListenAddress::Unix(path.clone()).into();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = bind(&address, 2).unwrap();
        assert!(bind(&address, 1).is_err());
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        let refused = bind(&address, 1).unwrap_err().to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
