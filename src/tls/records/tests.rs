//! The rules of RFC 8446 section 5, one by one, and whatever cuts there are.

use proptest::prelude::*;

use super::*;

const SUITES: [Suite; 3] =
    [Suite::Aes128GcmSha256, Suite::Aes256GcmSha384, Suite::ChaCha20Poly1305Sha256];

/// A client and a server that have just shaken hands.
fn pair(suite: Suite, records_most: u64) -> (Records, Records) {
    let secret = |byte| vec![byte; suite.secret_bytes()];
    let (client, server) = (secret(1), secret(2));
    (
        Records::new(suite, [&server, &client], [0, 0], records_most),
        Records::new(suite, [&client, &server], [0, 0], records_most),
    )
}

/// All that a receiver makes of these bytes in one piece: what they carry, what it answers, and how
/// it ends.
fn open(records: &mut Records, bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Opened) {
    let (mut input, mut opened, mut sealed) = (bytes.to_vec(), Vec::new(), Vec::new());
    let result = records.open(&mut input, &mut opened, &mut sealed);
    opened.extend_from_slice(&input[result.range.clone()]);
    (opened, sealed, result)
}

fn sealed(records: &mut Records, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.seal_record(kind, content, &mut bytes);
    bytes
}

/// What the peer is told is wrong with these bytes, if anything is.
fn alert(client: &mut Records, server: &mut Records, bytes: &[u8]) -> Option<u8> {
    let (_, answer, result) = open(server, bytes);
    result.failure?;
    let mut inner = answer;
    match client.open_record(&mut inner) {
        Err(Wrong { failure: Failure::Alert, .. }) => {}
        _ => panic!("a fatal alert"),
    }
    Some(inner[HEAD_BYTES + 1])
}

/// The record of the client's data in the trace of RFC 8448 section 3.
#[test]
fn a_record_is_that_of_the_trace() {
    let hex = |digits: &str| -> Vec<u8> {
        let digits = digits.replace(' ', "");
        let byte = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16).expect("hex");
        (0..digits.len()).step_by(2).map(byte).collect()
    };
    let secret = hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
    let data: Vec<u8> = (0..50).collect();
    let record = hex(
        "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc \
         ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd \
         1e 3d ea e6 3a ee bb 21 69 49 15 e4",
    );
    let suite = Suite::Aes128GcmSha256;
    let mut client = Records::new(suite, [&secret, &secret], [0, 0], RECORDS_MOST);
    assert_eq!(sealed(&mut client, DATA, &data), record);
    assert_eq!(open(&mut client, &record).0, data);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 256 }))]

    /// Messages of any size, records of any size, pieces of any size, keys that change now and
    /// then: the stream is the same.
    #[test]
    fn what_is_sealed_is_opened_whatever_the_network_cuts(
        suite in 0..3_usize,
        messages in prop::collection::vec((0..40_000_usize, 0..3_u8), 1..8),
        cuts in prop::collection::vec(1..30_000_usize, 1..20),
        records_most in 1..20_u64,
    ) {
        let (mut client, mut server) = pair(SUITES[suite], records_most);
        let (mut sent, mut stream) = (Vec::new(), Vec::new());
        for (number, (length, extra)) in messages.into_iter().enumerate() {
            let message: Vec<u8> = (0..length).map(|place| (place ^ number) as u8).collect();
            client.seal(&message, &mut stream);
            sent.extend(message);
            match extra {
                0 => client.update(&mut stream),
                1 => client.seal_record(DATA, b"", &mut stream),
                _ => {}
            }
        }
        client.close(&mut stream);
        let (mut received, mut cuts) = (Vec::new(), cuts.into_iter().cycle());
        let mut rest = &stream[..];
        let mut is_ended = false;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            rest = behind;
            let (opened, _, result) = open(&mut server, piece);
            prop_assert!(result.failure.is_none());
            received.extend(opened);
            is_ended |= result.is_ended;
        }
        prop_assert!(received == sent && is_ended);
        prop_assert!(server.partial.is_none(), "a connection at rest keeps nothing");
    }

    /// No bytes make it panic or keep more than a record, and nothing of them is passed on.
    #[test]
    fn garbage_is_refused(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
    ) {
        let (_, mut server) = pair(Suite::Aes128GcmSha256, RECORDS_MOST);
        for piece in pieces {
            let (opened, _, result) = open(&mut server, &piece);
            prop_assert!(opened.is_empty() && !result.is_ended);
            let kept = server.partial.as_ref().map_or(0, |it| it.record.capacity());
            prop_assert!(kept <= HEAD_BYTES + DATA_BYTES_MOST + EXPANSION_MOST);
            if result.failure.is_some() {
                break;
            }
        }
    }
}

#[test]
fn each_rule_that_is_broken_has_its_alert() {
    type Break = fn(&mut Records) -> Vec<u8>;
    let cases: [(&str, Break, Option<u8>); 20] = [
        ("data", |it| sealed(it, DATA, b"hello"), None),
        ("empty data", |it| sealed(it, DATA, b""), None),
        ("padding", |it| sealed(it, 0, b"x\x17\0\0"), None),
        ("a type of its own for the record", |it| with(sealed(it, DATA, b"x"), 0, 22), Some(10)),
        ("change of the cipher", |_| vec![20, 3, 3, 0, 1, 1, 0, 0], Some(10)),
        ("no record at all", |_| b"GET / HTTP/1.1".to_vec(), Some(10)),
        ("an old version in the head", |it| with(sealed(it, DATA, b"x"), 2, 1), Some(20)),
        ("a changed record", |it| with(sealed(it, DATA, b"x"), 7, 0xff), Some(20)),
        ("a record without a tag", |_| vec![DATA, 3, 3, 0, 16], Some(50)),
        ("a record that is too long", |_| vec![DATA, 3, 3, 0x41, 1], Some(22)),
        ("content that is too long", |it| sealed(it, DATA, &[1; DATA_BYTES_MOST + 1]), Some(22)),
        ("nothing but padding", |it| sealed(it, 0, &[0; 20]), Some(10)),
        ("an unknown type", |it| sealed(it, 24, b"x"), Some(10)),
        ("an alert that is cut", |it| sealed(it, ALERT, &[1]), Some(50)),
        ("an empty message", |it| sealed(it, HANDSHAKE, b""), Some(10)),
        ("another message", |it| sealed(it, HANDSHAKE, &[4, 0, 0, 0]), Some(10)),
        ("a key update of another length", |it| sealed(it, HANDSHAKE, &[24, 0, 0, 2]), Some(50)),
        ("an unknown request", |it| sealed(it, HANDSHAKE, &[24, 0, 0, 1, 2]), Some(47)),
        ("more behind it", |it| sealed(it, HANDSHAKE, &[24, 0, 0, 1, 0, 24]), Some(10)),
        (
            "data within a message",
            |it| [sealed(it, HANDSHAKE, &[24, 0]), sealed(it, DATA, b"x")].concat(),
            Some(10),
        ),
    ];
    for suite in SUITES {
        for (name, breaks, expected) in cases {
            let (mut client, mut server) = pair(suite, RECORDS_MOST);
            let bytes = breaks(&mut client);
            assert_eq!(alert(&mut client, &mut server, &bytes), expected, "{name}, {suite:?}");
        }
    }
}

/// The same record with one byte changed.
fn with(mut record: Vec<u8>, place: usize, byte: u8) -> Vec<u8> {
    assert_ne!(record[place], byte);
    record[place] = byte;
    record
}

#[test]
fn what_the_peer_says_is_over_or_wrong_is_heeded() {
    let (mut client, mut server) = pair(Suite::Aes128GcmSha256, RECORDS_MOST);
    let mut bytes = sealed(&mut client, ALERT, &[1, USER_CANCELED]);
    bytes.extend(sealed(&mut client, DATA, b"last"));
    client.close(&mut bytes);
    bytes.extend(b"whatever comes behind");
    let (opened, answer, result) = open(&mut server, &bytes);
    assert_eq!((opened.as_slice(), result.is_ended, result.failure), (&b"last"[..], true, None));
    assert!(answer.is_empty());
    let (mut client, mut server) = pair(Suite::Aes128GcmSha256, RECORDS_MOST);
    let bytes = sealed(&mut client, ALERT, &[2, 80]);
    let (_, answer, result) = open(&mut server, &bytes);
    assert_eq!((answer.len(), result.failure), (0, Some(Failure::Alert)));
}

#[test]
fn keys_change_both_ways_and_in_pieces() {
    for suite in SUITES {
        let (mut client, mut server) = pair(suite, RECORDS_MOST);
        for round in 0..40_u8 {
            // Asked to, the server changes its own as well, once for each question.
            let message = [24, 0, 0, 1, round % 2];
            let cut = usize::from(round) % 5;
            let mut bytes = Vec::new();
            for part in [&message[..cut], &message[cut..]].into_iter().filter(|it| !it.is_empty()) {
                client.seal_record(HANDSHAKE, part, &mut bytes);
            }
            client.take_next_key(SEND);
            client.seal(&[round; 600], &mut bytes);
            let (opened, answer, result) = open(&mut server, &bytes);
            assert_eq!((opened, result.failure), (vec![round; 600], None));
            // Another key comes before the next data, and not before there is some.
            assert!(answer.is_empty());
            let before = server.send.sequence;
            let mut bytes = Vec::new();
            server.seal(b"still here", &mut bytes);
            let has_changed = server.send.sequence != before + 1;
            assert_eq!(has_changed, round % 2 == 1, "in round {round}");
            assert_eq!(open(&mut client, &bytes).0, b"still here");
            if round % 7 == 0 {
                client.rest();
                server.rest();
            } else if round % 3 == 0 {
                client.rest_after_send();
                server.rest_after_send();
            }
        }
    }
}

#[test]
fn no_key_protects_more_records_than_it_may() {
    let (mut client, mut server) = pair(Suite::Aes128GcmSha256, 8);
    for number in 0..1000_u32 {
        let (mut bytes, data) = (Vec::new(), number.to_be_bytes().repeat(10));
        server.seal(&data, &mut bytes);
        assert!(server.send.sequence <= 8);
        let (opened, _, result) = open(&mut client, &bytes);
        assert_eq!((opened, result.failure), (data, None));
    }
}

#[test]
fn records_that_bring_nothing_come_to_an_end() {
    for (kind, content) in [(DATA, &b""[..]), (HANDSHAKE, &KEY_UPDATE)] {
        let (mut client, mut server) = pair(Suite::Aes128GcmSha256, RECORDS_MOST);
        let mut send = |client: &mut Records| {
            let bytes = sealed(client, kind, content);
            if kind == HANDSHAKE {
                client.take_next_key(SEND);
            }
            open(&mut server, &bytes).2.failure
        };
        assert!((0..FRUITLESS_MOST).all(|_| send(&mut client).is_none()));
        assert_eq!(send(&mut client), Some(Failure::Protocol));
    }
}

#[test]
fn no_secret_is_printed_and_a_connection_at_rest_is_small() {
    let (mut client, _) = pair(Suite::Aes256GcmSha384, RECORDS_MOST);
    client.seal(b"x", &mut Vec::new());
    assert_eq!(format!("{client:?}"), "Records Aes256GcmSha384 (0, 1)");
    client.rest();
    assert!(client.derived.is_none() && client.partial.is_none());
    assert!(size_of::<Records>() <= 144, "{}", size_of::<Records>());
}

/// Neither a head without a body nor questions that nobody waits for fill memory.
#[test]
fn a_peer_that_only_begins_and_asks_costs_next_to_nothing() {
    for (bytes, is_enough) in [(300, true), (1, false)] {
        let (mut client, mut server) = pair(Suite::Aes128GcmSha256, RECORDS_MOST);
        let mut failure = None;
        for _ in 0..1000 {
            let mut stream = sealed(&mut client, HANDSHAKE, &[24, 0, 0, 1, REQUESTED]);
            client.take_next_key(SEND);
            client.seal(&vec![0; bytes], &mut stream);
            let (_, answer, result) = open(&mut server, &stream);
            failure = failure.or(result.failure);
            if failure.is_some() {
                break;
            }
            assert!(answer.is_empty());
        }
        assert_eq!(failure.is_none(), is_enough, "{bytes} bytes between");
    }
    let (_, mut server) = pair(Suite::Aes128GcmSha256, RECORDS_MOST);
    let (_, _, result) = open(&mut server, &[DATA, 3, 3, 0x40, 0]);
    assert!(result.failure.is_none() && server.held_bytes() < 100, "{}", server.held_bytes());
}
