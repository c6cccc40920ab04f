//! How the allocator deals with the kernel's memory.
#![allow(unsafe_code)]

/// Has memory come in pages of 4 KiB alone (`PR_SET_THP_DISABLE`), and not in huge ones of 2 MiB,
/// which the allocator asks for otherwise. A thread's memory lies in many places, by sizes, and
/// each would take a huge page for itself: 8 MiB for a shard that needs less than one.
pub fn use_small_pages() {
    const DISABLE: libc::c_ulong = 1;
    const UNUSED: libc::c_ulong = 0;
    // SAFETY: this operation of prctl takes numbers and touches no memory. Should the kernel not
    // know huge pages, there is nothing to turn off.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, DISABLE, UNUSED, UNUSED, UNUSED) };
}

/// Has the allocator keep what is freed until [`give_back`] is called: else any thread that frees
/// something gives back what all have freed, a tenth of a second's work after a crowd has left.
pub fn keep_until_asked() {
    /// `mi_option_purge_delay`, in milliseconds, which the bindings have no name for.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const HOUR_MS: libc::c_long = 3_600_000;
    // SAFETY: the option is a number, read whenever memory is freed.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, HOUR_MS) };
}

/// Lets other threads have what the calling one has freed; little work, and no call of the kernel.
pub fn release() {
    /// An empty page is kept for that many collections, should its size be wanted again.
    const RETIRE_CYCLES: usize = 16;
    for _ in 0..=RETIRE_CYCLES {
        // SAFETY: it looks at nothing but free memory of the calling thread.
        unsafe { libmimalloc_sys::mi_collect(false) };
    }
}

/// Gives back to the kernel what this thread has freed and what no thread uses, which the allocator
/// would keep until it is asked for more. Takes up to a tenth of a second for a gigabyte. Resident
/// memory includes free pages that the allocator keeps: measuring without giving them back first
/// would shed more connections than needed.
pub fn give_back() {
    // SAFETY: it looks at nothing but free memory of the calling thread and of the process.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
