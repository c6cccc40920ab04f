//! A client's side of permessage-deflate, with nothing of the server's but the library.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// What clients offer; a server may ignore all of it.
pub const OFFERS: [&str; 5] = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=8; client_max_window_bits=10",
    "permessage-deflate; unknown, x-other; a=b, permessage-deflate; server_max_window_bits=12",
];

/// One end of an agreement.
pub struct Agreement {
    compress: Compress,
    decompress: Decompress,
    client_takes_over: bool,
    server_takes_over: bool,
}

impl Agreement {
    /// What the server's answer says.
    pub fn new(answer: &str) -> Self {
        let mut parameters = answer.split("; ");
        assert_eq!(parameters.next(), Some("permessage-deflate"), "{answer}");
        let has = |name: &str| answer.split("; ").any(|parameter| parameter == name);
        let window_bits = |name: &str| {
            let value = answer.split("; ").find_map(|parameter| parameter.strip_prefix(name));
            value.map_or(15, |bits| bits.parse::<u8>().expect("a number")).max(9)
        };
        let client_bits = window_bits("client_max_window_bits=");
        Self {
            compress: Compress::new_with_window_bits(Compression::new(3), false, client_bits),
            decompress: Decompress::new(false),
            client_takes_over: !has("client_no_context_takeover"),
            server_takes_over: !has("server_no_context_takeover"),
        }
    }

    /// A message as it is sent; `None` when it would be larger than `most`, and goes plain.
    pub fn deflated(&mut self, message: &[u8], most: usize) -> Option<Vec<u8>> {
        if message.is_empty() {
            return Some(vec![0]);
        }
        let mut packed = Vec::with_capacity(message.len() * 2 + 100);
        let status = self.compress.compress_vec(message, &mut packed, FlushCompress::Sync);
        assert!(status.is_ok() && packed.ends_with(&TAIL), "the room is ample");
        packed.truncate(packed.len() - TAIL.len());
        let fits = packed.len() <= most;
        if !self.client_takes_over || !fits {
            self.compress.reset();
        }
        fits.then_some(packed)
    }

    /// What a compressed message says.
    pub fn inflated(&mut self, payload: &[u8]) -> Vec<u8> {
        let packed = [payload, &TAIL].concat();
        let mut message = Vec::with_capacity(MESSAGE_BYTES_MOST);
        let status = self.decompress.decompress_vec(&packed, &mut message, FlushDecompress::Sync);
        assert!(status.is_ok(), "{status:?}");
        if !self.server_takes_over {
            self.decompress.reset(false);
        }
        message
    }
}

const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// More than any message of a run has.
const MESSAGE_BYTES_MOST: usize = 100_000;
