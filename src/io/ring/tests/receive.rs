//! Bytes in: where the kernel puts them, what holds them, what ends a receive.

use super::*;

#[test]
fn small_messages_lie_packed_where_the_kernel_can() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        rig.receive(&connection);
        let mut slices = Vec::new();
        for word in [&b"one"[..], b"three", b"fifteen"] {
            connection.peer.write_all(word).unwrap();
            let (Ok(Some(slice)), true) = rig.received(&connection) else { panic!("no bytes") };
            assert_eq!(rig.ring.bytes(&slice), word);
            slices.push(slice);
        }
        let places: Vec<_> = slices.iter().map(|slice| (slice.buffer(), slice.start())).collect();
        if abilities.has(Ability::IncrementalBuffers) {
            assert_eq!(places, [(0, 0), (0, 3), (0, 8)]);
        } else {
            assert_eq!(places, [(0, 0), (1, 0), (2, 0)]);
        }
        connection.peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rig.received(&connection), (Ok(None), false));
        assert_eq!(rig.ring.bytes(&slices[1]), b"three");
        slices.into_iter().for_each(|slice| rig.ring.release(slice));
    }
}

#[test]
fn exhausted_buffers_end_the_receive_and_come_back_with_their_slices() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 2);
        let mut connection = rig.connect();
        let sent = pattern(3 * BUFFER_BYTES as usize + 100);
        connection.peer.write_all(&sent).unwrap();
        let (mut received, mut exhaustions) = (Vec::new(), 0);
        while received.len() < sent.len() {
            let mut held = Vec::new();
            rig.receive(&connection);
            loop {
                match rig.received(&connection) {
                    (Ok(Some(slice)), true) => {
                        received.extend_from_slice(rig.ring.bytes(&slice));
                        held.push(slice);
                        if received.len() == sent.len() {
                            break;
                        }
                    }
                    (Err(libc::ENOBUFS), false) => {
                        exhaustions += 1;
                        break;
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
            held.into_iter().for_each(|slice| rig.ring.release(slice));
        }
        assert!(received == sent);
        assert!(exhaustions > 0);
        // The receive that found buffers goes on with those given back.
        connection.peer.write_all(&sent[..5000]).unwrap();
        assert!(rig.read(&connection, 5000) == sent[..5000]);
    }
}

#[test]
fn held_slices_are_never_overwritten_however_connections_end() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 8, 4);
        let mut held = VecDeque::new();
        for turn in 0..200_u8 {
            let mut connection = rig.connect();
            rig.receive(&connection);
            connection.peer.write_all(&[turn; 150]).unwrap();
            let (mut slices, mut bytes) = (Vec::new(), 0);
            while bytes < 150 {
                // A buffer may end within them.
                let (Ok(Some(slice)), true) = rig.received(&connection) else { panic!("no bytes") };
                bytes += slice.len();
                slices.push(slice);
            }
            match turn % 3 {
                0 => {
                    connection.peer.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(rig.received(&connection), (Ok(None), false));
                }
                1 => {
                    rig.ring.cancel_receive(connection.key);
                    assert_eq!(rig.received(&connection), (Err(libc::ECANCELED), false));
                }
                _ => assert_eq!(rig.shut_down(&connection), Ok(())),
            }
            rig.close(&connection);
            held.push_back((turn, slices));
            for (turn, slice) in held.iter().flat_map(|(turn, s)| s.iter().map(move |s| (turn, s)))
            {
                assert!(rig.ring.bytes(slice).iter().all(|byte| byte == turn));
            }
            if held.len() == 3 {
                let (_, oldest) = held.pop_front().expect("three are there");
                oldest.into_iter().for_each(|slice| rig.ring.release(slice));
            }
        }
    }
}

#[test]
fn polls_tell_of_bytes_of_the_end_and_of_their_own_end() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        let Connection { key, slot, .. } = connection;
        rig.ring.poll(key, slot);
        rig.expect_nothing();
        connection.peer.write_all(b"wake").unwrap();
        assert!(matches!(rig.next(), Event::Readable { key: polled } if polled == key));
        rig.receive(&connection);
        assert_eq!(rig.read(&connection, 4), b"wake");
        rig.ring.cancel_receive(key);
        assert_eq!(rig.received(&connection), (Err(libc::ECANCELED), false));

        rig.ring.poll(key, slot);
        rig.expect_nothing();
        rig.ring.cancel_poll(key);
        assert!(matches!(rig.next(), Event::Readable { key: polled } if polled == key));
        rig.ring.poll(key, slot);
        connection.peer.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(rig.next(), Event::Readable { key: polled } if polled == key));
        // What is not there cannot be cancelled, and says nothing.
        rig.ring.cancel_poll(key);
        rig.ring.cancel_receive(key);
        rig.expect_nothing();
    }
}

/// Whoever is last would wait for as many ticks as the kernel needs calls.
#[test]
fn one_submit_takes_all_that_has_become_ready() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        let polls = 200;
        (0..polls).for_each(|index| rig.ring.poll(Key { index, generation: 0 }, connection.slot));
        rig.ring.submit(Some(Duration::ZERO)).unwrap();
        assert!(rig.ring.next_event().is_none());
        connection.peer.write_all(b"readable").unwrap();
        rig.ring.submit(Some(Duration::ZERO)).unwrap();
        for _ in 0..polls {
            assert!(matches!(rig.ring.next_event(), Some(Event::Readable { .. })));
        }
        rig.expect_nothing();
    }
}
