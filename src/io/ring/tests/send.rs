//! Bytes out: every kind of segment, peers that do not read, and queues that overflow.

use super::*;
use crate::io::SEND_BYTES_MAX;

#[test]
fn every_kind_of_segment_is_sent_and_given_back() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        rig.receive(&connection);
        connection.peer.write_all(b"in the buffer").unwrap();
        let (Ok(Some(whole)), true) = rig.received(&connection) else { panic!("no bytes") };
        rig.ring.bytes(&whole)[..2].copy_from_slice(b"IN");
        let part = rig.ring.split(&whole, 0..6);

        let (result, outgoing) = rig.send(&connection, Outgoing::One(lent(part)));
        assert_eq!(result, Ok(6));
        let Outgoing::One(Segment::Buffer { slice, .. }) = outgoing else { panic!("not mine") };
        rig.ring.release(slice);

        let mut advanced = owned(b"xxowned");
        advanced.advance(2);
        let segments = vec![lent(whole), shared(b"...shared", 3), advanced, owned(b"end")];
        let bytes = 13 + 6 + 5 + 3;
        let (result, outgoing) = rig.send(&connection, Outgoing::Many(segments));
        assert_eq!((result, outgoing.len()), (Ok(bytes), bytes));
        let Outgoing::Many(segments) = outgoing else { panic!("not mine") };
        for segment in segments {
            if let Segment::Buffer { slice, .. } = segment {
                rig.ring.release(slice);
            }
        }
        let (result, _) = rig.send(&connection, Outgoing::One(shared(b"_last", 1)));
        assert_eq!((result, rig.ring.sends_in_flight()), (Ok(4), 0));
        let expected = b"IN theIN the buffersharedownedendlast";
        assert_eq!(read_exactly(&mut connection.peer, expected.len()), expected);
    }
}

#[test]
fn a_full_peer_holds_up_owned_bytes_but_not_receive_buffers() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        rig.receive(&connection);
        connection.peer.write_all(&[7; 1000]).unwrap();
        let (Ok(Some(slice)), true) = rig.received(&connection) else { panic!("no bytes") };

        // Far more than the socket buffers of both ends take: the send comes back short.
        let large = pattern(32 << 20);
        let (result, _) = rig.send(&connection, Outgoing::One(owned(&large)));
        let mut taken = result.unwrap();
        assert!(0 < taken && taken < large.len());
        // Room may still appear while the last bytes move from one end to the other.
        let mut outgoing = Outgoing::Many(vec![owned(&large[taken..]), lent(slice)]);
        loop {
            let (result, back) = rig.send(&connection, outgoing);
            let Outgoing::Many(mut segments) = back else { panic!("not mine") };
            match result {
                Ok(sent) => {
                    taken += sent;
                    segments[0].advance(sent);
                    outgoing = Outgoing::Many(segments);
                }
                Err(errno) => {
                    assert_eq!(errno, libc::EAGAIN);
                    break;
                }
            }
        }
        // Without a receive buffer the kernel keeps the send until the peer reads.
        let mut expected = large[..taken].to_vec();
        while let Some(sent) = rig.fill(&connection, &large) {
            expected.extend_from_slice(&large[..sent]);
        }
        rig.expect_nothing();
        assert_eq!(rig.ring.sends_in_flight(), 1);
        let mut peer = connection.peer.try_clone().unwrap();
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).map(|_| read)
        });
        let (result, _) = rig.sent(&connection);
        expected.extend_from_slice(&large[..result.unwrap()]);
        rig.ring.finish(connection.key, connection.slot);
        assert!(matches!(rig.next(), Event::Finished { .. }));
        assert!(reader.join().unwrap().unwrap() == expected);
    }
}

#[test]
fn the_end_of_the_stream_follows_the_last_send() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        rig.receive(&connection);
        let segments = vec![owned(b"good"), shared(b"_bye", 1)];
        rig.ring.send_last(connection.key, connection.slot, Outgoing::Many(segments));
        assert_eq!(rig.sent(&connection).0, Ok(7));
        assert!(matches!(rig.next(), Event::Finished { key } if key == connection.key));
        let mut read = Vec::new();
        connection.peer.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"goodbye");
        connection.peer.write_all(b"still").unwrap();
        assert_eq!(rig.read(&connection, 5), b"still");
    }
}

#[test]
fn more_streams_end_at_once_than_descriptors_are_installed() {
    for abilities in kernels() {
        let many = INSTALLED_MAX as u32 + 6;
        let mut rig = Rig::new(abilities, many, 4);
        let mut connections: Vec<Connection> = (0..many).map(|_| rig.connect()).collect();
        for connection in &connections {
            rig.ring.finish(connection.key, connection.slot);
        }
        for _ in 0..many {
            assert!(matches!(rig.next(), Event::Finished { .. }));
        }
        for connection in &mut connections {
            assert_eq!(connection.peer.read_to_end(&mut Vec::new()).unwrap(), 0);
        }
    }
}

#[test]
fn no_end_of_the_stream_overtakes_a_last_send_that_waits() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let waiting = rig.connect();
        let large = vec![0; SEND_BYTES_MAX];
        while rig.fill(&waiting, &large).is_some() {}
        // All but one place of the queue is taken: the send and what is linked to it do not fit.
        for _ in 1..SUBMISSION_ENTRIES {
            rig.ring.cancel_receive(waiting.key);
        }
        rig.ring.send_last(waiting.key, waiting.slot, Outgoing::One(owned(&large)));
        rig.expect_nothing();
        rig.ring.shutdown(waiting.key, waiting.slot);
        let mut events = Vec::new();
        while events.len() < 4 {
            events.push(match rig.next() {
                Event::Sent { result, .. } if result != Ok(large.len()) => "sent",
                Event::Finished { .. } => "finished",
                Event::ShutDown { .. } => "shut down",
                event => panic!("unexpected {event:?}"),
            });
        }
        events.sort_unstable();
        assert_eq!(events, ["finished", "sent", "sent", "shut down"]);
    }
}

#[test]
fn sends_to_a_peer_that_is_gone_fail_and_give_back() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let connection = rig.connect();
        rig.ring.finish(connection.key, connection.slot);
        assert!(matches!(rig.next(), Event::Finished { .. }));
        let (result, outgoing) = rig.send(&connection, Outgoing::One(owned(b"late")));
        assert_eq!((result, outgoing.len()), (Err(libc::EPIPE), 4));
    }
}

#[test]
fn more_requests_than_the_queue_holds_are_submitted_early() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let connection = rig.connect();
        for index in 0..2 * SUBMISSION_ENTRIES + 7 {
            rig.ring.cancel_poll(Key { index, generation: 9 });
        }
        let (result, _) = rig.send(&connection, Outgoing::One(owned(b"behind")));
        assert_eq!(result, Ok(6));
    }
}
