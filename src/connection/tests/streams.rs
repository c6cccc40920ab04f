//! A connection that has become a stream: what it sends by itself, and what its peer may send.

use super::harness::{Harness, Sending};
use ringwire::connection::Stream;
use ringwire::websocket::Initiator;
use ringwire::wire::close::CloseCode;

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A stream of the topic `t`, with what the peer has sent `behind` its request; the head of the
/// response is not among what it has sent.
fn stream(version: &str, behind: &[u8]) -> Harness {
    let mut harness = Harness::new(Sending::Eager);
    let request = format!("GET /broadcast/t?mode=stream HTTP/{version}\r\nHost: a\r\n\r\n");
    harness.feed(&[request.as_bytes(), behind].concat());
    assert_eq!(harness.streamed.take().as_deref(), Some("t"));
    let head = String::from_utf8(harness.take_sent()).expect("ASCII");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n") && head.matches("\r\n\r\n").count() == 1, "{head}");
    assert!(harness.upgraded.is_none() && harness.refused.is_empty());
    harness
}

fn open_stream(harness: &mut Harness) -> &mut Stream {
    harness.stage.stream_mut().expect("a stream")
}

#[test]
fn what_the_peer_sends_meanwhile_means_nothing_and_too_much_is_cut_off() {
    let upgrade = b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\x81\x80\0\0\0\0";
    let mut harness = stream("1.1", upgrade);
    for _ in 0..1023 {
        harness.feed(&[0x81; 64]);
    }
    assert!(harness.stage.is_open() && !harness.stage.is_open_websocket());
    assert!(harness.take_sent().is_empty() && !harness.has_stash() && harness.messages == 0);
    harness.feed(&[0x81; 64]);
    harness.feed(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(harness.closed, Some((Initiator::Local, CloseCode::POLICY_VIOLATION)));
    assert!(harness.finished && harness.stage.is_ended() && !harness.stage.is_open());
    assert!(harness.take_sent().is_empty(), "a stream that is cut off is not complete");
}

#[test]
fn the_end_is_told_where_it_is_the_orderly_one() {
    for (version, code, last) in [
        ("1.1", CloseCode::GOING_AWAY, LAST_CHUNK),
        ("1.0", CloseCode::GOING_AWAY, b""),
        ("1.1", CloseCode::TRY_AGAIN_LATER, b""),
    ] {
        let mut harness = stream(version, b"");
        harness.command(|stage, output| stage.close(code, "reason", output));
        assert_eq!(harness.closed.take(), Some((Initiator::Local, code)));
        assert!(harness.finished && harness.take_sent() == last);
        harness.command(|stage, output| stage.abandon(code, "reason", output));
        assert_eq!((harness.closed, harness.take_sent()), (None, Vec::new()), "it ends once");
    }
}

#[test]
fn a_peer_that_closes_its_side_ends_the_stream() {
    let mut harness = stream("1.1", b"");
    let end = |harness: &mut Harness| {
        harness.command(|stage, output| {
            stage.stream_mut().expect("a stream").end_by_peer(&mut output.websocket);
        });
    };
    end(&mut harness);
    assert_eq!(harness.closed, Some((Initiator::Remote, CloseCode::NORMAL)));
    assert!(harness.finished && harness.take_sent() == LAST_CHUNK);
}

#[test]
fn empty_lines_keep_it_alive_until_it_ends() {
    for (version, line) in [("1.1", &b"1\r\n\n\r\n"[..]), ("1.0", b"\n")] {
        let mut harness = stream(version, b"");
        let send_empty_line = |harness: &mut Harness| {
            harness.command(|stage, output| {
                stage.stream_mut().expect("a stream").send_empty_line(&mut output.websocket);
            });
        };
        assert!(!open_stream(&mut harness).take_sent_empty_line());
        send_empty_line(&mut harness);
        assert_eq!(harness.take_sent(), line);
        assert!(open_stream(&mut harness).take_sent_empty_line());
        assert!(!open_stream(&mut harness).take_sent_empty_line());
        harness.command(|stage, output| stage.close(CloseCode::TRY_AGAIN_LATER, "", output));
        send_empty_line(&mut harness);
        assert!(harness.take_sent().is_empty(), "nothing follows the end");
    }
}
