//! The system call that submits and waits, `io_uring_enter(2)`.
//!
//! A ring can be entered by its descriptor, or by its index in the task's table of registered rings
//! (kernel 5.18), which saves the kernel a look-up and a reference count for each call. The
//! `io-uring` crate keeps that index in a `Submitter`, of which [`io_uring::IoUring::submitter`]
//! makes a new one for each call, so the registration and the call are made here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use io_uring::EnterFlags;
use io_uring::types::Timespec;

/// The way into one ring for one thread.
pub(super) struct Entrance {
    descriptor: RawFd,
    /// The ring's index among those that this thread has registered.
    registered: Option<u32>,
}

/// What ends a wait for completions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// So many completions.
    pub(super) completions: u32,
    /// After this time fewer are enough; needs [`MinWait`](super::probe::Ability::MinWait).
    pub(super) batch_us: u32,
    /// The end of the wait in any case.
    pub(super) timeout: Option<Duration>,
}

impl Entrance {
    /// Enters by the ring's descriptor.
    pub(super) fn by_descriptor(descriptor: RawFd) -> Self {
        Self { descriptor, registered: None }
    }

    /// Registers the ring with the calling thread, which alone may enter it from now on, and drops
    /// the registration with this value. A thread has room for 16 of them.
    ///
    /// # Errors
    /// What `IORING_REGISTER_RING_FDS` (kernel 5.18) answers: `EBUSY` when there is no room.
    pub(super) fn by_index(descriptor: RawFd) -> io::Result<Self> {
        let mut update =
            RingUpdate { index: ANY_INDEX, reserved: 0, descriptor: descriptor as u64 };
        register(descriptor, REGISTER_RING_FDS, &mut update)?;
        Ok(Self { descriptor, registered: Some(update.index) })
    }

    /// Starts `to_submit` queued requests, runs the work that the kernel has deferred until this
    /// call (`IORING_SETUP_DEFER_TASKRUN`), and then waits, or not at all with `None`.
    ///
    /// # Errors
    /// `ETIME` when the wait timed out, and what `io_uring_enter(2)` lists.
    pub(super) fn enter(&self, to_submit: u32, wait: Option<Wait>) -> io::Result<()> {
        let Some(wait) = wait else {
            return self.call(to_submit, 0, EnterFlags::GETEVENTS, ptr::null(), 0);
        };
        let timeout = wait.timeout.map(Timespec::from);
        let arguments = WaitArguments {
            signal_mask: 0,
            signal_mask_bytes: 0,
            batch_us: wait.batch_us,
            timeout: timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
        };
        self.call(
            to_submit,
            wait.completions,
            EnterFlags::GETEVENTS | EnterFlags::EXT_ARG,
            &raw const arguments,
            size_of::<WaitArguments>(),
        )
    }

    fn call(
        &self,
        to_submit: u32,
        completions: u32,
        flags: EnterFlags,
        arguments: *const WaitArguments,
        arguments_bytes: usize,
    ) -> io::Result<()> {
        let (ring, flags) = match self.registered {
            Some(index) => (index as RawFd, flags | EnterFlags::REGISTERED_RING),
            None => (self.descriptor, flags),
        };
        // SAFETY: the arguments are null or live through the call, with the length that belongs to
        // them. The memory of the requests is the concern of those who queued them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                to_submit,
                completions,
                flags.bits(),
                arguments,
                arguments_bytes,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Entrance {
    /// The registration holds the ring open, also when its descriptor is closed.
    fn drop(&mut self) {
        if let Some(index) = self.registered {
            let mut update = RingUpdate { index, reserved: 0, descriptor: 0 };
            let result = register(self.descriptor, UNREGISTER_RING_FDS, &mut update);
            debug_assert!(result.is_ok(), "a registered ring stays so: {result:?}");
        }
    }
}

fn register(descriptor: RawFd, operation: u32, update: &mut RingUpdate) -> io::Result<()> {
    const UPDATES: u32 = 1;
    // SAFETY: both operations read and write as many updates as are told, and this one is borrowed
    // through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            descriptor,
            operation,
            ptr::from_mut(update),
            UPDATES,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct io_uring_rsrc_update`, as the registration of rings reads and writes it.
#[repr(C)]
struct RingUpdate {
    index: u32,
    reserved: u32,
    descriptor: u64,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct WaitArguments {
    signal_mask: u64,
    signal_mask_bytes: u32,
    batch_us: u32,
    timeout: *const Timespec,
}

const _: () = assert!(size_of::<RingUpdate>() == 16 && size_of::<WaitArguments>() == 24);

/// Lets the kernel choose the index.
const ANY_INDEX: u32 = u32::MAX;
/// `IORING_REGISTER_RING_FDS`.
const REGISTER_RING_FDS: u32 = 20;
/// `IORING_UNREGISTER_RING_FDS`.
const UNREGISTER_RING_FDS: u32 = 21;

/// Lets the waits of the calling thread end when they are due: the kernel may end them 50 us later
/// to join them with others (`PR_SET_TIMERSLACK`), which is much for a wait of 200 us.
pub(super) fn keep_time_exactly() {
    const SLACK_NS: libc::c_ulong = 1;
    // SAFETY: this operation of prctl takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) };
}
