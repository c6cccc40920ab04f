//! Very many and very large fragments: the content is right and the memory stays in proportion.

use crate::peer::{BINARY, CONTINUATION, FIN, Peer, TEXT, frame, header};
use crate::server::Server;
use std::io::Write;
use std::thread;

#[test]
fn a_hundred_thousand_fragments_of_one_byte_are_one_message() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let before = server.resident_bytes();
    for round in 0..2 {
        let payload: Vec<u8> =
            (0..FRAGMENTS).map(|index| b'a' + ((index + round) % 26) as u8).collect();
        let message = fragmented(TEXT, &payload, 1);
        let mut writer = peer.writer();
        let sender = thread::spawn(move || writer.write_all(&message));
        assert!(joined(&mut peer, TEXT, payload.len()) == payload, "the content differs");
        sender.join().expect("no panic").expect("all is sent");
    }
    expect_growth_below(&server, before, 16 << 20);
    server.stop();
}

#[test]
fn sixteen_mebibytes_cost_about_their_size_in_one_frame_and_in_many() {
    let server = Server::start(1, &[]);
    let payload: Vec<u8> = (0..MESSAGE_BYTES).map(|index| (index % 253) as u8).collect();
    let before = server.resident_bytes();
    for fragment_bytes in [MESSAGE_BYTES, 4096] {
        let mut peer = Peer::upgrade(server.address(), "/echo");
        let message = fragmented(BINARY, &payload, fragment_bytes);
        for _ in 0..3 {
            let mut writer = peer.writer();
            let message = message.clone();
            let sender = thread::spawn(move || writer.write_all(&message));
            assert!(joined(&mut peer, BINARY, payload.len()) == payload, "the content differs");
            sender.join().expect("no panic").expect("all is sent");
        }
    }
    // The message once while it arrives and once more while it grows or leaves.
    expect_growth_below(&server, before, 3 * MESSAGE_BYTES as u64);
    server.stop();
}

#[test]
fn memory_follows_the_bytes_received_not_the_length_announced() {
    let server = Server::start(1, &[]);
    let before = server.resident_bytes();
    let mut peers = Vec::new();
    for _ in 0..64 {
        let mut peer = Peer::upgrade(server.address(), "/echo");
        peer.send(&header(FIN | BINARY, MESSAGE_BYTES as u64));
        peer.send(&[0; 100]);
        peers.push(peer);
    }
    let mut last = Peer::upgrade(server.address(), "/echo");
    last.send_frame(TEXT, b"still here");
    last.expect(TEXT, b"still here");
    // 64 x 16 MiB are announced.
    expect_growth_below(&server, before, 32 << 20);
    server.stop();
}

fn expect_growth_below(server: &Server, before: u64, limit: u64) {
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < limit, "{} KiB more are resident", grown / 1024);
}

/// A message cut into frames of equal size.
fn fragmented(opcode: u8, payload: &[u8], fragment_bytes: usize) -> Vec<u8> {
    let count = payload.len().div_ceil(fragment_bytes);
    let mut bytes = Vec::with_capacity(payload.len() + count * 14);
    for (index, part) in payload.chunks(fragment_bytes).enumerate() {
        let opcode = if index == 0 { opcode } else { CONTINUATION };
        let last = if index + 1 == count { FIN } else { 0 };
        bytes.extend(frame(last | opcode, part));
    }
    bytes
}

/// Reads one message, in as many frames as the server likes.
fn joined(peer: &mut Peer, opcode: u8, payload_bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(payload_bytes);
    let mut expected = opcode;
    loop {
        let part = peer.read_frame();
        assert_eq!(part.opcode, expected);
        payload.extend(part.payload);
        if part.fin {
            return payload;
        }
        expected = CONTINUATION;
    }
}

const FRAGMENTS: usize = 100_000;
const MESSAGE_BYTES: usize = 16 << 20;
