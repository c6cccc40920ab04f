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

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Bytes that the kernel received: a part of one receive buffer, held until it is released.
///
/// Not `Clone`: each slice counts once, and [`Io::release`](super::Io::release) takes it back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an unreleased slice keeps its buffer from the kernel for ever"]
pub struct BufferSlice {
    pub(super) buffer: u16,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl BufferSlice {
    /// A slice of a simulated kernel, for an `Io` that is not the ring.
    pub fn simulated(buffer: u16, start: u32, len: u32) -> Self {
        Self { buffer, start, len }
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
    /// In sync with the tail that the kernel sees, but for what `publish` has yet to show.
    tail: u16,
    /// Buffers that the kernel may fill, or may once `publish` has shown them.
    free: usize,
}

impl ReceiveBuffers {
    /// The buffer group every receive selects from.
    pub(super) const GROUP: u16 = 0;

    /// Allocates `count` buffers (a power of two up to 32,768) and registers them.
    ///
    /// # Errors
    /// What `IORING_REGISTER_PBUF_RING` (kernel 5.19) answers; `EINVAL` for `incremental` before
    /// 6.12.
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
            tail: 0,
            free: 0,
        };
        const INCREMENTAL: u16 = 2; // IOU_PBUF_RING_INC
        let flags = if incremental { INCREMENTAL } else { 0 };
        // SAFETY: the queue holds `count` entries and lives as long as this value, which the ring's
        // owner drops after the ring itself.
        unsafe {
            let address = buffers.queue.as_ptr() as u64;
            submitter.register_buf_ring_with_flags(address, count, Self::GROUP, flags)?;
        }
        for buffer in 0..count {
            buffers.offer(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Takes note of `len` bytes that the kernel put into `buffer`; `more` when it will go on
    /// there.
    pub(super) fn lend(&mut self, buffer: u16, len: u32, more: bool) -> BufferSlice {
        let lending = &mut self.lending[usize::from(buffer)];
        let slice = BufferSlice { buffer, start: lending.filled, len };
        lending.filled += len;
        lending.slices += 1;
        lending.finished = !more;
        self.free -= usize::from(!more);
        debug_assert!(lending.filled <= self.buffer_bytes);
        slice
    }

    /// A completion that named a buffer but brought no bytes.
    pub(super) fn finish_empty(&mut self, buffer: u16, more: bool) {
        let slice = self.lend(buffer, 0, more);
        self.release(slice);
    }

    /// The bytes of `slice`.
    pub(super) fn bytes(&mut self, slice: &BufferSlice) -> &mut [u8] {
        let pointer = self.pointer(slice);
        // SAFETY: a slice is made by `lend` or `split` alone, so it lies within its buffer, below
        // what the kernel still writes to, and overlaps no other slice that is being looked at: the
        // borrow of `self` makes this the only one.
        unsafe { std::slice::from_raw_parts_mut(pointer, slice.len as usize) }
    }

    /// Where the bytes of `slice` are, for a request that reads them.
    pub(super) fn pointer(&self, slice: &BufferSlice) -> *mut u8 {
        let offset = usize::from(slice.buffer) * self.buffer_bytes as usize + slice.start as usize;
        debug_assert!(slice.start + slice.len <= self.buffer_bytes);
        // SAFETY: the memory holds `lending.len()` buffers of `buffer_bytes` each.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// A further slice: `range` within `slice`.
    pub(super) fn split(&mut self, slice: &BufferSlice, range: Range<usize>) -> BufferSlice {
        assert!(range.start <= range.end && range.end <= slice.len as usize, "within the slice");
        self.lending[usize::from(slice.buffer)].slices += 1;
        BufferSlice {
            buffer: slice.buffer,
            start: slice.start + range.start as u32,
            len: (range.end - range.start) as u32,
        }
    }

    /// Takes a slice back; its buffer goes to the kernel again when nothing else needs it.
    #[expect(clippy::needless_pass_by_value, reason = "a released slice must not be used again")]
    pub(super) fn release(&mut self, slice: BufferSlice) {
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
        let address = self.pointer(&BufferSlice { buffer, start: 0, len: 0 }) as u64;
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
    fn drop(&mut self) {
        let count = self.lending.len() as u16;
        // SAFETY: both were allocated with these layouts; the ring that wrote to them is gone.
        unsafe {
            dealloc(self.queue.as_ptr().cast(), queue_layout(count));
            dealloc(self.memory.as_ptr(), memory_layout(count, self.buffer_bytes));
        }
    }
}

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

    #[test]
    fn a_buffer_returns_when_its_last_slice_does() {
        let ring = IoUring::new(2).expect("io_uring is what this crate is for");
        let mut buffers = ReceiveBuffers::register(&ring.submitter(), 2, 4096, false).unwrap();
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
        drop(ring);
    }
}
