//! The way between the two servers: a Unix socket that carries frames, and sockets beside them
//! (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{error::Elapsed, timeout};

use super::frame::{Frame, FrameError};

/// A connection to the other server.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    arrived: Arrived,
}

/// The half by which something is said.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a>(&'a UnixStream);

/// The half by which something is heard.
#[derive(Debug)]
pub struct Receiver<'a> {
    stream: &'a UnixStream,
    arrived: &'a mut Arrived,
}

/// What has come and has not been taken.
#[derive(Debug, Default)]
struct Arrived {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Why the two do not understand each other, or do not hear each other any more.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Whoever is there may not hand over or be handed anything.
    #[error("it belongs to user {found}, and allowed is {own}, the user of this server")]
    User {
        /// Who is there.
        found: u32,
        /// Whose this server is.
        own: u32,
    },
    /// It is no server of this kind, or one that speaks differently.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It speaks another version.
    #[error("it speaks version {found} of the hand-over, and this server {own}")]
    Version {
        /// What it speaks.
        found: u32,
        /// What this one speaks.
        own: u32,
    },
    /// It said something that has no place there.
    #[error("it said something out of turn")]
    OutOfTurn,
    /// It refuses.
    #[error("it refuses: {0}")]
    Refused(String),
    /// Not all sockets that were promised came.
    #[error(
        "{found} of {promised} sockets came: RLIMIT_NOFILE may be too low for all (`ulimit -n`, \
         LimitNOFILE= of systemd)"
    )]
    Sockets {
        /// How many came.
        found: usize,
        /// How many there should be.
        promised: usize,
    },
    /// It has ended, or has lost interest.
    #[error("it has closed the connection")]
    Closed,
    /// It says nothing, or hears nothing.
    #[error("it took longer than a step may take")]
    Late(#[from] Elapsed),
    /// The kernel does not let us.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Link {
    /// A link over `stream`, if at the other end is the user of this process.
    ///
    /// # Errors
    /// When it is another.
    pub fn new(stream: UnixStream) -> Result<Self, LinkError> {
        let found = socket_peercred(&stream).map_err(io::Error::from)?.uid.as_raw();
        let own = rustix::process::geteuid().as_raw();
        if found != own {
            return Err(LinkError::User { found, own });
        }
        Ok(Self { stream, arrived: Arrived::default() })
    }

    /// A link that was [suspended](Self::suspend), in the runtime of another thread.
    ///
    /// # Errors
    /// When the socket cannot be watched there.
    pub fn resume(stream: StdUnixStream, bytes: Vec<u8>) -> io::Result<Self> {
        let arrived = Arrived { bytes, descriptors: Vec::new() };
        Ok(Self { stream: UnixStream::from_std(stream)?, arrived })
    }

    /// Its socket outside of any runtime, and what has come by it and was not taken.
    ///
    /// # Errors
    /// When the socket cannot be taken out of this runtime.
    pub fn suspend(self) -> io::Result<(StdUnixStream, Vec<u8>)> {
        Ok((self.stream.into_std()?, self.arrived.bytes))
    }

    /// Both halves, to be used at the same time.
    pub fn split(&mut self) -> (Sender<'_>, Receiver<'_>) {
        let Self { stream, arrived } = self;
        (Sender(stream), Receiver { stream, arrived })
    }

    /// Says something, and sends `descriptors` along.
    ///
    /// # Errors
    /// When the other does not take it in time.
    pub async fn send(&self, frame: &Frame, sockets: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        Sender(&self.stream).send(frame, sockets).await
    }

    /// The next frame, within [`STEP_TIMEOUT`].
    ///
    /// # Errors
    /// When it does not come in time or is none.
    pub async fn receive(&mut self) -> Result<Frame, LinkError> {
        self.receive_within(STEP_TIMEOUT).await
    }

    /// The same within another time.
    ///
    /// # Errors
    /// When it does not come in time or is none.
    pub async fn receive_within(&mut self, time: Duration) -> Result<Frame, LinkError> {
        let (_, mut receiver) = self.split();
        timeout(time, receiver.receive()).await?
    }

    /// Takes `count` sockets that have come with the frames so far.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn take_sockets(&mut self, count: usize) -> Result<Vec<OwnedFd>, LinkError> {
        let found = self.arrived.descriptors.len();
        if found < count {
            return Err(LinkError::Sockets { found, promised: count });
        }
        Ok(self.arrived.descriptors.drain(..count).collect())
    }
}

impl Sender<'_> {
    /// Says something, and sends `sockets` along, [`SOCKETS_MAX`] at the most.
    ///
    /// # Errors
    /// When the other does not take it in time.
    pub async fn send(self, frame: &Frame, sockets: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let bytes = frame.encode();
        timeout(STEP_TIMEOUT, self.write(&bytes, sockets)).await?
    }

    async fn write(self, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let mut sent = 0;
        while sent < bytes.len() {
            // They go with the first bytes that the kernel takes.
            let along = if sent == 0 { sockets } else { &[] };
            let write = || write_once(self.0, &bytes[sent..], along);
            match self.0.async_io(Interest::WRITABLE, write).await {
                Ok(length) => sent += length,
                Err(error) if is_end(&error) => return Err(LinkError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Receiver<'_> {
    /// The next frame. Nothing is lost when this is dropped before it has come.
    ///
    /// # Errors
    /// When it is none, or the other has ended.
    pub async fn receive(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some((frame, length)) = Frame::decode(&self.arrived.bytes)? {
                self.arrived.bytes.drain(..length);
                return Ok(frame);
            }
            let arrived = &mut *self.arrived;
            let read = || read_once(self.stream, arrived);
            match self.stream.async_io(Interest::READABLE, read).await {
                Ok(0) => return Err(LinkError::Closed),
                Ok(_) => {}
                Err(error) if is_end(&error) => return Err(LinkError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether the other end is gone, be it with something unread.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn write_once(stream: &UnixStream, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !along.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many sockets for one frame"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut along, flags)?)
}

fn read_once(stream: &UnixStream, arrived: &mut Arrived) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; READ_BYTES];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut into = [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(stream.as_fd(), &mut into, &mut along, flags)?.bytes;
    arrived.bytes.extend_from_slice(&bytes[..length]);
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            arrived.descriptors.extend(sockets);
        }
    }
    Ok(length)
}

/// Sockets that may go along with one frame (`SCM_MAX_FD`, unix(7)).
pub const SOCKETS_MAX: usize = 253;
/// How long each step may take.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes taken at a time.
const READ_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Link, Link) {
        let (one, other) = UnixStream::pair().unwrap();
        (Link::new(one).unwrap(), Link::new(other).unwrap())
    }

    #[tokio::test]
    async fn sockets_come_along_with_what_is_said() {
        let (here, mut there) = pair();
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        here.send(&Frame::Sockets(2), &sockets[..2]).await.unwrap();
        here.send(&Frame::Sockets(1), &sockets[2..]).await.unwrap();
        here.send(&Frame::Ready, &[]).await.unwrap();
        for frame in [Frame::Sockets(2), Frame::Sockets(1), Frame::Ready] {
            assert_eq!(there.receive().await.unwrap(), frame);
        }
        for (taken, sent) in there.take_sockets(3).unwrap().into_iter().zip(&listeners) {
            let taken = TcpListener::from(taken);
            assert_eq!(taken.local_addr().unwrap(), sent.local_addr().unwrap());
        }
        let none_left = there.take_sockets(1).unwrap_err();
        assert!(matches!(none_left, LinkError::Sockets { found: 0, promised: 1 }));
        drop(here);
        assert!(matches!(there.receive().await, Err(LinkError::Closed)));
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_link() {
        let (here, mut there) = pair();
        Sender(&here.stream).write(b"GET / HTTP/1.1\r\n\r\n", &[]).await.unwrap();
        assert!(matches!(there.receive().await, Err(LinkError::Frame(_))));
    }
}
