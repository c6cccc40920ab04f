//! Listening sockets that go from one server to the next, so that no connection which waits in
//! their queues is lost: what closes a socket of `SO_REUSEPORT` resets whoever waits there.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Weak;

use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::listener::SocketFile;
use crate::config::ListenAddress;

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Whoever is served (`--listen`).
    Service,
    /// Whoever runs the server (`--admin`).
    Administration,
}

/// What a listener hands over to a successor: its sockets, each once.
#[derive(Debug)]
pub struct Heritage {
    /// Who connects.
    pub purpose: Purpose,
    /// The address as the settings name it.
    pub name: ListenAddress,
    /// Where it listens.
    pub address: ListenAddress,
    /// The sockets, which the listener has as well.
    pub sockets: Vec<OwnedFd>,
    /// That of a Unix socket, as long as the listener has it: the process ends without its control
    /// thread, so this must not be all that keeps it.
    pub(super) file: Weak<SocketFile>,
}

impl Heritage {
    /// Leaves the file of a Unix socket to the successor.
    pub fn leave_file(&self) {
        if let Some(file) = self.file.upgrade() {
            file.set_left(true);
        }
    }

    /// Takes the file of a Unix socket over from the predecessor: it goes with this process.
    pub fn own_file(&self) {
        if let Some(file) = self.file.upgrade() {
            file.set_left(false);
        }
    }
}

/// Listeners of a predecessor that are still to be taken.
#[derive(Debug, Default)]
pub struct Inheritance(Vec<Inherited>);

/// A listener of a predecessor.
#[derive(Debug)]
pub struct Inherited {
    /// Who connects.
    pub purpose: Purpose,
    /// The address as the settings of the predecessor name it.
    pub name: ListenAddress,
    /// Where it listens.
    pub address: ListenAddress,
    /// Its sockets; none when they have been taken.
    pub sockets: Vec<OwnedFd>,
}

impl Inheritance {
    /// All that a predecessor hands over.
    pub fn new(listeners: Vec<Inherited>) -> Self {
        Self(listeners)
    }

    /// The places of those that have been taken.
    pub fn taken(&self) -> Vec<usize> {
        let places = self.0.iter().enumerate();
        places.filter(|(_, it)| it.sockets.is_empty()).map(|(place, _)| place).collect()
    }

    /// Takes the listener whose address is `wanted`, by its name or in fact.
    pub(super) fn take(
        &mut self,
        purpose: Purpose,
        wanted: &ListenAddress,
    ) -> Option<(ListenAddress, Vec<Socket>)> {
        let found = self.0.iter_mut().find(|it| {
            it.purpose == purpose
                && !it.sockets.is_empty()
                && (it.name == *wanted || it.address == *wanted)
        })?;
        let sockets = found.sockets.drain(..).map(Socket::from).collect();
        Some((found.address.clone(), sockets))
    }
}

/// The sockets among these that are not the same as one before.
pub(super) fn distinct(sockets: impl Iterator<Item = OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    let mut cookies = Vec::new();
    let mut found = Vec::new();
    for socket in sockets {
        let cookie = rustix::net::sockopt::socket_cookie(&socket)?;
        if !cookies.contains(&cookie) {
            cookies.push(cookie);
            found.push(socket);
        }
    }
    Ok(found)
}
