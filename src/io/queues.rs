//! The two queues of an io_uring: requests go in, completions come out.
#![allow(unsafe_code)]

use std::hint;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Timespec};
use io_uring::{IoUring, Submitter, cqueue, squeue};

use super::Errno;
use super::enter::{Entrance, Wait};

/// The queues of one ring, and what was taken from them.
pub(super) struct Queues {
    // Fields drop in order: the entrance needs the ring's descriptor.
    entrance: Entrance,
    ring: IoUring,
    /// Completions taken from the kernel; those from `next` on have not been given out.
    reaped: Vec<cqueue::Entry>,
    next: usize,
    /// Why a full queue could not be emptied. The requests since then are lost, so there is no way
    /// to go on.
    failure: Option<Errno>,
}

impl Queues {
    /// The queues of `ring`, for the calling thread; with `is_registered` it is entered by index.
    ///
    /// # Errors
    /// When the ring cannot be registered.
    pub(super) fn new(ring: IoUring, is_registered: bool) -> io::Result<Self> {
        let descriptor = ring.as_raw_fd();
        let entrance = match is_registered {
            true => Entrance::by_index(descriptor)?,
            false => Entrance::by_descriptor(descriptor),
        };
        let reaped = Vec::with_capacity(ring.params().cq_entries() as usize);
        Ok(Self { entrance, ring, reaped, next: 0, failure: None })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Whether `entries` more requests find room.
    fn has_room(&mut self, entries: usize) -> bool {
        let submission = self.ring.submission();
        submission.capacity() - submission.len() >= entries
    }

    /// Submits without waiting until `entries` more requests find room. False when the kernel keeps
    /// refusing: then the next [`Queues::submit`] tells why.
    pub(super) fn make_room(&mut self, entries: usize) -> bool {
        for attempt in 1..=ATTEMPTS_MAX {
            if self.failure.is_some() {
                return false;
            }
            if self.has_room(entries) {
                return true;
            }
            let queued = self.queued();
            let Err(error) = self.entrance.enter(queued, None) else { continue };
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            if !is_passing(errno) || attempt == ATTEMPTS_MAX {
                tracing::error!(%error, attempt, "io_uring takes no more requests");
                self.failure = Some(errno);
            } else if errno != libc::EINTR {
                // EBUSY wants completions taken first, EAGAIN wants memory.
                self.reap();
                thread::sleep(ATTEMPT_PAUSE);
            }
        }
        self.failure.is_none()
    }

    /// Queues one request; false when it finds no room.
    ///
    /// # Safety
    /// Whatever the request points to lives, and is left alone, until it completes.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: promised by the caller.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Starts what is queued, waits unless completions have been left behind, and takes those that
    /// are there.
    ///
    /// # Errors
    /// When the kernel refuses to go on, now or earlier while room was made.
    pub(super) fn submit(&mut self, wait: Option<Wait>) -> io::Result<()> {
        if let Some(errno) = self.failure {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.reaped.drain(..self.next);
        self.next = 0;
        let wait = wait.filter(|_| self.reaped.is_empty());
        let queued = self.queued();
        if wait.is_none() && queued == 0 && !self.has_deferred_work() {
            // Nothing to tell the kernel, and nothing that it would do if it were entered.
            hint::spin_loop();
            self.reap();
            return Ok(());
        }
        let mut result = self.entrance.enter(queued, wait);
        for _ in 0..FURTHER_ROUNDS {
            // A kernel from 6.13 on runs twenty or forty items of deferred work in one call, and
            // says by a flag that there are more: whoever is behind them would wait for as many
            // ticks.
            if result.is_err() || !self.ring.submission().taskrun() {
                break;
            }
            result = self.entrance.enter(0, None);
        }
        self.reap();
        match result {
            Err(error) if !error.raw_os_error().is_some_and(is_passing) => Err(error),
            _ => Ok(()),
        }
    }

    /// The next completion taken.
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        let entry = self.reaped.get(self.next).cloned()?;
        self.next += 1;
        Some(entry)
    }

    /// Cancels every request that was submitted. Their completions follow.
    ///
    /// # Errors
    /// What `IORING_REGISTER_SYNC_CANCEL` (kernel 6.0) answers, but for `ENOENT` when there is
    /// nothing to cancel, and `ETIME` when some of it still goes on after `timeout`.
    pub(super) fn cancel_all(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(Timespec::from(timeout));
        match self.submitter().register_sync_cancel(timeout, CancelBuilder::any()) {
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ETIME | libc::EINTR | libc::EALREADY) => Ok(()),
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Whether the kernel has completions that it posts only when it is entered: work deferred
    /// until then (`IORING_SQ_TASKRUN`), or what found no room (`IORING_SQ_CQ_OVERFLOW`).
    fn has_deferred_work(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    fn reap(&mut self) {
        self.reaped.extend(self.ring.completion());
    }

    fn queued(&mut self) -> u32 {
        self.ring.submission().len() as u32
    }

    /// Enters by another descriptor than the ring's, so that tests see the kernel refuse.
    #[cfg(test)]
    pub(super) fn enter_by(&mut self, descriptor: RawFd) {
        self.entrance = Entrance::by_descriptor(descriptor);
    }
}

/// Whether `errno` loses no request: the wait ended, a signal came, or the kernel wants completions
/// taken first or memory freed.
fn is_passing(errno: Errno) -> bool {
    matches!(errno, libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
}

/// Further calls to run deferred work before what has come of it is acted on: some hundred items.
const FURTHER_ROUNDS: u32 = 12;
/// Attempts at making room in a full queue while the kernel is short of memory or of room for
/// completions, and the pause between them: together a tenth of a second.
const ATTEMPTS_MAX: u32 = 100;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);
