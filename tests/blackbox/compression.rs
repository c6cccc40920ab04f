//! permessage-deflate on the wire: one compression for many subscribers, and bombs.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::peer::{BINARY, CLOSE, FIN, Frame, Peer, RSV1, TEXT, close_payload, frame, header};
use crate::server::{Server, wait_until};

/// The payload of a message of `bytes` zeros.
fn deflated_zeros(bytes: usize) -> Vec<u8> {
    let (mut stream, chunk) = (Compress::new(Compression::best(), false), vec![0; 1 << 20]);
    let mut packed = Vec::with_capacity(bytes / 900 + 4096);
    let mut left = bytes;
    while left > 0 {
        let part = left.min(chunk.len());
        stream.compress_vec(&chunk[..part], &mut packed, FlushCompress::None).expect("room");
        left -= part;
    }
    assert_eq!(stream.total_in(), bytes as u64);
    stream.compress_vec(&[], &mut packed, FlushCompress::Sync).expect("room");
    packed.truncate(packed.len() - 4);
    packed
}

fn inflated(frame: &Frame) -> Vec<u8> {
    if !frame.compressed {
        return frame.payload.clone();
    }
    let packed = [&frame.payload[..], &[0, 0, 0xff, 0xff]].concat();
    let mut message = Vec::with_capacity(1 << 20);
    let mut stream = Decompress::new(false);
    stream.decompress_vec(&packed, &mut message, FlushDecompress::Sync).expect("a stream");
    message
}

#[test]
fn a_bomb_is_cut_at_the_limit() {
    const LIMIT: u64 = 16 << 20;
    let bomb = deflated_zeros(1 << 30);
    assert!(bomb.len() < 2 << 20, "{} bytes", bomb.len());
    for mode in ["shared", "dedicated"] {
        let server = Server::start(1, &["--compression", mode]);
        let before = server.resident_bytes();
        let mut most = before;
        for path in ["/echo", "/broadcast/bomb"] {
            for fragments in [1, 50] {
                let (mut peer, _) =
                    Peer::connect(server.address()).upgraded_with(path, "permessage-deflate");
                let parts: Vec<_> = bomb.chunks(bomb.len().div_ceil(fragments)).collect();
                for (place, part) in parts.iter().enumerate() {
                    let first = if place == 0 { RSV1 | BINARY } else { 0 };
                    let fin = if place + 1 == parts.len() { FIN } else { 0 };
                    peer.send_unheard(&frame(fin | first, part));
                }
                assert_eq!(peer.read_close().0, 1009, "{mode} {path} {fragments}");
                most = most.max(server.resident_bytes());
                let mut other = Peer::upgrade(server.address(), "/echo");
                other.send_frame(TEXT, b"still there");
                other.expect(TEXT, b"still there");
            }
        }
        let growth = most - before;
        // Of what is freed the allocator keeps some for a while.
        assert!(growth < 8 * LIMIT, "{mode}: {growth} bytes more");
        server.stop();
    }
}

#[test]
fn compressors_are_given_back_before_anybody_is_shed() {
    let flags = ["--compression", "dedicated", "--max-memory", "64MiB"];
    let server = Server::start(1, &flags);
    let message = deflated_zeros(1000);
    let mut peers: Vec<_> = (0..400)
        .map(|_| Peer::connect(server.address()).upgraded_with("/echo", "permessage-deflate").0)
        .collect();
    // Half a megabyte for each, were all of it kept.
    for round in 0..3 {
        for peer in &mut peers {
            peer.send(&frame(FIN | RSV1 | BINARY, &message));
            assert_eq!(inflated(&peer.read_frame()).len(), 1000, "round {round}");
        }
    }
    wait_until("compressors are back", || server.resident_bytes() < 64 << 20);
    assert_eq!(server.stats().connections_shed(), 0);
    server.stop();
}

#[test]
fn what_cannot_be_inflated_closes_with_1007_and_rsv1_unasked_with_1002() {
    let server = Server::start(1, &["--compression", "shared"]);
    let connect = || Peer::connect(server.address());
    let offers = "permessage-deflate; x, permessage-deflate";
    let (mut peer, answer) = connect().upgraded_with("/echo", offers);
    assert_eq!(
        answer,
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    );
    peer.send(&frame(FIN | RSV1 | BINARY, &[0xff; 10]));
    assert_eq!(peer.read_close().0, 1007);
    let mut plain = connect().upgraded("/echo");
    plain.send(&header(FIN | RSV1 | BINARY, 10));
    assert_eq!(plain.read_close().0, 1002);
    server.stop();

    let server = Server::start(1, &[]);
    let mut peer = Peer::connect(server.address());
    peer.send(&crate::peer::upgrade_request(
        "/echo",
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    ));
    let response = peer.read_response();
    assert_eq!((response.status, response.header("sec-websocket-extensions")), (101, None));
    server.stop();
}

#[test]
fn a_broadcast_is_compressed_once_for_each_class_of_windows() {
    const SUBSCRIBERS: usize = 60;
    const MESSAGES: usize = 20;
    for mode in ["shared", "dedicated"] {
        let server = Server::start(1, &["--compression", mode, "--compression-threshold", "100"]);
        let connect = || Peer::connect(server.address());
        let offers = [
            "permessage-deflate",
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=8",
        ];
        let path = "/broadcast/all";
        let mut subscribers: Vec<_> = (0..SUBSCRIBERS)
            .map(|place| match offers.get(place % 4) {
                Some(offer) => connect().upgraded_with(path, offer).0,
                None => connect().upgraded(path),
            })
            .collect();
        let mut publisher = connect().upgraded("/broadcast/all?exclude_self=true");
        let payload = |place: usize| match place % 5 {
            0 => format!("short {place}").into_bytes(),
            _ => format!("message {place}, which is long enough. ").repeat(30).into_bytes(),
        };
        let burst: Vec<_> =
            (0..MESSAGES).flat_map(|place| frame(FIN | TEXT, &payload(place))).collect();
        publisher.send(&burst);
        for (number, subscriber) in subscribers.iter_mut().enumerate() {
            for place in 0..MESSAGES {
                let received = subscriber.read_frame();
                let is_compressed = number % 4 != 3 && place % 5 != 0;
                assert_eq!((received.fin, received.opcode), (true, TEXT));
                assert_eq!(received.compressed, is_compressed, "{number} {place}");
                assert!(inflated(&received) == payload(place), "{number} {place}");
            }
        }
        let stats = server.stats();
        let long = (MESSAGES - MESSAGES / 5) as u64;
        assert_eq!((stats.compressions(), stats.inflations()), (2 * long, 0), "{mode}");
        assert_eq!(stats.deliveries(), (SUBSCRIBERS * MESSAGES) as u64);
        let publication = deflated_zeros(500);
        subscribers[0].send(&frame(FIN | RSV1 | BINARY, &publication));
        let back = publisher.read_frame();
        assert_eq!((back.opcode, back.payload), (BINARY, vec![0; 500]));
        assert_eq!(server.stats().inflations(), 1);
        subscribers[1].send_close(1000);
        while let Some(last) = subscribers[1].try_read_frame() {
            if last.opcode == CLOSE {
                assert_eq!(close_payload(&last.payload).0, 1000);
            }
        }
        server.stop();
    }
}
