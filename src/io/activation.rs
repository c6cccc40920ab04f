//! Sockets that the service manager has opened before it started this process, by their names
//! (socket activation, sd_listen_fds(3)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

use super::listener::{ListeningSocket, accept_with_request};
use crate::config::ListenAddress;

/// The sockets that are still to be taken.
#[derive(Debug, Default)]
pub struct ActivatedSockets(Vec<(String, OwnedFd)>);

/// Why what the service manager hands over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The variables of the environment contradict each other or the descriptors.
    #[error("the sockets of the service manager cannot be taken: LISTEN_FDS, LISTEN_FDNAMES: {0}")]
    Environment(io::Error),
    /// Whoever connects there would wait in vain.
    #[error(
        "the service manager has opened sockets named {0:?}, which no --listen and no --admin \
         takes: add --listen systemd:NAME, or disable the socket unit"
    )]
    LeftOver(Vec<String>),
}

impl ActivatedSockets {
    /// Takes all sockets that were handed to this process. There are none when this is called
    /// again.
    ///
    /// # Errors
    /// When the environment tells of descriptors that are not there.
    pub fn take() -> Result<Self, ActivationError> {
        if IS_TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let named = sd_notify::listen_fds_with_names().map_err(ActivationError::Environment)?;
        // SAFETY: whoever started this process has opened these descriptors for it, as LISTEN_PID
        // says; that they are open was seen when they were marked to be closed on exec. They are
        // taken once.
        let own = |(descriptor, name)| (name, unsafe { OwnedFd::from_raw_fd(descriptor) });
        Ok(Self(named.map(own).collect()))
    }

    /// Sees that every socket has been taken.
    ///
    /// # Errors
    /// The names of those that have not.
    pub fn require_all_taken(&self) -> Result<(), ActivationError> {
        match self.names() {
            names if names.is_empty() => Ok(()),
            names => Err(ActivationError::LeftOver(names)),
        }
    }

    /// Whether there are sockets called `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Takes the sockets called `name`: their address, and one socket for each of so many shards.
    /// Where there are fewer, shards accept from the same queue.
    ///
    /// # Errors
    /// When there are none, or they are not what shards can listen on.
    pub(super) fn listener(
        &mut self,
        name: &str,
        shards: usize,
    ) -> io::Result<(ListenAddress, Vec<ListeningSocket>)> {
        let known = self.names();
        let (found, others) = self.0.drain(..).partition(|(other, _)| other == name);
        self.0 = others;
        let found: Vec<(String, OwnedFd)> = found;
        let sockets: Vec<_> = found.into_iter().map(|(_, socket)| Socket::from(socket)).collect();
        let addresses = sockets.iter().map(prepare).collect::<io::Result<Vec<_>>>()?;
        let Some(address) = addresses.first() else { return Err(no_such_socket(&known)) };
        if addresses.iter().any(|other| other != address) {
            return Err(io::Error::other(
                "the sockets of this name have several addresses: give each a socket unit and a \
                 FileDescriptorName= of its own",
            ));
        }
        if sockets.len() > shards {
            return Err(io::Error::other(format!(
                "the service manager has opened {} sockets of this name, and there are {shards} \
                 shards: open no more than that, or start more --shards",
                sockets.len(),
            )));
        }
        let is_shared = sockets.len() < shards;
        let socket = |shard: usize| {
            let descriptor = sockets[shard % sockets.len()].try_clone()?.into();
            Ok(ListeningSocket::new(descriptor, is_shared))
        };
        let for_shards = (0..shards).map(socket).collect::<io::Result<_>>()?;
        Ok((address.clone(), for_shards))
    }

    /// The names, each once.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Sees that a socket listens for streams, gives it the options that those of our own have, and
/// returns its address.
fn prepare(socket: &Socket) -> io::Result<ListenAddress> {
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::other(
            "the socket does not listen for streams: the socket unit needs ListenStream= and \
             Accept=no",
        ));
    }
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    if socket.domain()? == Domain::UNIX {
        return Ok(ListenAddress::Unix(path(&address)));
    }
    let Some(tcp) = address.as_socket() else {
        return Err(io::Error::other("the socket is none of IPv4, IPv6 and Unix"));
    };
    socket.set_tcp_nodelay(true)?;
    accept_with_request(socket)?;
    Ok(ListenAddress::Tcp(tcp))
}

/// The path of a Unix socket; a name that is no file begins with `@`, as in a socket unit.
fn path(address: &SockAddr) -> PathBuf {
    match address.as_abstract_namespace() {
        Some(name) => PathBuf::from(format!("@{}", String::from_utf8_lossy(name))),
        None => address.as_pathname().map(PathBuf::from).unwrap_or_default(),
    }
}

fn no_such_socket(known: &[String]) -> io::Error {
    io::Error::other(match known {
        [] => "the service manager has opened no socket for this process: enable the socket unit, \
               and start the service by it"
            .to_owned(),
        known => format!(
            "the service manager has opened no socket of this name; it has opened {}",
            known.join(", "),
        ),
    })
}

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use super::*;

    fn sockets(named: Vec<(&str, OwnedFd)>) -> ActivatedSockets {
        ActivatedSockets(named.into_iter().map(|(name, fd)| (name.to_owned(), fd)).collect())
    }

    fn tcp() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn refusal(mut sockets: ActivatedSockets, name: &str, shards: usize) -> String {
        sockets.listener(name, shards).unwrap_err().to_string()
    }

    #[test]
    fn shards_share_one_socket_and_have_their_own_where_there_are_enough() {
        let one = tcp();
        let address = one.local_addr().unwrap();
        let twin = one.try_clone().unwrap();
        let mut all = sockets(vec![("a", one.into()), ("b", tcp().into()), ("a", twin.into())]);
        assert_eq!(all.names(), ["a", "b"]);
        let (found, own) = all.listener("a", 2).unwrap();
        assert_eq!(found, ListenAddress::Tcp(address));
        assert!(own.iter().all(|socket| !socket.is_shared));
        assert_eq!(own.len(), 2);
        let left = all.require_all_taken().unwrap_err().to_string();
        assert!(left.contains(r#"["b"]"#), "{left}");
        let (_, shared) = all.listener("b", 3).unwrap();
        assert!(shared.iter().all(|socket| socket.is_shared));
        assert_eq!(shared.len(), 3);
        all.require_all_taken().unwrap();
    }

    #[test]
    fn a_name_without_a_file_is_told_as_in_a_unit() {
        let name = format!("ringwire-activation-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let (found, _) = sockets(vec![("a", listener.into())]).listener("a", 1).unwrap();
        assert_eq!(found.to_string(), format!("unix:@{name}"));
    }

    #[test]
    fn what_shards_cannot_listen_on_is_refused_with_the_fix() {
        let none = refusal(ActivatedSockets::default(), "a", 1);
        assert!(none.contains("enable the socket unit"), "{none}");
        let other = refusal(sockets(vec![("b", tcp().into()), ("c", tcp().into())]), "a", 1);
        assert!(other.contains("it has opened b, c"), "{other}");
        let several = refusal(sockets(vec![("a", tcp().into()), ("a", tcp().into())]), "a", 2);
        assert!(several.contains("several addresses"), "{several}");
        let one = tcp();
        let twin = one.try_clone().unwrap();
        let many = refusal(sockets(vec![("a", one.into()), ("a", twin.into())]), "a", 1);
        assert!(many.contains("2 sockets") && many.contains("--shards"), "{many}");
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagrams = refusal(sockets(vec![("a", datagrams.into())]), "a", 1);
        assert!(datagrams.contains("ListenStream="), "{datagrams}");
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let silent = refusal(sockets(vec![("a", silent.into())]), "a", 1);
        assert!(silent.contains("ListenStream="), "{silent}");
    }
}
