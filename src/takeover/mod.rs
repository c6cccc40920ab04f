//! Restart without losing the port: a newcomer takes over the listening sockets of the server that
//! is there, and that one drains when the newcomer serves.
//!
//! ```text
//!  newcomer                                       the server that is there
//!  Hello  --------------------------------------->  is it the same user, the same version?
//!         <--------------------------------------  Hello, Offer, Sockets ...
//!  binds what is not offered, sets up its shards
//!  Taken  --------------------------------------->  seals the histories of channels
//!  goes on with them  <---------------------------  History ...
//!         <--------------------------------------  Relaying: what is published from now on
//!  passes on as well, lets its shards accept
//!  Ready  --------------------------------------->  accepts nothing any more
//!         <--------------------------------------  Yielded
//!         <------------- Message, both ways ------>  until it has drained and ends
//! ```
//!
//! Until `Ready` has arrived nothing has happened to the server that is there, but that histories
//! stay as they are: whatever goes wrong with the newcomer, it forgets it, and goes on with them.
//! The newcomer publishes nothing to them before `Yielded`, so that never both do. What follows the
//! sockets is said by the control threads (`control/takeover.rs`).

pub mod frame;
pub mod histories;
pub mod link;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::time::timeout;

use crate::io::inheritance::{Heritage, Inheritance, Inherited};
use frame::{Frame, Offered, VERSION};
use link::{Link, LinkError, SOCKETS_MAX, STEP_TIMEOUT};

/// The server that this one is to succeed, which has handed over its sockets and waits.
#[derive(Debug)]
pub struct Predecessor {
    stream: StdUnixStream,
    /// What it has said and nobody has taken.
    said: Vec<u8>,
}

/// Why a server cannot be succeeded.
#[derive(Debug, Error)]
#[error("cannot take over from the server at {}: {error}", path.display())]
pub struct TakeoverError {
    path: PathBuf,
    error: LinkError,
}

impl Predecessor {
    /// The server that listens at `path`, if one does, and what it hands over.
    ///
    /// # Errors
    /// When there is one and it does not hand over its sockets, in time and all of them.
    pub fn at(path: &Path) -> Result<Option<(Self, Inheritance)>, TakeoverError> {
        let found = || -> Result<Option<(Self, Inheritance)>, LinkError> {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(find(path))
        };
        found().map_err(|error| TakeoverError { path: path.to_owned(), error })
    }

    /// The link to it, in the runtime of this thread.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn link(self) -> io::Result<Link> {
        Link::resume(self.stream, self.said)
    }
}

async fn find(path: &Path) -> Result<Option<(Predecessor, Inheritance)>, LinkError> {
    let stream = match timeout(STEP_TIMEOUT, UnixStream::connect(path)).await? {
        Ok(stream) => stream,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut link = Link::new(stream)?;
    match ask(&mut link).await {
        // It has ended before it offered anything, so its addresses are free, or will be soon.
        Err(LinkError::Closed) => Ok(None),
        Err(error) => Err(error),
        Ok(inheritance) => {
            let (stream, said) = link.suspend()?;
            Ok(Some((Predecessor { stream, said }, inheritance)))
        }
    }
}

/// Whether nobody listens there: there is no file, or one that was left behind.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn ask(link: &mut Link) -> Result<Inheritance, LinkError> {
    link.send(&Frame::Hello(VERSION), &[]).await?;
    greet(link).await?;
    let offered = match link.receive().await? {
        Frame::Offer(offered) => offered,
        Frame::Refusal(reason) => return Err(LinkError::Refused(reason)),
        _ => return Err(LinkError::OutOfTurn),
    };
    let promised: usize =
        offered.iter().fold(0, |sum, listener| listener.sockets.saturating_add(sum));
    let mut come = 0;
    while come < promised {
        let Frame::Sockets(count) = link.receive().await? else {
            return Err(LinkError::OutOfTurn);
        };
        if count == 0 {
            return Err(LinkError::OutOfTurn);
        }
        come += usize::from(count);
    }
    let inherit = |Offered { purpose, name, address, sockets }: Offered| {
        let address_of = |text: &str| text.parse().map_err(|_| LinkError::OutOfTurn);
        let (name, address) = (address_of(&name)?, address_of(&address)?);
        Ok(Inherited { purpose, name, address, sockets: link.take_sockets(sockets)? })
    };
    let listeners = offered.into_iter().map(inherit).collect::<Result<_, LinkError>>()?;
    Ok(Inheritance::new(listeners))
}

/// Hears the first that the other says, which has to be this version.
async fn greet(link: &mut Link) -> Result<(), LinkError> {
    match link.receive().await? {
        Frame::Hello(VERSION) => Ok(()),
        Frame::Hello(found) => Err(LinkError::Version { found, own: VERSION }),
        Frame::Refusal(reason) => Err(LinkError::Refused(reason)),
        _ => Err(LinkError::OutOfTurn),
    }
}

/// Greets a newcomer and hands over the sockets of all `listeners`. Returns the places of those
/// that it has taken; then it waits for histories, and for what is published.
///
/// # Errors
/// When it does not say in time what it has taken, or goes away.
pub async fn hand_over(link: &mut Link, listeners: &[Heritage]) -> Result<Vec<usize>, LinkError> {
    let result = greet(link).await;
    if let Err(error @ LinkError::Version { .. }) = result {
        say_no(link, &error.to_string()).await;
        return Err(error);
    }
    result?;
    link.send(&Frame::Hello(VERSION), &[]).await?;
    let offer = |listener: &Heritage| Offered {
        purpose: listener.purpose,
        name: listener.name.to_string(),
        address: listener.address.to_string(),
        sockets: listener.sockets.len(),
    };
    link.send(&Frame::Offer(listeners.iter().map(offer).collect()), &[]).await?;
    let sockets: Vec<_> = listeners.iter().flat_map(|it| &it.sockets).map(AsFd::as_fd).collect();
    for sockets in sockets.chunks(SOCKETS_MAX) {
        link.send(&Frame::Sockets(sockets.len() as u8), sockets).await?;
    }
    match link.receive_within(START_TIMEOUT).await? {
        Frame::Taken(places) => Ok(places),
        _ => Err(LinkError::OutOfTurn),
    }
}

/// Hears a newcomer out and tells it that nothing is handed over.
pub async fn refuse(link: &mut Link, reason: &str) {
    if link.receive().await.is_ok() {
        say_no(link, reason).await;
    }
}

async fn say_no(link: &Link, reason: &str) {
    // Whoever has gone already needs not to be told.
    let _ = link.send(&Frame::Refusal(reason.to_owned()), &[]).await;
}

/// How long a newcomer may take from the sockets on until its shards are set up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
