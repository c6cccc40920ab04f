//! What members get of a run, in every encoding.

use super::*;
use crate::wire::deflate::Inflater;
use crate::wire::deflate::codec::{Settings, window_class};
use crate::wire::header::{Header, RSV1, Role};
use crate::wire::message::{DataMessage, MessageKind};

const MEMBER: u32 = 7;

fn message(payload: &[u8]) -> SharedMessage {
    DataMessage::new(MessageKind::Binary, payload).into_shared()
}

fn budget() -> EncodingBudget {
    EncodingBudget { compressed_bytes: usize::MAX, joined_bytes: usize::MAX }
}

fn codec(level: u8) -> Codec {
    Codec::new(Settings { level, threshold_bytes: 100, message_bytes_max: 1 << 20 })
}

/// A run of these messages, each with who does not get it, that has been encoded in plain.
fn run<'a>(messages: impl IntoIterator<Item = (&'a [u8], Option<u32>)>) -> Run {
    let mut messages = messages.into_iter();
    let (first, skip) = messages.next().expect("one at least");
    let mut run = Run::new(message(first), skip);
    for (payload, skip) in messages {
        assert!(run.takes(&message(payload)));
        run.join(message(payload), skip);
    }
    run.prepare();
    assert!(run.encode(Encoding::Plain, &mut codec(1), &mut budget()));
    run
}

fn share_of(run: &Run, member: u32, encoding: Encoding) -> Share<'_> {
    run.share_of(member, run.encoded(encoding).expect("made before"))
}

/// Each message, and whether it came compressed.
fn read(mut bytes: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let mut messages = Vec::new();
    while let Some((header, start)) = Header::decode(bytes, Role::Client, RSV1).unwrap() {
        let (frame, rest) = bytes.split_at(start + header.payload_bytes as usize);
        bytes = rest;
        let mut message = frame[start..].to_vec();
        if header.rsv == RSV1 {
            message.clear();
            Inflater::default().lone_message(&frame[start..], 1 << 20, &mut message).unwrap();
        }
        messages.push((message, header.rsv == RSV1));
    }
    messages
}

/// What a member gets that published part of the run, and how many messages that is.
fn shared_bytes(share: Share<'_>) -> (Vec<u8>, u32) {
    let Share::Others(excerpts) = share else { panic!("it published part of it") };
    let messages = excerpts.iter().map(|excerpt| excerpt.messages).sum();
    (excerpts.iter().flat_map(Excerpt::bytes).copied().collect(), messages)
}

/// A thousand members that publish to each other in one tick share the run.
#[test]
fn members_that_publish_in_the_same_tick_do_not_get_a_copy_each() {
    let run = run((0..1000).map(|member| (&[b'x'; 60][..], Some(member))));
    let frames = run.encoded(Encoding::Plain).expect("made");
    for member in 0..1000 {
        let Share::Others(segments) = run.share_of(member, frames) else { panic!("its own") };
        assert!(segments.len() <= 2);
        assert!(segments.iter().all(|excerpt| Rc::ptr_eq(&excerpt.frames, frames)));
        assert_eq!(segments.iter().map(|excerpt| excerpt.messages).sum::<u32>(), 999);
    }
    assert!(matches!(run.share_of(1000, frames), Share::Whole(_)));
}

#[test]
fn one_message_is_shared_with_the_other_shards() {
    let message = message(b"alone");
    let mut run = Run::new(message.clone(), None);
    let mut none = EncodingBudget { compressed_bytes: 0, joined_bytes: 0 };
    assert!(run.encode(Encoding::Plain, &mut codec(1), &mut none));
    let frames = run.encoded(Encoding::Plain).expect("made");
    assert_eq!(frames.bytes().as_ptr(), message.frame().as_ptr(), "nothing is copied");
}

#[test]
fn what_would_take_too_long_is_joined_later() {
    let mut run = Run::new(message(&[1; 1000]), None);
    run.join(message(&[2; 1000]), None);
    let mut left = EncodingBudget { compressed_bytes: 1, joined_bytes: 0 };
    assert!(!run.encode(Encoding::Plain, &mut codec(1), &mut left));
    assert!(run.takes(&message(b"x")));
    left.joined_bytes = 1;
    assert!(run.encode(Encoding::Plain, &mut codec(1), &mut left));
    assert_eq!((left.joined_bytes, left.compressed_bytes), (0, 1));
    assert!(run.encode(Encoding::Plain, &mut codec(1), &mut left), "it is there");
    assert!(!run.takes(&message(b"x")), "a run that is encoded is not changed");
}

#[test]
fn many_small_gaps_become_a_copy_that_takes_less() {
    let run = run((0..2000).map(|place| (&b""[..], (place % 2 == 0).then_some(7))));
    let Share::Others(segments) = share_of(&run, 7, Encoding::Plain) else { panic!("half of it") };
    assert_eq!((segments.len(), segments[0].messages, segments[0].bytes().len()), (1, 1000, 2000));
}

#[test]
fn nothing_is_left_of_a_run_that_is_all_its_own() {
    let run = run([(&b"a"[..], Some(7)), (b"b", Some(7))]);
    let Share::Others(segments) = share_of(&run, 7, Encoding::Plain) else { panic!("its own") };
    assert!(segments.is_empty());
    assert!(latest(&Share::Others(segments)).is_none());
}

#[test]
fn a_large_message_is_compressed_step_by_step() {
    let mut codec = codec(2);
    let payload: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
    let mut run = Run::new(message(&payload), None);
    let mut steps = 0;
    for encoding in [3, 6].map(Encoding::Compressed) {
        loop {
            steps += 1;
            let mut budget = EncodingBudget { compressed_bytes: 40_000, joined_bytes: 0 };
            if run.encode(encoding, &mut codec, &mut budget) {
                break;
            }
            assert_eq!(budget.compressed_bytes, 0);
        }
        let frames = run.encoded(encoding).expect("made");
        assert_eq!(read(frames.bytes()), [(payload.clone(), true)]);
    }
    assert_eq!(steps, 2 * 300_000_usize.div_ceil(40_000));
    assert_eq!(codec.compressed, 2);
}

#[test]
fn each_class_gets_the_same_messages_and_is_compressed_once() {
    let mut codec = codec(6);
    let payloads = [vec![b'a'; 500], b"short".to_vec(), vec![b'b'; 300], vec![b'c'; 900]];
    let skips = [Some(MEMBER), None, Some(MEMBER), Some(MEMBER + 1)];
    let mut run = run(payloads.iter().map(Vec::as_slice).zip(skips));
    for bits in [15, 9, 8, 15] {
        let encoding = Encoding::Compressed(window_class(bits));
        assert!(run.encode(encoding, &mut codec, &mut budget()));
    }
    assert_eq!(codec.compressed, 2 * 3, "8 and 9 are one class");
    let plain: Vec<_> = payloads.iter().map(|payload| (payload.clone(), false)).collect();
    let packed: Vec<_> = payloads.iter().map(|p| (p.clone(), p.len() >= 100)).collect();
    let classes = [8, 9, 15].map(|bits| Encoding::Compressed(window_class(bits)));
    let encodings = classes.map(|class| (class, &packed)).into_iter();
    for (encoding, expected) in encodings.chain([(Encoding::Plain, &plain)]) {
        let frames = run.encoded(encoding).expect("made");
        assert_eq!((read(frames.bytes()), frames.messages()), (expected.clone(), 4));
        assert!(matches!(run.share_of(MEMBER + 2, frames), Share::Whole(_)));
        let others = |member| shared_bytes(run.share_of(member, frames));
        let expected_others = [&expected[1..2], &expected[3..]].concat();
        assert_eq!((read(&others(MEMBER).0), others(MEMBER).1), (expected_others, 2));
        assert_eq!(read(&others(MEMBER + 1).0), expected[..3]);
        for (member, last) in [(MEMBER, 3), (MEMBER + 1, 2), (MEMBER + 2, 3)] {
            let latest = latest(&run.share_of(member, frames)).expect("a message");
            assert_eq!((read(latest.bytes()), latest.messages), (vec![expected[last].clone()], 1));
        }
    }
}

fn texts(payloads: &[&str]) -> Run {
    let message =
        |payload: &&str| DataMessage::new(MessageKind::Text, payload.as_bytes()).into_shared();
    let mut run = Run::new(message(&payloads[0]), None);
    payloads[1..].iter().for_each(|payload| run.join(message(payload), None));
    run
}

#[test]
fn lines_leave_out_what_is_none_and_are_made_once() {
    let mut run = texts(&["one", "two\nlines", "", "three\r\n"]);
    run.join(message(b"binary"), None);
    let encoding = Encoding::Lines(LineFraming::Chunked);
    assert!(run.encode(encoding, &mut codec(1), &mut budget()));
    assert!(!run.takes(&message(b"x")), "a run that is encoded is not changed");
    let frames = run.encoded(encoding).expect("made").clone();
    assert_eq!(frames.bytes(), b"4\r\none\n\r\n1\r\n\n\r\n6\r\nthree\n\r\n");
    assert_eq!((frames.messages(), run.messages_len()), (3, 5));
    assert!(run.encode(encoding, &mut codec(1), &mut budget()));
    assert!(Rc::ptr_eq(run.encoded(encoding).expect("made"), &frames));
    let bare = Encoding::Lines(LineFraming::Bare);
    assert!(run.encode(bare, &mut codec(1), &mut budget()));
    let frames = run.encoded(bare).expect("made");
    assert_eq!(frames.bytes(), b"one\n\nthree\n");
    let Share::Whole(share) = run.share_of(MEMBER, frames) else { panic!("all of it") };
    assert_eq!(latest(&Share::Whole(share)).expect("one").bytes(), b"three\n");
}

#[test]
fn lines_that_take_long_are_made_bit_by_bit() {
    let long = "x".repeat(1000);
    let late_break = format!("{long}\n.");
    let mut run = texts(&[&long, &late_break, "short"]);
    let encoding = Encoding::Lines(LineFraming::Chunked);
    let mut steps = 0;
    let mut step = |bytes| {
        steps += 1;
        let mut budget = EncodingBudget { compressed_bytes: 0, joined_bytes: bytes };
        run.encode(encoding, &mut codec(1), &mut budget)
    };
    assert!(!step(0));
    while !step(100) {}
    assert_eq!(steps, 1 + 21);
    let expected = format!("3e9\r\n{long}\n\r\n6\r\nshort\n\r\n");
    assert_eq!(run.encoded(encoding).expect("made").bytes(), expected.as_bytes());
}

#[test]
fn a_run_of_no_lines_is_empty() {
    let mut run = Run::new(message(b"binary"), None);
    let encoding = Encoding::Lines(LineFraming::Chunked);
    assert!(run.encode(encoding, &mut codec(1), &mut budget()));
    let frames = run.encoded(encoding).expect("made");
    assert_eq!((frames.messages(), frames.bytes()), (0, &b""[..]));
}
