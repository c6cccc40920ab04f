//! A socket goes on in the ring of another thread, with every byte.

use super::*;

/// A ring with `slots` on a thread of its own, which sends back whatever its sockets bring, and
/// ends when told by a wake-up; and its descriptor.
fn echoing_ring(abilities: Abilities, slots: u32) -> (RawFd, thread::JoinHandle<Vec<Ticket>>) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut rig = Rig::new(abilities, slots, 4);
        rig.ring.cancel_accept(0);
        assert!(matches!(rig.next(), Event::Accepted { more: false, .. }));
        tell.send(rig.ring.descriptor()).unwrap();
        let (mut tickets, mut slots) = (Vec::new(), Vec::new());
        loop {
            match rig.next() {
                Event::Adopted { ticket, slot } => {
                    rig.ring.receive(Key { index: slot, generation: 1 }, slot);
                    tickets.push(ticket);
                    slots.push(slot);
                }
                Event::Received { key, result: Ok(Some(slice)), .. } => {
                    rig.ring.send(key, key.index, Outgoing::One(lent(slice)));
                }
                Event::Sent { outgoing: Outgoing::One(Segment::Buffer { slice, .. }), .. } => {
                    rig.ring.release(slice);
                }
                Event::Received { result: Ok(None), more: false, .. } => {}
                Event::Woken => return tickets,
                event => panic!("unexpected {event:?}"),
            }
        }
    });
    (told.recv().unwrap(), thread)
}

/// Receives what is there until the cancelled receive has ended.
fn cancel_receive(rig: &mut Rig, connection: &Connection) -> Vec<u8> {
    let mut received = Vec::new();
    rig.ring.cancel_receive(connection.key);
    loop {
        let (result, more) = rig.received(connection);
        match result {
            Ok(Some(slice)) => {
                received.extend_from_slice(rig.ring.bytes(&slice));
                rig.ring.release(slice);
            }
            Ok(None) => panic!("the peer has not finished"),
            Err(errno) => assert_eq!(errno, libc::ECANCELED),
        }
        if !more {
            return received;
        }
    }
}

#[test]
fn a_socket_goes_on_in_another_ring_and_no_byte_is_lost() {
    let [abilities, nothing_optional] = kernels();
    assert!(!Rig::new(nothing_optional, 1, 1).ring.can_hand_over());
    let (descriptor, other) = echoing_ring(abilities, 4);
    let mut rig = Rig::new(abilities, 4, 4);
    rig.ring.join(vec![-1, descriptor]);
    let mut expected_tickets = Vec::new();
    for serial in [7, u32::MAX] {
        let mut connection = rig.connect();
        rig.receive(&connection);
        rig.expect_nothing();
        // What the receive takes before it ends is this ring's, and the rest is the other's.
        connection.peer.write_all(b"before").unwrap();
        let before = cancel_receive(&mut rig, &connection);
        let ticket = Ticket { from: 3, serial };
        expected_tickets.push(ticket);
        rig.ring.hand_over(connection.key, connection.slot, 1, ticket);
        assert!(
            matches!(rig.next(), Event::HandedOver { key, result: Ok(()) } if key == connection.key)
        );
        rig.close(&connection);
        connection.peer.write_all(b" after").unwrap();
        let rest = &b"before after"[before.len()..];
        assert_eq!(read_exactly(&mut connection.peer, rest.len()), rest);
    }
    rig.ring.wake(1);
    rig.ring.submit(Some(Duration::ZERO)).unwrap();
    assert_eq!(other.join().unwrap(), expected_tickets);
}

#[test]
fn a_socket_stays_where_it_is_when_the_other_ring_has_no_slot_or_is_no_ring() {
    let [abilities, _] = kernels();
    let (descriptor, other) = echoing_ring(abilities, 1);
    let no_ring = std::fs::File::open("/dev/null").unwrap();
    let mut rig = Rig::new(abilities, 4, 4);
    rig.ring.join(vec![descriptor, no_ring.as_raw_fd()]);
    let ticket = Ticket { from: 0, serial: 0 };
    let first = rig.connect();
    rig.ring.hand_over(first.key, first.slot, 0, ticket);
    assert!(matches!(rig.next(), Event::HandedOver { result: Ok(()), .. }));
    let mut second = rig.connect();
    for (participant, reason) in [(0, libc::ENFILE), (1, libc::EBADFD)] {
        rig.ring.hand_over(second.key, second.slot, participant, ticket);
        match rig.next() {
            Event::HandedOver { key, result } if key == second.key => {
                assert_eq!(result, Err(reason));
            }
            event => panic!("unexpected {event:?}"),
        }
    }
    rig.receive(&second);
    second.peer.write_all(b"here").unwrap();
    assert_eq!(rig.read(&second, 4), b"here");
    rig.ring.wake(0);
    rig.ring.submit(Some(Duration::ZERO)).unwrap();
    other.join().unwrap();
}

/// What one ring sends while its peer does not read, the peer gets before what the other sends; and
/// what arrives while a poll is cancelled is the other's to receive.
#[test]
fn a_socket_goes_on_behind_a_send_that_had_to_wait() {
    let [abilities, _] = kernels();
    let mut rig = Rig::new(abilities, 4, 4);
    let mut connection = rig.connect();
    rig.ring.poll(connection.key, connection.slot);
    rig.expect_nothing();
    // More than the buffers of both sockets hold.
    let queued = vec![7; SEND_BYTES_MAX];
    let (mut sent, mut read) = (0, Vec::new());
    while sent < 8 * SEND_BYTES_MAX {
        let outgoing = Outgoing::One(Segment::owned(queued.clone(), true));
        rig.ring.send(connection.key, connection.slot, outgoing);
        loop {
            rig.ring.submit(Some(Duration::from_millis(20))).unwrap();
            match rig.ring.next_event() {
                Some(Event::Sent { result, .. }) => {
                    sent += result.unwrap();
                    break;
                }
                Some(event) => panic!("unexpected {event:?}"),
                // It waits for the peer.
                None => read.extend(read_exactly(&mut connection.peer, 64 << 10)),
            }
        }
    }
    let (descriptor, other) = echoing_ring(abilities, 4);
    rig.ring.join(vec![-1, descriptor]);
    connection.peer.write_all(b"late").unwrap();
    rig.ring.cancel_poll(connection.key);
    assert!(matches!(rig.next(), Event::Readable { .. }));
    let ticket = Ticket { from: 3, serial: 9 };
    rig.ring.hand_over(connection.key, connection.slot, 1, ticket);
    let event = rig.next();
    assert!(matches!(event, Event::HandedOver { result: Ok(()), .. }), "{event:?}");
    rig.close(&connection);
    let left = sent - read.len();
    read.extend(read_exactly(&mut connection.peer, left));
    assert!(read.iter().all(|byte| *byte == 7));
    assert_eq!(read_exactly(&mut connection.peer, 4), b"late");
    rig.ring.wake(1);
    rig.ring.submit(Some(Duration::ZERO)).unwrap();
    assert_eq!(other.join().unwrap(), [ticket]);
}
