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

/// Gives back to the kernel what this thread has freed and what no thread uses, which the allocator
/// would keep for another second or until it is asked for more. What is free within the process is
/// not free for anybody else, and a measurement that counts it would shed more than is needed.
pub fn collect() {
    // SAFETY: it looks at nothing but free memory of the calling thread and of the process.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
