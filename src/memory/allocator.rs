//! Makes the allocator give memory back while it is short: what is free within the process is not
//! free for anybody else, and a measurement that counts it would shed more than is needed.
#![allow(unsafe_code)]

/// Gives back to the kernel what this thread has freed and what no thread uses, which the allocator
/// would keep for another second or until it is asked for more.
pub fn collect() {
    // SAFETY: it looks at nothing but free memory of the calling thread and of the process.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
