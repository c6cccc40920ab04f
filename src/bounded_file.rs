//! Files that settings name and that are read whole: keys, certificates, lists of what is revoked.
//! What is no file, such as a device or a pipe, may have no end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// Why a file was not read.
#[derive(Debug, Error)]
pub enum Unread {
    /// The system does not let it be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It goes on behind [`BYTES_MOST`].
    #[error("has more than {BYTES_MOST} bytes")]
    TooLong,
}

/// All of a file, which may be a secret.
///
/// # Errors
/// It cannot be read, or has more than [`BYTES_MOST`].
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unread> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(BYTES_MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MOST {
        return Err(Unread::TooLong);
    }
    Ok(bytes)
}

/// Bytes of a file, at most: more than any of them has.
pub const BYTES_MOST: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_refused() {
        assert!(matches!(read(Path::new("/dev/zero")), Err(Unread::TooLong)));
        assert!(matches!(read(Path::new("/nowhere")), Err(Unread::Io(_))));
        assert!(read(Path::new("Cargo.toml")).is_ok_and(|it| it.starts_with(b"[package]")));
    }
}
