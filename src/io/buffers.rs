//! Receive buffers that the kernel chooses from: a provided-buffer ring.
//!
//! With incremental consumption (kernel 6.12) the kernel fills one large buffer piece by piece, so
//! small messages lie densely packed in a few warm cache lines and large ones arrive in large
//! pieces. Without it, every receive takes a whole buffer. Either way a buffer returns to the
//! kernel when it is finished and every slice of it has been released.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{Submitter, cqueue};

use super::{Errno, check};

/// Bytes that the kernel received: a part of one receive buffer, held until it is released.
///
/// Not `Clone`: each slice counts once, and [`Io::release`](super::Io::release) takes it back. A
/// slice names the buffers it belongs to, and a ring refuses those of another ring or of a
/// simulation: so each one it accepts was made by the ring itself.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an unreleased slice keeps its buffer from the kernel for ever"]
pub struct BufferSlice {
    owner: u16,
    buffer: u16,
    start: u32,
    len: u32,
}

impl BufferSlice {
    /// A slice of a simulated kernel, for an `Io` that is not the ring.
    pub fn simulated(buffer: u16, start: u32, len: u32) -> Self {
        Self { owner: SIMULATION, buffer, start, len }
    }

    /// The buffer that holds the bytes.
    pub fn buffer(&self) -> u16 {
        self.buffer
    }

    /// Where in its buffer the slice starts.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Bytes in the slice.
    #[expect(clippy::len_without_is_empty, reason = "no empty slice is ever made")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Drops the first `bytes`, at most all of them.
    pub fn advance(&mut self, bytes: u32) {
        let bytes = bytes.min(self.len);
        self.start += bytes;
        self.len -= bytes;
    }
}

/// What is known of one buffer while the kernel does not own all of it.
#[derive(Clone, Copy, Default)]
struct Lending {
    /// Where the kernel writes next.
    filled: u32,
    /// Slices not yet released.
    slices: u32,
    /// Whether the kernel is done with it.
    finished: bool,
}

/// The buffers of one ring and the queue that offers them to the kernel.
pub(super) struct ReceiveBuffers {
    queue: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    lending: Vec<Lending>,
    buffer_bytes: u32,
    /// Who these buffers are, in the process; no ring before or after has the same number.
    owner: u16,
    /// Whether a ring knows the memory.
    is_registered: bool,
    /// In sync with the tail that the kernel sees, but for what `publish` has yet to show.
    tail: u16,
    /// Buffers that the kernel may fill, or may once `publish` has shown them.
    free: usize,
}

impl ReceiveBuffers {
    /// The buffer group every receive selects from.
    pub(super) const GROUP: u16 = 0;

    /// Allocates `count` buffers (a power of two up to 32,768) and registers them. They are freed
    /// only if they have been unregistered before.
    ///
    /// # Errors
    /// What `IORING_REGISTER_PBUF_RING` (kernel 5.19) answers; `EINVAL` for `incremental` before
    /// 6.12. Also when the process has made more of them than it can tell apart, 65,535.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        buffer_bytes: u32,
        incremental: bool,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "validated with the configuration");
        let mut buffers = Self {
            queue: allocate(queue_layout(count)).cast(),
            memory: allocate(memory_layout(count, buffer_bytes)),
            lending: vec![Lending::default(); usize::from(count)],
            buffer_bytes,
            owner: next_owner()?,
            is_registered: false,
            tail: 0,
            free: 0,
        };
        const INCREMENTAL: u16 = 2; // IOU_PBUF_RING_INC
        let flags = if incremental { INCREMENTAL } else { 0 };
        // SAFETY: the queue holds `count` entries, and as long as it is registered it lives: `drop`
        // frees nothing before `unregister`.
        unsafe {
            let address = buffers.queue.as_ptr() as u64;
            submitter.register_buf_ring_with_flags(address, count, Self::GROUP, flags)?;
        }
        buffers.is_registered = true;
        for buffer in 0..count {
            buffers.offer(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Takes the memory back from the ring; it stays the ring's when the kernel refuses.
    ///
    /// # Safety
    /// `submitter` is that of the ring they were registered with, where no receive is under way.
    pub(super) unsafe fn unregister(&mut self, submitter: &Submitter<'_>) {
        if self.is_registered && submitter.unregister_buf_ring(Self::GROUP).is_ok() {
            self.is_registered = false;
        }
    }

    /// What a receive has brought that completed with `result` and `flags`: nothing at the end.
    pub(super) fn received(
        &mut self,
        result: i32,
        flags: u32,
    ) -> Result<Option<BufferSlice>, Errno> {
        let buffer = cqueue::buffer_select(flags);
        let more = cqueue::buffer_more(flags);
        match (check(result), buffer) {
            (Ok(len), Some(buffer)) if len > 0 => Ok(Some(self.lend(buffer, len as u32, more))),
            (result, buffer) => {
                if let Some(buffer) = buffer {
                    self.finish_empty(buffer, more);
                }
                result.map(|_| None)
            }
        }
    }

    /// Takes note of `len` bytes that the kernel put into `buffer`; `more` when it will go on
    /// there.
    fn lend(&mut self, buffer: u16, len: u32, more: bool) -> BufferSlice {
        let lending = &mut self.lending[usize::from(buffer)];
        let slice = BufferSlice { owner: self.owner, buffer, start: lending.filled, len };
        lending.filled += len;
        lending.slices += 1;
        lending.finished = !more;
        self.free -= usize::from(!more);
        debug_assert!(lending.filled <= self.buffer_bytes);
        slice
    }

    /// A completion that named a buffer but brought no bytes.
    fn finish_empty(&mut self, buffer: u16, more: bool) {
        let slice = self.lend(buffer, 0, more);
        self.release(slice);
    }

    /// The bytes of `slice`.
    pub(super) fn bytes(&mut self, slice: &BufferSlice) -> &mut [u8] {
        let pointer = self.pointer(slice);
        // SAFETY: `pointer` has seen that the slice is one of these, so it was made by `lend` or
        // `split`: it lies within its buffer, below what the kernel still writes to, and overlaps
        // no other slice that is being looked at, because the borrow of `self` makes this the
        // only one.
        unsafe { std::slice::from_raw_parts_mut(pointer, slice.len as usize) }
    }

    /// Where the bytes of `slice` are, for a request that reads them.
    pub(super) fn pointer(&self, slice: &BufferSlice) -> *mut u8 {
        self.require_own(slice);
        debug_assert!(slice.start + slice.len <= self.buffer_bytes);
        let offset = usize::from(slice.buffer) * self.buffer_bytes as usize + slice.start as usize;
        // SAFETY: the slice is one of these buffers, and the memory holds all of them.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// Refuses a slice that these buffers have not lent, whose place may be anywhere.
    fn require_own(&self, slice: &BufferSlice) {
        assert!(slice.owner == self.owner, "a slice goes back to the ring that received it");
    }

    /// A further slice: `range` within `slice`.
    pub(super) fn split(&mut self, slice: &BufferSlice, range: Range<usize>) -> BufferSlice {
        self.require_own(slice);
        assert!(range.start <= range.end && range.end <= slice.len as usize, "within the slice");
        self.lending[usize::from(slice.buffer)].slices += 1;
        BufferSlice {
            owner: self.owner,
            buffer: slice.buffer,
            start: slice.start + range.start as u32,
            len: (range.end - range.start) as u32,
        }
    }

    /// Takes a slice back; its buffer goes to the kernel again when nothing else needs it.
    #[expect(clippy::needless_pass_by_value, reason = "a released slice must not be used again")]
    pub(super) fn release(&mut self, slice: BufferSlice) {
        self.require_own(&slice);
        let lending = &mut self.lending[usize::from(slice.buffer)];
        lending.slices -= 1;
        if lending.finished && lending.slices == 0 {
            self.offer(slice.buffer);
        }
    }

    /// Buffers that the kernel may fill, or may once [`publish`](Self::publish) has shown them.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Shows the kernel all buffers that were offered since the last call.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry of the queue, where the kernel reads it.
        unsafe {
            let tail = BufRingEntry::tail(self.queue.as_ptr()).cast::<AtomicU16>();
            // Partner: the kernel's smp_load_acquire of the tail when it selects a buffer.
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// Buffers that wholly or partly wait for a slice to be released.
    #[cfg(test)]
    fn lent(&self) -> usize {
        self.lending.iter().filter(|lending| lending.slices > 0).count()
    }

    fn offer(&mut self, buffer: u16) {
        self.lending[usize::from(buffer)] = Lending::default();
        self.free += 1;
        let place = usize::from(self.tail) & (self.lending.len() - 1);
        let address =
            self.memory.as_ptr() as u64 + u64::from(buffer) * u64::from(self.buffer_bytes);
        // SAFETY: `place` is below the number of entries; the kernel reads entries below the tail
        // alone, and this one is not below it before `publish`.
        let entry = unsafe { &mut *self.queue.as_ptr().add(place) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }
}

impl Drop for ReceiveBuffers {
    /// What is still registered is leaked: the kernel may write to it.
    fn drop(&mut self) {
        if self.is_registered {
            return;
        }
        let count = self.lending.len() as u16;
        // SAFETY: both were allocated with these layouts, and no ring knows them.
        unsafe {
            dealloc(self.queue.as_ptr().cast(), queue_layout(count));
            dealloc(self.memory.as_ptr(), memory_layout(count, self.buffer_bytes));
        }
    }
}

/// A number for new buffers that no others have or had.
fn next_owner() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(SIMULATION + 1);
    // Only the number itself is exchanged, so no order with other memory is needed.
    let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| next.checked_add(1));
    next.map_err(|_| io::Error::other("this process has made 65,534 rings before"))
}

/// The owner of all slices that no ring made.
const SIMULATION: u16 = 0;

fn queue_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE_BYTES)
        .expect("at most 512 KiB")
}

fn memory_layout(count: u16, buffer_bytes: u32) -> Layout {
    Layout::from_size_align(usize::from(count) * buffer_bytes as usize, PAGE_BYTES)
        .expect("the configuration bounds both factors")
}

/// Zeroed memory whose pages are there: the kernel fills every buffer sooner or later, so a page
/// fault in the receive path would only come later, and count as memory of whoever sent the byte.
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here has size zero: there is at least one buffer of at least a page.
    let memory = unsafe { alloc(layout) };
    let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
    // SAFETY: the allocation is as large as its layout says.
    unsafe { memory.write_bytes(0, layout.size()) };
    memory
}

const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::IoUring;

    fn registered(count: u16) -> (IoUring, ReceiveBuffers) {
        let ring = IoUring::new(2).expect("io_uring is what this crate is for");
        let buffers = ReceiveBuffers::register(&ring.submitter(), count, 4096, false).unwrap();
        (ring, buffers)
    }

    #[test]
    fn a_buffer_returns_when_its_last_slice_does() {
        let (ring, mut buffers) = registered(2);
        let first = buffers.lend(0, 100, true);
        let second = buffers.lend(0, 50, false);
        assert_eq!((second.start(), second.len()), (100, 50));
        buffers.bytes(&second)[0] = 7;
        let part = buffers.split(&second, 10..20);
        assert_eq!((part.start(), part.len()), (110, 10));
        buffers.release(first);
        buffers.release(second);
        assert_eq!((buffers.lent(), buffers.tail), (1, 2));
        buffers.release(part);
        assert_eq!((buffers.lent(), buffers.tail), (0, 3));
        let again = buffers.lend(0, 10, true);
        assert_eq!(again.start(), 0);
        // SAFETY: nothing was received.
        unsafe { buffers.unregister(&ring.submitter()) };
        assert!(!buffers.is_registered);
    }

    #[test]
    fn slices_of_others_are_refused_whatever_is_asked_of_them() {
        let (_first, mut own) = registered(2);
        let (_second, mut other) = registered(2);
        let slices = [
            BufferSlice::simulated(0, 0, 10),
            BufferSlice::simulated(u16::MAX, u32::MAX - 10, 10),
            other.lend(0, 10, true),
        ];
        for slice in slices {
            refused(|| own.bytes(&slice).fill(0));
            refused(|| {
                own.pointer(&slice);
            });
            refused(|| {
                let _ = own.split(&slice, 0..1);
            });
            refused(|| own.release(slice));
        }
    }

    fn refused(ask: impl FnOnce()) {
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(ask));
        let said = asked.expect_err("refused").downcast::<&str>().expect("a constant");
        assert!(said.contains("the ring that received it"), "{said}");
    }
}
