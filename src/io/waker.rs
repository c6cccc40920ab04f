//! Wakes shards from the control thread, which runs no ring of a shard, and lets them wake it: a
//! small ring that carries nothing but messages.
//!
//! Nothing here waits. From kernel 6.2 to 6.10 a message to the ring of a shard completes only when
//! that shard has come into the kernel to take it, which one that hangs never does. So a wake-up is
//! begun, and its end taken later.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::IoUring;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::{self, MESSAGE};
use super::token::{Token, Verb};
use super::{Errno, check};

/// A ring for `MSG_RING` (kernel 5.18), both ways.
pub struct Waker {
    ring: IoUring,
    targets: Vec<Target>,
}

/// The ring of a [`Waker`], watched by a descriptor of its own.
pub struct Bell(AsyncFd<OwnedFd>);

/// A shard that can be woken.
struct Target {
    ring: RawFd,
    wakeup: Wakeup,
}

/// How far the wake-up of one shard has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wakeup {
    /// None is owed.
    Done,
    /// To be sent.
    Owed,
    /// The kernel has it, and has not told what became of it.
    UnderWay {
        /// Whether the shard is to be woken once more then: it may have been awake already when it
        /// was last asked for.
        again: bool,
    },
}

impl Waker {
    /// A waker of the shards with these rings, by their place in the mesh.
    ///
    /// # Errors
    /// When no ring can be set up.
    pub fn new(rings: &[RawFd]) -> io::Result<Self> {
        // One wake-up a shard is under way at a time, so there is room for all.
        let ring = IoUring::new((rings.len() as u32).max(1))?;
        let target = |&ring| Target { ring, wakeup: Wakeup::Done };
        Ok(Self { ring, targets: rings.iter().map(target).collect() })
    }

    /// The descriptor by which shards wake whoever waits for the [`bell`](Self::bell).
    pub fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// The bell that a shard rings by waking this thread, and the kernel when it tells what became
    /// of a wake-up. To be called within a runtime of tokio.
    ///
    /// # Errors
    /// When no descriptor is left, or the ring cannot be watched.
    pub fn bell(&self) -> io::Result<Bell> {
        // SAFETY: the descriptor is that of the ring, which lives as long as this.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by what is made here, which gives it to nobody.
        Ok(Bell(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?))
    }

    /// Wakes one shard; one that has ended needs no waking.
    pub fn wake(&mut self, participant: usize) {
        let Some(target) = self.targets.get_mut(participant) else { return };
        target.wakeup = target.wakeup.wanted();
        self.go_on();
    }

    /// Sends the wake-ups that are owed and takes what the ring has to tell. To be called when the
    /// bell has rung, and again a little later for as long as it [`owes`](Self::owes) something.
    pub fn go_on(&mut self) {
        loop {
            self.send_owed();
            // What the kernel has not taken it takes with the next call.
            let _ = self.ring.submit();
            if !self.take_completions() {
                return;
            }
        }
    }

    /// Whether a wake-up has failed for a reason that passes, such as a lack of memory.
    pub fn owes(&mut self) -> bool {
        let is_owed = |target: &Target| target.wakeup == Wakeup::Owed;
        self.targets.iter().any(is_owed) || !self.ring.submission().is_empty()
    }

    /// Whether one shard is still to be woken, for want of memory.
    pub fn owes_to(&self, participant: usize) -> bool {
        self.targets.get(participant).is_some_and(|target| target.wakeup == Wakeup::Owed)
    }

    /// Tries to send all that is owed for some seconds; for the end, when nobody will do so later.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while self.owes() && Instant::now() < deadline {
            thread::sleep(SETTLE_PAUSE);
            self.go_on();
        }
    }

    fn send_owed(&mut self) {
        let mut queue = self.ring.submission();
        for (participant, target) in self.targets.iter_mut().enumerate() {
            if target.wakeup != Wakeup::Owed {
                continue;
            }
            let own = Token::indexed(Verb::Wake, participant as u32).to_bits();
            let entry = message::wake(target.ring).user_data(own);
            // SAFETY: the request points to no memory.
            if unsafe { queue.push(&entry) }.is_err() {
                return;
            }
            target.wakeup = Wakeup::UnderWay { again: false };
        }
    }

    /// Takes all completions; whether a shard is to be woken once more at once.
    fn take_completions(&mut self) -> bool {
        let mut is_wanted_again = false;
        for completion in self.ring.completion() {
            let Some(Token { verb: Verb::Wake, key }) = Token::from_bits(completion.user_data())
            else {
                continue;
            };
            // A shard that wakes this thread has rung the bell by that.
            if key.generation != MESSAGE
                && let Some(target) = self.targets.get_mut(key.index as usize)
            {
                let result = check(completion.result()).map(drop);
                is_wanted_again |= target.wakeup == Wakeup::UnderWay { again: true };
                target.wakeup = target.wakeup.completed(result);
            }
        }
        is_wanted_again
    }
}

impl Bell {
    /// Waits until it is rung, for the first time or since the last.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn rings(&self) -> io::Result<()> {
        // Cleared before the caller takes what the ring holds: what comes later rings again.
        self.0.readable().await.map(|mut guard| guard.clear_ready())
    }
}

impl Wakeup {
    /// The shard is to be woken from now on.
    fn wanted(self) -> Self {
        match self {
            Self::Done | Self::Owed => Self::Owed,
            Self::UnderWay { .. } => Self::UnderWay { again: true },
        }
    }

    /// The kernel has told what became of it.
    fn completed(self, result: Result<(), Errno>) -> Self {
        let is_owed = self == Self::UnderWay { again: true } || result.is_err_and(is_passing);
        if is_owed { Self::Owed } else { Self::Done }
    }
}

/// Whether a wake-up failed for a reason that passes. No reason is that the ring is gone, because
/// its shard has ended, nor that it has more completions than it holds (`EOVERFLOW`): a shard that
/// has something to take is awake.
fn is_passing(errno: Errno) -> bool {
    [libc::ENOMEM, libc::EAGAIN, libc::EBUSY].contains(&errno)
}

/// How long wake-ups are tried at the end, and how long between two attempts.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_owed_and_what_does_not_is_done() {
        let under_way = Wakeup::Owed.wanted().completed(Err(libc::ENOMEM));
        assert_eq!(under_way, Wakeup::Owed);
        let sent = Wakeup::UnderWay { again: false };
        for errno in [libc::ENOMEM, libc::EAGAIN, libc::EBUSY] {
            assert_eq!(sent.completed(Err(errno)), Wakeup::Owed);
        }
        for errno in [libc::EBADF, libc::EBADFD, libc::EOVERFLOW] {
            assert_eq!(sent.completed(Err(errno)), Wakeup::Done);
        }
        assert_eq!(sent.completed(Ok(())), Wakeup::Done);
    }

    /// A shard that hangs in the kernel has not taken the first; what it is sent meanwhile is one
    /// more, however much.
    #[test]
    fn a_wake_up_that_is_under_way_is_followed_by_one_more() {
        let sent = Wakeup::UnderWay { again: false };
        let again = sent.wanted().wanted();
        assert_eq!(again, Wakeup::UnderWay { again: true });
        assert_eq!(again.completed(Ok(())), Wakeup::Owed);
    }

    #[test]
    fn a_shard_that_has_ended_needs_no_waking() {
        let no_descriptor = i32::MAX;
        let no_ring = std::fs::File::open("/dev/null").unwrap();
        let mut waker = Waker::new(&[no_descriptor, no_ring.as_raw_fd()]).unwrap();
        (0..3).for_each(|participant| waker.wake(participant));
        assert!(!waker.owes());
    }

    #[tokio::test]
    async fn a_ring_that_is_rung_is_readable_until_that_is_taken() {
        let mut rung = Waker::new(&[]).unwrap();
        let mut ringing = Waker::new(&[rung.descriptor()]).unwrap();
        let bell = rung.bell().unwrap();
        for _ in 0..100 {
            ringing.wake(0);
            assert!(!ringing.owes_to(0));
            bell.rings().await.unwrap();
            rung.go_on();
            assert!(rung.ring.completion().is_empty());
        }
    }
}
