//! Socket options that no crate of ours names.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Sets an option whose value is an integer.
///
/// # Errors
/// What `setsockopt(2)` answers.
pub(super) fn set(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option's value is an integer that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `SOCKET_URING_OP_SIOCOUTQ` (kernel 6.7): asks for the bytes that were sent and not acknowledged.
pub(super) const URING_SIOCOUTQ: u32 = 1;
