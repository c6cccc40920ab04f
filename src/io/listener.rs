//! Listening sockets: one per shard and TCP address, so that the kernel spreads connections over
//! the shards (`SO_REUSEPORT`); a Unix socket is one queue that all shards accept from in turn, and
//! so is one that the service manager has opened. Those of a predecessor are gone on with.

use std::fs::{Metadata, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::activation::ActivatedSockets;
use super::inheritance::{Heritage, Inheritance, Purpose, distinct};
use super::socket_option;
use crate::config::{ListenAddress, ListenerConfig, SocketMode};

/// A listening address with a socket for each shard, or several.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens; a port of 0 has become the one that the kernel chose.
    pub address: ListenAddress,
    sockets: Vec<ListeningSocket>,
    /// The socket file, which is removed when the listener ends.
    file: Option<Arc<SocketFile>>,
}

/// Sockets that others have opened for this process, as far as nobody has taken them.
#[derive(Debug, Default)]
pub struct OpenSockets {
    /// By the service manager.
    pub activated: ActivatedSockets,
    /// By the server that this one succeeds.
    pub inheritance: Inheritance,
}

/// The file by which a Unix socket is found.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Whether it belongs to a successor now.
    pub(super) is_left: AtomicBool,
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
    /// Whether it is a Unix socket.
    pub(super) is_unix: bool,
}

impl ListeningSocket {
    /// A socket whose queue is this shard's alone.
    pub(super) fn own(descriptor: impl Into<OwnedFd>) -> Self {
        Self::new(descriptor.into(), false)
    }

    /// A socket from whose queue other shards accept as well if it `is_shared`.
    pub(super) fn new(descriptor: OwnedFd, is_shared: bool) -> Self {
        let is_unix = SockRef::from(&descriptor).domain().is_ok_and(|it| it == Domain::UNIX);
        Self { descriptor, is_shared, is_unix }
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
    /// second. What is `open` already is taken from there.
    ///
    /// # Errors
    /// A [`ListenError`] that names the address, the cause and a likely fix.
    pub fn bind(
        listener: &ListenerConfig,
        shards: usize,
        open: &mut OpenSockets,
    ) -> Result<Self, ListenError> {
        Self::bind_for("--listen", listener, shards, open)
    }

    /// The same for the one socket of the admin listener.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub fn bind_admin(
        listener: &ListenerConfig,
        open: &mut OpenSockets,
    ) -> Result<Self, ListenError> {
        Self::bind_for(ADMIN, listener, 1, open)
    }

    /// The same at `path`, for a server that is to succeed this one; only the user of this process
    /// may connect.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub fn bind_takeover(path: &Path) -> Result<Self, ListenError> {
        let address = ListenAddress::Unix(path.to_owned());
        let listener = ListenerConfig { mode: Some(SocketMode::OWNER), ..address.into() };
        Self::bind_for("--takeover", &listener, 1, &mut OpenSockets::default())
    }

    fn bind_for(
        option: &'static str,
        listener: &ListenerConfig,
        shards: usize,
        open: &mut OpenSockets,
    ) -> Result<Self, ListenError> {
        let ListenerConfig { address, backlog, mode, .. } = listener;
        let backlog = i32::from(*backlog);
        let purpose = if option == ADMIN { Purpose::Administration } else { Purpose::Service };
        let OpenSockets { activated, inheritance } = open;
        let inherited = match address {
            ListenAddress::Activated(name) if activated.has(name) => None,
            wanted => inheritance.take(purpose, wanted),
        };
        let bound = match inherited {
            Some((found, sockets)) => Self::go_on(listener, found, sockets, shards),
            None => while_in_use(|| match address {
                ListenAddress::Activated(name) => {
                    let (address, sockets) = activated.listener(name, shards)?;
                    Ok(Self { address, sockets, file: None })
                }
                ListenAddress::Tcp(address) => Self::bind_tcp(*address, shards, backlog),
                ListenAddress::Unix(path) => Self::bind_unix(path, shards, backlog, *mode),
            }),
        };
        bound.map_err(|error| ListenError { address: address.clone(), option, error })
    }

    /// Goes on with the sockets of a predecessor: all of them, whatever number of shards it had,
    /// as somebody may wait in each queue.
    fn go_on(
        listener: &ListenerConfig,
        address: ListenAddress,
        sockets: Vec<Socket>,
        shards: usize,
    ) -> io::Result<Self> {
        let backlog = i32::from(listener.backlog);
        match (&listener.address, &address) {
            // No further sockets are bound: whoever waits in those of a server that does not come
            // to serve would be reset. Where there are too few, several shards share one.
            (ListenAddress::Tcp(_), ListenAddress::Tcp(_)) => {
                sockets.iter().try_for_each(|socket| socket.listen(backlog))?;
            }
            (ListenAddress::Unix(path), _) => {
                if let Some(mode) = listener.mode {
                    std::fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
                }
                sockets.iter().try_for_each(|socket| socket.listen(backlog))?;
            }
            // Of those of the service manager it has the say.
            _ => {}
        }
        let file = match (&listener.address, sockets.first()) {
            // It is the predecessor's until that accepts no more.
            (ListenAddress::Unix(path), Some(socket)) => {
                SocketFile::of(path, socket).inspect(|file| file.set_left(true)).ok()
            }
            _ => None,
        };
        let is_shared = sockets.len() < shards || file.is_some();
        let socket = |place: usize| {
            let descriptor = sockets[place % sockets.len()].try_clone()?.into();
            Ok(ListeningSocket::new(descriptor, is_shared))
        };
        let sockets = (0..sockets.len().max(shards)).map(socket).collect::<io::Result<_>>()?;
        Ok(Self { address, sockets, file })
    }

    /// What a successor is to get of this listener, which the settings call `name`.
    ///
    /// # Errors
    /// When there are no descriptors for that.
    pub fn heritage(&self, purpose: Purpose, name: ListenAddress) -> io::Result<Heritage> {
        let clones = self.sockets.iter().map(|socket| socket.descriptor.try_clone());
        let sockets = distinct(clones.collect::<io::Result<Vec<_>>>()?.into_iter())?;
        let file = self.file.as_ref().map(Arc::downgrade).unwrap_or_default();
        let address = self.address.clone();
        Ok(Heritage { purpose, name, address, sockets, file })
    }

    /// Takes the next socket.
    pub fn take_socket(&mut self) -> Option<ListeningSocket> {
        self.sockets.pop()
    }

    /// Takes the sockets of the next shard, if so many shards have not had theirs, this included.
    pub fn take_share(&mut self, shards: usize) -> Vec<ListeningSocket> {
        let share = self.sockets.len().div_ceil(shards.max(1));
        self.sockets.split_off(self.sockets.len() - share)
    }

    /// A socket for each shard.
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
        Ok(Self { address: ListenAddress::Tcp(address), sockets, file: None })
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
        let address = ListenAddress::Unix(path.to_owned());
        let file = SocketFile::of(path, &socket)?;
        if let Some(mode) = mode {
            // Nobody can connect before it listens, so nobody gets in by what the umask gave.
            std::fs::set_permissions(&file.path, Permissions::from_mode(mode.bits()))?;
        }
        socket.listen(backlog)?;
        let mut sockets = Vec::with_capacity(shards);
        for _ in 0..shards {
            let descriptor = socket.try_clone()?.into();
            sockets.push(ListeningSocket::new(descriptor, true));
        }
        Ok(Self { address, sockets, file: Some(file) })
    }
}

impl SocketFile {
    /// The file that `socket` is bound to.
    fn of(path: &Path, socket: &Socket) -> io::Result<Arc<Self>> {
        let identity = identity(&std::fs::symlink_metadata(path)?);
        let (path, is_left) = (path.to_owned(), AtomicBool::new(false));
        let _socket = socket.as_fd().try_clone_to_owned()?;
        Ok(Arc::new(Self { path, is_left, identity, _socket }))
    }
}

impl SocketFile {
    /// Says whether another process has the file, so that it stays when this one ends.
    pub(super) fn set_left(&self, is_left: bool) {
        // No partner: nothing is published along with it.
        self.is_left.store(is_left, Ordering::Relaxed);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Relaxed: nothing is published along with it.
        if self.is_left.load(Ordering::Relaxed) {
            return;
        }
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

const ADMIN: &str = "--admin";
/// How often, and how long apart, an address in use is tried again: a second in all.
const BIND_REPETITIONS: u32 = 100;
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// How long a client may say nothing before it is accepted all the same, so that a deadline awaits
/// it. The kernel counts it in retransmissions of the SYN-ACK, the first of them after 1 s.
const SILENCE_SECONDS: i32 = 1;

#[cfg(test)]
mod tests;
