//! A kernel that refuses, queues that are too short, and a ring that ends with requests under way.

use std::fs::File;

use super::*;

#[test]
fn a_kernel_that_refuses_ends_the_tick_with_its_error() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let connection = rig.connect();
        let refusing = File::open("/dev/null").unwrap();
        rig.ring.queues.enter_by(refusing.as_raw_fd());
        for index in 0..SUBMISSION_ENTRIES * 3 {
            rig.ring.poll(Key { index, generation: 0 }, connection.slot);
        }
        let last = Outgoing::One(owned(b"linked"));
        rig.ring.send_last(connection.key, connection.slot, last);
        for _ in 0..2 {
            let error = rig.ring.submit(None).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}");
            assert!(rig.ring.next_event().is_none());
        }
    }
}

#[test]
fn more_completions_than_the_ring_holds_all_come_once() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        connection.peer.write_all(b"readable").unwrap();
        let polls = COMPLETION_ENTRIES + 3 * SUBMISSION_ENTRIES;
        (0..polls).for_each(|index| rig.ring.poll(Key { index, generation: 0 }, connection.slot));
        let mut seen = vec![false; polls as usize];
        for _ in 0..polls {
            let Event::Readable { key } = rig.next() else { panic!("only polls are there") };
            assert!(!std::mem::replace(&mut seen[key.index as usize], true));
        }
        rig.expect_nothing();
    }
}

#[test]
fn events_that_nobody_took_are_still_there_after_the_next_submit() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        connection.peer.write_all(b"readable").unwrap();
        for index in 0..3 {
            rig.ring.poll(Key { index, generation: 0 }, connection.slot);
            // With events left behind no submit waits.
            rig.ring.submit(None).unwrap();
        }
        for index in 0..3 {
            assert!(
                matches!(rig.ring.next_event(), Some(Event::Readable { key }) if key.index == index)
            );
        }
        rig.expect_nothing();
    }
}

#[test]
fn a_dropped_ring_ends_its_requests_and_its_connections() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let (mut connection, frames) = with_requests_under_way(&mut rig);
        assert_eq!(Rc::strong_count(&frames), 2);
        drop(rig);
        assert_eq!(Rc::strong_count(&frames), 1, "what was to be sent is free again");
        // The peer gets what the kernel had taken, and then an end of some kind.
        connection.peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut read = Vec::new();
        if let Err(error) = connection.peer.read_to_end(&mut read) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert!(read.len() < LARGE_BYTES && read.iter().all(|&byte| byte == 7));
    }
}

#[test]
fn a_ring_that_cannot_end_its_requests_leaves_them_their_memory() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let (_connection, frames) = with_requests_under_way(&mut rig);
        let refusing = File::open("/dev/null").unwrap();
        rig.ring.queues.enter_by(refusing.as_raw_fd());
        drop(rig);
        assert_eq!(Rc::strong_count(&frames), 2);
    }
}

/// A connection with a receive that waits for bytes, and a send that waits for the peer to read.
fn with_requests_under_way(rig: &mut Rig) -> (Connection, Rc<Frames>) {
    let connection = rig.connect();
    rig.receive(&connection);
    let frames = Rc::new(Frames::one(Arc::new(vec![7; LARGE_BYTES / 8])));
    // Sends come back short until the socket buffers of both ends are full.
    loop {
        let segment = Segment::Shared { frames: frames.clone(), offset: 0 };
        rig.ring.send(connection.key, connection.slot, Outgoing::One(segment));
        rig.ring.submit(Some(Duration::from_millis(50))).unwrap();
        match rig.ring.next_event() {
            None => break,
            Some(Event::Sent { result: Ok(_), .. }) => {}
            Some(event) => panic!("unexpected {event:?}"),
        }
    }
    assert_eq!((rig.ring.sends_in_flight(), rig.ring.receives), (1, 1));
    (connection, frames)
}

/// Far more than the socket buffers of both ends take.
const LARGE_BYTES: usize = 256 << 20;
