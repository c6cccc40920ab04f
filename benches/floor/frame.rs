//! How long frames are, which is all that the floor knows of them.

use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

use ringwire::io::Segment;
use ringwire::wire::frames::Frames;
use ringwire::wire::header::{HEADER_BYTES_MAX, Header, OpCode};

/// The length of every frame of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSize {
    payload_bytes: usize,
}

impl FrameSize {
    /// Bytes of a client's frame: header, mask, payload.
    pub fn client_bytes(self) -> usize {
        Header::encoded_bytes(self.payload_bytes as u64, true) + self.payload_bytes
    }

    /// Bytes of the server's frame with the same payload.
    pub fn server_bytes(self) -> usize {
        Header::encoded_bytes(self.payload_bytes as u64, false) + self.payload_bytes
    }

    /// Bytes that are owed to a client that has sent `received` bytes of frames: all of them but
    /// for the masks, as soon as the mask of the frame in progress has passed.
    pub fn owed_bytes(self, received: u64) -> u64 {
        let client = self.client_bytes() as u64;
        let mask = client - self.server_bytes() as u64;
        let in_progress = (received % client).saturating_sub(mask);
        received / client * self.server_bytes() as u64 + in_progress
    }

    /// Writes the server's headers into `bytes`, which are sent as the stream's from `start` on.
    pub fn stamp(self, bytes: &mut [u8], start: u64) {
        let (header, header_bytes) = self.header();
        let server = self.server_bytes() as u64;
        let end = start + bytes.len() as u64;
        let mut frame = start / server * server;
        while frame < end {
            for (place, &byte) in (frame..).zip(&header[..header_bytes]) {
                if (start..end).contains(&place) {
                    bytes[(place - start) as usize] = byte;
                }
            }
            frame += server;
        }
    }

    fn header(self) -> ([u8; HEADER_BYTES_MAX], usize) {
        let mut header = [0; HEADER_BYTES_MAX];
        let binary = Header::message(OpCode::Binary, self.payload_bytes as u64);
        let bytes = binary.encode(&mut header);
        (header, bytes)
    }
}

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: usize = text.parse().map_err(|_| format!("`{text}` is no number of bytes"))?;
        // A longer payload may need a longer header, so not every length is that of a frame.
        let of_header = |header: usize| bytes.checked_sub(header);
        [MASKED_HEADER_BYTES_MAX, 8, 6]
            .into_iter()
            .filter_map(of_header)
            .map(|payload_bytes| Self { payload_bytes })
            .find(|size| size.client_bytes() == bytes && bytes <= FRAME_BYTES_MAX)
            .ok_or_else(|| {
                format!("no masked frame of at most {FRAME_BYTES_MAX} bytes has {bytes} bytes")
            })
    }
}

/// Server frames without meaning, as many as one send may carry.
pub struct ConstantFrames {
    frames: Rc<Frames>,
    frame_bytes: usize,
    count: u32,
}

impl ConstantFrames {
    /// Frames of the given size.
    pub fn new(size: FrameSize) -> Self {
        let frame_bytes = size.server_bytes();
        let count = (CONSTANT_BYTES / frame_bytes).max(1);
        let mut bytes = vec![b'.'; count * frame_bytes];
        size.stamp(&mut bytes, 0);
        let frames = Rc::new(Frames::one(Arc::new(bytes)));
        Self { frames, frame_bytes, count: count as u32 }
    }

    /// At most `count` frames, and how many they are.
    pub fn segment(&self, count: u32) -> (Segment, u32) {
        let sent = count.min(self.count);
        let offset = (self.count - sent) as usize * self.frame_bytes;
        (Segment::Shared { frames: self.frames.clone(), offset: offset as u32 }, sent)
    }
}

/// The constant buffer is not longer than a receive buffer, so that it stays in the cache.
const CONSTANT_BYTES: usize = 64 << 10;
/// Far above every workload, and small enough for 32-bit offsets.
const FRAME_BYTES_MAX: usize = 64 << 20;
const MASKED_HEADER_BYTES_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn size(bytes: usize) -> FrameSize {
        bytes.to_string().parse().expect("a frame's length")
    }

    #[test]
    fn lengths_are_those_of_frames() {
        for (client, server) in [(6, 2), (26, 22), (131, 127), (134, 130), (1032, 1028)] {
            assert_eq!(
                (size(client).client_bytes(), size(client).server_bytes()),
                (client, server)
            );
        }
        assert_eq!(size((64 << 10) + 14).server_bytes(), (64 << 10) + 10);
        for text in ["0", "5", "132", "133", "x", "-1", "99999999999"] {
            assert!(text.parse::<FrameSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_of_a_stream_add_up_to_it() {
        let size = size(26);
        assert_eq!(
            [0, 4, 5, 26, 30, 31, 52].map(|n| size.owed_bytes(n)),
            [0, 0, 1, 22, 22, 23, 44]
        );
        let mut whole = vec![0; 66];
        size.stamp(&mut whole, 0);
        assert_eq!((whole[..3].to_vec(), whole[22], whole[23]), (vec![0x82, 20, 0], 0x82, 20));
        for cut in 0..=66 {
            let (mut left, mut right) = (vec![0; cut], vec![0; 66 - cut]);
            size.stamp(&mut left, 0);
            size.stamp(&mut right, cut as u64);
            assert_eq!([left, right].concat(), whole, "{cut}");
        }
    }

    #[test]
    fn constant_frames_end_with_the_buffer() {
        let constant = ConstantFrames::new(size(26));
        let (segment, sent) = constant.segment(3);
        assert_eq!((segment.len(), sent), (66, 3));
        let (segment, sent) = constant.segment(u32::MAX);
        assert_eq!((segment.len(), sent), (65_536 / 22 * 22, 65_536 / 22));
    }
}
