//! Wakes shards from a thread that runs no shard: a ring that only sends messages.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

use io_uring::IoUring;

use super::message;
use super::ring::check;

/// A small ring for `MSG_RING` (kernel 5.18).
pub struct Waker {
    ring: IoUring,
    participants: Vec<RawFd>,
}

impl Waker {
    /// A waker of the shards with these rings, by their place in the mesh.
    ///
    /// # Errors
    /// When no ring can be set up.
    pub fn new(participants: Vec<RawFd>) -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(2)?, participants })
    }

    /// Wakes one shard; one that has ended needs no waking.
    ///
    /// A wake-up that fails for want of memory is tried again for some seconds, as whoever sent a
    /// message relies on it.
    ///
    /// # Errors
    /// The last failure.
    pub fn wake(&mut self, participant: usize) -> io::Result<()> {
        let Some(&descriptor) = self.participants.get(participant) else { return Ok(()) };
        persist(|| self.send(descriptor))
    }

    /// The same for those who ask again: it does not wait. A shard that has more completions to
    /// take than its queue holds is awake, and needs no waking either.
    ///
    /// # Errors
    /// When there is no memory for it now.
    pub fn try_wake(&mut self, participant: usize) -> io::Result<()> {
        let Some(&descriptor) = self.participants.get(participant) else { return Ok(()) };
        match self.send(descriptor) {
            Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOVERFLOW) => {
                Ok(())
            }
            result => result,
        }
    }

    fn send(&mut self, descriptor: RawFd) -> io::Result<()> {
        let entry = message::wake(descriptor);
        if self.ring.submission().is_empty() {
            // SAFETY: the request points to no memory.
            unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        // The request is one at a time, so the completion is its own.
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            if let Some(completion) = self.ring.completion().next() {
                return check(completion.result()).map(drop).map_err(io::Error::from_raw_os_error);
            }
        }
    }
}

/// Repeats `attempt` while the kernel has no memory for it, a little later each time.
fn persist(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut pause = PAUSE_LEAST;
    loop {
        match attempt() {
            Err(error) if is_passing(&error) && pause <= PAUSE_MOST => {
                thread::sleep(pause);
                pause *= 2;
            }
            Err(error) if is_gone(&error) => return Ok(()),
            result => return result,
        }
    }
}

/// Whether a shard has ended: its ring is closed, and its descriptor may belong to something else
/// by now.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EBADFD))
}

/// Whether a wake-up failed for a reason that passes: no memory for the request, or for the
/// completion of a shard that has many to take.
fn is_passing(error: &io::Error) -> bool {
    let reasons = [libc::ENOMEM, libc::EAGAIN, libc::EBUSY, libc::EOVERFLOW];
    error.raw_os_error().is_some_and(|reason| reasons.contains(&reason))
}

/// Before the first repetition; each further one waits twice as long.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
/// Before the last repetition: some two seconds after the first attempt.
const PAUSE_MOST: Duration = Duration::from_millis(1024);

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_is_told() {
        for reason in [libc::ENOMEM, libc::EAGAIN, libc::EBUSY, libc::EOVERFLOW] {
            let mut failures = 3;
            let attempt = || match failures {
                0 => Ok(()),
                _ => {
                    failures -= 1;
                    Err(io::Error::from_raw_os_error(reason))
                }
            };
            assert!(persist(attempt).is_ok());
            assert_eq!(failures, 0);
        }
        let mut attempts = 0;
        let failed = persist(|| {
            attempts += 1;
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        });
        assert_eq!((failed.unwrap_err().raw_os_error(), attempts), (Some(libc::EINVAL), 1));
    }

    #[test]
    fn a_shard_that_has_ended_needs_no_waking() {
        let no_descriptor = i32::MAX;
        let no_ring = std::fs::File::open("/dev/null").unwrap();
        let mut waker = Waker::new(vec![no_descriptor, no_ring.as_raw_fd()]).unwrap();
        assert!(waker.wake(0).is_ok());
        assert!(waker.wake(1).is_ok());
        assert!(waker.wake(2).is_ok());
        assert!((0..3).all(|participant| waker.try_wake(participant).is_ok()));
    }
}
